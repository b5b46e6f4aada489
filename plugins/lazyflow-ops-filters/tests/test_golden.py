"""Results against references that share nothing with the backends but the definition."""

from __future__ import annotations

import numpy as np
import pytest
from filter_cases import FILTERS, relative_error, speckled
from scipy import ndimage
from tolerances import TOLERANCES

from lazyflow_ops_filters import kernels as k
from lazyflow_ops_filters.kernels.filters import GaussianDerivative, StructureTensorOrientation

PAD = {"mirror": "reflect", "reflect": "symmetric", "nearest": "edge", "zero": "constant"}


def allowed(name, backend):
    tolerance = TOLERANCES[name]
    return tolerance.vigra if backend.name == "vigra" else tolerance.ours


def convolved(image, sigma, orders, border):
    """Return a Gaussian derivative by padding and one dot product per pixel, in float64."""
    image = image.astype(np.float64)
    for axis, (s, order) in enumerate(zip(sigma, orders, strict=True)):
        weights = k.kernel(s, order)
        r = len(weights) // 2
        padded = np.pad(image, [(r, r) if i == axis else (0, 0) for i in range(image.ndim)], mode=PAD[border])
        windows = np.lib.stride_tricks.sliding_window_view(padded, len(weights), axis)
        image = windows @ weights
    return image


def eigenvalues(triangle):
    n = {3: 2, 6: 3}[len(triangle)]
    matrix = np.empty((*triangle[0].shape, n, n))
    rows, columns = np.triu_indices(n)
    for (i, j), element in zip(zip(rows, columns, strict=True), triangle, strict=True):
        matrix[..., i, j] = matrix[..., j, i] = element
    return list(np.moveaxis(np.linalg.eigvalsh(matrix)[..., ::-1], -1, 0))


def unit(ndim, *axes):
    return tuple(axes.count(i) for i in range(ndim))


def defined(name, image, sigma, border):
    """Return what a filter is by definition, from `convolved` alone."""
    n = image.ndim
    pairs = [(i, j) for i in range(n) for j in range(i, n)]

    def d(*axes):
        return convolved(image, sigma, unit(n, *axes), border)

    match name:
        case "smoothing":
            return [d()]
        case "derivative":
            return [convolved(image, sigma, (1, 2, 0)[:n], border)]
        case "high pass":
            return [2.5 * image - 1.5 * d()]
        case "difference":
            return [d() - convolved(image, [0.66 * s for s in sigma], unit(n), border)]
        case "gradient":
            return [np.sqrt(sum(d(i) ** 2 for i in range(n)))]
        case "laplacian":
            return [sum(d(i, i) for i in range(n))]
        case "hessian":
            return [d(i, j) for i, j in pairs]
        case "hessian eigenvalues":
            return eigenvalues([d(i, j) for i, j in pairs])
    outer = [0.5 * s for s in sigma]
    gradient = [d(i) for i in range(n)]
    tensor = [convolved(gradient[i] * gradient[j], outer, unit(n), border) for i, j in pairs]
    return tensor if name == "structure tensor" else eigenvalues(tensor)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("sigma", [(0.7, 0.7), (1.6, 0.9), (1.0, 1.0, 1.0), (0.5, 1.3, 2.2)], ids=str)
def test_every_filter_is_what_its_definition_says(name, sigma, backend):
    image = speckled((17, 22, 25)[-len(sigma) :])
    results = k.run(FILTERS[name](sigma), image, backend=backend)
    assert relative_error(results, defined(name, image, sigma, "mirror")) <= allowed(name, backend)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("border", k.BORDERS)
def test_every_border_is_what_numpy_pads(name, border, backend):
    filter = FILTERS[name]((1.1, 0.8, 1.4))
    if backend.refuses(filter, border):
        with pytest.raises(k.functions.ParameterError, match=border):
            k.run(filter, speckled((12, 13, 14)), border=border, backend=backend)
        return
    image = speckled((12, 13, 14))
    results = k.run(filter, image, border=border, backend=backend)
    assert relative_error(results, defined(name, image, (1.1, 0.8, 1.4), border)) <= allowed(name, backend)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.3])
def test_smoothing_equals_scipys_gaussian_filter(sigma, backend):
    image = speckled((30, 31, 32))
    expected = ndimage.gaussian_filter(image.astype(np.float64), sigma, mode="mirror", truncate=3.0)
    assert relative_error([k.gaussian_smoothing(image, sigma, backend=backend)], [expected]) <= 5e-7


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", ">u2", "u4", "i8", "f2", "<f4", ">f8"])
def test_integers_and_other_floats_are_not_rounded_on_the_way(dtype, backend, oracle):
    image = (speckled((20, 24)) * 100).astype(dtype)
    before = image.copy()
    result = k.gaussian_smoothing(image, 1.2, backend=backend)
    expected = k.gaussian_smoothing(image.astype(np.float64), 1.2, backend=oracle)
    assert result.dtype == np.float32
    assert relative_error([result], [expected]) <= 5e-7
    assert np.array_equal(image, before)


@pytest.mark.parametrize("order", [(0, 0), (1, 0), (0, 2), (3, 1), (4, 0), (0, 5), (6, 6)], ids=str)
def test_derivatives_of_any_order(order, backend):
    image = speckled((40, 42))
    results = k.run(GaussianDerivative((1.5, 1.5), order=order), image, backend=backend)
    assert relative_error(results, [convolved(image, (1.5, 1.5), order, "mirror")]) <= 3e-6


def test_coherence_and_orientation_are_those_of_the_eigenvectors(backend):
    image = speckled((40, 42))
    filter = StructureTensorOrientation((1.2, 0.9), outer=(2.0, 1.7))
    coherence, orientation = k.run(filter, image, backend=backend)
    gradient = [convolved(image, (1.2, 0.9), order, "mirror") for order in ((1, 0), (0, 1))]
    yy, yx, xx = (
        convolved(gradient[i] * gradient[j], (2.0, 1.7), (0, 0), "mirror")
        for i, j in ((0, 0), (0, 1), (1, 1))
    )
    values, vectors = np.linalg.eigh(np.stack([yy, yx, yx, xx], -1).reshape(*yy.shape, 2, 2))
    expected = (values[..., 1] - values[..., 0]) / values.sum(-1)
    assert np.abs(coherence - expected).max() <= 1e-5
    # Where a direction prevails; angles are the same modulo half a turn.
    clear = expected > 0.1
    angle = np.arctan2(vectors[..., 0, 1], vectors[..., 1, 1])
    difference = (orientation - angle + np.pi / 2) % np.pi - np.pi / 2
    assert np.abs(difference[clear]).max() <= 1e-4


@pytest.mark.parametrize("name", FILTERS)
def test_an_axis_of_one_pixel_is_constant(name, backend):
    make = FILTERS[name]
    image = speckled((15, 16))
    thin = k.run(make((3.0, 0.8, 0.8)), image[np.newaxis], backend=backend)
    if name == "derivative":
        assert not np.any(thin[0])  # it derives along that axis
        return
    flat = k.run(make((0.8, 0.8)), image, backend=backend)
    if name.endswith("eigenvalues"):
        # The eigenvalues of the plane, and a zero for the missing direction.
        both = np.sort(np.stack([*(r[np.newaxis] for r in flat), np.zeros_like(thin[0])]), axis=0)[::-1]
        assert relative_error(thin, list(both)) <= 1e-6
    elif len(flat) == 3:
        assert all(not np.any(thin[i]) for i in range(3))
        assert relative_error([r[0] for r in thin[3:]], flat) <= 1e-6
    else:
        assert relative_error([thin[0][0]], flat) <= 1e-6
