"""Any region, computed from no more than its halo, has the bits of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from filter_cases import EXACT, FILTERS, speckled
from hypothesis import given, settings
from hypothesis import strategies as st
from lazyflow_core.errors import ParameterError

from lazyflow_ops_filters import kernels as k
from lazyflow_ops_filters.kernels.filters import (
    GaussianDerivative,
    StructureTensor,
    StructureTensorOrientation,
)
from lazyflow_ops_filters.kernels.neighborhood import Neighborhood


def run_part(filter, image, border, region, backend):
    """Run a filter as operators do: over an image that is cut off where its halo ends."""
    outs = list(np.empty((filter.results, *(s.stop - s.start for s in region)), np.float32))
    backend.run(filter, k.Job(image, border, region, outs))
    return outs


DTYPES = ["?", "u1", "i2", ">u2", "i8", "f2", "f4", ">f8"]
#: Besides those of the table, derivatives of any order.
NAMES = sorted([*FILTERS, *EXACT, *(f"derivative {i}" for i in range(3))])


@st.composite
def jobs(draw):
    """Draw a filter, an image of any dtype that it may or may not fit, a border and a region."""
    ndim = draw(st.sampled_from([2, 3]))
    # Axes of one pixel, axes thinner than a kernel, and ones that hold it.
    sides = st.just(1) | st.integers(2, 4) | st.integers(5, 18 if ndim == 3 else 40)
    shape = tuple(draw(sides) for _ in range(ndim))
    border = draw(st.sampled_from(k.BORDERS))
    name = draw(st.sampled_from(NAMES))
    if name in EXACT:
        skipped = draw(st.sampled_from([None, *range(ndim)])) if ndim == 3 else None
        radii = tuple(None if i == skipped else draw(st.integers(0, 2)) for i in range(ndim))
        filter = EXACT[name](radii)
    else:
        sigma = tuple(draw(st.floats(0.05, 2.5)) for _ in range(ndim))
        if name in FILTERS:
            filter = FILTERS[name](sigma)
        else:
            order = tuple(draw(st.integers(0, 6)) for _ in range(ndim))
            filter = GaussianDerivative(sigma, draw(st.sampled_from([0.0, 2.0, 3.5])), order=order)
    region = []
    for n in shape:
        start = draw(st.integers(0, n - 1))
        region.append(slice(start, draw(st.integers(start + 1, n))))
    return filter, shape, draw(st.sampled_from(DTYPES)), border, tuple(region)


def drawn_image(shape, dtype):
    """Return an image of any dtype, whole numbers in half of its places."""
    image = speckled(shape)
    image[::2] = np.rint(image[::2])
    return (image > 1 if dtype == "?" else image * 10).astype(dtype)


@given(jobs())
@settings(max_examples=250, deadline=None)
def test_a_region_has_the_bits_of_the_whole_and_what_does_not_fit_is_refused(backend, job):
    filter, shape, dtype, border, region = job
    if backend.refuses(filter, border):
        return
    image = drawn_image(shape, dtype)
    thin = filter.too_thin(shape, border)
    if thin:
        with pytest.raises(ParameterError, match=f"axis {thin.axis} has {shape[thin.axis]} pixels, too few"):
            k.run(filter, image, border=border, backend=backend)
        return
    whole = k.run(filter, image, border=border, backend=backend)

    # Only the halo around the region is handed over, and what lies in it is all that matters.
    halo = filter.halo(shape)
    outer = tuple(
        slice(max(0, s.start - h), min(n, s.stop + h)) for s, h, n in zip(region, halo, shape, strict=True)
    )
    inner = tuple(slice(s.start - o.start, s.stop - o.start) for s, o in zip(region, outer, strict=True))
    part = run_part(filter, image[outer], border, inner, backend)
    for a, b in zip(part, whole, strict=True):
        assert np.array_equal(a, b[region])


@given(jobs())
@settings(max_examples=150, deadline=None)
def test_whatever_the_shape_and_dtype_results_are_those_in_float64(backend, oracle, job):
    filter, shape, dtype, border, region = job
    if backend.refuses(filter, border) or filter.too_thin(shape, border):
        return
    image = drawn_image(shape, dtype)
    results = k.run(filter, image, border=border, region=region, backend=backend)
    expected = k.run(filter, image.astype(np.float64), border=border, region=region, backend=oracle)
    if isinstance(filter, StructureTensorOrientation):
        # An angle is defined where gradients prevail over rounding; here coherence may be anything.
        assert all(np.isfinite(r).all() for r in results)
        return
    # Relative to what the kernels could make of the image: results may cancel to nothing.
    largest = float(np.abs(image.astype(float)).max())
    reach = [1.0] * 3
    if isinstance(filter, GaussianDerivative):
        reach = [
            float(np.abs(k.kernel(s, o, filter.window)).sum())
            for s, o in zip(filter.sigma, filter.order, strict=True)
        ]
    scale = largest * float(np.prod(reach)) * (largest if isinstance(filter, StructureTensor) else 4)
    tolerance = 6e-3 if backend.name == "vigra" else 3e-6
    if isinstance(filter, Neighborhood) and dtype == "f2":
        tolerance = 1e-3  # they keep the dtype
    for a, b in zip(results, expected, strict=True):
        assert np.abs(a - b).max() <= tolerance * scale


@pytest.mark.parametrize("name", FILTERS)
def test_nothing_beyond_the_halo_matters_and_nan_stays_within(name, backend):
    filter = FILTERS[name]((1.0, 0.6, 1.3))
    image = speckled((30, 31, 33))
    clean = k.run(filter, image, backend=backend)
    image[15, 16, 17] = np.nan
    halo = filter.halo(image.shape)
    near = tuple(slice(c - h, c + h + 1) for c, h in zip((15, 16, 17), halo, strict=True))
    for result, before in zip(k.run(filter, image, backend=backend), clean, strict=True):
        assert np.isnan(result[15, 16, 17])
        far = np.ones(image.shape, bool)
        far[near] = False
        assert np.array_equal(result[far], before[far])


@pytest.mark.parametrize("name", FILTERS)
def test_a_smaller_halo_would_not_do(name, backend):
    filter = FILTERS[name]((1.0, 0.6, 1.3))
    image = np.zeros((30, 31, 33), np.float32)
    halo = filter.halo(image.shape)
    for axis, h in enumerate(halo):
        image[...] = 0
        spot = [15, 16, 17]
        image[tuple(spot)] = 1000
        results = np.stack(k.run(filter, image, backend=backend))
        touched = np.flatnonzero(np.abs(results).max(axis=tuple({0, 1, 2, 3} - {axis + 1})))
        if name != "derivative":  # along axis 2 it only smooths, but its halo is that of smoothing there
            assert touched.min() == spot[axis] - h
        assert touched.min() >= spot[axis] - h
        assert touched.max() <= spot[axis] + h


def test_a_destination_of_any_strides_is_written_and_nothing_else(backend):
    image = speckled((9, 14, 15))
    filter = FILTERS["hessian eigenvalues"]((0.8, 0.8, 0.8))
    expected = k.run(filter, image, backend=backend)
    base = np.full((15, 9, 28, 5), -7, np.float32)
    outs = [base[:, :, ::2, c].transpose(1, 2, 0) for c in (3, 0, 1)]
    k.run(filter, image, outs=outs, backend=backend)
    for out, result in zip(outs, expected, strict=True):
        assert np.array_equal(out, result)
    assert np.all(base[..., [2, 4]] == -7)
    assert np.all(base[:, :, 1::2] == -7)


def test_a_source_of_any_strides_is_read(backend):
    image = speckled((9, 14, 15))
    filter = FILTERS["gradient"]((0.8, 0.8, 0.8))
    expected = k.run(filter, image, backend=backend)[0]
    strange = np.asfortranarray(image)[::-1, :, ::-1]
    strange.flags.writeable = False
    assert np.array_equal(k.run(filter, strange[::-1, :, ::-1], backend=backend)[0], expected)


def test_results_nobody_asked_for_are_left_out(backend):
    image = speckled((9, 14, 15))
    for name in (
        "hessian",
        "hessian eigenvalues",
        "structure tensor",
        "structure tensor eigenvalues",
        "orientation",
    ):
        filter = FILTERS[name]((0.8, 0.8, 0.8))
        expected = k.run(filter, image, backend=backend)
        out = np.empty_like(expected[1])
        k.run(filter, image, outs=[None, out, *[None] * (len(expected) - 2)], backend=backend)
        assert np.array_equal(out, expected[1])
