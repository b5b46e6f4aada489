"""What a library of kernels must offer to compute our filters.

One method is enough: a separable convolution. A backend that knows a faster way to put pixels in order
overrides `Backend.rank`, to a whole filter `Backend.apply`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from lazyflow_core.request import checkpoint

from lazyflow_ops_filters.kernels.filters import Filter
from lazyflow_ops_filters.kernels.footprint import Footprint
from lazyflow_ops_filters.kernels.ordering import rank_by_numpy

__all__ = ["Backend", "Job", "Region", "fitting_precision"]

Array = npt.NDArray[Any]
#: Pixels that numpy works on at a time: they stay in the caches, and are a few milliseconds.
_PIXELS = 1 << 17
#: What to compute of an image, as one slice per axis with ``0 <= start <= stop <= length``, no step.
Region = tuple[slice, ...]


@dataclass(frozen=True)
class Job:
    """One filter to be run over a region of one image.

    Attributes
    ----------
    image
        Real numbers; only filtered axes. It holds the region and the filter's halo, as far as the whole
        image reaches: where the halo is missing, there is the border of the whole image.
    border
        What lies beyond it, one of `BORDERS`.
    region
        What is computed.
    outs
        Where to, one array of the region's shape per result of the filter; any strides, never overlapping.
        None in place of a result that nobody asked for, but never for all of them.
    """

    image: Array
    border: str
    region: Region
    outs: Sequence[Array | None]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the region."""
        return tuple(s.stop - s.start for s in self.region)

    @property
    def out(self) -> Array:
        """Destination of a filter with a single result."""
        (out,) = self.outs
        assert out is not None
        return out

    def scratch(self, backend: Backend) -> Array:
        """Return a new array of the region's shape in the precision that a backend has for the image."""
        return np.empty(self.shape, backend.precision(self.image.dtype))

    def with_outs(self, outs: Sequence[Array | None]) -> Job:
        """Return the same job with other destinations."""
        return Job(self.image, self.border, self.region, outs)

    def grown(self, halo: Sequence[int]) -> Job:
        """Return a job without destinations for the region and what is around it in the image."""
        region = tuple(
            slice(max(0, s.start - h), min(n, s.stop + h))
            for s, h, n in zip(self.region, halo, self.image.shape, strict=True)
        )
        return Job(self.image, self.border, region, ())

    def parts(self, pixels: int) -> Iterator[Job]:
        """Yield jobs for the pieces of the region, of about so many pixels, with a checkpoint before each.

        Any region has the same values as the whole, so pieces have. What a filter does to whole arrays goes
        on for a few milliseconds this way, whatever the size of the region.
        """
        shape = self.shape
        if prod(shape) <= pixels:
            checkpoint()
            yield self
            return
        axis = max(range(len(shape)), key=shape.__getitem__)
        half = shape[axis] // 2
        for piece in (slice(0, half), slice(half, shape[axis])):
            cut = (slice(None),) * axis + (piece,)
            first, last = self.region[axis].start + piece.start, self.region[axis].start + piece.stop
            region = (*self.region[:axis], slice(first, last), *self.region[axis + 1 :])
            outs = [None if out is None else out[cut] for out in self.outs]
            yield from Job(self.image, self.border, region, outs).parts(pixels)

    def inside(self, source: Job, image: Array, outs: Sequence[Array | None]) -> Job:
        """Return the job for this region in an image that was computed as the region of another job."""
        region = tuple(
            slice(s.start - o.start, s.stop - o.start)
            for s, o in zip(self.region, source.region, strict=True)
        )
        return Job(image, self.border, region, outs)


class Backend(ABC):
    """A library of kernels.

    Backends keep no state, and any thread may call them; they should release the GIL while they compute.

    Attributes
    ----------
    name
        What users write to choose it.
    dtype
        Precision of what it computes in between, for images of which it holds every number.
    """

    name: str = ""
    dtype: np.dtype[Any] = np.dtype(np.float32)

    @abstractmethod
    def convolve(
        self, image: Array, kernels: Sequence[Array | None], border: str, region: Region, out: Array
    ) -> None:
        """Correlate along each axis with its weights, one axis after the other, and write a region.

        Parameters
        ----------
        image
            Any real dtype; integers are not rounded on the way.
        kernels
            Weights per axis, of odd length, the centre in the middle, `kernel` gives them; None leaves the
            axis alone.
        border, region
            As in `Job`.
        out
            The destination, of the region's shape.
        """

    def rank(self, footprint: Footprint, rank: int, job: Job) -> None:
        """Write the value of a rank among those around each pixel.

        All backends give the same values, so that this one, by numpy, serves where another has no way.

        Parameters
        ----------
        footprint
            What is around a pixel. Its radius is 0 along axes of one pixel.
        rank
            0 for the smallest value.
        job
            An image of any real dtype of native byte order but bool and float16, without NaN; ``out`` has its
            dtype.
        """
        for part in job.parts(_PIXELS):
            rank_by_numpy(part, footprint, rank)

    def run(self, filter: Filter, job: Job) -> None:
        """Run a filter in float32 where that is enough, else in float64; called by operators and functions.

        A result is computed in float32 if that is the dtype of the image, or if every number it depends on
        has few enough digits for it; and if that gives a finite number. Else in float64, if the backend can.
        It follows from the pixels around the result alone, so blocks are still equal to the whole.
        """
        if not filter.in_floats or self.precision(np.dtype(np.float64)) == self.dtype:
            self.apply(filter, job)
            return
        with np.errstate(over="ignore", invalid="ignore"):
            self._run_in_what_is_enough(filter, job)

    def _run_in_what_is_enough(self, filter: Filter, job: Job) -> None:
        image = job.image
        inexact = _not_in_float32(image)
        wide = inexact is not None and bool(inexact.all())
        if wide or max(filter.halo(image.shape)) > _LARGEST_HALO_OF_FLOATS:
            self.apply(filter, replace(job, image=image.astype(np.float64)))
            return
        single = image if np.can_cast(image.dtype, np.float32) else image.astype(np.float32)
        finite = self.apply(filter, replace(job, image=single))
        if finite is None:
            finite = all(out is None or bool(np.isfinite(out).all()) for out in job.outs)
        overflown = not finite and _has_large_numbers(single)
        if inexact is None and not overflown:
            return
        again = _where_floats_fail(filter, job, inexact, overflown)
        exact = [None if mask is None else np.empty(job.shape, np.float32) for mask in again]
        if not any(out is not None for out in exact):
            return
        self.apply(filter, replace(job, image=image.astype(np.float64), outs=exact))
        for out, new, mask in zip(job.outs, exact, again, strict=True):
            if out is not None and new is not None:
                np.copyto(out, new, where=mask)

    def apply(self, filter: Filter, job: Job) -> bool | None:
        """Run a filter in the precision for the dtype of the image; by default as it is defined.

        Returns whether all results are finite numbers; None if it is not known.
        """
        filter.compute(self, job)
        return None

    def precision(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the precision of what is computed in between for images of a dtype.

        By default `dtype`, whatever the image; the numbers of the image are then rounded to it.
        """
        return self.dtype

    def refuses(self, filter: Filter, border: str) -> str:
        """Return why this backend cannot run a filter, as the end of a sentence; empty if it can."""
        return ""

    def describe(self) -> str:
        """Return what stands behind it, with version, for people."""
        return self.name


def fitting_precision(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return float32 if it holds all numbers of a dtype, else float64, which holds them or comes close.

    Examples
    --------
    >>> import numpy as np
    >>> [fitting_precision(np.dtype(name)).name for name in ("uint16", "float16", "int32", "float64")]
    ['float32', 'float32', 'float64', 'float64']
    """
    return np.dtype(np.float32 if np.can_cast(dtype, np.float32) else np.float64)


#: Sums over kernels that reach further than this lose digits that float32 has.
_LARGEST_HALO_OF_FLOATS = 1 << 10
#: In images of wide dtypes, numbers beyond this are an offset beside which float32 leaves few digits.
_LARGEST_OF_FLOATS = 1 << 16
#: No filter makes infinity of numbers below this: its weights add up to some hundreds at most, and products
#: of two derivatives stay in the range of float32.
_NEVER_TOO_LARGE = 1e10


def _not_in_float32(image: Array) -> Array | None:
    """Return which pixels float32 rounds or has few digits for; None if there are none."""
    if np.can_cast(image.dtype, np.float32):
        return None
    inexact = image > _LARGEST_OF_FLOATS
    if image.dtype.kind != "u":
        inexact |= image < -_LARGEST_OF_FLOATS
    if image.dtype.kind == "f":
        inexact |= (image.astype(np.float32) != image) & (image == image)  # NaN stays NaN
    return inexact if inexact.any() else None


def _has_large_numbers(image: Array) -> bool:
    magnitude = np.abs(image)
    return bool((np.isfinite(magnitude) & (magnitude > _NEVER_TOO_LARGE)).any())


def _where_floats_fail(
    filter: Filter, job: Job, inexact: Array | None, overflown: bool
) -> list[Array | None]:
    """Return per result which pixels float32 rounds or overflows on the way to; None if there are none."""
    near: dict[tuple[int, ...], Array] = {}
    masks: list[Array | None] = []
    for out, halo in zip(job.outs, filter.halos(job.image.shape), strict=True):
        mask = np.zeros(job.shape, bool)
        if out is not None and inexact is not None:
            if halo not in near:
                near[halo] = _within(halo, inexact)[job.region]
            mask |= near[halo]
        if out is not None and overflown:
            mask |= ~np.isfinite(out)
        masks.append(mask if mask.any() else None)
    return masks


def _within(halo: Sequence[int], mask: Array) -> Array:
    """Return which pixels have one of a mask within a box; ten times as fast as scipy's filters of boxes."""
    for axis, h in enumerate(halo):
        lines, reach = np.moveaxis(mask.view(np.uint8), axis, 0), 0
        while reach < min(h, len(lines) - 1):
            # No further than what is known reaches: what lies between is in the image, even at its end.
            step = min(reach + 1, h - reach, len(lines) - 1)
            wider = lines.copy(order="K")
            wider[step:] |= lines[:-step]
            wider[:-step] |= lines[step:]
            lines, reach = wider, reach + step
        mask = np.moveaxis(lines, 0, axis).view(bool)
    return mask
