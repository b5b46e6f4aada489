"""`Request`: a handle to one computation that runs at most once and whose result many may wait for.

This file holds the handle and its path from NEW to its outcome. Waiting that really has to wait is in
`_wait.py`, cancelling in `_cancel.py`, the stacks requests run on in `_party.py`, where and when they run
in the schedulers. ``DESIGN.md`` beside it tells the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lazyflow_core.errors import (
    CancelledError,
    InternalError,
    RequestError,
    RequestStateError,
    SchedulerClosedError,
)

from ._cancel import cancel
from ._failure import describe_failure, keep_error, pass_on_interrupt, waiter_error
from ._links import DELIVERED, Failure, Links, logger
from ._mutex import mutex
from ._party import Fiber, Party, Verdict, WaiterHost, current_party
from ._priority import raise_priority
from ._scheduler import Scheduler, default_scheduler, runs_here
from ._state import LEGAL_MOVES, MAX_INLINE_DEPTH, NOTHING, Priority, RequestState
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


class Request(Generic[T]):
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

    # Slots, not a dict, and few: a million pending requests are 300 MB with 300 bytes each.
    __slots__ = (
        "__weakref__",
        "_cancelled",
        "_context",
        "_host",
        "_links",
        "_name",
        "_out",
        "_outcome",
        "_parent",
        "_priority",
        "_scheduler",
        "_state",
        "_waiting",
        "_workload",
    )

    def __init__(
        self,
        workload: Callable[..., T] | None,
        *,
        name: str | Callable[[], str] | None = None,
        scheduler: Scheduler | None = None,
        priority: Priority | None = None,
    ) -> None:
        #: Dropped as soon as it has run: a closure keeps arrays alive.
        self._workload = workload
        self._name = name
        #: None until somebody starts it and none was given.
        self._scheduler = scheduler
        self._priority = priority
        #: Written by `_move` only.
        self._state = NEW
        #: The result (FINISHED), a `Failure` (FAILED) or None. Written before the state says so.
        self._outcome: Any = None
        #: None, a `Links` or `DELIVERED`. Guarded by the mutex.
        self._links: Links | None = None
        #: Of the submitter, from submit until it runs. A request that is waited for directly has none.
        self._context: Context | None = None
        self._out: Any = NOTHING
        #: Somebody asked it to stop and was not refused. Never reset.
        self._cancelled = False
        #: What this request waits for now: a `Waiter`, a request it runs inline, or None. Written by the
        #: party that runs it.
        self._waiting: Any = None
        #: Who runs it inline and so waits for it; None in a worker's loop.
        self._host: WaiterHost | None = None
        #: The request in whose `Links.children` this one stands, from submit to outcome.
        self._parent: Request[Any] | None = None

    # ------------------------------------------------------------------------------------------ extension

    def _run(self, out: Any) -> T:
        """Compute the result. Override this and pass None as workload to spare a closure per request."""
        workload = self._workload
        if workload is None:
            raise InternalError(f"{self.describe()} has neither a workload nor a _run of its own")
        if out is NOTHING:
            return workload()
        workload(out=out)
        return out  # type: ignore[no-any-return]

    def _make_error(self, cause: BaseException) -> RequestError:
        """Return a new exception for one waiter."""
        return RequestError(describe_failure(self, cause))

    def _describe_work(self) -> str:
        workload = self._workload
        return getattr(workload, "__qualname__", None) or type(workload or self).__qualname__

    def _interrupt(self) -> None:
        """Do more about a cancellation than the request notices by itself at its next checkpoint."""

    def _wait_dependencies(self) -> tuple[Any, ...]:
        """Return who must go on before waiters of this request are woken, for the wait-for graph."""
        links = self._links
        if links is DELIVERED:
            return ()
        if links is not None and links.deliverer is not None:
            return (links.deliverer,)
        return (self,)

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
        name = self._name
        if name is None:
            name = self._describe_work()
        elif not isinstance(name, str):
            try:
                name = name()
            except Exception as error:
                name = f"(its name raised {error!r})"
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
        self._out = destination
        return self

    # ------------------------------------------------------------------------------------ starting, waiting

    def submit(self) -> Self:
        """Have it run as soon as a worker is free; do nothing if it was started already.

        Raises
        ------
        SchedulerClosedError
            If its scheduler was closed or belongs to the process this one was forked from.
        """
        if self._state is not NEW:
            return self
        parent = current_party().request
        if parent is not None:
            self._adopt(parent)
        scheduler = self._scheduler
        if scheduler is None:
            scheduler = self._scheduler = default_scheduler()
        if not scheduler.is_open:
            raise SchedulerClosedError(f"{self.describe()} cannot be submitted: {scheduler.why_closed}")
        context = copy_context()
        with mutex:
            if self._state is not NEW:  # two threads submit: one of them is second
                return self
            self._context = context
            self._move(QUEUED)
            born_cancelled = False
            if parent is not None:
                born_cancelled = parent._cancelled
                self._join_family(parent)
        if born_cancelled:
            self.cancel()
        else:
            scheduler.enqueue(self)
        return self

    def wait(self, timeout: float | None = None) -> T:
        """Return the result, as soon as it is there.

        Inside a request this suspends the request, never its worker; an unstarted request is run right here.
        In a foreign thread an unsubmitted request is run directly in that thread; a submitted one is waited
        for.

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
        party = current_party()
        me = party.request
        if me is not None and me._cancelled:
            raise CancelledError(f"{me.describe()} was cancelled")
        if self._links is not DELIVERED:
            scheduler = self._scheduler
            if (
                timeout is None
                and self._state is NEW
                and party.depth < MAX_INLINE_DEPTH
                and (scheduler is None or runs_here(scheduler, party))
                and self._claim()
            ):
                if me is not None:
                    self._adopt(me)
                # A context of its own: what the workload sets does not leak into the waiter.
                copy_context().run(self._execute_inline, party)
                if self._state is FAILED and type(party) is not Fiber:
                    pass_on_interrupt(self._outcome)
            else:
                wait_until_delivered(self, party, timeout)
        if self._state is FINISHED:
            return self._outcome  # type: ignore[no-any-return]
        raise waiter_error(self, me)

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
        """Make it at least this urgent, with its unfinished children and what it waits for."""
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
        with mutex:
            links = self._links
            if links is not DELIVERED:
                if links is None:
                    links = self._links = Links()
                if links.callbacks is None:
                    links.callbacks = []
                links.callbacks.append((outcome, function))
                return self
        self._call_back(outcome, function)
        return self

    def _call_back(self, outcome: RequestState | None, function: Callable[..., object]) -> None:
        state = self._state
        try:
            if outcome is None:
                function(self)
            elif outcome is state:
                if state is FINISHED:
                    function(self._outcome)
                elif state is FAILED:
                    self._outcome.retrieved = True
                    function(self._outcome.error)
                else:
                    function()
        except (Exception, CancelledError):
            logger.exception("a callback of %s raised: %r", self.describe(), function)

    # --------------------------------------------------------------------------------------- running, ending

    def _move(self, state: RequestState) -> None:
        """Change the state. The only writer; the caller holds the mutex or has claimed the request."""
        if state not in LEGAL_MOVES[self._state]:
            raise InternalError(
                f"{self.describe()} cannot become {state.name}. "
                "This is a bug in lazyflow_core, please report it."
            )
        self._state = state

    def _claim(self) -> bool:
        """Take the right to run it; exactly one caller ever gets it.

        The one atomic step between everybody who might run a request: workers, thieves, inline waiters,
        and a cancellation that makes running it unnecessary.
        """
        with mutex:
            if self._state > QUEUED:
                return False
            self._move(RUNNING)
            return True

    def _adopt(self, parent: Request[Any]) -> None:
        """Take scheduler and priority of the request that starts this one, unless they were given."""
        if self._scheduler is None:
            self._scheduler = parent._scheduler
        if self._priority is None:
            self._priority = parent._priority

    def _join_family(self, parent: Request[Any]) -> None:
        """Stand among the children of ``parent`` until the outcome. The caller holds the mutex."""
        links = parent._links
        if links is DELIVERED:
            return
        if links is None:
            links = parent._links = Links()
        if links.children is None:
            links.children = set()
        links.children.add(self)
        self._parent = parent

    def _run_here(self, party: Party, host: WaiterHost | None = None) -> None:
        """Run the claimed request inline on ``party``, in the context of its submitter if it was submitted."""
        context = self._context
        (copy_context() if context is None else context).run(self._execute_inline, party, host)

    def _execute_inline(self, party: Party, host: WaiterHost | None = None) -> None:
        """Run the claimed request on the stack of ``party``, which waits for it.

        ``host`` is who counts as waiting when it comes to cancelling; None: the one who runs on ``party``.
        """
        me = party.request
        edge: WaiterHost = party if me is None else me
        self._host = edge if host is None else host
        edge._waiting = self
        party.request = self
        party.depth += 1
        try:
            self._execute(party)
        except BaseException as error:
            # A Ctrl-C between two statements of ours, or the end of the stack. There may be no room to end
            # the request here; the outermost level does it.
            party.torn.append((self, error))
            raise
        finally:
            party.depth -= 1
            party.request = me
            edge._waiting = None
            self._host = None
            if party.torn and me is None:
                finish_torn(party)

    def _execute(self, party: Party) -> None:
        """Run the claimed request to its outcome. Does not raise, whatever the workload does."""
        scheduler = self._scheduler
        observers = scheduler.observers if scheduler is not None else ()
        if observers:
            scheduler.observe("started", self)  # type: ignore[union-attr]
        # One of the two places that catch BaseException: a SystemExit in a workload is the workload's
        # failure, not the end of the worker and of everybody who waits.
        try:
            outcome: Any = self._run(self._out)
            state = FINISHED
        except CancelledError as error:
            # Raised without anybody having cancelled *this* request, it is a failure like any other.
            state = CANCELLED if self._cancelled else FAILED
            outcome = None if self._cancelled else error
        except BaseException as error:
            state = FAILED
            outcome = error
        else:
            if self._cancelled:
                state = CANCELLED
                outcome = None
        self._finish(state, outcome, party)
        if observers:
            scheduler.observe("ended", self)  # type: ignore[union-attr]

    def _finish(self, state: RequestState, outcome: Any, party: Party) -> None:
        """Publish the outcome, run the callbacks, wake those who wait - in this order."""
        if state is not FINISHED and self._name is None:
            self._name = self._describe_work()  # the workload goes, the name stays for reports
        if state is FAILED:
            outcome = Failure(keep_error(outcome, self._scheduler), self._name)
        self._workload = None
        self._context = None
        self._out = NOTHING
        with mutex:
            if self._state > RequestState.SUSPENDED:
                return  # its scheduler was closed and gave up on it; the waiters have been told
            # The outcome before the state: readers look at the state first, without the lock.
            self._outcome = outcome
            self._move(state)
            parent = self._parent
            if parent is not None:
                self._parent = None
                links = parent._links
                # Checked, since the parent may have ended before its child.
                if links is not None and links.children is not None:
                    links.children.discard(self)
            links = self._links
            if links is None:
                self._links = DELIVERED
                return
            links.deliverer = party
        self._deliver(links, party)

    def _finish_interrupted(self, error: BaseException, party: Party) -> None:
        """Bring to its end what a Ctrl-C tore out of `_execute`, so that nobody waits for ever."""
        if not self._state.is_terminal:
            self._finish(FAILED, error, party)
        elif self._links is not DELIVERED and self._links is not None:
            self._deliver(self._links, party)

    def _deliver(self, links: Links, party: Party) -> None:
        """Run the callbacks, then wake the waiters."""
        outer = party.request
        party.request = None
        try:
            while True:
                with mutex:
                    callbacks = links.callbacks
                    links.callbacks = None
                    if not callbacks:
                        # In the same section as the look for further callbacks: one that is subscribed
                        # later sees DELIVERED and is called by its subscriber.
                        self._links = DELIVERED
                        links.deliverer = None
                        waiters = list(links.waiters)
                        break
                for outcome, function in callbacks:
                    self._call_back(outcome, function)
        finally:
            party.request = outer
        for waiter in waiters:
            waiter.decide(Verdict.WOKEN)

    # -------------------------------------------------------------------------------------------- other worlds

    @classmethod
    def from_value(cls, value: T, *, name: str | Callable[[], str] | None = None) -> Request[T]:
        """Return a request that is finished already.

        It is a real one: callbacks are called, pools take it, `write_into` copies by ``destination[...] =``.

        Examples
        --------
        >>> Request.from_value(3).state.name, Request.from_value(3).wait()
        ('FINISHED', 3)
        """
        from ._value import ValueRequest

        return ValueRequest(value, name=name)

    @classmethod
    def from_future(cls, future: concurrent.futures.Future[T], *, name: str | None = None) -> Request[T]:
        """Return a request that ends when a `concurrent.futures.Future` does; no worker is held meanwhile.

        Cancelling the request cancels the future.
        """
        from ._bridge import request_of_future

        return request_of_future(future, name)

    def future(self) -> concurrent.futures.Future[T]:
        """Submit it and return a `concurrent.futures.Future` for its outcome.

        Cancelling the future cancels the request unless somebody else waits for it.
        """
        from ._bridge import future_of_request

        return future_of_request(self)

    def __await__(self) -> Generator[Any, None, T]:
        """Submit it and await its result in asyncio; cancelling the task cancels an unshared request."""
        from ._bridge import await_request

        return await_request(self)


def finish_torn(party: Party) -> None:
    """Bring to their ends the requests that were torn out of `Request._execute`, so that nobody waits for ever."""
    while party.torn:
        request, error = party.torn.pop()
        request._finish_interrupted(error, party)


def current_request() -> Request[Any] | None:
    """Return the request whose workload calls this, or None outside any."""
    return current_party().request


def checkpoint() -> None:
    """Raise `CancelledError` if the request that calls this was cancelled; cheap enough for inner loops.

    Examples
    --------
    >>> checkpoint()    # outside a request there is nothing to cancel
    """
    party = current_party()
    request = party.request
    if request is not None and request._cancelled:
        raise CancelledError(f"{request.describe()} was cancelled")
    if type(party) is Fiber:
        party.carrier.checkpoint(party)
