"""What the plumbing operators tell the core about themselves. Imports nothing heavy."""

from __future__ import annotations

from lazyflow_core.plugins import hookimpl

LAZYFLOW_API = (1, 0)


@hookimpl
def lazyflow_conformance_cases() -> str:
    """Name the cases on which users may try our operators."""
    return "lazyflow_ops_array.conformance:CASES"
