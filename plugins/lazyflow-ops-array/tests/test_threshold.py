"""What is above a level, for every dtype."""

import numpy as np
import pytest
from lazyflow_core import Graph, Roi
from lazyflow_core.errors import ParameterError, SetupError

from lazyflow_ops_array.threshold import OpThreshold


def mask_of(image, level):
    return OpThreshold(graph=Graph(), image=image, level=level).output.read()


def test_a_pixel_equal_to_the_level_or_nan_is_not_marked():
    image = np.array([[0.5, 0.51], [np.nan, np.inf]])
    assert mask_of(image, 0.5).tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int8", "uint16", "int64", "float16", "float32", ">f4", ">i2"]
)
@pytest.mark.parametrize("level", [-1e6, -0.5, 0, 0.5, 1, 100.5, 1e6, np.inf, -np.inf])
def test_every_dtype_is_compared_as_numbers_are(dtype, level):
    image = np.array([[0, 1, 1], [1, 0, 1]] if dtype == "bool" else [[0, 1, 100], [101, 2, 127]]).astype(
        dtype
    )
    expected = [[float(v) > level for v in row] for row in image]
    result = mask_of(image, level)
    assert result.dtype == np.uint8
    assert result.tolist() == expected


def test_large_integers_are_compared_exactly():
    image = np.array([[2**53, 2**53 + 1, 2**63]], np.uint64)
    assert mask_of(image, float(2**53)).tolist() == [[0, 1, 1]]


def test_a_region_is_written_into_a_strided_array():
    image = np.arange(60.0).reshape(3, 4, 5)
    threshold = OpThreshold(graph=Graph(), image=image, level=20.0)
    roi = Roi((0, 1, 2), (3, 3, 5))
    out = np.full((6, 4, 6), 7, np.uint8)[::2, ::2, ::2]
    threshold.output.read(roi, out=out)
    assert np.array_equal(out, image[roi.slicing] > 20)


def test_the_meta_says_what_a_mask_is():
    image = np.zeros((4, 5, 2), np.float32)
    threshold = OpThreshold(graph=Graph(), image=image)
    meta = threshold.output.meta
    assert (meta.dtype, meta.value_range) == (np.uint8, (0, 1))
    assert meta.axes == threshold.image.meta.axes


def test_the_dirty_region_is_the_same_and_a_new_level_makes_all_dirty():
    threshold = OpThreshold(graph=Graph(), image=np.zeros((10, 10)))
    heard = []
    threshold.output.dirty.subscribe(lambda slot, roi: heard.append(roi))
    threshold.image.mark_dirty(Roi((1, 2), (3, 4)))
    threshold.level.value = 0.25
    assert heard == [Roi((1, 2), (3, 4)), Roi((0, 0), (10, 10))]


def test_complex_pixels_and_a_level_that_is_no_number_are_refused():
    with pytest.raises(SetupError, match="complex64"):
        OpThreshold(graph=Graph(), image=np.zeros((2, 2), np.complex64))
    with pytest.raises(ParameterError, match="not a number"):
        OpThreshold(graph=Graph(), level=float("nan"))
