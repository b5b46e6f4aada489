"""A foreign thread that waits runs what it waits for, where the workers do not come to it.

A workload that blocks its worker (it joins a thread, waits for an executor, calls dask) may do so for the
sake of that thread's own requests: with all workers blocked these would stand in the queue for ever. So a
thread that waits looks whether the workers move, and if they do not it takes the queued requests that it
needs. As long as they move it leaves them the work: nobody needs it there, and its own would wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._failure import pass_on_interrupt
from ._mutex import mutex
from ._party import Fiber, Waiter
from ._state import MAX_INLINE_DEPTH, RequestState
from ._waitgraph import dependencies

if TYPE_CHECKING:
    from ._crew import Crew
    from ._request import Request
    from ._worker import Worker

__all__ = ["block_and_help"]

#: Seconds between two looks at the workers.
PATIENCE = 0.05

#: Who computes less than this part of it stands still.
MOVING = 0.1

#: Requests that are looked at to find one that can be run.
MOST_LOOKS = 1000


def block_and_help(crew: Crew, waiter: Waiter) -> None:
    """Block this thread until its wait has a verdict; while all workers stand still, run what it needs.

    A wait with a deadline only waits: nobody knows how long the work would take.
    """
    party = waiter.party
    assert type(party) is not Fiber
    if waiter.timeout is not None or party.depth >= MAX_INLINE_DEPTH:
        waiter.block()
        return
    before: list[float] = []
    while True:
        # Where the workers were found standing and none has begun anything since, nobody looks twice again.
        stood = crew.stood_at is not None and crew.stood_at == _count_begun(crew)
        if waiter.block_for(0.0 if stood and _first_queued(waiter) is not None else PATIENCE):
            return
        if crew.sleepers:
            continue
        if not stood:
            begun = _count_begun(crew)
            times = [begun, *map(_computed_s, crew.workers)]
            before, earlier = times, before
            if len(earlier) != len(times) or earlier[0] != begun:
                continue
            if any(now - then > MOVING * PATIENCE for now, then in zip(times, earlier, strict=True)):
                continue
            crew.stood_at = begun
        request = _first_queued(waiter)
        if request is not None and request._claim():
            try:
                request._execute_inline(party, _NOBODY)
            except BaseException as error:
                request._tear(error, party)
                raise
            finally:
                waiter.host._waiting = waiter
            if request._state is RequestState.FAILED:
                pass_on_interrupt(request._outcome)


class _Nobody:
    """As whom a helper waits: it is for those who want the request to say whether it may be cancelled."""

    _cancelled = True
    _host = None


_NOBODY = _Nobody()


def _first_queued(waiter: Waiter) -> Request[Any] | None:
    """Return a request that has not begun and on which the end of a wait depends."""
    with mutex:
        todo = [iter(_movers(waiter.target))]
        seen: set[Any] = set()
        while todo and len(seen) < MOST_LOOKS:
            try:
                each = next(todo[-1], None)
            except RuntimeError:
                return None  # members come and go without the mutex; the next look finds what there is then
            if each is None:
                todo.pop()
            elif each not in seen:
                seen.add(each)
                if getattr(each, "_state", None) is RequestState.QUEUED:
                    return each  # type: ignore[no-any-return]
                waiting = each._waiting
                is_parked = type(waiting) is Waiter and waiting.verdict is None
                todo.append(iter(_movers(waiting.target) if is_parked else dependencies(waiting)))
    return None


def _count_begun(crew: Crew) -> int:
    """Return how many requests the workers have begun so far."""
    return sum(worker.ticks for worker in crew.workers)


def _movers(target: Any) -> Any:
    """Return who may bring the end of a wait; more than it depends on, where any of several will do."""
    return target._movers() if hasattr(target, "_movers") else target._wait_dependencies()


def _computed_s(worker: Worker) -> float:
    """Return the seconds for which a worker has computed; 0 where the system does not tell."""
    try:
        with open(f"/proc/self/task/{worker.thread.native_id}/schedstat") as file:
            return int(file.read().split()[0]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
