"""Features as codes: in which of at most so many intervals a value lies.

The limits of a feature are what a forest may compare it with. A code is how many of them are not above the
value, so ``x < limits[k]`` is ``code <= k`` for every float32, and a tree that was grown on codes is one on
values. Limits are finite, as a forest wants them: infinity and NaN lie in the last interval.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from lazyflow_core.request import RequestPool, checkpoint

__all__ = ["MOST_BINS", "Binned", "bin_features", "bin_limits"]

Array = npt.NDArray[Any]

MOST_BINS: Final = 65536
#: Samples whose values are sorted to find the limits: with more, 256 of them would move by less than noise.
_LOOKED_AT: Final = 20_000
#: Samples between two looks whether to stop.
_PART: Final = 1_000_000


class Binned(NamedTuple):
    """Features of samples as codes.

    Attributes
    ----------
    codes
        uint8 or uint16 of shape (features, samples).
    limits
        For each feature float32, ascending.
    """

    codes: Array
    limits: tuple[Array, ...]

    @property
    def codes_end(self) -> int:
        """What all codes are below."""
        return max(map(len, self.limits)) + 1


def bin_features(features: Array, bins: int) -> Binned:
    """Return float32 features of shape (features, samples) as codes, at most so many for each feature."""
    codes = np.empty(features.shape, np.uint8 if bins <= 256 else np.uint16)
    step = -(-features.shape[1] // max(_LOOKED_AT, bins))

    def one(number: int) -> tuple[int, Array]:
        checkpoint()
        column = features[number]
        limits = bin_limits(column[::step], bins)
        for start in range(0, len(column), _PART):
            checkpoint()
            part = slice(start, start + _PART)
            codes[number, part] = np.searchsorted(limits, column[part], side="right")
        return number, limits

    with RequestPool[tuple[int, Array]](name="intervals of features") as pool:
        found = dict(pool.map(one, range(len(features))))
    return Binned(codes, tuple(found[number] for number in range(len(features))))


def bin_limits(values: Array, bins: int) -> Array:
    """Return at most ``bins - 1`` limits, ascending and finite, that divide float32 values evenly.

    Each lies half-way between neighbours, or as far as float32 allows. Where there are no more different
    values than ``bins``, there is a limit between any two that a finite number can part.

    Examples
    --------
    >>> bin_limits(np.array([3, 1, 2, 1, np.nan, np.inf], "f4"), 256).tolist()
    [1.5, 2.5, 3.000000238418579]
    >>> bin_limits(np.arange(100, dtype="f4"), 4).tolist()
    [24.5, 49.5, 74.5]
    """
    values, counts = np.unique(np.where(np.isnan(values), np.float32(np.inf), values), return_counts=True)
    below, above = values[:-1], values[1:]
    with np.errstate(over="ignore", invalid="ignore"):
        limits = ((below.astype(np.float64) + above) / 2).astype(np.float32)
        # Finite limits beside infinity, and between neighbours that have no float32 in between.
        limits = np.where(above == np.inf, np.nextafter(below, np.float32(np.inf)), limits)
        limits = np.where(below == -np.inf, np.where(above == np.inf, np.float32(0), above), limits)
        limits = np.where(limits <= below, above, limits)
    if len(limits) > bins - 1:
        # A value that is more frequent than an interval should be counts as one interval, else the others
        # would get too few.
        most = counts.sum() / bins
        for _ in range(5):
            most = np.minimum(counts, most).sum() / bins
        weight = np.minimum(counts, most).cumsum()
        wanted = weight[-1] * np.arange(1, bins) / bins
        limits = limits[np.unique(np.searchsorted(weight, wanted).clip(max=len(limits) - 1))]
    return limits[np.isfinite(limits)]
