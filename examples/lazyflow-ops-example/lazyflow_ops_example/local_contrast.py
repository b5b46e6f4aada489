"""`OpLocalContrast`: how far a pixel stands out from its surroundings."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from lazyflow_core import InputSlot, Operator, OutputSlot, ParameterSlot, Roi
from lazyflow_core.errors import SetupError

__all__ = ["OpLocalContrast"]

Array = npt.NDArray[Any]


class OpLocalContrast(Operator):
    """Subtract the mean of the surroundings and divide by their standard deviation.

    Evens out illumination: structures look the same in bright and in dark places.

    Inputs
    ------
    image : InputSlot, any axes of which at least one is spatial, any real dtype
    radius : ParameterSlot[int]
        Pixels on either side of the middle one that count as surroundings, along every spatial axis, >= 1.
    floor : ParameterSlot[float]
        Smallest standard deviation, in values of ``image``, > 0: what varies less is taken for flat, so that
        noise is not blown up.

    Outputs
    -------
    output : OutputSlot, shape and axes of ``image``, float32
        Beyond the border the last pixel is repeated.

    Regions
    -------
    pull   ``roi`` needs ``roi`` with a halo of ``radius`` on spatial axes; none on others.
    push   a dirty ROI of ``image`` becomes the same ROI with the same halo.

    Memory
    ------
    Four arrays of float64 like the region with its halo: about 32 bytes per pixel and what the halo adds.

    Threading
    ---------
    ``execute`` keeps no state; any number may run at once.

    Raises
    ------
    SetupError
        If the image has no spatial axis, or its pixels are no real numbers.

    Examples
    --------
    >>> from lazyflow_core import Graph
    >>> stripes = np.tile([0.0, 1.0], (3, 4))
    >>> bright, dark = (
    ...     OpLocalContrast(graph=Graph(), image=image, radius=1, floor=0.01).output.read()
    ...     for image in (100 * stripes, stripes)
    ... )
    >>> bool(np.allclose(bright, dark))
    True
    """

    image = InputSlot(doc="what to normalize")
    radius = ParameterSlot(
        int,
        default=8,
        check=lambda r: None if r >= 1 else "must be at least 1",
        doc="size of the surroundings",
    )
    floor = ParameterSlot(
        float, default=1.0, check=lambda f: None if f > 0 else "must be positive", doc="smallest deviation"
    )
    output = OutputSlot()

    def setup_outputs(self) -> list[int]:
        """Say what the output will be, or why there is none; return the halo in pixels per axis."""
        meta = self.image.meta
        if not meta.axes.spatial:
            raise SetupError(f"image has axes {meta.axes.keys!r}, none of which is a spatial one.")
        if meta.dtype.kind not in "buif":
            raise SetupError(
                f"image has dtype {meta.dtype}, which is not one of real numbers; cast it first."
            )
        self.output.meta = meta.replace(
            dtype=np.float32, value_range=None, semantics="intensities", ram_per_pixel=4.0 * 8
        )
        return [self.radius.value if axis in meta.axes.spatial else 0 for axis in range(meta.ndim)]

    def execute(self, slot: Any, roi: Roi, out: Array) -> None:
        """Compute one region."""
        needed = self._with_halo(roi)
        before = np.subtract(needed.start, roi.start) + self.plan
        after = np.subtract(roi.stop, needed.stop) + self.plan
        pixels = np.pad(
            self.image.read(needed).astype(np.float64), list(zip(before, after, strict=True)), mode="edge"
        )
        mean = self._box_mean(pixels)
        variance = self._box_mean(np.square(pixels)) - np.square(mean)
        deviation = np.sqrt(np.maximum(variance, 0))  # rounding may leave less than nothing
        middle = tuple(slice(h, n - h) for h, n in zip(self.plan, pixels.shape, strict=True))
        out[...] = (pixels[middle] - mean) / np.maximum(deviation, self.floor.value)

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        """Say which outputs are stale when a region of the input is."""
        self.output.mark_dirty(self._with_halo(roi))

    def _box_mean(self, pixels: Array) -> Array:
        """Return the mean over the surroundings, for all pixels that have them.

        Not by running sums: what they carry along depends on where a region begins, and the same pixel would
        differ in the last bits from block to block.
        """
        width = 2 * self.radius.value + 1
        for axis in self.image.meta.axes.spatial:
            windows = np.lib.stride_tricks.sliding_window_view(pixels, width, axis=axis)
            total = windows[..., 0].copy()
            for shift in range(1, width):
                total += windows[..., shift]
            pixels = total / width
        return pixels

    def _with_halo(self, roi: Roi) -> Roi:
        return roi.with_halo(self.plan, within=self.image.meta.roi)
