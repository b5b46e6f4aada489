"""`RequestSemaphore`: at most so many at once."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from ._lock import timeout_of
from ._mutex import mutex
from ._party import Waiter, current_party
from ._queue import WaitQueue, check_not_cancelled
from ._unique import Unique
from ._wait import was_woken

__all__ = ["RequestSemaphore"]


class RequestSemaphore(Unique):
    """A counter of permits for requests and foreign threads; as `threading.Semaphore`.

    Has no owner: one may acquire and another release. So a circle of waits through a semaphore is not found.

    Parameters
    ----------
    value
        Permits at the beginning.
    is_bounded
        Whether a release beyond ``value`` is a ValueError, as in `threading.BoundedSemaphore`.
    name
        For reports.

    Examples
    --------
    >>> slots = RequestSemaphore(2)
    >>> slots.acquire(), slots.acquire(), slots.acquire(blocking=False)
    (True, True, False)
    """

    __slots__ = ("__weakref__", "_bound", "_name", "_queue", "_value")

    def __init__(self, value: int = 1, *, is_bounded: bool = False, name: str | None = None) -> None:
        if not isinstance(value, int) or value < 0:
            raise ValueError(f"a semaphore cannot begin with {value!r} permits; give 0 or more")
        #: Free permits. Invariant: 0 while somebody waits. Guarded by the mutex.
        self._value = value
        self._bound = value if is_bounded else None
        self._name = name
        self._queue = WaitQueue()

    def describe(self) -> str:
        """Return name and free permits, for reports."""
        name = f" {self._name!r}" if self._name else ""
        return f"RequestSemaphore{name} with {self._value} permits"

    def __repr__(self) -> str:
        bound = "" if self._bound is None else f"/{self._bound}"
        return f"<RequestSemaphore at {id(self):#x}: value={self._value}{bound}>"

    def _wait_dependencies(self) -> tuple[Any, ...]:
        return ()

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take a permit; return whether it was had within the timeout."""
        limit = timeout_of(blocking, timeout)
        party = current_party()
        check_not_cancelled(party)
        waiter = None
        is_taken = False
        try:
            with mutex:
                if self._value > 0:
                    self._value, is_taken = self._value - 1, True  # in one step
                    return True
                if limit == 0.0:
                    return False
                waiter = Waiter(party, self, limit)
                self._queue.enter(waiter)
            return was_woken(waiter, self._queue.park(waiter), is_for_host=True)
        except BaseException:
            # Handed over, or taken, and nobody will hear of it.
            if self._queue.give_up(waiter) or is_taken:
                self.release()
            raise

    def release(self, n: int = 1) -> None:
        """Give back ``n`` permits; each goes straight to the first who waits."""
        if n < 1:
            raise ValueError(f"n is {n}; at least one permit must be released")
        self._release(n, [])

    def _release(self, n: int, done: list[bool]) -> None:
        """Give back permits; ``done`` becomes true when one of them was."""
        with mutex:
            if self._bound is not None and self._value + n > self._bound:
                raise ValueError(f"{self.describe()} released too many times (bound {self._bound})")
            for _ in range(n):
                more = self._value + 1

                def settle(heir: Waiter | None, more: int = more) -> None:
                    if heir is None:
                        self._value = more
                    done.append(True)

                self._queue.hand_over(settle)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        done: list[bool] = []
        try:
            self._release(1, done)
        except ValueError:
            raise
        except BaseException:
            if not done:  # a Ctrl-C on the way to it
                self._release(1, done)
            raise
