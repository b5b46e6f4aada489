"""`Worker`: one thread, its fibers, its queue, its deadlines and its sleep."""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any

from ._core import finish_torn
from ._links import logger
from ._mutex import mutex
from ._party import MAX_IDLE_FIBERS, STOP, Carrier, Fiber, Verdict, Waiter
from ._state import RequestState

if TYPE_CHECKING:
    from ._request import Request
    from ._threaded import ThreadedScheduler

__all__ = ["Worker"]

#: Seconds after which a sleeping worker looks around by itself. Needed only if a Ctrl-C hit the main thread
#: between taking a worker from the list of sleepers and waking it.
HEARTBEAT = 1.0

#: Every so many requests a worker begins at the far end: background work, then the inbox. Nothing that
#: was submitted is put off for ever by more urgent work that keeps coming.
FAIRNESS_PERIOD = 64


class Worker(Carrier):
    """One thread of a `ThreadedScheduler`."""

    def __init__(self, scheduler: ThreadedScheduler, number: int) -> None:
        super().__init__()
        self.scheduler: ThreadedScheduler = scheduler
        #: Children submitted on this worker. This worker appends and pops on the right, others steal on
        #: the left.
        self.local: deque[Request[Any]] = deque()
        self.others: tuple[Worker, ...] = ()
        #: Locked while the worker is awake or has been told to wake up; released once by whoever removes
        #: the worker from `ThreadedScheduler.sleepers`, and by nobody else.
        self.gate = threading.Lock()
        self.gate.acquire()
        #: (deadline, sequence number, waiter) of parked fibers. Touched by this worker only: a fiber can only
        #: go on here, so nobody else could use an expired deadline.
        self.deadlines: list[tuple[float, int, Waiter]] = []
        self._sequence = count()
        #: Requests begun here; compared by the stall watchdog.
        self.ticks = 0
        #: Fibers of this worker that are parked, with the wait they are in. Touched by this worker only.
        self.parked: dict[Fiber, Waiter] = {}
        self.thread = threading.Thread(target=self._work, name=f"{scheduler.name}-{number}", daemon=True)

    # ----------------------------------------------------------------------------------- what fibers ask for

    def resume(self, fiber: Fiber) -> None:
        """Let a parked fiber go on; callable from any thread."""
        self.ready.append(fiber)
        # Append first, look then; see ThreadedScheduler.enqueue. A shared wake-up would not do: only this
        # worker can resume this fiber.
        if self in self.scheduler.sleepers:
            self.wake()

    def wake(self) -> None:
        """End this worker's sleep, if it sleeps."""
        sleepers = self.scheduler.sleepers
        with mutex:
            if self in sleepers:
                sleepers.remove(self)
                self.gate.release()

    def park(self, fiber: Fiber, waiter: Waiter) -> None:
        """Leave the thread to another fiber until the waiter has a verdict."""
        if waiter.timeout is not None:
            deadline = time.monotonic() + waiter.timeout
            heapq.heappush(self.deadlines, (deadline, next(self._sequence), waiter))
        request = fiber.request
        observers = self.scheduler.observers
        if request is not None:
            if request._state is RequestState.RUNNING:
                request._move(RequestState.SUSPENDED)
            if observers:
                for each in fiber.stack():
                    self.scheduler.observe("suspended", each)
        self.parked[fiber] = waiter
        try:
            self.leave()
        finally:
            del self.parked[fiber]
            # Another state than SUSPENDED: the scheduler was closed and gave up on the request.
            if request is not None and request._state is RequestState.SUSPENDED:
                request._move(RequestState.RUNNING)
        if observers:
            for each in reversed(fiber.stack()):
                self.scheduler.observe("resumed", each)
        if waiter.timeout is not None and waiter.verdict is not Verdict.TIMED_OUT:
            self._forget_stale_deadlines()

    def forget(self, request: Request[Any]) -> None:
        """Clear the ends of the local queue of what others have claimed.

        Waiters claim what they wait for straight out of the queue. Without this a request that submits and
        waits in a loop would pile up finished children, with their results, until it ends itself.
        """
        local = self.local
        # The right end is ours alone; the left one we share with thieves, so look at what was really taken.
        try:
            while local[-1]._state > RequestState.QUEUED:
                local.pop()
            while (first := local.popleft())._state > RequestState.QUEUED:
                pass
            local.appendleft(first)
        except IndexError:
            pass

    # ------------------------------------------------------------------------------------------- the loop

    def _work(self) -> None:
        self.adopt_thread()
        self.run_hub()

    def run_loop(self, fiber: Fiber) -> Any:
        """Take and run work on this fiber until the scheduler closes; see `Carrier.run_loop`."""
        scheduler = self.scheduler
        ready = self.ready
        idle = self.idle
        while True:
            request = self.hop
            if request is not None:
                self.hop = None  # claimed by the fiber that hopped
            else:
                if self.deadlines:
                    self._expire_deadlines()
                if ready:
                    following = ready.popleft()
                    if len(idle) >= MAX_IDLE_FIBERS:
                        return following
                    idle.append(fiber)
                    following.switch()
                    continue  # taken from idle by a fiber that parked
                request = self._next_request()
                if request is None:
                    if scheduler.is_open or not self._is_over():
                        self._sleep()
                        continue
                    return STOP
                if not request._claim():
                    continue  # somebody who waited for it ran it, or it was cancelled
                if scheduler.is_waking:
                    self._pass_on_waking()
            self.ticks += 1
            fiber.request = request
            # The whole context of a submitted request is its own, so setting it costs less than
            # Context.run, and no C stack that would have to be saved at every switch.
            fiber.gr_context = request._context
            try:
                request._execute(fiber)
            except BaseException as error:
                # The other place that catches everything: a bug of ours must not cost the worker.
                logger.critical("internal error in %s", self.thread.name, exc_info=True)
                fiber.torn.append((request, error))
            fiber.request = None
            if fiber.torn:
                finish_torn(fiber)
            fiber.gr_context = None
            del request  # or an idle worker keeps the last result alive

    def _next_request(self) -> Request[Any] | None:
        """Return the next request to try, or None if there is none anywhere."""
        scheduler = self.scheduler
        # Each pop may lose against another thread, and then the next place is looked at.
        try:
            if not self.ticks % FAIRNESS_PERIOD:
                if scheduler.leisure:
                    return scheduler.leisure.popleft()
                if scheduler.inbox:
                    return scheduler.inbox.popleft()
            if scheduler.urgent:
                return scheduler.urgent.popleft()
            if self.local:
                return self.local.pop()
            for other in self.others:
                if other.local:
                    return other.local.popleft()
            if scheduler.inbox:
                return scheduler.inbox.popleft()
            if scheduler.leisure:
                return scheduler.leisure.popleft()
        except IndexError:
            return self._next_request()
        return None

    def _has_work(self) -> bool:
        scheduler = self.scheduler
        return bool(
            self.ready
            or self.local
            or scheduler.urgent
            or scheduler.inbox
            or scheduler.leisure
            or any(other.local for other in self.others)
        )

    def _pass_on_waking(self) -> None:
        """Having found work, let the next sleeper be woken if there is more."""
        scheduler = self.scheduler
        # Reset first, look then: a submission that saw the flag set has appended before.
        scheduler.is_waking = False
        if scheduler.sleepers and self._has_work():
            scheduler.wake_one()

    # ------------------------------------------------------------------------------------------------ sleep

    def _sleep(self) -> None:
        """Sleep until there may be work for this worker or a deadline is due."""
        sleepers = self.scheduler.sleepers
        with mutex:
            sleepers.append(self)
            self.scheduler.is_waking = False
        # Announced first, looked then: work that came before the announcement is seen here, work that
        # comes after it finds us among the sleepers.
        if self._has_work() or not self.scheduler.is_open:
            timeout = 0.0
        elif self.deadlines:
            timeout = max(0.0, self.deadlines[0][0] - time.monotonic())
        else:
            timeout = HEARTBEAT
        if not self.gate.acquire(timeout=min(timeout, HEARTBEAT)):
            with mutex:
                if self in sleepers:
                    sleepers.remove(self)
                    return
            # Between the end of our patience and the mutex somebody took us from the list; their release
            # is on its way and must not be left for the next sleep. Not for ever, though: a Ctrl-C may have
            # torn them apart. A release that comes after all costs one look for work.
            self.gate.acquire(timeout=HEARTBEAT)

    def _expire_deadlines(self) -> None:
        now = time.monotonic()
        while self.deadlines and self.deadlines[0][0] <= now:
            heapq.heappop(self.deadlines)[2].decide(Verdict.TIMED_OUT)

    def _forget_stale_deadlines(self) -> None:
        """Drop the deadlines of waits that ended earlier once they are the greater part."""
        alive = len(self.parked)
        if len(self.deadlines) > 64 and len(self.deadlines) > 4 * alive:
            self.deadlines = [entry for entry in self.deadlines if entry[2].verdict is None]
            heapq.heapify(self.deadlines)

    def _is_over(self) -> bool:
        return not self.parked and not self.ready and self.hop is None
