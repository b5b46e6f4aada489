"""Cancelling: asking requests to stop, with all that only they need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._links import DELIVERED
from ._mutex import mutex
from ._party import Verdict, Waiter, current_party
from ._state import RequestState
from ._stop import watched

if TYPE_CHECKING:
    from ._request import Request

__all__ = ["cancel"]


def cancel(request: Request[Any], *, force: bool = False, reason: str | None = None) -> bool:
    """Ask a request and what only it needs to stop; return whether the request itself will.

    Parameters
    ----------
    force
        Also if somebody still waits for it; the waiters are told. For a scheduler that closes.
    reason
        What to tell those who wait for a request that never began.
    """
    # A list of work instead of recursion: chains are 10 000 deep.
    todo: list[Any] = [request]
    while todo:
        current = todo.pop()
        with mutex:
            if not hasattr(current, "_claim"):  # a pool among the children
                todo += current._unfinished
                continue
            state: RequestState = current._state
            if state.is_terminal or current._cancelled or (is_wanted(current) and not force):
                continue
            current._cancelled = True
            # Order matters: the dependents are looked at after their reason to live was taken away.
            todo += current._children or ()
            waiting = current._waiting
            # Only a request it waits for, never the owner of a lock it waits for.
            awaited = waiting.target if type(waiting) is Waiter else waiting
            if hasattr(awaited, "_claim"):
                todo.append(awaited)
            # Inside the mutex: nobody can claim it between the look at its state and ours.
            never_began = state <= RequestState.QUEUED and current._claim()
        if never_began:
            current._finish(RequestState.CANCELLED, reason, current_party())
            continue
        watched[current] = None
        if current._state.is_terminal:
            watched.pop(current, None)
        if type(waiting) is Waiter and not waiting.is_shielded:
            waiting.decide(Verdict.CANCELLED)
        else:
            current._interrupt()
    return request._cancelled


def is_wanted(request: Request[Any]) -> bool:
    """Return whether somebody who was not cancelled waits for it. The caller holds the mutex."""
    host = getattr(request, "_host", None)
    if host is not None and not host._cancelled:
        return True
    links = request._links
    if links is None or links is DELIVERED:
        return False
    return any(waiter.verdict is None and not waiter.host._cancelled for waiter in links.waiters)
