"""Every operator with parameters that suit images of 9 and more pixels along each axis."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from lazyflow_core import ArrayMeta, Graph, Operator

from lazyflow_ops_filters.features import feature_grid
from lazyflow_ops_filters.kernels.neighborhood import OPERATIONS


def _load(target: str) -> type[Operator]:
    module, name = target.split(":")
    return getattr(import_module(module), name)


_PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))

#: What users get, by class name; tests that go through it cover a new operator, or say that it needs a case.
OPERATORS = {
    cls.__name__: cls
    for cls in map(_load, _PROJECT["project"]["entry-points"]["lazyflow.operators"].values())
}

_CASES = [
    ("OpGaussianSmoothing", {"sigma": 0.8}),
    ("OpGaussianSmoothing", {"sigma": 0.8, "backend": "scipy", "border": "nearest"}),
    ("OpDifferenceOfGaussians", {"sigma0": 0.7, "sigma1": 1.0}),
    ("OpUnsharpMask", {"sigma": 0.8, "amount": 0.5}),
    ("OpBackgroundSubtraction", {"sigma": 1.2}),
    ("OpGaussianGradientMagnitude", {"sigma": 0.8}),
    ("OpLaplacianOfGaussian", {"sigma": 0.8}),
    ("OpGaussianDerivative", {"sigma": 0.8, "order": (1, 2), "in_2d": True}),
    ("OpHessianOfGaussian", {"sigma": 0.8}),
    ("OpHessianOfGaussianEigenvalues", {"sigma": 0.8}),
    ("OpHessianOfGaussianEigenvalues", {"sigma": 0.8, "only_largest": True, "in_2d": True}),
    ("OpStructureTensorEigenvalues", {"inner_sigma": 0.7, "outer_sigma": 0.5}),
    ("OpStructureTensorOrientation", {"inner_sigma": 0.7, "outer_sigma": 0.5, "in_2d": True}),
    ("OpPixelFeatures", {"selection": feature_grid(scales=[0.7, 0.9])}),
    ("OpPixelFeatures", {"selection": feature_grid(scales=[0.9]), "compat": "ilastik"}),
    ("OpPixelFeatures", {"selection": feature_grid(scales=[0.9], in_2d=True)}),
    ("OpMinimum", {"radius": 2}),
    ("OpMaximum", {"radius": 2, "shape": "ball", "border": "zero"}),
    ("OpMedian", {"radius": 1, "in_2d": True}),
    ("OpPercentile", {"radius": 1, "percentile": 20}),
    *(("OpMorphology", {"radius": 1, "operation": operation}) for operation in OPERATIONS),
    ("OpDistanceTransform", {"largest": 3.0}),
    ("OpHysteresisThreshold", {"low": 0.4, "high": 1.5, "reach": 3}),
]

#: Each operator whose result depends on a neighbourhood; Otsu's threshold, which does not, is in test_otsu.
CASES = [(OPERATORS[name], parameters) for name, parameters in _CASES]


def parametrized(cases):
    """Return the mark that runs a test for each of some cases, with short names."""
    return pytest.mark.parametrize(
        ("cls", "parameters"), cases, ids=[f"{cls.__name__}-{i}" for i, (cls, _) in enumerate(cases)]
    )


cases = parametrized(CASES)
cases_and_otsu = parametrized([*CASES, (OPERATORS["OpOtsuThreshold"], {})])


def make(cls, parameters, graph, array, axes):
    operator = cls(graph=graph, **parameters)
    operator.image.assign(array, ArrayMeta(array.shape, array.dtype, axes))
    return operator


def thresholded(image, cls):
    """Return a mask for operators of masks: with more holes than the mean would leave."""
    return image > 0.15 if cls.__name__ == "OpDistanceTransform" else image


#: Operators with a window, by the row of the table of tolerances, at scales at which windows differ.
WINDOWED = {
    "smoothing": ("OpGaussianSmoothing", {"sigma": 1.6}),
    "high pass": ("OpUnsharpMask", {"sigma": 1.6, "amount": 1.5}),
    "background": ("OpBackgroundSubtraction", {"sigma": 1.6}),
    "difference": ("OpDifferenceOfGaussians", {"sigma0": 1.0, "sigma1": 1.6}),
    "derivative": ("OpGaussianDerivative", {"sigma": 1.6, "order": (1, 2), "in_2d": True}),
    "gradient": ("OpGaussianGradientMagnitude", {"sigma": 1.6}),
    "laplacian": ("OpLaplacianOfGaussian", {"sigma": 1.6}),
    "hessian": ("OpHessianOfGaussian", {"sigma": 1.6}),
    "hessian eigenvalues": ("OpHessianOfGaussianEigenvalues", {"sigma": 1.6}),
    "structure tensor eigenvalues": (
        "OpStructureTensorEigenvalues",
        {"inner_sigma": 1.6, "outer_sigma": 1.1},
    ),
    "orientation": (
        "OpStructureTensorOrientation",
        {"inner_sigma": 1.6, "outer_sigma": 1.1, "in_2d": True},
    ),
    "features": (
        "OpPixelFeatures",
        {"selection": (("gaussian_smoothing", 1.6), ("laplacian_of_gaussian", 1.6))},
    ),
}


def windowed(name, image, axes, **parameters):
    """Return the result of an operator of `WINDOWED`."""
    operator, scales = WINDOWED[name]
    with Graph() as graph:
        return make(OPERATORS[operator], {**scales, **parameters}, graph, image, axes).output.read()
