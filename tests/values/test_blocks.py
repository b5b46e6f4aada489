from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyflow_core.blocks import BlockGrid, choose_block_shape
from lazyflow_core.errors import RoiError
from lazyflow_core.roi import Roi

small = st.integers(1, 7)


@st.composite
def grids_and_rois(draw):
    shape = draw(st.tuples(small, small))
    block = draw(st.tuples(small, small))
    corners = [sorted((draw(st.integers(0, n)), draw(st.integers(0, n)))) for n in shape]
    return BlockGrid(shape, block), Roi([a for a, _ in corners], [b for _, b in corners])


@given(grids_and_rois())
def test_the_blocks_of_a_grid_cover_every_pixel_once(grid_and_roi):
    grid, _ = grid_and_roi
    count = np.zeros(grid.shape, int)
    blocks = list(grid)
    for block in blocks:
        count[block.slicing] += 1
    assert (count == 1).all()
    assert len(blocks) == len(grid)


@given(grids_and_rois())
def test_the_tiles_of_a_roi_cover_it_once_and_lie_in_one_block_each(grid_and_roi):
    grid, roi = grid_and_roi
    count = np.zeros(grid.shape, int)
    for tile, block in zip(grid.tiles(roi), grid.touching(roi), strict=True):
        assert not tile.is_empty
        assert tile in block
        count[tile.slicing] += 1
    expected = np.zeros(grid.shape, int)
    expected[roi.slicing] = 1
    assert np.array_equal(count, expected)


@given(grids_and_rois())
def test_a_covering_roi_is_the_union_of_the_blocks_it_touches(grid_and_roi):
    grid, roi = grid_and_roi
    touched = list(grid.touching(roi))
    covering = grid.covering(roi)
    if touched:
        assert covering.start == tuple(min(b.start[i] for b in touched) for i in range(2))
        assert covering.stop == tuple(max(b.stop[i] for b in touched) for i in range(2))
        assert covering.size == sum(b.size for b in touched)
    else:
        assert covering == roi


def test_a_grid_can_begin_at_a_roi():
    grid = BlockGrid((10,), (4,), origin=(3,))
    assert [str(b) for b in grid] == ["[3:7]", "[7:10]"]


@given(st.lists(st.integers(1, 200), min_size=1, max_size=4), st.integers(1, 10**6), st.integers(1, 20))
def test_a_chosen_block_is_made_of_whole_steps_and_keeps_the_limit(shape, most_pixels, step):
    steps = (step,) * len(shape)
    block = choose_block_shape(shape, most_pixels=most_pixels, step=steps)
    one_step = prod(min(step, n) for n in shape)
    assert prod(block) <= max(most_pixels, one_step)
    for side, n in zip(block, shape, strict=True):
        assert 1 <= side <= n
        assert side % step == 0 or side == n


def test_a_chosen_block_is_close_to_a_cube():
    block = choose_block_shape((1000, 1000, 1000), most_pixels=10**6)
    assert max(block) <= 2 * min(block)
    assert prod(block) > 10**6 / 8


@pytest.mark.parametrize("block", [(0, 1), (1,), (1, 1, 1)])
def test_a_block_that_does_not_fit_is_refused(block):
    with pytest.raises(RoiError):
        BlockGrid((4, 4), block)
