"""What a cache answers, keeps and drops, one request at a time."""

import gc
import weakref

import numpy as np
import pytest
from cache_cases import OpCounting
from lazyflow_core import ArrayMeta, Graph, InputSlot, Operator, OutputSlot, ParameterSlot, Roi, stream_blocks
from lazyflow_core.errors import ExecuteError, NotReadyError, ParameterError, SetupError

from lazyflow_ops_cache.block_cache import OpBlockCache
from lazyflow_ops_cache.memory import memory_manager

PIXELS = np.arange(10 * 12 * 14, dtype=np.uint16).reshape(10, 12, 14)


def cached(pixels=PIXELS, **parameters):
    graph = Graph()
    source = OpCounting(graph=graph, image=np.array(pixels))
    cache = OpBlockCache(graph=graph, image=source.output, **({"block": (4, 5, 6)} | parameters))
    return source, cache


def random_rois(shape, count):
    chance = np.random.default_rng(2)
    for _ in range(count):
        corners = np.sort(chance.integers(0, np.add(shape, 1), (2, len(shape))), axis=0)
        yield Roi(*corners.tolist())


@pytest.mark.parametrize("block", [(4, 5, 6), (1, 1, 14), (3, 0, 100), (10, 12, 14), ()])
def test_every_region_is_what_the_input_has_cold_and_warm(block):
    for _ in range(2):
        _, cache = cached(block=block)
        for roi in [*random_rois(PIXELS.shape, 40), cache.output.meta.roi]:
            assert np.array_equal(cache.output.read(roi), PIXELS[roi.slicing])


def test_long_rows_short_rows_and_strided_destinations_get_the_same_pixels():
    pixels = np.random.default_rng(0).integers(0, 2**16, (40, 64, 70), np.uint16)
    _, cache = cached(pixels, block=(32, 32, 64))
    for _ in range(2):
        assert np.array_equal(cache.output.read(), pixels)
        for backing in (np.zeros((40, 64, 140), np.uint16)[..., ::2], np.zeros((70, 64, 40), np.uint16).T):
            cache.output.read(out=backing)
            assert np.array_equal(backing, pixels)


def test_a_missing_block_is_computed_whole_and_once():
    source, cache = cached()
    cache.output.read(Roi((1, 1, 1), (2, 2, 2)))
    cache.output.read(Roi((0, 0, 0), (4, 5, 6)))
    assert source.executed == [Roi((0, 0, 0), (4, 5, 6))]
    cache.output.read()
    assert len(source.executed) == len(set(source.executed)) == 3 * 3 * 3
    cache.output.read()
    assert cache.computed_blocks == len(source.executed) == 27
    assert cache.used_bytes == PIXELS.nbytes


def test_dirt_drops_the_blocks_it_touches_and_is_announced_as_it_is():
    source, cache = cached()
    cache.output.read()
    heard = []
    cache.output.dirty.subscribe(lambda slot, roi: heard.append(roi))
    source.executed.clear()
    roi = Roi((3, 0, 0), (5, 1, 1))
    source.image.mark_dirty(roi)
    assert heard == [roi]
    assert len(cache.clean_blocks) == 25
    cache.output.read()
    assert sorted(source.executed, key=str) == [Roi((0, 0, 0), (4, 5, 6)), Roi((4, 0, 0), (8, 5, 6))]


def test_an_edit_is_seen_at_once_also_where_few_blocks_are_kept():
    pixels = np.zeros((64, 64), np.uint8)
    graph = Graph()
    cache = OpBlockCache(graph=graph, image=pixels, block=(8, 8))
    for step in range(1, 20):
        cache.output.read(Roi((step, step), (step + 1, step + 9)))
        pixels[step, step:] = step
        cache.image.mark_dirty(Roi((step, step), (step + 1, 64)))
        assert np.array_equal(cache.output.read(), pixels)
        pixels[...] = 0
        cache.image.mark_dirty()
        assert not cache.clean_blocks


def test_a_cache_of_an_array_does_not_follow_it_unannounced():
    pixels = np.zeros((8, 8))
    cache = OpBlockCache(graph=Graph(), image=pixels)
    assert cache.output.read().max() == 0
    pixels[...] = 1
    assert cache.output.read().max() == 0
    cache.image.mark_dirty()
    assert cache.output.read().min() == 1


def test_another_meta_another_input_and_no_input_drop_everything():
    source, cache = cached()
    cache.output.read()
    source.image.assign(PIXELS[:5] + 1)
    assert cache.used_bytes == 0
    assert np.array_equal(cache.output.read(), PIXELS[:5] + 1)
    cache.image.assign(np.array(PIXELS[:5] + 2))
    assert np.array_equal(cache.output.read(), PIXELS[:5] + 2)
    cache.image.disconnect()
    assert cache.used_bytes == 0
    with pytest.raises(NotReadyError):
        cache.output.read()


def test_another_block_shape_drops_everything_but_changes_no_pixel():
    _, cache = cached()
    cache.output.read()
    heard = []
    cache.output.dirty.subscribe(lambda slot, roi: heard.append(roi))
    cache.block.value = (5, 5, 5)
    assert (heard, cache.used_bytes) == ([], 0)
    assert np.array_equal(cache.output.read(), PIXELS)


def test_a_change_that_fails_downstream_leaves_right_answers():
    source, cache = cached()
    crowd = OpBlockCache(graph=cache.graph, image=cache.output, block=(4, 5, 6))
    crowd.output.read()
    with pytest.raises(SetupError):
        source.image.assign(np.zeros((3, 3)))
    assert np.array_equal(crowd.output.read(), PIXELS)


def test_a_refused_change_loses_no_block():
    class OpWide(Operator):
        image = InputSlot()
        output = OutputSlot()

        def setup_outputs(self):
            if self.image.meta.shape[0] < 10:
                raise SetupError("too thin")
            self.output.meta = self.image.meta

    class OpFirst(OpWide):
        """The first planes of its image."""

        number = ParameterSlot(int, default=10)

        def setup_outputs(self):
            meta = self.image.meta
            self.output.meta = meta.cropped(meta.roi.with_axis(0, 0, self.number.value))

        def execute(self, slot, roi, out):
            self.image.read(roi, out=out)

    graph = Graph()
    crop = OpFirst(graph=graph, image=PIXELS)
    cache = OpBlockCache(graph=graph, image=crop.output, block=(4, 5, 6))
    OpWide(graph=graph, image=cache.output)
    cache.output.read()
    for change in (
        lambda: setattr(crop.number, "value", 5),
        lambda: cache.image.assign(PIXELS[:5]),
        lambda: setattr(cache.block, "value", (4, 4)),
    ):
        with pytest.raises(SetupError):
            change()
        assert len(cache.clean_blocks) == cache.computed_blocks == 27
        assert cache.used_bytes == PIXELS.nbytes
    assert np.array_equal(cache.output.read(), PIXELS)
    assert cache.computed_blocks == 27


@pytest.mark.parametrize(
    ("meta", "block"),
    [
        (ArrayMeta((300, 300, 300), "u1", "zyx"), (64, 64, 64)),
        (ArrayMeta((2000, 3000), "u1", "yx"), (512, 512)),
        (ArrayMeta((9, 300, 300, 300), "u1", "tzyx"), (1, 64, 64, 64)),
        (ArrayMeta((300, 300, 300), "u1", "zyx", preferred_block=(1, 100, 100)), (25, 100, 100)),
        (ArrayMeta((300, 300), "u1", "yx", preferred_block=(300, 300)), (300, 300)),
        (ArrayMeta((3, 4), "u1", "yx"), (3, 4)),
        (ArrayMeta((0, 4), "u1", "yx"), (1, 4)),
    ],
)
def test_blocks_are_cubes_of_whole_preferred_blocks_of_one_time_point(meta, block):
    cache = OpBlockCache(graph=Graph())
    cache.image.assign(np.broadcast_to(np.uint8(7), meta.shape), meta)
    chosen = cache.output.meta.preferred_block
    if meta.preferred_block == (1, 100, 100):
        assert chosen[1:] == block[1:]
        assert np.prod(chosen) <= 64**3
    else:
        assert chosen == block


def test_meta_is_handed_on_except_for_how_to_ask():
    meta = ArrayMeta(
        (8, 8, 2), "f4", "yxc", value_range=(0, 1), channel_names=("a", "b"), max_block=(2, 2, 2)
    )
    cache = OpBlockCache(graph=Graph(), block=(4, 4, 0))
    cache.image.assign(np.zeros(meta.shape, "f4"), meta)
    hints = {"preferred_block": None, "max_block": None, "ram_per_pixel": None}
    assert cache.output.meta.replace(**hints) == meta.replace(**hints)
    assert cache.output.meta.preferred_block == (4, 4, 2)


@pytest.mark.parametrize("block", [(1.5, 2), (-1, 2), ("a",), (True, 1)])
def test_a_block_that_is_none_is_refused(block):
    with pytest.raises(ParameterError):
        OpBlockCache(graph=Graph(), block=block)


def test_a_block_of_another_dimension_is_refused():
    with pytest.raises(SetupError, match=r"block=\(4, 4\) has 2 numbers, but the image has 3 axes"):
        cached(block=(4, 4))


def test_a_failing_block_names_its_operator_keeps_nothing_and_is_tried_again():
    source, cache = cached()
    source.failing = {Roi((0, 0, 0), (4, 5, 6))}
    with pytest.raises(
        ExecuteError, match=r"OpCounting.output \[0:4, 0:5, 0:6\]: OSError: no pixels"
    ) as caught:
        cache.output.read()
    assert any("OpBlockCache.output" in line for line in caught.value.path)
    with pytest.raises(ExecuteError, match="no pixels"):
        cache.output.read(Roi((0, 0, 0), (1, 1, 1)))
    assert Roi((0, 0, 0), (4, 5, 6)) not in cache.clean_blocks
    assert np.array_equal(cache.output.read(Roi((8, 0, 0), (9, 1, 1))), PIXELS[8:9, :1, :1])
    source.failing = set()
    assert np.array_equal(cache.output.read(), PIXELS)


def test_an_image_without_pixels_has_none_and_one_without_axes_is_refused():
    assert OpBlockCache(graph=Graph(), image=np.zeros((0, 5))).output.read().shape == (0, 5)
    cache = OpBlockCache(graph=Graph())
    with pytest.raises(SetupError, match="no axes"):
        cache.image.assign(np.array(3.5), ArrayMeta((), "f8", ""))


# --------------------------------------------------------------------------------------------------- memory


def test_the_least_recently_read_block_goes_first(budget):
    _, cache = cached(np.zeros((5, 100), np.uint8), block=(1, 100))
    budget(300)
    rows = [Roi((i, 0), (i + 1, 100)) for i in range(5)]
    for i in (0, 1, 2, 0, 3):
        cache.output.read(rows[i])
    assert sorted(cache.clean_blocks, key=str) == [rows[0], rows[2], rows[3]]
    assert cache.used_bytes == 300


@pytest.mark.parametrize("blocks", [0, 0.5, 1, 3])
def test_a_budget_smaller_than_the_region_or_than_one_block_is_slower_not_wrong(budget, blocks):
    source, cache = cached()
    budget(int(blocks * 4 * 5 * 6 * 2))
    assert np.array_equal(cache.output.read(), PIXELS)
    assert len(source.executed) == 27  # each once per request, whatever is evicted meanwhile
    assert cache.used_bytes <= blocks * 4 * 5 * 6 * 2
    assert np.array_equal(cache.output.read(), PIXELS)
    assert len(source.executed) <= 54


def test_streaming_under_a_small_budget_computes_each_block_once(budget):
    source, cache = cached()
    budget(PIXELS.nbytes // 10)
    out = np.zeros_like(PIXELS)
    for roi, pixels in stream_blocks(cache.output):
        out[roi.slicing] = pixels
    assert np.array_equal(out, PIXELS)
    assert len(source.executed) == cache.computed_blocks == 27


def test_caches_share_one_budget_and_a_lower_one_evicts_at_once(budget):
    (_, first), (_, second) = cached(), cached()
    first.output.read()
    second.output.read()
    budget(memory_manager().used_bytes - PIXELS.nbytes)
    assert (first.used_bytes, second.used_bytes) == (0, PIXELS.nbytes)


def test_closing_frees_and_so_does_forgetting_the_graph(budget):
    _, cache = cached()
    cache.output.read()
    assert memory_manager().used_bytes == PIXELS.nbytes
    cache.close()
    assert memory_manager().used_bytes == 0

    source, cache = cached()
    cache.output.read()
    gone = weakref.ref(cache)
    del source, cache
    gc.collect()
    assert gone() is None
    assert memory_manager().used_bytes == 0


def test_a_result_belongs_to_its_reader():
    _, cache = cached()
    first = cache.output.read()
    first[...] = 0
    assert np.array_equal(cache.output.read(), PIXELS)
