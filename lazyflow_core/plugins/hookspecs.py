"""The questions the core asks its plugins, as pluggy hook specifications.

All are asked on cold paths: when files are opened, a command starts, or a user wants to know what is
installed. Computing pixels calls no hook. A plugin implements the ones it has an answer to, in the
import-light module that its ``lazyflow.plugins`` entry point names::

    from lazyflow_core.plugins import ReaderSpec, hookimpl

    @hookimpl
    def lazyflow_reader_specs():
        return [ReaderSpec("acme.czi", "acme.czi:open_reader", patterns=("*.czi",))]
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

from lazyflow_core.plugins.specs import OperatorSpec, ReaderSpec, WriterSpec

if TYPE_CHECKING:
    from lazyflow_core.plugins.doctor import Check

__all__ = ["HookSpecs", "hookimpl", "hookspec"]

hookspec = pluggy.HookspecMarker("lazyflow")
hookimpl = pluggy.HookimplMarker("lazyflow")


class HookSpecs:
    """Signatures of all hooks. An implementation may take fewer arguments, never others."""

    @hookspec
    def lazyflow_operator_specs(self) -> Iterable[OperatorSpec]:  # type: ignore[empty-body]
        """Operators that exist only at run time; those known when packaging are entry points instead."""

    @hookspec
    def lazyflow_reader_specs(self) -> Iterable[ReaderSpec]:  # type: ignore[empty-body]
        """Kinds of files this plugin reads."""

    @hookspec
    def lazyflow_writer_specs(self) -> Iterable[WriterSpec]:  # type: ignore[empty-body]
        """Kinds of files this plugin writes."""

    @hookspec(firstresult=True)
    def lazyflow_filter_backend(self, name: str) -> Any | None:
        """A module of filter kernels by name, or None; asked by filters for a backend a user chose."""

    @hookspec
    def lazyflow_doctor(self) -> Iterable[Check]:  # type: ignore[empty-body]
        """Checks that ``lazyflow doctor`` shows: what this plugin found on this machine, and why not."""

    @hookspec
    def lazyflow_cli_commands(self, group: Any) -> None:
        """Add commands to the click group of the ``lazyflow`` command."""
