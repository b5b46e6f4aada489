"""Pixel features: many filters at many scales as the channels of one output, for pixel classifiers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import isfinite, sqrt
from typing import Any, cast

from lazyflow_core import Axis, OutputSlot, ParameterSlot, Roi

from lazyflow_ops_filters.base import OpGaussianFilter, Plan, precision_slot
from lazyflow_ops_filters.kernels import filters as f
from lazyflow_ops_filters.kernels.composite import FilterSet, Presmoothed
from lazyflow_ops_filters.units import in_pixels

__all__ = ["FEATURES", "SCALES", "OpPixelFeatures", "feature_grid"]

#: The scales that ilastik offers, in pixels.
SCALES = (0.3, 0.7, 1.0, 1.6, 3.5, 5.0, 10.0)

_Sigmas = tuple[float | None, ...]


def _times(factor: float, sigma: _Sigmas) -> _Sigmas:
    # The least of all numbers has no half.
    return tuple(None if s is None else factor * s or s for s in sigma)


#: Features by name: the title of their channels, and the filter of a scale and a window. Second scales
#: belong to the first one as in ilastik.
FEATURES: dict[str, tuple[str, Callable[[_Sigmas, float], f.Filter]]] = {
    "gaussian_smoothing": ("Gaussian Smoothing", f.GaussianSmoothing),
    "laplacian_of_gaussian": ("Laplacian of Gaussian", f.LaplacianOfGaussian),
    "gaussian_gradient_magnitude": ("Gaussian Gradient Magnitude", f.GaussianGradientMagnitude),
    "difference_of_gaussians": (
        "Difference of Gaussians",
        lambda s, window: f.DifferenceOfGaussians(s, window, minus=_times(0.66, s)),
    ),
    "structure_tensor_eigenvalues": (
        "Structure Tensor Eigenvalues",
        lambda s, window: f.StructureTensorEigenvalues(s, window, outer=_times(0.5, s)),
    ),
    "hessian_of_gaussian_eigenvalues": ("Hessian of Gaussian Eigenvalues", f.HessianOfGaussianEigenvalues),
}

Selection = tuple[tuple[Any, ...], ...]


def feature_grid(
    features: Iterable[str] = tuple(FEATURES), scales: Iterable[float] = SCALES, *, in_2d: bool = False
) -> Selection:
    """Return the selection of all features at all scales, for `OpPixelFeatures`.

    As in ilastik, below a scale of 0.7 only smoothing is selected: the other kernels are their smallest
    there, whatever the scale.

    Examples
    --------
    >>> feature_grid(["gaussian_smoothing", "laplacian_of_gaussian"], [0.3, 1.0])
    (('gaussian_smoothing', 0.3), ('gaussian_smoothing', 1.0), ('laplacian_of_gaussian', 1.0))
    >>> len(feature_grid())
    37
    """
    scales = tuple(scales)
    dimensions = ("2d",) if in_2d else ()
    return tuple(
        (feature, scale, *dimensions)
        for feature in features
        for scale in scales
        if scale >= 0.7 or feature == "gaussian_smoothing"
    )


def _check_selection(value: Selection) -> str | None:
    if not value:
        return "selects nothing"
    for entry in value:
        if not isinstance(entry, (tuple, list)) or len(entry) not in (2, 3):
            return f"holds {entry!r}; an entry is (feature, scale) or (feature, scale, '2d')"
        feature, scale, *dimensions = entry
        if feature not in FEATURES:
            return f"holds the unknown feature {feature!r}; there are {', '.join(FEATURES)}"
        if (
            isinstance(scale, bool)
            or not isinstance(scale, (int, float))
            or not (isfinite(scale) and scale > 0)
        ):
            return f"holds the scale {scale!r}, which is not a positive number"
        if dimensions and dimensions[0] not in ("2d", "3d"):
            return f"holds {dimensions[0]!r}, which is neither '2d' nor '3d'"
    return None


def _title(entry: tuple[Any, ...]) -> str:
    feature, scale, *dimensions = entry
    return f"{FEATURES[feature][0]} (σ={scale:g})" + (" in 2D" if "2d" in dimensions else "")


class OpPixelFeatures(OpGaussianFilter):
    """Compute many filters at many scales, as channels of one output.

    Each channel is its filter at that sigma. Filters of one scale share their convolutions, and a request
    for some channels computes only those and reads the halo that they need. (The backends ``scipy`` and
    ``vigra`` share the first smoothing of ``compat="ilastik"`` only.)

    Inputs
    ------
    selection : ParameterSlot[tuple]
        What to compute, in the order of the channels: entries ``(feature, scale)``, or ``(feature, scale,
        "2d")`` to go through z slice by slice. Features are the keys of `FEATURES`, scales are sigmas in
        ``unit``. The default is `feature_grid`: ilastik's 37.
    compat : ParameterSlot[str]
        ``"ilastik"`` follows the recipe of ilastik with fastfilters, for classifiers that were trained
        there: per scale s the image is smoothed once at √(s² - 1) (at s if s ≤ 1) within 3.5 sigmas, and the
        filters run on that at min(s, 1) within 2 sigmas, so the smallest scales are smoothed twice; the two
        scales of the structure tensor are swapped. ``"ilastik-vigra"`` is the same without that swap: ilastik
        where it has no fastfilters. ``window`` is then not used.
    precision : ParameterSlot[str]
        How exact eigenvalues of 3×3 matrices are at least: ``"double"``, to 3e-6 of the largest magnitude, or
        ``"single"``, to 2e-4 and faster with the native kernels. The other kernels, and planes, make no
        difference.

    Outputs
    -------
    output : OutputSlot
        float32; per channel of ``image`` the channels of all entries, named ``"Laplacian of Gaussian
        (σ=1.6)"`` and, where a filter has several, numbered from ``[0]``.
    features : list of OutputSlot
        Each entry of the selection as an output of its own, with the halo that it alone needs.

    All else as in `OpGaussianFilter`.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> selection = (("gaussian_smoothing", 1.0), ("structure_tensor_eigenvalues", 1.6))
    >>> with Graph() as graph:
    ...     features = OpPixelFeatures(graph=graph, image=np.eye(30), selection=selection)
    ...     print(*features.output.meta.channel_names, sep=", ")
    ...     features.output[1:2].wait().shape
    Gaussian Smoothing (σ=1), Structure Tensor Eigenvalues (σ=1.6)[0], Structure Tensor Eigenvalues (σ=1.6)[1]
    (1, 30, 30)
    """

    scratch = 15

    selection = ParameterSlot(
        tuple, default=feature_grid(), check=_check_selection, doc="entries (feature, scale[, '2d'])"
    )
    features = OutputSlot(level=1, doc="each entry of the selection alone")
    compat = ParameterSlot(
        str, default="none", choices=("none", "ilastik", "ilastik-vigra"), doc="whose values to reproduce"
    )
    precision = precision_slot()

    def make_filter(self, axes: Sequence[Axis]) -> FilterSet:
        entries = self.selection.value
        return FilterSet(tuple(self._filter(entry, axes) for entry in entries), tuple(map(_title, entries)))

    def setup_outputs(self) -> Plan:
        plan = super().setup_outputs()
        plans = plan.parts
        self.features.resize(len(plans))
        for feature, part in zip(self.features, plans, strict=True):
            feature.meta = self._output_meta(part)
        return plan

    def too_thin(self, plan: Plan) -> str:
        """Return what of the selection does not fit the image: all of it, along all axes."""
        border, wrong = self.border_name(), []
        for position, n in enumerate(plan.spatial_shape):
            # An axis of one pixel is never too thin.
            shape = [n if i == position else 1 for i in range(len(plan.spatial))]
            scales: dict[str, list[str]] = {}
            for (feature, scale, *_), part in zip(self.selection.value, plan.parts, strict=True):
                thin = part.filter.too_thin(shape, border)
                if thin:
                    # The largest sigma of one step of ilastik's recipe is no scale.
                    most = f" (at most {thin.largest:g} pixels)" if self.compat.value == "none" else ""
                    scales.setdefault(FEATURES[feature][0] + most, []).append(f"{scale:g}")
            if scales:
                listed = "; ".join(f"{title} at {', '.join(values)}" for title, values in scales.items())
                axis = plan.meta.axes[plan.spatial[position]].key
                wrong.append(f"axis {axis} has {n} pixels, too few with border={border!r} for {listed}")
        if not wrong:
            return ""
        return (
            f"{'. '.join(wrong)}. Leave these out, choose another border, or compute them slice by slice "
            "where it is z: (feature, scale, '2d'), or in_2d=True for all."
        )

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        plan = self.plan
        self._compute(plan if slot is self.output else plan.parts[slot.index], roi, out)

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        super().propagate_dirty(slot, roi)
        for feature, plan in zip(self.features, self.plan.parts, strict=True):
            feature.mark_dirty(plan.output_roi(roi))

    def _filter(self, entry: tuple[Any, ...], axes: Sequence[Axis]) -> f.Filter:
        feature, scale, *dimensions = entry
        unit = self.unit.value
        sigma = tuple(
            in_pixels([scale], unit, [axis])[0] if used else None
            for axis, used in zip(axes, self.extended(axes, in_2d="2d" in dimensions), strict=True)
        )
        make = self._maker(feature)
        if self.compat.value == "none":
            return make(sigma, self.window.value)
        before = tuple(None if s is None else (sqrt(s * s - 1) if s > 1 else s) for s in sigma)
        inner = make(tuple(None if s is None else min(s, 1.0) for s in sigma), 2.0)
        if isinstance(inner, f.StructureTensorEigenvalues) and self.compat.value == "ilastik":
            inner = replace(inner, sigma=inner.outer, outer=inner.sigma)
        return Presmoothed(f.GaussianSmoothing(before, 3.5), inner)

    def _maker(self, feature: str) -> Callable[[_Sigmas, float], f.Filter]:
        make = FEATURES[feature][1]
        if not feature.endswith("eigenvalues"):
            return make
        return lambda sigma, window: replace(cast(Any, make(sigma, window)), precision=self.precision.value)
