"""Ranks of the values around each pixel by numpy, for all that can be compared.

What is compared is cut into pieces with a `checkpoint` between them, small enough for the caches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from lazyflow_core.request import checkpoint

from lazyflow_ops_filters.kernels.border import NUMPY_MODES
from lazyflow_ops_filters.kernels.footprint import Footprint

if TYPE_CHECKING:
    from lazyflow_ops_filters.kernels.backend import Job

__all__ = ["rank_by_numpy"]

Array = npt.NDArray[Any]

#: Values that are put in order at a time: some milliseconds.
_WINDOW_VALUES = 1 << 18


def rank_by_numpy(job: Job, footprint: Footprint, rank: int) -> None:
    """Write the value of a rank among those around each pixel, see `Backend.rank`.

    Extremes are found by comparing runs of pixels, see ``native/extreme.h``; other ranks by putting all
    values around each pixel in order. Measured beside ``scipy.ndimage``, that is five times faster or, for
    ranks of small integers, up to 1.5 times slower; but it can be stopped, and tells all numbers apart.
    """
    wide = job.grown(footprint.radius)
    missing = [
        (r - (s.start - w.start), r - (w.stop - s.stop))
        for r, s, w in zip(footprint.radius, job.region, wide.region, strict=True)
    ]
    padded = np.pad(job.image[wide.region], missing, NUMPY_MODES[job.border])
    if rank == 0:
        _extreme(padded, footprint, np.minimum, job.out)
    elif rank == footprint.size - 1:
        _extreme(padded, footprint, np.maximum, job.out)
    else:
        _by_windows(padded, footprint.mask, rank, job.out)


def _extreme(padded: Array, footprint: Footprint, function: np.ufunc, out: Array) -> None:
    if footprint.is_box:
        for axis, radius in enumerate(footprint.radius):
            padded = _runs(padded, axis, 2 * radius + 1, function)
        out[...] = padded
        return
    last = out.ndim - 1
    reach = footprint.reach
    is_first = True
    for r in np.unique(reach[reach >= 0]):
        skipped = footprint.radius[-1] - r
        runs = _runs(padded, last, int(2 * r + 1), function)[..., skipped : skipped + out.shape[-1]]
        for offset in np.argwhere(reach == r):
            rows = runs[tuple(slice(o, o + n) for o, n in zip(offset, out.shape[:-1], strict=True))]
            if is_first:
                out[...] = rows
            else:
                function(out, rows, out=out)
            is_first = False
            checkpoint()


def _runs(array: Array, axis: int, run: int, function: np.ufunc) -> Array:
    """Return the extremes of all runs of pixels along an axis, by doubling."""
    have = 1
    while have < run:
        checkpoint()
        step = min(have, run - have)
        first, second = [slice(None)] * array.ndim, [slice(None)] * array.ndim
        first[axis], second[axis] = slice(0, array.shape[axis] - step), slice(step, None)
        array = function(array[tuple(first)], array[tuple(second)])
        have += step
    return array


def _by_windows(padded: Array, mask: npt.NDArray[np.bool_], rank: int, out: Array) -> None:
    windows = np.lib.stride_tricks.sliding_window_view(padded, mask.shape)
    step = max(1, _WINDOW_VALUES // int(mask.sum()))
    for row in np.ndindex(out.shape[:-1]):
        for start in range(0, out.shape[-1], step):
            values = windows[row][start : start + step][:, mask]
            out[row][start : start + step] = np.partition(values, rank, axis=1)[:, rank]
            checkpoint()
