"""`OpRescaleRange`: values mapped linearly from one range to another."""

from __future__ import annotations

from math import ceil, floor, isfinite
from typing import Any

import numpy as np
from lazyflow_core import ArrayMeta, ParameterSlot, Roi
from lazyflow_core.blocks import pieces
from lazyflow_core.errors import SetupError
from lazyflow_core.utility import is_above

from lazyflow_ops_array.base import OpPointwise, check_real, ram_per_pixel
from lazyflow_ops_array.conversion import check_dtype, convert

__all__ = ["OpRescaleRange"]


def _check_range(value: tuple[Any, ...]) -> str | None:
    if not value:
        return None
    if len(value) != 2 or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in value):
        return "is not (lowest, highest), or () for the usual range"
    return (
        None if all(map(isfinite, value)) and value[0] < value[1] else "needs lowest < highest, both finite"
    )


def _usual_range(dtype: np.dtype[Any]) -> tuple[float, float]:
    if dtype.kind in "ui":
        bounds = np.iinfo(dtype)
        return (bounds.min, bounds.max)
    return (0, 1)


class OpRescaleRange(OpPointwise):
    """Map values linearly from one range to another; what lies outside is clipped.

    Inputs
    ------
    image : InputSlot, any axes, any real dtype
    from_range : ParameterSlot[tuple]
        Lowest and highest value of the image. Empty: the value range of its meta if it has one, else the
        range of an integer dtype, else an error.
    to_range : ParameterSlot[tuple]
        What they become. Empty: the range of an integer ``dtype``, else 0 to 1.
    dtype : ParameterSlot[str]
        Name of the dtype of the result. Integers are rounded to the nearest; NaN becomes 0 in them.

    Outputs
    -------
    output : OutputSlot, shape and axes of ``image``, ``dtype``

    Regions
    -------
    pull   ``roi`` needs the same ``roi``.
    push   a dirty ROI stays as it is; a new range or dtype makes everything dirty.

    Memory
    ------
    The input region, the result, and four copies in the floating point dtype used in between, which is
    float32 where that holds all values of image, result and ranges exactly, else float64. 64-bit integers are
    exact within the range of the image, and as exact as float64 in the result.

    Threading
    ---------
    ``execute`` keeps no state; any number may run at once.

    Raises
    ------
    SetupError
        If nothing says what range the image has, or ``to_range`` does not fit ``dtype``.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> rescale = OpRescaleRange(graph=Graph(), image=np.array([[0.0, 0.5, 2.0]]), from_range=(0, 1))
    >>> rescale.output.read()
    array([[  0, 128, 255]], dtype=uint8)
    """

    from_range = ParameterSlot(tuple, default=(), check=_check_range, doc="lowest and highest value before")
    to_range = ParameterSlot(tuple, default=(), check=_check_range, doc="lowest and highest value after")
    dtype = ParameterSlot(str, default="uint8", check=check_dtype, doc="dtype of the result")

    def setup_outputs(self) -> None:
        meta = self.image.meta
        check_real(meta)
        dtype = np.dtype(self.dtype.value)
        self._source_range(meta)
        low, high = self._target_range()
        if dtype.kind == "f":
            largest = float(np.finfo(dtype).max)
            bounds = (-largest, largest)
        else:
            bounds = _usual_range(dtype)
        if not bounds[0] <= low < high <= bounds[1]:
            raise SetupError(f"to_range {(low, high)} does not fit dtype {dtype}, which has {bounds}.")
        # As pixels have it: rounded to integers, or to the precision of the dtype.
        new_range = tuple(map(round if dtype.kind != "f" else lambda v: float(dtype.type(v)), (low, high)))
        self.set_output(
            meta.replace(
                dtype=dtype,
                value_range=new_range,
                semantics="intensities",
                ram_per_pixel=ram_per_pixel(meta, dtype, 4 * self._working_dtype().itemsize),
            )
        )

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        new_low, new_high = self._target_range()
        image = self.image.read(roi)
        for key in pieces(out.shape):
            # To 0..1 first: both ends then become the ends of the new range exactly.
            values = self._as_fractions(image[key])
            result = (1 - values) * new_low
            result += values * new_high
            np.clip(result, new_low, new_high, out=result)
            convert(result, out[key], "clip")

    def _as_fractions(self, image: Any) -> Any:
        """Return where in the range pixels are: 0 at or below its lower end, 1 at or above the upper one."""
        low, high = self._source_range(self.image.meta)
        dtype = self._working_dtype()
        if image.dtype.kind in "iu" and image.dtype.itemsize == 8:
            # Exactly: float64 cannot tell neighbours beyond 2**53 apart.
            bounds = np.iinfo(image.dtype)
            least, most = max(ceil(low), bounds.min), min(floor(high), bounds.max)
            if least <= most:
                steps = np.clip(image, least, most).astype(np.uint64) - np.uint64(least % 2**64)
                fractions = (steps.astype(dtype) + float(least - low)) / float(high - low)
                return np.where(
                    is_above(image, high, or_equal=True), 1, np.where(image < least, 0, fractions)
                )
        values = image.astype(dtype)
        np.clip(values, low, high, out=values)
        if isfinite(high - low):
            values -= low
            values /= high - low
        else:
            values = (values / 2 - low / 2) / (high / 2 - low / 2)
        return values

    def _source_range(self, meta: ArrayMeta) -> tuple[float, float]:
        low, high = self.from_range.value or meta.value_range or (0, 0)
        if low < high and isfinite(low) and isfinite(high):
            return low, high
        if meta.dtype.kind in "ui":
            return _usual_range(meta.dtype)
        raise SetupError(
            f"nothing says what values the image has (dtype {meta.dtype}, value range {meta.value_range}); "
            "give from_range."
        )

    def _target_range(self) -> tuple[float, float]:
        return self.to_range.value or _usual_range(np.dtype(self.dtype.value))

    def _working_dtype(self) -> np.dtype[Any]:
        ends = np.array([*self._source_range(self.image.meta), *self._target_range()], np.float64)
        with np.errstate(over="ignore"):
            exact = bool((ends.astype(np.float32) == ends).all())
        dtype = np.result_type(self.image.meta.dtype, np.dtype(self.dtype.value), np.float32)
        return dtype if exact else np.promote_types(dtype, np.float64)
