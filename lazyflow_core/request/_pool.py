"""`RequestPool`: a scope that requests cannot outlive, and `gather`, its shortest use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lazyflow_core.errors import RequestCancelledError, RequestError, RequestStateError

from ._failure import describe_failure, waiter_error
from ._mutex import mutex
from ._party import Fiber, Party, Waiter, current_party, current_stack
from ._queue import WaitQueue, check_not_cancelled
from ._request import Request
from ._scheduler import Scheduler, default_scheduler, no_scheduler
from ._state import MAX_INLINE_DEPTH, RequestState
from ._unique import Unique
from ._wait import was_woken

if TYPE_CHECKING:
    from typing import Self

__all__ = ["RequestPool", "gather"]

FAILED = RequestState.FAILED

#: What a party may wait for at a pool, beside room and the next result.
ALL = "all members of"

T = TypeVar("T")
Item = TypeVar("Item")


class RequestPool(Generic[T], Unique):
    """Requests that are waited for together.

    Leaving the ``with`` block waits for all members. The first that fails cancels the others; its error is
    raised when every one of them has ended, so nothing of the pool runs afterwards. If others failed before
    the cancellation reached them, the error says so in its notes, and `failures` has them all. If the block
    itself raises, the members are cancelled and joined, too; so they are if the request that owns the pool is
    cancelled, which sees its `CancelledError` at the end of the block at the latest. A member that is
    cancelled from outside is no error.

    Parameters
    ----------
    max_in_flight
        Members that may be unfinished at the same time. `submit` waits while there are as many; a generator
        of a million blocks can be fed to it. None: no limit.
    name
        For reports.
    scheduler
        For members that have none. Threads are the scheduler's: however pools are nested, no more
        workloads run at once than it has workers.
    keep_results
        False: forget each member as soon as it has ended; there is nothing to iterate over then.

    Examples
    --------
    >>> with RequestPool() as pool:
    ...     for k in range(4):
    ...         _ = pool.submit(lambda k=k: k * k)
    ...     sorted(pool)
    [0, 1, 4, 9]

    A million blocks, never more than eight of them in memory:

    >>> with RequestPool(max_in_flight=8) as pool:
    ...     total = sum(pool.map(lambda block: block % 10, range(1000)))
    >>> total
    4500
    """

    def __init__(
        self,
        max_in_flight: int | None = None,
        *,
        name: str | None = None,
        scheduler: Scheduler | None = None,
        keep_results: bool = True,
    ) -> None:
        if max_in_flight is not None and (not isinstance(max_in_flight, int) or max_in_flight < 1):
            raise ValueError(f"max_in_flight is {max_in_flight!r}; give 1 or more, or None for no limit")
        if scheduler is not None and not isinstance(scheduler, Scheduler):
            raise no_scheduler("RequestPool", scheduler)
        self._max_in_flight = max_in_flight
        self._name = name
        self._scheduler = scheduler
        self._keeps_results = keep_results
        # All below is written with the mutex held.
        #: Members without outcome, in order of submission.
        self._unfinished: dict[Request[T], None] = {}
        #: Members with an outcome that nobody has taken yet, in order of completion.
        self._finished: deque[Request[T]] = deque()
        #: The members that failed, the first one first.
        self._failed: list[Request[T]] = []
        self._is_cancelled = False
        self._is_left = False
        #: Whether it takes members: nothing of the three above.
        self._is_open = True
        #: While there are unfinished members, the request among whose children the pool stands for them: the
        #: one that submitted the first of these. None: a foreign thread did.
        self._owner: Request[Any] | None = None
        #: Who waits for room or the next result, and who for all members; None: nobody. Waking is a hint and
        #: hands nothing over: whoever wakes looks again.
        self._for_some: WaitQueue | None = None
        self._for_all: WaitQueue | None = None

    #: A pool is a `Scope`: told of the end of members that it started itself. The others have a callback.
    _children: dict[Any, None] | None = None

    @property
    def _has_roots(self) -> bool:
        return self._owner is None

    # --------------------------------------------------------------------------------------------- the scope

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        if error is not None:
            self.cancel()
        try:
            self._wait_for_all(self._leave, shield=error is not None)
        except BaseException:
            # Cancelled, or Ctrl-C, while joining: the members go first.
            self.cancel()
            self._wait_for_all(self._leave, shield=True)
            raise
        finally:
            self._is_left = True
            self._is_open = False
        if error is None:
            self._raise_failures()
        elif self._failed and error.__cause__ is self._failed[0]._outcome.error:
            self._note_others(error)  # raised by `submit` or a result, while others could still fail

    def join(self) -> None:
        """Wait for all members there are; more may be submitted afterwards.

        Raises
        ------
        RequestError
            The error of the first member that failed, after all have ended.
        RequestCancelledError
            If the pool was cancelled.
        """
        self._wait_for_all(self._is_empty, shield=False)
        self._raise_failures()
        if self._is_cancelled:
            raise RequestCancelledError(f"{self.describe()} was cancelled")

    def cancel(self) -> None:
        """Cancel all members and accept no more. Members somebody else waits for go on."""
        with mutex:
            self._is_open = False
            self._is_cancelled = True
            members = list(self._unfinished)
            self._wake_some()
        for member in members:
            member.cancel()

    # ------------------------------------------------------------------------------- work in, results out

    def submit(self, work: Callable[[], T] | Request[T]) -> Request[T]:
        """Add a workload or request and start it; wait first while the pool is full.

        Raises
        ------
        RequestError
            The error of a member that failed meanwhile.
        RequestCancelledError
            If the pool was cancelled.
        RequestStateError
            If its block was left.
        """
        request = work if isinstance(work, Request) else Request(work, scheduler=self._scheduler)
        limit = self._max_in_flight
        unfinished = self._unfinished
        try:
            party: Party = current_stack().lazyflow_party  # type: ignore[attr-defined]
        except AttributeError:
            party = current_party()
        me = party.request
        try:
            while True:
                with mutex:
                    if (
                        self._is_open
                        and (limit is None or len(unfinished) < limit)
                        and (me is None or not me._cancelled)
                    ):
                        if not unfinished:
                            self._owner = me
                            if me is not None:
                                self._stand_among_children(me)
                        unfinished[request] = None
                        break
                check_not_cancelled(party)
                self._check_open()  # not with the mutex: an error asks for names, which may run any code
                self._wait("room in", self._has_room, party)
            # The owner is read without the mutex: it changes only while there are no members. What somebody
            # has subscribed to runs its callbacks before the pool hears of the end, and what somebody else
            # starts does not tell us: both take a callback.
            if request._links is not None or me is not self._owner or not request._start(party, self):
                request.on_done(self._child_ended)
                request.submit()
        except BaseException:
            # A closed scheduler; or Ctrl-C, between any two of the statements above, also right after the
            # request became a member. Then perhaps nobody would take it out again.
            if request in unfinished:
                request.cancel()
                if request._is_settled() or request._state is RequestState.NEW:
                    self._child_ended(request, again=True)
            raise
        return request

    def as_completed(self) -> Iterator[Request[T]]:
        """Yield the members in the order in which they end; raise the first error.

        Ends when every member so far was yielded.
        """
        while True:
            member = self._next_completed()
            if member is None:
                return
            yield member

    def __iter__(self) -> Iterator[T]:
        """Yield the results in the order in which they come."""
        for member in self.as_completed():
            if member._state is RequestState.FINISHED:
                yield member._outcome

    def map(self, function: Callable[[Item], T], items: Iterable[Item]) -> Iterator[T]:
        """Yield ``function(item)`` for all items, in the order in which the results come.

        Items are taken, and results kept, at most ``max_in_flight`` at a time (twice the number of workers
        if that is None).
        """
        limit = self._max_in_flight
        if limit is None:
            limit = 2 * (self._scheduler or default_scheduler()).worker_count
        remaining = iter(items)
        is_exhausted = False
        while True:
            while not is_exhausted and len(self._unfinished) + len(self._finished) < limit:
                try:
                    item = next(remaining)
                except StopIteration:
                    is_exhausted = True
                else:
                    self.submit(partial(function, item))
            member = self._next_completed()
            if member is None:
                if is_exhausted:
                    return
            elif member._state is RequestState.FINISHED:
                yield member._outcome

    @property
    def failures(self) -> tuple[Request[T], ...]:
        """The members that have failed so far, in the order in which they did."""
        return tuple(self._failed)

    def __len__(self) -> int:
        """Return how many members have no outcome yet."""
        return len(self._unfinished)

    def __bool__(self) -> bool:
        return True

    def describe(self) -> str:
        """Return name and number of unfinished members, for reports."""
        name = f" {self._name!r}" if self._name else ""
        return f"RequestPool{name} with {len(self._unfinished)} unfinished"

    def __repr__(self) -> str:
        return f"<{self.describe()}>"

    # ----------------------------------------------------------------------------------------------- inside

    def _stand_among_children(self, owner: Request[Any]) -> None:
        """Let a cancellation of the owner find the members. The caller holds the mutex."""
        if owner._children is None:
            owner._children = {}
        owner._children[self] = None

    def _leave_children(self, owner: Request[Any]) -> None:
        """Be forgotten by the owner, which may have many pools one after the other. As above."""
        self._owner = None
        children = owner._children
        if children is not None:
            children.pop(self, None)

    def _child_ended(self, member: Request[T], again: bool = False) -> None:
        """Hear that a member has its outcome; ``again`` if an exception may have torn the first time."""
        siblings: list[Request[T]] | None = None
        unfinished = self._unfinished
        with mutex:
            # First among the results, then out of the members: whoever sees none left finds all results.
            if member._state is FAILED:
                self._is_open = False
                if member not in self._failed:
                    self._failed.append(member)
                unfinished.pop(member, None)
                if self._failed[0] is member:
                    siblings = list(unfinished)
            elif member in unfinished:
                if self._keeps_results and not (again and member in self._finished):
                    self._finished.append(member)
                del unfinished[member]
            if not unfinished:
                owner = self._owner
                if owner is not None:
                    self._leave_children(owner)
                queue = self._for_all
                if queue is not None:
                    self._for_all = None
                    queue.wake_all()
            if self._for_some is not None:
                self._wake_some()
        if siblings:
            for sibling in siblings:
                sibling.cancel()

    def _wake_some(self) -> None:
        """Let those who wait for room or a result look again. The caller holds the mutex."""
        queue = self._for_some
        if queue is not None:
            self._for_some = None
            queue.wake_all()

    def _next_completed(self) -> Request[T] | None:
        while True:
            try:
                party: Party = current_stack().lazyflow_party  # type: ignore[attr-defined]
            except AttributeError:
                party = current_party()
            me = party.request
            if me is not None and me._cancelled:
                check_not_cancelled(party)
            if self._failed:
                self._raise_failure()
            # Without the mutex: to take the first is one step, which one of all who try gets.
            try:
                return self._finished.popleft()
            except IndexError:
                pass
            with mutex:
                if not (self._unfinished or self._finished or self._failed):
                    return None
                is_over = self._is_cancelled and not self._has_result()
            if is_over:
                raise RequestCancelledError(f"{self.describe()} was cancelled")
            self._wait("the next result of", self._has_next, party)

    # What one may wait for; asked with the mutex held.

    def _has_room(self) -> bool:
        limit = self._max_in_flight
        return limit is None or len(self._unfinished) < limit or self._is_cancelled or bool(self._failed)

    def _has_result(self) -> bool:
        return bool(self._finished or self._failed)

    def _has_next(self) -> bool:
        return self._has_result() or not self._unfinished or self._is_cancelled

    def _is_empty(self) -> bool:
        return not self._unfinished

    def _leave(self) -> bool:
        # In the same section as the look: whoever submits in another thread is too late, or joined.
        if self._unfinished:
            return False
        self._is_left = True
        self._is_open = False
        return True

    def _wait_for_all(self, is_there: Callable[[], bool], *, shield: bool) -> None:
        party = current_party()
        if not shield:
            check_not_cancelled(party)
            if type(party) is Fiber:
                self._help(party)
        while not self._wait(ALL, is_there, party, shield=shield):
            pass
        if not shield:
            check_not_cancelled(party)  # the cancellation may be what has ended the members

    def _wait(self, part: str, is_there: Callable[[], bool], party: Party, *, shield: bool = False) -> bool:
        """Return True if it is there, else wait for the next change of the pool that may have brought it."""
        waiter = queue = None
        try:
            with mutex:
                if is_there():
                    return True
                if part == ALL:
                    queue = self._for_all
                    if queue is None:
                        queue = self._for_all = WaitQueue()
                else:
                    queue = self._for_some
                    if queue is None:
                        queue = self._for_some = WaitQueue()
                # Who has to move while a foreign thread waits. There is a member, or it would not wait.
                mover = self._scheduler or next(iter(self._unfinished))._scheduler
                waiter = Waiter(party, _Part(self, part), None, shield, part != ALL)
                queue.enter(waiter)
            verdict = queue.park(waiter, mover)
        except BaseException:
            if queue is not None:
                queue.give_up(waiter)
            raise
        was_woken(waiter, verdict)
        return False

    def _help(self, party: Fiber) -> None:
        """Run members that have not begun inside the request that waits for all of them anyway."""
        if party.depth >= MAX_INLINE_DEPTH:
            return
        me = party.request
        consent = _Consent(self, party)
        with mutex:
            members = list(self._unfinished)
        for member in members:
            party.carrier.checkpoint(party)
            if member._run_inside(party, consent) and me is not None and me._cancelled:
                return

    def _check_open(self) -> None:
        if self._is_left:
            raise RequestStateError(f"{self.describe()}: its block was left; make a new pool")
        self._raise_failure()
        if self._is_cancelled:
            raise RequestCancelledError(f"{self.describe()} was cancelled and takes no more work")

    def _raise_failure(self) -> None:
        __tracebackhide__ = True
        if self._failed:
            raise waiter_error(self._failed[0], current_party().request)

    def _raise_failures(self) -> None:
        __tracebackhide__ = True
        try:
            self._raise_failure()
        except RequestError as error:
            self._note_others(error)
            raise

    def _note_others(self, error: BaseException) -> None:
        """Say in the error of the first member that failed that others failed as well."""
        told = {id(self._failed[0]._outcome.error)}
        for member in self._failed[1:]:
            failure = member._outcome
            failure.retrieved = True
            if id(failure.error) not in told:  # else both waited for the same that failed
                told.add(id(failure.error))
                error.add_note(f"also failed: {describe_failure(member, failure.error)}")


class _Part:
    """What a party waits for at a pool."""

    __slots__ = ("pool", "what")

    def __init__(self, pool: RequestPool[Any], what: str) -> None:
        self.pool = pool
        self.what = what

    def describe(self) -> str:
        return f"{self.what} {self.pool.describe()}"

    def _movers(self) -> dict[Request[Any], None]:
        return self.pool._unfinished

    def _wait_dependencies(self) -> tuple[Any, ...]:
        # Room and the next result come from any member, so no single one closes a circle.
        return tuple(self.pool._unfinished) if self.what == ALL else ()


class _Consent:
    """Stands for a pool's owner who runs a member inline but agrees to its cancellation by the pool."""

    __slots__ = ("_host", "_pool")

    def __init__(self, pool: RequestPool[Any], party: Party) -> None:
        self._pool = pool
        self._host = party.request

    @property
    def _cancelled(self) -> bool:
        pool = self._pool
        owner = self._host
        return pool._is_cancelled or bool(pool._failed) or (owner is not None and owner._cancelled)


def gather(*work: Callable[[], T] | Request[T]) -> list[T]:
    """Run several workloads or requests at the same time and return their results in this order.

    The first failure cancels the rest, waits for their end, and is raised.

    Examples
    --------
    >>> gather(lambda: 1, lambda: 2, Request(lambda: 3))
    [1, 2, 3]
    """
    __tracebackhide__ = True
    if len(work) == 1:
        only = work[0]
        return [(only if isinstance(only, Request) else Request(only)).wait()]
    with RequestPool[T](keep_results=False, name="gather") as pool:
        members = [pool.submit(each) for each in work]
    return [member.wait() for member in members]
