"""`SeededScheduler`: one thread, virtual time, and a seed that decides what runs next.

Two strategies (Burckhardt and others, 2010, for the second):

* ``"random"``: any runnable thing, each with the same chance.
* ``"pct"``: every request gets a random rank, the highest runnable one runs, and at ``depth - 1`` random
  steps the running one drops to the bottom. Finds bugs that need few but far apart preemptions.

A *step* lasts from one switch point to the next: a wait, a checkpoint, the end of a request, or a call of
`preempt`, which the tests plant between all statements of this package.
"""

from __future__ import annotations

import heapq
import random
import threading
import weakref
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from lazyflow_core.errors import CircularWaitError, SchedulerClosedError

from ._cancel import cancel
from ._core import finish_torn
from ._mutex import mutex
from ._party import STOP, Carrier, Fiber, Party, ThreadParty, Verdict, Waiter, current_party
from ._scheduler import Scheduler
from ._state import RequestState
from ._stop import watched
from ._waitgraph import describe_blocked

if TYPE_CHECKING:
    from ._request import Request

__all__ = ["SeededScheduler", "preempt"]

T = TypeVar("T")

#: Seconds between two looks for what others have brought, where nothing can run without it.
OUTSIDE_HEARTBEAT = 0.001


class _Runnable(NamedTuple):
    """Something that may run next: a request that has not begun, or a fiber to go on with."""

    rank: float
    #: Numbers in the order of creation; ranks and replays must not hang on addresses.
    number: int
    what: Any
    is_claimed: bool = False


class SeededScheduler(Scheduler):
    """Runs requests in the thread that waits for them, in an order that the seed decides.

    The same seed and workloads give the same interleaving. Timeouts run on a virtual clock, which moves when
    nothing else can or when the seed says so: no test ever sleeps. If nothing can run any more and the wait
    is not over, a `CircularWaitError` tells who waits for whom, unless something waits for what others do: a
    future, a thread, a request of another scheduler. That is waited for, and no seed decides when it comes.

    Whatever the thread waits for that runs the requests, it goes on running them.

    Parameters
    ----------
    seed
        Decides everything.
    strategy
        ``"random"`` or ``"pct"``.
    depth
        For ``"pct"``: how many ordering decisions a bug is supposed to need.
    steps
        For ``"pct"``: about how many steps a run has.
    preempt_chance
        For ``"random"``: how likely a `preempt` switches.

    Examples
    --------
    >>> from lazyflow_core.request import gather
    >>> def order(seed):
    ...     seen = []
    ...     with SeededScheduler(seed) as scheduler:
    ...         scheduler.run(lambda: gather(*[lambda k=k: seen.append(k) for k in range(5)]))
    ...     return seen
    >>> order(1) == order(1), len({tuple(order(seed)) for seed in range(50)}) > 5
    (True, True)
    """

    direct = False

    def __init__(
        self,
        seed: int = 0,
        *,
        strategy: str = "random",
        depth: int = 3,
        steps: int = 200,
        preempt_chance: float = 0.2,
        name: str | None = None,
        observers: tuple[Any, ...] = (),
    ) -> None:
        if strategy not in ("random", "pct"):
            raise ValueError(f"strategy is {strategy!r}; possible are 'random' and 'pct'")
        chance = random.Random(seed)
        super().__init__(name=f"seed {seed}" if name is None else name, observers=observers)
        self.seed = seed
        #: Which of how many was chosen, step by step.
        self.trace: list[tuple[int, int]] = []
        self._crew: _SeededCarrier = _SeededCarrier(self, chance, strategy, depth, steps, preempt_chance)

    def run(self, workload: Callable[[], T]) -> T:
        """Run a workload and whatever it starts; return its result."""
        from ._request import Request

        return Request(workload, name="main", scheduler=self).submit().wait()

    def run_until_blocked(self) -> None:
        """Run until nothing can run any more. Virtual time stands still."""
        self._crew.drive(None)

    def enqueue(self, request: Request[Any], party: Party) -> None:
        """Make a request one of those that may run next; perhaps before whoever submits it goes on."""
        carrier = self._crew
        carrier.add(request)
        if type(party) is Fiber and party.carrier is carrier:
            carrier.checkpoint(party)

    def block_thread(self, waiter: Waiter) -> None:
        """Run requests until the waiter has a verdict."""
        self._crew.drive(waiter)

    def has_work(self) -> bool:
        """Return whether there are requests that have not ended."""
        return self._crew.has_work()

    def drive_meanwhile(self, waiter: Waiter) -> None:
        """Run requests until the waiter has a verdict, which may as well come from somebody else."""
        self._crew.drive(waiter, for_certain=False)

    @property
    def now(self) -> float:
        """The virtual time in seconds."""
        return self._crew.time

    def close(self, grace: float = 5.0) -> None:
        """Cancel what is left and run it to its end."""
        if not self.is_open:
            return
        self.is_open = False
        self.why_closed = "its scheduler was closed"
        self._crew.end()
        self.is_alive = False


class _SeededCarrier(Carrier):
    """The one virtual worker of a `SeededScheduler`. Everything here happens in one thread."""

    def __init__(
        self,
        scheduler: SeededScheduler,
        chance: random.Random,
        strategy: str,
        depth: int,
        steps: int,
        preempt_chance: float,
    ) -> None:
        super().__init__()
        self._scheduler = scheduler
        self.time = 0.0
        self._chance = chance
        self._is_pct = strategy == "pct"
        self._preempt_chance = preempt_chance
        self._change_points = set(chance.sample(range(1, max(steps, depth) + 1), depth - 1))
        self._step = 0
        self._numbers = count()
        self._lowest = 0.0
        self._runnable: list[_Runnable] = []
        self._ranks: dict[Fiber, float] = {}
        self._deadlines: list[tuple[float, int, Waiter]] = []
        self._thread: int | None = None
        #: Whether `drive` is running; then `hub` is there.
        self.is_driven = False

    @property
    def crew(self) -> _SeededCarrier:
        """Itself."""
        return self

    @property
    def scheduler(self) -> SeededScheduler:
        """Whose carrier it is."""
        return self._scheduler

    def now(self) -> float:
        return self.time

    def has_work(self) -> bool:
        return bool(self.parked or self._runnable)

    def add(self, request: Request[Any], *, is_claimed: bool = False) -> None:
        self._runnable.append(_Runnable(self._chance.random(), next(self._numbers), request, is_claimed))

    def resume(self, waiter: Waiter) -> None:
        self.run_again(waiter.party, waiter)

    def run_again(self, fiber: Any, what: Waiter | Fiber) -> None:
        """Make a fiber one of those that may go on: the end of a wait, or itself after standing aside."""
        self._runnable.append(_Runnable(self._ranks.get(fiber, 0.0), next(self._numbers), what))

    def park(self, fiber: Fiber, waiter: Waiter) -> None:
        if waiter.timeout is not None:
            heapq.heappush(self._deadlines, (self.time + waiter.timeout, next(self._numbers), waiter))
        request = fiber.request
        if request is not None:
            request._move(RequestState.SUSPENDED)
            if self.scheduler.observers:
                self.scheduler.observe("suspended", request)
        if self.hop is not None:
            self.add(self.hop, is_claimed=True)
            self.hop = None
        self.parked[fiber] = waiter
        if waiter.verdict is not None and all(entry.what is not waiter for entry in self._runnable):
            # Decided while this fiber stood aside on its way here, and passed over as not parked.
            self.resume(waiter)
        self.hub.switch()
        del self.parked[fiber]
        if request is not None and request._state is RequestState.SUSPENDED:
            request._move(RequestState.RUNNING)
            if self.scheduler.observers:
                self.scheduler.observe("resumed", request)

    def checkpoint(self, fiber: Fiber) -> None:
        """Let the seed decide whether somebody else goes on here."""
        # Not with the mutex (a thread could be preempted there, but nobody could enter), and not between
        # naming a request to hop to and parking: that is one step of one thread.
        if not self._runnable or self.hop is not None or mutex._is_owned():  # type: ignore[attr-defined]
            return
        if self._is_pct:
            self._count_step(fiber)
            if max(self._runnable).rank <= self._ranks[fiber]:
                return
        elif self._chance.random() >= self._preempt_chance:
            return
        self.run_again(fiber, fiber)
        self.hub.switch()

    def run_loop(self, fiber: Fiber) -> Any:
        while True:
            request = self.hop
            if request is None:
                return STOP
            self.hop = None
            fiber.request = request
            fiber.gr_context = request._context
            request._execute(fiber)
            if fiber.torn:
                finish_torn(fiber)
            fiber.request = None
            fiber.gr_context = None
            del request
            self.idle.append(fiber)
            self.hub.switch()

    def drive(self, waiter: Waiter | None, *, for_certain: bool = True) -> None:
        """Take steps until the waiter has a verdict (or, without one, until nothing can run).

        ``for_certain``: whether it is known that the verdict comes of these steps, or of what they wait for.
        """
        if self._thread is None:
            self._thread = threading.get_ident()
            party = current_party()
            if type(party) is ThreadParty:
                party.drives = weakref.ref(self.scheduler)
        elif self._thread != threading.get_ident():
            raise SchedulerClosedError(
                f"{self.scheduler!r} runs in the thread that waited first; another thread cannot wait for it"
            )
        if self.is_driven:
            self._take_steps(waiter, for_certain)
            return
        self.is_driven = True
        watched[self] = None  # seeds decide at checkpoints
        self.adopt_thread()
        try:
            self._take_steps(waiter, for_certain)
        finally:
            self.is_driven = False
            del watched[self]
            self._leave_thread()

    def _leave_thread(self) -> None:
        """Hold nothing of the thread that carried, as `Worker._work` does; what waits keeps its stack."""
        while self.idle:
            fiber = self.idle.pop()
            fiber.switch()  # finds nothing to run, and ends
            del self._ranks[fiber]
        del self.hub

    def _take_steps(self, waiter: Waiter | None, for_certain: bool) -> None:
        own_deadline = None
        if waiter is not None and waiter.timeout is not None:
            own_deadline = self.time + waiter.timeout
            heapq.heappush(self._deadlines, (own_deadline, next(self._numbers), waiter))
        while waiter is None or waiter.verdict is None:
            if not self._take_step(may_pass_time=waiter is not None):
                if waiter is None:
                    return
                if not self._waits_for_others(waiter, for_certain):
                    raise CircularWaitError(
                        f"nothing can run any more, seed {self.scheduler.seed}:\n{describe_blocked()}"
                    )
                waiter.block_for(OUTSIDE_HEARTBEAT)

    def _waits_for_others(self, waiter: Waiter, for_certain: bool) -> bool:
        """Return whether anybody who does not run in these steps may bring what is waited for."""
        with mutex:
            if not for_certain and not waiter.target._wait_dependencies():
                return True  # an event, say, which anybody may set
            return any(
                self._is_elsewhere(needed)
                for wait in (*self.parked.values(), waiter)
                if wait.verdict is None
                for needed in wait.target._wait_dependencies()
            )

    def _is_elsewhere(self, thing: Any) -> bool:
        """Return whether who is to end a wait, a request or a party, does not move in these steps."""
        if type(thing) is Fiber:
            return thing.carrier is not self
        if type(thing) is ThreadParty:
            return thing.thread_id != self._thread and thing.thread.is_alive()
        return thing._scheduler is not self.scheduler

    def _take_step(self, *, may_pass_time: bool) -> bool:
        while self._deadlines and self._deadlines[0][2].verdict is not None:
            heapq.heappop(self._deadlines)
        runnable = self._runnable
        # A lab's mutex may be held by a fiber that was preempted; this thread cannot wait for it.
        may_pass_time = may_pass_time and not getattr(mutex, "is_busy", False)
        options = len(runnable) + (1 if self._deadlines and may_pass_time else 0)
        if not options:
            return False
        chosen = self._choose(options)
        self.scheduler.trace.append((chosen, options))
        if chosen == len(runnable):
            deadline, _, waiter = heapq.heappop(self._deadlines)
            self.time = max(self.time, deadline)
            waiter.decide(Verdict.TIMED_OUT)
            return True
        entry = runnable.pop(chosen)
        if type(entry.what) is Fiber:
            fiber = entry.what
        elif type(entry.what) is Waiter:
            fiber = entry.what.party  # type: ignore[assignment]
            if self.parked.get(fiber) is not entry.what:
                return True  # given up meanwhile, see `Carrier.next_ready`
        else:
            if not entry.is_claimed and not entry.what._claim():
                return True
            self.hop = entry.what
            fiber = self.idle.pop() if self.idle else Fiber(self)
            self._ranks[fiber] = entry.rank
        if self._is_pct:
            self._count_step(fiber)
        fiber.switch()
        return True

    def _choose(self, options: int) -> int:
        runnable = self._runnable
        if not runnable:
            return 0
        if self._is_pct:
            # Time passes on its own once in a while, else no timeout would beat a busy scheduler.
            if options > len(runnable) and self._chance.random() < 0.1:
                return len(runnable)
            return max(range(len(runnable)), key=lambda k: (runnable[k].rank, -runnable[k].number))
        return self._chance.randrange(options)

    def _count_step(self, fiber: Fiber) -> None:
        self._step += 1
        if self._step in self._change_points:
            self._lowest -= 1.0
            self._ranks[fiber] = self._lowest

    def end(self) -> None:
        """Cancel all requests, run them to their end, and let the fibers finish."""
        for entry in list(self._runnable):
            if type(entry.what) not in (Fiber, Waiter):
                cancel(entry.what, force=True, reason="its scheduler was closed before it began")
        if self._thread != threading.get_ident():
            return
        for fiber in list(self.fibers):
            for request in fiber.stack():
                cancel(request, force=True)
        self.drive(None)
        for waiter in list(self.parked.values()):  # shielded ones
            waiter.decide(Verdict.CLOSED)
        self.drive(None)


def preempt() -> None:
    """Let a `SeededScheduler` decide whether somebody else goes on here; do nothing elsewhere."""
    party = current_party()
    if type(party) is Fiber:
        party.carrier.checkpoint(party)
