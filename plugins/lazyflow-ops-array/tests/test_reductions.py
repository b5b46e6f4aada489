"""Projections, downsampling, statistics and normalizing against numpy on the whole array in float64."""

import numpy as np
import pytest
from lazyflow_core import ArrayMeta, Axes, Axis, Graph, Roi
from lazyflow_core.errors import ParameterError, SetupError
from lazyflow_core.request import InlineScheduler, ThreadedScheduler
from lazyflow_core.testing import OpRecorder

from lazyflow_ops_array import blockwise
from lazyflow_ops_array.downsample import OpDownsample, OpPyramid
from lazyflow_ops_array.normalize import OpNormalize
from lazyflow_ops_array.projection import OpProjection
from lazyflow_ops_array.resize import OpResize
from lazyflow_ops_array.statistics import OpStatistics

DTYPES = ["?", "u1", "i1", ">u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", ">f8", "f8"]


def pixels(dtype, shape=(5, 13, 22), seed=0):
    kind = np.dtype(dtype)
    chance = np.random.default_rng(seed)
    if kind.kind == "b":
        return chance.random(shape) > 0.4
    if kind.kind in "iu":
        bounds = np.iinfo(kind)
        low, high = max(bounds.min, -(2**50)), min(bounds.max, 2**50)
        return chance.integers(low, high, shape, endpoint=True).astype(kind)
    return chance.normal(0, 100, shape).astype(kind)


def close_to(result, expected, dtype):
    digits = {"f2": 2e-3}.get(np.dtype(dtype).str[1:], 2e-6)
    np.testing.assert_allclose(np.asarray(result, np.float64), expected, rtol=digits, atol=digits)


# -------------------------------------------------------------------------------------------- projections


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", "zyx")
def test_a_projection_is_what_numpy_computes(dtype, axis, monkeypatch):
    monkeypatch.setattr("lazyflow_ops_array.projection._SLAB", 700)  # several slabs
    image = pixels(dtype)
    position = "zyx".index(axis)
    whole = image.astype(np.float64)
    op = OpProjection(graph=Graph(), image=image, axis=axis)
    for method in ("max", "min", "mean", "std", "sum"):
        op.method.value = method
        expected = getattr(whole, method)(axis=position, keepdims=True)
        if method in ("max", "min"):
            assert op.output.meta.dtype == image.dtype
        close_to(op.output.read(), expected, dtype)
        roi = op.output.meta.roi.with_axis((position + 1) % 3, 2, 4)
        close_to(op.output.read(roi), expected[roi.slicing], dtype)
    op.method.value = "percentile"
    for percentile in (0, 12.3, 50, 100):
        op.percentile.value = percentile
        close_to(op.output.read(), np.percentile(whole, percentile, axis=position, keepdims=True), dtype)


@pytest.mark.filterwarnings("ignore:invalid value")  # numpy's own
def test_nan_and_infinite_pixels_are_projected_as_numpy_does():
    image = np.array([[1.0, np.nan, 2.0], [np.inf, 1.0, 2.0], [np.inf, -np.inf, 0.0], [1.0, 2.0, 4.0]])
    op = OpProjection(graph=Graph(), image=image, axis="x")
    for method, oracle in (("max", np.max), ("mean", np.mean), ("std", np.std), ("percentile", np.median)):
        op.method.value = method
        np.testing.assert_array_almost_equal(op.output.read(), oracle(image, axis=1, keepdims=True))


def test_a_projected_axis_is_one_thick_pixel_and_a_missing_one_is_refused():
    axes = Axes([Axis("z", unit="micrometer", resolution=2.0, translation=10.0), "y", "x"])
    op = OpProjection(graph=Graph())
    op.image.assign(np.zeros((5, 3, 4)), ArrayMeta((5, 3, 4), "f8", axes))
    assert op.output.meta.axes[0] == Axis("z", unit="micrometer", resolution=10.0, translation=14.0)
    with pytest.raises(SetupError, match="no such axis"):
        op.axis.value = "c"
    with pytest.raises(SetupError, match="no pixel"):
        op.image.assign(np.zeros((0, 3, 4)), axes="zyx")


# ------------------------------------------------------------------------------------------- downsampling


def downsampled(image, factors, method):
    """Box by box, in Python."""
    out = np.empty([-(-n // f) for n, f in zip(image.shape, factors, strict=True)], image.dtype)
    for index in np.ndindex(*out.shape):
        box = image[tuple(slice(i * f, (i + 1) * f) for i, f in zip(index, factors, strict=True))]
        if method == "mean" and image.dtype.kind == "b":
            out[index] = box.mean() > 0.5
        elif method == "mean":
            mean = box.astype(np.float64).mean()
            out[index] = np.rint(mean) if image.dtype.kind in "iu" else mean
        elif method == "mode":
            values, counts = np.unique(box, return_counts=True)
            out[index] = values[counts.argmax()]
        else:
            out[index] = {"max": box.max, "min": box.min, "stride": lambda box=box: box.flat[0]}[method]()
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", ["mean", "mode", "max", "min", "stride"])
def test_a_box_becomes_one_pixel_also_at_the_end(dtype, method, monkeypatch):
    monkeypatch.setattr("lazyflow_ops_array.downsample._READ", 200)
    monkeypatch.setattr("lazyflow_ops_array.downsample._TILE", 50)
    image = pixels(dtype)
    if method == "mode":
        image = (image % 3).astype(dtype) if image.dtype.kind != "b" else image
    for factors in ((2, 2, 2), (1, 3, 4), (5, 1, 7), (2, 4, 30)):
        op = OpDownsample(graph=Graph(), image=image, factor=factors, method=method)
        expected = downsampled(image, factors, method)
        close_to(op.output.read(), expected.astype(np.float64), dtype)
        roi = Roi(tuple(n // 2 for n in expected.shape), expected.shape)
        assert np.array_equal(op.output.read(roi), op.output.read()[roi.slicing])


def test_a_mean_is_rounded_to_the_even_neighbour_whatever_the_box():
    for side in (2, 4, 6):
        low = np.arange(0, 40)
        image = np.stack([low, low + 1] * (side // 2), axis=1).astype(np.uint8)
        op = OpDownsample(graph=Graph(), image=image, factor=(1, side))
        assert op.output.read()[:, 0].tolist() == np.rint(low + 0.5).tolist()


def test_labels_keep_their_names_and_channels_are_not_mixed():
    labels = np.array([[7, 7, 2], [7, 9, 2]], np.uint32)
    op = OpDownsample(graph=Graph())
    op.image.assign(labels, ArrayMeta((2, 3), "u4", "yx", semantics="labels"))
    assert op.output.read().tolist() == [[7, 2]]
    op.image.assign(np.zeros((8, 8, 3), np.uint8), axes="yxc")
    assert op.output.meta.shape == (4, 4, 3)
    with pytest.raises(SetupError, match="channels"):
        op.factor.value = (2, 2, 2)
    with pytest.raises(ParameterError, match="number >= 1"):
        op.factor.value = (2, 0, 1)


def test_the_levels_of_a_pyramid_are_lazy_follow_its_count_and_are_dirty_where_the_image_is():
    image = pixels("u2", (40, 60))
    op = OpPyramid(graph=Graph(), image=image, count=3)
    assert [level.meta.shape for level in op.levels] == [(40, 60), (20, 30), (10, 15)]
    assert np.shares_memory(op.levels[0].read(), image)
    assert np.array_equal(op.levels[2].read(), downsampled(image, (4, 4), "mean"))
    heard = {}
    for level in op.levels:
        level.dirty.subscribe(lambda slot, roi: heard.setdefault(slot.index, roi))
    op.image.mark_dirty(Roi((3, 9), (5, 10)))
    assert heard == {0: Roi((3, 9), (5, 10)), 1: Roi((1, 4), (3, 5)), 2: Roi((0, 2), (2, 3))}
    op.count.value = 0
    assert len(op.levels) == 1


# --------------------------------------------------------------------------------------------- statistics


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blockwise, "_BLOCK", 200)
    monkeypatch.setattr(blockwise, "_FEW", 40)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_are_those_of_the_whole_array(dtype):
    image = pixels(dtype)
    if image.dtype.kind == "f":
        image.reshape(-1)[::5] = np.nan
    whole = image.astype(np.float64)
    percentiles = (0, 0.1, 1, 33.3, 50, 99, 100)
    op = OpStatistics(graph=Graph(), image=image, percentiles=percentiles, bins=17)
    assert op.count.value == np.isfinite(whole).sum()
    assert op.minimum.value == np.nanmin(whole)
    assert op.maximum.value == np.nanmax(whole)
    np.testing.assert_allclose(op.mean.value, np.nanmean(whole), rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(op.std.value, np.nanstd(whole), rtol=1e-12)
    np.testing.assert_allclose(op.percentile_values.value, np.nanpercentile(whole, percentiles), rtol=1e-12)
    counts, edges = np.histogram(whole[np.isfinite(whole)], 17)
    assert op.histogram.value.counts == tuple(counts)
    np.testing.assert_allclose(op.histogram.value.edges, edges)


@pytest.mark.usefixtures("small_blocks")
def test_the_last_digit_does_not_depend_on_how_many_work():
    image = pixels("f4", (37, 41))
    found = set()
    for scheduler in (InlineScheduler(), ThreadedScheduler(1), ThreadedScheduler(4)):
        with scheduler, Graph(scheduler) as graph:
            op = OpStatistics(graph=graph, image=image)
            found.add((op.mean.value, op.std.value, op.percentile_values.value))
    assert len(found) == 1


@pytest.mark.parametrize("image", [np.zeros((0, 3)), np.full((2, 2), np.nan)])
def test_where_there_is_no_number_there_is_no_statistic(image):
    op = OpStatistics(graph=Graph(), image=image)
    assert op.count.value == 0
    assert all(map(np.isnan, (op.minimum.value, op.mean.value, op.std.value, *op.percentile_values.value)))
    assert sum(op.histogram.value.counts) == 0


@pytest.mark.usefixtures("small_blocks")
def test_infinite_pixels_count():
    image = pixels("f8", (30, 30))
    image[3, 4] = np.inf
    op = OpStatistics(graph=Graph(), image=image, percentiles=(50, 100))
    assert (op.maximum.value, op.mean.value) == (np.inf, np.inf)
    assert op.percentile_values.value == (float(np.median(image)), np.inf)
    assert op.histogram.value.edges[-1] == np.max(image[np.isfinite(image)])
    image[29, 4] = -np.inf
    op.image.mark_dirty()
    assert np.isnan(op.mean.value)
    assert op.minimum.value == -np.inf


@pytest.mark.parametrize(
    "image",
    [
        np.full((3, 4), 2**63, np.uint64),
        np.array([[-(2**63), -(2**63) + 1]]),
        np.array([[-1.7e308, 1.7e308, 0.0]]),
        np.array([[5e-324, 0.0]]),
    ],
)
def test_a_histogram_has_its_bins_wherever_the_numbers_lie(image):
    histogram = OpStatistics(graph=Graph(), image=image).histogram.value
    assert sum(histogram.counts) == image.size
    assert (np.diff(histogram.edges) > 0).all()


def test_infinite_pixels_pass_without_a_warning():
    image = np.array([[np.inf, -np.inf, np.nan, 0, 1, 2]])
    with np.errstate(all="raise"):
        for op in (
            OpDownsample(graph=Graph(), image=image, factor=2),
            OpResize(graph=Graph(), image=image, scale=0.5),
            OpProjection(graph=Graph(), image=image, axis="x", method="std"),
            OpNormalize(graph=Graph(), image=image),
        ):
            op.output.read()


def test_any_change_of_the_image_makes_every_value_dirty():
    op = OpStatistics(graph=Graph(), image=pixels("u1"))
    before = op.summary.value
    heard = []
    for output in op.outputs:
        output.value_changed.subscribe(lambda slot: heard.append(slot.name))
    op.image.mark_dirty(Roi((0, 0, 0), (1, 1, 1)))
    assert heard == [output.name for output in op.outputs]
    assert op.summary.value is not before


# -------------------------------------------------------------------------------------------- normalizing


@pytest.mark.parametrize("dtype", ["u1", "i4", "f4", ">f8"])
@pytest.mark.parametrize("per", ["", "c", "cz"])
def test_percentiles_become_zero_and_one(dtype, per):
    image = pixels(dtype, (3, 14, 15, 2))
    op = OpNormalize(graph=Graph(), image=image, percentiles=(5, 90), per=per, clip=False)
    whole = image.astype(np.float64)
    axes = tuple(i for i, key in enumerate("zyxc") if key not in per)
    low, high = np.percentile(whole, (5, 90), axis=axes, keepdims=True)
    np.testing.assert_allclose(op.output.read(), (whole - low) / (high - low), rtol=1e-5, atol=1e-6)
    op.clip.value = True
    np.testing.assert_allclose(
        op.output.read(), np.clip((whole - low) / (high - low), 0, 1), rtol=1e-5, atol=1e-6
    )


def test_an_image_of_one_value_becomes_zero_and_nan_stays():
    op = OpNormalize(graph=Graph(), image=np.array([[5.0, 5.0, np.nan]]))
    np.testing.assert_array_equal(op.output.read(), [[0, 0, np.nan]])
    with pytest.raises(SetupError, match="no such axis"):
        op.per.value = "t"
    with pytest.raises(ParameterError, match="smaller"):
        op.percentiles.value = (50, 50)


def test_clipping_or_not_does_not_read_the_whole_image_again():
    graph = Graph()
    source = OpRecorder(graph=graph, image=pixels("f4", (20, 30)))
    op = OpNormalize(graph=graph, image=source.output)
    op.output.read(Roi((0, 0), (1, 1)))
    source.asked.clear()
    op.clip.value = False
    op.output.read(Roi((0, 0), (1, 1)))
    assert source.asked == [Roi((0, 0), (1, 1))]
