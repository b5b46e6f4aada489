"""`Request`: a handle to one computation that runs at most once and whose result many may wait for.

This file holds the handle and its path from NEW to its outcome. Waiting that really has to wait is in
`_wait.py`, cancelling in `_cancel.py`, the stacks requests run on in `_party.py`, where and when they run
in the schedulers. ``DESIGN.md`` beside it tells the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from lazyflow_core.errors import (
    CancelledError,
    RequestError,
    RequestStateError,
    SchedulerClosedError,
)

from ._cancel import cancel
from ._core import RequestCore, Scope
from ._failure import (
    FOR_ASYNCIO,
    describe_failure,
    pass_on_interrupt,
    refuse_for_asyncio,
    waiter_error,
)
from ._links import name_of
from ._mutex import mutex
from ._party import Fiber, Interest, Party, current_party, current_stack
from ._priority import raise_priority
from ._scheduler import default_scheduler, runs_here
from ._state import MAX_INLINE_DEPTH, MOVES_TO, NOTHING, Priority, RequestState
from ._stop import watched
from ._wait import wait_until_delivered

if TYPE_CHECKING:
    import concurrent.futures
    from typing import Self

__all__ = ["Request", "checkpoint", "current_request"]

T = TypeVar("T")

NEW = RequestState.NEW
QUEUED = RequestState.QUEUED
RUNNING = RequestState.RUNNING
FINISHED = RequestState.FINISHED
FAILED = RequestState.FAILED
CANCELLED = RequestState.CANCELLED
TO_QUEUED = MOVES_TO[QUEUED]


class Request(RequestCore[T]):
    """One computation, its outcome, and everybody who waits for it.

    Nothing happens until somebody submits it or waits for it. Whoever does that first is its *parent*, if
    it is a request: the child inherits priority, scheduler and cancellation, and sees its context variables.

    Parameters
    ----------
    workload
        What to compute, called without arguments, or as ``workload(out=destination)`` after `write_into`.
    name
        For reports; a callable is asked only when a report is written.
    scheduler
        Where to run. None: where the parent runs, else on `default_scheduler`.
    priority
        None: that of the parent, else `Priority.NORMAL`.

    Notes
    -----
    *To extend it* (the graph does), derive with ``__slots__``, call ``super().__init__`` and override:

    ``_run(out)``
        Compute and return the result; ``out`` is the destination or `NOTHING`. Called at most once.
    ``_make_error(cause)``
        Return a new `RequestError` for one waiter; it is raised ``from cause``.
    ``_describe_work()``
        Return the words that stand for the workload when the request has no name.

    Examples
    --------
    >>> Request(lambda: 6 * 7).wait()
    42
    >>> def parent():
    ...     halves = [Request(lambda k=k: k * 10).submit() for k in (1, 2)]
    ...     return sum(half.wait() for half in halves)
    >>> Request(parent).wait()
    30
    """

    __slots__ = ()

    # ------------------------------------------------------------------------------------------ extension

    def _run(self, out: Any) -> T:
        """Compute the result. Override this and pass None as workload to spare a closure per request."""
        workload = self._workload
        if workload is None:
            raise RequestStateError(
                f"{self.describe()} has nothing to do; give it a workload, or derive a class with a _run"
            )
        if out is NOTHING:
            return workload()
        returned: Any = workload(out=out)
        if type(returned) in FOR_ASYNCIO:
            refuse_for_asyncio(returned)
        return out  # type: ignore[no-any-return]

    def _make_error(self, cause: BaseException) -> RequestError:
        """Return a new exception for one waiter."""
        return RequestError(describe_failure(self, cause))

    def _describe_work(self) -> str:
        workload = getattr(self, "_workload", None)
        return getattr(workload, "__qualname__", None) or type(workload or self).__qualname__

    # ----------------------------------------------------------------------------------------- the handle

    @property
    def state(self) -> RequestState:
        """Where it is in its life."""
        return self._state

    @property
    def priority(self) -> Priority:
        """Its class of urgency."""
        return Priority.NORMAL if self._priority is None else self._priority

    @property
    def result(self) -> T:
        """The result of a finished request; never waits.

        Raises
        ------
        RequestStateError
            If it has no result: not finished yet, failed or cancelled.
        """
        if self._state is not FINISHED:
            raise RequestStateError(
                f"{self.describe()} has no result; wait() for it, or look at its state first"
            )
        return self._outcome  # type: ignore[no-any-return]

    def describe(self) -> str:
        """Return one line for reports: name, state, and what it waits for.

        Examples
        --------
        >>> Request(print, name="say it").describe()
        "request 'say it' (NEW)"
        """
        name = name_of(self._describe_work if self._name is None else self._name)
        asked_to_stop = ", asked to stop" if self._cancelled and not self._state.is_terminal else ""
        return f"request {name!r} ({self._state.name}{asked_to_stop})"

    def __repr__(self) -> str:
        return f"<{self.describe()}>"

    def write_into(self, destination: Any) -> Self:
        """Compute into ``destination`` instead of a new object; before the start only.

        The workload is then called as ``workload(out=destination)``, its return value is ignored, and the
        result *is* the destination.

        Examples
        --------
        >>> def fill(out):
        ...     out[:] = [1, 2, 3]
        >>> numbers = [0, 0, 0]
        >>> Request(fill).write_into(numbers).wait() is numbers
        True
        """
        if self._state is not NEW:
            raise RequestStateError(
                f"{self.describe()} has been started; write_into() must come before submit() and wait()"
            )
        self._outcome = destination
        return self

    # ------------------------------------------------------------------------------------ starting, waiting

    def submit(self) -> Self:
        """Have it run as soon as a worker is free; do nothing if it was started already.

        Raises
        ------
        SchedulerClosedError
            If its scheduler was closed or belongs to the process this one was forked from.
        """
        if self._state is NEW:
            try:
                party: Party = current_stack().lazyflow_party  # type: ignore[attr-defined]
            except AttributeError:
                party = current_party()
            self._start(party, party.request)
        return self

    def _start(self, party: Party, scope: Scope | None) -> bool:
        """Submit it unless somebody else has; return whether this call did.

        ``scope`` is told of its end: the request that runs on ``party``, or a pool whose member it became.
        """
        parent = party.request
        if parent is not None:
            self._adopt(parent)
        scheduler = self._scheduler
        if scheduler is None:
            # On a worker without a request runs a callback; what it starts stays with that scheduler.
            scheduler = party.scheduler or default_scheduler()
            self._scheduler = scheduler
        if not scheduler.is_open:
            raise SchedulerClosedError(f"{self.describe()} cannot be submitted: {scheduler.why_closed}")
        # As in `_claim`: one step of the interpreter, which one caller gets.
        try:
            del self._ticket
        except AttributeError:
            return False  # somebody else starts it at this moment
        is_offered = False
        try:
            # An empty context is not kept: the worker's own is as good, and it would be every other object
            # of a million pending requests.
            self._context = copy_context() or None
            self._state = TO_QUEUED[self._state]
            if scope is not None:
                self._parent = scope
                if scope is parent:
                    siblings = parent._children
                    if siblings is None:
                        siblings = parent._children = {}
                    siblings[self] = None
            self._claimable = is_offered = True
            # A cancellation that came between ticket and queue has left its flag. Looked at after it can be
            # claimed; whoever claims it looks again before the workload begins.
            if self._cancelled or (parent is not None and parent._cancelled):
                self.cancel()
            scheduler.enqueue(self, party)
        except BaseException:
            # Ctrl-C in the middle: nobody would ever find it, so it ends here.
            if not is_offered or self._claim():
                self._finish(CANCELLED, None, party)
            raise
        return True

    def wait(self, timeout: float | None = None) -> T:
        """Return the result, as soon as it is there.

        Inside a request this suspends the request, never its worker; an unstarted request is run right here.
        In a foreign thread an unsubmitted request is run directly in that thread; a submitted one is waited
        for, and run there only while all workers stand still.

        Parameters
        ----------
        timeout
            Seconds to wait at most. The request itself goes on afterwards, and may be cancelled.

        Raises
        ------
        RequestError
            If the workload raised; ``__cause__`` is what it raised. Each waiter gets an exception of its own.
        RequestCancelledError
            If it was cancelled.
        RequestTimeoutError
            If the time is over.
        CircularWaitError
            If it waits, directly or through others, for the caller.
        SchedulerClosedError
            If nobody is left to run it.
        CancelledError
            If the request that calls this was cancelled itself.
        """
        try:
            party: Party = current_stack().lazyflow_party  # type: ignore[attr-defined]
        except AttributeError:
            party = current_party()
        me = party.request
        if me is not None and me._cancelled:
            raise CancelledError(f"{me.describe()} was cancelled")
        state = self._state
        if (state is NEW or state is QUEUED) and timeout is None and party.depth < MAX_INLINE_DEPTH:
            # Only the awaited request is run inline, never other work: that could need a lock which is
            # held further down on this very stack.
            scheduler = self._scheduler
            is_claimed = False
            try:
                is_claimed = (
                    scheduler is None or scheduler._crew is party.crew or runs_here(scheduler, party, state)
                ) and self._claim()
                if is_claimed:
                    if state is QUEUED:
                        party.carrier.forget(self)  # type: ignore[union-attr]
                    elif me is not None:
                        self._adopt(me)
                    self._execute_inline(party)
                    state = self._state
                    if state is FAILED and type(party) is not Fiber:
                        pass_on_interrupt(self._outcome)
            except BaseException as error:
                if is_claimed:
                    self._tear(error, party)
                raise
        if state is FINISHED and self._links is None:
            return self._outcome  # type: ignore[no-any-return]
        __tracebackhide__ = True
        if not self._is_settled():
            wait_until_delivered(self, party, timeout)
        if self._state is FINISHED:
            return self._outcome  # type: ignore[no-any-return]
        raise waiter_error(self, me)

    def _run_inside(self, party: Fiber, host: Interest) -> bool:
        """Run it inside of the request that waits for it, if it is queued and can be had; say so."""
        scheduler = self._scheduler
        if self._state is not QUEUED or scheduler is None or scheduler._crew is not party.crew:
            return False
        is_claimed = False
        try:
            is_claimed = self._claim()
            if is_claimed:
                party.carrier.forget(self)
                self._execute_inline(party, host)
        except BaseException as error:
            if is_claimed:
                self._tear(error, party)
            raise
        return is_claimed

    def block(self, timeout: float | None = None) -> None:
        """Wait like `wait`, for the sake of the side effects; return nothing."""
        self.wait(timeout)

    def cancel(self) -> bool:
        """Ask it to stop; say whether it will.

        It will not when it is over already, or when somebody who is not cancelled waits for it: shared work
        survives. Otherwise it ends at once if it has not begun, else at its next wait, lock or `checkpoint`,
        by a `CancelledError` raised there. Its children and what it waits for are asked the same.
        """
        return cancel(self)

    def raise_priority(self, priority: Priority = Priority.INTERACTIVE) -> None:
        """Make it at least this urgent, with its unfinished children and what it waits for.

        A priority is never lowered: somebody may count on it. What is to be less urgent than the request that
        starts it is made with a priority of its own.
        """
        raise_priority(self, priority)

    # -------------------------------------------------------------------------------------------- callbacks

    def on_finished(self, function: Callable[[T], object]) -> Self:
        """Call ``function(result)`` when it finishes; at once if it has."""
        return self._subscribe(FINISHED, function)

    def on_failed(self, function: Callable[[BaseException], object]) -> Self:
        """Call ``function(exception)`` with what the workload raised; at once if it has."""
        return self._subscribe(FAILED, function)

    def on_cancelled(self, function: Callable[[], object]) -> Self:
        """Call ``function()`` when it ends as cancelled; at once if it has."""
        return self._subscribe(CANCELLED, function)

    def on_done(self, function: Callable[[Request[T]], object]) -> Self:
        """Call ``function(request)`` when it is over, whatever the outcome.

        Callbacks run one after another, in the thread that ended the request, outside any request and
        before those who waited are woken. They may wait, subscribe and cancel. One that raises is logged;
        neither the outcome nor the others are affected.
        """
        return self._subscribe(None, function)

    def _subscribe(self, outcome: RequestState | None, function: Callable[..., object]) -> Self:
        if not callable(function):
            raise TypeError(f"{self.describe()} cannot call {function!r} back; give a function")
        with mutex:
            links = self._hang_on()
            if links is not None:
                if links.callbacks is None:
                    links.callbacks = []
                links.callbacks.append((outcome, function))
        if links is not None:
            self._check_end(links)
            return self
        self._call_back(outcome, function)
        return self

    # ------------------------------------------------------------------------------------------ other worlds

    @classmethod
    def from_value(cls, value: T, *, name: str | Callable[[], str] | None = None) -> Request[T]:
        """Return a request that is finished already.

        It is a real one: callbacks are called, pools take it, `write_into` copies by ``destination[...] =``.

        Examples
        --------
        >>> Request.from_value(3).state.name, Request.from_value(3).wait()
        ('FINISHED', 3)
        """
        from ._value import FinishedRequest

        return FinishedRequest(value, name=name)

    @classmethod
    def from_future(cls, future: concurrent.futures.Future[T], *, name: str | None = None) -> Request[T]:
        """Return a request that ends when a `concurrent.futures.Future` does; no worker is held meanwhile.

        Cancelling the request cancels the future.
        """
        from ._bridge import request_of_future

        return request_of_future(future, name)

    def future(self) -> concurrent.futures.Future[T]:
        """Submit it and return a `concurrent.futures.Future` for its outcome.

        Cancelling the future cancels the request unless somebody else waits for it. Its ``result()`` and
        ``exception()`` may be called inside a request, which they suspend; `concurrent.futures.wait` and
        `concurrent.futures.as_completed` block the worker of a request that calls them.
        """
        from ._bridge import future_of_request

        return future_of_request(self)

    def __await__(self) -> Generator[Any, None, T]:
        """Submit it and await its result in asyncio; cancelling the task cancels an unshared request."""
        from ._bridge import await_request

        return await_request(self)


def current_request() -> Request[Any] | None:
    """Return the request whose workload calls this, or None outside any."""
    return current_party().request


def checkpoint() -> None:
    """Raise `CancelledError` if the request that calls this was cancelled; cheap enough for inner loops.

    Examples
    --------
    >>> checkpoint()    # outside a request there is nothing to cancel
    """
    if watched:
        _look()


def _look() -> None:
    party = current_party()
    request = party.request
    if request is not None and request._cancelled:
        raise CancelledError(f"{request.describe()} was cancelled")
    if type(party) is Fiber:
        party.carrier.checkpoint(party)
