"""`OpStatistics`: what the pixels of a whole image are like, in numbers."""

from __future__ import annotations

from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from lazyflow_core import InputSlot, Operator, OutputSlot, ParameterSlot, Roi

from lazyflow_ops_array.base import check_real
from lazyflow_ops_array.blockwise import Summary, map_blocks, percentiles_of, summary_of

__all__ = ["Histogram", "OpStatistics", "check_percentiles"]


class Histogram(NamedTuple):
    """How many pixels lie between neighbouring edges, the last edge included.

    Parameters
    ----------
    counts
        One for each bin.
    edges
        One more than bins, rising.
    """

    counts: tuple[int, ...]
    edges: tuple[float, ...]


def check_percentiles(values: tuple[Any, ...]) -> str | None:
    """Return why some values are no percentiles; None if they are."""
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 100:
            return f"has {value!r} in it, which is no number from 0 to 100"
    return None


def _check_range(value: tuple[Any, ...]) -> str | None:
    if not value:
        return None
    if len(value) != 2 or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in value):
        return "is not (lowest, highest), or () for those of the image"
    return (
        None if all(map(isfinite, value)) and value[0] < value[1] else "needs lowest < highest, both finite"
    )


class OpStatistics(Operator):
    """Minimum, maximum, mean, standard deviation, percentiles and histogram of a whole image.

    Each is computed when it is asked for, once per change. NaN counts nowhere, infinities do.

    Inputs
    ------
    image : InputSlot, any axes, any real dtype
    percentiles : ParameterSlot[tuple]
        Each from 0 to 100.
    bins : ParameterSlot[int]
        Of the histogram.
    bin_range : ParameterSlot[tuple]
        Lowest and highest edge of the histogram; empty: the smallest and largest finite number.

    Outputs
    -------
    summary : OutputSlot[Summary]
        Count, minimum, maximum, mean and std of one pass; the next five are taken from it.
    count : OutputSlot[int]
        Pixels that are numbers.
    minimum, maximum, mean, std : OutputSlot[float]
        NaN if there is no number. In float64, into which integers beyond 2**53 are rounded.
    percentile_values : OutputSlot[tuple]
        One for each of ``percentiles``, exact, as ``numpy.nanpercentile`` gives it.
    histogram : OutputSlot[Histogram]
        As ``numpy.histogram`` counts the pixels in float64.

    Regions
    -------
    pull   all of the image, block by block: once for the summary, once for the histogram, which takes its
           range from that, and for percentiles once for dtypes of up to 16 bits, else two to four times. Put
           a cache in front where that is expensive.
    push   any change makes all values dirty, another parameter as well.

    Memory
    ------
    Some blocks of a million pixels, with two copies in float64 each; for percentiles up to 40 MiB besides.

    Raises
    ------
    SetupError
        If the image is complex.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> pixels = np.array([[1, 2, 3, 4]], np.uint8)
    >>> with Graph() as graph:
    ...     statistics = OpStatistics(graph=graph, image=pixels, percentiles=(50,), bins=3)
    ...     statistics.mean.value, statistics.percentile_values.value, statistics.histogram.value.counts
    (2.5, (2.5,), (1, 1, 2))
    """

    image = InputSlot(doc="what to describe")
    percentiles = ParameterSlot(
        tuple, default=(1, 50, 99), check=check_percentiles, doc="which percentiles, each from 0 to 100"
    )
    bins = ParameterSlot(int, default=256, range=(1, 1 << 20), doc="bins of the histogram")
    bin_range = ParameterSlot(
        tuple, default=(), check=_check_range, doc="lowest and highest edge; () for all"
    )
    summary = OutputSlot(value=Summary, doc="count, minimum, maximum, mean and std of one pass")
    count = OutputSlot(value=int, doc="pixels that are numbers")
    minimum = OutputSlot(value=float, doc="the smallest number")
    maximum = OutputSlot(value=float, doc="the largest number")
    mean = OutputSlot(value=float, doc="their mean")
    std = OutputSlot(value=float, doc="their standard deviation")
    percentile_values = OutputSlot(value=tuple, doc="the percentiles")
    histogram = OutputSlot(value=Histogram, doc="counts and edges")

    def setup_outputs(self) -> None:
        check_real(self.image.meta)

    def compute_value(self, slot: Any) -> Any:
        if slot is self.summary:
            return summary_of(self.image)
        if slot is self.percentile_values:
            return percentiles_of(self.image, self.percentiles.value)
        if slot is self.histogram:
            return self._histogram()
        return getattr(self.summary.value, slot.name)

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        for output in self.computed:
            output.mark_dirty()

    def _histogram(self) -> Histogram:
        bins = self.bins.value
        limits: tuple[Any, ...] = self.bin_range.value
        if not limits:
            summary = self.summary.value
            limits = (summary.lowest, summary.highest)
            if not isfinite(limits[0]):
                limits = (0.0, 1.0)  # as numpy has it where there is nothing to count
        low, high, scale = _usable(float(limits[0]), float(limits[1]), bins)

        def count(pixels: Any) -> Any:
            values = pixels.astype(np.float64)
            if scale != 1:
                values *= scale
            return np.histogram(values, bins, (low, high))[0]

        counts = np.zeros(bins, np.int64)
        for part in map_blocks(self.image, count):
            counts += part
        edges = np.linspace(low, high, bins + 1) / scale
        return Histogram(tuple(counts.tolist()), tuple(edges.tolist()))


def _usable(low: float, high: float, bins: int) -> tuple[float, float, float]:
    """Return a range that has so many bins in float64, and by what it and the pixels are multiplied."""
    scale = 1.0 if isfinite(high - low) else 0.25
    low, high = low * scale, high * scale
    if low == high:
        low, high = low - 0.5, high + 0.5  # as numpy has it
    least = bins * max(4 * float(np.spacing(max(abs(low), abs(high)))), 1e-300)
    if high - low < least:
        low, high = low - least / 2, high + least / 2
    return low, high, scale
