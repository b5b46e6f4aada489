"""Every filter, and images to try it on."""

from __future__ import annotations

import numpy as np

from lazyflow_ops_filters.kernels import filters as f

#: Filters by name, made of a sigma per axis; the last number is the largest error that float32 may make,
#: relative to the largest magnitude of the result.
FILTERS = {
    "smoothing": (lambda s: f.GaussianSmoothing(s), 5e-7),
    "derivative": (lambda s: f.GaussianDerivative(s, order=(1, 2, 0)[: len(s)]), 3e-6),
    "difference": (lambda s: f.DifferenceOfGaussians(s, minus=tuple(0.66 * x for x in s)), 1.5e-5),
    "gradient": (lambda s: f.GaussianGradientMagnitude(s), 3e-6),
    "laplacian": (lambda s: f.LaplacianOfGaussian(s), 3e-6),
    "hessian": (lambda s: f.HessianOfGaussian(s), 3e-6),
    "hessian eigenvalues": (lambda s: f.HessianOfGaussianEigenvalues(s), 3e-6),
    "structure tensor": (lambda s: f.StructureTensor(s, outer=tuple(0.5 * x for x in s)), 3e-6),
    "structure tensor eigenvalues": (
        lambda s: f.StructureTensorEigenvalues(s, outer=tuple(0.5 * x for x in s)),
        3e-6,
    ),
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
