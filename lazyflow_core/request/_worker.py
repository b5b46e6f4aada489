"""`Worker`: one thread, its fibers, its queue, its deadlines and its sleep."""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from itertools import count
from logging import CRITICAL
from threading import Lock
from typing import TYPE_CHECKING, Any

from lazyflow_core.foreign import log_error

from ._core import finish_torn
from ._links import logger
from ._mutex import mutex
from ._party import MAX_IDLE_FIBERS, STOP, Carrier, Fiber, Verdict, Waiter
from ._state import RequestState

if TYPE_CHECKING:
    from ._crew import Crew
    from ._request import Request
    from ._scheduler import Scheduler

__all__ = ["Worker"]

#: Seconds after which a sleeping worker looks around by itself. Needed only if a Ctrl-C hit the main thread
#: between taking a worker from the list of sleepers, or deciding a wait, and waking who is meant.
HEARTBEAT = 1.0

#: Seconds from the beginning of a patient wait in which short requests go before its end. What takes longer
#: than this is never put before somebody who waits for results, unless it follows on what is short.
PATIENCE = 50e-6

#: Every so many requests a worker begins at the far end: background work, then the inbox. Nothing that
#: was submitted is put off for ever by more urgent work that keeps coming.
FAIRNESS_PERIOD = 64


class Worker(Carrier):
    """One thread of a `ThreadedScheduler`."""

    def __init__(self, crew: Crew, number: int) -> None:
        super().__init__()
        self._crew = crew
        #: Children submitted on this worker. This worker appends and pops on the right, others steal on
        #: the left.
        self.local: deque[Request[Any]] = deque()
        self.others: tuple[Worker, ...] = ()
        #: Locked while the worker is awake or has been told to wake up; released once by whoever removes
        #: the worker from `Crew.sleepers`, and by nobody else.
        self.gate = Lock()  # by a name of our own: `debug_checks` watches those that are made by threading's
        self.gate.acquire()
        #: (deadline, sequence number, waiter) of parked fibers. Touched by this worker only: a fiber can only
        #: go on here, so nobody else could use an expired deadline.
        self.deadlines: list[tuple[float, int, Waiter]] = []
        self._sequence = count()
        #: As `ready`, of fibers that wait for what comes one by one, such as results of a pool. Where
        #: requests are so short that a switch costs more than they do, it pays to run some at a time.
        self.patient: deque[Waiter] = deque()
        #: When it is their turn even if there are more requests to run.
        self.patient_until = 0.0
        #: Requests begun here; compared by the stall watchdog.
        self.ticks = 0
        self.thread = threading.Thread(target=self._work, name=f"{crew.name}-{number}", daemon=True)

    @property
    def crew(self) -> Crew:
        """Whose worker it is."""
        return self._crew

    @property
    def scheduler(self) -> Scheduler | None:
        """For whom the fibers run requests. None: it is gone, and there are no requests."""
        return self._crew.scheduler()

    # ----------------------------------------------------------------------------------- what fibers ask for

    def resume(self, waiter: Waiter) -> None:
        """Let a parked fiber go on; callable from any thread."""
        (self.patient if waiter.is_patient else self.ready).append(waiter)
        # Append first, look then; see ThreadedScheduler.enqueue. A shared wake-up would not do: only this
        # worker can resume this fiber.
        if self in self._crew.sleepers:
            self.wake()

    def next_ready(self) -> Fiber | None:
        """See `Carrier.next_ready`."""
        patient = self.patient
        if patient and (not self.local or time.perf_counter() >= self.patient_until):
            while patient:
                self.ready.append(patient.popleft())
        return super().next_ready()

    def wake(self) -> None:
        """End this worker's sleep, if it sleeps."""
        sleepers = self._crew.sleepers
        with mutex:
            if self in sleepers:
                sleepers.remove(self)
                self.gate.release()

    def park(self, fiber: Fiber, waiter: Waiter) -> None:
        """Leave the thread to another fiber until the waiter has a verdict."""
        request = fiber.request
        scheduler = None if request is None else request._scheduler
        observer = scheduler if scheduler is not None and scheduler.observers else None
        try:
            if waiter.timeout is not None:
                deadline = time.monotonic() + waiter.timeout
                heapq.heappush(self.deadlines, (deadline, next(self._sequence), waiter))
            if request is not None:
                if request._state is RequestState.RUNNING:
                    request._move(RequestState.SUSPENDED)
                if observer is not None:
                    for each in fiber.stack():
                        observer.observe("suspended", each)
            self.parked[fiber] = waiter
            if waiter.is_patient:
                self.patient_until = time.perf_counter() + PATIENCE
            self.leave()
        finally:
            self.parked.pop(fiber, None)
            # Another state than SUSPENDED: the scheduler was closed and gave up on the request.
            if request is not None and request._state is RequestState.SUSPENDED:
                request._move(RequestState.RUNNING)
        if observer is not None:
            for each in reversed(fiber.stack()):
                observer.observe("resumed", each)
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
            while local and local[-1]._state > RequestState.QUEUED:
                local.pop()
            while local and local[0]._state > RequestState.QUEUED:
                first = local.popleft()
                if first._state <= RequestState.QUEUED:
                    local.appendleft(first)  # a thief took the one we looked at
        except IndexError:
            pass

    # ------------------------------------------------------------------------------------------- the loop

    def _work(self) -> None:
        self.adopt_thread()
        try:
            self.run_hub()
        finally:
            # greenlet releases a reference to the stack of a thread that has ended if it cannot see by whom
            # it is held. After gc.freeze() it sees nobody, and ours would be left dangling.
            del self.hub
            self._crew.closing.set()

    def run_loop(self, fiber: Fiber) -> Any:
        """Take and run work on this fiber until the crew is dismissed; see `Carrier.run_loop`."""
        # A million requests pass here, so whatever never changes is a local variable.
        crew = self._crew
        urgent = crew.urgent
        inbox = crew.inbox
        local = self.local
        others = self.others
        ready = self.ready
        patient = self.patient
        idle = self.idle
        torn = fiber.torn
        # A fiber that is too deep to run a request inline leaves it for whoever is switched to next: a fiber
        # that begins here, or one that comes back from its place among the idle.
        request = self._take_hop()
        while True:
            if request is None:
                if self.deadlines:
                    self._expire_deadlines()
                following = self.next_ready() if ready or patient else None
                if following is not None:
                    fiber.request = fiber.gr_context = None
                    if len(idle) >= MAX_IDLE_FIBERS:
                        return following
                    idle.append(fiber)
                    following.switch()
                    request = self._take_hop()
                    continue
                # Each pop may lose against another thread, and then all is looked at again.
                try:
                    if not self.ticks % FAIRNESS_PERIOD:
                        request = self._next_from_far_end()
                    if request is not None:
                        pass
                    elif urgent:
                        request = urgent.popleft()
                    elif local:
                        request = local.pop()
                    else:
                        for other in others:
                            if other.local:
                                request = other.local.popleft()
                                break
                        else:
                            if inbox:
                                request = inbox.popleft()
                            elif crew.leisure:
                                request = crew.leisure.popleft()
                except IndexError:
                    continue
                if request is None:
                    fiber.request = fiber.gr_context = None
                    if crew.is_wanted or not self._is_over():
                        self._sleep()
                        continue
                    return STOP
                if not request._claim():
                    request = None  # somebody who waited for it ran it, or it was cancelled
                    continue
                if crew.is_waking:
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
                log_error(logger, "internal error in %s", self.thread.name, error=error, level=CRITICAL)
                torn.append((request, error))
            if torn:
                finish_torn(fiber)
            request = None

    def _take_hop(self) -> Request[Any] | None:
        request = self.hop
        self.hop = None
        return request

    def _next_from_far_end(self) -> Request[Any] | None:
        """Return the next request in the order that lets nobody wait for ever."""
        for queue in (self._crew.leisure, self._crew.inbox):
            if queue:
                return queue.popleft()
        return None

    def _has_work(self) -> bool:
        crew = self._crew
        return bool(
            self.ready
            or self.patient
            or self.local
            or crew.urgent
            or crew.inbox
            or crew.leisure
            or any(other.local for other in self.others)
        )

    def _pass_on_waking(self) -> None:
        """Having found work, let the next sleeper be woken if there is more."""
        crew = self._crew
        # Reset first, look then: a submission that saw the flag set has appended before.
        crew.is_waking = False
        if crew.sleepers and self._has_work():
            crew.wake_one()

    # ------------------------------------------------------------------------------------------------ sleep

    def _sleep(self) -> None:
        """Sleep until there may be work for this worker or a deadline is due."""
        crew = self._crew
        sleepers = crew.sleepers
        if not self.parked:
            self.deadlines.clear()  # of waits that are over; they hold requests, and those the scheduler
        with mutex:
            sleepers.append(self)
            crew.is_waking = False
        # Announced first, looked then: work that came before the announcement is seen here, work that
        # comes after it finds us among the sleepers.
        if self._has_work() or (not crew.is_wanted and self._is_over()):
            timeout = 0.0
        elif self.deadlines:
            timeout = max(0.0, self.deadlines[0][0] - time.monotonic())
        else:
            timeout = HEARTBEAT
        if not self.gate.acquire(timeout=min(timeout, HEARTBEAT)):
            if timeout == HEARTBEAT:
                self._find_lost_verdicts()
            with mutex:
                if self in sleepers:
                    sleepers.remove(self)
                    return
            # Between the end of our patience and the mutex somebody took us from the list; their release
            # is on its way and must not be left for the next sleep. Not for ever, though: a Ctrl-C may have
            # torn them apart. A release that comes after all costs one look for work.
            self.gate.acquire(timeout=HEARTBEAT)

    def _find_lost_verdicts(self) -> None:
        """Wake fibers whose wait was decided by a thread that a Ctrl-C kept from telling us."""
        for waiter in self.parked.values():
            if waiter.verdict is not None:
                self.ready.append(waiter)  # a second wake-up for one wait is passed over

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
        return not (self.parked or self.ready or self.patient) and self.hop is None
