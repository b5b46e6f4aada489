"""`RequestCondition`: wait until somebody says that something has changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from lazyflow_core.errors import CircularWaitError

from ._lock import RequestLock
from ._mutex import mutex
from ._party import Fiber, Party, Verdict, Waiter, check_timeout, current_party
from ._queue import WaitQueue, check_not_cancelled
from ._unique import Unique
from ._wait import was_woken

__all__ = ["RequestCondition"]


class RequestCondition(Unique):
    """A condition variable for any number of requests and foreign threads; as `threading.Condition`.

    Parameters
    ----------
    lock
        The lock that guards what the condition is about; several conditions may share one. None: its own.
    name
        For reports.

    Examples
    --------
    >>> from lazyflow_core.request import Request
    >>> basket, changed = [], RequestCondition()
    >>> def eat():
    ...     with changed:
    ...         changed.wait_for(lambda: basket)
    ...         return basket.pop()
    >>> eater = Request(eat).submit()
    >>> with changed:
    ...     basket.append("apple")
    ...     changed.notify()
    >>> eater.wait()
    'apple'
    """

    __slots__ = ("__weakref__", "_lock", "_name", "_queue")

    def __init__(self, lock: RequestLock | None = None, *, name: str | None = None) -> None:
        self._lock = RequestLock(name) if lock is None else lock
        self._name = name
        self._queue = WaitQueue()

    def describe(self) -> str:
        """Return the name, for reports."""
        name = f" {self._name!r}" if self._name else ""
        return f"RequestCondition{name} with {len(self._queue)} waiting"

    def __repr__(self) -> str:
        return f"<{self.describe()}>"

    def _wait_dependencies(self) -> tuple[Any, ...]:
        return ()  # anybody may notify

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take the lock, see `RequestLock.acquire`."""
        return self._lock.acquire(blocking, timeout)

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._lock.__exit__(kind, error, where)

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, wait for a notification, take the lock again; return whether it was notified.

        However the wait ends, also by a cancellation, the lock is held again. A notification is consumed only
        by one who returns True for it.
        """
        check_timeout(timeout)
        party = current_party()
        self._check_owned(party, "wait on")
        check_not_cancelled(party)
        waiter = Waiter(party, self, timeout)
        verdict = None
        try:
            try:
                with mutex:
                    # One section: a notification between release and queue would be lost.
                    self._queue.enter(waiter)
                    self._lock.release()
                verdict = self._queue.park(waiter)
            except BaseException:
                verdict = Verdict.WOKEN if self._queue.give_up(waiter) else None
                raise
            finally:
                # In line, so that a Ctrl-C on the way is heard inside: the caller is going to release it.
                # Looked at without the mutex: nobody but its host takes a lock for itself.
                try:
                    if self._lock._owner is not waiter.host:
                        self._lock._acquire(party, None, shield=True)
                except CircularWaitError:
                    raise
                except BaseException:
                    if self._lock._owner is not waiter.host:
                        self._lock._acquire(party, None, shield=True)
                    raise
            return was_woken(waiter, verdict)
        except BaseException:
            if verdict is Verdict.WOKEN:
                with mutex:
                    self._queue.wake_one()  # the notification is somebody else's
            raise

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait until ``predicate()`` is true; return its last value, which is false only after a timeout."""
        check_timeout(timeout)
        party = current_party()
        now = party.carrier.now if type(party) is Fiber else time.monotonic
        deadline = None if timeout is None else now() + timeout
        answer = predicate()
        while not answer:
            remaining = None if deadline is None else deadline - now()
            if remaining is not None and remaining <= 0:
                break
            self.wait(remaining)
            answer = predicate()
        return answer

    def notify(self, n: int = 1) -> None:
        """Wake up to ``n`` of those who wait, in the order they came."""
        self._check_owned(current_party(), "notify")
        with mutex:
            for _ in range(n):
                if self._queue.wake_one() is None:
                    break

    def notify_all(self) -> None:
        """Wake everybody who waits."""
        self._check_owned(current_party(), "notify")
        with mutex:
            self._queue.wake_all()

    def _check_owned(self, party: Party, what: str) -> None:
        with mutex:
            owner = self._lock._owner
        if owner is None or owner is not (party.request or party):
            raise RuntimeError(f"cannot {what} {self.describe()}: the caller does not hold its lock")
