"""Results against references that share nothing with the backends but the definition."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from filter_cases import EXACT, FILTERS, error, relative_error, speckled
from scipy import ndimage
from tolerances import TOLERANCES

from lazyflow_ops_filters import kernels as k
from lazyflow_ops_filters.kernels.filters import GaussianDerivative

PAD = {"mirror": "reflect", "reflect": "symmetric", "nearest": "edge", "zero": "constant"}


def convolved(image, sigma, orders, border):
    """Return a Gaussian derivative by padding and one dot product per pixel, in float64."""
    image = image.astype(np.float64)
    for axis, (s, order) in enumerate(zip(sigma, orders, strict=True)):
        if s is None:
            continue
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


def times(factor, sigma):
    return [None if s is None else factor * s for s in sigma]


def defined(name, image, sigma, border):
    """Return what a filter is by definition, from `convolved` alone."""
    n = image.ndim
    axes = [i for i in range(n) if sigma[i] is not None][-2 if name == "orientation" else 0 :]
    sigma = tuple(s if i in axes else None for i, s in enumerate(sigma))
    pairs = [(i, j) for i in axes for j in axes if i <= j]

    def d(*axes):
        return convolved(image, sigma, unit(n, *axes), border)

    match name:
        case "smoothing":
            return [d()]
        case "derivative":
            order = [0 if s is None else o for s, o in zip(sigma, (1, 2, 0), strict=False)]
            return [convolved(image, sigma, order, border)]
        case "high pass":
            return [2.5 * image - 1.5 * d()]
        case "difference":
            return [d() - convolved(image, times(0.66, sigma), unit(n), border)]
        case "gradient":
            return [np.sqrt(sum(d(i) ** 2 for i in axes))]
        case "laplacian":
            return [sum(d(i, i) for i in axes)]
        case "hessian":
            return [d(i, j) for i, j in pairs]
        case "hessian eigenvalues":
            return eigenvalues([d(i, j) for i, j in pairs])
    gradient = {i: d(i) for i in axes}
    tensor = [convolved(gradient[i] * gradient[j], times(0.5, sigma), unit(n), border) for i, j in pairs]
    if name == "structure tensor":
        return tensor
    if name == "structure tensor eigenvalues":
        return eigenvalues(tensor)
    yy, yx, xx = tensor
    values, vectors = np.linalg.eigh(np.stack([yy, yx, yx, xx], -1).reshape(*yy.shape, 2, 2))
    coherence = (values[..., 1] - values[..., 0]) / values.sum(-1)
    return [coherence, np.arctan2(vectors[..., 0, 1], vectors[..., 1, 1])]


#: Planes, volumes, and volumes slice by slice; the same in all directions, and not.
SIGMAS = [
    (0.7, 0.7),
    (1.6, 0.9),
    (1.0, 1.0, 1.0),
    (0.5, 1.3, 2.2),
    (None, 0.8, 1.4),
    (0.8, None, 0.6),
]


@cache
def expected_of(name, sigma, border):
    return defined(name, SPECKLED[len(sigma)], sigma, border)


SPECKLED = {2: speckled((22, 25)), 3: speckled((17, 22, 25))}


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("border", k.BORDERS)
@pytest.mark.parametrize("sigma", SIGMAS, ids=str)
def test_every_filter_is_what_its_definition_says_at_every_border(name, sigma, border, backend):
    if name == "orientation" and None in sigma[1:]:
        sigma = (*sigma[:1], 1.1, *sigma[2:])  # it needs a plane
    filter, image = FILTERS[name](sigma), SPECKLED[len(sigma)]
    if reason := backend.refuses(filter, border):
        assert (backend.name, repr(border) in reason) == ("vigra", True)
        with pytest.raises(k.functions.ParameterError, match=border):
            k.run(filter, image, border=border, backend=backend)
        return
    allowed = TOLERANCES[name].of(backend.name, "structure", 1.0)
    results = k.run(filter, image, border=border, backend=backend)
    assert error(name, results, expected_of(name, sigma, border)) <= allowed


#: Radii; None for an axis along which there are no neighbours.
RADII = [(1, 1), (2, 1), (1, 1, 1), (1, 0, 2), (None, 1, 2), (2, None, 1)]


def around(image, radius, border):
    """Return all pixels within a box around each pixel along a last axis, and their places in it."""
    r = [x or 0 for x in radius]
    padded = np.pad(image, [(x, x) for x in r], mode=PAD[border])
    windows = np.lib.stride_tricks.sliding_window_view(padded, [2 * x + 1 for x in r])
    places = np.stack(
        [i.ravel() - x for i, x in zip(np.indices(windows.shape[image.ndim :]), r, strict=True)]
    )
    return windows.reshape(*image.shape, -1), places


def ranked(image, radius, border, ball, percentile):
    values, places = around(image, radius, border)
    if ball:
        size = np.array([[max(r or 0, 1)] for r in radius])
        values = values[..., ((places / size) ** 2).sum(0) <= 1 + 1e-9]
    count = values.shape[-1]
    return np.sort(values, axis=-1)[..., min(int(count * percentile / 100), count - 1)]


def compared(name, image, radius, border):
    """Return what a filter that compares pixels is by definition."""
    ball = "ball" in name

    def steps(image, *percentiles):
        for percentile in percentiles:
            image = ranked(image, radius, border, ball, percentile)
        return image

    match name.split()[0]:
        case "rank":
            return steps(image, 30)
        case "median":
            return steps(image, 50)
        case "minimum" | "erosion":
            return steps(image, 0)
        case "maximum" | "dilation":
            return steps(image, 100)
        case "opening":
            return steps(image, 0, 100)
        case "closing":
            return steps(image, 100, 0)
        case "gradient":
            return steps(image, 100) - steps(image, 0)
        case "white_top_hat":
            return np.maximum(image - steps(image, 0, 100), 0)
        case "black_top_hat":
            return np.maximum(steps(image, 100, 0) - image, 0)
        case "distance":
            zeros = np.argwhere(image == 0)
            apart = np.abs(np.argwhere(np.ones_like(image))[:, None] - zeros[None])
            sizes = [np.inf if r is None else 2 / (r + 1) for r in radius]
            with np.errstate(invalid="ignore"):
                lengths = np.nan_to_num(apart * sizes, nan=0, posinf=np.inf)
            return np.minimum(np.sqrt((lengths**2).sum(-1)).min(1), 2.2).reshape(image.shape)
        case "hysteresis":
            found = image >= 2.0
            for _ in range(3):
                grown = found.copy()
                for axis, r in enumerate(radius):
                    for side in (-1, 1) if r is not None else ():
                        moved = np.roll(found, side, axis)
                        moved[(slice(None),) * axis + (0 if side == 1 else -1,)] = False
                        grown |= moved
                found = grown & (image >= 0.3)
            return found
    raise AssertionError(f"{name} needs a definition")


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("border", k.BORDERS)
@pytest.mark.parametrize("radius", RADII, ids=str)
def test_every_filter_that_compares_pixels_is_exactly_its_definition_at_every_border(
    name, radius, border, backend
):
    image = speckled((8, 9, 11)[-len(radius) :]).round(1)
    if name == "distance":
        image[image < 0.3] = 0
    (result,) = k.run(EXACT[name](radius), image, border=border, backend="scipy")
    expected = compared(name, image, radius, border)
    assert np.array_equal(result, expected.astype(np.float32))
    # They have no backend, so it makes no difference.
    (again,) = k.run(EXACT[name](radius), image, border="mirror", backend=backend)
    assert np.array_equal(again, compared(name, image, radius, "mirror").astype(np.float32))


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
        assert error(name, [r[0] for r in thin], flat) <= (1e-5 if name == "orientation" else 1e-6)
