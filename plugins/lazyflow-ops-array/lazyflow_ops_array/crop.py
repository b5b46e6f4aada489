"""`OpCrop`: a box of an image."""

from __future__ import annotations

from typing import Any

from lazyflow_core import ArrayMeta, ParameterSlot, Roi
from lazyflow_core.errors import LazyflowError, RoiError, SetupError
from lazyflow_core.roi import parse_slicing

from lazyflow_ops_array.base import OpSingle

__all__ = ["OpCrop"]


def _check(value: str | tuple[Any, ...]) -> str | None:
    if isinstance(value, str):
        try:
            parse_slicing(value)
        except RoiError as error:
            return f"is no slicing: {error}"
        return None
    if len(value) != 2 or not all(isinstance(corner, tuple) for corner in value):
        return "is neither a slicing such as '10:20, :, 5:' nor a pair (start, stop)"
    try:
        Roi(*value)
    except LazyflowError as error:
        return f"is no box: {error}"
    return None


class OpCrop(OpSingle):
    """Cut a box out of an image.

    Inputs
    ------
    image : InputSlot, any axes, any dtype
    roi : ParameterSlot[str or tuple]
        The box in pixels of ``image``. Slicing as text, in the order of its axes (``"10:20, :, 5:"``, also
        ``"..., 5:"``), or with their names in any order (``"z=10:20, x=5:"``; axes left out are kept
        whole). As for numpy, negative numbers count from the end; unlike numpy, a single number keeps
        its axis, with one pixel, and nothing is clipped. Or a pair ``(start, stop)`` of tuples.

    Outputs
    -------
    output : OutputSlot, axes and dtype of ``image``
        Its origin (``translation`` of the axes) moves along. The input itself if nothing is cut off.

    Regions
    -------
    pull   ``roi`` needs itself, moved by the start of the box.
    push   what a dirty ROI has in the box, moved back; nothing if it lies outside.

    Memory
    ------
    None of its own: the input writes into ``out``.

    Raises
    ------
    SetupError
        If the box reaches outside the image or names an axis that it does not have.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> crop = OpCrop(graph=Graph(), image=np.arange(20).reshape(4, 5), roi="x=-2:")
    >>> crop.output[0].wait()
    array([[3, 4]])
    """

    roi = ParameterSlot(str | tuple, default="...", check=_check, doc="what to keep, e.g. '10:20, :, 5:'")

    def setup_outputs(self) -> Roi:
        """Return the box."""
        meta = self.image.meta
        box = self._find_box(meta)
        if box == meta.roi:
            self.set_output(None)
            return box
        cropped = meta.cropped(box)
        block = meta.preferred_block
        if block is not None and any(s % b for s, b in zip(box.start, block, strict=True)):
            # Blocks counted from the new origin would each touch several of the old ones.
            cropped = cropped.replace(preferred_block=None)
        self.set_output(cropped)
        return box

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        self.image.read(roi.shift(self.plan.start), out=out)

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        box = self.plan
        if roi.intersects(box):
            self.output.mark_dirty((roi & box).relative_to(box))

    def _find_box(self, meta: ArrayMeta) -> Roi:
        value = self.roi.value
        if isinstance(value, tuple):
            box = Roi(*value)
            if box.ndim != meta.ndim or box not in meta.roi:
                raise SetupError(f"roi={box} is not inside the image ({meta}).")
            return box
        try:
            return meta.roi_of(value)
        except RoiError as error:
            raise SetupError(f"roi={value!r} does not fit the image ({meta}): {error}") from None
