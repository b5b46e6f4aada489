"""Convert pixels from one dtype to another by a stated policy, the same on every machine.

What C does with a float that does not fit an integer is undefined, and differs between processors and
between vectorized and plain loops; here nothing is left to it.
"""

from __future__ import annotations

from math import isfinite
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from lazyflow_core.blocks import pieces

__all__ = ["POLICIES", "check_dtype", "convert", "converted_range"]

Array = npt.NDArray[Any]

#: What becomes of a value that does not fit.
POLICIES: Final = ("clip", "wrap", "raise")


def check_dtype(name: str) -> str | None:
    """Return why a text is not the name of a dtype of real numbers; None if it is."""
    try:
        dtype = np.dtype(name)
    except Exception:  # numpy's depends on the text: '9:1' is a SyntaxError
        return "is no dtype; write it like 'uint8' or 'float32'"
    return None if dtype.kind in "buif" else "is no dtype of real numbers"


def convert(source: Array, out: Array, overflow: str) -> None:
    """Write ``source`` into ``out`` in the dtype of ``out``.

    Parameters
    ----------
    source
        Real numbers; not changed.
    out
        Array of the same shape, any strides and byte order.
    overflow
        One of `POLICIES`, see `OpCast`.

    Raises
    ------
    OverflowError
        For ``"raise"``, if a value does not fit; names the first one.

    Examples
    --------
    >>> out = np.empty(5, np.uint8)
    >>> convert(np.array([np.nan, -1.5, 0.5, 2.6, 300.7]), out, "clip")
    >>> out
    array([  0,   0,   0,   3, 255], dtype=uint8)
    """
    for key in pieces(out.shape):
        _convert(source[key], out[key], overflow)


def _convert(source: Array, out: Array, overflow: str) -> None:
    if out.dtype.kind == "b":
        np.copyto(out, (source != 0) & (source == source))  # NaN differs from itself
    elif out.dtype.kind == "f":
        _to_float(source, out, overflow)
    elif source.dtype.kind == "f":
        _float_to_integer(source, out, overflow)
    else:
        _integer_to_integer(source, out, overflow)


def converted_range(
    value_range: tuple[float, float] | None, dtype: np.dtype[Any], overflow: str
) -> tuple[float, float] | None:
    """Return the range of converted pixels, as they are in that dtype; None if it is unknown."""
    if value_range is None or not all(map(isfinite, value_range)):
        return None
    if dtype.kind == "b":
        return (0, 1)
    low, high = value_range
    if dtype.kind == "f":
        largest = float(np.finfo(dtype).max)
        lowest, highest = -largest, largest
    else:
        lowest, highest = np.iinfo(dtype).min, np.iinfo(dtype).max
        low, high = round(low), round(high)
    if lowest <= low <= high <= highest:
        return (low, high) if dtype.kind != "f" else (float(dtype.type(low)), float(dtype.type(high)))
    if overflow == "wrap":
        return None if dtype.kind == "f" else (lowest, highest)
    return (min(max(low, lowest), highest), min(max(high, lowest), highest))


def _to_float(source: Array, out: Array, overflow: str) -> None:
    with np.errstate(over="ignore"):
        np.copyto(out, source, casting="unsafe")
    always_fits = source.dtype.kind != "f" and out.dtype.itemsize > 2
    if overflow == "wrap" or always_fits or np.can_cast(source.dtype, out.dtype):
        return
    lost = np.isinf(out) & np.isfinite(source)
    if lost.any():
        if overflow == "raise":
            raise _does_not_fit(source[lost].flat[0], out.dtype)
        out[lost] = np.copysign(np.finfo(out.dtype).max, out[lost])


def _integer_to_integer(source: Array, out: Array, overflow: str) -> None:
    bounds = np.iinfo(out.dtype)
    if source.dtype.kind == "b" or overflow == "wrap":
        np.copyto(out, source, casting="unsafe")
        return
    own = np.iinfo(source.dtype)
    low, high = max(own.min, bounds.min), min(own.max, bounds.max)
    if (low, high) == (own.min, own.max):
        np.copyto(out, source, casting="unsafe")
        return
    if overflow == "raise":
        lost = (source < low) | (source > high)
        if lost.any():
            raise _does_not_fit(source[lost].flat[0], out.dtype)
    np.copyto(out, np.clip(source, low, high), casting="unsafe")


def _float_to_integer(source: Array, out: Array, overflow: str) -> None:
    if source.dtype.itemsize < 4:
        source = source.astype(np.float32)  # exact, and wide enough for the bounds below
    bounds = np.iinfo(out.dtype)
    rounded = np.rint(source)
    # The largest number may not exist in the source's dtype: 2**31 - 1 is none of float32. The smallest
    # is 0 or a power of two and always does.
    low = source.dtype.type(bounds.min)
    high = source.dtype.type(bounds.max)
    inexact = int(high) > bounds.max
    if inexact:
        high = np.nextafter(high, source.dtype.type(0))
    # Written so that NaN is lost, too.
    fits = (rounded >= low) & (rounded <= high)
    if fits.all():
        np.copyto(out, rounded, casting="unsafe")
        return
    if overflow == "raise":
        raise _does_not_fit(source[~fits].flat[0], out.dtype)
    if overflow == "wrap":
        _wrap(rounded, out)
        return
    too_high = rounded > high
    rounded[np.isnan(rounded)] = 0
    np.copyto(out, np.clip(rounded, low, high, out=rounded), casting="unsafe")
    if inexact:
        out[too_high] = bounds.max


def _wrap(whole: Array, out: Array) -> None:
    """Write whole numbers modulo the range of an integer dtype; what is not finite becomes 0."""
    whole[~np.isfinite(whole)] = 0
    period = 2.0 ** (8 * out.dtype.itemsize)
    whole = np.fmod(whole, period)  # exact, and of the sign of the dividend
    # Into the range of int64, where the step to any narrower integer is exact by definition.
    whole[whole >= period / 2] -= period
    whole[whole < -period / 2] += period
    np.copyto(out, whole.astype(np.int64), casting="unsafe")


def _does_not_fit(value: Any, dtype: np.dtype[Any]) -> OverflowError:
    return OverflowError(
        f"the pixel value {value} does not fit {dtype}; choose another dtype, or overflow='clip' or 'wrap'."
    )
