"""Filters that order or compare the pixels of a neighbourhood: ranks, morphology, bounded distances.

They keep the dtype of the image. Ranks and morphology are made of one operation that backends may do faster,
`Backend.rank`; distances and thresholds are computed by scipy. All are exact by region: pixels beyond the
halo have no influence.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, prod
from typing import Any

import numpy as np
import numpy.typing as npt
from lazyflow_core.utility import is_above
from scipy import ndimage

from lazyflow_ops_filters.kernels.backend import Backend, Job
from lazyflow_ops_filters.kernels.border import largest_reach
from lazyflow_ops_filters.kernels.filters import Filter, TooThin
from lazyflow_ops_filters.kernels.footprint import Footprint

__all__ = [
    "OPERATIONS",
    "DistanceTransform",
    "HysteresisThreshold",
    "Morphology",
    "Rank",
]

Array = npt.NDArray[Any]

#: Pixels that whole arrays are made of on the way, a few milliseconds each time.
_PIXELS = 1 << 21
#: The same where scipy takes some hundred nanoseconds for each.
_SLOW_PIXELS = 1 << 16


class Neighborhood(Filter):
    """A filter whose result is one value per pixel, whatever the size of the image."""

    in_floats = False

    def names(self, keys: Sequence[str]) -> tuple[str, ...]:
        return ("",)

    def too_thin(self, shape: Sequence[int], border: str) -> TooThin | None:
        return None


class _OverImage(Neighborhood):
    """A neighbourhood filter that is defined by what it makes of an image that holds the halo."""

    def compute(self, backend: Backend, job: Job) -> None:
        # Nobody can stop scipy: in pieces, yet not so small that most of the work is what lies around them.
        halo = self.halo(job.image.shape)
        for piece in job.parts(max(_SLOW_PIXELS, prod(8 * h for h in halo if h))):
            part = piece.grown(halo)
            window = piece.inside(part, piece.image, ()).region
            piece.out[...] = self.over(piece.image[part.region], piece.border)[window]

    @abstractmethod
    def over(self, image: Array, border: str) -> Array:
        """Return the result for all of an image; it is used where the image holds the halo."""


@dataclass(frozen=True)
class _OverFootprint(Neighborhood):
    """A filter with a neighbourhood, which is to see no pixel of a mirror twice."""

    footprint: Footprint

    @property
    def ndim(self) -> int:
        return len(self.footprint.radius)

    def too_thin(self, shape: Sequence[int], border: str) -> TooThin | None:
        for axis, (r, n) in enumerate(zip(self.footprint.radius, shape, strict=True)):
            reach = largest_reach(n, border)
            if reach is not None and r > min(reach, n):
                return TooThin(axis, n, "radius", r, min(reach, n))
        return None

    def _rank(self, backend: Backend, job: Job, rank: int) -> None:
        """Write the value of a rank in the neighbourhood; a pixel with a NaN there becomes NaN.

        Comparisons with NaN are always false, so what an algorithm makes of them depends on where it began.
        """
        footprint = self.footprint.within(job.image.shape)
        part = job.grown(footprint.radius)
        image = job.image[part.region]
        dtype = image.dtype.newbyteorder("=")
        if dtype.kind == "b":
            image = image.view(np.uint8)
        elif dtype == np.float16:
            image = image.astype(np.float32)
        elif dtype != image.dtype:
            image = image.astype(dtype)
        # The smallest value is NaN if any is; to find it takes an eighth of the time of asking each pixel.
        invalid = np.isnan(image) if dtype.kind == "f" and np.isnan(image.min()) else None
        if invalid is not None:
            image = np.where(invalid, image.dtype.type(0), image)
        job = job.inside(part, image, job.outs)
        result = job.out.view(np.uint8) if job.out.dtype.kind == "b" else job.out
        is_other = result.dtype != image.dtype
        if is_other:
            result = np.empty(job.shape, image.dtype)
        backend.rank(footprint, rank, job.with_outs([result]))
        if invalid is not None:
            near = np.empty(job.shape, np.uint8)
            found = Job(invalid.view(np.uint8), "nearest", job.region, [near])
            backend.rank(footprint, footprint.size - 1, found)
            result[near != 0] = np.nan
        if is_other:
            job.out[...] = result


@dataclass(frozen=True)
class Rank(_OverFootprint):
    """The value below which a fraction of the neighbourhood lies.

    Attributes
    ----------
    footprint
        The neighbourhood.
    percentile
        0 is the minimum, 50 the median, 100 the maximum.
    """

    percentile: float

    def halo(self, shape: Sequence[int]) -> tuple[int, ...]:
        return self.footprint.within(shape).radius

    def compute(self, backend: Backend, job: Job) -> None:
        count = self.footprint.within(job.image.shape).size
        # scipy counts ranks from 0, and rounds down where the percentile falls between two pixels.
        rank = min(int(count * self.percentile / 100), count - 1)
        for part in job.parts(_PIXELS):
            self._rank(backend, part, rank)


#: Per operation the steps to the result, ``-`` minimum and ``+`` maximum; after ``|`` those to subtract.
OPERATIONS = {
    "erosion": "-",
    "dilation": "+",
    "opening": "-+",
    "closing": "+-",
    "gradient": "+|-",
    "white_top_hat": "|-+",
    "black_top_hat": "+-|",
}


@dataclass(frozen=True)
class Morphology(_OverFootprint):
    """Erosion, dilation and what is made of them, of grey images or masks, by a flat neighbourhood.

    ``gradient`` is dilation minus erosion, ``white_top_hat`` the image minus its opening, ``black_top_hat``
    its closing minus the image; never below 0.

    Attributes
    ----------
    mask
        Whether all values are 0 or 1; images of dtype bool are masks anyway.
    """

    operation: str
    mask: bool = False

    def halo(self, shape: Sequence[int]) -> tuple[int, ...]:
        steps = max(len(part) for part in OPERATIONS[self.operation].split("|"))
        return tuple(steps * r for r in self.footprint.within(shape).radius)

    def compute(self, backend: Backend, job: Job) -> None:
        for part in job.parts(_PIXELS):
            self._compute(backend, part)

    def _compute(self, backend: Backend, job: Job) -> None:
        dtype = job.image.dtype.newbyteorder("=")
        if self.mask and dtype.kind != "b":
            part = job.grown(self.halo(job.image.shape))
            mask = Job(job.image[part.region] != 0, job.border, (), ())
            job, dtype = job.inside(part, mask.image, job.outs), np.dtype(bool)
        names = OPERATIONS[self.operation].split("|")
        if len(names) == 1:
            self._steps(backend, job, names[0])
            return
        first, second = (job.with_outs([np.empty(job.shape, dtype)]) for _ in names)
        for name, of in zip(names, (first, second), strict=True):
            self._steps(backend, of, name)
        if dtype.kind == "b":
            job.out[...] = first.out & ~second.out  # what is in the first and not in the second
            return
        difference = (first.out - second.out).astype(self.dtype(dtype), copy=False)
        # With zeros beyond the border a closing may be below the image there, an opening above it.
        difference[first.out < second.out] = 0
        job.out[...] = difference

    def _steps(self, backend: Backend, job: Job, steps: str) -> None:
        """Write what comes of one step after the other, each over no more than the next one needs."""
        if not steps:
            job.out[...] = job.image[job.region]
            return
        footprint = self.footprint.within(job.image.shape)
        rank = footprint.size - 1 if steps[-1] == "+" else 0
        if len(steps) > 1:
            wide = job.grown(footprint.radius)
            wide = wide.with_outs([np.empty(wide.shape, job.image.dtype)])
            self._steps(backend, wide, steps[:-1])
            job = job.inside(wide, wide.out, job.outs)
        self._rank(backend, job, rank)

    def dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of the result for images of a dtype.

        Differences are never negative, and may be twice as large as signed integers can be; in the unsigned
        ones of that size they are exact.
        """
        if dtype.kind == "i" and "|" in OPERATIONS[self.operation] and not self.mask:
            return np.dtype(f"u{dtype.itemsize}")
        return dtype.newbyteorder("=")


@dataclass(frozen=True)
class DistanceTransform(_OverImage):
    """Distance of pixels that are not zero to the nearest one that is, at most ``largest``; NaN stays NaN.

    Attributes
    ----------
    largest
        Distances beyond are this. It bounds the halo, and so the result is exact by region. Infinity bounds
        nothing: any pixel depends on all others, and where nothing is zero the distance is infinite.
    pixel
        Size of a pixel along each axis, in the unit of ``largest``; None to stay within slices.
    """

    largest: float
    pixel: tuple[float | None, ...]

    @property
    def ndim(self) -> int:
        return len(self.pixel)

    def halo(self, shape: Sequence[int]) -> tuple[int, ...]:
        return tuple(
            0 if p is None or n == 1 else self._steps_within(p, n)
            for p, n in zip(self.pixel, shape, strict=True)
        )

    def _steps_within(self, pixel: float, length: int) -> int:
        """Return how many pixels away a distance still is below ``largest``; further ones do not matter."""
        steps = ceil(min(self.largest / pixel, length))
        return steps - 1 if steps > 0 and steps * pixel >= self.largest else steps

    def over(self, image: Array, border: str) -> Array:
        if self.largest == inf and None in self.pixel:
            axis = self.pixel.index(None)
            flat = DistanceTransform(inf, self.pixel[:axis] + self.pixel[axis + 1 :])
            slices = [flat.over(part, border) for part in np.moveaxis(image, axis, 0)]
            return np.stack(slices, axis) if slices else np.zeros(image.shape, np.float32)
        inside = image != 0
        if inside.all():
            result = np.full(image.shape, self.largest, np.float32)
        else:
            # Slices that are not measured across are further apart than anything.
            sampling = [p if p is not None else 4 * self.largest + 1 for p in self.pixel]
            distance = ndimage.distance_transform_edt(inside, sampling=sampling)
            result = np.minimum(distance, self.largest, dtype=np.float32, casting="same_kind")
        if image.dtype.kind == "f":
            result[np.isnan(image)] = np.nan
        return np.asarray(result)


@dataclass(frozen=True)
class HysteresisThreshold(_OverImage):
    """Pixels at or above ``low`` that are connected to one at or above ``high`` by a path of such pixels.

    Attributes
    ----------
    reach
        Most steps of the path, each to a neighbour along one axis. It bounds the halo. Infinity bounds
        nothing: any pixel depends on all others.
    axes
        Whether a step may go along each axis.
    """

    low: float
    high: float
    reach: float
    axes: tuple[bool, ...]

    @property
    def ndim(self) -> int:
        return len(self.axes)

    def halo(self, shape: Sequence[int]) -> tuple[int, ...]:
        return tuple(
            int(min(self.reach, n)) if a and n > 1 else 0 for a, n in zip(self.axes, shape, strict=True)
        )

    def over(self, image: Array, border: str) -> Array:
        structure = ndimage.generate_binary_structure(self.ndim, 1)
        for axis, used in enumerate(self.axes):
            if not used:
                structure &= ~np.isin(np.indices(structure.shape)[axis], (0, 2))
        seeds = is_above(image, self.high, or_equal=True)
        if self.reach == 0 or not seeds.any():
            return np.asarray(seeds)
        if self.reach == inf:
            labels, count = ndimage.label(is_above(image, self.low, or_equal=True), structure)
            chosen = np.zeros(count + 1, bool)
            chosen[labels[seeds]] = True
            return np.asarray(chosen[labels])
        return np.asarray(
            # No path is longer than there are pixels.
            ndimage.binary_dilation(
                seeds,
                structure,
                iterations=int(min(self.reach, image.size)),
                mask=is_above(image, self.low, or_equal=True),
            )
        )
