"""`ThreadedScheduler`: a fixed number of worker threads that share the submitted requests."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _closing
from ._cpus import usable_cpu_count
from ._exit import watch_the_end
from ._help import block_and_help
from ._mutex import mutex
from ._party import Party, Waiter
from ._scheduler import Scheduler
from ._state import Priority, RequestState
from ._worker import Worker

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
        super().__init__(name=name, observers=observers)
        self.worker_count = min(usable_cpu_count(), 8) if worker_count is None else worker_count
        if not isinstance(self.worker_count, int) or self.worker_count < 1:
            raise ValueError(
                f"worker_count is {worker_count!r}; it must be an integer of at least 1. "
                "Use InlineScheduler() to run everything in the calling thread."
            )
        if stall_warning is not None and not stall_warning > 0:
            raise ValueError(f"stall_warning is {stall_warning!r}; give seconds, or None for no warnings")
        self.keeps_frames = debug
        #: Roots of normal priority that no worker has taken yet. Appended and taken by any thread.
        self.inbox: deque[Request[Any]] = deque()
        self.urgent: deque[Request[Any]] = deque()
        self.leisure: deque[Request[Any]] = deque()
        #: Workers that sleep, the one that fell asleep last at the end. Guarded by the mutex.
        self.sleepers: list[Worker] = []
        #: A worker has been woken for new work and has not looked yet; it wakes the next one itself if
        #: there is more. Wakes one thread per burst instead of all. Guarded by the mutex.
        self.is_waking = False
        #: How many requests the workers had begun when a thread that waits found all of them standing still.
        self.stood_at = -1
        #: Threads start with the first submission.
        self.workers: tuple[Worker, ...] = ()
        self._stall_warning = stall_warning
        self.stall_watch: threading.Thread | None = None
        #: Set when the scheduler begins to close.
        self.closing = threading.Event()

    def enqueue(self, request: Request[Any], party: Party) -> None:
        """Put a queued request where the next free worker finds it."""
        if not self.workers:
            self._start()
        priority = request._priority
        if priority is None or priority is Priority.NORMAL:
            if request._parent is not None and party.scheduler is self:
                party.carrier.local.append(request)  # type: ignore[union-attr]
            else:
                self.inbox.append(request)
        else:
            queue = self.urgent if priority is Priority.INTERACTIVE else self.leisure
            parent = request._parent
            if parent is None or parent._has_roots:
                queue.append(request)
            else:
                queue.appendleft(request)
        # Append first, look for sleepers then; a worker announces its sleep first and looks for work then.
        # One of the two sees the other.
        if self.sleepers and not self.is_waking:
            self.wake_one()

    def block_thread(self, waiter: Waiter) -> None:
        """Block the calling foreign thread until its waiter has a verdict; it may run what it waits for."""
        block_and_help(self, waiter)

    def wake_one(self) -> None:
        """Wake one sleeping worker for new work, unless one is on its way already."""
        with mutex:
            if self.sleepers and not self.is_waking:
                self.is_waking = True
                self.sleepers.pop().gate.release()

    def statistics(self) -> SchedulerStatistics:
        """Return what is going on at this moment; counted now, so that requests pay nothing for it.

        Examples
        --------
        >>> with ThreadedScheduler(2) as scheduler:
        ...     scheduler.statistics()
        SchedulerStatistics(workers=2, busy=0, queued=0, suspended=0, begun=0)
        """
        workers = self.workers
        queues = (self.urgent, self.inbox, self.leisure, *(worker.local for worker in workers))
        return SchedulerStatistics(
            workers=self.worker_count,
            busy=max(0, len(workers) - len(self.sleepers)),
            # What a waiter has claimed may still stand in a queue. A copy is one step of the interpreter.
            queued=sum(each._state is RequestState.QUEUED for queue in queues for each in list(queue)),
            suspended=sum(len(worker.parked) for worker in workers),
            begun=sum(worker.ticks for worker in workers),
        )

    def close(self, grace: float = 5.0) -> None:
        """See `Scheduler.close`."""
        _closing.close(self, grace)

    def _start(self) -> None:
        with mutex:
            if self.workers or not self.is_open:
                return
            workers = tuple(Worker(self, number) for number in range(self.worker_count))
            for worker in workers:
                worker.others = tuple(other for other in workers if other is not worker)
            self.workers = workers
        watch_the_end()
        for worker in workers:
            worker.thread.start()
        if self._stall_warning is not None:
            from ._stall import watch

            self.stall_watch = watch(self, self._stall_warning)

    def drain(self) -> list[Request[Any]]:
        """Take everything that has not begun out of all queues."""
        taken: list[Request[Any]] = []
        for queue in (self.urgent, self.inbox, self.leisure, *(worker.local for worker in self.workers)):
            while True:
                try:
                    taken.append(queue.popleft())
                except IndexError:
                    break
        return taken
