"""Why is this slot not ready? The way upstream to the first culprit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lazyflow_core.graph.operator import Operator
    from lazyflow_core.graph.slots import Slot

__all__ = ["why_not_ready"]


#: Slots of a long way that are named, at either end.
_ENDS: Final = 6


def why_not_ready(slot: Slot) -> str:
    """Return a sentence that names the slot at fault, and the way from ``slot`` to it.

    Follows the upstream of a connected slot, and the first input that is not ready of an operator.
    """
    way = [slot]
    while True:
        last = way[-1]
        inner = last.first_unready()
        if inner is not None and inner is not last:
            way.append(inner)
            continue
        if last.upstream is not None:
            way.append(last.upstream)
            continue
        operator = last.operator
        if last._born > last.graph.version:
            cause = "was made after the version of the graph that is seen here"
        elif operator.closed:
            cause = "belongs to an operator that is closed"
        elif not last.feeds_operator:
            missing = operator.first_missing()
            if missing is not None:
                way.append(missing)
                continue
            cause = _asked_too_early(operator) or "was declared not ready"
        else:
            cause = "is an empty list" if last.level else "has no value"
        break
    culprit = f"{way[-1]} {cause}"
    if len(way) == 1:
        return f"{slot} is not ready: it {cause}."
    note = " (not connected, required)" if cause == "has no value" else ""
    names = list(map(str, way))
    if len(names) > 2 * _ENDS:
        names[_ENDS:-_ENDS] = [f"… ({len(names) - 2 * _ENDS} more) …"]
    return f"{slot} is not ready: {culprit}.\n  {' ← '.join(names)}{note}"


def _asked_too_early(operator: Operator) -> str:
    """Return what to do if a ``setup_outputs`` asks an operator that has its turn later; else nothing."""
    setup = operator.graph._current_setup()
    asker = None if setup is None or not setup.is_due(operator) else setup.current
    if asker is None:
        return ""
    return (
        f"is set up after {asker.name}, whose setup_outputs asks for it; "
        f"connect it to an input of {asker.name}, and ask that"
    )
