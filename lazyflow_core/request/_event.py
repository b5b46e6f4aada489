"""`RequestEvent`: something that happens once, and many wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._mutex import mutex
from ._party import Waiter, check_timeout, current_party
from ._queue import WaitQueue, check_not_cancelled
from ._unique import Unique
from ._wait import was_woken

if TYPE_CHECKING:
    from ._scheduler import Scheduler

__all__ = ["RequestEvent"]


class RequestEvent(Unique):
    """A flag to wait for, for requests and foreign threads; as `threading.Event`.

    Examples
    --------
    >>> loaded = RequestEvent("loaded")
    >>> loaded.wait(timeout=0)
    False
    >>> loaded.set()
    >>> loaded.wait()
    True
    """

    __slots__ = ("__weakref__", "_is_set", "_name", "_queue")

    #: Who has to move while a foreign thread waits, where that is known.
    _scheduler: Scheduler | None = None

    def __init__(self, name: str | None = None) -> None:
        self._name = name
        #: Guarded by the mutex. Invariant: nobody waits while it is True.
        self._is_set = False
        self._queue = WaitQueue()

    def describe(self) -> str:
        """Return name and flag, for reports."""
        name = f" {self._name!r}" if self._name else ""
        return f"RequestEvent{name} ({'set' if self._is_set else 'not set'})"

    def __repr__(self) -> str:
        # "set" and "unset" as in the standard library.
        return f"<RequestEvent at {id(self):#x}: {'set' if self._is_set else 'unset'}>"

    def _wait_dependencies(self) -> tuple[Any, ...]:
        return ()  # anybody may set it

    def is_set(self) -> bool:
        """Return whether it has happened."""
        return self._is_set

    def set(self) -> None:
        """Let it have happened, and wake all who wait."""
        with mutex:
            self._is_set = True
            self._queue.wake_all()

    def clear(self) -> None:
        """Let it not have happened."""
        with mutex:
            self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it happens; return whether it did within the timeout."""
        check_timeout(timeout)
        party = current_party()
        check_not_cancelled(party)
        waiter = None
        try:
            with mutex:
                if self._is_set:
                    return True
                if timeout is not None and timeout <= 0:
                    return False
                waiter = Waiter(party, self, timeout)
                self._queue.enter(waiter)
            verdict = self._queue.park(waiter, self._scheduler)
        except BaseException:
            self._queue.give_up(waiter)
            raise
        return was_woken(waiter, verdict)
