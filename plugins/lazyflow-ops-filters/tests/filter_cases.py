"""Every filter, and images to try it on."""

from __future__ import annotations

import numpy as np

from lazyflow_ops_filters.kernels import filters as f


def _times(factor, sigma):
    return tuple(factor * s for s in sigma)


#: Filters by name, made of a sigma per axis; how exact they are stands in `tolerances.TOLERANCES`.
FILTERS = {
    "smoothing": lambda s: f.GaussianSmoothing(s),
    "high pass": lambda s: f.HighPass(s, keep=2.5, factor=1.5),
    "difference": lambda s: f.DifferenceOfGaussians(s, minus=_times(0.66, s)),
    "derivative": lambda s: f.GaussianDerivative(s, order=(1, 2, 0)[: len(s)]),
    "gradient": lambda s: f.GaussianGradientMagnitude(s),
    "laplacian": lambda s: f.LaplacianOfGaussian(s),
    "hessian": lambda s: f.HessianOfGaussian(s),
    "hessian eigenvalues": lambda s: f.HessianOfGaussianEigenvalues(s),
    "structure tensor": lambda s: f.StructureTensor(s, outer=_times(0.5, s)),
    "structure tensor eigenvalues": lambda s: f.StructureTensorEigenvalues(s, outer=_times(0.5, s)),
}


def speckled(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Return noise with a step and a few outliers, float32."""
    rng = np.random.default_rng(seed)
    image = rng.random(shape, dtype=np.float32)
    image[tuple(slice(n // 2, None) for n in shape)] += 2
    image[rng.random(shape) < 0.01] = 20
    return image


def relative_error(results, references) -> float:
    """Return the largest difference, relative to the largest magnitude of all results."""
    scale = max(float(np.abs(r).max()) for r in references) or 1.0
    return max(float(np.abs(a - b).max()) for a, b in zip(results, references, strict=True)) / scale
