"""The operators of this distribution with inputs on which they are tried against the laws of operators.

Here and not in the tests, so that users can try them where they are installed: ``lazyflow operators check``.
"""

from __future__ import annotations

from math import inf
from typing import Any

from lazyflow_core import Operator
from lazyflow_core.testing import Case, array

from lazyflow_ops_filters.edges import OpGaussianGradientMagnitude, OpLaplacianOfGaussian
from lazyflow_ops_filters.features import OpPixelFeatures
from lazyflow_ops_filters.mask import OpDistanceTransform, OpHysteresisThreshold
from lazyflow_ops_filters.neighborhood import OpMaximum, OpMedian, OpMinimum, OpMorphology, OpPercentile
from lazyflow_ops_filters.otsu import OpOtsuThreshold
from lazyflow_ops_filters.smoothing import (
    OpBackgroundSubtraction,
    OpDifferenceOfGaussians,
    OpGaussianSmoothing,
    OpUnsharpMask,
)
from lazyflow_ops_filters.tensor import (
    OpGaussianDerivative,
    OpHessianOfGaussian,
    OpHessianOfGaussianEigenvalues,
    OpStructureTensorEigenvalues,
    OpStructureTensorOrientation,
)

PLANE = {"image": array((34, 29), "yx", "uint8", high=255)}
VOLUME = {"image": array((17, 2, 15, 16), "xczy", high=50)}
MOVIE = {"image": array((2, 24, 23), "txy", "int16", low=-90, high=90)}
MASK = {"image": array((31, 27), "yx", "bool")}
LABELS = {"image": array((12, 14, 13), "zyx", "uint8", high=1)}

FEATURES = (("gaussian_smoothing", 0.7), ("structure_tensor_eigenvalues", 0.8))

NEIGHBORHOODS: list[tuple[type[Operator], dict[str, Any]]] = [
    (OpMinimum, {}),
    (OpMedian, {}),
    (OpMaximum, {}),
    (OpPercentile, {"percentile": 30.0}),
    (OpMorphology, {"operation": "dilation"}),
]

#: The case, and what is changed; each operator with a plane, and with more axes in another order.
#: Why what is not bounded cannot be stopped within a frame.
ONE_FRAME = "without a bound a frame is computed by one call of scipy, which looks at nothing"

CASES = [
    *(
        Case(cls, inputs, {"sigma": 1.0}, change=change)
        for cls in (
            OpGaussianSmoothing,
            OpUnsharpMask,
            OpBackgroundSubtraction,
            OpGaussianGradientMagnitude,
            OpLaplacianOfGaussian,
            OpHessianOfGaussian,
            OpHessianOfGaussianEigenvalues,
        )
        for inputs, change in ((PLANE, {"sigma": 1.4}), (MOVIE, {"border": "zero"}))
    ),
    Case(
        OpGaussianSmoothing,
        VOLUME,
        {"sigma": (0.7, 1.0), "in_2d": True},
        change={"in_2d": False, "sigma": 0.8},
    ),
    Case(OpGaussianDerivative, PLANE, {"order": (1, 0)}, change={"order": (1, 1)}),
    Case(OpGaussianDerivative, VOLUME, {"order": (0, 0, 1), "sigma": 0.7}, change={"sigma": 0.8}),
    Case(OpDifferenceOfGaussians, PLANE, {"sigma0": 0.8, "sigma1": 1.2}, change={"sigma1": 1.5}),
    Case(OpDifferenceOfGaussians, MOVIE, {"sigma1": 1.1}, change={"sigma0": 0.6}),
    *(
        Case(cls, inputs, {"outer_sigma": 0.7}, change={"inner_sigma": 0.8})
        for cls in (OpStructureTensorEigenvalues, OpStructureTensorOrientation)
        for inputs in (PLANE, MOVIE)
    ),
    *(
        Case(cls, inputs, {"radius": 2.0, **params}, change=change, halo=2)
        for cls, params in NEIGHBORHOODS
        for inputs, change in ((PLANE, {"radius": 3.0}), (VOLUME, {"in_2d": True, "radius": 1.0}))
    ),
    Case(OpDistanceTransform, MASK, {"largest": 4.0}, change={"largest": 6.0}),
    Case(OpDistanceTransform, LABELS, {"largest": 3.0}, change={"in_2d": True}),
    Case(
        OpDistanceTransform,
        LABELS,
        {"largest": inf},
        change={"in_2d": True},
        tags={"global"},
        skip={"stops_soon": ONE_FRAME},
    ),
    Case(OpHysteresisThreshold, PLANE, {"low": 60.0, "high": 200.0, "reach": 5}, change={"low": 90.0}),
    Case(OpHysteresisThreshold, MOVIE, {"low": 0.0, "high": 30.0, "reach": 4}, change={"high": 50.0}),
    Case(
        OpHysteresisThreshold,
        PLANE,
        {"low": 60.0, "high": 200.0, "reach": inf},
        change={"high": 250.0},
        tags={"global"},
        skip={"stops_soon": ONE_FRAME},
    ),
    Case(OpOtsuThreshold, PLANE, tags={"global"}),
    Case(OpOtsuThreshold, MOVIE, tags={"global"}),
    Case(OpPixelFeatures, PLANE, {"selection": FEATURES}, change={"compat": "ilastik"}),
    Case(OpPixelFeatures, MOVIE, {"selection": FEATURES[1:]}, change={"selection": FEATURES}),
]
