"""Many requests at once: every interleaving ends with the right pixels.

`SeededScheduler` runs requests in one thread in an order that a seed decides; without preemption
`run_until_blocked` brings each exactly to where it waits.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context

import numpy as np
import pytest
from cache_cases import OpCounting, OpHalves, OpScaled
from lazyflow_core import Graph, Request, Roi, StaleBoxes
from lazyflow_core.errors import CancelledError, ExecuteError, RequestCancelledError, RequestError
from lazyflow_core.request import (
    RequestEvent,
    RequestState,
    SeededScheduler,
    ThreadedScheduler,
    checkpoint,
    gather,
)

from lazyflow_ops_cache import block_cache, store
from lazyflow_ops_cache.block_cache import OpBlockCache
from lazyflow_ops_cache.memory import memory_manager

WHOLE = Roi((0,), (8,))
FIRST = Roi((0,), (2,))


def cached(scheduler, block=2, size=8, operator=OpCounting):
    graph = Graph(scheduler=scheduler)
    pixels = np.arange(size)
    source = operator(graph=graph, image=pixels)
    cache = OpBlockCache(graph=graph, image=source.output, block=(block,))
    return pixels, source, cache


@pytest.fixture(params=[FIRST, WHOLE], ids=["one block", "four blocks"])
def roi(request):
    return request.param


def test_fifty_askers_of_a_cold_block_compute_it_once(scheduler, roi):
    pixels, source, cache = cached(scheduler)
    source.hold = RequestEvent()
    askers = [cache.output.request(roi).submit() for _ in range(50)]
    scheduler.run_until_blocked()
    source.hold.set()
    for asker in askers:
        assert np.array_equal(asker.wait(), pixels[roi.slicing])
    assert len(source.executed) == roi.size // 2


def test_missing_blocks_are_computed_at_the_same_time(scheduler):
    _, source, cache = cached(scheduler)
    source.hold = RequestEvent()
    asker = cache.output.request().submit()
    scheduler.run_until_blocked()
    assert len(source.executed) == 4
    source.hold.set()
    asker.wait()


def test_a_block_that_goes_dirty_while_it_is_computed_is_not_kept(scheduler, roi):
    pixels, source, cache = cached(scheduler)
    source.hold = RequestEvent()
    early = cache.output.request(roi).submit()
    scheduler.run_until_blocked()
    pixels[0] = 99
    source.image.mark_dirty(Roi((0,), (1,)))
    late = cache.output.request(roi).submit()
    scheduler.run_until_blocked()
    source.hold.set()
    assert early.wait()[0] == 0
    assert late.wait()[0] == 99
    assert cache.output.read(FIRST)[0] == 99
    # the dirty block twice, the others once: their claims stood
    assert len(source.executed) == roi.size // 2 + 1


def test_cancelling_who_computes_leaves_the_block_to_who_waits(scheduler, roi):
    pixels, source, cache = cached(scheduler)
    source.hold = RequestEvent()
    first = cache.output.request(roi).submit()
    scheduler.run_until_blocked()
    second = cache.output.request(roi).submit()
    scheduler.run_until_blocked()
    assert first.cancel()
    scheduler.run_until_blocked()
    source.hold.set()
    assert np.array_equal(second.wait(), pixels[roi.slicing])
    assert len(source.executed) == roi.size // 2
    assert first.state is RequestState.CANCELLED


def test_cancelling_who_waits_leaves_who_computes_alone(scheduler, roi):
    pixels, source, cache = cached(scheduler)
    source.hold = RequestEvent()
    first = cache.output.request(roi).submit()
    scheduler.run_until_blocked()
    second = cache.output.request(roi).submit()
    scheduler.run_until_blocked()
    assert second.cancel()
    source.hold.set()
    assert np.array_equal(first.wait(), pixels[roi.slicing])
    with pytest.raises(RequestCancelledError):
        second.wait()
    assert len(source.executed) == roi.size // 2


def test_a_block_nobody_wants_any_more_is_stopped_and_computed_anew_for_the_next(scheduler, roi):
    pixels, source, cache = cached(scheduler)
    source.hold = RequestEvent()
    first, second = (cache.output.request(roi).submit() for _ in range(2))
    scheduler.run_until_blocked()
    assert first.cancel()
    assert second.cancel()
    # joins before the cancelled requests have noticed
    third = cache.output.request(roi).submit()
    scheduler.run_until_blocked()
    assert first.state is second.state is RequestState.CANCELLED
    source.hold.set()
    assert np.array_equal(third.wait(), pixels[roi.slicing])
    assert len(source.executed) == 2 * (roi.size // 2)


def test_a_block_that_was_cancelled_before_it_began_is_computed_for_the_next(scheduler):
    pixels, _, cache = cached(scheduler)
    with ThreadedScheduler(1) as elsewhere:
        # The graph's scheduler does not move yet, so the block is queued there and its asker waits.
        asker = Request(lambda: cache.output.read(FIRST), scheduler=elsewhere).submit()
        while asker.state is not RequestState.SUSPENDED:
            pass
        assert asker.cancel()
        with pytest.raises(RequestCancelledError):
            asker.wait()
    assert np.array_equal(cache.output.request(FIRST).submit().wait(), pixels[:2])


def test_a_failure_nobody_waited_for_is_not_told_to_the_next(scheduler):
    class OpStubborn(OpCounting):
        def execute(self, slot, roi, out):
            try:
                super().execute(slot, roi, out)
            except CancelledError:
                raise OSError("the file was closed under my feet") from None

    pixels, source, cache = cached(scheduler, operator=OpStubborn)
    source.hold = RequestEvent()
    asker = cache.output.request(FIRST).submit()
    scheduler.run_until_blocked()
    assert asker.cancel()
    scheduler.run_until_blocked()
    source.hold.set()
    assert np.array_equal(cache.output.request(FIRST).submit().wait(), pixels[:2])


def test_a_thread_whose_scheduler_is_closed_gets_an_error_and_no_pixels():
    scheduler = ThreadedScheduler(2)
    _, source, cache = cached(scheduler)
    source.hold = RequestEvent()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(cache.output.read)
        while not source.executed:
            pass
        scheduler.close()
        with pytest.raises(RequestError):
            reading.result()
    assert cache.clean_blocks == []


def test_a_failure_reaches_everybody_who_waits_and_nothing_is_kept(scheduler, roi):
    pixels, source, cache = cached(scheduler)
    source.hold = RequestEvent()
    source.failing = {FIRST}
    askers = [cache.output.request(roi).submit() for _ in range(3)]
    scheduler.run_until_blocked()
    source.hold.set()
    errors = []
    for asker in askers:
        with pytest.raises(ExecuteError, match=r"OpCounting.output \[0:2\]: OSError: no pixels") as caught:
            asker.wait()
        errors.append(caught.value)
    assert len(set(map(id, errors))) == 3
    assert FIRST not in cache.clean_blocks
    assert source.executed.count(FIRST) == 1
    source.failing = set()
    assert np.array_equal(cache.output.request(roi).submit().wait(), pixels[roi.slicing])


def test_the_first_failure_stops_the_blocks_only_this_asker_wants(scheduler):
    class OpFirstFails(OpCounting):
        def execute(self, slot, roi, out):
            if roi == FIRST:
                raise OSError("no disk")
            super().execute(slot, roi, out)

    _, source, cache = cached(scheduler, operator=OpFirstFails)
    source.hold = RequestEvent()  # nobody ever sets it
    with pytest.raises(ExecuteError, match="OSError: no disk"):
        cache.output.request().submit().wait()
    assert cache.clean_blocks == []


def test_a_setup_leaves_the_blocks_under_way_to_those_who_began_before(scheduler):
    _, source, cache = cached(scheduler)
    source.hold = RequestEvent()
    early = cache.output.request().submit()
    scheduler.run_until_blocked()
    source.image.assign(np.arange(8) + 100)
    late = cache.output.request().submit()
    scheduler.run_until_blocked()
    source.hold.set()
    assert early.wait()[0] == 0
    assert late.wait()[0] == 100
    assert cache.output.request().submit().wait()[0] == 100
    assert cache.used_bytes == 64


def held_behind(cache, scheduler):
    """Give an operator behind a cache that waits at its first line, and a request that it has begun."""
    late = OpCounting(graph=cache.graph, image=cache.output)
    late.hold_first = RequestEvent()
    request = late.output.request().submit()
    scheduler.run_until_blocked()
    return late, request


def test_an_old_execution_gets_no_block_of_a_newer_version(scheduler):
    pixels, source, cache = cached(scheduler)
    late, early = held_behind(cache, scheduler)
    source.image.assign(np.arange(8) + 100)
    assert cache.output.request().submit().wait()[0] == 100
    kept = dict(cache.plan.store.blocks)
    late.hold_first.set()
    assert np.array_equal(early.wait(), pixels)
    assert cache.output.read()[0] == 100
    assert cache.plan.store.blocks == kept


@pytest.mark.parametrize("dirt", ["mark_dirty", "parameter"])
def test_what_began_between_the_walk_and_its_version_is_not_taken_for_new(scheduler, dirt):
    """A cache is told of what is stale before the version is current; an old execution asks it right then."""
    asked = []

    class OpAsksWhileTold(OpCounting):
        def propagate_dirty(self, slot, roi):
            asked.append(in_nowhere(lambda: cache.output.request().submit().wait()[0]))
            super().propagate_dirty(slot, roi)

    with ThreadedScheduler(2) as threads:
        pixels, source, cache = cached(threads, operator=OpScaled)
        OpAsksWhileTold(graph=cache.graph, image=cache.output)
        if dirt == "parameter":
            source.factor.value = 3
            assert asked == [1]
            assert np.array_equal(cache.output.read(), 3 * (pixels + 1))
        else:
            source.image.mark_dirty()
            assert len(source.executed) == 4
            cache.output.read()
            assert len(source.executed) == 8
        assert cache.used_bytes == 64


def test_blocks_and_claims_that_a_change_leaves_alone_are_shared_across_versions(scheduler):
    pixels, source, cache = cached(scheduler)
    late, early = held_behind(cache, scheduler)
    source.hold = RequestEvent()
    computing = cache.output.request(Roi((4,), (8,))).submit()
    scheduler.run_until_blocked()
    source.image.mark_dirty(Roi((0,), (1,)))
    OpCounting(graph=cache.graph, image=pixels)
    joined = cache.output.request(Roi((4,), (8,))).submit()
    scheduler.run_until_blocked()
    source.hold.set()
    late.hold_first.set()
    for request in (computing, joined, early):
        request.wait()
    cache.output.read()
    assert len(source.executed) == 4 + 1


def test_old_blocks_stay_for_old_executions_and_go_with_the_last_of_them(scheduler, budget):
    pixels, source, cache = cached(scheduler, operator=OpScaled)
    cache.output.request().submit().wait()
    late, early = held_behind(cache, scheduler)
    for factor in (2, 3):
        source.factor.value = factor
        assert np.array_equal(cache.output.request().submit().wait(), factor * (pixels + 1))
    assert cache.used_bytes == 2 * 64  # nobody is left who sees a factor of 2
    late.hold_first.set()
    assert np.array_equal(early.wait(), pixels + 1)
    assert len(source.executed) == 3 * 4
    assert cache.used_bytes == 64


def test_blocks_of_old_executions_are_the_first_to_be_evicted(scheduler, budget):
    pixels, source, cache = cached(scheduler, operator=OpScaled)
    cache.output.request().submit().wait()
    late, early = held_behind(cache, scheduler)
    source.factor.value = 2
    budget(64 + 16)
    cache.output.request().submit().wait()
    assert len(cache.clean_blocks) == 4
    assert cache.used_bytes == 64 + 16
    late.hold_first.set()
    assert np.array_equal(early.wait(), pixels + 1)
    assert np.array_equal(cache.output.read(), 2 * (pixels + 1))


def test_a_shared_block_whose_maker_was_cancelled_before_it_began_is_taken_only_where_it_holds():
    """It then runs in the newest version, while an old execution waits for it."""
    with ThreadedScheduler(2) as threads, ThreadedScheduler(1) as busy:
        pixels, source, cache = cached(busy, operator=OpScaled)
        gate, entered = threading.Semaphore(0), RequestEvent()
        blocking = Request(lambda: (entered.set(), gate.acquire()), scheduler=busy).submit()
        entered.wait()

        def ask():
            asked = in_nowhere(lambda: Request(lambda: cache.output.read(FIRST), scheduler=threads).submit())
            while asked.state is not RequestState.SUSPENDED:
                pass
            return asked

        first = ask()  # claims the block, which is queued
        OpCounting(graph=cache.graph, image=pixels)
        second = ask()  # joins, in a later version
        first.cancel()
        with pytest.raises(RequestCancelledError):
            first.wait()
        source.factor.value = 5
        gate.release()
        blocking.wait()
        assert np.array_equal(second.wait(), pixels[:2] + 1)
        assert np.array_equal(cache.output.read(), 5 * (pixels + 1))


def since_ever(self, key, version):
    return 0, span(self, key, version)[1]


def for_ever(self, key, version):
    return span(self, key, version)[0], None


span = store.BlockStore._span

PLANTED = {
    "a shared block taken across versions": (
        block_cache._BlockRequest,
        "holds_in",
        lambda self, version: True,
        test_a_shared_block_whose_maker_was_cancelled_before_it_began_is_taken_only_where_it_holds,
        (),
    ),
    "a claim without version": (
        store,
        "_holds",
        lambda since, until, version: True,
        test_a_setup_leaves_the_blocks_under_way_to_those_who_began_before,
        ("scheduler",),
    ),
    "a hit on a block of another version": (
        store.BlockStore,
        "_span",
        since_ever,
        test_an_old_execution_gets_no_block_of_a_newer_version,
        ("scheduler",),
    ),
    "an old result that is kept for new": (
        store.BlockStore,
        "_span",
        for_ever,
        test_what_began_between_the_walk_and_its_version_is_not_taken_for_new,
        ("scheduler", "parameter"),
    ),
    "old blocks that go at once": (
        StaleBoxes,
        "is_seen_before",
        False,
        test_old_blocks_stay_for_old_executions_and_go_with_the_last_of_them,
        ("scheduler", "budget"),
    ),
    "old blocks that nobody drops": (
        store.BlockStore,
        "_forget_old",
        lambda self, left: None,
        test_old_blocks_stay_for_old_executions_and_go_with_the_last_of_them,
        ("scheduler", "budget"),
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(fault, scheduler, budget, monkeypatch):
    where, name, planted, test, arguments = PLANTED[fault]
    monkeypatch.setattr(where, name, planted)
    known = {"scheduler": scheduler, "budget": budget}
    with pytest.raises((Exception, pytest.fail.Exception)):
        test(*[known.get(each, each) for each in arguments])


def in_nowhere(function):
    """Call a function in a thread and a context of its own."""
    found = []
    thread = threading.Thread(target=lambda: found.append(Context().run(function)))
    thread.start()
    thread.join(10)
    return found[0]


def test_eviction_while_a_block_is_read_leaves_the_reader_its_pixels(scheduler, budget):
    pixels, _, cache = cached(scheduler)
    budget(16)  # one block

    def read_all_backwards_and_forwards():
        for begin in (*range(0, 8, 2), *range(6, -1, -2)):
            roi = Roi((begin,), (begin + 2,))
            assert np.array_equal(cache.output.read(roi), pixels[roi.slicing])
            checkpoint()

    for each in [Request(read_all_backwards_and_forwards, scheduler=scheduler).submit() for _ in range(6)]:
        each.wait()
    assert cache.used_bytes <= 16


@pytest.mark.parametrize("strategy", ["random", "pct"])
@pytest.mark.parametrize(("block", "operator"), [(1, OpCounting), (3, OpCounting), (2, OpHalves)])
def test_in_every_interleaving_a_reader_sees_no_less_than_was_announced(strategy, block, operator, budget):
    """Painters write rising versions, readers read, some are cancelled, and memory is short."""
    budget(5 * 8)
    for seed in range(60):
        with SeededScheduler(seed, strategy=strategy) as scheduler:
            pixels, source, cache = cached(scheduler, block, operator=operator)
            outer = OpBlockCache(graph=cache.graph, image=cache.output, block=(4,))
            pixels[...] = 0
            announced = pixels.copy()
            chance = np.random.default_rng(seed)

            def some_roi(chance=chance):
                start, stop = sorted(chance.choice(9, 2, replace=False).tolist())
                return Roi((start,), (stop,))

            def paint(source=source, pixels=pixels, announced=announced, some_roi=some_roi):
                for _ in range(4):
                    roi = some_roi()
                    version = pixels.max() + 1
                    pixels[roi.slicing] = version
                    checkpoint()
                    source.image.mark_dirty(roi)
                    announced[roi.slicing] = version
                    checkpoint()

            def read(outer=outer, cache=cache, pixels=pixels, announced=announced, some_roi=some_roi):
                for output in (outer.output, cache.output):
                    roi = some_roi()
                    least = announced[roi.slicing].copy()
                    seen = output.read(roi)
                    assert (seen >= least).all(), roi
                    assert (seen <= pixels[roi.slicing]).all(), roi
                    checkpoint()

            requests = [Request(work, scheduler=scheduler).submit() for work in [paint, *[read] * 8]]
            doomed = [outer.output.request(some_roi()).submit() for _ in range(4)]

            def cancel(doomed=doomed):
                for request in doomed:
                    request.cancel()
                    checkpoint()

            requests.append(Request(cancel, scheduler=scheduler).submit())
            for request in requests:
                request.wait()
            assert np.array_equal(outer.output.request().submit().wait(), pixels), seed
            assert np.array_equal(cache.output.request().submit().wait(), pixels), seed
            scheduler.run_until_blocked()
            assert all(request.state.is_terminal for request in doomed), seed
            outer.close()
            cache.close()
    assert memory_manager().used_bytes == 0


def test_threads_readers_a_painter_and_an_evictor_leave_right_pixels(budget):
    budget(0)
    manager = memory_manager()
    with ThreadedScheduler(4) as scheduler:
        pixels, source, cache = cached(scheduler, block=5, size=400)
        pixels[...] = 0
        announced = pixels.copy()

        def paint():
            for version in range(1, 60):
                roi = Roi((version,), (version + 300,))
                pixels[roi.slicing] = version
                source.image.mark_dirty(roi)
                announced[roi.slicing] = version

        def evict():
            for step in range(200):
                manager.budget_bytes = (step % 7) * 200

        def read(k):
            for step in range(40):
                roi = Roi(((7 * step + k) % 200,), ((7 * step + k) % 200 + 150,))
                least = announced[roi.slicing].copy()
                seen = cache.output.read(roi)
                assert (seen >= least).all()
                assert (seen <= 60).all()

        gather(
            *[
                Request(work, scheduler=scheduler)
                for work in (paint, evict, *[lambda k=k: read(k) for k in range(6)])
            ]
        )
        assert np.array_equal(cache.output.read(), pixels)
        cache.close()
    assert manager.used_bytes == 0


def test_foreign_threads_and_requests_share_blocks():
    with ThreadedScheduler(2) as scheduler:
        pixels, source, cache = cached(scheduler)
        source.hold = RequestEvent()
        began = RequestEvent()
        asker = Request(lambda: (began.set(), cache.output.read())[1], scheduler=scheduler).submit()
        began.wait()
        source.hold.set()
        assert np.array_equal(cache.output.read(), pixels)
        assert np.array_equal(asker.wait(), pixels)
        assert len(source.executed) == 4
