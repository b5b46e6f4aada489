"""Pools: scopes that requests cannot outlive."""

import gc
import threading

import pytest

from lazyflow_core.errors import RequestCancelledError, RequestError, RequestStateError
from lazyflow_core.request import (
    Request,
    RequestEvent,
    RequestPool,
    RequestState,
    SeededScheduler,
    ThreadedScheduler,
    checkpoint,
    gather,
)


def fail():
    raise ValueError("broken")


def test_leaving_the_block_joins_all(scheduler):
    done = []
    with RequestPool(scheduler=scheduler) as pool:
        for k in range(10):
            pool.submit(lambda k=k: done.append(k))
    assert sorted(done) == list(range(10))


def test_an_empty_pool_is_left_at_once():
    with RequestPool() as pool:
        pass
    assert list(pool) == []


def test_results_come_in_the_order_of_completion(threaded):
    gates = [threading.Event() for _ in range(2)]
    with RequestPool(scheduler=threaded) as pool:
        slow = pool.submit(lambda: gates[0].wait(10) and "slow")
        fast = pool.submit(lambda: gates[1].wait(10) and "fast")
        results = iter(pool)
        gates[1].set()
        assert next(results) == "fast"
        gates[0].set()
        assert next(results) == "slow"
        assert list(results) == []
    assert slow.state is fast.state is RequestState.FINISHED


def test_the_first_error_cancels_and_joins_the_siblings():
    running = []

    def member(never):
        running.append(1)
        try:
            never.wait()
        finally:
            running.pop()

    with SeededScheduler(3) as seeded:
        never = RequestEvent()
        members = []

        def root():
            with RequestPool() as pool:
                members.extend(pool.submit(lambda: member(never)) for _ in range(5))
                pool.submit(fail)

        with pytest.raises(RequestError) as caught:
            seeded.run(root)
        assert type(caught.value.__cause__) is ValueError
        assert not running
        assert all(each.state.is_terminal for each in members)


def test_an_error_in_the_block_cancels_the_members(threaded):
    never = RequestEvent()
    with pytest.raises(KeyError), RequestPool(scheduler=threaded) as pool:
        member = pool.submit(never.wait)
        raise KeyError
    assert member.state is RequestState.CANCELLED


def test_iterating_raises_the_error_of_a_member(threaded):
    with pytest.raises(RequestError, match="ValueError: broken"), RequestPool(scheduler=threaded) as pool:
        pool.submit(fail)
        list(pool)


def test_a_million_blocks_are_fed_lazily(scheduler):
    fed, alive, most = [], set(), [0]

    def blocks():
        for k in range(3000):
            fed.append(k)
            yield k

    def compute(k):
        alive.add(k)
        most[0] = max(most[0], len(alive))
        alive.discard(k)
        return k

    with RequestPool(max_in_flight=4, scheduler=scheduler) as pool:
        results = pool.map(compute, blocks())
        first = next(results)
        assert len(fed) <= 5
        assert first + sum(results) == sum(range(3000))
    assert most[0] <= 4


def test_submit_waits_while_the_pool_is_full(threaded):
    gate = threading.Event()
    with RequestPool(max_in_flight=2, scheduler=threaded) as pool:
        for _ in range(2):
            pool.submit(lambda: gate.wait(10))
        third = threading.Thread(target=lambda: pool.submit(lambda: 1))
        third.start()
        third.join(0.05)
        assert third.is_alive()
        assert len(pool) == 2
        gate.set()
        third.join(10)
        assert not third.is_alive()


def test_nested_pools_run_no_more_at_once_than_there_are_workers():
    lock, running, most = threading.Lock(), [0], [0]

    def leaf():
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        for _ in range(100):
            pass
        with lock:
            running[0] -= 1

    def level(depth):
        with RequestPool(max_in_flight=4) as pool:
            for _ in range(4):
                pool.submit(leaf if depth == 0 else lambda: level(depth - 1))

    with ThreadedScheduler(2) as scheduler:
        Request(lambda: level(3), scheduler=scheduler).submit().wait()
    assert 1 <= most[0] <= 2


def test_a_member_cancelled_from_outside_is_no_error(threaded):
    never = RequestEvent()
    with RequestPool(scheduler=threaded) as pool:
        member = pool.submit(never.wait)
        pool.submit(lambda: 1)
        member.cancel()
        assert sorted(pool) == [1]
    assert member.state is RequestState.CANCELLED


def test_cancelling_a_pool_that_others_wait_for(threaded):
    pool = RequestPool(scheduler=threaded)
    for _ in range(3):
        pool.submit(RequestEvent().wait)
    heard = []

    def join():
        try:
            pool.join()
        except RequestCancelledError:
            heard.append("cancelled")

    thread = threading.Thread(target=join)
    thread.start()
    pool.cancel()
    thread.join(10)
    assert heard == ["cancelled"]
    with pytest.raises(RequestCancelledError):
        pool.submit(lambda: 1)


def test_cancelling_inside_the_block_is_left_quietly(threaded):
    with RequestPool(scheduler=threaded) as pool:
        pool.submit(RequestEvent().wait)
        pool.cancel()


def test_a_pool_takes_no_more_after_its_block(threaded):
    with RequestPool(scheduler=threaded) as pool:
        pass
    with pytest.raises(RequestStateError, match="block was left"):
        pool.submit(lambda: 1)


def test_a_pool_takes_finished_and_started_requests(threaded):
    done = Request(lambda: 1, scheduler=threaded)
    done.wait()
    with RequestPool(scheduler=threaded) as pool:
        pool.submit(done)
        pool.submit(Request.from_value(2))
        pool.submit(Request(lambda: 3, scheduler=threaded).submit())
        assert sorted(pool) == [1, 2, 3]


def test_a_bad_limit_is_refused():
    with pytest.raises(ValueError, match="max_in_flight is 0"):
        RequestPool(0)


def test_gather_gives_results_in_order(scheduler):
    assert gather(*[Request(lambda k=k: k, scheduler=scheduler) for k in range(20)]) == list(range(20))
    assert gather() == []


def test_gather_inside_a_request(scheduler):
    work = [lambda k=k: k for k in range(20)]
    assert Request(lambda: gather(*work), scheduler=scheduler).submit().wait() == list(range(20))


def test_gather_raises_the_first_failure_and_cancels_the_rest(threaded):
    stuck = Request(RequestEvent().wait, scheduler=threaded)
    with pytest.raises(RequestError, match="broken"):
        gather(stuck, Request(fail, scheduler=threaded))
    assert stuck.state is RequestState.CANCELLED


def test_cancelling_the_owner_cancels_and_joins_the_members():
    with SeededScheduler(1) as seeded:
        never, members = RequestEvent(), []

        def owner():
            with RequestPool() as pool:
                members.extend(pool.submit(never.wait) for _ in range(3))

        request = Request(owner, scheduler=seeded).submit()
        seeded.run_until_blocked()
        assert request.cancel()
        seeded.run_until_blocked()
        assert {each.state for each in (request, *members)} == {RequestState.CANCELLED}


def test_a_ctrl_c_right_after_a_request_became_a_member_leaves_nobody_behind():
    class Interrupted(dict):
        def __setitem__(self, member, value):
            super().__setitem__(member, value)
            raise KeyboardInterrupt

    with ThreadedScheduler(1) as scheduler:
        pool = RequestPool(scheduler=scheduler)
        pool._unfinished = Interrupted()
        with pytest.raises(KeyboardInterrupt), pool:
            pool.submit(lambda: 1)
        assert len(pool) == 0


@pytest.mark.parametrize("seed", range(30))
def test_an_owner_that_is_cancelled_hears_of_it_when_it_leaves_the_block(seed):
    with SeededScheduler(seed) as seeded:
        left = []

        def owner():
            with RequestPool() as pool:
                for _ in range(3):
                    pool.submit(lambda: [checkpoint() for _ in range(5)])
            left.append(request._cancelled)

        request = Request(owner, scheduler=seeded).submit()
        Request(request.cancel, scheduler=seeded).submit()
        seeded.run_until_blocked()
    assert left in ([], [False])
    assert request.state is (RequestState.FINISHED if left else RequestState.CANCELLED)


def test_members_that_end_because_their_owner_is_cancelled_do_not_let_it_go_on(threaded):
    started = threading.Event()
    went_on = []

    def owner():
        with RequestPool() as pool:

            def member():
                started.set()
                while True:
                    checkpoint()

            pool.submit(member)
        went_on.append(True)

    request = Request(owner, scheduler=threaded).submit()
    assert started.wait(10)
    assert request.cancel()
    with pytest.raises(RequestCancelledError):
        request.wait()
    assert went_on == []


def test_other_members_that_failed_are_named_in_the_error_and_not_logged_as_unasked(threaded, caplog):
    both = threading.Barrier(2)

    def fail_together(error):
        both.wait(10)
        raise error

    with pytest.raises(RequestError) as caught, RequestPool(scheduler=threaded) as pool:
        for name, error in (("left", ValueError("l")), ("right", KeyError("r"))):
            pool.submit(Request(lambda error=error: fail_together(error), name=name, scheduler=threaded))
    first, second = pool.failures
    assert caught.value.__cause__ is first._outcome.error
    assert [second.describe() in note for note in caught.value.__notes__] == [True]
    del pool, first, second
    gc.collect()
    assert "nobody asked" not in caplog.text


def test_failures_that_come_after_the_error_was_raised_inside_the_block_are_named_too(threaded):
    go_on = threading.Event()

    def late():
        go_on.wait(10)
        raise KeyError("late")

    with pytest.raises(RequestError, match="broken") as caught, RequestPool(scheduler=threaded) as pool:
        pool.submit(late)
        pool.submit(fail)
        try:
            list(pool)
        finally:
            go_on.set()
    assert "KeyError: 'late'" in caught.value.__notes__[0]


def test_members_that_failed_for_the_same_reason_are_not_named_twice(scheduler):
    shared = Request(fail, scheduler=scheduler)
    with pytest.raises(RequestError) as caught, RequestPool(scheduler=scheduler) as pool:
        for _ in range(3):
            pool.submit(lambda: shared.wait())
    assert type(caught.value.__cause__) is ValueError
    assert not hasattr(caught.value, "__notes__")


# ------------------------------------------------------------------- workers that wait for a foreign thread


def wait_for_a_request(scheduler):
    return Request(lambda: 3, scheduler=scheduler).submit().wait()


def wait_for_a_future(scheduler):
    return Request(lambda: 3, scheduler=scheduler).future().result()


def wait_for_all(scheduler):
    with RequestPool(scheduler=scheduler) as pool:
        members = [pool.submit(lambda: 1) for _ in range(3)]
    return sum(member.result for member in members)


def wait_for_room(scheduler):
    with RequestPool(max_in_flight=1, scheduler=scheduler) as pool:
        members = [pool.submit(lambda: 1) for _ in range(3)]
    return sum(member.result for member in members)


def wait_for_results(scheduler):
    with RequestPool(max_in_flight=2, scheduler=scheduler) as pool:
        return sum(pool.map(lambda k: k, range(3)))


@pytest.mark.parametrize(
    "wait", [wait_for_a_request, wait_for_a_future, wait_for_all, wait_for_room, wait_for_results]
)
def test_a_thread_for_which_the_only_worker_waits_runs_its_queued_requests_itself(wait):
    with ThreadedScheduler(1) as scheduler:
        answers = []

        def block_the_worker():
            thread = threading.Thread(target=lambda: answers.append(wait(scheduler)))
            thread.start()
            thread.join(20)
            return not thread.is_alive()

        assert Request(block_the_worker, scheduler=scheduler).submit().wait()
        assert answers == [3]
