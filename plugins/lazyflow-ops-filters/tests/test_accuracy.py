"""How far float32 may be from float64, at all scales that people use: the table in docs/filters.md."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from filter_cases import FILTERS, relative_error, speckled
from tolerances import TOLERANCES

from lazyflow_ops_filters import kernels as k

SHAPE = (60, 64, 66)
NOISE = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
# A region is enough, and keeps the reference affordable; its halo is the whole image.
REGION = tuple(slice(n // 2 - 10, n // 2 + 10) for n in SHAPE)
IMAGES = {"structure": speckled(SHAPE), "noise": NOISE - np.float32(0.5), "noise on a constant": NOISE}

scales = pytest.mark.parametrize("sigma", [0.7, 1.0, 1.6, 3.5, 5.0, 10.0])
images = pytest.mark.parametrize("kind", IMAGES)


@scales
@images
@pytest.mark.parametrize("name", FILTERS)
def test_the_error_stays_within_the_contract(name, sigma, kind, oracle):
    filter, tolerance = FILTERS[name]((sigma,) * 3), TOLERANCES[name]
    # At large scales noise is smoothed to nearly nothing, and around a mean far from zero its derivatives are
    # thousands of times smaller than the image, whose rounding between the passes then shows.
    relaxed = kind == "noise on a constant" or (kind == "noise" and name == "smoothing")
    expected = k.run(filter, IMAGES[kind], region=REGION, backend=oracle)
    for backend, problem, _ in k.describe_backends():
        if problem or (backend == "vigra" and relaxed):
            continue
        allowed = (
            tolerance.vigra if backend == "vigra" else tolerance.ours * (tolerance.noise if relaxed else 1)
        )
        error = relative_error(k.run(filter, IMAGES[kind], region=REGION, backend=backend), expected)
        assert error <= allowed, backend


@scales
@images
@pytest.mark.parametrize("name", [name for name, t in TOLERANCES.items() if t.single])
def test_single_precision_stays_within_its_contract(name, sigma, kind, oracle):
    filter = replace(FILTERS[name]((sigma,) * 3), precision="single")
    expected = k.run(filter, IMAGES[kind], region=REGION, backend=oracle)
    for backend, problem, _ in k.describe_backends():
        if not problem and backend != "vigra":
            result = k.run(filter, IMAGES[kind], region=REGION, backend=backend)
            assert relative_error(result, expected) <= TOLERANCES[name].single, backend


def test_faint_images_are_no_less_exact(oracle):
    for name in ("hessian eigenvalues", "structure tensor eigenvalues"):
        for precision in ("double", "single"):
            filter = replace(FILTERS[name]((1.6,) * 3), precision=precision)
            image = IMAGES["structure"] * np.float32(1e-9)
            expected = k.run(filter, image, region=REGION, backend=oracle)
            for backend, problem, _ in k.describe_backends():
                if not problem and backend != "vigra":
                    error = relative_error(k.run(filter, image, region=REGION, backend=backend), expected)
                    assert error <= (TOLERANCES[name].single if precision == "single" else 3e-6), backend
