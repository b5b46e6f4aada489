"""Fixtures for all tests of the core."""

import pytest
from hypothesis import settings

from lazyflow_core.graph import Graph
from lazyflow_core.request import InlineScheduler, ThreadedScheduler
from lazyflow_core.testing.fixtures import no_leaked_threads

__all__ = ["no_leaked_threads"]

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
