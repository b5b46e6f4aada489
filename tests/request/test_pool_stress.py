"""Pools in every way they can be used, on real threads that the interpreter switches as often as it can."""

import contextlib
import logging
import random
import sys
import threading

import pytest

from lazyflow_core.errors import RequestCancelledError, RequestError
from lazyflow_core.request import (
    Request,
    RequestPool,
    ThreadedScheduler,
    checkpoint,
    describe_blocked,
    gather,
)


class Broken(Exception):
    pass


def work(k=0):
    for _ in range(k % 7):
        checkpoint()
    return k


def fail():
    raise Broken


#: What uses a pool, called with the scheduler of members or None; returns how many members there were.
USES = {}


def use(function):
    USES[function.__name__] = function
    return function


@use
def filled_and_left(scheduler):
    with RequestPool(scheduler=scheduler) as pool:
        members = [pool.submit(work) for _ in range(8)]
    assert {member.result for member in members} == {0}
    return 8


@use
def full_most_of_the_time(scheduler):
    done = []
    with RequestPool(max_in_flight=3, scheduler=scheduler, keep_results=False) as pool:
        for k in range(12):
            pool.submit(lambda k=k: done.append(work(k)))
    assert sorted(done) == list(range(12))
    return 12


@use
def mapped(scheduler):
    with RequestPool(max_in_flight=3, scheduler=scheduler) as pool:
        assert sorted(pool.map(work, range(12))) == list(range(12))
    return 12


@use
def mapped_without_a_limit(scheduler):
    with RequestPool(scheduler=scheduler) as pool:
        assert sorted(pool.map(work, range(12))) == list(range(12))
    return 12


@use
def iterated(scheduler):
    with RequestPool(scheduler=scheduler) as pool:
        for k in range(8):
            pool.submit(lambda k=k: work(k))
        assert sorted(pool) == list(range(8))
    return 8


@use
def joined_twice(scheduler):
    pool = RequestPool(scheduler=scheduler)
    for _ in range(2):
        for _ in range(4):
            pool.submit(work)
        pool.join()
    return 8


@use
def gathered(scheduler):
    assert gather(*[Request(lambda k=k: work(k), scheduler=scheduler) for k in range(6)]) == list(range(6))
    return 6


@use
def given_requests_that_others_wait_for(scheduler):
    shared = [Request(lambda k=k: work(k), scheduler=scheduler) for k in range(6)]
    with RequestPool(scheduler=scheduler) as one, RequestPool(scheduler=scheduler) as other:
        for request in shared:
            one.submit(request)
            other.submit(request)
        assert sorted(one) == sorted(other) == list(range(6))
    return 6


@use
def nested(scheduler):
    def level(depth):
        with RequestPool(max_in_flight=2, scheduler=scheduler) as pool:
            return 1 if depth == 0 else sum(pool.map(lambda _: level(depth - 1), range(3)))

    assert level(2) == 9
    return 12


@use
def abandoned_in_the_middle(scheduler):
    with RequestPool(max_in_flight=3, scheduler=scheduler) as pool:
        for _ in pool.map(work, range(12)):
            break
    return 3


@use
def failing(scheduler):
    with contextlib.suppress(RequestError), RequestPool(max_in_flight=4, scheduler=scheduler) as pool:
        for k in range(12):
            pool.submit(fail if k == 5 else work)
    assert type(pool.failures[0]._outcome.error) is Broken
    return 6


@use
def left_by_an_error(scheduler):
    with contextlib.suppress(Broken), RequestPool(scheduler=scheduler) as pool:
        for _ in range(4):
            pool.submit(work)
        raise Broken
    assert len(pool) == 0
    return 4


@use
def cancelled_in_the_middle(scheduler):
    with contextlib.suppress(RequestCancelledError), RequestPool(scheduler=scheduler) as pool:
        for k in range(8):
            pool.submit(work)
            if k == 4:
                pool.cancel()
    assert len(pool) == 0
    return 5


def pressure(seed, rounds, workers=3):
    """Use pools from threads and in requests, a fifth of which is cancelled; return the number of members."""
    numbers = random.Random(seed)
    counts = []
    errors = []

    def in_thread(name, scheduler):
        try:
            counts.append(USES[name](scheduler))
        except BaseException as error:
            errors.append((name, error))

    with ThreadedScheduler(workers, name=f"pools {seed}") as scheduler:
        for _ in range(rounds):
            roots = []
            for name in USES:
                root = Request(lambda name=name: USES[name](None), name=name, scheduler=scheduler).submit()
                roots.append((root, numbers.random() < 0.2))
            threads = [
                threading.Thread(target=in_thread, args=(name, scheduler))
                for name in numbers.sample(sorted(USES), 2)
            ]
            for thread in threads:
                thread.start()
            for root, is_unwanted in roots:
                if is_unwanted:
                    root.cancel()
            for root, is_unwanted in roots:
                try:
                    counts.append(root.wait(timeout=30))
                except RequestCancelledError:
                    assert is_unwanted, root
            for thread in threads:
                thread.join(30)
                assert not thread.is_alive(), describe_blocked()
        assert not errors
        assert all(worker.thread.is_alive() for worker in scheduler._crew.workers)
        assert sum(gather(*[Request(work, scheduler=scheduler) for _ in range(50)])) == 0
    return sum(counts)


@pytest.fixture
def switch_interval(request):
    before = sys.getswitchinterval()
    sys.setswitchinterval(request.param)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("switch_interval", [1e-5, 1e-6], indirect=True)
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.usefixtures("switch_interval")
def test_pools_in_every_way_at_a_switch_interval_of(seed, caplog):
    pressure(seed, rounds=300)
    assert not [record for record in caplog.records if record.levelno >= logging.CRITICAL]


@pytest.mark.stress
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("switch_interval", [5e-3, 1e-5, 1e-6], indirect=True)
@pytest.mark.usefixtures("switch_interval")
def test_a_million_members_of_pools_in_every_way_at_a_switch_interval_of(caplog):
    members = seed = 0
    while members < 1_000_000:
        members += pressure(seed, rounds=100, workers=2 + seed % 3)
        seed += 1
    assert not [record for record in caplog.records if record.levelno >= logging.CRITICAL]
