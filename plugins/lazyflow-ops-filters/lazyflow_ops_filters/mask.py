"""Operators to and from masks: hysteresis threshold, distance to the background."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np
from lazyflow_core import ArrayMeta, Axis, ParameterSlot
from lazyflow_core.errors import SetupError

from lazyflow_ops_filters.base import OpFilter
from lazyflow_ops_filters.kernels.filters import Filter
from lazyflow_ops_filters.kernels.neighborhood import DistanceTransform, HysteresisThreshold
from lazyflow_ops_filters.units import PIXEL, in_pixels

__all__ = ["OpDistanceTransform", "OpHysteresisThreshold"]


class OpDistanceTransform(OpFilter):
    """Measure how far each pixel that is not zero is from the nearest pixel that is.

    Inputs
    ------
    image : InputSlot
        A mask; what lies beyond its border is not background.
    largest : ParameterSlot[float]
        Distances beyond this are this; required. Any region is exact, and needs this halo.
    unit : ParameterSlot[str]
        What distances are in: ``"pixel"``, or a length such as ``"micrometer"``, which takes different
        pixel sizes along the axes into account.

    Outputs
    -------
    output : OutputSlot, shape and axes of ``image``, float32
        0 on the background.

    All else as in `OpFilter`.
    """

    scratch = 14

    largest: ParameterSlot[float] = ParameterSlot(
        float,
        check=lambda v: None if isfinite(v) and v > 0 else "must be a positive number",
        doc="upper bound",
    )
    unit = ParameterSlot(str, default=PIXEL, doc="unit of distances: 'pixel', or a length")

    def make_filter(self, axes: Sequence[Axis]) -> Filter:
        pixel = tuple(
            1 / in_pixels([1.0], self.unit.value, [axis])[0] if self.filters(axis) else None for axis in axes
        )
        return DistanceTransform(self.largest.value, pixel)


class OpHysteresisThreshold(OpFilter):
    """Select pixels above a low threshold that are connected to one above a high threshold.

    Inputs
    ------
    low, high : ParameterSlot[float]
        The thresholds, ``low <= high``; a pixel equal to one is above it.
    reach : ParameterSlot[int]
        A pixel is selected if a path of at most this many steps leads from it to a pixel above ``high``,
        each step to a neighbour along one axis that is above ``low``. Any region is exact, and needs
        this halo.

    Outputs
    -------
    output : OutputSlot, shape and axes of ``image``, uint8
        1 where a pixel is selected, else 0.

    All else as in `OpFilter`.
    """

    low: ParameterSlot[float] = ParameterSlot(float, doc="lower threshold")
    high: ParameterSlot[float] = ParameterSlot(float, doc="upper threshold")
    reach = ParameterSlot(
        int,
        default=16,
        check=lambda v: None if v >= 0 else "must not be negative",
        doc="most steps of a path",
    )

    def output_dtype(self, meta: ArrayMeta) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    def output_range(self, meta: ArrayMeta) -> tuple[float, float] | None:
        return (0, 1)

    def make_filter(self, axes: Sequence[Axis]) -> Filter:
        low, high = self.low.value, self.high.value
        if not low <= high:
            raise SetupError(f"low={low:g} must not be above high={high:g}.")
        return HysteresisThreshold(low, high, self.reach.value, tuple(map(self.filters, axes)))
