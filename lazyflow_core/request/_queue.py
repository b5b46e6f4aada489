"""`WaitQueue`: parties that wait for the same thing, served in the order they came.

The common part of locks, conditions, semaphores, events and pools. First come, first served, without
priorities: a queue by priority starves somebody or needs a second queue against that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from lazyflow_core.errors import CancelledError

from ._party import Party, Verdict, Waiter
from ._wait import enter, give_up, park

if TYPE_CHECKING:
    from ._scheduler import Scheduler

__all__ = ["WaitQueue", "check_not_cancelled"]


class WaitQueue:
    """The waiters of one thing. All methods but `park` and `give_up` are called with the mutex held.

    A wait is written like this, so that it leaves nothing behind wherever an exception comes out of it::

        waiter = None
        try:
            with mutex:
                if <it is there>:
                    return
                waiter = Waiter(party, <what is waited for>)
                queue.enter(waiter)
            verdict = queue.park(waiter)
        except BaseException:
            if queue.give_up(waiter):
                <hand on what was handed over>
            raise
    """

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        # Not a deque: whoever gives up leaves from the middle. Not a dict: taking the first of a dict whose
        # front was emptied is O(n).
        self._waiters: OrderedDict[Waiter, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiters)

    def enter(self, waiter: Waiter) -> None:
        """Stand at the end of the queue; `park` must follow as soon as the mutex is free."""
        enter(waiter)
        self._waiters[waiter] = None

    def park(self, waiter: Waiter, scheduler: Scheduler | None = None) -> Verdict:
        """Wait for the verdict."""
        return park(waiter, self._leave, scheduler)

    def give_up(self, waiter: Waiter | None) -> bool:
        """Leave after an exception; say whether what is waited for had been handed over."""
        return waiter is not None and give_up(waiter, self._leave)

    def wake_one(self) -> Waiter | None:
        """Wake the first who is still waiting and return its waiter, or None if there is nobody.

        Whoever gave up a moment ago is passed over; what the caller hands over goes to somebody who takes it.
        """
        waiters = self._waiters
        while waiters:
            waiter = next(iter(waiters))
            # It leaves after the decision: torn in between, it is passed over by the next.
            is_woken = waiter.decide(Verdict.WOKEN)
            waiters.pop(waiter, None)
            if is_woken:
                return waiter
        return None

    def hand_over(self, settle: Callable[[Waiter | None], object]) -> None:
        """Wake the first who is still waiting and call ``settle`` with its waiter, with None if nobody is.

        For what must not get lost: an exception on the way, such as a Ctrl-C, goes on after all is done.
        ``settle`` is called twice, with the same, if it comes in the middle of it.
        """
        heir: Waiter | None = None

        def go_on() -> None:
            nonlocal heir
            waiters = self._waiters
            while heir is None or heir.verdict is not Verdict.WOKEN:
                heir = next(iter(waiters), None)
                if heir is None:
                    break
                heir.decide(Verdict.WOKEN)
                waiters.pop(heir, None)
            else:
                waiters.pop(heir, None)
            settle(heir)

        try:
            go_on()
        except BaseException:
            go_on()
            raise

    def wake_all(self) -> None:
        """Wake everybody."""
        while self.wake_one() is not None:
            pass

    def close(self) -> None:
        """Tell everybody that there is nothing to wait for any more."""
        for waiter in list(self._waiters):
            waiter.decide(Verdict.CLOSED)

    def _leave(self, waiter: Waiter) -> None:
        self._waiters.pop(waiter, None)


def check_not_cancelled(party: Party) -> None:
    """Raise `CancelledError` if the request that runs on ``party`` was cancelled."""
    request = party.request
    if request is not None and request._cancelled:
        raise CancelledError(f"{request.describe()} was cancelled")
