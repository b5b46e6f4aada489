"""What the filters tell the core about themselves. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lazyflow_core.plugins import Check, hookimpl

from lazyflow_ops_filters import hooks

LAZYFLOW_API = (1, 0)

_HINTS = {
    "native": "optional, several times faster than scipy: install gcc or clang, then this package again",
    "vigra": "optional: Debian's python3-vigra or conda-forge's vigra, with numpy < 2",
}


@hookimpl
def lazyflow_add_hookspecs(add: Any) -> None:
    """Offer `filters_backend` to others."""
    add(hooks)


@hookimpl
def lazyflow_doctor() -> Iterator[Check]:
    """Say which kernels run on this machine, and why others do not."""
    from lazyflow_ops_filters.kernels.selection import describe_auto, describe_backends

    name, why = describe_auto()
    yield Check(
        "filters: kernels that run", bool(name), why, "" if name else "set it to another, or unset it"
    )

    for name, problem, detail in describe_backends():
        yield Check(
            f"filters: {name} kernels",
            None if problem else True,
            problem or detail,
            _HINTS.get(name, "") if problem else "",
        )


@hookimpl
def lazyflow_conformance_cases() -> str:
    """Name the cases on which users may try our operators."""
    return "lazyflow_ops_filters.conformance:CASES"
