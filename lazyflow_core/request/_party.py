"""Who can wait: a fiber (a greenlet of a worker) or a foreign thread. The only file that knows greenlets.

A *party* is a stack on which requests run or wait. Both kinds have the same fields, so a request does not
care on which it runs:

* `Fiber`: a greenlet that runs requests one after another. To wait, it leaves its thread to another fiber.
  A greenlet can only be resumed by the thread that made it, so each belongs to one `Carrier`.
* `ThreadParty`: any thread that is no worker. To wait, it blocks.

A `Waiter` is one wait of one party. Whoever ends the wait first - the thing waited for, a deadline, a
cancellation, the end of the scheduler - decides its verdict; everybody later is told "too late". This is the
ownership rule that keeps locks from leaking: what is handed to a waiter is handed over only if the decision
succeeded.
"""

from __future__ import annotations

import _thread
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from math import isnan
from numbers import Real
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from greenlet import getcurrent, greenlet

from ._mutex import mutex

if TYPE_CHECKING:
    from ._lock import RequestLock
    from ._request import Request
    from ._scheduler import Scheduler
    from ._seeded import SeededScheduler

__all__ = [
    "MAX_IDLE_FIBERS",
    "STOP",
    "Carrier",
    "Fiber",
    "Party",
    "ThreadParty",
    "Verdict",
    "Waiter",
    "WaiterHost",
    "check_timeout",
    "current_party",
    "current_stack",
]

T = TypeVar("T")

#: Seconds after which a thread that waits looks for signals and for a verdict it was not told of.
SIGNAL_HEARTBEAT = 0.5

#: Returned by a fiber that ended because there will be no more work.
STOP = object()

#: Idle fibers kept per carrier, a few KB each; making one costs more than everything else about a request.
MAX_IDLE_FIBERS = 512


class Verdict(IntEnum):
    """Why a wait ended."""

    WOKEN = 1  #: what was waited for is done, or was handed over
    TIMED_OUT = 2
    CANCELLED = 3
    CLOSED = 4  #: the scheduler that was to do it has gone


class Interest(Protocol):
    """Somebody who wants the result of a request."""

    @property
    def _cancelled(self) -> bool:
        """Whether this one no longer wants it."""


class WaiterHost(Protocol):
    """On whose behalf somebody waits: a request, or a party without one."""

    #: True: this one no longer wants what it waits for.
    _cancelled: bool
    #: What it waits for right now: a `Waiter`, a request that runs inline, or None. The edges of the
    #: wait-for graph. Written by its own party only; read under the mutex.
    _waiting: Any


class Fiber(greenlet):
    """A greenlet that runs requests for a carrier, one after another."""

    __slots__ = ("_waiting", "carrier", "crew", "depth", "lazyflow_party", "request", "tiles", "torn")

    _cancelled = False

    def __init__(self, carrier: Carrier) -> None:
        super().__init__(_run_fiber, carrier.hub)
        #: Itself while it runs, so that `current_party` need not ask what kind of greenlet it is on.
        self.lazyflow_party = self
        #: Whose thread may resume this fiber. Never changes.
        self.carrier = carrier
        #: See `Carrier.crew`.
        self.crew = carrier.crew
        #: The request whose code runs on this stack right now, the innermost of the inline ones.
        self.request: Request[Any] | None = None
        #: How many requests run inside each other on this stack.
        self.depth = 0
        #: What the graph is in the middle of on this stack; nothing to requests.
        self.tiles: Any = None
        self._waiting: Any = None
        #: Requests whose end was torn off by an exception in our own code, with that exception.
        self.torn: list[tuple[Request[Any], BaseException]] = []

    @property
    def scheduler(self) -> Scheduler | None:
        """For whom it runs requests; see `Worker.scheduler`."""
        return self.carrier.scheduler

    def stack(self) -> list[Request[Any]]:
        """Return the requests that run inside each other here, the innermost first."""
        found: list[Request[Any]] = []
        inner: Any = self.request
        # Between two requests may stand the consent of a pool, which is none.
        while inner is not None:
            if hasattr(inner, "_state"):
                found.append(inner)
            inner = getattr(inner, "_host", None)
        return found


class ThreadParty:
    """A thread that is no worker, as one that may wait and run requests directly."""

    __slots__ = (
        "__weakref__",
        "_waiting",
        "contended",
        "depth",
        "drives",
        "has_ended",
        "request",
        "thread",
        "thread_id",
        "thread_name",
        "tiles",
        "torn",
    )

    _cancelled = False
    #: A thread of the application's carries nobody's requests.
    scheduler: Scheduler | None = None
    crew: object = None

    def __init__(self) -> None:
        self.request: Request[Any] | None = None
        self.depth = 0
        self.tiles: Any = None
        self._waiting: Any = None
        #: The seeded scheduler whose requests move only while this thread moves them, if there is one.
        self.drives: weakref.ref[SeededScheduler] | None = None
        #: Requests whose end was torn off by an exception in our own code, with that exception.
        self.torn: list[tuple[Request[Any], BaseException]] = []
        self.thread_id = threading.get_ident()
        self.thread = threading.current_thread()
        self.thread_name = self.thread.name
        #: Locks for which others waited while this one held them; None: none ever. Who waits for one that it
        #: still holds is told when the thread ends. Guarded by the mutex.
        self.contended: weakref.WeakSet[RequestLock] | None = None
        self.has_ended = False

    def __repr__(self) -> str:
        return f"<thread {self.thread_name!r}>"


class _ThreadEnd:
    """Stands among the variables of a thread and goes with them, when the thread ends or was not forked."""

    def __init__(self, party: ThreadParty) -> None:
        self.party = party

    def __del__(self) -> None:
        party = self.party
        with mutex:
            party.has_ended = True
            for lock in list(party.contended or ()):
                lock._owner_has_ended(party)


_of_thread = threading.local()

Party = Fiber | ThreadParty

#: Returns the stack this code runs on as an object whose identity is all there is to it, in one C call.
current_stack = getcurrent


def current_party() -> Party:
    """Return the stack this code runs on."""
    here = getcurrent()
    try:
        return here.lazyflow_party  # type: ignore[attr-defined, no-any-return]
    except AttributeError:
        # Kept on the thread's main greenlet (or on somebody else's greenlet): it dies with it.
        party = here.lazyflow_party = ThreadParty()  # type: ignore[attr-defined]
        if here.parent is None:
            _of_thread.end = _ThreadEnd(party)
        return party


def stack_of(party: Party | Any) -> FrameType | None:
    """Return the innermost frame of a party that waits, or None if it cannot be known."""
    if type(party) is Fiber:
        return party.gr_frame
    if type(party) is ThreadParty:
        return sys._current_frames().get(party.thread_id)
    return None


def run_on_empty_stack(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a greenlet of its own, so that its frames have nobody above them."""
    return greenlet(function).switch(*arguments)  # type: ignore[no-any-return]


def current_fiber() -> Fiber | None:
    """Return the fiber this code runs on, or None in a foreign thread."""
    here = getcurrent()
    return here if type(here) is Fiber else None


def check_timeout(timeout: float | None) -> None:
    """Raise ValueError unless a timeout is None or a number of seconds that a float holds."""
    if timeout is None:
        return
    try:
        is_number = isinstance(timeout, Real) and not isnan(float(timeout))
    except OverflowError:
        is_number = False
    if not is_number:
        raise ValueError(f"timeout is {timeout!r}; give seconds as a number, or None to wait for ever")


class Waiter:
    """One wait of one party.

    Parameters
    ----------
    party
        The stack that is going to park.
    target
        What is waited for; asked for its name and, in the wait-for graph, for what it depends on.
    timeout
        Seconds, or None for ever.
    is_shielded
        Whether a cancellation leaves this wait alone; for waits that put something in order.
    is_patient
        Whether a worker may run some short requests before it goes on with this fiber.
    """

    __slots__ = ("_gate", "host", "is_patient", "is_shielded", "party", "target", "timeout", "verdict")

    def __init__(
        self,
        party: Party,
        target: Any,
        timeout: float | None = None,
        is_shielded: bool = False,
        is_patient: bool = False,
    ) -> None:
        self.party = party
        self.is_shielded = is_shielded
        self.is_patient = is_patient
        self.host: WaiterHost = party.request or party
        self.target = target
        self.timeout = None if timeout is None else float(timeout)
        #: None until decided, then fixed. Guarded by the mutex.
        self.verdict: Verdict | None = None
        # A new lock per wait, not one per thread: a Ctrl-C between two of our statements can leave a
        # lock of the thread released once too often. threading.Event would cost 5.6 µs instead of 0.2.
        self._gate: _thread.LockType | None = None
        if type(party) is not Fiber:
            self._gate = _thread.allocate_lock()
            self._gate.acquire()

    def decide(self, verdict: Verdict) -> bool:
        """End the wait with this verdict, unless it has ended already; say whether this call ended it."""
        with mutex:
            if self.verdict is not None:
                return False
            self.verdict = verdict
        gate = self._gate
        if gate is not None:
            gate.release()
        else:
            # The fiber may not have left its thread yet. No harm: only its own thread takes it from the
            # queue, and that thread is busy with this fiber until it has left, or has given up the wait.
            self.party.carrier.resume(self)  # type: ignore[union-attr]
        return True

    def block_for(self, seconds: float) -> bool:
        """Block this thread for a while; return whether somebody has decided."""
        assert self._gate is not None
        return self._gate.acquire(timeout=seconds) or self.verdict is not None

    def block(self) -> None:
        """Block this thread until somebody decided or the time is over."""
        # CPython runs signal handlers between two statements of the main thread. A signal that arrives on the
        # way into the wait would be heard when the wait ends, so this one ends now and then. So it does in
        # other threads: a Ctrl-C may have torn `decide` between verdict and gate.
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        while True:
            left = SIGNAL_HEARTBEAT if deadline is None else deadline - time.monotonic()
            if self.block_for(min(max(left, 0.0), SIGNAL_HEARTBEAT)):
                return
            if deadline is not None and time.monotonic() >= deadline:
                self.decide(Verdict.TIMED_OUT)
                return


class Carrier:
    """The greenlets of one thread: fibers that run requests, and the hub that starts them.

    New fibers are started from the hub, never from a deep stack: a greenlet inherits the recursion depth of
    whoever starts it.
    """

    def __init__(self) -> None:
        #: The main greenlet of the thread that carries; set by that thread.
        self.hub: greenlet
        #: Waits of our fibers that have their verdict. Appended by any thread, taken by this one.
        self.ready: deque[Waiter] = deque()
        #: Fibers that are parked, with the wait they are in. Written by this carrier's thread only.
        self.parked: dict[Fiber, Waiter] = {}
        #: Fibers between two requests. Touched by this carrier's thread only.
        self.idle: list[Fiber] = []
        #: All fibers of this carrier that have not ended.
        self.fibers: dict[Fiber, None] = {}
        #: A request claimed by a fiber too deep to run it inline; the next idle or new fiber runs it.
        self.hop: Request[Any] | None = None

    @property
    def crew(self) -> object:
        """Tells by its identity whose requests may run on the fibers: those whose `Scheduler._crew` it is."""
        raise NotImplementedError

    @property
    def scheduler(self) -> Scheduler | None:
        """For whom the fibers run requests."""
        raise NotImplementedError

    def adopt_thread(self) -> None:
        """Make the calling thread the one that carries."""
        self.hub = getcurrent()

    def resume(self, waiter: Waiter) -> None:
        """Let the fiber parked in this wait go on, soon, in its own thread; callable from any thread."""
        raise NotImplementedError

    def next_ready(self) -> Fiber | None:
        """Take the next fiber that is to go on, or return None.

        A wait may have been given up, by an exception on the way from its queue to the park, before or after
        somebody decided it. Its fiber does something else by now, and this wake-up is nobody's.
        """
        ready, parked = self.ready, self.parked
        while ready:
            waiter = ready.popleft()
            fiber: Any = waiter.party
            if parked.get(fiber) is waiter:
                return fiber  # type: ignore[no-any-return]
        return None

    def park(self, fiber: Fiber, waiter: Waiter) -> None:
        """Leave the thread to another fiber until the waiter's verdict is there."""
        raise NotImplementedError

    def forget(self, request: Request[Any]) -> None:
        """Take a queued request that was claimed by its waiter out of the queue, where that is cheap."""

    def now(self) -> float:
        """Return the time by which deadlines are meant."""
        return time.monotonic()

    def checkpoint(self, fiber: Fiber) -> None:
        """Give others a chance, if this carrier does so at checkpoints."""

    def run_loop(self, fiber: Fiber) -> Any:
        """What a fiber does: take work until there is none.

        Returns the fiber the thread is to continue with, or `STOP`.
        """
        raise NotImplementedError

    def leave(self) -> None:
        """Switch from the current fiber to the next one that has something to do."""
        following = self.next_ready() if self.hop is None else None
        if following is not None:
            following.switch()
        elif self.idle:
            self.idle.pop().switch()
        else:
            self.hub.switch(None)

    def run_hub(self) -> None:
        """Start fibers until one reports that the work is over. Runs on the thread's own stack."""
        following = Fiber(self)
        while True:
            # Control comes back with None from `leave`: all fibers are busy or parked, so start another.
            # Or with what a fiber that ended returned: the one to continue with, or STOP.
            answer = following.switch()
            if answer is STOP:
                if not self.idle:
                    return
                following = self.idle.pop()  # its loop sees the end, too
            else:
                following = Fiber(self) if answer is None else answer


def _run_fiber() -> Any:
    fiber = getcurrent()
    assert type(fiber) is Fiber
    fibers = fiber.carrier.fibers
    fibers[fiber] = None
    try:
        return fiber.carrier.run_loop(fiber)
    finally:
        del fibers[fiber]
        del fiber.lazyflow_party
