"""The fixtures for authors fail the tests they should fail."""

import pytest

pytest_plugins = ["pytester"]

CONFTEST = """
from lazyflow_core.testing.fixtures import graph, lazyflow_isolated, scheduler
from lazyflow_core.testing.fixtures import no_blocked_worker, no_leaked_files, no_leaked_threads
"""


@pytest.fixture
def run(pytester):
    def run(code):
        pytester.makeconftest(CONFTEST)
        pytester.makepyfile(code)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider")

    return run


def test_a_graph_comes_on_every_scheduler(run):
    result = run(
        """
        from lazyflow_core.testing import OpDistinctPixels

        def test_it(graph):
            assert OpDistinctPixels(graph=graph, shape=(2, 2)).output[:].wait().tolist() == [[1, 2], [3, 4]]
        """
    )
    result.assert_outcomes(passed=3)


def test_mark_dirty_under_a_lock_that_a_change_takes_fails_the_test(run):
    result = run(
        """
        import threading
        import numpy as np
        import pytest
        from lazyflow_core.graph import Graph
        from lazyflow_core.roi import Roi
        from lazyflow_core.testing import OpPassThrough

        class OpStore(OpPassThrough):
            def __init__(self, **slots):
                self.lock = threading.Lock()
                super().__init__(**slots)

            def receive(self, slot, roi, data):
                with self.lock:
                    self.output.mark_dirty(roi)

        class OpLocksBoth(OpStore):
            def propagate_dirty(self, slot, roi):
                with self.lock:
                    self.output.mark_dirty(roi)

        @pytest.mark.parametrize("kind", [OpStore, OpLocksBoth])
        def test_it(kind):
            with Graph() as graph:
                op = kind(graph=graph, image=np.zeros(4))
                op.image.assign(np.ones(4))
                op.image[0] = 1
        """
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*mark_dirty was called while a lock was held that setup_outputs or*"])


def test_a_worker_that_blocks_fails_the_test_and_one_that_is_suspended_does_not(run):
    result = run(
        """
        import queue, threading, time
        from concurrent.futures import Future
        import pytest
        from lazyflow_core.request import Request, RequestEvent, ThreadedScheduler

        def in_a_worker(function):
            with ThreadedScheduler(2) as scheduler:
                Request(function, scheduler=scheduler).submit().wait()

        def test_suspended():
            event = RequestEvent()
            def both():
                waiting = Request(event.wait).submit()
                event.set()
                waiting.wait()
            in_a_worker(both)
            threading.Event().wait(0.001)  # no worker

        @pytest.mark.parametrize("wait", [
            lambda: time.sleep(0),
            lambda: threading.Event().wait(0.001),
            lambda: pytest.raises(queue.Empty, queue.Queue().get, timeout=0.001),
            lambda: pytest.raises(TimeoutError, Future().result, timeout=0.001),
        ])
        def test_blocked(wait):
            in_a_worker(wait)
        """
    )
    result.assert_outcomes(passed=5, errors=4)
    result.stdout.fnmatch_lines(["*AssertionError: a worker was blocked*"])


def test_a_worker_that_waits_for_a_bare_lock_fails_the_test(run):
    result = run(
        """
        import contextlib, threading, time
        import pytest
        from lazyflow_core import Operator
        from lazyflow_core.errors import RequestError
        from lazyflow_core.request import Request, RequestEvent, ThreadedScheduler
        from lazyflow_core.testing import fixtures

        class OpOfTheAuthor(Operator):
            lock = threading.Lock()  # made before the test

        def hold(lock, entered, leave):
            with lock:
                entered.set()
                leave.wait()

        def test_held_by_a_suspended_request_of_another_worker():
            lock, entered, leave = threading.Lock(), RequestEvent(), RequestEvent()
            with ThreadedScheduler(2) as scheduler:
                first = Request(lambda: hold(lock, entered, leave), scheduler=scheduler).submit()
                entered.wait()
                second = Request(lambda: lock.acquire(), scheduler=scheduler).submit()
                while not lock.complaints:
                    time.sleep(0)
                leave.set()
                first.wait()
                with contextlib.suppress(RequestError):  # if the same worker took it
                    second.wait()

        @pytest.mark.parametrize("made", ["now", "on the class"])
        def test_held_by_a_request_of_the_same_worker(made):
            lock = threading.Lock() if made == "now" else OpOfTheAuthor.lock
            entered, leave = RequestEvent(), RequestEvent()
            with ThreadedScheduler(1) as scheduler:
                first = Request(lambda: hold(lock, entered, leave), scheduler=scheduler).submit()
                entered.wait()
                second = Request(lambda: lock.acquire(), scheduler=scheduler).submit()
                with pytest.raises(RequestError, match="would wait forever for the lock"):
                    second.wait()
                leave.set()
                first.wait()

        def test_held_by_a_thread_for_long(monkeypatch):
            monkeypatch.setattr(fixtures, "_PATIENCE_S", 0.01)
            lock = threading.Lock()
            with ThreadedScheduler(1) as scheduler, lock:
                request = Request(lambda: lock.acquire(), scheduler=scheduler).submit()
                while not lock.complaints:
                    time.sleep(0)
                lock.release()
                request.wait()

        def test_held_for_a_few_statements():
            counter, lock = [0], threading.Lock()
            def add():
                for _ in range(200):
                    with lock:
                        counter[0] += 1
            with ThreadedScheduler(4) as scheduler:
                requests = [Request(add, scheduler=scheduler).submit() for _ in range(8)]
                for request in requests:
                    request.wait()
            assert counter == [1600]
            assert threading.RLock().acquire()
        """
    )
    result.assert_outcomes(passed=5, errors=4)
    result.stdout.fnmatch_lines(["*a worker was blocked 1 times, first by a lock that*"])


def test_a_thread_and_a_file_left_behind_fail_the_test(run):
    result = run(
        """
        import threading
        event, kept = threading.Event(), []

        def test_thread():
            threading.Thread(target=event.wait, daemon=True).start()

        def test_file(tmp_path):
            kept.append(open(tmp_path / "x", "w"))
            event.set()

        def teardown_module():
            kept.pop().close()  # or whichever test runs next is blamed
        """
    )
    result.assert_outcomes(passed=2, errors=2)


def test_isolated_from_what_is_installed(run):
    result = run(
        """
        import lazyflow_core

        def test_it(lazyflow_isolated):
            assert lazyflow_core.list_operators() == []
        """
    )
    result.assert_outcomes(passed=1)
