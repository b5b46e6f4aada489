from __future__ import annotations

import numpy as np
import pytest
from lazyflow_core import ArrayMeta, Graph, Roi
from lazyflow_core.errors import ExecuteError, SetupError

from lazyflow_ops_filters.kernels.histogram import otsu_bin
from lazyflow_ops_filters.mask import OpDistanceTransform, OpHysteresisThreshold
from lazyflow_ops_filters.otsu import OpOtsuThreshold


@pytest.fixture
def graph():
    with Graph() as graph:
        yield graph


def two_classes(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    image = np.where(rng.random(shape) < 0.3, rng.normal(180, 20, shape), rng.normal(60, 15, shape))
    return np.clip(image, 0, 255).astype(dtype)


def variance_within(image, level):
    """Return what Otsu minimizes, by its definition."""
    parts = [image[image <= level], image[image > level]]
    return sum(part.size * part.var() for part in parts if part.size)


def test_no_other_level_leaves_less_variance_within_the_classes(graph):
    image = two_classes((40, 50), np.uint8)
    level = OpOtsuThreshold(graph=graph, image=image).level.value
    values = image.astype(float)
    assert variance_within(values, level) == pytest.approx(
        min(variance_within(values, i) for i in range(256))
    )


@pytest.mark.parametrize("dtype", ["u1", ">u2", "i2", "i4", "f4", ">f8", "f2"])
def test_the_level_lies_between_the_classes_whatever_the_dtype(dtype, graph):
    image = two_classes((5, 70, 80), dtype)
    parted = OpOtsuThreshold(graph=graph, image=image)
    assert 100 < parted.level.value < 140
    assert np.array_equal(parted.output.read(), image > parted.level.value)


def test_masks_and_constant_and_invalid_images_have_a_level(graph):
    mask = np.eye(8, dtype=bool)
    assert np.array_equal(OpOtsuThreshold(graph=graph, image=mask).output.read(), mask)
    constant = OpOtsuThreshold(graph=graph, image=np.full((9, 9), 7.5))
    assert constant.level.value == 7.5
    assert not constant.output.read().any()
    image = two_classes((30, 30), np.float32)
    expected = OpOtsuThreshold(graph=graph, image=image[:-1]).level.value
    image[-1] = [np.nan, np.inf, -np.inf] * 10
    assert OpOtsuThreshold(graph=graph, image=image).level.value == expected


def test_a_changed_pixel_changes_the_level_and_everything_is_dirty(graph):
    image = two_classes((30, 30), np.uint8)
    parted = OpOtsuThreshold(graph=graph, image=image)
    before = parted.level.value
    told = []
    parted.output.dirty.subscribe(lambda slot, roi: told.append(roi))
    image[:20] = 255
    parted.image.mark_dirty(Roi((0, 0), (20, 30)))
    assert told == [parted.output.meta.roi]
    assert parted.level.value != before
    assert np.array_equal(parted.output.read(), image > parted.level.value)


def test_the_image_is_read_block_by_block_and_the_level_computed_once(graph, monkeypatch):
    image = two_classes((100, 200, 3), np.uint8)
    parted = OpOtsuThreshold(graph=graph)
    parted.image.assign(image, ArrayMeta(image.shape, image.dtype, "yxc", preferred_block=(50, 50, 3)))
    computed = []
    original = OpOtsuThreshold.compute_value
    monkeypatch.setattr(
        OpOtsuThreshold, "compute_value", lambda self, slot: computed.append(slot) or original(self, slot)
    )
    for start in range(0, 100, 10):
        parted.output[start : start + 10].wait()
    assert len(computed) == 1


def test_a_histogram_with_fewer_than_two_values():
    assert otsu_bin(np.array([0, 3, 0])) == 1
    assert otsu_bin(np.zeros(3)) is None


def test_complex_images_are_refused(graph):
    with pytest.raises(SetupError, match="complex128"):
        OpOtsuThreshold(graph=graph, image=np.zeros((3, 3), complex))


@pytest.mark.parametrize(
    "image",
    [
        np.array([[0, 0, 2**63 - 1, 2**63 - 1]], np.int64),
        np.array([[-(2**63), -(2**63), 2**63 - 1]], np.int64),
        np.array([[0, 0, 2**64 - 1]], np.uint64),
        np.array([[2**60, 2**60 + 1, 2**60 + 1000]], np.int64),
        np.array([[-1e308, -1e308, 1e308]]),
        np.array([[0, 0, 1e-310]]),
        np.array([[1.0, np.nextafter(1.0, 2.0)]]),
        np.array([[-3e38, 3e38]], np.float32),
        np.array([[-65504, 65504]], np.float16),
    ],
    ids=lambda image: f"{image.dtype}-{image[0, -1]}",
)
def test_the_ends_of_any_dtype_are_parted(image, graph):
    parted = OpOtsuThreshold(graph=graph)
    parted.image.assign(image, axes="yx")
    assert np.array_equal(parted.output.read(), image == image.max())


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_an_image_without_a_finite_pixel_has_no_level_and_an_empty_mask(dtype, graph):
    for value in (np.nan, np.inf, -np.inf):
        parted = OpOtsuThreshold(graph=graph, image=np.full((3, 4), value, dtype))
        assert np.isnan(parted.level.value)
        assert not parted.output.read().any()


def test_long_doubles_that_no_float64_parts_are_refused(graph):
    step = np.finfo(np.longdouble).eps
    if step == np.finfo(np.float64).eps:
        pytest.skip("here long double is no wider than float64")
    close = np.array([[0, 2, 4]]) * step + np.longdouble(1)
    beyond = np.array([[-1, 1]]) * np.longdouble("1e4000")
    for image in (close[:, 1:], beyond):
        parted = OpOtsuThreshold(graph=graph)
        parted.image.assign(image, axes="yx")
        with pytest.raises(ExecuteError, match="no float64 parts"):
            parted.output.read()


def test_integers_that_no_float64_parts_are_refused_by_name(graph):
    parted = OpOtsuThreshold(graph=graph, image=np.array([[2**62 + 1, 2**62 + 2]], np.int64))
    with pytest.raises(ExecuteError, match="from 4611686018427387905 to 4611686018427387906 lie closer"):
        parted.output.read()


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "u8", "f2", "f4", "f8"])
@pytest.mark.parametrize("seed", range(3))
def test_the_mask_is_what_is_above_the_level_and_as_good_as_the_best(dtype, seed, graph):
    rng = np.random.default_rng(seed)
    image = np.concatenate([rng.normal(60, 9, 300), rng.normal(100, 12, 200)])[None].astype(dtype)
    parted = OpOtsuThreshold(graph=graph)
    parted.image.assign(image, axes="yx")
    mask = parted.output.read().astype(bool)
    assert np.array_equal(mask, image.astype(float) > parted.level.value)
    best = min(variance_within(image.astype(float), v) for v in np.unique(image.astype(float))[:-1])
    assert variance_within(image.astype(float), parted.level.value) <= best * 1.0001


def test_hysteresis_compares_integers_that_float64_cannot_tell_apart(graph):
    image = np.array([[2**53 + 3, 2**53 + 1, 0, 2**53 + 4]], np.int64)
    for dtype in ("i8", "u8"):
        mask = OpHysteresisThreshold(
            graph=graph, image=image.astype(dtype), low=2.0**53 + 4, high=2.0**53 + 4, reach=0
        )
        assert mask.output.read().tolist() == [[0, 0, 0, 1]]
    small = np.array([[-np.inf, -65504, 65504, np.inf, np.nan]], np.float16)
    mask = OpHysteresisThreshold(graph=graph, image=small, low=-1e10, high=1e10, reach=9)
    assert mask.output.read().tolist() == [[0, 1, 1, 1, 0]]


@pytest.mark.parametrize("largest", [3.0, np.inf])
def test_a_pixel_that_is_nan_has_no_distance_and_is_no_background(largest, graph):
    image = np.array([[0, np.nan, 1, 1, 1, np.nan]])
    distance = OpDistanceTransform(graph=graph, image=image, largest=largest)
    assert np.array_equal(
        distance.output.read(), [[0, np.nan, 2, 3, min(4, largest), np.nan]], equal_nan=True
    )
