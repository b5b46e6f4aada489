"""The inner side of a request: who may run it, running it, and how its end reaches everybody.

Nothing here takes the mutex on the way of a request that nobody has subscribed to: the two decisions on which
threads compete are single atomic steps of the interpreter, each in one function,

* `_claim`: who runs it (workers, thieves, waiters, or a cancellation that makes running it unnecessary),
* `_take_end`: who ends it (the one that ran it, or a scheduler that gave up on it),

and `_finish` and `_hang_on` agree on late subscribers by writing first and reading then, each in the other
order. A build without a GIL would put a lock into these four places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from lazyflow_core.errors import CancelledError
from lazyflow_core.foreign import is_interrupt, log_error, shown

from ._failure import FOR_ASYNCIO, keep_error, refuse_for_asyncio
from ._links import DELIVERED, Failure, Links, logger, name_of
from ._mutex import mutex
from ._party import Fiber, Interest, Party, Verdict, Waiter, WaiterHost, current_party
from ._scheduler import no_scheduler
from ._state import MOVES_TO, NOTHING, Priority, RequestState
from ._stop import stop_flags, watched
from ._unique import Unique

if TYPE_CHECKING:
    from ._scheduler import Scheduler

__all__ = ["RequestCore", "Scope", "finish_torn"]

T = TypeVar("T")

NEW = RequestState.NEW
QUEUED = RequestState.QUEUED
RUNNING = RequestState.RUNNING
FINISHED = RequestState.FINISHED
FAILED = RequestState.FAILED
CANCELLED = RequestState.CANCELLED
TO_RUNNING = MOVES_TO[RUNNING]
TO_FINISHED = MOVES_TO[FINISHED]


class Scope(Protocol):
    """To what a started request belongs: the request that started it, or a pool."""

    #: Requests without outcome that were started by this one; None if there never were any, it is over, or it
    #: is a pool, which wants to be told.
    _children: dict[Any, None] | None

    @property
    def _has_roots(self) -> bool:
        """Whether what belongs to it has no parent request, so that the oldest goes first."""
        return False

    def _child_ended(self, child: Any) -> None:
        """Hear that a request which belongs to this scope has its outcome."""


class RequestCore(Generic[T], Unique):
    """Fields and inner methods of a request; `Request` adds what users call."""

    # Slots, not a dict, and few: a million pending requests are 300 MB with 300 bytes each, and the cyclic
    # collector looks into every slot of every one several times.
    __slots__ = (
        "__weakref__",
        "_cancelled",
        "_children",
        "_claimable",
        "_context",
        "_host",
        "_links",
        "_name",
        "_nesting",
        "_outcome",
        "_parent",
        "_priority",
        "_scheduler",
        "_state",
        "_ticket",
        "_waiting",
        "_workload",
    )

    _instead = "Send what it is to compute, and make a request of that there."
    #: The right to run what is queued; set by `submit`, taken by deleting it.
    _claimable: bool
    #: How many requests wait for it, one for the next; there once it has waited. See `check_nesting`.
    _nesting: int
    #: Who runs it inline and so waits for it. There only meanwhile.
    _host: Interest | None
    _has_roots = False

    def __init__(
        self,
        workload: Callable[..., T] | None,
        *,
        name: str | Callable[[], str] | None = None,
        scheduler: Scheduler | None = None,
        priority: Priority | None = None,
    ) -> None:
        #: There until somebody ends the request, which is to delete it: see `_take_end`. Besides, a closure
        #: keeps arrays alive.
        self._workload = workload
        self._name = name
        #: None until somebody starts it and none was given.
        self._scheduler = scheduler
        if priority is not None and type(priority) is not Priority:
            raise ValueError(f"priority is {priority!r}; it must be one of {', '.join(map(repr, Priority))}")
        self._priority = priority
        #: Whoever writes it takes it out of `MOVES_TO`.
        self._state = NEW
        #: The right to start it, by submitting or by running it; taken by deleting it, once.
        self._ticket = True
        # Not one slot for _ticket and _claimable: a second submission that takes the ticket, only to find
        # that it came second, would make a worker pass the queued request over.
        #: Until the end where to compute into, or `NOTHING`; then the result (FINISHED), a `Failure`
        #: (FAILED), a reason or None (CANCELLED). Written before the state says so.
        self._outcome: Any = NOTHING
        #: None, a `Links` or `DELIVERED`. Made under the mutex.
        self._links: Links | None = None
        #: The submitter's `Context`, from submit to the end; None if that has no variables. `NOTHING` before:
        #: what is waited for directly sees the variables of its waiter.
        self._context: Any = NOTHING
        #: Somebody asked it to stop and was not refused. Never reset.
        self._cancelled = False
        #: What this request waits for now: a `Waiter`, a request it runs inline, or None. Written by the
        #: party that runs it.
        self._waiting: Any = None
        #: The request among whose children this one stands, or the pool that counts it among its members;
        #: from submit to outcome.
        self._parent: Scope | None = None
        #: Requests submitted by this one that have no outcome yet, and pools with such members; cancellation
        #: spreads to them. Made by the party that runs it. Adding, removing and copying are single steps. A
        #: dict, for its order: that of a set hangs on addresses, and no seed would replay.
        self._children: dict[RequestCore[Any] | Scope, None] | None = None
        if scheduler is not None:
            # Not isinstance: that would be one part in forty of what a request costs.
            try:
                scheduler.is_open  # noqa: B018
            except AttributeError:
                raise no_scheduler(self.describe(), scheduler) from None

    # ------------------------------------------------------------------------------- overridden by `Request`

    def _run(self, out: Any) -> T:
        raise NotImplementedError

    def _describe_work(self) -> str:
        raise NotImplementedError

    def describe(self) -> str:
        """Return one line for reports."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------------- state

    def _move(self, state: RequestState) -> None:
        """Change the state; the caller runs the request. Where every request passes it is written in line."""
        self._state = MOVES_TO[state][self._state]

    def _claim(self) -> bool:
        """Take the right to run it; exactly one caller ever gets it."""
        state = self._state
        # Deleting a slot is one step of the interpreter: of two threads one gets the AttributeError.
        try:
            if state is QUEUED:
                del self._claimable
            elif state is NEW:
                del self._ticket
            else:
                return False
        except AttributeError:
            return False  # claimed, or just being submitted by somebody else
        self._state = TO_RUNNING[state]
        return True

    def _take_end(self) -> bool:
        """Take the right to end it; exactly one caller ever gets it."""
        try:
            del self._workload
        except AttributeError:
            return False
        return True

    def _adopt(self, parent: RequestCore[Any]) -> None:
        """Take scheduler and priority of the request that starts this one, unless they were given."""
        if self._scheduler is None:
            self._scheduler = parent._scheduler
        if self._priority is None:
            self._priority = parent._priority

    # ----------------------------------------------------------------------------------------------- running

    def _execute_inline(self, party: Party, host: Interest | None = None) -> None:
        """Run the claimed request on the stack of ``party``, which waits for it.

        ``host`` is who counts as waiting when it comes to cancelling; None: the one who runs on ``party``.
        """
        me = party.request
        edge: WaiterHost = party if me is None else me
        depth = party.depth
        fiber = party if type(party) is Fiber else None
        outer_context = None if fiber is None else fiber.gr_context
        try:
            context = self._context
            if fiber is not None:
                if context is NOTHING:
                    # A copy: what the workload sets does not leak into the waiter.
                    context = None if outer_context is None else copy_context()
                if context is not outer_context:
                    fiber.gr_context = context
            self._host = edge if host is None else host
            edge._waiting = self
            party.request = self  # type: ignore[assignment]
            party.depth = depth + 1
            # The edge was written before this is read; `cancel` writes this before it follows the edge. So a
            # cancellation of the waiter that came after its last look reaches what it waits for either way.
            if edge._cancelled:
                self.cancel()  # type: ignore[attr-defined]
            if fiber is not None:
                # Not Context.run: it would put a C call on the stack, which is copied at every switch.
                self._execute(party)
            else:
                (copy_context() if context is NOTHING else context or Context()).run(self._execute, party)
        finally:
            party.depth = depth
            party.request = me
            edge._waiting = None
            self._host = None
            if fiber is not None:
                fiber.gr_context = outer_context

    def _tear(self, error: BaseException, party: Party) -> None:
        """Note that an exception of our own code came out of it after it was claimed; end it if that can be.

        A Ctrl-C between two statements of ours, no memory, or the end of the stack. In the last case there is
        no room to end the request here; the outermost level does it.
        """
        party.torn.append((self, error))  # type: ignore[arg-type]
        if party.request is None or type(error) is not RecursionError:
            finish_torn(party)

    def _execute(self, party: Party) -> None:
        """Run the claimed request to its outcome. Does not raise, whatever the workload does."""
        scheduler = self._scheduler
        observer = scheduler if scheduler is not None and scheduler.observers else None
        if observer is not None:
            observer.observe("started", self)  # type: ignore[arg-type]
        # One of the two places that catch BaseException: a SystemExit in a workload is the workload's
        # failure, not the end of the worker and of everybody who waits.
        try:
            if self._cancelled:
                # The cancellation came between the claim and here; nothing of it runs.
                outcome: Any = None
            elif self._outcome is NOTHING and self._workload is not None:
                outcome = self._workload()
                if type(outcome) in FOR_ASYNCIO:
                    refuse_for_asyncio(outcome)
            else:
                outcome = self._run(self._outcome)
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
        if state is FINISHED:
            # The same as `_finish`, without a call and a look at what cannot be.
            try:
                del self._workload
            except AttributeError:
                pass
            else:
                self._context = None
                self._outcome = outcome
                self._state = TO_FINISHED[self._state]
                if self._cancelled:  # asked at this very moment
                    watched.pop(self, None)
                self._children = None
                parent = self._parent
                if parent is not None:
                    children = parent._children
                    if children is not None:
                        children.pop(self, None)
                    else:
                        parent._child_ended(self)
                    self._parent = None
                links = self._links
                if links is not None:
                    self._deliver(links, party)
        else:
            self._finish(state, outcome, party)
        if observer is not None:
            observer.observe("ended", self)  # type: ignore[arg-type]

    # ------------------------------------------------------------------------------------------------ ending

    def _finish(self, state: RequestState, outcome: Any, party: Party) -> None:
        """Publish the outcome, run the callbacks, wake those who wait - in this order."""
        if state is not FINISHED and self._name is None:
            self._name = name_of(self._describe_work)  # the workload goes, the name stays for reports
        # Deleted here and not by calling _take_end: this is on the way of every request.
        try:
            del self._workload
        except AttributeError:
            return  # its scheduler was closed and gave up on it; the waiters have been told
        if state is FAILED:
            outcome = Failure(keep_error(outcome, self._scheduler), self._name)
        self._context = None
        # The outcome before the state: readers look at the state first.
        self._outcome = outcome
        self._state = MOVES_TO[state][self._state]
        if self._cancelled:
            watched.pop(self, None)
        self._children = None
        parent = self._parent
        if parent is not None:
            children = parent._children
            if children is not None:
                children.pop(self, None)
            else:
                parent._child_ended(self)
            self._parent = None  # last: `_finish_interrupted` tells the parent again if it was not told
        # The state was written before the links are read; `_hang_on` writes the links before it reads the
        # state. So whoever hung something on this request is seen here, or sees that it is over.
        links = self._links
        if links is not None:
            self._deliver(links, party)

    def _child_ended(self, child: Any) -> None:
        """See `Scope`; this request has ended before its child."""

    def _is_settled(self) -> bool:
        """Return whether it is over, all callbacks have run, and waiters need not wait."""
        links = self._links
        return self._state > RequestState.SUSPENDED and (links is None or links is DELIVERED)

    def _hang_on(self) -> Links | None:
        """Return the links to enter something into, or None if it is over. The caller holds the mutex.

        `_check_end` must follow, without the mutex, when something was entered.
        """
        links = self._links
        if links is DELIVERED or (links is None and self._state > RequestState.SUSPENDED):
            return None
        if links is None:
            links = self._links = Links()
        return links

    def _check_end(self, links: Links) -> None:
        """Deliver to what was just entered if the request ended meanwhile without having seen it."""
        if self._state > RequestState.SUSPENDED:
            self._deliver(links, current_party())

    def _deliver(self, links: Links, party: Party) -> None:
        """Run the callbacks, then wake the waiters; do nothing if somebody else is doing it."""
        is_mine = False
        rest: Iterator[Any] = iter(())
        waiters: list[Waiter] = []
        outer = party.request
        # A Ctrl-C comes between any two statements. `_finish_interrupted` goes on with what is left then, if
        # it is let in; whom the last section chose is woken here.
        try:
            party.request = None
            while True:
                with mutex:
                    if not is_mine:
                        is_mine = links.deliverer is None and self._links is not DELIVERED
                        if not is_mine:
                            return
                        links.deliverer = party
                    if not links.callbacks:
                        waiters = list(links.waiters)
                        # In the same section as the look for further callbacks: one that is subscribed
                        # later sees DELIVERED and is called by its subscriber.
                        self._links = DELIVERED
                        links.deliverer = None
                        break
                    rest, links.callbacks = iter(links.callbacks), None  # in one step
                for kind, function in rest:
                    self._call_back(kind, function)
            for waiter in waiters:
                waiter.decide(Verdict.WOKEN)  # which may call back, too: a future does
        except BaseException:
            with mutex:
                if is_mine and links.deliverer is party:
                    links.callbacks = [*rest, *(links.callbacks or ())]
                    links.deliverer = None
            if self._links is DELIVERED:
                for waiter in waiters:
                    waiter.decide(Verdict.WOKEN)
            raise
        finally:
            party.request = outer

    def _call_back(self, kind: RequestState | None, function: Callable[..., object]) -> None:
        state = self._state
        try:
            if kind is None:
                function(self)
            elif kind is state:
                if state is FINISHED:
                    function(self._outcome)
                elif state is FAILED:
                    self._outcome.retrieved = True
                    function(self._outcome.error)
                else:
                    function()
        except BaseException as error:
            # Also a SystemExit: it would end this thread, and nobody would tell the others.
            if is_interrupt(error):
                raise
            log_error(logger, "a callback of %s raised: %s", self.describe(), shown(function), error=error)

    def _finish_interrupted(self, error: BaseException, party: Party) -> None:
        """Bring to its end what a Ctrl-C tore out of `_execute`, so that nobody waits for ever."""
        if not self._state.is_terminal:
            self._workload = None
            self._finish(FAILED, error, party)
            return
        parent = self._parent
        if parent is not None:
            parent._child_ended(self)
            self._parent = None
        if self._links is not None:
            self._deliver(self._links, party)

    def _wait_dependencies(self) -> tuple[Any, ...]:
        """Return who must go on before waiters of this request are woken, for the wait-for graph."""
        if self._is_settled():
            return ()
        links = self._links
        if links is not None and links.deliverer is not None:
            return (links.deliverer,)
        return (self,)

    def _interrupt(self) -> None:
        """Do more about a cancellation than the request notices by itself at its next checkpoint."""
        flag = stop_flags.get(self)
        if flag is not None:
            flag[0] = 1


def finish_torn(party: Party) -> None:
    """Bring to their ends the requests that were torn out of `RequestCore._execute`."""
    torn = party.torn
    while torn:
        request, error = torn[-1]
        request._finish_interrupted(error, party)
        torn.remove((request, error))
