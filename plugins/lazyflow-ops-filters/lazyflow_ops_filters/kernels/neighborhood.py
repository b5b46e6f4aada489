"""Filters that order or compare the pixels of a neighbourhood: ranks, morphology, bounded distances.

They keep the dtype of the image and need no backend; scipy computes them, whose algorithms are near the
limit already. All are exact by region: pixels beyond the halo have no influence.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lazyflow_ops_filters.kernels.border import NUMPY_MODES, SCIPY_MODES, largest_reach
from lazyflow_ops_filters.kernels.filters import Filter, TooThin

if TYPE_CHECKING:
    from lazyflow_ops_filters.kernels.backend import Backend, Job

__all__ = [
    "OPERATIONS",
    "SHAPES",
    "DistanceTransform",
    "Footprint",
    "HysteresisThreshold",
    "Morphology",
    "Rank",
]

Array = npt.NDArray[Any]

SHAPES = ("box", "ball")


class Neighborhood(Filter):
    """A filter whose result is one value per pixel, whatever the size of the image."""

    def names(self, keys: Sequence[str]) -> tuple[str, ...]:
        return ("",)

    def too_thin(self, shape: Sequence[int], border: str) -> TooThin | None:
        return None

    def compute(self, backend: Backend, job: Job) -> None:
        part = job.grown(self.halo(job.image.shape)).region
        window = tuple(
            slice(s.start - p.start, s.stop - p.start) for s, p in zip(job.region, part, strict=True)
        )
        job.out[...] = self.over(job.image[part], job.border)[window]

    @abstractmethod
    def over(self, image: Array, border: str) -> Array:
        """Return the result for all of an image; it is used where the image holds the halo."""


@dataclass(frozen=True)
class Footprint:
    """The pixels around a pixel that are its neighbourhood.

    Attributes
    ----------
    radius
        How far it reaches per axis in pixels; 0 for an axis along which it does not.
    shape
        ``"box"``: everything within the radius of each axis; ``"ball"``: the ellipsoid with these radii.
    """

    radius: tuple[int, ...]
    shape: str = "box"

    def within(self, shape: Sequence[int]) -> Footprint:
        """Return it for images of a shape: an axis of one pixel has no neighbours along it."""
        return Footprint(
            tuple(0 if n == 1 else r for r, n in zip(self.radius, shape, strict=True)), self.shape
        )

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """A box of ``2 * radius + 1`` pixels, True where the neighbourhood is."""
        if self.shape == "box":
            return np.ones([2 * r + 1 for r in self.radius], bool)
        squares = [(np.arange(-r, r + 1) / max(r, 1)) ** 2 for r in self.radius]
        return np.asarray(sum(np.ix_(*squares)) <= 1 + 1e-9)


#: Largest table of pixel positions that scipy may make for a neighbourhood, in bytes. It has an entry per
#: pixel of the neighbourhood for each pixel of the box around it: 7 GB for a box of radius 15 in 3-D.
_LARGEST_TABLE = 1 << 21
#: Values that are ordered at a time where there is no table.
_WINDOW_VALUES = 1 << 18


def _by_windows(image: Array, mask: Array, border: str, rank: int) -> Array:
    """Return the value of a rank in the neighbourhood of each pixel, in little memory."""
    padded = np.pad(image, [(n // 2, n // 2) for n in mask.shape], NUMPY_MODES[border])
    windows = np.lib.stride_tricks.sliding_window_view(padded, mask.shape)
    result, step = np.empty_like(image), max(1, _WINDOW_VALUES // int(mask.sum()))
    for row in np.ndindex(image.shape[:-1]):
        for start in range(0, image.shape[-1], step):
            values = windows[row][start : start + step][:, mask]
            result[row][start : start + step] = np.partition(values, rank, axis=1)[:, rank]
    return result


def _scipy_is_exact(image: Array) -> bool:
    """Return whether scipy, which compares float64, can tell all values of an image apart."""
    if image.dtype.kind in "iu" and image.dtype.itemsize == 8 and image.size:
        return bool(image.max() <= 2**53) and bool(image.min() >= -(2**53))
    return image.dtype.itemsize <= 8


def _by_rank(image: Array, footprint: Footprint, border: str, rank: int) -> Array:
    mask = footprint.mask
    if mask.size * int(mask.sum()) * 8 > _LARGEST_TABLE or not _scipy_is_exact(image):
        return _by_windows(image, mask, border, rank)
    return np.asarray(ndimage.rank_filter(image, rank, footprint=mask, mode=SCIPY_MODES[border]))


def _ordered(image: Array, footprint: Footprint, function: Callable[[Array], Array]) -> Array:
    """Run a function that compares pixels; pixels with a NaN in their neighbourhood become NaN.

    Comparisons with NaN are always false, so what an algorithm makes of them depends on where it began.
    """
    if image.dtype == bool:
        return function(image.view(np.uint8)).astype(bool)
    if image.dtype == np.float16 or not image.dtype.isnative:
        wide = np.float32 if image.dtype == np.float16 else image.dtype.newbyteorder("=")
        return _ordered(image.astype(wide), footprint, function).astype(image.dtype)
    invalid = np.isnan(image) if image.dtype.kind == "f" else None
    if invalid is None or not invalid.any():
        return function(image)
    result = function(np.where(invalid, 0, image))
    near = ndimage.maximum_filter(invalid.view(np.uint8), footprint=footprint.mask, mode="mirror")
    result[near != 0] = np.nan
    return result


def _extreme(image: Array, footprint: Footprint, border: str, largest: bool) -> Array:
    if footprint.shape == "box" and _scipy_is_exact(image):
        function = ndimage.maximum_filter if largest else ndimage.minimum_filter
        sizes = [2 * r + 1 for r in footprint.radius]
        return np.asarray(function(image, size=sizes, mode=SCIPY_MODES[border]))
    return _by_rank(image, footprint, border, int(footprint.mask.sum()) - 1 if largest else 0)


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

    def over(self, image: Array, border: str) -> Array:
        footprint = self.footprint.within(image.shape)

        def rank(image: Array) -> Array:
            if self.percentile in (0, 100):
                return _extreme(image, footprint, border, self.percentile == 100)
            # scipy counts ranks from 0, and rounds down where the percentile falls between two pixels.
            count = int(footprint.mask.sum())
            return _by_rank(image, footprint, border, min(int(count * self.percentile / 100), count - 1))

        return _ordered(image, footprint, rank)


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

    def over(self, image: Array, border: str) -> Array:
        if self.mask and image.dtype != bool:
            return self.over(image != 0, border).astype(image.dtype)
        footprint = self.footprint.within(image.shape)
        parts = []
        for steps in OPERATIONS[self.operation].split("|"):
            data = image
            for step in steps:
                data = self._step(data, footprint, border, step == "+")
            parts.append(data)
        if len(parts) == 1:
            return parts[0]
        if image.dtype == bool:
            return parts[0] & ~parts[1]  # what is in the first and not in the second
        difference = (parts[0] - parts[1]).astype(self.dtype(image.dtype), copy=False)
        # With zeros beyond the border a closing may be below the image there, an opening above it.
        difference[parts[0] < parts[1]] = 0
        return difference

    def dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of the result for images of a dtype.

        Differences are never negative, and may be twice as large as signed integers can be; in the unsigned
        ones of that size they are exact.
        """
        if dtype.kind == "i" and "|" in OPERATIONS[self.operation] and not self.mask:
            return np.dtype(f"u{dtype.itemsize}")
        return dtype.newbyteorder("=")

    @staticmethod
    def _step(image: Array, footprint: Footprint, border: str, largest: bool) -> Array:
        sizes = {r for r in footprint.radius if r}
        if image.dtype == bool and footprint.shape == "ball" and len(sizes) == 1:
            return _ball_of_mask(image, footprint.radius, border, largest)
        return _ordered(image, footprint, lambda a: _extreme(a, footprint, border, largest))


def _ball_of_mask(mask: Array, radius: Sequence[int], border: str, grow: bool) -> Array:
    """Dilate or erode a mask by a ball, as pixels within a distance: much faster than comparing them all."""
    pad = [(r, r) for r in radius]
    inner = tuple(slice(r, r + n) for r, n in zip(radius, mask.shape, strict=True))
    seeds = np.pad(mask if grow else ~mask, pad, NUMPY_MODES[border])
    if border == "zero" and not grow:
        seeds = ~np.pad(mask, pad, NUMPY_MODES[border])
    if not seeds.any():
        return mask.copy()
    # An axis without reach is infinitely long.
    sampling = [1.0 if r else 1e9 for r in radius]
    near = ndimage.distance_transform_edt(~seeds, sampling=sampling)[inner] <= max(radius) + 1e-9
    return np.asarray(near if grow else ~near)


@dataclass(frozen=True)
class DistanceTransform(Neighborhood):
    """Distance of pixels that are not zero to the nearest one that is, at most ``largest``.

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
            return np.full(image.shape, self.largest, np.float32)
        # Slices that are not measured across are further apart than anything.
        sampling = [p if p is not None else 4 * self.largest + 1 for p in self.pixel]
        distance = ndimage.distance_transform_edt(inside, sampling=sampling)
        return np.asarray(np.minimum(distance, self.largest, dtype=np.float32, casting="same_kind"))


@dataclass(frozen=True)
class HysteresisThreshold(Neighborhood):
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
        low, high = (_in_dtype(level, image) for level in (self.low, self.high))
        seeds = image >= high
        if self.reach == 0 or not seeds.any():
            return np.asarray(seeds)
        if self.reach == inf:
            labels, count = ndimage.label(image >= low, structure)
            chosen = np.zeros(count + 1, bool)
            chosen[labels[seeds]] = True
            return np.asarray(chosen[labels])
        return np.asarray(
            # No path is longer than there are pixels.
            ndimage.binary_dilation(
                seeds, structure, iterations=int(min(self.reach, image.size)), mask=image >= low
            )
        )


def _in_dtype(level: float, image: Array) -> Any:
    """Return a threshold in the precision of the image, in which it is compared; infinite if out of range."""
    if image.dtype.kind != "f":
        return level
    with np.errstate(over="ignore"):
        return image.dtype.type(level)
