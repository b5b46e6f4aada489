"""`OpLocalMean`: the mean of the pixels around each pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
from lazyflow_core import InputSlot, Operator, OutputSlot, ParameterSlot, Roi

__all__ = ["OpLocalMean"]


class OpLocalMean(Operator):
    """Average over a box around each pixel.

    Inputs
    ------
    image : InputSlot, any axes, any real dtype
    radius : ParameterSlot[int]
        Pixels on either side of the middle one, along every spatial axis.

    Outputs
    -------
    output : OutputSlot, shape and axes of ``image``, float32
        Beyond the border the last pixel is repeated.

    Regions
    -------
    pull   ``roi`` needs ``roi`` with a halo of ``radius`` on spatial axes.
    push   a dirty ROI of ``image`` becomes the same ROI with the same halo.

    Memory
    ------
    Two arrays of float32 like the region with its halo.
    """

    image = InputSlot(doc="what to average")
    radius = ParameterSlot(
        int,
        default=1,
        check=lambda r: None if r >= 0 else "must not be negative",
        doc="pixels on either side",
    )
    output = OutputSlot()

    def setup_outputs(self) -> list[int]:
        """Say what the output will be. Called whenever the input's meta or a parameter changed.

        What it returns is kept as ``self.plan``: here the halo in pixels per axis. It writes nothing else.
        """
        meta = self.image.meta
        self.output.meta = meta.replace(dtype=np.float32)
        return [self.radius.value if axis in meta.axes.spatial else 0 for axis in range(meta.ndim)]

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        """Compute one region. Runs many times at once, so it keeps no state."""
        needed = self._with_halo(roi)
        pixels = self.image.read(needed).astype(np.float32)
        # What the halo lacks lies beyond the border of the image.
        before = np.subtract(needed.start, roi.start) + self.plan
        after = np.subtract(roi.stop, needed.stop) + self.plan
        pixels = np.pad(pixels, list(zip(before, after, strict=True)), mode="edge")
        radius = self.radius.value
        for axis in self.image.meta.axes.spatial:
            length = pixels.shape[axis] - 2 * radius
            whole = (slice(None),) * axis
            # Neighbours are added in the same order wherever a region begins: results are equal bit by bit.
            total = sum(pixels[(*whole, slice(i, i + length))] for i in range(2 * radius + 1))
            pixels = total / np.float32(2 * radius + 1)
        out[...] = pixels

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        """Say which outputs are stale when a region of the input is."""
        self.output.mark_dirty(self._with_halo(roi))

    def _with_halo(self, roi: Roi) -> Roi:
        return roi.with_halo(self.plan, within=self.image.meta.roi)
