"""Raising the priority of a request that somebody looks at now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._mutex import mutex
from ._party import current_party
from ._state import Priority, RequestState
from ._waitgraph import dependencies

if TYPE_CHECKING:
    from ._request import Request

__all__ = ["raise_priority"]


def raise_priority(request: Request[Any], priority: Priority) -> None:
    """Make a request at least this urgent, with its unfinished children and what it waits for."""
    if type(priority) is not Priority:
        raise ValueError(f"priority is {priority!r}; it must be one of {', '.join(map(repr, Priority))}")
    todo: list[Any] = [request]
    while todo:
        current = todo.pop()
        with mutex:
            if not hasattr(current, "_claim"):  # a pool among the children
                todo += current._unfinished
                continue
            if current._state.is_terminal or current.priority <= priority:
                continue
            current._priority = priority
            is_queued = current._state is RequestState.QUEUED
            todo += (needed for needed in dependencies(current._waiting) if hasattr(needed, "_priority"))
            todo += current._children or ()
        if is_queued:
            # The entry in the slower queue stays behind; whoever takes it finds the request claimed.
            current._scheduler.enqueue(current, current_party())
