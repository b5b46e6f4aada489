"""Many executions or one setup: who may touch a graph at a time.

Executions (outermost pulls) enter and leave; a setup waits until all have left and keeps new ones out
while it waits and works, so a stream of blocks cannot starve it. What an execution starts inside itself
enters past a waiting setup: the setup waits for its parent anyway.

Waiting suspends a request and blocks a foreign thread, never a worker.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Any

from lazyflow_core.errors import GraphError
from lazyflow_core.request import Request, RequestEvent, current_request

__all__ = ["Gate", "setting_up"]

#: The gate whose setup is under way here. Requests take it with them, so one that was started by a setup
#: is told that it would wait for its own parent, wherever it runs.
setting_up: ContextVar[Gate | None] = ContextVar("setting_up", default=None)


class Gate:
    """Excludes the setup of a graph from its executions."""

    __slots__ = ("_lock", "_opened", "_owner", "_running", "_setups_waiting")

    def __init__(self) -> None:
        #: Guards all fields; held for a few statements, never across a wait.
        self._lock = threading.Lock()
        #: Executions inside.
        self._running = 0
        #: Setups that wait to get in; keep new executions out.
        self._setups_waiting = 0
        #: The request or thread that sets up; None if nobody does.
        self._owner: Request[Any] | int | None = None
        #: What those who found the gate shut wait for. Set and dropped whenever it may have opened.
        self._opened: RequestEvent | None = None

    def enter(self, nested: bool = False) -> None:
        """Begin an execution; ``nested`` says that it was started inside another one.

        While that one lasts nobody sets up. Where somebody does, it is over, and what it left behind waits
        like everybody.

        Raises
        ------
        GraphError
            If the caller, or who started it, is setting up: it would wait for itself.
        """
        while True:
            with self._lock:
                if self._owner is None and (nested or not self._setups_waiting):
                    self._running += 1
                    return
                if setting_up.get() is self:
                    raise GraphError(
                        "setup_outputs asked for pixels or a computed value, or a transaction did before its "
                        "end; during a setup only meta and given parameters are known."
                    )
                event = self._event()
            event.wait()

    def leave(self) -> None:
        """End an execution."""
        with self._lock:
            self._running -= 1
            event = None
            if not self._running and self._setups_waiting:
                event, self._opened = self._opened, None
        if event is not None:
            event.set()

    def is_mine(self) -> bool:
        """Whether the caller is setting up right now."""
        return self._owner is not None and self._owner == _caller()

    def begin_setup(self) -> None:
        """Begin a setup: wait until nobody executes and nobody else sets up."""
        caller = _caller()
        with self._lock:
            self._setups_waiting += 1
        try:
            while True:
                with self._lock:
                    if self._owner is None and not self._running:
                        self._owner = caller
                        return
                    event = self._event()
                event.wait()  # may raise CancelledError; the finally clause lets executions in again
        finally:
            with self._lock:
                self._setups_waiting -= 1
                shut = self._owner is not None or self._setups_waiting
                released = None
                if not shut:
                    released, self._opened = self._opened, None
            if released is not None:
                released.set()

    def end_setup(self) -> None:
        """End a setup."""
        with self._lock:
            self._owner = None
            event, self._opened = self._opened, None
        if event is not None:
            event.set()

    def _event(self) -> RequestEvent:
        if self._opened is None:
            self._opened = RequestEvent()
        return self._opened


def _caller() -> Request[Any] | int:
    request = current_request()
    return threading.get_ident() if request is None else request
