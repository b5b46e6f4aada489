"""The window of operators: how far their kernels reach, in sigmas."""

from __future__ import annotations

import numpy as np
import pytest
from filter_cases import comparable, relative_error, speckled
from operator_cases import OPERATORS, WINDOWED, windowed
from scipy import ndimage
from tolerances import TOLERANCES

IMAGE = speckled((40, 42))


def kernel(sigma, order, window):
    """Return a sampled derivative of a Gaussian, made exact on polynomials, from the formula in the docs."""
    reach = int(window * sigma + 0.5)
    x = np.arange(-reach, reach + 1.0)
    factor = [1, x / sigma**2, x**2 / sigma**4 - 1 / sigma**2][order]
    weights = factor * np.exp(-(x**2) / (2 * sigma**2))
    if order == 0:
        return weights / weights.sum()
    weights -= weights.mean()
    return weights / (weights @ x**order) * order


def expected_of(name, window):
    """Return what scipy makes of kernels written down here, in float64."""

    def d(sigma, *orders, image=IMAGE):
        for axis, order in enumerate(orders):
            weights = kernel(sigma, order, window or 3 + 0.5 * order)
            image = ndimage.correlate1d(image.astype(float), weights, axis, mode="mirror")
        return image

    def eigenvalues(yy, yx, xx):
        matrix = np.stack([yy, yx, yx, xx], -1).reshape(*yy.shape, 2, 2)
        return list(np.moveaxis(np.linalg.eigvalsh(matrix)[..., ::-1], -1, 0))

    hessian = [d(1.6, 2, 0), d(1.6, 1, 1), d(1.6, 0, 2)]
    y, x = d(1.6, 1, 0), d(1.6, 0, 1)
    tensor = [d(1.1, 0, 0, image=product) for product in (y * y, y * x, x * x)]
    first, second = eigenvalues(*tensor)
    angle = np.arctan2(2 * tensor[1], tensor[2] - tensor[0]) / 2
    return {
        "smoothing": [d(1.6, 0, 0)],
        "high pass": [2.5 * IMAGE - 1.5 * d(1.6, 0, 0)],
        "background": [IMAGE - d(1.6, 0, 0)],
        "difference": [d(1.0, 0, 0) - d(1.6, 0, 0)],
        "derivative": [d(1.6, 1, 2)],
        "gradient": [np.hypot(y, x)],
        "laplacian": [hessian[0] + hessian[2]],
        "hessian": hessian,
        "hessian eigenvalues": eigenvalues(*hessian),
        "structure tensor eigenvalues": [first, second],
        "orientation": [(first - second) / (first + second), angle],
        "features": [d(1.6, 0, 0), hessian[0] + hessian[2]],
    }[name]


def read(name, **parameters):
    return windowed(name, IMAGE, "yx", **parameters).reshape(-1, *IMAGE.shape)


def test_every_operator_with_a_window_is_tried_here():
    having = {name for name, cls in OPERATORS.items() if "window" in cls.declarations}
    assert having == {name for name, _ in WINDOWED.values()}


@pytest.mark.parametrize("window", [0.0, 2.0, 3.5])
@pytest.mark.parametrize("name", WINDOWED)
def test_the_window_of_an_operator_is_that_of_kernels_written_down_from_the_formula(name, window, backend):
    result = list(read(name, window=window, backend=backend.name))
    expected = expected_of(name, window)
    row = TOLERANCES.get(name, TOLERANCES["laplacian"])
    error = relative_error(comparable(name, result), comparable(name, expected))
    assert error <= row.of(backend.name, "structure", 1.6)


@pytest.mark.parametrize("name", WINDOWED)
def test_another_window_is_another_result(name):
    results = [read(name, window=window) for window in (0.0, 2.0, 5.0)]
    assert not any(np.array_equal(a, b) for a, b in zip(results, [*results[1:], results[0]], strict=True))


@pytest.mark.parametrize("window", [2.0, 3.0, 3.5])
def test_smoothing_with_a_window_is_scipys_truncated_gaussian(window, backend):
    expected = ndimage.gaussian_filter(IMAGE.astype(float), 1.6, mode="mirror", truncate=window)
    result = windowed("smoothing", IMAGE, "yx", window=window, backend=backend.name)
    assert relative_error([result], [expected]) <= TOLERANCES["smoothing"].goal


def test_ilastiks_window_is_its_own_whatever_is_given():
    options = {"compat": "ilastik", "backend": "scipy"}
    assert np.array_equal(read("features", window=3.0, **options), read("features", **options))
