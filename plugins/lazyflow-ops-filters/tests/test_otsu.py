from __future__ import annotations

import numpy as np
import pytest
from lazyflow_core import ArrayMeta, Graph, Roi
from lazyflow_core.errors import SetupError

from lazyflow_ops_filters.kernels.histogram import otsu_level
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
    assert otsu_level(np.array([0, 3, 0]), np.arange(3)) == 1.0
    assert np.isnan(otsu_level(np.zeros(3), np.arange(3)))


def test_complex_images_are_refused(graph):
    with pytest.raises(SetupError, match="complex128"):
        OpOtsuThreshold(graph=graph, image=np.zeros((3, 3), complex))
