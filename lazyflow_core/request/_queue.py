"""`WaitQueue`: parties that wait for the same thing, served in the order they came.

The common part of locks, conditions, semaphores, events and pools. First come, first served, without
priorities: a queue by priority starves somebody or needs a second queue against that.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from lazyflow_core.errors import CancelledError

from ._party import Party, Verdict, Waiter
from ._wait import enter, park

if TYPE_CHECKING:
    from ._scheduler import Scheduler

__all__ = ["WaitQueue", "check_not_cancelled"]


class WaitQueue:
    """The waiters of one thing. All methods but `park` are called with the mutex held.

    Parameters
    ----------
    target
        What is waited for; has ``describe()`` and ``_wait_dependencies()``.
    """

    __slots__ = ("_target", "_waiters")

    def __init__(self, target: Any) -> None:
        self._target = target
        # Not a deque: whoever gives up leaves from the middle. Not a dict: taking the first of a dict whose
        # front was emptied is O(n).
        self._waiters: OrderedDict[Waiter, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiters)

    def enter(self, party: Party, timeout: float | None = None, *, shield: bool = False) -> Waiter:
        """Stand at the end of the queue; `park` must follow as soon as the mutex is free."""
        waiter = Waiter(party, self._target, timeout, shield)
        enter(waiter)
        self._waiters[waiter] = None
        return waiter

    def park(self, waiter: Waiter, scheduler: Scheduler | None = None) -> Verdict:
        """Wait for the verdict."""
        return park(waiter, self._leave, scheduler)

    def wake_one(self) -> Waiter | None:
        """Wake the first who is still waiting and return its waiter, or None if there is nobody.

        Whoever gave up a moment ago is passed over; what the caller hands over goes to somebody who takes it.
        """
        while self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            if waiter.decide(Verdict.WOKEN):
                return waiter
        return None

    def wake_all(self) -> None:
        """Wake everybody."""
        while self.wake_one() is not None:
            pass

    def _leave(self, waiter: Waiter) -> None:
        self._waiters.pop(waiter, None)


def check_not_cancelled(party: Party) -> None:
    """Raise `CancelledError` if the request that runs on ``party`` was cancelled."""
    request = party.request
    if request is not None and request._cancelled:
        raise CancelledError(f"{request.describe()} was cancelled")
