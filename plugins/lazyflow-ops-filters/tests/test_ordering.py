"""Ranks of neighbourhoods by every backend: scipy's values, the same bits in any block, NaN stays near."""

from __future__ import annotations

import numpy as np
import pytest
from filter_cases import speckled
from lazyflow_core import BlockGrid, Roi
from scipy import ndimage

from lazyflow_ops_filters import kernels as k
from lazyflow_ops_filters.kernels.border import BORDERS, SCIPY_MODES
from lazyflow_ops_filters.kernels.footprint import SHAPES, Footprint
from lazyflow_ops_filters.kernels.neighborhood import Morphology, Rank

FLOATS = ["f2", "f4", "f8", "g"]
DTYPES = ["?", "u1", "i1", "u2", "i2", ">u2", "u4", "i4", "u8", "i8", *FLOATS]
RADII = [(1, 1, 1), (0, 2, 3), (3, 1, 0), (2, 2, 2)]


def image_of(dtype, shape=(5, 7, 12)):
    dtype = np.dtype(dtype)
    numbers = np.random.default_rng(1).integers(-1000, 1000, shape)
    if dtype.kind == "b":
        return numbers > 300
    if dtype.kind == "f":
        numbers[::2] //= 300  # many are equal, and some zeros are negative
        return (numbers * np.where(numbers == 0, -0.0, 0.25)).astype(dtype)
    info = np.iinfo(dtype)
    image = numbers.astype(dtype) if dtype.kind == "i" else (numbers + 1000).astype(dtype)
    image[0, 0, :2] = info.min, info.max
    return image


def run(filter, image, border, backend, region=None):
    region = region or tuple(slice(0, n) for n in image.shape)
    out = np.empty([s.stop - s.start for s in region], image.dtype.newbyteorder("="))
    backend.apply(filter, k.Job(image, border, region, [out]))
    return out


def by_scipy(image, footprint, rank, border):
    wide = np.float32 if image.dtype == np.float16 else image.dtype.newbyteorder("=")
    if wide == np.longdouble:
        wide = np.float64  # these numbers fit
    result = ndimage.rank_filter(image.astype(wide), rank, footprint=footprint.mask, mode=SCIPY_MODES[border])
    return result.astype(image.dtype.newbyteorder("="))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_rank_is_scipys(dtype, backend):
    image = image_of(dtype)
    if image.dtype.kind in "iu" and image.dtype.itemsize == 8:
        image[0, 0, :2] = 0  # scipy compares float64
    for i, radius in enumerate(RADII):
        for j, shape in enumerate(SHAPES):
            footprint, border = Footprint(radius, shape), BORDERS[(i + 2 * j) % len(BORDERS)]
            for percentile in (0, 37, 50, 100):
                rank = min(int(footprint.size * percentile / 100), footprint.size - 1)
                result = run(Rank(footprint, percentile), image, border, backend)
                assert np.array_equal(result, by_scipy(image, footprint, rank, border)), (
                    radius,
                    shape,
                    border,
                )


@pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
@pytest.mark.parametrize("shape", SHAPES)
def test_blocks_have_the_bits_of_the_whole(shape, dtype, backend):
    image = image_of(dtype, (6, 9, 30))
    for border in ("mirror", "zero"):
        for filter in (
            Rank(Footprint((2, 1, 3), shape), 60),
            Rank(Footprint((1, 2, 2), shape), 100),
            Morphology(Footprint((1, 2, 1), shape), "closing"),
            Morphology(Footprint((1, 1, 2), shape), "white_top_hat"),
        ):
            whole = run(filter, image, border, backend)
            for roi in BlockGrid(image.shape, (4, 6, 17)):
                wide = roi.with_halo(filter.halo(image.shape), within=Roi.from_shape(image.shape))
                region = roi.relative_to(wide).slicing
                part = run(filter, image[wide.slicing], border, backend, region)
                assert part.tobytes() == whole[roi.slicing].tobytes(), (filter, border, roi)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_what_has_a_nan_around_it_is_nan_and_the_rest_as_without(shape, dtype, backend):
    image, footprint = image_of(dtype), Footprint((1, 2, 3), shape)
    holed = image.copy()
    holed[2, 3, 6] = holed[0, 0, 11] = np.nan
    near = ndimage.binary_dilation(np.isnan(holed), footprint.mask)
    for percentile in (0, 50, 100):
        result = run(Rank(footprint, percentile), holed, "mirror", backend)
        assert np.array_equal(np.isnan(result), near)
        assert np.array_equal(
            result[~near], run(Rank(footprint, percentile), image, "mirror", backend)[~near]
        )


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_infinities_are_values_like_others(dtype, backend):
    image, footprint = image_of(dtype), Footprint((1, 1, 1))
    image[::3, ::2, ::5], image[1::3, ::2, ::5] = np.inf, -np.inf
    for percentile, rank in ((0, 0), (50, 13), (100, 26)):
        result = run(Rank(footprint, percentile), image, "nearest", backend)
        assert np.array_equal(result, by_scipy(image, footprint, rank, "nearest"))


@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_any_strides_of_image_and_destination_will_do(dtype, backend):
    image, filter = image_of(dtype), Rank(Footprint((1, 2, 1)), 50)
    expected = run(filter, image, "mirror", backend)
    for view in (image.copy("F"), np.flip(image.copy(), (0, 2)), np.repeat(image, 2, axis=2)[..., ::2]):
        same = (
            view
            if np.array_equal(view, image)
            else np.flip(view, (0, 2)).copy()[::-1, :, ::-1][::-1, :, ::-1]
        )
        out = np.empty((*image.shape, 2), dtype)[..., 1]
        backend.apply(filter, k.Job(same, "mirror", tuple(slice(0, n) for n in image.shape), [out]))
        assert np.array_equal(out, expected)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_long_rows_and_few_axes_are_scipys(dtype, ndim, backend):
    image = (speckled((4, 5, 300)[3 - ndim :]) * 200).astype(dtype)
    footprint = Footprint((1, 2, 40)[3 - ndim :], "ball")
    for percentile in (0, 30, 100):
        rank = min(int(footprint.size * percentile / 100), footprint.size - 1)
        result = run(Rank(footprint, percentile), image, "reflect", backend)
        assert np.array_equal(result, by_scipy(image, footprint, rank, "reflect"))


def test_a_neighbourhood_of_more_pixels_than_16_bits_count_is_scipys(backend):
    image = (speckled((70, 1200)) * 300).astype("u2")
    footprint = Footprint((45, 400))
    assert footprint.size > 1 << 16
    region = (slice(20, 23), slice(500, 504))
    result = run(Rank(footprint, 50), image, "reflect", backend, region)
    padded = np.pad(image, [(45, 45), (400, 400)], "symmetric")
    expected = [
        [np.sort(padded[y : y + 91, x : x + 801], axis=None)[footprint.size // 2] for x in range(500, 504)]
        for y in range(20, 23)
    ]
    assert np.array_equal(result, expected)
