"""Numbers that float32 cannot hold: images on a large offset, and what overflows or vanishes on the way."""

from __future__ import annotations

import numpy as np
import pytest
from filter_cases import FILTERS, speckled
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyflow_ops_filters import kernels as k
from lazyflow_ops_filters.kernels.backend import _within
from lazyflow_ops_filters.kernels.filters import HighPass
from lazyflow_ops_filters.kernels.scipy_backend import ScipyBackend

ORACLE = ScipyBackend(np.float64)
SHAPE = (14, 15, 16)
#: Those to which the offset of an image makes no difference.
DIFFERENCES = {
    **{name: make for name, make in FILTERS.items() if name not in ("smoothing", "high pass", "orientation")},
    "background subtraction": lambda s: HighPass(s),
}
OFFSETS = [
    ("int32", 2**20),
    ("int32", 2**24 + 1),
    ("int32", -(2**31)),
    ("uint32", 2**31),
    ("int64", 2**40),
    ("uint64", 2**40),
    ("float64", 1e6),
    ("float64", -1e9),
]


def drawn(shape=SHAPE, seed=0):
    return np.random.default_rng(seed).integers(0, 100, shape)


def filter_of(name, ndim=3):
    return FILTERS[name]((0.9,) * ndim)


@pytest.mark.parametrize(("dtype", "offset"), OFFSETS)
@pytest.mark.parametrize("name", DIFFERENCES)
def test_an_offset_that_float32_cannot_hold_makes_no_difference(name, dtype, offset, exact_backend):
    signal = drawn()
    filter = DIFFERENCES[name]((0.9,) * 3)
    expected = k.run(filter, signal.astype(np.float64), backend=ORACLE)
    image = (signal + offset).astype(dtype) if dtype[0] == "f" else (signal + int(offset)).astype(dtype)
    results = k.run(filter, image, backend=exact_backend)
    largest = max(float(np.abs(e).max()) for e in expected)
    for result, right in zip(results, expected, strict=True):
        assert result.dtype == np.float32
        assert np.abs(result - right).max() <= 1e-4 * largest


@pytest.fixture(params=["native", "scipy"], scope="module")
def exact_backend(request):
    try:
        return k.get_backend(request.param)
    except k.functions.ParameterError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", FILTERS)
def test_the_same_numbers_have_the_same_results_whatever_the_dtype(name, exact_backend):
    image = drawn().astype(np.uint8)
    expected = k.run(filter_of(name), image, backend=exact_backend)
    for dtype in ("int32", "uint64", ">i8", "float32", "float64", "longdouble"):
        results = k.run(filter_of(name), image.astype(dtype), backend=exact_backend)
        assert all(map(np.array_equal, results, expected)), dtype


@st.composite
def mixtures(draw):
    """Draw an image that float32 holds in places, a filter and a region."""
    shape = tuple(draw(st.lists(st.integers(6, 12), min_size=2, max_size=3)))
    image = drawn(shape, draw(st.integers(0, 9))).astype(np.float64)
    for _ in range(draw(st.integers(0, 3))):
        place = tuple(draw(st.integers(0, n - 1)) for n in shape)
        image[place] = draw(st.sampled_from([0.1, 2.0**31 + 1, 1e300, 3e38, np.nan, np.inf, 1e-45]))
    region = []
    for n in shape:
        start = draw(st.integers(0, n - 1))
        region.append(slice(start, draw(st.integers(start + 1, n))))
    dtype = draw(st.sampled_from(["float64", "float64", "float32"]))
    with np.errstate(over="ignore"):
        image = image.astype(dtype)
    return image, draw(st.sampled_from(list(FILTERS))), tuple(region)


@given(mixtures())
@settings(max_examples=150, deadline=None)
def test_blocks_equal_the_whole_where_only_some_pixels_are_beyond_float32(exact_backend, mixture):
    image, name, region = mixture
    if name == "orientation" and image.ndim != 2:
        return
    filter = FILTERS[name]((0.6,) * image.ndim)
    whole = k.run(filter, image, backend=exact_backend)
    halo = filter.halo(image.shape)
    outer = tuple(
        slice(max(0, s.start - h), min(n, s.stop + h))
        for s, h, n in zip(region, halo, image.shape, strict=True)
    )
    inner = tuple(slice(s.start - o.start, s.stop - o.start) for s, o in zip(region, outer, strict=True))
    outs = [np.empty([s.stop - s.start for s in region], np.float32) for _ in whole]
    exact_backend.run(filter, k.Job(image[outer], "mirror", inner, outs))
    for part, right in zip(outs, whole, strict=True):
        assert np.array_equal(part, right[region], equal_nan=True)


@pytest.mark.parametrize("largest", [3.4e38, 1e30, 1e-36])
def test_the_gradient_neither_overflows_nor_vanishes_in_its_squares(largest, exact_backend):
    image = (np.random.default_rng(1).random((30, 31)) * largest).astype(np.float32)
    for name in ("smoothing", "gradient", "laplacian", "hessian", "hessian eigenvalues"):
        filter = filter_of(name, 2)
        results = k.run(filter, image, backend=exact_backend)
        expected = k.run(filter, image.astype(np.float64), backend=ORACLE)
        for result, right in zip(results, expected, strict=True):
            fits = np.abs(right) < 3.4e38
            assert np.abs(result - right)[fits].max() <= 1e-5 * np.abs(right).max()
            assert np.isinf(result[~fits]).all()


def test_a_structure_tensor_beyond_float32_is_infinite_and_not_invalid(exact_backend):
    image = (speckled((30, 31)) * 1e30).astype(np.float32)
    largest, _ = k.run(filter_of("structure tensor eigenvalues", 2), image, backend=exact_backend)
    assert np.isposinf(largest).all()


def test_very_long_kernels_lose_no_digits(exact_backend):
    image = np.random.default_rng(0).random((40, 50)).astype(np.float32)
    filter = FILTERS["smoothing"]((500.0, 500.0))
    (result,) = k.run(filter, image, border="nearest", backend=exact_backend)
    (expected,) = k.run(filter, image.astype(np.float64), border="nearest", backend=ORACLE)
    assert np.abs(result - expected).max() <= 5e-7 * np.abs(expected).max()


@given(st.integers(0, 99), st.lists(st.integers(0, 9), min_size=2, max_size=2))
@settings(max_examples=60, deadline=None)
def test_a_mask_within_a_box_is_the_maximum_over_the_box(seed, halo):
    mask = np.random.default_rng(seed).random((7, 11)) < 0.05
    padded = np.pad(mask, [(h, h) for h in halo])
    windows = np.lib.stride_tricks.sliding_window_view(padded, [2 * h + 1 for h in halo])
    assert np.array_equal(_within(halo, mask), windows.any(axis=(2, 3)))
