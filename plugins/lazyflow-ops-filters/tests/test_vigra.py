"""The real vigra: same numbers as ours, and nobody uses it unasked."""

from __future__ import annotations

import numpy as np
import pytest
from filter_cases import FILTERS, error, image_of, relative_error, speckled
from lazyflow_core import ArrayMeta, Axes, Axis, Graph
from operator_cases import OPERATORS, make, windowed
from tolerances import ILASTIK, KINDS, MOST_EIGENVALUES, TOLERANCES

from lazyflow_ops_filters import kernels as k
from lazyflow_ops_filters.features import OpPixelFeatures, feature_grid
from lazyflow_ops_filters.kernels.neighborhood import Footprint, Rank

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


def channels_last(result, image):
    """Return a result of an operator, whose channels stand in front, as vigra lays out its own."""
    return np.moveaxis(result.reshape(-1, *image.shape), 0, -1)


OURS = [name for name, problem, _ in k.describe_backends() if not problem and name != "vigra"]


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sigma", [0.7, 1.0, 1.6, 3.5, 5.0, 10.0])
@pytest.mark.parametrize("shape", [(62, 67), (44, 45, 47)], ids=str)
def test_our_results_are_vigras_on_images_of_every_kind(name, kind, sigma, shape):
    image = image_of(kind, shape)
    filter = FILTERS[name]((sigma,) * len(shape))
    theirs = k.run(filter, image, backend="vigra")
    for other in OURS:
        ours = k.run(filter, image, backend=other)
        assert error(name, ours, theirs) <= getattr(TOLERANCES[name].parity, kind), other
        if kind != "offset" and name != "orientation":
            scale = max(float(np.abs(r).max()) for r in theirs)
            far = [np.abs(a - b) > MOST_EIGENVALUES * scale for a, b in zip(ours, theirs, strict=True)]
            assert np.mean(far) <= 0.01, other


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("sigma", [(1.6, 0.9), (0.5, 1.3, 2.2), (None, 0.8, 1.4)], ids=str)
def test_our_results_are_vigras_with_a_sigma_per_axis(name, sigma):
    image = speckled((22, 25, 27)[-len(sigma) :])
    filter = FILTERS[name](sigma)
    theirs = k.run(filter, image, backend="vigra")
    for other in OURS:
        ours = k.run(filter, image, backend=other)
        assert error(name, ours, theirs) <= TOLERANCES[name].parity.structure, other


@pytest.mark.parametrize("name", FILTERS)
def test_a_scale_that_vigra_refuses_as_too_small_has_our_results(name):
    image = speckled((22, 25))
    filter = FILTERS[name]((0.0625, 1.0))
    theirs = k.run(filter, image, backend="vigra")
    for other in OURS:
        ours = k.run(filter, image, backend=other)
        assert error(name, ours, theirs) <= TOLERANCES[name].parity.structure, other


#: Operators as `windowed` has them, and vigra's own functions, called as its users call them.
WINDOWED = {
    "smoothing": lambda v, image, **w: v.gaussianSmoothing(image, 1.6, **w),
    "difference": lambda v, image, **w: (
        v.gaussianSmoothing(image, 1.0, **w) - v.gaussianSmoothing(image, 1.6, **w)
    ),
    "gradient": lambda v, image, **w: v.gaussianGradientMagnitude(image, 1.6, **w),
    "laplacian": lambda v, image, **w: v.laplacianOfGaussian(image, 1.6, **w),
    "hessian eigenvalues": lambda v, image, **w: v.hessianOfGaussianEigenvalues(image, 1.6, **w),
    "structure tensor eigenvalues": lambda v, image, **w: v.structureTensorEigenvalues(image, 1.6, 1.1, **w),
}


@pytest.mark.parametrize("window", [0.0, 2.0, 3.5])
@pytest.mark.parametrize("name", WINDOWED)
@pytest.mark.parametrize("axes", ["yx", "zyx"])
def test_the_window_of_an_operator_is_vigras_window_size(name, window, axes):
    image = speckled((40, 42) if axes == "yx" else (22, 25, 27))
    theirs = WINDOWED[name](vigra.filters, vigra.taggedView(image, axes), window_size=window)
    expected = np.asarray(theirs).reshape(*image.shape, -1)
    for backend in [*OURS, "vigra"]:
        result = windowed(name, image, axes, window=window, backend=backend)
        error = relative_error([channels_last(result, image)], [expected])
        assert error <= TOLERANCES[name].parity.structure, backend


@pytest.mark.parametrize(("axes", "sizes"), [("yx", (1.0, 1.0)), ("zyx", (2.0, 0.5, 0.5))])
def test_distances_are_vigras(axes, sizes):
    mask = speckled((31, 32) if axes == "yx" else (20, 21, 22)) > 0.03
    tagged = vigra.taggedView(mask.astype(np.uint32), axes)
    expected = np.asarray(vigra.filters.distanceTransform(tagged, background=False, pixel_pitch=sizes))
    pixels = Axes([Axis(key, unit="um", resolution=size) for key, size in zip(axes, sizes, strict=True)])
    for largest in (np.inf, 3.0):
        with Graph() as graph:
            every = {"largest": largest, "unit": "um"}
            result = make(OPERATORS["OpDistanceTransform"], every, graph, mask, pixels).output.read()
        assert np.allclose(result, np.minimum(expected, largest), rtol=1e-6)


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_masks_are_eroded_and_dilated_by_a_ball_as_by_vigra(radius):
    mask = speckled((24, 25, 26)) > 0.8
    for operation, theirs in (
        ("erosion", vigra.filters.multiBinaryErosion),
        ("dilation", vigra.filters.multiBinaryDilation),
        ("opening", vigra.filters.multiBinaryOpening),
        ("closing", vigra.filters.multiBinaryClosing),
    ):
        # For vigra nothing lies beyond the border, which here is a border that repeats the outermost pixel.
        every = {"radius": radius, "shape": "ball", "operation": operation, "border": "nearest"}
        with Graph() as graph:
            result = make(OPERATORS["OpMorphology"], every, graph, mask, "zyx").output.read()
        inner = (slice(2 * radius, -2 * radius),) * 3
        expected = np.asarray(theirs(vigra.taggedView(mask, "zyx"), radius))
        assert np.array_equal(result[inner], expected[inner]), operation
        if operation in ("erosion", "dilation"):
            assert np.array_equal(result, expected), operation


def test_ranks_are_vigras_where_its_disc_is_our_box():
    """vigra's discs are other neighbourhoods than our balls; of radius 1 they are boxes of 3×3 pixels."""
    image = (speckled((40, 42)) * 12).astype(np.uint8)
    tagged, inner = vigra.taggedView(image, "yx"), (slice(1, -1),) * 2
    for percentile, theirs in (
        (0, vigra.filters.discErosion(tagged, 1)),
        (30, vigra.filters.discRankOrderFilter(tagged, 1, 0.3)),
        (50, vigra.filters.discMedian(tagged, 1)),
        (100, vigra.filters.discDilation(tagged, 1)),
    ):
        (result,) = k.run(Rank(Footprint((1, 1)), percentile), image)
        assert np.array_equal(result[inner], np.asarray(theirs).squeeze()[inner]), percentile


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
@pytest.mark.parametrize(
    ("precision", "kind"), [("single", "structure"), *(("double", kind) for kind in KINDS)]
)
def test_ilastiks_features_are_vigras_at_every_scale(feature, scale, shape, precision, compat, kind):
    image = image_of(kind, shape)
    with Graph() as graph:
        operator = OpPixelFeatures(
            graph=graph, selection=((feature, scale),), compat=compat, precision=precision
        )
        operator.image.assign(image, ArrayMeta(shape, image.dtype, "zyx"[-len(shape) :]))
        ours = channels_last(operator.output.read(), image)
    theirs = by_ilastiks_recipe(feature, image, scale, swapped=compat == "ilastik")
    assert relative_error([ours], [theirs]) <= getattr(ILASTIK[feature], kind)


def test_the_vigra_backend_really_runs_vigra(monkeypatch):
    def refuse(*arguments, **keywords):
        raise RuntimeError("vigra was called")

    monkeypatch.setattr(vigra.filters, "gaussianSmoothing", refuse)
    image = speckled((20, 20))
    with pytest.raises(RuntimeError, match="vigra was called"):
        k.gaussian_smoothing(image, 1.0, backend="vigra")
    k.gaussian_smoothing(image, 1.0)  # and no other does
