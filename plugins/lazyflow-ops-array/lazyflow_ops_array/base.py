"""What operators with one image and one output share: same-region dirtiness, passing through, memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from lazyflow_core import ArrayMeta, InputSlot, Operator, OutputSlot, Roi
from lazyflow_core.errors import SetupError

__all__ = ["OpPointwise", "OpSingle", "check_real", "ram_per_pixel"]


class OpSingle(Operator):
    """Base of operators with one image and one output, which may be the image itself."""

    image = InputSlot(doc="the array to work on")
    output = OutputSlot()

    def set_output(self, meta: ArrayMeta | None) -> None:
        """Let the output have that meta; None connects it to the input, where there is nothing to do."""
        if meta is None and len(self.inputs) == 1:
            self.output.connect(self.image)
            return
        # With another input that is required, a connection would stay ready when that one is gone.
        meta = meta or self.image.meta
        if self.output.upstream is not None:
            self.output.disconnect()
        self.output.meta = meta


class OpPointwise(OpSingle):
    """Base of operators whose output pixel depends on the input pixel at the same place only."""

    pixelwise = True

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        self.output.mark_dirty(roi)


def check_real(meta: ArrayMeta) -> None:
    """Raise `SetupError` unless the pixels are real numbers."""
    if meta.dtype.kind not in "buif":
        raise SetupError(f"image has dtype {meta.dtype}, which is not one of real numbers.")


def ram_per_pixel(meta: ArrayMeta, dtype: np.dtype[Any], scratch: float = 0) -> float:
    """Return bytes at the peak per pixel: what the input needs, the result, and scratch besides."""
    needed = max(meta.ram_per_pixel or 0.0, float(meta.dtype.itemsize))
    return needed + float(dtype.itemsize) + scratch
