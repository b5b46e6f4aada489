"""Who offers operators, readers and writers: discovery by entry points, hooks by pluggy.

The functions here use the process-wide `default` manager. A test or an application that wants its own
choice of plugins makes a `PluginManager`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from lazyflow_core.plugins.config import Config
from lazyflow_core.plugins.discovery import version_of
from lazyflow_core.plugins.doctor import Check
from lazyflow_core.plugins.hookspecs import hookimpl, hookspec
from lazyflow_core.plugins.known import namespace_owner
from lazyflow_core.plugins.manager import API, PluginInfo, PluginManager
from lazyflow_core.plugins.specs import OperatorSpec, ReaderSpec, WriterSpec

if TYPE_CHECKING:
    import os

    from lazyflow_core.graph import Operator
    from lazyflow_core.meta import ArrayMeta
    from lazyflow_core.plugins.files import OpenedReader
    from lazyflow_core.storage import Writer

__all__ = [
    "API",
    "Check",
    "Config",
    "OperatorSpec",
    "PluginInfo",
    "PluginManager",
    "ReaderSpec",
    "WriterSpec",
    "default",
    "get_operator",
    "hookimpl",
    "hookspec",
    "list_operators",
    "namespace_owner",
    "open_reader",
    "open_writer",
    "set_default",
    "version_of",
]

_lock = threading.Lock()
_default: PluginManager | None = None


def default() -> PluginManager:
    """Return the plugin manager of this process, made at first use."""
    global _default
    with _lock:
        if _default is None:
            _default = PluginManager()
        return _default


def set_default(manager: PluginManager | None) -> None:
    """Use another plugin manager from now on; None for a new one at the next use."""
    global _default
    with _lock:
        _default = manager


def get_operator(id: str) -> type[Operator]:
    """Return the class of an installed operator; see `PluginManager.get_operator`."""
    return default().get_operator(id)


def list_operators() -> list[OperatorSpec]:
    """Return all installed operators, importing none; see `PluginManager.operators`."""
    return default().operators()


def open_reader(
    path: str | os.PathLike[str], *, dataset: str | None = None, format: str | None = None
) -> OpenedReader:
    """Open an array for reading; see `lazyflow_core.plugins.files.open_reader`."""
    return default().open_reader(path, dataset=dataset, format=format)


def open_writer(path: str | os.PathLike[str], meta: ArrayMeta, **options: Any) -> Writer:
    """Open a new array for writing; see `lazyflow_core.plugins.files.open_writer`."""
    return default().open_writer(path, meta, **options)
