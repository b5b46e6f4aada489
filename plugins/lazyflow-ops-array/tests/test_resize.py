"""Resizing against scikit-image on the whole array, under any blocking."""

import numpy as np
import pytest
from lazyflow_core import ArrayMeta, Axes, Axis, Graph, Roi
from lazyflow_core.errors import ParameterError, SetupError
from skimage.transform import resize

from lazyflow_ops_array.resize import OpResize

CHANCE = np.random.default_rng(8)
SHAPES = [
    ((20, 31, 17), (10, 31, 40)),
    ((20, 31, 17), (7, 9, 3)),
    ((9, 8, 50), (18, 16, 25)),
    ((5, 1, 7), (3, 2, 1)),
    ((1, 2, 100), (1, 3, 3)),
    ((30, 30, 3), (29, 23, 4)),
]


def resized(image, shape, **parameters):
    op = OpResize(graph=Graph(), shape=shape, **parameters)
    op.image.assign(image, axes="zyx")
    return op


@pytest.mark.parametrize(("before", "after"), SHAPES)
@pytest.mark.parametrize("dtype", ["u1", ">i2", "u4", "f2", "f4", "f8"])
def test_it_is_what_scikit_image_computes_under_any_blocking(dtype, before, after):
    image = (CHANCE.random(before) * 200).astype(dtype)
    for anti_aliasing in (True, False):
        op = resized(image, after, anti_aliasing=anti_aliasing)
        expected = resize(
            image.astype(np.float64), after, order=1, preserve_range=True, anti_aliasing=anti_aliasing
        )
        result = op.output.read()
        if image.dtype.kind in "ui":
            assert np.abs(result - expected).max() <= 0.501
        else:
            tolerance = {2: 1e-3, 4: 3e-6, 8: 1e-12}[image.dtype.itemsize]
            np.testing.assert_allclose(result, expected, rtol=tolerance, atol=200 * tolerance)
        for _ in range(10):
            corners = np.sort(CHANCE.integers(0, np.add(after, 1), (2, 3)), axis=0)
            roi = Roi(*corners.tolist())
            assert np.array_equal(op.output.read(roi), result[roi.slicing])


@pytest.mark.parametrize(("before", "after"), SHAPES)
@pytest.mark.parametrize("dtype", ["?", "u1", "i8", "f4"])
def test_the_nearest_pixel_is_that_of_scikit_image(dtype, before, after):
    image = (CHANCE.random(before) * 200).astype(dtype)
    op = resized(image, after, interpolation="nearest")
    expected = resize(image, after, order=0, preserve_range=True, anti_aliasing=False)
    assert np.array_equal(op.output.read(), expected.astype(dtype))


def test_exactly_the_pixels_that_take_from_a_dirty_one_are_dirty():
    image = CHANCE.random((1, 1, 40))
    for length in (7, 13, 40, 41, 90):
        op = resized(image.copy(), (1, 1, length))
        if op.output.upstream is not None:
            continue
        first = op.output.read().copy()
        for x in (0, 5, 39):
            heard = []
            unsubscribe = op.output.dirty.subscribe(lambda slot, roi, heard=heard: heard.append(roi))
            changed = image.copy()
            changed[..., x] += 100
            op.image.assign(changed, axes="zyx")
            op.image.assign(image.copy(), axes="zyx")
            heard.clear()
            op.image.mark_dirty(Roi((0, 0, x), (1, 1, x + 1)))
            unsubscribe()
            op.image.assign(changed, axes="zyx")
            different = np.flatnonzero(op.output.read() != first)
            op.image.assign(image, axes="zyx")
            (roi,) = heard
            assert (roi.start[2], roi.stop[2]) == (different.min(), different.max() + 1), (length, x)


def test_a_scale_is_for_spatial_axes_and_the_extent_stays():
    axes = Axes([Axis("z", unit="micrometer", resolution=2.0), Axis("x", resolution=1.0), "c"])
    op = OpResize(graph=Graph(), scale=0.5)
    op.image.assign(np.zeros((4, 9, 3)), ArrayMeta((4, 9, 3), "f8", axes))
    assert op.output.meta.shape == (2, 4, 3)
    assert op.output.meta.axes[0] == Axis("z", unit="micrometer", resolution=4.0, translation=1.0)
    assert op.output.meta.axes[1].resolution == 9 / 4
    op.scale.value = (0.001, 2.0, 1.0)
    assert op.output.meta.shape == (1, 18, 3)
    op.scale.value = 1.0
    assert op.output.upstream is not None
    for wrong, says in (
        (1e9, "4194304 can be made"),
        ((2.0, 1.0), "for each axis"),
        ((1.0, 1.0, 2.0), "channels"),
    ):
        with pytest.raises(SetupError, match=says):
            op.scale.value = wrong
    for wrong in (0.0, -1.0, float("nan"), float("inf"), (1.0, "a", 1.0), (True, 1.0, 1.0)):
        with pytest.raises(ParameterError, match="number > 0"):
            op.scale.value = wrong
    with pytest.raises(ParameterError, match="pixels >= 1"):
        op.shape.value = (2, 0, 3)


def test_labels_are_picked_and_not_mixed():
    labels = np.array([[1, 1, 9], [1, 1, 9]], np.uint16)
    op = OpResize(graph=Graph(), scale=3)
    op.image.assign(labels, ArrayMeta((2, 3), "u2", "yx", semantics="labels"))
    assert set(np.unique(op.output.read()).tolist()) == {1, 9}
