"""The questions the core asks its plugins, as pluggy hook specifications.

All are asked on cold paths: when files are opened, a command starts, a graph is made or a user wants to
know what is installed. Computing pixels calls no hook. A plugin implements the ones it has an answer to, in
the import-light module that its ``lazyflow.plugins`` entry point names::

    from lazyflow_core.plugins import ReaderSpec, hookimpl

    LAZYFLOW_API = (1, 0)

    @hookimpl
    def lazyflow_reader_specs():
        return [ReaderSpec("acme.czi", "acme.czi:open_reader", patterns=("*.czi",))]

An implementation takes any of the arguments of a hook, none that it does not have. Hooks are called from any
thread, outside locks of the core. They do not wait for requests. What an implementation raises is told
about once and counts as no answer; where that differs, the hook says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

from lazyflow_core.plugins.specs import OperatorSpec, ReaderSpec, WriterSpec

if TYPE_CHECKING:
    from lazyflow_core.plugins.config import Config
    from lazyflow_core.plugins.doctor import Check

__all__ = ["HookSpecs", "hookimpl", "hookspec"]

hookspec = pluggy.HookspecMarker("lazyflow")
hookimpl = pluggy.HookimplMarker("lazyflow")


class HookSpecs:
    """Signatures of all hooks. An implementation may take fewer arguments, never others."""

    # ---------------------------------------------------------------------------------- life of the process

    @hookspec
    def lazyflow_configure(self, config: Config) -> None:
        """Called once, after all plugins are loaded; a plugin that is registered later is called then.

        For reading settings. No I/O and no threads: the first command that needs any hook waits for it.
        """

    @hookspec
    def lazyflow_unconfigure(self, config: Config) -> None:
        """Called by `PluginManager.close`: release what `lazyflow_configure` took."""

    @hookspec
    def lazyflow_add_hookspecs(self, add: Any) -> None:
        """Called before any hook is registered: ``add(module_or_class)`` offers hooks of one's own to others.

        Their names begin with the plugin's namespace: ``acme_color_tables``. A plugin whose names do not is
        broken. Its owner asks by `PluginManager.ask`.
        """

    # --------------------------------------------------------------------------- what a plugin has to offer

    @hookspec
    def lazyflow_operator_specs(self) -> Iterable[OperatorSpec]:  # type: ignore[empty-body]
        """Operators that exist only at run time; those known when packaging are entry points instead.

        Asked when an operator is wanted that no entry point has, and for complete listings.
        """

    @hookspec
    def lazyflow_reader_specs(self) -> Iterable[ReaderSpec]:  # type: ignore[empty-body]
        """Kinds of files this plugin reads. Asked whenever a file is opened."""

    @hookspec
    def lazyflow_writer_specs(self) -> Iterable[WriterSpec]:  # type: ignore[empty-body]
        """Kinds of files this plugin writes. Asked whenever a file is created."""

    @hookspec
    def lazyflow_conformance_cases(self) -> str:  # type: ignore[empty-body]
        """``"module:NAME"`` of a list of `lazyflow_core.testing.Case`, for ``lazyflow operators check``."""

    # ------------------------------------------------------------------------------------------------ choice

    @hookspec(firstresult=True)
    def lazyflow_select_reader(self, path: str, candidates: Sequence[str], config: Config) -> str | None:
        """One of the readers that claim a file, by id, or None for no opinion.

        Asked when a file is opened without a format, unless the user's configuration decides; ``candidates``
        are in the order in which they would be taken. May be called from inside a request.
        """

    # ------------------------------------------------------------------------------------------- observation

    @hookspec
    def lazyflow_request_observer(self) -> Any | None:
        """An object that watches requests, or None; asked once per scheduler that wants to be observed.

        It has any of ``request_started(request)``, ``request_suspended(request)``,
        ``request_resumed(request)`` and ``request_ended(request)``, which are called in the worker's thread
        for every request: keep them short. The first one that raises silences the observer.
        """

    # ------------------------------------------------------------------------------------------------- tools

    @hookspec
    def lazyflow_doctor(self) -> Iterable[Check]:  # type: ignore[empty-body]
        """Checks that ``lazyflow doctor`` shows: what this plugin found on this machine, and why not."""

    @hookspec
    def lazyflow_cli_commands(self, group: Any) -> None:
        """Add commands to the click group of the ``lazyflow`` command; asked for names it does not have."""
