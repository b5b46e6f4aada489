"""What is installed: entry points, read once, imported never.

A distribution offers operators by entry points of the group ``lazyflow.operators`` (one line each, id and
target) and one import-light module of hooks by the group ``lazyflow.plugins``. Reading them opens files of
package metadata but runs no code of any plugin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from importlib_metadata import Distribution, EntryPoint

__all__ = ["OPERATOR_GROUP", "OPERATOR_ID", "PLUGIN_GROUP", "distribution_of", "entry_points"]

OPERATOR_GROUP: Final = "lazyflow.operators"
PLUGIN_GROUP: Final = "lazyflow.plugins"
OPERATOR_ID: Final = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")


@cache
def _scan() -> dict[str, tuple[EntryPoint, ...]]:
    """Read the entry points of both groups, once per process: the scan walks every installed package."""
    import importlib_metadata  # here, because importing it costs more than all of this package

    everything = importlib_metadata.entry_points()
    return {group: tuple(everything.select(group=group)) for group in (OPERATOR_GROUP, PLUGIN_GROUP)}


def entry_points(group: str) -> tuple[EntryPoint, ...]:
    """Return the entry points of one of the two groups, each once, in a fixed order.

    The order is by name, then distribution: that of directories on disk would differ between machines. An
    editable install next to its own metadata would show twice and is shown once.
    """
    return tuple(sorted(_without_doubles(_scan()[group]), key=lambda e: (e.name, distribution_of(e)[0])))


def forget() -> None:
    """Scan again at the next use; for tests and after installing something."""
    _scan.cache_clear()
    _name_and_version.cache_clear()


def distribution_of(entry_point: EntryPoint) -> tuple[str, str]:
    """Return name and version of the distribution that has an entry point; empty if it has none."""
    return ("", "") if entry_point.dist is None else _name_and_version(cast("Any", entry_point.dist))


@cache
def _name_and_version(distribution: Distribution) -> tuple[str, str]:
    """Read them from the metadata: a file is parsed, so once per distribution."""
    metadata = distribution.metadata  # .name and .version would parse the file again, each of them
    return metadata["Name"], metadata["Version"]


def _without_doubles(entries: Iterable[EntryPoint]) -> Iterable[EntryPoint]:
    seen = set()
    for entry in entries:
        key = entry.name, entry.value, distribution_of(entry)[0]
        if key not in seen:
            seen.add(key)
            yield entry
