"""Which files are being read in this process, so that none of them is written over."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

from lazyflow_core.errors import StorageError
from lazyflow_core.utility import overlap

__all__ = ["check_unread", "note_closed", "note_open"]

_lock = threading.Lock()

#: Open readers and the places they read, seen from the root. Guarded by `_lock`.
_places: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


def note_open(reader: object, path: str) -> None:
    """Remember that something reads a file, until it is closed or gone."""
    with _lock:
        _places[reader] = os.path.abspath(path)


def note_closed(reader: object) -> None:
    """Forget it; twice is fine."""
    with _lock:
        _places.pop(reader, None)


def check_unread(path: str) -> None:
    """Refuse a target that is, contains or lies in what is being read.

    Raises
    ------
    StorageError
        Writing it would take away what others compute from.
    """
    with _lock:
        places = set(_places.values())
    for place in places:
        found = overlap(path, place)
        if found is not None:
            raise StorageError(
                f"cannot write {path!r}: it {found} {place!r}, which is being read; "
                "choose another name, or close what reads it."
            )
