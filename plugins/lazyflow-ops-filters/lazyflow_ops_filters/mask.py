"""Operators to and from masks: hysteresis threshold, distance to the background."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, prod
from typing import Any

import numpy as np
from lazyflow_core import ArrayMeta, Axis, OutputSlot, ParameterSlot, Roi
from lazyflow_core.errors import SetupError
from lazyflow_core.utility import memory_ledger

from lazyflow_ops_filters.base import OpFilter, Plan
from lazyflow_ops_filters.kernels.filters import Filter
from lazyflow_ops_filters.kernels.neighborhood import DistanceTransform, HysteresisThreshold
from lazyflow_ops_filters.units import PIXEL, in_pixels

__all__ = ["OpDistanceTransform", "OpHysteresisThreshold"]


class _OpReaching(OpFilter):
    """A filter whose result may depend on all of the image, unless a parameter bounds its reach.

    Outputs
    -------
    whole : OutputSlot[numpy.ndarray]
        All of the result; without a bound, ``output`` is cut from it.

    Regions
    -------
    pull   with a bound as in `OpFilter`; without, the first request reads the whole image.
    push   with a bound as in `OpFilter`; without, all of the frame or slice.

    Memory
    ------
    Without a bound the whole image, the whole result, and per pixel in between what ``ram_per_pixel`` says:
    all of it at the same time. The result is kept, and counts in `lazyflow_core.utility.memory_ledger` as
    long as it is: blocks of caches make room for it, it makes room only for others of its kind and where the
    budget is lowered, and is then computed again when it is asked for.
    """

    whole = OutputSlot(value=np.ndarray, doc="all of the result")

    def is_bounded(self) -> bool:
        """Return whether the result of a region depends on a neighbourhood only."""
        raise NotImplementedError(f"{type(self).__name__} has to define is_bounded.")

    def compute_value(self, slot: Any) -> np.ndarray[Any, Any]:
        meta, plan = self.output.meta, self.plan
        account = memory_ledger().account(f"filters.{type(self).__name__}")
        with account.reserved(int(self._ram_per_pixel(plan) * prod(meta.shape))):
            result = np.empty(meta.shape, meta.dtype)
            self._compute(plan, meta.roi, result)
        result.flags.writeable = False
        account.keep_value(slot, result, result.nbytes)  # any block needs all of it
        return result

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        if self.is_bounded():
            super().execute(slot, roi, out)
        else:
            out[...] = self.whole.value[roi.slicing]

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        self.whole.mark_dirty()
        super().propagate_dirty(slot, roi)

    def _ram_per_pixel(self, plan: Plan) -> float:
        if self.is_bounded():
            return super()._ram_per_pixel(plan)
        return 2 * self.output_dtype(plan.meta).itemsize + plan.meta.dtype.itemsize + 4 * self.scratch


def _check_largest(value: float) -> str | None:
    if 0 < value <= float(np.finfo(np.float32).max) or value == inf:
        return None
    return "must be a positive number that float32 can hold, or infinity"


class OpDistanceTransform(_OpReaching):
    """Measure how far each pixel that is not zero is from the nearest pixel that is.

    Inputs
    ------
    image : InputSlot
        A mask; what lies beyond its border is not background.
    largest : ParameterSlot[float]
        Distances beyond this are this; required. Any region is exact, and needs this halo. With infinity
        distances have no bound: they are measured over the whole image at once, and kept.
    unit : ParameterSlot[str]
        What distances are in: ``"pixel"``, or a length such as ``"micrometer"``, which takes different
        pixel sizes along the axes into account.

    Outputs
    -------
    output : OutputSlot, shape and axes of ``image``, float32
        0 on the background; infinite where there is none. A pixel that is NaN has no distance, NaN, and is no
        background for the others.
    whole : OutputSlot[numpy.ndarray]
        All of it as one array; without a bound ``output`` is cut from it.

    Memory
    ------
    With a bound as in `OpFilter`. Without, all at once: the image, 8 bytes per pixel of the result, and 56
    bytes per pixel of one frame while it is measured.

    Stopping
    --------
    With a bound in pieces of at least 65536 pixels, eight times as wide as the halo. Without, nobody can stop
    scipy while it measures a frame, or a slice: a cancelled request ends after it.

    All else as in `OpFilter`.
    """

    scratch = 14

    largest: ParameterSlot[float] = ParameterSlot(
        float,
        usual=(1, 100),
        step=1,
        check=_check_largest,
        doc="upper bound; infinity for none",
    )
    unit = ParameterSlot(str, default=PIXEL, doc="unit of distances: 'pixel', or a length")

    def is_bounded(self) -> bool:
        return self.largest.value != inf

    def make_filter(self, axes: Sequence[Axis]) -> Filter:
        pixel = tuple(
            1 / in_pixels([1.0], self.unit.value, [axis])[0] if self.filters(axis) else None for axis in axes
        )
        return DistanceTransform(self.largest.value, pixel)


def _check_reach(value: float) -> str | None:
    return None if value == inf or value == int(value) else "is no number of steps"


class OpHysteresisThreshold(_OpReaching):
    """Select pixels above a low threshold that are connected to one above a high threshold.

    Inputs
    ------
    low, high : ParameterSlot[float]
        The thresholds, ``low <= high``; a pixel equal to one is above it, one that is NaN never. Compared
        exactly with integers, with floating point after rounding the threshold to the image's dtype.
    reach : ParameterSlot[float]
        A pixel is selected if a path of at most this many steps leads from it to a pixel above ``high``,
        each step to a neighbour along one axis that is above ``low``. Any region is exact, and needs
        this halo. With infinity whole objects are selected: they are found in the whole image at once, and
        kept.

    Outputs
    -------
    output : OutputSlot, shape and axes of ``image``, uint8
        1 where a pixel is selected, else 0.
    whole : OutputSlot[numpy.ndarray]
        All of it as one array; without a bound ``output`` is cut from it.

    Memory
    ------
    With a bound as in `OpFilter`. Without, all at once: the image, 2 bytes per pixel of the result, and 16
    bytes per pixel of one frame while its objects are found.

    Stopping
    --------
    As in `OpDistanceTransform`: without a bound a cancelled request ends after the frame.

    All else as in `OpFilter`.
    """

    low: ParameterSlot[float] = ParameterSlot(float, doc="lower threshold")
    high: ParameterSlot[float] = ParameterSlot(float, doc="upper threshold")
    reach = ParameterSlot(
        float,
        default=16,
        range=(0, None),
        usual=(0, 64),
        step=1,
        check=_check_reach,
        doc="most steps of a path; infinity for whole objects",
    )

    def is_bounded(self) -> bool:
        return self.reach.value != inf

    def output_dtype(self, meta: ArrayMeta) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    def output_range(self, meta: ArrayMeta) -> tuple[float, float] | None:
        return (0, 1)

    def make_filter(self, axes: Sequence[Axis]) -> Filter:
        low, high = self.low.value, self.high.value
        if not low <= high:
            raise SetupError(f"low={low:g} must not be above high={high:g}.")
        return HysteresisThreshold(low, high, self.reach.value, tuple(map(self.filters, axes)))
