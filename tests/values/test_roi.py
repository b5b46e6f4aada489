import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyflow_core.errors import RoiBoundsError, RoiError
from lazyflow_core.roi import Boxes, Roi, hull

EXTENT = 6


@st.composite
def rois(draw, ndim=2):
    corners = [sorted((draw(st.integers(0, EXTENT)), draw(st.integers(0, EXTENT)))) for _ in range(ndim)]
    return Roi([a for a, _ in corners], [b for _, b in corners])


def pixels(*given_rois):
    """The set of pixels of some ROIs, counted."""
    count = np.zeros((EXTENT, EXTENT), int)
    for roi in given_rois:
        count[roi.slicing] += 1
    return count


@given(rois(), rois())
def test_intersection_is_the_set_of_shared_pixels(a, b):
    assert np.array_equal(pixels(a & b), pixels(a) * pixels(b))
    assert a.intersects(b) == bool((pixels(a) * pixels(b)).any())


@given(rois(), rois())
def test_difference_and_intersection_tile_the_roi_without_overlap(a, b):
    assert np.array_equal(pixels(*a.difference(b), a & b), pixels(a))


@given(st.lists(rois(), min_size=1, max_size=4))
def test_a_hull_is_the_smallest_box_that_holds_all(given_rois):
    whole = hull(given_rois)
    assert all(roi in whole for roi in given_rois)
    for axis in range(2):
        assert whole.start[axis] == min(roi.start[axis] for roi in given_rois)
        assert whole.stop[axis] == max(roi.stop[axis] for roi in given_rois)


@given(rois(), st.tuples(st.integers(0, 4), st.integers(0, 4)))
def test_a_halo_stops_at_the_border(roi, halo):
    within = Roi((0, 0), (EXTENT, EXTENT))
    grown = roi.with_halo(halo, within)
    assert roi in grown
    assert grown in within
    for axis in range(2):
        assert grown.start[axis] == max(0, roi.start[axis] - halo[axis])
        assert grown.stop[axis] == min(EXTENT, roi.stop[axis] + halo[axis])


@given(rois())
def test_slicing_there_and_back_gives_the_same_roi(roi):
    assert Roi.from_slicing(roi.slicing, (EXTENT, EXTENT)) == roi
    assert np.zeros((EXTENT, EXTENT))[roi.slicing].shape == roi.shape


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (Ellipsis, ((0, 0, 0), (3, 4, 5))),
        (1, ((1, 0, 0), (2, 4, 5))),
        (-1, ((2, 0, 0), (3, 4, 5))),
        ((..., slice(-2, None)), ((0, 0, 3), (3, 4, 5))),
        ((0, ..., 2), ((0, 0, 2), (1, 4, 3))),
        ((slice(1, 1),), ((1, 0, 0), (1, 4, 5))),
        (np.int64(2), ((2, 0, 0), (3, 4, 5))),
    ],
)
def test_a_slicing_means_what_numpy_means_with_integers_kept_as_axes(key, expected):
    assert Roi.from_slicing(key, (3, 4, 5)) == Roi(*expected)


@pytest.mark.parametrize(
    "key", [3, -4, slice(0, 4), (0, 0, 0, 0), slice(None, None, 2), 1.0, True, "x", (..., ...)]
)
def test_a_slicing_that_numpy_would_clip_or_stride_is_refused(key):
    with pytest.raises(RoiError, match=r"^\["):
        Roi.from_slicing(key, (3, 3, 3))


def test_a_reversed_slice_is_refused():
    with pytest.raises(RoiBoundsError, match="reversed"):
        Roi.from_slicing(slice(2, 1), (3,))


@pytest.mark.parametrize(
    ("start", "stop", "error"),
    [
        ((2,), (1,), RoiBoundsError),
        ((-1,), (1,), RoiBoundsError),
        ((0,), (1, 2), RoiError),
        ((0.5,), (1,), RoiError),
        (("0",), (1,), RoiError),
        (None, (1,), RoiError),
    ],
)
def test_what_is_no_region_is_refused_at_once(start, stop, error):
    with pytest.raises(error):
        Roi(start, stop)


def test_an_empty_region_is_legal():
    empty = Roi((2, 0), (2, 5))
    assert empty.is_empty
    assert empty.size == 0
    assert empty.shape == (0, 5)


def test_sizes_do_not_overflow():
    assert Roi.from_shape((2**40, 2**40)).size == 2**80


def test_a_roi_is_frozen_hashable_and_survives_pickling():
    roi = Roi((1, 2), (3, 4))
    with pytest.raises(AttributeError, match="frozen"):
        roi.start = (0, 0)
    assert pickle.loads(pickle.dumps(roi)) == roi
    assert {roi: 1}[Roi((1, 2), (3, 4))] == 1


def test_regions_of_different_dimension_do_not_mix():
    with pytest.raises(RoiError, match="1 axes"):
        Roi((0,), (1,)) & Roi((0, 0), (1, 1))


@given(rois(), st.tuples(st.integers(1, 20), st.integers(1, 20)))
def test_a_rescaled_roi_holds_every_pixel_that_is_touched_and_no_further_one(roi, to_shape):
    shape = (EXTENT, EXTENT)
    there = roi.rescaled(shape, to_shape)
    assert there.fits(to_shape)
    if roi.is_empty:
        assert there.is_empty
        return
    for axis in range(2):
        low, high = (Fraction(p * to_shape[axis], EXTENT) for p in (roi.start[axis], roi.stop[axis]))
        touched = [p for p in range(to_shape[axis]) if p < high and p + 1 > low]
        assert (there.start[axis], there.stop[axis]) == (touched[0], touched[-1] + 1)


def test_the_hull_of_nothing_is_refused():
    with pytest.raises(RoiError, match="no ROIs"):
        hull([])


def test_shifting_below_zero_is_refused():
    with pytest.raises(RoiBoundsError):
        Roi((1,), (2,)).shift((-2,))


def test_boxes_are_their_hull_and_know_their_parts():
    parts = [Roi((0, 3), (1, 4)), Roi((5, 0), (6, 1))]
    both = Boxes(parts)
    assert (both.start, both.stop) == ((0, 0), (6, 4))
    assert both.boxes == tuple(parts)
    assert both & Roi((0, 0), (1, 9)) == Roi((0, 0), (1, 4))
    assert Roi((0, 0), (1, 1)).boxes == (Roi((0, 0), (1, 1)),)


def test_boxes_are_equal_if_their_parts_are():
    parts = [Roi((0, 3), (1, 4)), Roi((5, 0), (6, 1))]
    both = Boxes(parts)
    assert both == Boxes(parts[::-1])
    assert hash(both) == hash(Boxes(parts[::-1]))
    assert both == pickle.loads(pickle.dumps(both))
    assert both != hull(parts)
    assert hull(parts) != both
    with pytest.raises(RoiError):
        Boxes([])
    with pytest.raises(AttributeError, match="frozen"):
        both.start = (0, 0)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda roi: roi.with_halo((1.5, 0), within=roi),
        lambda roi: roi.with_halo(1, within=roi),
        lambda roi: roi.with_halo((1,), within=roi),
        lambda roi: roi.transposed((1, 1)),
        lambda roi: roi.transposed((0,)),
        lambda roi: roi.with_axis(2, 0, 1),
    ],
)
def test_what_does_not_fit_its_axes_is_refused(mistake):
    with pytest.raises(RoiError, match=r"^\[1:2, 3:4\]"):
        mistake(Roi((1, 3), (2, 4)))


def test_rois_go_with_rois_only():
    roi = Roi((1, 3), (2, 4))
    for mistake in (
        lambda: roi & (1, 2),
        lambda: roi.intersects(3),
        lambda: 3 in roi,
        lambda: roi.clip(None),
    ):
        with pytest.raises(TypeError, match="is no Roi"):
            mistake()
