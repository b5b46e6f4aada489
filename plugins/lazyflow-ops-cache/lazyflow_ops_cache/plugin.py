"""What the caches tell the core about themselves. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lazyflow_core.plugins import Check, hookimpl

from lazyflow_ops_cache import policy

LAZYFLOW_API = (1, 0)


@hookimpl
def lazyflow_add_hookspecs(add: Any) -> None:
    """Offer `cache_policy` to others."""
    add(policy)


@hookimpl
def lazyflow_doctor() -> Iterator[Check]:
    """Say how much memory caches may take here."""
    from lazyflow_core.errors import LazyflowError
    from lazyflow_core.utility import format_bytes

    from lazyflow_ops_cache.memory import BUDGET_VARIABLE, memory_manager

    try:
        budget = format_bytes(memory_manager().budget_bytes)
    except LazyflowError as error:
        yield Check(
            "cache: budget", False, str(error), f"unset {BUDGET_VARIABLE}, or write a size like '2 GiB'"
        )
    else:
        yield Check("cache: budget", True, f"{budget}; {BUDGET_VARIABLE} changes it", "")


@hookimpl
def lazyflow_conformance_cases() -> str:
    """Name the cases on which users may try our operators."""
    return "lazyflow_ops_cache.conformance:CASES"
