"""Many requests at once: every interleaving ends with the right pixels.

`SeededScheduler` runs requests in one thread in an order that a seed decides; without preemption
`run_until_blocked` brings each exactly to where it waits.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cache_cases import OpCounting, OpHalves
from lazyflow_core import Graph, Request, Roi
from lazyflow_core.errors import CancelledError, ExecuteError, RequestCancelledError, RequestError
from lazyflow_core.request import (
    RequestEvent,
    RequestState,
    SeededScheduler,
    ThreadedScheduler,
    checkpoint,
    gather,
)

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


def test_a_setup_waits_for_the_blocks_under_way_and_drops_them(scheduler):
    _, source, cache = cached(scheduler)
    source.hold = RequestEvent()
    asker = cache.output.request().submit()
    scheduler.run_until_blocked()
    change = Request(lambda: source.image.assign(np.arange(8) + 100), scheduler=scheduler).submit()
    scheduler.run_until_blocked()
    assert change.state is RequestState.SUSPENDED
    source.hold.set()
    assert asker.wait()[0] == 0
    change.wait()
    assert cache.output.request().submit().wait()[0] == 100


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
