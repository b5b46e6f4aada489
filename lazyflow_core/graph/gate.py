"""One change of a graph at a time: who may write.

Changes are setups, and walks of stale regions that come without one. None of them computes pixels and none
waits for executions, so whoever waits here waits for a few milliseconds. Waiting suspends a request and
blocks a foreign thread, never a worker.
"""

from __future__ import annotations

import threading
from typing import Any

from lazyflow_core.request import Request, RequestEvent, current_request
from lazyflow_core.request.extension import current_party

__all__ = ["ChangeGate"]


class ChangeGate:
    """Lets one change of a graph in at a time."""

    __slots__ = ("_lock", "_opened", "_owner")

    def __init__(self) -> None:
        #: Guards all fields; held for a few statements, never across a wait.
        self._lock = threading.Lock()
        #: The request or thread that makes a change; None if nobody does.
        self._owner: Request[Any] | int | None = None
        #: What those who found the gate shut wait for. Set and dropped when it opens.
        self._opened: RequestEvent | None = None

    def enter(self) -> None:
        """Begin a change: wait until nobody else makes one."""
        caller = _caller()
        while True:
            with self._lock:
                if self._owner is None:
                    self._owner = caller
                    return
                if self._opened is None:
                    self._opened = RequestEvent("the change of a graph that is under way is over")
                event = self._opened
            event.wait()

    def leave(self) -> None:
        """End a change, if it is the caller's. Whatever comes in the middle, those who wait are woken."""
        if not self.is_mine():
            return
        event = None
        try:
            with self._lock:
                event, self._opened = self._opened, None
                self._owner = None
        finally:
            if event is not None:
                try:
                    event.set()
                except BaseException:  # Ctrl-C on its first line
                    event.set()
                    raise

    def is_mine(self) -> bool:
        """Whether the caller makes a change right now."""
        owner = self._owner
        if owner is None:
            return False
        request = current_party().request
        return owner is request if request is not None else owner == threading.get_ident()


def _caller() -> Request[Any] | int:
    request = current_request()
    return threading.get_ident() if request is None else request
