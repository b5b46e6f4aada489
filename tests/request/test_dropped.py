"""A scheduler that nobody holds any more ends its threads by itself, after what was submitted to it."""

import gc
import threading
import weakref

import pytest

from lazyflow_core.errors import RequestError, RequestTimeoutError
from lazyflow_core.request import (
    Request,
    RequestEvent,
    RequestPool,
    ThreadedScheduler,
    TraceRecorder,
    current_request,
    gather,
)
from lazyflow_core.testing.schedulers import wait_all_blocked


@pytest.fixture
def without_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def threads_of(scheduler):
    crew = scheduler._crew
    return [*(worker.thread for worker in crew.workers), *filter(None, [crew.stall_watch])]


def assert_ended(threads):
    assert threads
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)


def time_out(scheduler):
    never, asked, there = RequestEvent(), RequestEvent(), RequestEvent()

    def work():
        with pytest.raises(RequestTimeoutError):
            Request(never.wait).submit().wait(timeout=0.001)
        never.set()
        asked.set()
        return there.wait(timeout=3600)  # long over when its deadline comes

    request = Request(work, scheduler=scheduler).submit()
    asked.wait()
    wait_all_blocked(1)
    there.set()
    assert request.wait()


def fail(scheduler):
    def work():
        raise KeyError

    with pytest.raises(RequestError):
        Request(work, scheduler=scheduler).submit().wait()


def use_pool(scheduler):
    with RequestPool(3, scheduler=scheduler) as pool:
        assert sum(pool.map(lambda k: k, range(20))) == 190


def use_observer(scheduler):
    with RequestPool(scheduler=scheduler) as pool:
        pool.submit(lambda: gather(*[lambda: 1] * 5))


USES = {
    "one request": lambda scheduler: Request(lambda: 1, scheduler=scheduler).submit().wait(),
    "many levels": lambda scheduler: (
        Request(lambda: gather(*[lambda: gather(*[lambda: 1] * 5)] * 5), scheduler=scheduler).submit().wait()
    ),
    "timeouts": time_out,
    "a failure": fail,
    "a pool": use_pool,
    "an observer": use_observer,
    "a future": lambda scheduler: Request(lambda: 1, scheduler=scheduler).future().result(10),
    "a callback": lambda scheduler: (
        Request(lambda: 1, scheduler=scheduler)
        .on_done(lambda request: Request(lambda: 2).submit())
        .submit()
        .wait()
    ),
}


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("stall_warning", [None, 60])
def test_the_threads_end_with_the_last_who_holds_their_scheduler(use, stall_warning):
    observers = (TraceRecorder(),) if use == "an observer" else ()
    scheduler = ThreadedScheduler(2, stall_warning=stall_warning, observers=observers)
    USES[use](scheduler)
    threads = threads_of(scheduler)
    gone = weakref.ref(scheduler)
    del scheduler
    assert_ended(threads)
    assert gone() is None


@pytest.mark.usefixtures("without_collector")
def test_many_dropped_schedulers_leave_no_threads():
    threads = []
    for _ in range(100):
        scheduler = ThreadedScheduler(2)
        Request(lambda: 1, scheduler=scheduler).submit().wait()
        threads += threads_of(scheduler)
    del scheduler
    assert_ended(threads)


@pytest.mark.usefixtures("without_collector")
def test_what_was_submitted_to_a_dropped_scheduler_still_completes():
    scheduler = ThreadedScheduler(1)
    gate, done = threading.Event(), []
    Request(gate.wait, scheduler=scheduler).submit()
    for k in range(50):
        Request(lambda k=k: done.append(gather(lambda: k, lambda: k + 1)), scheduler=scheduler).submit()
    last = RequestEvent()
    suspended = Request(last.wait, scheduler=scheduler).submit()
    threads = threads_of(scheduler)
    del scheduler
    gate.set()
    wait_all_blocked(1)  # the last one, with nothing left before it
    assert sorted(done) == [[k, k + 1] for k in range(50)]
    assert all(thread.is_alive() for thread in threads)
    last.set()
    assert suspended.wait()
    del suspended
    assert_ended(threads)


@pytest.mark.usefixtures("without_collector")
def test_work_that_goes_on_holds_its_scheduler_and_may_submit_more():
    taken, go_on, results = threading.Event(), RequestEvent(), []

    def work(n):
        taken.set()
        go_on.wait()
        if n:
            Request(lambda: work(n - 1)).submit()  # nobody waits for it
        else:
            results.append(1)
            assert current_request()._scheduler.is_open

    scheduler = ThreadedScheduler(2)
    Request(lambda: work(20), scheduler=scheduler).submit()
    taken.wait(10)
    threads = threads_of(scheduler)
    del scheduler
    go_on.set()
    assert_ended(threads)
    assert results == [1]


def test_a_scheduler_in_a_circle_ends_with_the_collector():
    class Holder:
        pass

    holder = Holder()
    holder.me = holder
    holder.scheduler = ThreadedScheduler(2, observers=(holder,))  # an observer that knows its scheduler
    Request(lambda: 1, scheduler=holder.scheduler).submit().wait()
    threads = threads_of(holder.scheduler)
    del holder
    gc.collect()
    assert_ended(threads)


def test_a_scheduler_dropped_by_its_last_request_ends_in_its_own_thread():
    scheduler, gone = ThreadedScheduler(1), threading.Event()
    weakref.finalize(scheduler, gone.set)
    held = threading.Event()
    Request(held.wait, scheduler=scheduler).submit()
    threads = threads_of(scheduler)
    del scheduler
    assert not gone.is_set()
    held.set()
    assert gone.wait(10)
    assert_ended(threads)
