"""`RequestLock`: mutual exclusion that suspends a request instead of blocking its worker."""

from __future__ import annotations

import threading
import weakref
from types import TracebackType
from typing import Any

from lazyflow_core.errors import RequestStateError

from . import _debug
from ._mutex import mutex
from ._party import Party, ThreadParty, Verdict, Waiter, check_timeout, current_party
from ._queue import WaitQueue, check_not_cancelled
from ._unique import Unique
from ._wait import was_woken

__all__ = ["RequestLock", "timeout_of"]


def timeout_of(blocking: bool, timeout: float | None) -> float | None:
    """Translate the arguments of `threading.Lock.acquire` to a timeout: None for ever, 0 not at all."""
    check_timeout(timeout)
    if not blocking:
        if timeout not in (None, -1):
            raise ValueError(f"timeout={timeout!r} makes no sense with blocking=False; leave one of them out")
        return 0.0
    if timeout is None or timeout == -1:
        return None
    if timeout > threading.TIMEOUT_MAX:
        raise OverflowError(f"timeout is {timeout!r} s; the longest possible is {threading.TIMEOUT_MAX:g} s")
    if timeout < 0:
        raise ValueError(f"timeout is {timeout!r} s; it must be positive, or None to wait for ever")
    return timeout


def _has_ended(owner: Any) -> bool:
    """Return whether the request or thread that holds a lock is over, callbacks included."""
    if hasattr(owner, "_is_settled"):
        return bool(owner._is_settled())
    return owner.has_ended or not owner.thread.is_alive()


class RequestLock(Unique):
    """A lock for requests and foreign threads alike; the interface of `threading.Lock`.

    Not re-entrant. Served in the order of arrival: at a release the lock goes straight to the first who
    waits, so nobody starves. Owned by the request (or thread) that acquired it: waiting for a lock whose
    owner waits for oneself raises `CircularWaitError`, as does acquiring it twice. Anybody may release it; to
    hand permission from one request to another on purpose, take a `RequestSemaphore`.

    A cancelled request gets a `CancelledError` instead of the lock, and never keeps one it was just given.

    Parameters
    ----------
    name
        For reports.

    Examples
    --------
    >>> lock = RequestLock("log file")
    >>> with lock:
    ...     lock.locked()
    True
    >>> lock.locked()
    False
    """

    __slots__ = ("__weakref__", "_name", "_owner", "_queue")

    def __init__(self, name: str | None = None) -> None:
        self._name = name
        #: The request or party that holds it, None if free. Guarded by the mutex.
        self._owner: Any = None
        self._queue = WaitQueue()

    def describe(self) -> str:
        """Return name and owner, for reports."""
        name = f" {self._name!r}" if self._name else ""
        owner = self._owner
        if owner is None:
            return f"RequestLock{name} (free)"
        owner_name = owner.describe() if hasattr(owner, "describe") else repr(owner)
        return f"RequestLock{name} held by {owner_name}"

    def __repr__(self) -> str:
        # "locked" and "unlocked" as in the standard library's locks.
        state = "unlocked" if self._owner is None else "locked"
        return f"<{state} RequestLock object {self._name or ''} at {id(self):#x}>"

    def _wait_dependencies(self) -> tuple[Any, ...]:
        owner = self._owner
        return () if owner is None else (owner,)

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take the lock; return whether it was had within the timeout.

        Raises
        ------
        CancelledError
            If the request that calls this was cancelled, also while it waited.
        CircularWaitError
            If the owner waits for the caller.
        RequestStateError
            If the owner has ended, or ends meanwhile, without releasing it.
        """
        limit = timeout_of(blocking, timeout)
        party = current_party()
        check_not_cancelled(party)
        return self._acquire(party, limit)

    def _acquire(self, party: Party, limit: float | None, *, shield: bool = False) -> bool:
        if _debug.checks:
            _debug.checks.about_to_acquire(self, party)
        host = party.request or party
        waiter = None
        is_free = False
        try:
            with mutex:
                is_free = self._owner is None
                if is_free:
                    self._owner = host
                    if _debug.checks:
                        _debug.checks.acquired(self, host)
                    return True
                if limit == 0.0:
                    return False
                if _has_ended(self._owner):
                    raise self._owner_is_gone()
                waiter = Waiter(party, self, limit, shield)
                self._queue.enter(waiter)
                owner = self._owner if len(self._queue) == 1 else None
            # The first who waits has all be told if the owner forgets to release it; see `release`.
            self._watch(owner)
            verdict = self._queue.park(waiter)
            if verdict is Verdict.CLOSED:
                raise self._owner_is_gone()
            return was_woken(waiter, verdict, is_for_host=True)
        except BaseException:
            # Handed over, or taken, and nobody will hear of it.
            if self._queue.give_up(waiter) or (is_free and self._owner is host):
                self.release()
            raise

    def _watch(self, owner: Any) -> None:
        if type(owner) is ThreadParty:
            with mutex:
                if owner.contended is None:
                    owner.contended = weakref.WeakSet()
                owner.contended.add(self)
                if owner.has_ended:
                    self._owner_has_ended(owner)
        elif hasattr(owner, "on_done"):
            owner.on_done(self._owner_has_ended)

    def _owner_has_ended(self, ended: Any) -> None:
        """Tell those who wait, if who ended is the owner."""
        with mutex:
            if self._owner is ended:
                self._queue.close()

    def _owner_is_gone(self) -> RequestStateError:
        return RequestStateError(
            f"{self.describe()}, which has ended without releasing it. Hold it by a with statement; what one "
            "takes and another gives back is a RequestSemaphore."
        )

    def release(self) -> None:
        """Give the lock to the first who waits, or set it free.

        Raises
        ------
        RuntimeError
            If it is not locked.
        """
        with mutex:
            before = self._owner
            if before is None:
                raise RuntimeError(f"{self.describe()}: release of an unlocked lock")
            if self._queue:
                self._queue.hand_over(self._settle)
            else:
                self._owner = None
            if _debug.checks:
                _debug.checks.released(self, before)
                if self._owner is not None:
                    _debug.checks.acquired(self, self._owner)
            owner = self._owner if len(self._queue) else None
        self._watch(owner)

    def _settle(self, heir: Waiter | None) -> None:
        # After the decision, in the same section: a waiter that gave up never becomes the owner.
        self._owner = None if heir is None else heir.host

    def locked(self) -> bool:
        """Return whether somebody holds it."""
        return self._owner is not None

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        try:
            self.release()
        except BaseException:
            # A Ctrl-C on the way to it.
            party = current_party()
            if self._owner is (party.request or party):
                self.release()
            raise
