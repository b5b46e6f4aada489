"""`Crew`: the workers of a `ThreadedScheduler` and what they share.

The scheduler is a handle in front of its crew. Users, graphs and requests that have not ended hold the
scheduler; nothing that the threads hold does. So it goes with the last one who could want something, and then
the workers, who have nothing to do by that time, end by themselves.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from ._exit import watch_the_end
from ._mutex import mutex
from ._scheduler import EXIT_GRACE
from ._state import RequestState
from ._worker import Worker

if TYPE_CHECKING:
    from ._request import Request
    from ._threaded import ThreadedScheduler

__all__ = ["Crew"]


class Crew:
    """The threads of a scheduler, and where its requests stand until one of them takes them."""

    def __init__(self, scheduler: ThreadedScheduler) -> None:
        #: Of its threads.
        self.name = scheduler.name
        #: Whose crew it is; alive as long as there is anything to do.
        self.scheduler = weakref.ref(scheduler)
        #: Whether there may be more work: the scheduler is open, and somebody holds it.
        self.is_wanted = True
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
        self.stood_at: int | None = None
        #: Threads start with the first submission.
        self.workers: tuple[Worker, ...] = ()
        self.stall_watch: threading.Thread | None = None
        #: Set when the scheduler begins to close, or a worker has ended.
        self.closing = threading.Event()
        # Not a __del__, which could be called when the modules have been emptied already.
        weakref.finalize(scheduler, self.dismiss).atexit = False
        _crews.add(self)

    def start(self, worker_count: int) -> bool:
        """Start the threads, unless that was done already; say whether this call did."""
        with mutex:
            if self.workers or not self.is_wanted:
                return False
            workers = tuple(Worker(self, number) for number in range(worker_count))
            for worker in workers:
                worker.others = tuple(other for other in workers if other is not worker)
            self.workers = workers
        watch_the_end()
        started = 0
        try:
            for worker in workers:
                worker.thread.start()
                started += 1
        except RuntimeError:
            if not started:
                raise  # no more threads can be had; who has some manages with them
        finally:
            self.workers = workers[:started]
        return True

    def wake_one(self) -> None:
        """Wake one sleeping worker for new work, unless one is on its way already."""
        with mutex:
            if self.sleepers and not self.is_waking:
                self.is_waking = True
                self.sleepers.pop().gate.release()

    def dismiss(self) -> None:
        """Let the workers end when they have nothing to do; a finalizer may call it at any moment."""
        with mutex:
            self.is_wanted = False
            while self.sleepers:
                self.sleepers.pop().gate.release()

    def queues(self) -> tuple[deque[Request[Any]], ...]:
        """Return everything in which requests stand that have not begun."""
        return (self.urgent, self.inbox, self.leisure, *(worker.local for worker in self.workers))

    def count_queued(self) -> int:
        """Return how many requests have not begun."""
        # What a waiter has claimed may still stand in a queue. A copy is one step of the interpreter.
        return sum(each._state is RequestState.QUEUED for queue in self.queues() for each in list(queue))

    def drain(self) -> list[Request[Any]]:
        """Take everything that has not begun out of all queues."""
        taken: list[Request[Any]] = []
        for queue in self.queues():
            while True:
                try:
                    taken.append(queue.popleft())
                except IndexError:
                    break
        return taken


_crews: weakref.WeakSet[Crew] = weakref.WeakSet()


def _join_dismissed() -> None:
    """At the end of the process let those whose scheduler has gone come to their end, too."""
    deadline = time.monotonic() + EXIT_GRACE
    for crew in list(_crews):
        if not crew.is_wanted:
            for worker in crew.workers:
                worker.thread.join(max(0.0, deadline - time.monotonic()))


atexit.register(_join_dismissed)
