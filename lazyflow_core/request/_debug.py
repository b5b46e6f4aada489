"""Checks that find deadlocks before they happen. Off unless asked for; then every lock and wait pays.

Two rules make programs of requests free of deadlocks that the wait-for graph cannot see in time:

* Locks are taken in one order everywhere. Two orders need not have met in this run to be a bug.
* No lock of the operating system is held where a request may be suspended: the worker goes on with another
  request, which may want the same lock on the same thread - and nobody is left to release it.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from lazyflow_core.errors import CircularWaitError, RequestStateError
from lazyflow_core.foreign import contextmanager

from ._mutex import mutex
from ._party import Fiber, Party, Waiter, current_fiber

if TYPE_CHECKING:
    from ._lock import RequestLock

__all__ = ["WatchedLock", "checks", "debug_checks"]

#: None, or the checks to be made at every wait and lock.
checks: Checks | None = None

_real_lock = threading.Lock


class Checks:
    """The state of the checks: which locks were taken while which others were held."""

    def __init__(self) -> None:
        #: lock -> locks that were taken while it was held, and where. Guarded by the mutex.
        self.after: WeakKeyDictionary[RequestLock, WeakKeyDictionary[RequestLock, str]] = WeakKeyDictionary()
        #: host -> locks it holds, in the order of acquisition. Guarded by the mutex.
        self.held: dict[Any, list[RequestLock]] = {}

    def about_to_acquire(self, lock: RequestLock, party: Party) -> None:
        """Enter "lock after all that are held", and raise if the opposite was ever seen."""
        host = party.request or party
        with mutex:
            held = self.held.setdefault(host, [])
            for earlier in held:
                path = self._find(lock, earlier)
                if path is not None:
                    raise CircularWaitError(
                        f"{lock.describe()} is taken while {earlier.describe()} is held; elsewhere it was "
                        f"the other way round, at\n{path}Take locks in one order everywhere."
                    )
            where = "".join(traceback.format_stack(limit=6)[:-2])
            for earlier in held:
                self.after.setdefault(earlier, WeakKeyDictionary()).setdefault(lock, where)

    def acquired(self, lock: RequestLock, host: Any) -> None:
        """Note that ``host`` holds ``lock``."""
        with mutex:
            self.held.setdefault(host, []).append(lock)

    def released(self, lock: RequestLock, host: Any) -> None:
        """Note that ``host`` does not hold it any more."""
        with mutex:
            held = self.held.get(host, [])
            if lock in held:
                held.remove(lock)
            if not held:
                self.held.pop(host, None)

    def _find(self, start: RequestLock, goal: RequestLock) -> str | None:
        """Return where ``goal`` was taken after ``start``, directly or through others."""
        seen = {start}
        todo = [start]
        while todo:
            for following, where in self.after.get(todo.pop(), {}).items():
                if following is goal:
                    return where
                if following not in seen:
                    seen.add(following)
                    todo.append(following)
        return None

    def about_to_park(self, waiter: Waiter) -> None:
        """Raise if the fiber that is about to leave its thread holds a lock of the operating system."""
        if type(waiter.party) is Fiber:
            held = [lock for lock in list(_watched) if lock.holder is waiter.party]
            if held:
                raise RequestStateError(
                    f"{waiter.host!r} is about to be suspended while it holds a threading lock, taken at\n"
                    f"{held[0].where}Release it first, or use a RequestLock."
                )


class WatchedLock:
    """A lock of the operating system that tells when somebody waits for it, takes it, and lets it go."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        got: bool = self._lock.acquire(False)
        if not got and blocking:
            got = self._wait(timeout)
        if got:
            self._taken()
        return got

    def release(self) -> None:
        self._let_go()
        self._lock.release()

    def locked(self) -> bool:
        return bool(self._lock.locked())

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()

    def _wait(self, timeout: float) -> bool:
        """Wait for it; return whether it was had."""
        return bool(self._lock.acquire(True, timeout))

    def _taken(self) -> None:
        """Note who has it. Called by whoever has taken it."""

    def _let_go(self) -> None:
        """Note that nobody has it. Called by whoever is about to release it."""


class _LockOfFiber(WatchedLock):
    """A `threading.Lock` that knows which stack of requests holds it."""

    def __init__(self) -> None:
        super().__init__(_real_lock())
        self.holder: Fiber | None = None
        self.where = ""

    def _taken(self) -> None:
        # Only fibers count; asking for a foreign thread's party here would run inside `Thread.start`.
        self.holder = current_fiber()
        self.where = "".join(traceback.format_stack(limit=5)[:-2])
        _watched.add(self)

    def _let_go(self) -> None:
        _watched.discard(self)
        self.holder = None


#: Watched locks that are held right now.
_watched: set[_LockOfFiber] = set()


@contextmanager
def debug_checks() -> Iterator[None]:
    """Check the order of locks, and that no OS lock is held where a request is suspended.

    Only locks made by ``threading.Lock()`` inside the block are watched, so enter it before the code under
    test is imported or its objects are made.

    Raises
    ------
    CircularWaitError
        Where a lock is taken in the opposite of an order seen before, whether or not it came to a deadlock.
    RequestStateError
        Where a request is about to be suspended while it holds a `threading.Lock`.

    Examples
    --------
    >>> from lazyflow_core.request import RequestLock
    >>> one, other = RequestLock("one"), RequestLock("other")
    >>> with debug_checks():
    ...     with one, other:
    ...         pass
    ...     with other, one:
    ...         pass
    Traceback (most recent call last):
    lazyflow_core.errors.CircularWaitError: RequestLock 'one' ...
    """
    global checks
    outer = checks
    checks = Checks()
    threading.Lock = _LockOfFiber  # type: ignore[assignment]
    try:
        yield
    finally:
        checks = outer
        threading.Lock = _real_lock
        _watched.clear()
