"""A threshold that the image itself decides."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf, isfinite, nan, nextafter
from typing import Any

import numpy as np
import numpy.typing as npt
from lazyflow_core import BlockGrid, InputSlot, Operator, OutputSlot, Roi
from lazyflow_core.errors import SetupError
from lazyflow_core.utility import is_above

from lazyflow_ops_filters.kernels.histogram import otsu_bin

__all__ = ["OpOtsuThreshold"]

#: As many as integers of 16 bits have values.
_BINS = 1 << 16


class OpOtsuThreshold(Operator):
    """Part an image into dark and bright by Otsu's threshold, one for all of it.

    Inputs
    ------
    image : InputSlot, any axes, any real dtype
        NaN and infinite values do not count.

    Outputs
    -------
    level : OutputSlot[float]
        The threshold. Exact for integers of which the largest is less than 65536 above the smallest, so for
        all of up to 16 bits; else the upper edge of one of 65536 bins between the smallest and the largest
        value, for floating point rounded down to the dtype of the image. NaN if no pixel counts.
    output : OutputSlot, shape and axes of ``image``, uint8
        1 where a pixel is above it, else 0.

    Regions
    -------
    pull   the first request reads the whole image block by block (twice, unless integers of 16 bits); then
           ``roi`` needs ``roi``.
    push   any change makes the level and the whole mask dirty.

    Memory
    ------
    A block of the image and a histogram.

    Raises
    ------
    ExecuteError
        If integers beyond 2**53, or long doubles, lie closer together than float64, the type of the level,
        can tell apart.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> with Graph() as graph:
    ...     parted = OpOtsuThreshold(graph=graph, image=np.array([[1, 2, 2, 9, 8]], np.uint8))
    ...     parted.level.value, parted.output.read().tolist()
    (2.0, [[0, 0, 0, 1, 1]])
    """

    image = InputSlot(doc="what to part")
    level = OutputSlot(value=float, doc="the threshold")
    output = OutputSlot(doc="1 where a pixel is above it")

    def setup_outputs(self) -> None:
        meta = self.image.meta
        if meta.dtype.kind not in "buif":
            raise SetupError(
                f"image has dtype {meta.dtype}, which is not one of real numbers; cast it first."
            )
        self.output.meta = meta.replace(
            dtype=np.uint8,
            value_range=(0, 1),
            semantics="intensities",
            ram_per_pixel=1.0 + meta.dtype.itemsize,
        )

    def compute_value(self, slot: Any) -> float:
        dtype = self.image.meta.dtype
        if dtype.kind == "f":
            return self._level_of_floats()
        if dtype.itemsize <= 2:
            lower, upper = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
            return self._level_of_integers(int(lower), int(upper))
        ends = [(int(block.min()), int(block.max())) for block in self._blocks() if block.size]
        if not ends:
            return nan
        return self._level_of_integers(min(low for low, _ in ends), max(high for _, high in ends))

    def _level_of_integers(self, lower: int, upper: int) -> float:
        """Return the level of an image of integers between two; one bin per value where there are few."""
        width = -(-(upper - lower + 1) // _BINS)
        counts = np.zeros((upper - lower) // width + 1, np.int64)
        for block in self._blocks():
            # Modulo 2**64, in which the difference is exact.
            steps = block.ravel().astype(np.uint64) - np.uint64(lower % 2**64)
            counts += np.bincount((steps // np.uint64(width)).astype(np.int64), minlength=counts.size)
        bin = otsu_bin(counts)
        if bin is None:
            return nan
        last = lower + (bin + 1) * width - 1  # of the lower class
        level = float(last)
        if level < last:
            level = nextafter(level, inf)
        above = np.flatnonzero(counts[bin + 1 :])
        if above.size and level >= lower + (bin + 1 + int(above[0])) * width:
            raise OverflowError(
                f"the integers from {lower} to {upper} lie closer together than float64, the type of a "
                "level, can tell apart there; subtract an offset first."
            )
        return level

    def _level_of_floats(self) -> float:
        ends = [(part.min(), part.max()) for part in map(_finite, self._blocks()) if part.size]
        if not ends:
            return nan
        lower, upper = min(low for low, _ in ends), max(high for _, high in ends)
        if lower == upper:
            return float(lower)
        # Halves, where the difference is beyond the dtype.
        half = 1.0 if isfinite(float(upper) - float(lower)) else 0.5
        low, span = half * lower, half * upper - half * lower
        counts = np.zeros(_BINS, np.int64)
        for block in self._blocks():
            fractions = (half * _finite(block) - low) / span
            counts += np.bincount(
                np.minimum((fractions * _BINS).astype(np.int64), _BINS - 1), minlength=_BINS
            )
        bin = otsu_bin(counts)
        assert bin is not None
        edge = (bin + 1) / _BINS
        level = self._not_above(float(max((1 - edge) * lower + edge * upper, lower)))
        if not lower <= level < upper:
            raise OverflowError(
                f"no float64 parts the numbers from {lower} to {upper}; scale the image first."
            )
        return level

    def _not_above(self, level: float) -> float:
        """Return the largest number of the dtype of the image that is not above a level."""
        dtype = self.image.meta.dtype
        if dtype.itemsize >= 8:
            return level
        rounded = dtype.type(level)
        return float(rounded if rounded <= level else np.nextafter(rounded, dtype.type(-inf)))

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        is_above(self.image.read(roi), self.level.value, out=out)

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        self.level.mark_dirty()
        self.output.mark_dirty()

    def _blocks(self) -> Iterator[npt.NDArray[Any]]:
        meta = self.image.meta
        side = {1: 1 << 20, 2: 1024}.get(sum(n > 1 for n in meta.shape), 64)
        for roi in BlockGrid(
            meta.shape, meta.preferred_block or tuple(min(max(n, 1), side) for n in meta.shape)
        ):
            yield self.image.read(roi)


def _finite(block: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the finite numbers of a block in float64, or wider."""
    finite = block[np.isfinite(block)]
    return np.asarray(finite, np.promote_types(finite.dtype, np.float64))
