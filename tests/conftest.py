"""Fixtures for all tests of the core."""

import threading

import pytest
from hypothesis import settings

from lazyflow_core.graph import Graph
from lazyflow_core.request import InlineScheduler, ThreadedScheduler

# A busy machine is no fault of the example that happens to run; a hang ends by the timeout of the test.
settings.register_profile("patient", settings(), deadline=None)
settings.load_profile("patient")


@pytest.fixture(params=["inline", "threaded"])
def scheduler(request):
    """Every test that uses it is a test of every scheduler."""
    made = InlineScheduler() if request.param == "inline" else ThreadedScheduler(2)
    with made:
        yield made


@pytest.fixture
def graph(scheduler):
    with Graph(scheduler) as made:
        yield made


@pytest.fixture(autouse=True)
def no_leaked_threads():
    """A test leaves no thread behind, except those of the process-wide scheduler."""
    before = set(threading.enumerate())
    yield
    left = [t for t in threading.enumerate() if t not in before and t.is_alive() and "default" not in t.name]
    assert not left, f"left behind: {left}"
