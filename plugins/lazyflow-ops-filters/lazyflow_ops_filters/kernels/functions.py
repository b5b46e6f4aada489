"""The filters as plain functions of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from lazyflow_core.errors import ParameterError

from lazyflow_ops_filters.kernels import filters as f
from lazyflow_ops_filters.kernels.backend import Backend, Job, Region
from lazyflow_ops_filters.kernels.border import BORDERS
from lazyflow_ops_filters.kernels.selection import AUTO, get_backend

__all__ = [
    "difference_of_gaussians",
    "gaussian_derivative",
    "gaussian_gradient_magnitude",
    "gaussian_smoothing",
    "hessian_of_gaussian",
    "hessian_of_gaussian_eigenvalues",
    "laplacian_of_gaussian",
    "run",
    "structure_tensor",
    "structure_tensor_eigenvalues",
]

Array = npt.NDArray[Any]
Sigma = float | Sequence[float]


def run(
    filter: f.Filter,
    image: npt.ArrayLike,
    *,
    border: str = "mirror",
    region: Region | None = None,
    outs: Sequence[Array | None] | None = None,
    backend: str | Backend = AUTO,
) -> list[Array]:
    """Run a filter over an image, or over a region of it.

    Parameters
    ----------
    filter
        What to compute.
    image
        Real numbers of any dtype; all axes are filtered. Never modified.
    border
        What lies beyond the border: ``"mirror"``, ``"reflect"``, ``"nearest"`` or ``"zero"``.
    region
        What to compute, one slice per axis; everything if left out. Pixels further from it than
        ``filter.halo`` do not matter: any region has the same values as the whole, bit for bit.
    outs
        Where to write, one float32 array of the region's shape per result, or None for a result that is not
        wanted; new arrays if left out.
    backend
        Name of a backend, or a `Backend`.

    Returns
    -------
    list of ndarray, float32
        One per result of the filter, those of ``outs`` if given.

    Raises
    ------
    ParameterError
        If image, border or region do not fit the filter or each other, or the backend refuses.
    """
    if isinstance(backend, str):
        backend = get_backend(backend)
    image = np.asarray(image)
    what = type(filter).__name__
    if image.dtype.kind not in "buif":
        raise ParameterError(f"{what}: an image of dtype {image.dtype} is not one of real numbers.")
    if image.ndim != filter.ndim:
        raise ParameterError(f"{what}: sigma is given for {filter.ndim} axes and the image has {image.ndim}.")
    if border not in BORDERS:
        raise ParameterError(f"{what}: border {border!r} is none of {', '.join(map(repr, BORDERS))}.")
    if thin := filter.too_thin(image.shape, border):
        raise ParameterError(f"{what}: {thin.sentence(str(thin.axis), border)}.")
    if reason := backend.refuses(filter, border):
        raise ParameterError(f"{what}: backend {backend.name!r} {reason}.")
    region = _normalized(region, image.shape, what)
    shape = tuple(s.stop - s.start for s in region)
    count = filter.results
    if outs is None:
        outs = list(np.empty((count, *shape), backend.dtype))
    elif len(outs) != count or any(o is not None and o.shape != shape for o in outs):
        raise ParameterError(f"{what}: outs must be {count} arrays of shape {shape}, or None.")
    if 0 not in shape and any(o is not None for o in outs):
        backend.run(filter, Job(image, border, region, outs))
    return cast("list[Array]", list(outs))


def _normalized(region: Region | None, shape: Sequence[int], what: str) -> Region:
    if region is None:
        return tuple(slice(0, n) for n in shape)
    if len(region) == len(shape) and all(
        s.step in (None, 1) and 0 <= s.start <= s.stop <= n for s, n in zip(region, shape, strict=True)
    ):
        return tuple(slice(s.start, s.stop) for s in region)
    raise ParameterError(f"{what}: region {region} does not lie in an image of shape {tuple(shape)}.")


def _sigmas(sigma: Sigma, ndim: int, name: str = "sigma") -> tuple[float, ...]:
    values = (float(sigma),) * ndim if np.ndim(sigma) == 0 else tuple(map(float, sigma))  # type: ignore[arg-type]
    if len(values) != ndim:
        raise ParameterError(f"{name}={sigma!r} has {len(values)} numbers for {ndim} axes.")
    return values


def _stacked(outs: Sequence[Array]) -> Array:
    """Return results as one array, the results along a last axis."""
    base = outs[0].base
    whole = base if base is not None and base.shape == (len(outs), *outs[0].shape) else np.stack(outs)
    return np.moveaxis(whole, 0, -1)


def gaussian_smoothing(image: npt.ArrayLike, sigma: Sigma, *, window: float = 0.0, **options: Any) -> Array:
    """Return an image convolved with a Gaussian.

    Parameters
    ----------
    image
        Real numbers; all axes are filtered.
    sigma
        Standard deviation in pixels, one for all axes or one per axis.
    window
        Reach of the kernel in sigmas; 0 for the usual 3.
    **options
        ``border``, ``region`` and ``backend`` of `run`.

    Returns
    -------
    ndarray, float32, shape of the image or region

    Examples
    --------
    >>> import numpy as np
    >>> (100 * gaussian_smoothing(np.eye(9), 1.0)[4]).round().tolist()
    [1.0, 3.0, 10.0, 22.0, 28.0, 22.0, 10.0, 3.0, 1.0]
    """
    image = np.asarray(image)
    return run(f.GaussianSmoothing(_sigmas(sigma, image.ndim), window), image, **options)[0]


def gaussian_derivative(
    image: npt.ArrayLike, sigma: Sigma, order: Sequence[int], *, window: float = 0.0, **options: Any
) -> Array:
    """Return the derivative of the smoothed image, ``order[i]`` times along axis ``i``.

    Examples
    --------
    >>> import numpy as np
    >>> gaussian_derivative(np.arange(9.0), 1.0, (1,))[4].round(6).item()
    1.0
    """
    image = np.asarray(image)
    filter = f.GaussianDerivative(_sigmas(sigma, image.ndim), window, order=tuple(order))
    return run(filter, image, **options)[0]


def difference_of_gaussians(
    image: npt.ArrayLike, sigma: Sigma, minus: Sigma, *, window: float = 0.0, **options: Any
) -> Array:
    """Return smoothing at ``sigma`` minus smoothing at ``minus``."""
    image = np.asarray(image)
    filter = f.DifferenceOfGaussians(
        _sigmas(sigma, image.ndim), window, minus=_sigmas(minus, image.ndim, "minus")
    )
    return run(filter, image, **options)[0]


def gaussian_gradient_magnitude(
    image: npt.ArrayLike, sigma: Sigma, *, window: float = 0.0, **options: Any
) -> Array:
    """Return the length of the gradient of the smoothed image."""
    image = np.asarray(image)
    return run(f.GaussianGradientMagnitude(_sigmas(sigma, image.ndim), window), image, **options)[0]


def laplacian_of_gaussian(
    image: npt.ArrayLike, sigma: Sigma, *, window: float = 0.0, **options: Any
) -> Array:
    """Return the sum of the second derivatives of the smoothed image."""
    image = np.asarray(image)
    return run(f.LaplacianOfGaussian(_sigmas(sigma, image.ndim), window), image, **options)[0]


def hessian_of_gaussian(image: npt.ArrayLike, sigma: Sigma, *, window: float = 0.0, **options: Any) -> Array:
    """Return the upper triangle of the Hessian along a new last axis, row by row (zz zy zx yy yx xx)."""
    image = np.asarray(image)
    return _stacked(run(f.HessianOfGaussian(_sigmas(sigma, image.ndim), window), image, **options))


def hessian_of_gaussian_eigenvalues(
    image: npt.ArrayLike, sigma: Sigma, *, window: float = 0.0, precision: str = "double", **options: Any
) -> Array:
    """Return the eigenvalues of the Hessian along a new last axis, largest first.

    ``precision="single"`` lets native kernels be faster, and off by up to 2e-4 of the largest magnitude.
    """
    image = np.asarray(image)
    filter = f.HessianOfGaussianEigenvalues(_sigmas(sigma, image.ndim), window, precision=precision)
    return _stacked(run(filter, image, **options))


def structure_tensor(
    image: npt.ArrayLike, sigma: Sigma, outer: Sigma, *, window: float = 0.0, **options: Any
) -> Array:
    """Return the upper triangle of the structure tensor along a new last axis, row by row.

    ``sigma`` is the scale of the gradient, ``outer`` that of the neighbourhood it is averaged over.
    """
    image = np.asarray(image)
    filter = f.StructureTensor(_sigmas(sigma, image.ndim), window, outer=_sigmas(outer, image.ndim, "outer"))
    return _stacked(run(filter, image, **options))


def structure_tensor_eigenvalues(
    image: npt.ArrayLike,
    sigma: Sigma,
    outer: Sigma,
    *,
    window: float = 0.0,
    precision: str = "double",
    **options: Any,
) -> Array:
    """Return the eigenvalues of the structure tensor along a new last axis, largest first.

    ``precision`` as in `hessian_of_gaussian_eigenvalues`.
    """
    image = np.asarray(image)
    filter = f.StructureTensorEigenvalues(
        _sigmas(sigma, image.ndim), window, outer=_sigmas(outer, image.ndim, "outer"), precision=precision
    )
    return _stacked(run(filter, image, **options))
