"""Waiting that really has to wait: entering the queue of a request or lock, parking, and leaving it again."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from lazyflow_core.errors import CancelledError, NestingError, RequestTimeoutError, SchedulerClosedError

from . import _debug
from ._mutex import mutex
from ._party import Fiber, Party, Verdict, Waiter, check_timeout
from ._scheduler import runs_here
from ._state import MAX_INLINE_DEPTH, NOTHING, RequestState
from ._waitgraph import check_nesting, check_no_circle, parked

if TYPE_CHECKING:
    from ._links import Links
    from ._request import Request
    from ._scheduler import Scheduler

__all__ = ["give_up", "park", "wait_until_delivered", "was_woken"]

NEW = RequestState.NEW
QUEUED = RequestState.QUEUED

LeaveQueue = Callable[[Waiter], object]


def park(waiter: Waiter, leave_queue: LeaveQueue, scheduler: Scheduler | None = None) -> Verdict:
    """Park the current party until its waiter's verdict is there; return it.

    Called after the waiter was entered into a queue and into the wait-for graph by `enter`, without the
    mutex. The party has left the queue when this returns. If it raises, `give_up` must follow.

    Parameters
    ----------
    leave_queue
        Takes the waiter out of the queue it stands in, if it still does. Called under the mutex.
    scheduler
        Who has to move while a foreign thread waits, where that is known.
    """
    party = waiter.party
    try:
        if type(party) is Fiber:
            party.carrier.park(party, waiter)
        else:
            _block(waiter, scheduler)
        verdict = waiter.verdict
    finally:
        parked.pop(waiter, None)
        waiter.host._waiting = None
    assert verdict is not None
    if verdict is not Verdict.WOKEN:
        with mutex:
            leave_queue(waiter)
    return verdict


def _block(waiter: Waiter, scheduler: Scheduler | None) -> None:
    """Block the calling foreign thread until its waiter has a verdict."""
    drives = waiter.party.drives  # type: ignore[union-attr]
    driven = None if drives is None or waiter.timeout is not None else drives()
    if driven is not None and driven is not scheduler and driven.has_work():
        # Whatever is waited for, who brings it may be a request that only this thread moves.
        driven.drive_meanwhile(waiter)
    elif scheduler is not None:
        scheduler.block_thread(waiter)
    else:
        waiter.block()


def was_woken(waiter: Waiter, verdict: Verdict, *, is_for_host: bool = False) -> bool:
    """Return whether a wait that is over was woken, False when its time was up; raise if it ended otherwise.

    The one place that says what a verdict means to whoever waited.

    Parameters
    ----------
    waiter, verdict
        Who waited, and what `park` returned.
    is_for_host
        Whether it was woken with something that is of no use to a host who has been cancelled since.

    Raises
    ------
    CancelledError
        If its host was cancelled.
    SchedulerClosedError
        If the scheduler that was to bring about what it waited for has gone.
    """
    host = waiter.host
    if verdict is Verdict.TIMED_OUT:
        return False
    if verdict is Verdict.CLOSED:
        raise SchedulerClosedError(f"{waiter.target!r}: its scheduler was closed")
    if verdict is Verdict.CANCELLED or (is_for_host and host._cancelled and not waiter.is_shielded):
        raise CancelledError(f"{host!r} was cancelled")
    return True


def give_up(waiter: Waiter, leave_queue: LeaveQueue) -> bool:
    """Undo a wait out of which an exception came; return whether it had been woken before.

    Whoever waits calls this for any exception between making the waiter and the end of `park`: a Ctrl-C in
    the main thread, no memory, a greenlet that is being killed. The waiter may have been entered nowhere,
    somewhere or everywhere. What it was woken for has to be handed on.
    """
    with mutex:
        was_woken = waiter.verdict is Verdict.WOKEN
        if waiter.verdict is None:
            # Not by `decide`: nobody is parked who would have to be told.
            waiter.verdict = Verdict.CANCELLED
        leave_queue(waiter)
        parked.pop(waiter, None)
        if waiter.host._waiting is waiter:
            waiter.host._waiting = None
        request = waiter.party.request
        if request is not None and request._state is RequestState.SUSPENDED:
            request._move(RequestState.RUNNING)
    return was_woken


def enter(waiter: Waiter) -> None:
    """Enter a wait into the wait-for graph. The caller holds the mutex and has not parked yet.

    Raises
    ------
    CircularWaitError
        If the wait would close a circle.
    NestingError
        If too many requests wait for each other already.
    RequestStateError
        If checks are on and it holds a lock of the operating system.
    CancelledError
        If the request was cancelled since it last looked: a cancellation that comes after this section finds
        the waiter and decides it, one that came before is seen here.
    """
    host = waiter.host
    if host._cancelled and not waiter.is_shielded:
        raise CancelledError(f"{host!r} was cancelled")
    if _debug.checks:
        _debug.checks.about_to_park(waiter)
    if waiter.timeout is None:
        check_no_circle(host, waiter.target)
    if not waiter.is_shielded:
        check_nesting(waiter)
    host._waiting = waiter
    parked[waiter] = None


def wait_until_delivered(
    request: Request[Any], party: Party, timeout: float | None, *, shield: bool = False
) -> None:
    """Wait for the outcome of a request that cannot be had at once by running it inline.

    The first line of `Request.wait` has looked for a cancelled caller and for an outcome already there.
    """
    check_timeout(timeout)
    must_hop = False
    state = request._state
    if state is NEW or state is QUEUED:
        scheduler = request._scheduler
        if (
            timeout is None
            and type(party) is Fiber
            and (scheduler is None or runs_here(scheduler, party, state))
            and party.depth >= MAX_INLINE_DEPTH
        ):
            if party.request is not None:
                request._adopt(party.request)
            must_hop = True
        elif state is NEW:
            request.submit()
    waiter = Waiter(party, request, timeout, shield)
    links: Links | None = None

    def leave_queue(waiter: Waiter) -> None:
        if links is not None:
            links.waiters.pop(waiter, None)

    try:
        with mutex:
            links = request._hang_on()
            if links is None or links.deliverer is party:
                return  # over, or called from one of its own callbacks
            scheduler = request._scheduler
            if scheduler is not None and not scheduler.is_alive:
                raise SchedulerClosedError(f"{request.describe()} will not run: {scheduler.why_closed}")
            enter(waiter)
            links.waiters[waiter] = None
        request._check_end(links)
        if must_hop:
            assert type(party) is Fiber
            context = (copy_context() or None) if request._context is NOTHING else request._context
            # Claimed only now that nothing is made any more: a claimed request must be run.
            if request._claim():
                request._context = context
                party.carrier.hop = request
        verdict = park(waiter, leave_queue, scheduler)
    except BaseException as error:
        give_up(waiter, leave_queue)
        if isinstance(error, (KeyboardInterrupt, NestingError)):
            # The one who wanted it has been interrupted, or is too deep; work nobody else waits for is not
            # worth going on with.
            request.cancel()
        raise
    if not was_woken(waiter, verdict, is_for_host=True):
        raise RequestTimeoutError(
            f"{request.describe()} has no outcome after {waiter.timeout:g} s; it goes on"
        )
