"""How far float32 may be from float64, at all scales that people use: the table in docs/filters.md."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from filter_cases import FILTERS, error, image_of
from tolerances import GOALS_HOLD_UP_TO, KINDS, TOLERANCES

from lazyflow_ops_filters import kernels as k
from lazyflow_ops_filters.kernels.scipy_backend import ScipyBackend

ORACLE = ScipyBackend(np.float64)
VOLUME, PLANE = (60, 64, 66), (96, 101)
# Of a volume a region is enough, and keeps the reference affordable; its halo is the whole image.
REGION = {VOLUME: tuple(slice(n // 2 - 10, n // 2 + 10) for n in VOLUME), PLANE: None}
SCALES = (0.7, 1.0, 1.6, 3.5, 5.0, 10.0)

scales = pytest.mark.parametrize("sigma", SCALES)
kinds = pytest.mark.parametrize("kind", KINDS)


def run(filter, kind, shape, border, backend, seed=0):
    return k.run(filter, image_of(kind, shape, seed), region=REGION[shape], border=border, backend=backend)


@cache
def reference(filter, kind, shape, border, seed=0):
    return run(filter, kind, shape, border, ORACLE, seed)


@scales
@kinds
@pytest.mark.parametrize("name", FILTERS)
def test_the_error_stays_within_the_table(name, sigma, kind, backend):
    allowed = TOLERANCES[name].of(backend.name, kind, sigma)
    for shape, border in [(VOLUME, "mirror"), *((PLANE, border) for border in k.BORDERS)]:
        filter = FILTERS[name]((sigma,) * len(shape))
        if backend.refuses(filter, border):
            continue
        result = run(filter, kind, shape, border, backend)
        assert error(name, result, reference(filter, kind, shape, border)) <= allowed, (shape, border)


@scales
@kinds
@pytest.mark.parametrize("name", [name for name, t in TOLERANCES.items() if t.single])
def test_single_precision_stays_within_its_contract(name, sigma, kind, backend):
    if backend.name == "vigra":
        pytest.skip("vigra has one precision")
    filter = replace(FILTERS[name]((sigma,) * 3), precision="single")
    result = run(filter, kind, VOLUME, "mirror", backend)
    expected = reference(FILTERS[name]((sigma,) * 3), kind, VOLUME, "mirror")
    assert error(name, result, expected) <= TOLERANCES[name].single


@pytest.mark.parametrize("seed", [1, 2])
@kinds
@pytest.mark.parametrize("sigma", [GOALS_HOLD_UP_TO, 10.0])
@pytest.mark.parametrize("name", FILTERS)
def test_other_noise_is_no_less_exact(name, sigma, kind, seed, backend):
    filter = FILTERS[name]((sigma,) * 3)
    result = run(filter, kind, VOLUME, "mirror", backend, seed)
    expected = reference(filter, kind, VOLUME, "mirror", seed)
    assert error(name, result, expected) <= TOLERANCES[name].of(backend.name, kind, sigma)


@pytest.mark.parametrize("precision", ["double", "single"])
@pytest.mark.parametrize("name", ["hessian eigenvalues", "structure tensor eigenvalues"])
def test_faint_images_are_no_less_exact(name, precision, backend):
    if backend.name == "vigra":
        pytest.skip("its eigenvalues are off by more")
    filter = replace(FILTERS[name]((1.6,) * 3), precision=precision)
    image = image_of("structure", VOLUME) * np.float32(1e-9)
    expected = k.run(filter, image, region=REGION[VOLUME], backend=ORACLE)
    result = k.run(filter, image, region=REGION[VOLUME], backend=backend)
    tolerance = TOLERANCES[name]
    assert error(name, result, expected) <= (tolerance.single if precision == "single" else tolerance.goal)


@pytest.mark.parametrize("value", [0.0, 7.3, 1 / 3, -1e5])
def test_where_nothing_changes_there_is_no_coherence(value, backend):
    for sigma in SCALES:
        image = np.full((70, 71), value, np.float32)
        coherence, orientation = k.run(FILTERS["orientation"]((sigma, sigma)), image, backend=backend)
        assert not coherence.any()
        assert not orientation.any()


@pytest.mark.parametrize("window", [0.0, 2.0])
@pytest.mark.parametrize("border", ["mirror", "reflect", "nearest"])
@pytest.mark.parametrize("value", [7.3, 1 / 3, -1e5])
def test_a_constant_has_no_gradient(value, border, window, backend):
    if backend.name == "vigra" and border != "mirror":
        pytest.skip("vigra has only mirrored borders")
    image = np.full((70, 71), value, np.float32)
    digit = np.finfo(np.float32).eps * abs(value)
    for sigma in (0.3, 0.5, *SCALES):
        left = {}
        for name in ("gradient", "laplacian"):
            filter = replace(FILTERS[name]((sigma, sigma)), window=window)
            (result,) = k.run(filter, image, border=border, backend=backend)
            left[name] = np.abs(result).max() / digit
        if backend.name == "vigra":
            assert left["gradient"] <= 1, sigma
            continue
        # Native kernels of two and three pixels on either side do not add pixels in pairs.
        short = backend.name == "native" and k.radius(sigma, 1, window) in (2, 3)
        assert left["gradient"] <= (0.6 if short else 0), sigma
        assert left["laplacian"] <= 6, sigma
