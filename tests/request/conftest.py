"""Schedulers to run a test on, and checks after each test that nothing was left behind."""

import sys
import threading

import pytest

from lazyflow_core.request import InlineScheduler, SeededScheduler, ThreadedScheduler, describe_blocked


@pytest.fixture
def threaded():
    with ThreadedScheduler(2, name="test") as scheduler:
        yield scheduler


@pytest.fixture(params=["threaded", "seeded", "inline"])
def scheduler(request):
    """One after the other: worker threads, seeded interleavings, everything in the calling thread."""
    make = {"threaded": lambda: ThreadedScheduler(2), "seeded": SeededScheduler, "inline": InlineScheduler}
    with make[request.param]() as scheduler:
        yield scheduler


@pytest.fixture(autouse=True)
def nothing_stays_blocked():
    """A wait that outlives its test is a hang that nobody noticed."""
    yield
    left = describe_blocked()
    assert left == "nothing is blocked", left


class HangWatch:
    """One thread for the whole session that tells who waits for whom when a test takes too long.

    pytest-timeout dumps the stacks of threads; suspended greenlets are not among them.
    """

    patience_s = 50.0

    def __init__(self):
        self.test = None
        self.changed = threading.Condition()
        threading.Thread(target=self.watch, name="hang watch", daemon=True).start()

    def watch(self):
        with self.changed:
            while True:
                watched = self.test
                if not self.changed.wait(self.patience_s) and watched is not None and watched is self.test:
                    text = f"\n{watched} seems to hang:\n{describe_blocked()}\n"
                    print(text, file=sys.__stderr__, flush=True)

    def begin(self, test):
        with self.changed:
            self.test = test
            self.changed.notify()


hang_watch = HangWatch()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    hang_watch.begin(item.nodeid)
    try:
        return (yield)
    finally:
        hang_watch.begin(None)
