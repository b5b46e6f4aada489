"""The end of a threaded scheduler: nobody waits for ever, and nothing waits longer than promised."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from lazyflow_core.errors import SchedulerClosedError

from ._cancel import cancel
from ._mutex import mutex
from ._party import current_party
from ._state import RequestState

if TYPE_CHECKING:
    from ._crew import Crew
    from ._request import Request
    from ._threaded import ThreadedScheduler

__all__ = ["close"]


def close(scheduler: ThreadedScheduler, grace: float) -> None:
    """Close a threaded scheduler; see `Scheduler.close`."""
    crew = scheduler._crew
    with mutex:
        first = scheduler.is_open
        scheduler.is_open = crew.is_wanted = False
        scheduler.why_closed = scheduler.why_closed or "its scheduler was closed"
    crew.closing.set()
    deadline = time.monotonic() + grace
    if first:
        for request in crew.drain():
            cancel(request, force=True, reason="its scheduler was closed before it began")
    for request in _begun(crew):
        cancel(request, force=True)
    for worker in crew.workers:
        worker.wake()
    own_thread = threading.current_thread()
    for worker in crew.workers:
        # A workload that closes its own scheduler cannot wait for itself.
        if worker.thread is not own_thread:
            worker.thread.join(max(0.0, deadline - time.monotonic()))
    if crew.stall_watch is not None:
        crew.stall_watch.join(max(0.0, deadline - time.monotonic()))
    scheduler.is_alive = False
    for request in _begun(crew):
        if current_party().request is not request:
            _give_up(request)
    for request in crew.drain():
        cancel(request, force=True, reason="its scheduler was closed before it began")


def _begun(crew: Crew) -> list[Request[Any]]:
    """Return the requests on the stacks of the workers, the innermost last."""
    found: list[Request[Any]] = []
    for worker in crew.workers:
        for fiber in list(worker.fibers):
            found += reversed(fiber.stack())
    return found


def _give_up(request: Request[Any]) -> None:
    """End a request whose workload does not stop, for the sake of those who wait for it."""
    if not request._state.is_terminal:
        error = SchedulerClosedError(
            f"{request.describe()} did not stop when its scheduler was closed; its thread was left behind"
        )
        request._finish(RequestState.FAILED, error, current_party())
