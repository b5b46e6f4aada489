"""Operators that order the pixels around each pixel: minimum, median, maximum, morphology."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, isfinite
from typing import Any

import numpy as np
from lazyflow_core import ArrayMeta, Axis, ParameterSlot

from lazyflow_ops_filters.base import OpFilter, backend_slot
from lazyflow_ops_filters.kernels.backend import Backend
from lazyflow_ops_filters.kernels.border import BORDERS
from lazyflow_ops_filters.kernels.filters import Filter
from lazyflow_ops_filters.kernels.footprint import SHAPES, Footprint
from lazyflow_ops_filters.kernels.neighborhood import OPERATIONS, Morphology, Rank
from lazyflow_ops_filters.kernels.selection import get_backend
from lazyflow_ops_filters.units import PIXEL, in_pixels

__all__ = ["OpMaximum", "OpMedian", "OpMinimum", "OpMorphology", "OpPercentile"]


def _check_radius(value: float | tuple[float, ...]) -> str | None:
    for r in value if isinstance(value, tuple) else (value,):
        if isinstance(r, bool) or not isinstance(r, (int, float)) or not isfinite(r):
            wrong = "is not a finite number"
            return f"holds {r!r}, which {wrong}" if isinstance(value, tuple) else wrong
    return None


class _OpFootprint(OpFilter):
    """What operators with a neighbourhood share.

    Inputs
    ------
    radius : ParameterSlot[float | tuple]
        How far the neighbourhood reaches from its centre, rounded down to pixels; one number or one per
        filtered axis in the order z, y, x.
    unit : ParameterSlot[str]
        What ``radius`` is given in: ``"pixel"``, or a length such as ``"micrometer"``.
    shape : ParameterSlot[str]
        ``"box"``, or ``"ball"``: the ellipsoid with these radii.
    border : ParameterSlot[str]
        What lies beyond the border: ``"mirror"``, ``"reflect"``, ``"nearest"`` or ``"zero"``.
    backend : ParameterSlot[str]
        Whose kernels run: ``"auto"``, ``"native"``, ``"scipy"``, ``"vigra"``, or what a plugin offers. The
        results are the same; native ones take 20 to 30 times less time.

    Outputs
    -------
    output : OutputSlot, shape, axes and dtype of ``image``
        A pixel with a NaN in its neighbourhood is NaN.

    All else as in `OpFilter`; the halo is the radius, twice for operations of two steps.
    """

    radius = ParameterSlot(
        float | tuple,
        default=1.0,
        range=(0, None),
        usual=(0, 10),
        step=1,
        check=_check_radius,
        doc="reach of the neighbourhood",
    )
    unit = ParameterSlot(str, default=PIXEL, doc="unit of radius: 'pixel', or a length such as 'micrometer'")
    shape = ParameterSlot(str, default="box", choices=SHAPES, doc="shape of the neighbourhood")
    border = ParameterSlot(str, default="mirror", choices=BORDERS, doc="what lies beyond the border")

    backend = backend_slot()

    def get_backend(self) -> Backend:
        return get_backend(self.backend.value)

    def border_name(self) -> str:
        return self.border.value

    def output_dtype(self, meta: ArrayMeta) -> np.dtype[Any]:
        return meta.dtype.newbyteorder("=")

    def output_range(self, meta: ArrayMeta) -> tuple[float, float] | None:
        return meta.value_range

    def footprint(self, axes: Sequence[Axis]) -> Footprint:
        """Return the neighbourhood in pixels, per spatial axis."""
        filtered = [axis for axis in axes if self.filters(axis)]
        pixels = iter(in_pixels(self.per_axis(self.radius, axes), self.unit.value, filtered))
        return Footprint(
            tuple(floor(next(pixels) + 1e-9) if self.filters(axis) else 0 for axis in axes), self.shape.value
        )


class OpMinimum(_OpFootprint):
    """Take the smallest value around each pixel: grey erosion."""

    def make_filter(self, axes: Sequence[Axis]) -> Filter:
        return Rank(self.footprint(axes), 0)


class OpMedian(_OpFootprint):
    """Take the median of the values around each pixel: removes specks and keeps edges.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> with Graph() as graph:
    ...     speck = np.array([[0, 0, 9, 1, 1]], dtype=np.uint8)
    ...     OpMedian(graph=graph, image=speck, radius=1).output.read().tolist()
    [[0, 0, 1, 1, 1]]
    """

    def make_filter(self, axes: Sequence[Axis]) -> Filter:
        return Rank(self.footprint(axes), 50)


class OpMaximum(_OpFootprint):
    """Take the largest value around each pixel: grey dilation."""

    def make_filter(self, axes: Sequence[Axis]) -> Filter:
        return Rank(self.footprint(axes), 100)


class OpPercentile(_OpFootprint):
    """Take the value below which a percentage of the values around each pixel lies.

    Inputs
    ------
    percentile : ParameterSlot[float]
        0 to 100. Always the value of a pixel: between two, the position is rounded down as scipy does.

    All else as in the operators beside it.
    """

    percentile = ParameterSlot(float, default=50.0, range=(0, 100), step=1, doc="percent that are not larger")

    def make_filter(self, axes: Sequence[Axis]) -> Filter:
        return Rank(self.footprint(axes), self.percentile.value)


class OpMorphology(_OpFootprint):
    """Erode, dilate, open or close a grey image or a mask by a flat neighbourhood.

    Inputs
    ------
    operation : ParameterSlot[str]
        ``erosion``, ``dilation``, ``opening``, ``closing``, ``gradient`` (dilation minus erosion),
        ``white_top_hat`` (the image minus its opening) or ``black_top_hat`` (its closing minus the image);
        these three are never below 0.

    Outputs
    -------
    output : OutputSlot, shape, axes and dtype of ``image``
        ``gradient`` and the top hats of signed integers are unsigned ones of the same size, which hold any
        difference.

    In a mask, that is an image of dtype bool or of integers between 0 and 1 according to its meta, all that
    is not 0 is 1.

    All else as in the operators beside it.
    """

    operation = ParameterSlot(str, choices=tuple(OPERATIONS), doc="what to do")

    def make_filter(self, axes: Sequence[Axis]) -> Morphology:
        meta = self.image.meta
        mask = meta.dtype.kind in "bui" and meta.value_range == (0, 1)
        return Morphology(self.footprint(axes), self.operation.value, mask)

    def output_dtype(self, meta: ArrayMeta) -> np.dtype[Any]:
        return self.make_filter([meta.axes[i] for i in meta.axes.spatial]).dtype(meta.dtype)

    def output_range(self, meta: ArrayMeta) -> tuple[float, float] | None:
        if meta.value_range is None or self.operation.value in ("erosion", "dilation", "opening", "closing"):
            return meta.value_range
        return (0, meta.value_range[1] - meta.value_range[0])
