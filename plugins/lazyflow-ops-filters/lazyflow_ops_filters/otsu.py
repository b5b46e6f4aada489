"""A threshold that the image itself decides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from lazyflow_core import BlockGrid, InputSlot, Operator, OutputSlot, Roi
from lazyflow_core.errors import SetupError

from lazyflow_ops_filters.kernels.histogram import otsu_level

__all__ = ["OpOtsuThreshold"]

_BINS = 256


class OpOtsuThreshold(Operator):
    """Part an image into dark and bright by Otsu's threshold, one for all of it.

    Inputs
    ------
    image : InputSlot, any axes, any real dtype
        NaN and infinite values do not count.

    Outputs
    -------
    level : OutputSlot[float]
        The threshold. Exact for integers of up to 16 bits; else the upper edge of one of 256 bins between
        the smallest and the largest value.
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
        if dtype.kind in "bui" and dtype.itemsize <= 2:
            lowest = 0 if dtype.kind == "b" else int(np.iinfo(dtype).min)
            counts = np.zeros(2 if dtype.kind == "b" else 2 ** (8 * dtype.itemsize), np.int64)
            for block in self._blocks():
                counts += np.bincount(block.ravel().astype(np.int64) - lowest, minlength=counts.size)
            return otsu_level(counts, np.arange(counts.size) + lowest)
        lower, upper = np.inf, -np.inf
        for block in self._blocks():
            finite = block[np.isfinite(block)]
            if finite.size:
                lower, upper = min(lower, float(finite.min())), max(upper, float(finite.max()))
        if not lower < upper:
            return lower
        counts = np.zeros(_BINS, np.int64)
        for block in self._blocks():
            finite = block[np.isfinite(block)].astype(np.float64)
            bins = ((finite - lower) * (_BINS / (upper - lower))).astype(np.int64)
            counts += np.bincount(np.minimum(bins, _BINS - 1), minlength=_BINS)
        edges = np.linspace(lower, upper, _BINS + 1)[1:]
        return otsu_level(counts, edges)

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        np.greater(self.image.read(roi), self.level.value, out=out)

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
