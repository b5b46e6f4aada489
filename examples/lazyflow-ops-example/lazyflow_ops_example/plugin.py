"""What this distribution tells the core. Imports nothing heavy: targets are strings, imported when used."""

from __future__ import annotations

from lazyflow_core.plugins import hookimpl

#: Version of the plugin contract this module was written for.
LAZYFLOW_API = (1, 0)


@hookimpl
def lazyflow_conformance_cases() -> str:
    """Name the cases on which users may try our operators."""
    return "lazyflow_ops_example.conformance:CASES"
