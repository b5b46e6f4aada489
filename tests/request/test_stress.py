"""Real threads under pressure, and big numbers."""

import contextlib
import gc
import os
import random
import sys
import threading
import time
import weakref

import psutil
import pytest

from lazyflow_core.errors import RequestCancelledError, RequestError
from lazyflow_core.request import (
    Request,
    RequestCondition,
    RequestEvent,
    RequestLock,
    RequestPool,
    RequestSemaphore,
    RequestState,
    ThreadedScheduler,
    checkpoint,
    describe_blocked,
    gather,
)


class Broken(Exception):
    pass


@pytest.fixture
def tiny_switch_interval():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def storm(seed, count):
    """Nested requests with one shared lock and more, 30 % cancelled, 10 % failing; return those not done."""
    random_numbers = random.Random(seed)
    lock = RequestLock("shared")
    semaphore = RequestSemaphore(3)
    condition = RequestCondition()
    event = RequestEvent()
    shared = Request(lambda: sum(range(50)), name="shared")

    def leaf(kind):
        if kind < 0.1:
            raise Broken
        if kind < 0.3:
            with lock:
                checkpoint()
        elif kind < 0.5:
            with semaphore:
                checkpoint()
        elif kind < 0.6:
            event.wait(timeout=0.001)
        elif kind < 0.7:
            with condition:
                condition.wait(timeout=0.001)
        elif kind < 0.8:
            with condition:
                condition.notify_all()
        else:
            shared.wait()
        return 1

    def node(kinds):
        children = [Request(lambda kind=kind: leaf(kind)).submit() for kind in kinds[1:]]
        done = 0
        for child in children:
            try:
                done += child.wait()
            except RequestCancelledError:
                pass
            except RequestError as error:
                if type(error.__cause__) is not Broken:
                    raise
        if kinds[0] < 0.1:
            raise Broken
        return done

    with ThreadedScheduler(random_numbers.choice([2, 3, 4]), name=f"storm {seed}") as scheduler:
        roots = []
        for _ in range(count // 10):
            kinds = [random_numbers.random() for _ in range(10)]
            roots.append(Request(lambda kinds=kinds: node(kinds), scheduler=scheduler).submit())
            if random_numbers.random() < 0.3:
                random_numbers.choice(roots).cancel()
        deadline = time.monotonic() + 20
        for root in roots:
            with contextlib.suppress(RequestError):
                root.wait(timeout=max(0.1, deadline - time.monotonic()))
        stuck = [root for root in roots if not root.state.is_terminal]
        assert not stuck, f"seed {seed}: {len(stuck)} stuck\n{describe_blocked()}"
        assert not lock.locked()
        assert [semaphore.acquire(blocking=False) for _ in range(4)] == [True, True, True, False]


@pytest.mark.usefixtures("tiny_switch_interval")
def test_a_storm_of_nested_locked_cancelled_and_failing_requests():
    for seed in range(5):
        storm(seed, 2000)


@pytest.mark.stress
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("tiny_switch_interval")
def test_a_hundred_storms():
    for seed in range(100):
        storm(seed, 2000)


@pytest.mark.usefixtures("tiny_switch_interval")
def test_a_lock_among_requests_and_threads_lets_everybody_in():
    lock = RequestLock()
    counter = [0]

    def work():
        for _ in range(10):
            with lock:
                before = counter[0]
                checkpoint()
                counter[0] = before + 1

    threads = [threading.Thread(target=work) for _ in range(5)]
    with ThreadedScheduler(3) as scheduler:
        requests = [Request(work, scheduler=scheduler).submit() for _ in range(50)]
        for thread in threads:
            thread.start()
        for party in (*threads,):
            party.join(30)
        for request in requests:
            request.wait(timeout=30)
    assert counter == [550]


# ----------------------------------------------------------------------------------------------- big numbers


@pytest.mark.parametrize("submit", [False, True])
def test_ten_thousand_nested_waits(threaded, submit):
    def nested(n):
        if n == 0:
            return 0
        child = Request(lambda: nested(n - 1))
        return (child.submit() if submit else child).wait() + 1

    assert Request(lambda: nested(10_000), scheduler=threaded).submit().wait() == 10_000


def test_ten_thousand_nested_waits_from_a_foreign_thread():
    def nested(n):
        return 0 if n == 0 else Request(lambda: nested(n - 1)).wait() + 1

    assert nested(10_000) == 10_000


def test_a_hundred_thousand_children_of_one_request(threaded):
    def parent():
        children = [Request(lambda k=k: k).submit() for k in range(100_000)]
        return sum(child.wait() for child in children)

    assert Request(parent, scheduler=threaded).submit().wait() == sum(range(100_000))


def test_cancelling_a_hundred_thousand_children(threaded):
    never = RequestEvent()
    ready = RequestEvent()
    children = []

    def parent():
        children.extend(Request(never.wait).submit() for _ in range(100_000))
        ready.set()
        never.wait()

    request = Request(parent, scheduler=threaded).submit()
    ready.wait()
    assert request.cancel()
    with pytest.raises(RequestCancelledError):
        request.wait()
    threaded.close()
    assert {child.state for child in children} == {RequestState.CANCELLED}


def mixed_batch(scheduler, size, counts):
    def work(kind):
        counts["runs"] += 1  # one worker, so no race
        if kind == 8:
            raise Broken
        return kind

    requests = [Request(lambda kind=k % 10: work(kind), scheduler=scheduler) for k in range(size)]
    for k, request in enumerate(requests):
        if k % 10 == 9:
            request.cancel()
        request.submit()
    for request in requests:
        try:
            request.wait()
            counts["ok"] += 1
        except RequestCancelledError:
            counts["cancelled"] += 1
        except RequestError:
            counts["failed"] += 1


def mixed(total, batch=10_000, warm_up=5):
    """Run many requests, 80 % ok, 10 % failing, 10 % cancelled; return counts and growth of memory in MiB."""
    process = psutil.Process()
    counts = {"runs": 0, "ok": 0, "failed": 0, "cancelled": 0}
    with ThreadedScheduler(1) as scheduler:
        for _ in range(warm_up):
            mixed_batch(scheduler, batch, dict.fromkeys(counts, 0))
        gc.collect()
        threads, files, memory = threading.active_count(), process.num_fds(), process.memory_info().rss
        for _ in range(total // batch):
            mixed_batch(scheduler, batch, counts)
        growth = (process.memory_info().rss - memory) / 2**20
        assert threading.active_count() == threads
        assert process.num_fds() == files
        assert not any(worker.parked for worker in scheduler._crew.workers)
    return counts, growth


def check_mixed(total):
    counts, growth = mixed(total)
    assert counts == {
        "runs": total * 9 // 10,
        "ok": total * 8 // 10,
        "failed": total // 10,
        "cancelled": total // 10,
    }
    assert growth <= 10, f"{growth:.1f} MiB"


def test_fifty_thousand_mixed_requests_leave_nothing_behind():
    check_mixed(50_000)


@pytest.mark.stress
@pytest.mark.timeout(1200)
def test_a_million_mixed_requests_leave_nothing_behind():
    check_mixed(1_000_000)


# ---------------------------------------------------------------------------------------------------- memory


class Big:
    """Stands for an array."""


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_the_data_of_failed_requests_goes_without_the_collector(threaded):
    data = []

    def fail():
        big = Big()
        data.append(weakref.ref(big))
        raise Broken(len(data))

    def parent():
        big = Big()
        data.append(weakref.ref(big))
        child = Request(fail)
        with contextlib.suppress(RequestError):
            child.wait()
        other = Request(fail).submit()
        try:
            other.wait()
        except RequestError as error:
            raise Broken from error

    kept = [Request(parent, scheduler=threaded).submit() for _ in range(20)]
    for request in kept:
        with pytest.raises(RequestError):
            request.wait()
    threaded.close()
    assert len(data) == 60
    assert [ref for ref in data if ref() is not None] == []
    refs = [weakref.ref(request) for request in kept]
    del kept, request
    assert [ref() for ref in refs] == [None] * 20


@pytest.mark.usefixtures("no_collector")
def test_results_and_closures_go_with_their_requests(threaded):
    results, inputs = [], []

    def work(big):
        result = Big()
        results.append(weakref.ref(result))
        return result

    for run in (lambda r: r.wait(), lambda r: r.submit().wait(), lambda r: gather(r, lambda: 1)):
        big = Big()
        inputs.append(weakref.ref(big))
        request = Request(lambda big=big: work(big), scheduler=threaded)
        del big
        run(request)
        assert inputs[-1]() is None, "the workload was kept"
        del request
    threaded.close()
    assert [ref() for ref in (*results, *inputs)] == [None] * 6


@pytest.mark.usefixtures("no_collector")
def test_a_pool_that_keeps_no_results_holds_only_what_is_in_flight(threaded):
    alive = [0, 0]

    class Counted:
        def __init__(self):
            alive[0] += 1
            alive[1] = max(alive)

        def __del__(self):
            alive[0] -= 1

    def feed():
        with RequestPool(max_in_flight=2, keep_results=False) as pool:
            for _ in range(200):
                pool.submit(Counted)

    Request(feed, scheduler=threaded).submit().wait()
    assert alive[0] == 0
    assert alive[1] <= 6


@pytest.mark.usefixtures("no_collector")
def test_a_loop_of_submit_and_wait_does_not_pile_up_children(threaded):
    alive = []

    def parent():
        for _ in range(1000):
            child = Request(Big).submit()
            child.wait()
            alive.append(weakref.ref(child))
            del child
        return sum(ref() is not None for ref in alive)

    assert Request(parent, scheduler=threaded).submit().wait() < 20


def test_a_closed_scheduler_leaves_no_thread_and_no_descriptor():
    process = psutil.Process(os.getpid())
    threads, files = threading.active_count(), process.num_fds()
    for _ in range(20):
        with ThreadedScheduler(4) as scheduler:
            requests = [Request(lambda: gather(lambda: 1, lambda: 2), scheduler=scheduler) for _ in range(10)]
            gather(*requests)
            assert all(request.state is RequestState.FINISHED for request in requests)
    assert threading.active_count() == threads
    assert process.num_fds() == files
