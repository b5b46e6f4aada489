"""Who waits for whom: finding circles, and telling about everything that is blocked.

The graph is always there: each party and each request has one field, ``_waiting``, with what it waits for,
and each thing that can be waited for says on whom it depends. An edge with a timeout is left out - time
resolves it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lazyflow_core.errors import CircularWaitError, NestingError

from ._party import Waiter, stack_of

__all__ = ["check_nesting", "check_no_circle", "dependencies", "describe_blocked", "parked"]

#: Requests that may wait for each other, one for the next. Ten thousand are nothing unusual, and cost 20 MB.
MAX_NESTING = 100_000

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


def check_nesting(waiter: Waiter) -> None:
    """Raise `NestingError` if too many requests wait for each other down to this one; with the mutex held.

    Each request that ever waits keeps the number of those above it. That may be too high, since some of them
    end without waiting for it: so it is counted anew before anybody is refused.
    """
    request = waiter.party.request
    if request is not None and _nesting_of(request) > MAX_NESTING and _count_above(request) > MAX_NESTING:
        raise NestingError(
            f"more than {MAX_NESTING} requests wait for each other, one for the next. "
            "A recursion without an end? Let it stop, or go through a list."
        )


def _nesting_of(request: Any) -> int:
    unknown = []
    nesting = 0
    while request is not None:
        try:
            nesting = request._nesting
            break
        except AttributeError:
            unknown.append(request)
            request = _above(request)
    for each in reversed(unknown):
        nesting += 1
        each._nesting = nesting
    return nesting


def _count_above(request: Any) -> int:
    count = 0
    above = request
    while above is not None:
        count += 1
        above = _above(above)
    request._nesting = count
    return count


def _above(request: Any) -> Any:
    """Return the request that waits for this one, or will: it runs it inline, or submitted it."""
    host = getattr(request, "_host", None)
    while host is not None and not hasattr(host, "_state"):
        host = getattr(host, "_host", None)  # the consent of a pool stands between two requests
    if host is not None:
        return host
    parent = getattr(request._parent, "_owner", request._parent)  # of a pool, who waits for its members
    if parent is not None:
        return None if parent._state.is_terminal else parent
    links = request._links
    for waiter in () if links is None else links.waiters:
        if hasattr(waiter.host, "_state"):
            return waiter.host
    return None


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
