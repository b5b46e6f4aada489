"""Fixtures for pytest: graphs under every scheduler, and what a test must not leave behind.

In a ``conftest.py``, name those you want; the last three then guard every test::

    from lazyflow_core.testing.fixtures import graph, scheduler, lazyflow_isolated
    from lazyflow_core.testing.fixtures import no_blocked_worker, no_leaked_files, no_leaked_threads

Needs ``lazyflow-core[testing]``.
"""

from __future__ import annotations

import gc
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lazyflow_core import plugins
from lazyflow_core.graph import Graph
from lazyflow_core.plugins import discovery
from lazyflow_core.request import (
    InlineScheduler,
    Scheduler,
    SeededScheduler,
    ThreadedScheduler,
    current_request,
)
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
    """Fail a test that leaves a thread behind, except those of the process-wide scheduler."""
    before = set(threading.enumerate())
    yield
    left = [t for t in threading.enumerate() if t not in before and t.is_alive() and "default" not in t.name]
    assert not left, f"left behind: {left}"


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

    Seen are ``time.sleep``, ``Thread.join`` and whatever waits for a `threading.Condition`: events, queues,
    futures, barriers. A bare ``threading.Lock`` is not seen.
    """
    found: list[str] = []

    def watch(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def watched(*arguments: Any, **keywords: Any) -> Any:
            if _on_worker():
                stack = "".join(traceback.format_stack(limit=8)[:-1])
                found.append(f"{getattr(owner, '__name__', owner)}.{name} in {current_request()!r}\n{stack}")
            return original(*arguments, **keywords)

        monkeypatch.setattr(owner, name, watched)

    watch(time, "sleep")
    watch(threading.Thread, "join")
    watch(threading.Condition, "wait")
    yield
    assert not found, f"a worker was blocked {len(found)} times, first by {found[0]}"


def _on_worker() -> bool:
    """Whether this code runs in a request on one of the threads of its scheduler."""
    request = current_request()
    made = None if request is None else request._scheduler
    if not isinstance(made, ThreadedScheduler):
        return False
    return threading.current_thread() in [worker.thread for worker in made.workers]
