"""A watchdog that tells which workload holds a worker without ever waiting."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

from ._links import logger

if TYPE_CHECKING:
    from ._threaded import ThreadedScheduler
    from ._worker import Worker

__all__ = ["watch"]


def watch(scheduler: ThreadedScheduler, patience: float) -> threading.Thread:
    """Log the stack of each worker that has been running one workload for ``patience`` seconds.

    Returns the thread that does; it ends when the scheduler closes.
    """
    name = f"{scheduler.name}-stall-watch"
    thread = threading.Thread(target=_watch, args=(scheduler, patience), name=name, daemon=True)
    thread.start()
    return thread


def _watch(scheduler: ThreadedScheduler, patience: float) -> None:
    seen: dict[Worker, tuple[int, float]] = {}
    while scheduler.is_open:
        now = time.monotonic()
        for worker in scheduler.workers:
            ticks, since = seen.get(worker, (-1, now))
            if ticks != worker.ticks or worker in scheduler.sleepers:
                seen[worker] = (worker.ticks, now)
            elif now - since >= patience:
                seen[worker] = (ticks, float("inf"))  # once per workload
                frame = sys._current_frames().get(worker.thread.ident or 0)
                stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
                logger.warning(
                    "%s has been running one workload for %.3g s without a wait:\n%s",
                    worker.thread.name,
                    now - since,
                    stack,
                )
        scheduler.closing.wait(patience / 4)
