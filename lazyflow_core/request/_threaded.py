"""`ThreadedScheduler`: a fixed number of worker threads that share the submitted requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from . import _closing
from ._cpus import usable_cpu_count
from ._crew import Crew
from ._help import block_and_help
from ._party import Party, Waiter
from ._scheduler import Scheduler
from ._state import Priority

if TYPE_CHECKING:
    from ._request import Request

__all__ = ["SchedulerStatistics", "ThreadedScheduler"]


class SchedulerStatistics(NamedTuple):
    """How a `ThreadedScheduler` is doing, see `ThreadedScheduler.statistics`."""

    workers: int
    #: Workers that do not sleep.
    busy: int
    #: Requests that were submitted and have not begun.
    queued: int
    #: Stacks that wait; on each stand a suspended request and those that run it inline.
    suspended: int
    #: Requests that workers took from a queue since the beginning, without those that ran inside a waiter.
    begun: int


class ThreadedScheduler(Scheduler):
    """Worker threads that run requests; a request that waits gives its worker to others.

    They start with the first submission, and end with `close` or when nobody holds the scheduler any more: no
    variable, no graph, and no request that was submitted to it.

    Parameters
    ----------
    worker_count
        None: as many as this process may use CPUs (affinity and cgroup limit), at most 8.
    name
        Part of the names of the threads.
    observers
        See `Scheduler`.
    debug
        Keep the local variables of failed workloads for a debugger.
    stall_warning
        Log the stack of a worker that has been running one workload for this many seconds without a wait, and
        who waits for what and where if for as long nothing moves at all.

    Notes
    -----
    Where a queued request stands: a child of normal priority in the deque of the worker that submitted it,
    which takes the newest first (depth first, cache-warm) while others steal the oldest; a root in the inbox;
    interactive and background ones in a deque each, children before roots. Work that was begun goes
    before work that was not, so older roots finish first. An exact heap of priorities costs twice as much
    per request and grows with the number of pending ones.

    Examples
    --------
    >>> from lazyflow_core.request import Request
    >>> with ThreadedScheduler(worker_count=2) as scheduler:
    ...     Request(lambda: 1 + 1, scheduler=scheduler).submit().wait()
    2
    """

    def __init__(
        self,
        worker_count: int | None = None,
        *,
        name: str = "lazyflow",
        observers: tuple[Any, ...] = (),
        debug: bool = False,
        stall_warning: float | None = None,
    ) -> None:
        self.worker_count = min(usable_cpu_count(), 8) if worker_count is None else worker_count
        if not isinstance(self.worker_count, int) or self.worker_count < 1:
            raise ValueError(
                f"worker_count is {worker_count!r}; it must be an integer of at least 1. "
                "Use InlineScheduler() to run everything in the calling thread."
            )
        if stall_warning is not None and not stall_warning > 0:
            raise ValueError(f"stall_warning is {stall_warning!r}; give seconds, or None for no warnings")
        super().__init__(name=name, observers=observers)
        self.keeps_frames = debug
        self._crew: Crew = Crew(self)
        self._stall_warning = stall_warning

    def enqueue(self, request: Request[Any], party: Party) -> None:
        """Put a queued request where the next free worker finds it."""
        crew = self._crew
        if not crew.workers:
            self._start()
        priority = request._priority
        if priority is None or priority is Priority.NORMAL:
            if request._parent is not None and party.crew is crew:
                party.carrier.local.append(request)  # type: ignore[union-attr]
            else:
                crew.inbox.append(request)
        else:
            queue = crew.urgent if priority is Priority.INTERACTIVE else crew.leisure
            parent = request._parent
            if parent is None or parent._has_roots:
                queue.append(request)
            else:
                queue.appendleft(request)
        # Append first, look for sleepers then; a worker announces its sleep first and looks for work then.
        # One of the two sees the other.
        if crew.sleepers and not crew.is_waking:
            crew.wake_one()

    def block_thread(self, waiter: Waiter) -> None:
        """Block the calling foreign thread until its waiter has a verdict; it may run what it waits for."""
        block_and_help(self._crew, waiter)

    def statistics(self) -> SchedulerStatistics:
        """Return what is going on at this moment; counted now, so that requests pay nothing for it.

        Examples
        --------
        >>> with ThreadedScheduler(2) as scheduler:
        ...     scheduler.statistics()
        SchedulerStatistics(workers=2, busy=0, queued=0, suspended=0, begun=0)
        """
        crew = self._crew
        workers = crew.workers
        return SchedulerStatistics(
            workers=self.worker_count,
            busy=max(0, len(workers) - len(crew.sleepers)),
            queued=crew.count_queued(),
            suspended=sum(len(worker.parked) for worker in workers),
            begun=sum(worker.ticks for worker in workers),
        )

    def close(self, grace: float = 5.0) -> None:
        """See `Scheduler.close`."""
        _closing.close(self, grace)

    def _start(self) -> None:
        if self._crew.start(self.worker_count) and self._stall_warning is not None:
            from ._stall import watch

            self._crew.stall_watch = watch(self._crew, self._stall_warning)
