"""Workloads that block their worker for what only workers do: threads that wait help themselves."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lazyflow_core.errors import RequestError, RequestTimeoutError
from lazyflow_core.request import (
    Request,
    RequestEvent,
    RequestLock,
    RequestPool,
    ThreadedScheduler,
    gather,
)


def in_a_thread(function):
    """Call a function in a thread of its own and wait for it without telling anybody."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(function).result()


def submitted(scheduler):
    return Request(lambda: 7, scheduler=scheduler).submit().wait()


def in_a_pool(scheduler):
    with RequestPool(scheduler=scheduler) as pool:
        return sum(pool.submit(lambda k=k: k) and k for k in range(5)) - 3


def results_of_a_pool(scheduler):
    with RequestPool(scheduler=scheduler) as pool:
        for k in (3, 4):
            pool.submit(lambda k=k: k)
        return sum(pool)


def mapped(scheduler):
    with RequestPool(2, scheduler=scheduler) as pool:
        return sum(pool.map(lambda k: k, range(5))) - 3


def gathered(scheduler):
    return sum(gather(*[Request(lambda k=k: k, scheduler=scheduler) for k in (3, 4)]))


def as_a_future(scheduler):
    return Request(lambda: 7, scheduler=scheduler).future().result()


def of_children_of_children(scheduler):
    def down(level):
        return 7 if not level else Request(lambda: down(level - 1), scheduler=scheduler).submit().wait()

    return Request(lambda: down(5), scheduler=scheduler).submit().wait()


WAITS = [submitted, in_a_pool, results_of_a_pool, mapped, gathered, as_a_future, of_children_of_children]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("wait", WAITS)
def test_a_thread_gets_what_it_waits_for_while_all_workers_wait_for_it(wait, workers):
    with ThreadedScheduler(workers) as scheduler:
        together = threading.Barrier(workers)

        def work():
            together.wait(10)  # every worker is blocked before any thread asks
            return in_a_thread(lambda: wait(scheduler))

        requests = [Request(work, scheduler=scheduler).submit() for _ in range(workers)]
        assert [request.wait() for request in requests] == [7] * workers
        assert Request(lambda: 1, scheduler=scheduler).submit().wait() == 1


def test_a_thread_helps_with_what_a_suspended_request_needs():
    with ThreadedScheduler(1) as scheduler:
        go_on = RequestEvent()

        def inner():
            return 7

        def outer():
            child = Request(inner).submit()
            blocker = Request(lambda: in_a_thread(child.wait)).submit()
            return child.wait() + blocker.wait()

        go_on.set()
        assert Request(outer, scheduler=scheduler).submit().wait() == 14


def test_a_wait_with_a_deadline_only_waits(threaded_one):
    scheduler, release = threaded_one
    request = Request(lambda: 7, scheduler=scheduler).submit()
    with pytest.raises(RequestTimeoutError):
        request.wait(timeout=0)
    release.set()
    assert request.wait() == 7


def test_a_helper_is_told_of_failures_as_everybody(threaded_one):
    scheduler, release = threaded_one

    def fail():
        raise ValueError("broken")

    with pytest.raises(RequestError, match="broken"), RequestPool(scheduler=scheduler) as pool:
        pool.submit(fail)
        pool.submit(lambda: 1)
    release.set()


def test_a_ctrl_c_in_what_the_main_thread_helps_with_is_a_ctrl_c(threaded_one):
    scheduler, release = threaded_one

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Request(interrupted, scheduler=scheduler).submit().wait()
    release.set()


@pytest.fixture
def threaded_one():
    """A scheduler whose only worker stands still until it is released."""
    blocked, release = threading.Event(), threading.Event()
    with ThreadedScheduler(1) as scheduler:
        request = Request(lambda: (blocked.set(), release.wait(30)), scheduler=scheduler).submit()
        assert blocked.wait(10)
        yield scheduler, release
        release.set()
        request.wait()


def test_what_the_workers_move_on_with_is_theirs():
    def who():
        return threading.current_thread().name

    with ThreadedScheduler(1, name="mover") as scheduler:
        names = {Request(who, scheduler=scheduler).submit().wait() for _ in range(200)}
    assert names == {"mover-0"}


def test_a_future_suspends_the_request_that_waits_for_it(scheduler):
    def work():
        return [request.future().result() for request in (Request(lambda: 3), Request(lambda: 4))]

    assert Request(work, scheduler=scheduler).submit().wait() == [3, 4]


def test_a_future_waited_for_in_a_circle_says_so(threaded):
    box = []
    request = Request(lambda: box[0].result(), name="round", scheduler=threaded)
    box.append(request.future())
    with pytest.raises(RequestError, match="waits for itself"):
        request.wait()


def test_the_report_of_a_blocked_worker_says_who_waits_and_who_holds(caplog):
    lock = RequestLock("the file")
    with ThreadedScheduler(1, name="held", stall_warning=0.05) as scheduler:
        taken, told, release = threading.Event(), threading.Event(), threading.Event()

        class Listen(logging.Handler):
            def emit(self, record):
                told.set()

        listen = Listen()
        logging.getLogger("lazyflow_core").addHandler(listen)
        try:

            def holder():
                with lock:
                    taken.set()
                    release.wait(30)

            request = Request(holder, name="holder", scheduler=scheduler).submit()
            assert taken.wait(10)
            waiting = threading.Thread(target=lock.acquire, name="patient")
            waiting.start()
            assert told.wait(20)
        finally:
            logging.getLogger("lazyflow_core").removeHandler(listen)
            release.set()
        waiting.join()
        request.wait()
    lock.release()
    (text,) = [record.getMessage() for record in caplog.records if "without a wait" in record.getMessage()]
    assert "release.wait(30)" in text
    assert "without a wait: request 'holder' (RUNNING)" in text
    assert "<thread 'patient'> waits for RequestLock 'the file' held by request 'holder' (RUNNING)" in text
