"""Ranks, morphology and masks against scipy over the whole array, and by definition."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from filter_cases import speckled
from lazyflow_core import ArrayMeta, Axes, Axis, BlockGrid, Graph, Roi
from lazyflow_core.errors import ParameterError, SetupError
from scipy import ndimage

from lazyflow_ops_filters.kernels.neighborhood import OPERATIONS
from lazyflow_ops_filters.mask import OpDistanceTransform, OpHysteresisThreshold
from lazyflow_ops_filters.neighborhood import OpMaximum, OpMedian, OpMinimum, OpMorphology, OpPercentile


@pytest.fixture
def graph():
    with Graph() as graph:
        yield graph


def read(cls, graph, image, axes="zyx", **parameters):
    operator = cls(graph=graph, **parameters)
    operator.image.assign(image, ArrayMeta(image.shape, image.dtype, axes))
    return operator.output.read()


def ball(*radius):
    grid = np.ogrid[tuple(slice(-r, r + 1) for r in radius)]
    return sum((g / max(r, 1)) ** 2 for g, r in zip(grid, radius, strict=True)) <= 1


GREY = (speckled((14, 15, 16)) * 100).astype(np.uint8)
MASK = speckled((14, 15, 16), seed=3) > 1.2


@pytest.mark.parametrize("image", [GREY, GREY.astype(np.float32)], ids=["uint8", "float32"])
def test_ranks_are_scipys_and_keep_the_dtype(image, graph):
    for cls, parameters, expected in [
        (OpMinimum, {"radius": 2}, ndimage.minimum_filter(image, 5, mode="mirror")),
        (OpMaximum, {"radius": (0, 1, 2)}, ndimage.maximum_filter(image, (1, 3, 5), mode="mirror")),
        (OpMedian, {"radius": 1}, ndimage.median_filter(image, 3, mode="mirror")),
        (OpMedian, {"radius": 1, "in_2d": True}, ndimage.median_filter(image, (1, 3, 3), mode="mirror")),
        (
            OpPercentile,
            {"radius": 2, "shape": "ball", "percentile": 30, "border": "nearest"},
            ndimage.percentile_filter(image, 30, footprint=ball(2, 2, 2), mode="nearest"),
        ),
    ]:
        result = read(cls, graph, image, **parameters)
        assert result.dtype == image.dtype
        assert np.array_equal(result, expected), cls


@pytest.mark.parametrize("border", ["mirror", "reflect", "nearest", "zero"])
@pytest.mark.parametrize("dtype", ["u1", "f4", "f2", ">i4", "?"])
def test_large_neighbourhoods_are_scipys(border, dtype, graph):
    image = (GREY > 90 if dtype == "?" else GREY).astype(dtype)
    mode = {"zero": "constant"}.get(border, border)
    native = image.astype("f4") if dtype == "f2" else image.astype(image.dtype.newbyteorder("="))
    expected = [
        ndimage.rank_filter(native, rank, footprint=ball(5, 6, 7), mode=mode) for rank in (0, 173, -1)
    ]
    common = {"radius": (5, 6, 7), "shape": "ball", "border": border}
    percentile = 100 * 173.5 / ball(5, 6, 7).sum()
    results = [
        read(OpMinimum, graph, image, **common),
        read(OpPercentile, graph, image, percentile=percentile, **common),
        read(OpMaximum, graph, image, **common),
    ]
    assert all(np.array_equal(a, b.astype(dtype)) for a, b in zip(results, expected, strict=True))


@pytest.mark.parametrize(
    ("operation", "function"),
    [
        ("erosion", ndimage.grey_erosion),
        ("dilation", ndimage.grey_dilation),
        ("opening", ndimage.grey_opening),
        ("closing", ndimage.grey_closing),
        ("gradient", ndimage.morphological_gradient),
        ("white_top_hat", ndimage.white_tophat),
        ("black_top_hat", ndimage.black_tophat),
    ],
)
def test_grey_morphology_is_scipys(operation, function, graph):
    image = GREY.astype(np.int32)
    assert np.array_equal(
        read(OpMorphology, graph, image, radius=2, operation=operation),
        function(image, size=5, mode="mirror"),
    )
    assert np.array_equal(
        read(OpMorphology, graph, image, radius=2, operation=operation, shape="ball", border="nearest"),
        function(image, footprint=ball(2, 2, 2), mode="nearest"),
    )


@pytest.mark.parametrize("dtype", ["i1", ">i2", "i4", "i8"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_differences_of_signed_integers_do_not_overflow(operation, dtype, graph):
    info = np.iinfo(dtype)
    image = np.where(np.random.default_rng(0).random((9, 10)) < 0.5, info.min, info.max).astype(dtype)
    result = read(OpMorphology, graph, image, "yx", radius=1, operation=operation)
    exact = read(OpMorphology, graph, image == info.max, "yx", radius=1, operation=operation)
    if operation in ("erosion", "dilation", "opening", "closing"):
        assert result.dtype == np.dtype(dtype).newbyteorder("=")
        assert np.array_equal(result == info.max, exact)
        assert np.array_equal(result == info.min, ~exact)
    else:
        assert result.dtype == f"u{np.dtype(dtype).itemsize}"
        assert np.array_equal(result == np.iinfo(result.dtype).max, exact)
        assert np.array_equal(result == 0, ~exact)


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "f4"])
@pytest.mark.parametrize("operation", ["white_top_hat", "black_top_hat"])
def test_top_hats_do_not_fall_below_zero_at_a_border_of_zeros(operation, dtype, graph):
    image = np.full((6, 7), -90 if operation == "white_top_hat" and dtype in ("i1", "f4") else 90).astype(
        dtype
    )
    result = read(OpMorphology, graph, image, "yx", radius=1, operation=operation, border="zero")
    assert not result[1:-1, 1:-1].any()
    assert not result.any()


@pytest.mark.parametrize("dtype", ["i8", "u8", "g"])
@pytest.mark.parametrize("shape", ["box", "ball"])
def test_numbers_that_float64_cannot_tell_apart_are_kept(shape, dtype, graph):
    image = 2**60 + np.arange(9 * 10).reshape(9, 10)[:, ::-1].astype(dtype)
    common = {"axes": "yx", "radius": 1, "shape": shape, "border": "nearest"}
    for cls in (OpMinimum, OpMedian, OpMaximum):
        result = read(cls, graph, image, **common)
        assert result.dtype == image.dtype
        assert np.isin(result, image).all()
    inner = (slice(1, -1),) * 2
    assert np.array_equal(read(OpMedian, graph, image, **common)[inner], image[inner])
    corner = 11 if shape == "box" else 10
    assert np.array_equal(read(OpMaximum, graph, image, **common)[inner], image[inner] + corner)


@pytest.mark.parametrize("border", ["mirror", "reflect", "nearest", "zero"])
@pytest.mark.parametrize("operation", ["erosion", "dilation", "opening", "gradient"])
@pytest.mark.parametrize("radius", [1, 3, (0, 2, 2), (1, 2, 2)], ids=str)
def test_masks_are_eroded_and_dilated_as_their_values_are(border, operation, radius, graph):
    as_mask = read(OpMorphology, graph, MASK, radius=radius, shape="ball", operation=operation, border=border)
    as_values = read(
        OpMorphology,
        graph,
        MASK.view(np.uint8),
        radius=radius,
        shape="ball",
        operation=operation,
        border=border,
    )
    assert as_mask.dtype == bool
    assert np.array_equal(as_mask, as_values != 0)
    integers = OpMorphology(graph=graph, radius=radius, shape="ball", operation=operation, border=border)
    integers.image.assign(MASK.astype(np.int16), ArrayMeta(MASK.shape, np.int16, "zyx", value_range=(0, 1)))
    assert integers.output.meta.value_range == (0, 1)
    assert np.array_equal(integers.output.read(), as_values.astype(np.int16))


def test_a_radius_in_micrometers_is_rounded_down_to_pixels(graph):
    axes = Axes([Axis("y", unit="micrometer", resolution=0.5), Axis("x", unit="micrometer", resolution=0.2)])
    image = GREY[0]
    result = read(OpMaximum, graph, image, axes, radius=1.1, unit="micrometer")
    assert np.array_equal(result, ndimage.maximum_filter(image, (5, 11), mode="mirror"))


def test_distances_are_scipys_up_to_the_largest(graph):
    mask = speckled((20, 21, 22)) > 0.02
    expected = np.minimum(ndimage.distance_transform_edt(mask), 4.0)
    assert np.allclose(read(OpDistanceTransform, graph, mask, largest=4.0), expected, rtol=1e-6)
    axes = Axes(
        [Axis("z", unit="um", resolution=2.0), *(Axis(key, unit="um", resolution=0.5) for key in "yx")]
    )
    expected = np.minimum(ndimage.distance_transform_edt(mask, sampling=(2.0, 0.5, 0.5)), 3.0)
    result = read(OpDistanceTransform, graph, mask, axes, largest=3.0, unit="micrometer")
    assert np.allclose(result, expected, rtol=1e-6)


def test_distances_in_2d_stay_within_their_slice(graph):
    mask = speckled((6, 21, 22)) > 0.02
    expected = np.stack([np.minimum(ndimage.distance_transform_edt(plane), 5.0) for plane in mask])
    expected[[plane.all() for plane in mask]] = 5.0
    assert np.allclose(read(OpDistanceTransform, graph, mask, largest=5.0, in_2d=True), expected, rtol=1e-6)


def test_hysteresis_follows_paths_up_to_their_reach(graph):
    image = np.zeros((5, 30), np.float32)
    image[2, 3:25] = 0.5
    image[2, 3] = 1.0
    image[4, 10] = 0.5
    result = read(OpHysteresisThreshold, graph, image, "yx", low=0.5, high=1.0, reach=10)
    expected = np.zeros_like(image, bool)
    expected[2, 3:14] = True
    assert np.array_equal(result, expected)
    assert np.array_equal(
        read(OpHysteresisThreshold, graph, image, "yx", low=0.5, high=1.0, reach=0), image == 1.0
    )


def test_hysteresis_with_enough_reach_selects_whole_objects(graph):
    image = ndimage.gaussian_filter(speckled((20, 24, 26)), 1.5)
    low, high = np.quantile(image, [0.7, 0.95])
    labels, _ = ndimage.label(image >= low)
    expected = np.isin(labels, np.unique(labels[image >= high]))
    result = read(OpHysteresisThreshold, graph, image, low=float(low), high=float(high), reach=200)
    assert np.array_equal(result, expected)


def test_hysteresis_in_2d_does_not_leave_a_slice(graph):
    image = np.full((3, 5, 5), 0.5, np.float32)
    image[1, 2, 2] = 1.0
    result = read(OpHysteresisThreshold, graph, image, low=0.5, high=1.0, in_2d=True)
    assert result[1].all()
    assert not result[[0, 2]].any()


@pytest.mark.parametrize("in_2d", [False, True])
def test_distances_without_a_bound_are_scipys_over_the_whole_frame(in_2d, graph):
    mask = np.stack([speckled((7, 21, 22), seed) > 0.0008 for seed in (0, 1)])
    mask[0, 2] = True  # a slice without background
    expected = np.empty(mask.shape)
    for t in range(2):
        parts = mask[t] if in_2d else mask[t : t + 1]
        distances = [
            np.full(p.shape, np.inf) if p.all() else ndimage.distance_transform_edt(p) for p in parts
        ]
        expected[t] = np.stack(distances) if in_2d else distances[0]
    operator = OpDistanceTransform(graph=graph, largest=np.inf, in_2d=in_2d)
    operator.image.assign(mask, ArrayMeta(mask.shape, mask.dtype, "tzyx"))
    assert np.allclose(operator.output.read(), expected, rtol=1e-6)
    roi = Roi((1, 2, 3, 4), (2, 6, 9, 20))
    assert np.allclose(operator.output.read(roi), expected[roi.slicing], rtol=1e-6)


@pytest.mark.parametrize("in_2d", [False, True])
def test_hysteresis_without_a_bound_selects_whole_objects_over_all_blocks(in_2d, graph):
    image = ndimage.gaussian_filter(speckled((20, 24, 26)), 1.5)
    low, high = (float(q) for q in np.quantile(image, [0.7, 0.95]))
    structure = ndimage.generate_binary_structure(3, 1)
    if in_2d:
        structure[[0, 2]] = False
    labels, _ = ndimage.label(image >= low, structure)
    expected = np.isin(labels, np.setdiff1d(labels[image >= high], 0))
    operator = OpHysteresisThreshold(graph=graph, low=low, high=high, reach=np.inf, in_2d=in_2d)
    operator.image.assign(image, ArrayMeta(image.shape, image.dtype, "zyx"))
    for roi in BlockGrid(image.shape, (7, 9, 11)):
        assert np.array_equal(operator.output.read(roi), expected[roi.slicing])


@pytest.mark.parametrize(
    ("cls", "parameters"),
    [
        (OpDistanceTransform, {"largest": np.inf}),
        (OpHysteresisThreshold, {"low": 0.5, "high": 1, "reach": np.inf}),
    ],
)
def test_without_a_bound_all_is_computed_once_within_the_memory_stated_until_a_pixel_changes(
    cls, parameters, graph, monkeypatch
):
    mask = (speckled((48, 50, 52)) > 0.02).astype(np.uint8)
    operator = cls(graph=graph, **parameters)
    operator.image.assign(mask, ArrayMeta(mask.shape, mask.dtype, "zyx"))
    computed = []
    original = cls.compute_value
    monkeypatch.setattr(
        cls, "compute_value", lambda self, slot: computed.append(slot) or original(self, slot)
    )
    tracemalloc.start()
    try:
        before = operator.output.read()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= operator.output.meta.ram_per_pixel * mask.size
    for roi in BlockGrid(mask.shape, (24, 25, 26)):
        assert np.array_equal(operator.output.read(roi), before[roi.slicing])
    assert len(computed) == 1

    told = []
    operator.output.dirty.subscribe(lambda slot, roi: told.append(roi))
    mask[:24] = 0
    operator.image.mark_dirty(Roi((0, 0, 0), (24, 50, 52)))
    assert told == [operator.output.meta.roi]
    assert not np.array_equal(operator.output.read(), before)
    assert len(computed) == 2


@pytest.mark.parametrize(
    ("cls", "parameters", "words"),
    [
        (OpMedian, {"radius": (1, -1)}, r"\(1, -1\) holds -1, which is less than 0\."),
        (OpMedian, {"radius": -1}, r"radius: -1 is less than 0\."),
        (OpPercentile, {"percentile": 101}, r"percentile: 101 is outside 0 to 100\."),
        (OpMorphology, {"operation": "melt"}, "melt"),
        (OpDistanceTransform, {"largest": 0}, "positive number"),
        (OpHysteresisThreshold, {"low": 2, "high": 1}, r"low=2 must not be above high=1"),
        (OpHysteresisThreshold, {"low": 0, "high": 1, "reach": 2.5}, r"2\.5.*is no number of steps"),
        (OpHysteresisThreshold, {"low": 0, "high": 1, "reach": float("nan")}, r"nan is no number\."),
        (OpMedian, {"radius": (1, 1)}, "has 2 numbers, but 3 axes are filtered"),
        (OpMedian, {"unit": "nm"}, "axis z has no pixel size"),
    ],
)
def test_what_makes_no_sense_is_refused(cls, parameters, words, graph):
    with pytest.raises((ParameterError, SetupError), match=words):
        read(cls, graph, GREY, **parameters)
