"""Frozen and bypassed caches: nothing is computed, and everybody hears of it afterwards."""

import numpy as np
import pytest
from cache_cases import OpCounting
from lazyflow_core import Graph, Roi
from lazyflow_core.errors import SetupError
from lazyflow_core.request import RequestEvent

from lazyflow_ops_cache.block_cache import OpBlockCache
from lazyflow_ops_cache.store import BlockStore

SHAPE = (4, 8, 12)


def make(graph=None, **options):
    pixels = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE) + 1
    source = OpCounting(graph=graph or Graph(), image=pixels)
    cache = OpBlockCache(graph=source.graph, image=source.output, block=(4, 4, 4), **options)
    heard = []
    cache.output.dirty.subscribe(lambda slot, roi: heard.extend(roi.boxes))
    return pixels, source, cache, heard


def change(pixels, source, box):
    pixels[box.slicing] += 100
    source.image.mark_dirty(box)


def shown(boxes):
    return sorted(map(str, boxes))


def test_a_frozen_cache_gives_old_blocks_computes_nothing_and_tells_what_is_outdated():
    pixels, source, cache, heard = make()
    old = cache.output.read()
    told = []
    cache.outdated.value_changed.subscribe(told.append)
    cache.frozen.value = True
    assert cache.outdated.value == ()
    source.executed.clear()
    change(pixels, source, Roi((1, 3, 5), (2, 5, 6)))
    change(pixels, source, Roi((0, 0, 0), (1, 1, 1)))
    assert np.array_equal(cache.output.read(), old)
    assert (source.executed, heard) == ([], [])
    assert shown(cache.outdated.value) == ["[0:4, 0:4, 0:4]", "[0:4, 0:8, 4:8]"]
    assert len(told) == 3
    cache.frozen.value = False
    assert shown(heard) == ["[0:4, 0:4, 0:4]", "[0:4, 0:8, 4:8]"]
    assert cache.outdated.value == ()
    assert np.array_equal(cache.output.read(), pixels)
    assert shown(source.executed) == ["[0:4, 0:4, 0:4]", "[0:4, 0:4, 4:8]", "[0:4, 4:8, 4:8]"]


def test_what_was_never_computed_is_zero_and_announced_when_the_frozen_time_ends():
    pixels, source, cache, heard = make()
    first = Roi((0, 0, 0), (4, 4, 4))
    cache.output.read(first)
    cache.frozen.value = True
    source.executed.clear()
    found = cache.output.read(Roi((0, 0, 0), (4, 4, 8)))
    assert np.array_equal(found[:, :, :4], pixels[first.slicing])
    assert not found[:, :, 4:].any()
    assert shown(cache.outdated.value) == ["[0:4, 0:4, 4:8]"]
    cache.frozen.value = False
    assert shown(heard) == ["[0:4, 0:4, 4:8]"]
    assert source.executed == []
    assert np.array_equal(cache.output.read(), pixels)
    assert len(source.executed) == 5


def test_a_cache_that_is_frozen_from_the_beginning_has_nothing():
    pixels, source, cache, heard = make(frozen=True)
    assert not cache.output.read().any()
    assert source.executed == []
    cache.frozen.value = False
    assert sum(box.size for box in heard) >= pixels.size
    assert np.array_equal(cache.output.read(), pixels)


def test_evicted_blocks_of_a_frozen_cache_are_zero_and_announced(budget):
    pixels, _, cache, heard = make()
    cache.output.read()
    cache.frozen.value = True
    budget(cache.used_bytes // 2)
    found = cache.output.read()
    assert 0 < (found == 0).sum() < pixels.size
    cache.frozen.value = False
    covered = np.zeros(SHAPE, bool)
    for box in heard:
        covered[box.slicing] = True
    assert covered[found == 0].all()


def test_a_frozen_cache_keeps_its_blocks_against_another_shape_or_storage():
    pixels, source, cache, _ = make()
    cache.output.read()
    cache.frozen.value = True
    for change_it in (
        lambda: setattr(cache.block, "value", (2, 2, 2)),
        lambda: setattr(cache.storage, "value", "compressed"),
    ):
        with pytest.raises(SetupError, match="frozen cache would lose its blocks"):
            change_it()
    assert np.array_equal(cache.output.read(), pixels)
    assert len(source.executed) == 6
    # Another image leaves it nothing to give.
    source.image.assign(pixels[:2] * 2)
    assert not cache.output.read().any()
    cache.frozen.value = False
    assert np.array_equal(cache.output.read(), pixels[:2] * 2)


def test_freezing_and_bypassing_lose_no_block():
    pixels, source, cache, heard = make()
    cache.output.read()
    for parameter in (cache.frozen, cache.bypass):
        parameter.value = True
        parameter.value = False
    cache.output.read()
    assert (len(source.executed), heard) == (6, [])
    cache.bypass.value = True
    cache.output.read(Roi((1, 1, 1), (2, 2, 2)))
    assert str(source.executed[-1]) == "[1:2, 1:2, 1:2]"
    change(pixels, source, Roi((0, 0, 0), (1, 1, 1)))
    cache.bypass.value = False
    assert np.array_equal(cache.output.read(), pixels)
    assert len(source.executed) == 8


def test_bypassing_ends_a_frozen_time_and_its_end_begins_another():
    pixels, source, cache, heard = make()
    old = cache.output.read()
    cache.frozen.value = True
    change(pixels, source, Roi((0, 0, 0), (1, 1, 1)))
    cache.bypass.value = True
    assert shown(heard) == ["[0:4, 0:4, 0:4]"]
    assert np.array_equal(cache.output.read(), pixels)
    cache.bypass.value = False
    found = cache.output.read()
    assert not found[:, :4, :4].any()  # what it lost meanwhile
    assert np.array_equal(found[:, 4:], old[:, 4:])
    assert shown(cache.outdated.value) == ["[0:4, 0:4, 0:4]"]


def test_a_refused_change_freezes_nothing():
    pixels, source, cache, _ = make()
    cache.output.read()
    with pytest.raises(RuntimeError), source.graph.transaction():
        cache.frozen.value = True
        raise RuntimeError
    change(pixels, source, Roi((0, 0, 0), (1, 1, 1)))
    assert np.array_equal(cache.output.read(), pixels)


def test_who_began_in_a_frozen_time_and_asks_after_it_gets_pixels_that_others_may_keep(scheduler):
    with Graph(scheduler) as graph:
        pixels, _, cache, heard = make(graph)
        wait = RequestEvent()
        late = OpCounting(graph=graph, image=cache.output)
        late.hold_first = wait
        other = OpBlockCache(graph=graph, image=late.output, block=(4, 4, 4))
        cache.frozen.value = True
        first = Roi((0, 0, 0), (4, 4, 4))
        request = other.output.request(first).submit()
        scheduler.run_until_blocked()
        cache.frozen.value = False
        wait.set()
        # Announced is nothing: so the pixels must be right, also for the cache that keeps them.
        assert np.array_equal(request.wait(), pixels[first.slicing])
        assert heard == []
        assert np.array_equal(other.output.read(first), pixels[first.slicing])


def test_what_is_computed_of_new_pixels_in_a_frozen_time_is_not_given_to_who_began_before(scheduler):
    """A late reader of the frozen time computes; another one, of a version before, does not take that."""
    with Graph(scheduler) as graph:
        pixels, source, cache, _ = make(graph)
        first = Roi((0, 0, 0), (4, 4, 4))
        before = graph.snapshot()
        cache.frozen.value = True
        source.image.assign(pixels + 7)
        frozen = graph.snapshot()
        cache.frozen.value = False
        with frozen.seen():
            assert np.array_equal(cache.output.read(first), pixels[first.slicing] + 7)
        with before.seen():
            assert np.array_equal(cache.output.read(first), pixels[first.slicing])
        assert np.array_equal(cache.output.read(first), pixels[first.slicing] + 7)
        frozen.close()
        before.close()


def withhold_without_noting(self, first, stop):
    with self._manager.lock:
        self._withheld.append((tuple(first), tuple(stop)))


def misses_for_ever(self, key, frozen_since):
    self._missed.add(key)
    return True


def thaw_without_dropping(self):
    boxes = self.outdated
    self.frozen_since = None
    self._withheld.clear()
    return boxes


PLANTED = {
    "stale boxes that are not noted": (
        "withhold",
        withhold_without_noting,
        test_what_is_computed_of_new_pixels_in_a_frozen_time_is_not_given_to_who_began_before,
        True,
    ),
    "late readers that get 0": (
        "misses",
        misses_for_ever,
        test_who_began_in_a_frozen_time_and_asks_after_it_gets_pixels_that_others_may_keep,
        True,
    ),
    "misses that are not announced": (
        "misses",
        lambda self, key, frozen_since: self.frozen_since == frozen_since,
        test_what_was_never_computed_is_zero_and_announced_when_the_frozen_time_ends,
        False,
    ),
    "stale blocks that stay": (
        "thaw",
        thaw_without_dropping,
        test_a_frozen_cache_gives_old_blocks_computes_nothing_and_tells_what_is_outdated,
        False,
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(fault, scheduler, monkeypatch):
    name, planted, test, takes_scheduler = PLANTED[fault]
    monkeypatch.setattr(BlockStore, name, planted)
    with pytest.raises((Exception, pytest.fail.Exception)):
        test(*[scheduler][: int(takes_scheduler)])
