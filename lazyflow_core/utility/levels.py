"""Comparing pixels with a level as numbers are compared, whatever the dtype."""

from __future__ import annotations

from math import ceil, floor, isinf, isnan
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["is_above"]


def is_above(
    image: npt.NDArray[Any], level: float, *, or_equal: bool = False, out: npt.NDArray[Any] | None = None
) -> npt.NDArray[Any]:
    """Return which pixels are larger than a level.

    Integers are compared exactly, also where float64 has no such numbers. A level between two numbers of a
    floating point dtype means the nearest of them, so that 0.1 is not below a float32 pixel of 0.1; one
    beyond all of its finite numbers is compared as it is. NaN is never larger, nothing is larger than NaN.

    Parameters
    ----------
    image
        Real numbers of any dtype and shape.
    level
        What to compare with.
    or_equal
        Whether a pixel equal to the level counts.
    out
        Where to write, any dtype; a new array of bool if left out.

    Examples
    --------
    >>> import numpy as np
    >>> is_above(np.array([2**53, 2**53 + 1]), 2.0**53).tolist()
    [False, True]
    >>> is_above(np.array([65504, np.inf], np.float16), 1e5).tolist()
    [False, True]
    """
    result = np.empty(image.shape, bool) if out is None else out
    compare = np.greater_equal if or_equal else np.greater
    if isnan(level):
        result[...] = False
        return result
    bound: Any
    if image.dtype.kind == "f":
        bound = _in_dtype(level, image.dtype, or_equal)
    else:
        if image.dtype.kind == "b":
            image = image.view(np.uint8)
        least, most = np.iinfo(image.dtype).min, np.iinfo(image.dtype).max
        # Above the level is above its floor, at least the level is at least its ceiling.
        bound = level if isinf(level) else ceil(level) if or_equal else floor(level)
        if bound > most or bound < least:
            result[...] = bound < least
            return result
        bound = image.dtype.type(bound)
    compare(image, bound, out=result, casting="unsafe")
    return result


def _in_dtype(level: float, dtype: np.dtype[Any], or_equal: bool) -> Any:
    """Return the number of a floating point dtype that parts its numbers as a level does."""
    with np.errstate(over="ignore"):
        bound = dtype.type(level)
    if isinf(level) or not np.isinf(bound):
        return bound
    # Of all that the dtype has, only an infinity lies beyond.
    largest = np.finfo(dtype).max
    if level > 0:
        return bound if or_equal else largest
    return -largest if or_equal else bound
