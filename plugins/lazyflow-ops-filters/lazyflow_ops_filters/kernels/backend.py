"""What a library of kernels must offer to compute our filters.

One method is enough: a separable convolution. A backend that knows a faster way to put pixels in order
overrides `Backend.rank`, to a whole filter `Backend.apply`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from lazyflow_core.request import checkpoint

from lazyflow_ops_filters.kernels.filters import Filter
from lazyflow_ops_filters.kernels.footprint import Footprint
from lazyflow_ops_filters.kernels.ordering import rank_by_numpy

__all__ = ["Backend", "Job", "Region"]

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
        """Return a new array of the region's shape in the precision of a backend."""
        return np.empty(self.shape, backend.dtype)

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
        Precision of what it computes in between.
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

    def apply(self, filter: Filter, job: Job) -> None:
        """Run a filter; by default as it is defined, by convolutions."""
        filter.compute(self, job)

    def refuses(self, filter: Filter, border: str) -> str:
        """Return why this backend cannot run a filter, as the end of a sentence; empty if it can."""
        return ""

    def describe(self) -> str:
        """Return what stands behind it, with version, for people."""
        return self.name
