"""Fixtures for pytest: graphs under every scheduler, and what a test must not leave behind.

In a ``conftest.py``, name those you want; the last three then guard every test::

    from lazyflow_core.testing.fixtures import graph, scheduler, lazyflow_isolated
    from lazyflow_core.testing.fixtures import no_blocked_worker, no_leaked_files, no_leaked_threads

Needs ``lazyflow-core[testing]``.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from lazyflow_core import plugins
from lazyflow_core.graph import Graph, Operator, arrays, push, values
from lazyflow_core.graph.versions import MAKING, here, place_in
from lazyflow_core.plugins import discovery
from lazyflow_core.request import (
    InlineScheduler,
    Request,
    RequestState,
    Scheduler,
    SeededScheduler,
    ThreadedScheduler,
    current_request,
)
from lazyflow_core.request.extension import WatchedLock
from lazyflow_core.testing.checks.lifetime import open_files

__all__ = [
    "graph",
    "lazyflow_isolated",
    "no_blocked_worker",
    "no_leaked_files",
    "no_leaked_threads",
    "scheduler",
]

_SCHEDULERS: dict[str, Callable[[], Scheduler]] = {
    "inline": InlineScheduler,
    "threaded": lambda: ThreadedScheduler(2),
    "seeded": lambda: SeededScheduler(0),
}


@pytest.fixture(params=sorted(_SCHEDULERS))
def scheduler(request: pytest.FixtureRequest) -> Iterator[Scheduler]:
    """Give each scheduler in turn: whoever uses it is tested on all."""
    with _SCHEDULERS[request.param]() as made:
        yield made


@pytest.fixture
def graph(scheduler: Scheduler) -> Iterator[Graph]:
    """Give a graph that is closed in the end, on each scheduler in turn."""
    with Graph(scheduler) as made:
        yield made


@pytest.fixture
def lazyflow_isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[plugins.PluginManager]:
    """Give a process-wide plugin manager that uses nothing of what is installed, for one test.

    Allow what is needed by ``plugins.set_default(PluginManager(only=[…]))``.
    """
    for name in ("DISABLE_PLUGINS", "PREFER", "READERS", "STRICT_PLUGINS"):
        monkeypatch.delenv(f"LAZYFLOW_{name}", raising=False)
    monkeypatch.setenv("LAZYFLOW_PLUGINS", "")
    discovery.forget()
    made = plugins.PluginManager()
    plugins.set_default(made)
    yield made
    plugins.set_default(None)
    discovery.forget()


@pytest.fixture(autouse=True)
def no_leaked_threads() -> Iterator[None]:
    """Fail a test that leaves a thread behind, except those of the process."""
    before = set(threading.enumerate())
    yield
    left = [t for t in threading.enumerate() if t not in before and t.is_alive() and not _of_the_process(t)]
    assert not left, f"left behind: {left}"


def _of_the_process(thread: threading.Thread) -> bool:
    """Whether a thread belongs to the process-wide scheduler, or watches the end of the process."""
    return "default" in thread.name or thread.name == "lazyflow-exit"


@pytest.fixture(autouse=True)
def no_leaked_files() -> Iterator[None]:
    """Fail a test that leaves a file open, where the system can tell."""
    before = open_files()
    yield
    if open_files() - before:
        gc.collect()  # what nobody holds any more is no leak
    left = sorted(open_files() - before)
    assert not left, f"left open: {left}"


@pytest.fixture(autouse=True)
def no_blocked_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test in which a worker slept or waited like a thread while it ran a request.

    Seen are ``time.sleep``, ``Thread.join``, whatever waits for a `threading.Condition` (events, queues,
    futures, barriers), and bare locks: those that are made during the test, and those in modules of operators
    and on their classes. Waiting for a lock is a fault if whoever holds it is a request that is suspended, or
    if it takes a second; a few statements of another thread are none. A request that wants a lock which its
    own thread holds would wait forever: it raises instead.

    Such a lock also tells if ``mark_dirty`` is called while it is held, and a change of the graph takes it,
    in ``setup_outputs`` or ``propagate_dirty``: each of the two would wait for the other.
    """
    found: list[str] = []
    locks: weakref.WeakSet[_ImpatientLock] = weakref.WeakSet()

    def complain(what: str) -> None:
        stack = "".join(traceback.format_stack(limit=8)[:-2])
        found.append(f"{what} in {current_request()!r}\n{stack}")

    def watch(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def watched(*arguments: Any, **keywords: Any) -> Any:
            if _on_worker():
                complain(f"{getattr(owner, '__name__', owner)}.{name}")
            return original(*arguments, **keywords)

        monkeypatch.setattr(owner, name, watched)

    def watched_lock(lock: Any) -> _ImpatientLock:
        made = _ImpatientLock(lock, complain)
        locks.add(made)
        return made

    def marking(slot: Any, roi: Any) -> None:
        if not _in_a_change(slot.graph):
            for lock in list(locks):
                if lock.is_mine():
                    lock.marked_under = "".join(traceback.format_stack(limit=8)[:-1])
        mark_dirty(slot, roi)

    def watch_locks(name: str) -> None:
        make = getattr(threading, name)

        def made() -> Any:
            maker = str(sys._getframe(1).f_globals.get("__name__"))
            # Those of the framework are held for a few statements; conditions, events, queues are seen above.
            ours = maker in ("threading", "queue") or maker.startswith("lazyflow_core.request")
            return make() if ours else watched_lock(make())

        monkeypatch.setattr(threading, name, made)

    for owner in _authors_code():
        for name, value in list(vars(owner).items()):
            if isinstance(value, _LOCKS):
                monkeypatch.setattr(owner, name, watched_lock(value))
    watch(time, "sleep")
    watch(threading.Thread, "join")
    watch(threading.Condition, "wait")
    watch_locks("Lock")
    watch_locks("RLock")
    mark_dirty = push.mark_dirty
    monkeypatch.setattr(arrays, "mark_dirty", marking)
    monkeypatch.setattr(values, "mark_dirty", marking)
    yield
    assert not found, f"a worker was blocked {len(found)} times, first by {found[0]}"
    for lock in locks:
        assert lock.marked_under is None or not lock.taken_in_change, (
            "mark_dirty was called while a lock was held that setup_outputs or propagate_dirty take, so that "
            f"each waits for the other:\n{lock.marked_under}"
        )


_LOCKS: Final = (type(threading.Lock()), type(threading.RLock()))

#: Seconds after which waiting for a lock is no longer a matter of a few statements.
_PATIENCE_S = 1.0


class _ImpatientLock(WatchedLock):
    """A lock that complains about requests which wait for it like a thread."""

    def __init__(self, lock: Any, complain: Callable[[str], None]) -> None:
        super().__init__(lock)
        self._complain = complain
        #: Thread and request of who has it. Written by them, read without a lock by those who wait.
        self._holder: tuple[int, Request[Any] | None] | None = None
        #: How often it complained.
        self.complaints = 0
        #: Where ``mark_dirty`` was called while it was held, and whether a change of a graph took it.
        self.marked_under: str | None = None
        self.taken_in_change = False

    def _taken(self) -> None:
        self._holder = (threading.get_ident(), current_request())
        self.taken_in_change = self.taken_in_change or _in_a_change(None)

    def _let_go(self) -> None:
        self._holder = None

    def is_mine(self) -> bool:
        """Whether the caller holds it."""
        return self._holder == (threading.get_ident(), current_request())

    def _wait(self, timeout: float) -> bool:
        if not _on_worker():
            return super()._wait(timeout)
        thread, request = self._holder or (0, None)
        if thread == threading.get_ident():
            self._blame(f"a lock that {request!r} holds on the same thread")
            raise AssertionError(f"{current_request()!r} would wait forever for the lock of {request!r}.")
        if request is not None and request.state is RequestState.SUSPENDED:
            self._blame(f"a lock that {request!r} holds while it is suspended")
            return bool(self._lock.acquire(True, timeout))
        if self._lock.acquire(True, _PATIENCE_S if timeout < 0 else timeout):
            return True
        self._blame("a lock that somebody else holds for long")
        return timeout < 0 and bool(self._lock.acquire())

    def _blame(self, what: str) -> None:
        self._complain(what)
        self.complaints += 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lock, name)


def _in_a_change(graph: Graph | None) -> bool:
    """Whether this is called by a change of that graph, or of any."""
    version = here.get()[3] if graph is None else (place_in(graph) or (None,) * 4)[3]
    return version is not None and version.state is MAKING


def _authors_code() -> Iterator[Any]:
    """Give the classes of all operators, and the modules they are in."""
    classes, found = [Operator], set()
    while classes:
        cls = classes.pop()
        classes += cls.__subclasses__()
        if cls not in found:
            found.add(cls)
            yield cls
    yield from {sys.modules[cls.__module__] for cls in found if cls.__module__ in sys.modules}


def _on_worker() -> bool:
    """Whether this code runs in a request on one of the threads of its scheduler."""
    request = current_request()
    made = None if request is None else request._scheduler
    if not isinstance(made, ThreadedScheduler):
        return False
    return threading.current_thread() in [worker.thread for worker in made._crew.workers]
