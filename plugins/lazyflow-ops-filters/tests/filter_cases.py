"""Every filter, and images to try it on."""

from __future__ import annotations

from functools import cache

import numpy as np

from lazyflow_ops_filters.kernels import filters as f
from lazyflow_ops_filters.kernels import neighborhood as n


def _times(factor, sigma):
    return tuple(None if s is None else factor * s for s in sigma)


def _orders(sigma):
    return tuple(0 if s is None else order for order, s in zip((1, 2, 0), sigma, strict=False))


def _in_a_plane(sigma):
    """Return the sigmas of a filter of planes: a volume is gone through slice by slice."""
    return (None,) * (len(sigma) - 2) + sigma[-2:]


#: Filters by name, made of a sigma per axis; how exact they are stands in `tolerances.TOLERANCES`.
FILTERS = {
    "smoothing": lambda s: f.GaussianSmoothing(s),
    "high pass": lambda s: f.HighPass(s, keep=2.5, factor=1.5),
    "difference": lambda s: f.DifferenceOfGaussians(s, minus=_times(0.66, s)),
    "derivative": lambda s: f.GaussianDerivative(s, order=_orders(s)),
    "gradient": lambda s: f.GaussianGradientMagnitude(s),
    "laplacian": lambda s: f.LaplacianOfGaussian(s),
    "hessian": lambda s: f.HessianOfGaussian(s),
    "hessian eigenvalues": lambda s: f.HessianOfGaussianEigenvalues(s),
    "structure tensor": lambda s: f.StructureTensor(s, outer=_times(0.5, s)),
    "structure tensor eigenvalues": lambda s: f.StructureTensorEigenvalues(s, outer=_times(0.5, s)),
    "orientation": lambda s: f.StructureTensorOrientation(_in_a_plane(s), outer=_times(0.5, _in_a_plane(s))),
}

#: Filters that compare pixels, made of a radius per axis (None: not along that one); they are exact.
EXACT = {
    "rank": lambda r: n.Rank(_footprint(r), 30),
    "median in a ball": lambda r: n.Rank(_footprint(r, "ball"), 50),
    "minimum": lambda r: n.Rank(_footprint(r), 0),
    "maximum in a ball": lambda r: n.Rank(_footprint(r, "ball"), 100),
    **{
        operation: lambda r, operation=operation: n.Morphology(_footprint(r), operation)
        for operation in n.OPERATIONS
    },
    "opening by a ball": lambda r: n.Morphology(_footprint(r, "ball"), "opening"),
    "distance": lambda r: n.DistanceTransform(2.2, tuple(None if x is None else 2 / (x + 1) for x in r)),
    "hysteresis": lambda r: n.HysteresisThreshold(0.3, 2.0, 3, tuple(x is not None for x in r)),
}


def _footprint(radius, shape="box"):
    return n.Footprint(tuple(r or 0 for r in radius), shape)


def speckled(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Return noise with a step and a few outliers, float32."""
    rng = np.random.default_rng(seed)
    image = rng.random(shape, dtype=np.float32)
    image[tuple(slice(n // 2, None) for n in shape)] += 2
    image[rng.random(shape) < 0.01] = 20
    return image


@cache
def image_of(kind: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Return an image of one of the kinds that tolerances are stated for, float32; nobody may change it."""
    if kind == "structure":
        image = speckled(shape, seed)
    else:
        image = np.random.default_rng(seed).random(shape, dtype=np.float32)
        if kind == "noise":
            image -= np.float32(0.5)
    image.flags.writeable = False
    return image


def comparable(name: str, results) -> list[np.ndarray]:
    """Return results of a filter so that their differences are errors.

    An angle means nothing where no direction prevails, and is the same half a turn further: it is compared as
    the vector at twice the angle whose length is the coherence.
    """
    if name != "orientation":
        return list(results)
    coherence, angle = results
    return [coherence, coherence * np.cos(2 * angle), coherence * np.sin(2 * angle)]


def relative_error(results, references) -> float:
    """Return the largest difference, relative to the largest magnitude of all results."""
    scale = max(float(np.abs(r).max()) for r in references) or 1.0
    return max(float(np.abs(a - b).max()) for a, b in zip(results, references, strict=True)) / scale


def error(name: str, results, references) -> float:
    """Return the relative error of the results of a filter."""
    return relative_error(comparable(name, results), comparable(name, references))
