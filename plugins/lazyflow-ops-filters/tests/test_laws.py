"""What all operators of the plugin promise beyond the laws of test_conformance: bits, dtypes, NaN, memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from filter_cases import speckled
from hypothesis import given, settings
from hypothesis import strategies as st
from lazyflow_core import Graph, Roi
from operator_cases import CASES, OPERATORS, cases, make, parametrized, thresholded


def test_all_operators_that_are_installed_are_tried_here():
    assert {cls.__name__ for cls, _ in CASES} | {"OpOtsuThreshold"} == set(OPERATORS)


@cases
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_any_region_has_the_bits_of_the_whole(cls, parameters, data):
    axes = data.draw(st.sampled_from(["zyx", "xzy", "tzyx", "zyxc", "cyxt", "yx", "xcy"]))
    sides = st.just(1) | st.integers(9, 13)  # an axis of one pixel is not filtered, and fits any scale
    shape = tuple(data.draw(st.integers(1, 2) if key in "tc" else sides) for key in axes)
    dtype = data.draw(st.sampled_from(["f4", "f8", "u1", ">i2", "?"]))
    image = thresholded(speckled(shape), cls).astype(dtype)
    with Graph() as graph:
        operator = make(cls, parameters, graph, image, axes)
        whole = operator.output.read()
        start = [data.draw(st.integers(0, n)) for n in whole.shape]
        roi = Roi(start, [data.draw(st.integers(a, n)) for a, n in zip(start, whole.shape, strict=True)])
        assert np.array_equal(operator.output.read(roi), whole[roi.slicing])


@pytest.mark.parametrize("axes", ["xzy", "yxz", "xyz"])
@cases
def test_axes_in_another_order_have_the_same_results(cls, parameters, axes):
    image = thresholded(speckled((9, 11, 13)), cls)
    order = ["zyx".index(key) for key in axes]
    with Graph() as graph:
        expected = make(cls, parameters, graph, image, "zyx").output.read()
        operator = make(cls, parameters, graph, image.transpose(order), axes)
        assert operator.output.meta.axes.keys[-3:] == axes
        order = [*range(expected.ndim - 3), *(expected.ndim - 3 + i for i in order)]
        assert np.array_equal(operator.output.read(), expected.transpose(order))


@cases
def test_time_and_channels_are_looped_over(cls, parameters):
    image = thresholded(speckled((2, 9, 3, 11, 10)), cls)
    with Graph() as graph:
        result = make(cls, parameters, graph, image, "cztyx").output.read()
        for c, t in np.ndindex(2, 3):
            alone = make(cls, parameters, graph, image[c, :, t], "zyx").output.read()
            alone = alone.reshape(-1, 9, 11, 10)
            n = len(alone)
            assert np.array_equal(result[c * n : (c + 1) * n, :, t], alone)


@cases
def test_results_have_the_shape_and_dtype_promised_and_finite_values(cls, parameters):
    image = thresholded(speckled((10, 11, 12)), cls)
    with Graph() as graph:
        operator = make(cls, parameters, graph, image, "zyx")
        meta = operator.output.meta
        result = operator.output.read()
        assert (result.shape, result.dtype) == (meta.shape, meta.dtype)
        assert np.isfinite(result).all()
        assert np.ptp(result.astype(float)) > 0
        names = meta.channel_names
        assert len(set(names)) == len(names) == (meta.axis_length("c") if meta.ndim == 4 else 0)


@parametrized([c for c in CASES if c[0].__module__ != "lazyflow_ops_filters.mask"])
def test_nan_stays_within_the_halo_and_the_input_is_not_touched(cls, parameters):
    image = speckled((13, 14, 15))
    spot = Roi((6, 6, 6), (7, 7, 7))
    clean = image.copy()
    image[spot.slicing] = np.nan
    image.flags.writeable = False
    with Graph() as graph:
        operator = make(cls, parameters, graph, image, "zyx")
        reached = operator.plan.output_roi(spot)
        result, expected = operator.output.read(), make(cls, parameters, graph, clean, "zyx").output.read()
        assert np.isnan(result).any()
        result[reached.slicing] = expected[reached.slicing] = 0
        assert np.array_equal(result, expected)


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ("zyx", (0, 20, 20)),
        ("zyxc", (12, 13, 14, 0)),
        ("zyx", (1, 1, 1)),
        ("zyx", (1, 14, 15)),
        ("yx", (14, 15)),
    ],
    ids=str,
)
@cases
def test_empty_and_thin_images_have_results_of_their_shape(cls, parameters, axes, shape):
    image = thresholded(speckled(shape), cls)
    with Graph() as graph:
        operator = make(cls, parameters, graph, image, axes)
        result = operator.output.read()
        assert result.shape == operator.output.meta.shape
        assert np.isfinite(result).all()


@pytest.mark.parametrize("backend", ["auto", "scipy"])
@cases
def test_no_more_memory_is_taken_than_stated(cls, parameters, backend):
    if "backend" in cls.declarations:
        parameters = {**parameters, "backend": backend}
    image = thresholded(speckled((70, 70, 70)), cls).astype(np.uint8)
    with Graph() as graph:
        operator = make(cls, parameters, graph, image, "zyx")
        channels = operator.output.meta.shape[:-3]
        roi = Roi((*(0 for _ in channels), 3, 3, 3), (*channels, 67, 67, 67))
        operator.output.read(roi)
        tracemalloc.start()
        try:
            operator.output.read(roi)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak <= operator.output.meta.ram_per_pixel * roi.size


@pytest.mark.parametrize("dtype", ["?", "u1", ">i2", "u8", "f2", "f8"])
@cases
def test_any_real_dtype_is_taken(cls, parameters, dtype):
    image = (thresholded(speckled((10, 11, 12)), cls) * 20).astype(dtype)
    with Graph() as graph:
        result = make(cls, parameters, graph, image, "zyx").output.read()
        assert np.isfinite(result).all()
