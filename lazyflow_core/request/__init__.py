"""Requests: computations that wait for each other without blocking threads. Usable for any Python callable.

Knows no numpy, no region, no operator. `Request` is the handle, the schedulers decide where it runs,
`RequestPool` and `gather` hold several together, `RequestLock` and its kin synchronise them. ``DESIGN.md``
beside this file tells how it works and why.
"""

from __future__ import annotations

from ._condition import RequestCondition
from ._debug import debug_checks
from ._event import RequestEvent
from ._inline import InlineScheduler
from ._lock import RequestLock
from ._observe import TraceRecorder, report_hangs_on_signal
from ._pool import RequestPool, gather
from ._request import Request, checkpoint, current_request
from ._scheduler import Scheduler, default_scheduler
from ._seeded import SeededScheduler
from ._semaphore import RequestSemaphore
from ._state import Priority, RequestState
from ._stop import run_stoppable
from ._threaded import SchedulerStatistics, ThreadedScheduler
from ._waitgraph import describe_blocked

__all__ = [
    "InlineScheduler",
    "Priority",
    "Request",
    "RequestCondition",
    "RequestEvent",
    "RequestLock",
    "RequestPool",
    "RequestSemaphore",
    "RequestState",
    "Scheduler",
    "SchedulerStatistics",
    "SeededScheduler",
    "ThreadedScheduler",
    "TraceRecorder",
    "checkpoint",
    "current_request",
    "debug_checks",
    "default_scheduler",
    "describe_blocked",
    "gather",
    "report_hangs_on_signal",
    "run_stoppable",
]
