"""The real vigra: same numbers as ours, and nobody uses it unasked."""

from __future__ import annotations

import numpy as np
import pytest
from filter_cases import FILTERS, relative_error, speckled
from lazyflow_core import ArrayMeta, Graph
from tolerances import ILASTIK, MOST_EIGENVALUES, TOLERANCES

from lazyflow_ops_filters import kernels as k
from lazyflow_ops_filters.features import OpPixelFeatures, feature_grid

vigra = pytest.importorskip("vigra", exc_type=Exception)


@pytest.mark.parametrize("window", [0.0, 2.0, 3.5])
@pytest.mark.parametrize("sigma", [0.3, 0.7, 1.0, 1.6, 3.5])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_our_1d_kernels_are_vigras(sigma, order, window):
    theirs = vigra.filters.Kernel1D()
    # Without a window vigra's class takes that of smoothing; its filters take 3 + order / 2, as we do.
    theirs.initGaussianDerivative(sigma, order, 1.0, window or 3 + 0.5 * order)
    reach = theirs.right()
    ours = k.kernel(sigma, order, window)
    assert reach == len(ours) // 2
    assert np.allclose(ours, [theirs[i] for i in range(reach, -reach - 1, -1)], atol=1e-12)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("sigma", [0.7, 1.0, 1.6])
@pytest.mark.parametrize("shape", [(40, 43), (22, 25, 27)], ids=str)
def test_our_results_are_vigras(name, sigma, shape):
    image = speckled(shape)
    filter = FILTERS[name]((sigma,) * len(shape))
    theirs = k.run(filter, image, backend="vigra")
    for other, _, _ in (b for b in k.describe_backends() if not b[1] and b[0] != "vigra"):
        ours = k.run(filter, image, backend=other)
        assert relative_error(ours, theirs) <= TOLERANCES[name].parity
        scale = max(float(np.abs(r).max()) for r in theirs)
        far = [np.abs(a - b) > MOST_EIGENVALUES * scale for a, b in zip(ours, theirs, strict=True)]
        assert np.mean(far) <= 0.01


def by_ilastiks_recipe(feature, image, scale, swapped):
    """Return what ilastik computes, by vigra's functions; with fastfilters it swaps the tensor's scales."""
    v, keys = vigra.filters, "zyx"[-image.ndim :]
    before, s = (np.sqrt(scale**2 - 1) if scale > 1 else scale), min(scale, 1.0)
    smooth = v.gaussianSmoothing(vigra.taggedView(image, keys), before, window_size=3.5)
    w = {"window_size": 2.0}
    result = {
        "gaussian_smoothing": lambda: v.gaussianSmoothing(smooth, s, **w),
        "laplacian_of_gaussian": lambda: v.laplacianOfGaussian(smooth, s, **w),
        "gaussian_gradient_magnitude": lambda: v.gaussianGradientMagnitude(smooth, s, **w),
        "difference_of_gaussians": lambda: (
            v.gaussianSmoothing(smooth, s, **w) - v.gaussianSmoothing(smooth, 0.66 * s, **w)
        ),
        "structure_tensor_eigenvalues": lambda: v.structureTensorEigenvalues(
            smooth, *((0.5 * s, s) if swapped else (s, 0.5 * s)), **w
        ),
        "hessian_of_gaussian_eigenvalues": lambda: v.hessianOfGaussianEigenvalues(smooth, s, **w),
    }[feature]()
    return np.asarray(result).reshape(*image.shape, -1)


@pytest.mark.parametrize(("feature", "scale"), feature_grid())
@pytest.mark.parametrize("compat", ["ilastik", "ilastik-vigra"])
@pytest.mark.parametrize("shape", [(80, 83), (44, 45, 47)], ids=str)
@pytest.mark.parametrize("precision", ["double", "single"])
def test_ilastiks_features_are_vigras_at_every_scale(feature, scale, shape, precision, compat):
    image = speckled(shape)
    with Graph() as graph:
        operator = OpPixelFeatures(
            graph=graph, selection=((feature, scale),), compat=compat, precision=precision
        )
        operator.image.assign(image, ArrayMeta(shape, image.dtype, "zyx"[-len(shape) :]))
        ours = operator.output.read().reshape(*shape, -1)
    theirs = by_ilastiks_recipe(feature, image, scale, swapped=compat == "ilastik")
    assert relative_error([ours], [theirs]) <= ILASTIK[feature]


def test_the_vigra_backend_really_runs_vigra(monkeypatch):
    def refuse(*arguments, **keywords):
        raise RuntimeError("vigra was called")

    monkeypatch.setattr(vigra.filters, "gaussianSmoothing", refuse)
    image = speckled((20, 20))
    with pytest.raises(RuntimeError, match="vigra was called"):
        k.gaussian_smoothing(image, 1.0, backend="vigra")
    k.gaussian_smoothing(image, 1.0)  # and no other does
