"""Who waits for whom: finding circles, and telling about everything that is blocked.

The graph is always there: each party and each request has one field, ``_waiting``, with what it waits for,
and each thing that can be waited for says on whom it depends. An edge with a timeout is left out - time
resolves it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lazyflow_core.errors import CircularWaitError

from ._party import Waiter, stack_of

__all__ = ["check_no_circle", "dependencies", "describe_blocked", "parked"]

_OUR_PACKAGE = __name__.rpartition(".")[0] + "."

#: Every wait that is going on in this process. Guarded by the mutex.
parked: dict[Waiter, None] = {}


def dependencies(waiting: Any) -> Iterable[Any]:
    """Return on whom the end of a wait depends: requests and threads. The caller holds the mutex.

    Parameters
    ----------
    waiting
        The ``_waiting`` field of a request or a party.
    """
    if waiting is None:
        return ()
    if type(waiting) is not Waiter:
        return wait_dependencies(waiting)  # a request that runs inline
    if waiting.verdict is not None:
        return ()
    return wait_dependencies(waiting.target)


def wait_dependencies(target: Any) -> Iterable[Any]:
    """Return the requests and threads that must go on before ``target`` is done or free."""
    answer: Iterable[Any] = target._wait_dependencies()
    return answer


def check_no_circle(host: Any, target: Any) -> None:
    """Raise `CircularWaitError` if what ``host`` is about to wait for waits for ``host``.

    The caller holds the mutex and enters the edge in the same section: of two waits that close a circle
    together one sees the other.
    """
    first = tuple(wait_dependencies(target))
    if not first:
        return
    came_from: dict[Any, Any] = dict.fromkeys(first)
    todo = list(first)
    while todo:
        current = todo.pop()
        if current is host:
            raise CircularWaitError(_tell_circle(host, target, came_from))
        waiting = current._waiting
        if type(waiting) is Waiter and waiting.timeout is not None:
            continue
        for following in dependencies(waiting):
            if following not in came_from:
                came_from[following] = current
                todo.append(following)


def _tell_circle(host: Any, target: Any, came_from: dict[Any, Any]) -> str:
    path = []
    step = host
    while step is not None:
        path.append(step)
        step = came_from[step]
    path.reverse()
    words = [_name(target)] if target not in path else []
    for step in path:
        words.append(_name(step))
        waiting = step._waiting
        if step is not host and type(waiting) is Waiter and waiting.target not in path:
            words.append(_name(waiting.target))
    return f"{_name(host)} waits for itself through " + " -> ".join(words)


def _name(thing: Any) -> str:
    describe = getattr(thing, "describe", None)
    return describe() if describe is not None else repr(thing)


def _place(waiter: Waiter) -> str:
    """Return the innermost line of code outside this package on the stack that waits."""
    frame = stack_of(waiter.party)
    while frame is not None and frame.f_globals.get("__name__", "").startswith(_OUR_PACKAGE):
        frame = frame.f_back
    if frame is None:
        return ""
    return f", at {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def describe_blocked() -> str:
    """Return one line for every wait that is going on: who, for what, where, with or without a deadline.

    Semaphores, conditions and events have no owner, so whoever waits for them in a circle is not told so;
    here they stand, each with the line of code at which it waits.

    Examples
    --------
    >>> print(describe_blocked())
    nothing is blocked
    """
    # A copy in one step instead of the mutex: this must work in a signal handler at any moment.
    waits = [waiter for waiter in list(parked) if waiter.verdict is None]
    if not waits:
        return "nothing is blocked"
    lines = []
    for waiter in waits:
        limit = "" if waiter.timeout is None else f" (for at most {waiter.timeout:g} s)"
        lines.append(f"{_name(waiter.host)} waits for {_name(waiter.target)}{limit}{_place(waiter)}")
        for needed in waiter.target._wait_dependencies():
            lines.append(f"    which depends on {_name(needed)}")
    return "\n".join(sorted(lines) if len(waits) == 1 else lines)
