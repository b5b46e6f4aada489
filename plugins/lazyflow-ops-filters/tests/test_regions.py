"""Any region, computed from no more than its halo, has the bits of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from filter_cases import FILTERS, speckled
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyflow_ops_filters import kernels as k


def run_part(filter, image, border, region, backend):
    """Run a filter as operators do: over an image that is cut off where its halo ends."""
    outs = list(np.empty((filter.results, *(s.stop - s.start for s in region)), np.float32))
    backend.apply(filter, k.Job(image, border, region, outs))
    return outs


@st.composite
def jobs(draw):
    """Draw a filter, an image it fits, a border and a region."""
    name = draw(st.sampled_from(sorted(FILTERS)))
    ndim = draw(st.sampled_from([2, 3]))
    filter = FILTERS[name](tuple(draw(st.floats(0.3, 1.8)) for _ in range(ndim)))
    shape = tuple(draw(st.integers(1, 18 if ndim == 3 else 40)) for _ in range(ndim))
    border = draw(st.sampled_from(k.BORDERS))
    region = []
    for n in shape:
        start = draw(st.integers(0, n - 1))
        region.append(slice(start, draw(st.integers(start + 1, n))))
    return filter, shape, border, tuple(region)


@given(jobs())
@settings(max_examples=150, deadline=None)
def test_a_region_has_the_bits_of_the_whole(backend, job):
    filter, shape, border, region = job
    if filter.too_thin(shape, border) or backend.refuses(filter, border):
        return
    image = speckled(shape)
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
    for name in ("hessian", "hessian eigenvalues", "structure tensor", "structure tensor eigenvalues"):
        filter = FILTERS[name]((0.8, 0.8, 0.8))
        expected = k.run(filter, image, backend=backend)
        out = np.empty_like(expected[1])
        k.run(filter, image, outs=[None, out, *[None] * (len(expected) - 2)], backend=backend)
        assert np.array_equal(out, expected[1])
