"""Filters by ``scipy.ndimage.correlate1d``: always there, and in float64 what all others are compared to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy
from lazyflow_core.blocks import pieces
from scipy.ndimage import correlate1d

from lazyflow_ops_filters.kernels.backend import (
    Backend,
    Job,
    Region,
    fitting_precision,
)
from lazyflow_ops_filters.kernels.border import SCIPY_MODES
from lazyflow_ops_filters.kernels.filters import Filter

__all__ = ["ScipyBackend"]

Array = npt.NDArray[Any]

#: Pixels times weights that scipy works on between two looks for a cancellation: some milliseconds.
_PASS_TAPS = 1 << 22


class ScipyBackend(Backend):
    """scipy: sums in float64, and rounds to its precision for the image after each axis.

    Parameters
    ----------
    dtype
        ``float32``, or ``float64`` for a reference.
    """

    name = "scipy"

    def __init__(self, dtype: npt.DTypeLike = np.float32) -> None:
        self.dtype = np.dtype(dtype)

    def precision(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return float64 for what float32 does not hold."""
        return np.promote_types(self.dtype, fitting_precision(dtype))

    def apply(self, filter: Filter, job: Job) -> bool | None:
        """Run a filter as it is defined; what float32 cannot hold is infinite."""
        with np.errstate(over="ignore", invalid="ignore"):
            return super().apply(filter, job)

    def convolve(
        self, image: Array, kernels: Sequence[Array | None], border: str, region: Region, out: Array
    ) -> None:
        reach = [0 if k is None else len(k) // 2 for k in kernels]
        start = [max(0, s.start - r) for s, r in zip(region, reach, strict=True)]
        stop = [min(n, s.stop + r) for s, r, n in zip(region, reach, image.shape, strict=True)]
        data = image[tuple(map(slice, start, stop))]
        precision = self.precision(image.dtype)
        if data.dtype.char not in "bBhHiIlLqQfd":
            data = data.astype(precision)  # scipy has no float16, no bool and no long double
        # Where nothing is cut off after a pass, each is written over the one before, as scipy itself does.
        in_place = data.shape == out.shape and out.dtype == precision
        for axis, weights in enumerate(kernels):
            if weights is None:
                continue
            output = out if in_place else np.empty(data.shape, precision)
            # Cut along the other axes, of which a pass knows nothing.
            others = data.shape[:axis] + data.shape[axis + 1 :]
            for key in pieces(others, _PASS_TAPS // (len(weights) * max(1, data.shape[axis]))):
                if len(key) > axis:
                    key = (*key[:axis], slice(None), *key[axis:])
                correlate1d(data[key], weights, axis, output=output[key], mode=SCIPY_MODES[border])
            data = output
            if not in_place:
                kept = slice(region[axis].start - start[axis], region[axis].stop - start[axis])
                data = data[(slice(None),) * axis + (kept,)]
        if data is not out:
            for key in pieces(out.shape):
                out[key] = data[key]

    def describe(self) -> str:
        """Return the version of scipy."""
        return f"scipy {scipy.__version__}"
