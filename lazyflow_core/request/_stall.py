"""A watchdog that tells which workload holds a worker without a wait, and who waits when nothing moves."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

from ._links import logger
from ._waitgraph import describe_blocked

if TYPE_CHECKING:
    from ._crew import Crew
    from ._party import Waiter
    from ._worker import Worker

__all__ = ["watch"]


def watch(crew: Crew, patience: float) -> threading.Thread:
    """Watch the workers of a scheduler for two kinds of stalls; log each once, after ``patience`` seconds.

    * A worker runs one workload without a wait: which one, its stack, and who waits for what meanwhile.
    * All workers sleep, and requests that have begun wait without a deadline: who waits for what, and where.
      That may be a circle through something without an owner, or all wait for the world outside.

    Returns the thread that does; it ends when the scheduler closes.
    """
    name = f"{crew.name}-stall-watch"
    thread = threading.Thread(target=_watch, args=(crew, patience), name=name, daemon=True)
    thread.start()
    return thread


def _watch(crew: Crew, patience: float) -> None:
    seen: dict[Worker, tuple[int, float]] = {}
    waits: list[Waiter] = []
    waits_since = 0.0
    while crew.is_wanted:
        now = time.monotonic()
        for worker in crew.workers:
            ticks, since = seen.get(worker, (-1, now))
            if ticks != worker.ticks or worker in crew.sleepers:
                seen[worker] = (worker.ticks, now)
            elif now - since >= patience:
                seen[worker] = (ticks, float("inf"))  # once per workload
                _report_worker(worker, now - since)
        before, waits = waits, _hopeless_waits(crew)
        if waits != before:
            waits_since = now
        elif waits and now - waits_since >= patience:
            logger.warning(
                "%s has not moved for %.3g s; who waits for what:\n%s",
                crew.name,
                now - waits_since,
                describe_blocked(),
            )
            waits_since = float("inf")  # once for these waits
        crew.closing.wait(patience / 4)


def _report_worker(worker: Worker, seconds: float) -> None:
    frame = sys._current_frames().get(worker.thread.ident or 0)
    stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
    # Copies in one step each, and names that are asked for without the mutex: the worker may go on meanwhile.
    parked = list(worker.parked)
    running = [fiber.request for fiber in list(worker.fibers) if fiber not in parked]
    names = ", ".join(request.describe() for request in running if request is not None)
    logger.warning(
        "%s has been running one workload for %.3g s without a wait: %s\n%swho waits for what meanwhile:\n%s",
        worker.thread.name,
        seconds,
        names or "(just over)",
        stack,
        describe_blocked(),
    )


def _hopeless_waits(crew: Crew) -> list[Waiter]:
    """Return the waits that no worker and no deadline will end, or nothing if a worker is awake."""
    if len(crew.sleepers) < len(crew.workers):
        return []
    waits = [waiter for worker in crew.workers for waiter in list(worker.parked.values())]
    return [] if any(waiter.timeout is not None for waiter in waits) else waits
