"""Tools for tests of concurrent code that never sleep: gates, a sequencer, an explorer of interleavings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from lazyflow_core.foreign import contextmanager, sentence
from lazyflow_core.request import RequestCondition, RequestEvent, SeededScheduler, describe_blocked
from lazyflow_core.request._waitgraph import parked

__all__ = ["Gate", "Sequencer", "explore", "wait_all_blocked"]


class Gate:
    """A place where code waits until the test lets it pass.

    Examples
    --------
    >>> from lazyflow_core.request import Request
    >>> gate = Gate()
    >>> request = Request(lambda: gate.pass_through() or "through").submit()
    >>> gate.wait_reached()
    >>> gate.open()
    >>> request.wait()
    'through'
    """

    def __init__(self, name: str = "gate") -> None:
        self._reached = RequestEvent(f"{name} reached")
        self._opened = RequestEvent(f"{name} opened")

    def pass_through(self) -> None:
        """Wait here until the gate is open; called by the code under test."""
        self._reached.set()
        self._opened.wait()

    def wait_reached(self, timeout: float = 10.0) -> None:
        """Wait until somebody is at the gate."""
        if not self._reached.wait(timeout):
            raise AssertionError(f"nobody reached the gate within {timeout:g} s:\n{describe_blocked()}")

    def open(self) -> None:
        """Let everybody pass, now and later."""
        self._opened.set()


class Sequencer:
    """Forces blocks of code in several requests or threads to run in the order of their numbers.

    Examples
    --------
    >>> from lazyflow_core.request import gather
    >>> sequence, order = Sequencer(), []
    >>> def first():
    ...     with sequence(0):
    ...         order.append("a")
    ...     with sequence(2):
    ...         order.append("c")
    >>> def second():
    ...     with sequence(1):
    ...         order.append("b")
    >>> _ = gather(first, second)
    >>> order
    ['a', 'b', 'c']
    """

    def __init__(self) -> None:
        self._next = 0
        self._changed = RequestCondition(name="sequencer")

    @contextmanager
    def __call__(self, number: int) -> Iterator[None]:
        """Wait for one's turn, run the block, pass the turn on."""
        with self._changed:
            self._changed.wait_for(lambda: self._next == number)
        try:
            yield
        finally:
            with self._changed:
                self._next = number + 1
                self._changed.notify_all()


def wait_all_blocked(count: int, timeout: float = 10.0) -> None:
    """Wait until at least ``count`` requests or threads are blocked; instead of "sleep and hope".

    Raises
    ------
    AssertionError
        If there are fewer after ``timeout`` seconds; the text tells which.
    """
    deadline = time.monotonic() + timeout
    while len(parked) < count:
        if time.monotonic() > deadline:
            raise AssertionError(
                f"only {len(parked)} of {count} are blocked after {timeout:g} s:\n{describe_blocked()}"
            )
        time.sleep(0)


def explore(
    scenario: Callable[[SeededScheduler], object],
    seeds: Iterable[int] = range(200),
    *,
    make_scheduler: Callable[..., SeededScheduler] = SeededScheduler,
    steps: int = 200,
) -> int:
    """Run a scenario under many interleavings, half of them random, half of them PCT with d = 3.

    Parameters
    ----------
    scenario
        Called with a fresh scheduler per seed; raises if something is wrong.
    seeds
        Even ones choose randomly, odd ones by PCT.
    steps
        About how many switch points one run has; for PCT.

    Returns
    -------
    int
        How many interleavings were different.

    Raises
    ------
    AssertionError
        With the first seed that failed; ``explore(scenario, [seed])`` shows it again.

    Examples
    --------
    >>> from lazyflow_core.request import checkpoint, gather
    >>> def lost_update(scheduler):
    ...     counter = [0]
    ...     def add():
    ...         before = counter[0]
    ...         checkpoint()
    ...         counter[0] = before + 1
    ...     scheduler.run(lambda: gather(add, add))
    ...     assert counter == [2], counter
    >>> explore(lost_update)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    AssertionError: seed ... fails (...): AssertionError: [1]...
    """
    traces = set()
    for seed in seeds:
        strategy = "pct" if seed % 2 else "random"
        scheduler = make_scheduler(seed, strategy=strategy, depth=3, steps=steps)
        try:
            with scheduler:
                scenario(scheduler)
        except Exception as error:
            how = f"{strategy}, {len(scheduler.trace)} steps"
            raise AssertionError(f"seed {seed} fails ({how}): {sentence(error)}") from error
        traces.add(tuple(scheduler.trace))
    return len(traces)
