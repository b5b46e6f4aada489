"""What the learning operators tell the core about themselves. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lazyflow_core.plugins import Check, hookimpl

LAZYFLOW_API = (1, 0)


@hookimpl
def lazyflow_doctor() -> Iterator[Check]:
    """Say which predictor and trainer run on this machine."""
    from lazyflow_ops_learning.native import native_library, why_not_native

    native = native_library()
    if native is not None:
        yield Check("learning: native kernels", True, f"C++ for {native.isa}", "")
    else:
        hint = "optional, several times faster than numpy: install gcc or clang, then this package again"
        yield Check("learning: native kernels", None, why_not_native(), hint)


@hookimpl
def lazyflow_conformance_cases() -> str:
    """Name the cases on which users may try our operators."""
    return "lazyflow_ops_learning.conformance:CASES"


@hookimpl
def lazyflow_cli_commands(group: Any) -> None:
    """Add ``lazyflow ilastik`` and ``lazyflow train``."""
    from lazyflow_ops_learning.ilastik.command import command as ilastik
    from lazyflow_ops_learning.train_command import command as train

    group.add_command(ilastik)
    group.add_command(train)
