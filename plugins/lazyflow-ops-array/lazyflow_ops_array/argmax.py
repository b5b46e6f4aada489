"""`OpArgmax`: which channel is the largest?"""

from __future__ import annotations

from typing import Any

import numpy as np
from lazyflow_core import InputSlot, Operator, OutputSlot, ParameterSlot, Roi
from lazyflow_core.blocks import pieces
from lazyflow_core.errors import SetupError

from lazyflow_ops_array.base import check_real, ram_per_pixel

__all__ = ["OpArgmax"]


class OpArgmax(Operator):
    """Find the channel with the largest value for each pixel: the winner of class probabilities.

    Inputs
    ------
    image : InputSlot, any axes, any real dtype
        NaN wins nowhere.
    axis : ParameterSlot[str]
        Key of the axis along which to look; usually that of channels.
    first : ParameterSlot[int]
        The number of the first channel in ``output``: 1 leaves 0 for the background.

    Outputs
    -------
    output : OutputSlot, axes of ``image``, uint8, or uint16 or uint32 where there are too many channels
        The axis stays, with one pixel. Of equals the first channel wins. Its meta says that these are labels.
    winner : OutputSlot, shape and axes of ``image``, uint8
        1 in the channel that wins, else 0.

    Regions
    -------
    pull   ``roi`` needs all channels of its pixels.
    push   a dirty ROI becomes all channels of its pixels; ``first`` makes ``output`` dirty.

    Memory
    ------
    All channels of the region, and pieces of them.

    Raises
    ------
    SetupError
        If the image is complex, has no such axis, or no pixel along it.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> argmax = OpArgmax(graph=Graph(), image=np.array([[[0.2, 0.7, 0.1], [0.5, 0.5, 0.0]]]))
    >>> argmax.output.read().tolist(), argmax.winner.read().tolist()
    ([[[1], [0]]], [[[0, 1, 0], [1, 0, 0]]])
    """

    image = InputSlot(doc="what to compare")
    axis = ParameterSlot(str, default="c", doc="along which axis")
    first = ParameterSlot(int, default=0, range=(0, 1 << 20), doc="the number of the first channel")
    output = OutputSlot(doc="which channel wins")
    winner = OutputSlot(doc="1 in the channel that wins")

    def setup_outputs(self) -> int:
        """Return the position of the axis."""
        meta, key = self.image.meta, self.axis.value
        check_real(meta)
        if not meta.axis_length(key) or key not in meta.axes:
            raise SetupError(f"axis={key!r}: there is no pixel along such an axis ({meta}).")
        axis = meta.axes.index(key)
        count = meta.shape[axis]
        last = self.first.value + count - 1
        one = [1 if i == axis else n for i, n in enumerate(meta.shape)]
        block = meta.preferred_block
        self.output.meta = meta.replace(
            shape=tuple(one),
            dtype=np.min_scalar_type(last),
            axes=meta.axes,
            value_range=(self.first.value, last),
            preferred_block=block
            and tuple(min(a, b) if i == axis else a for i, (a, b) in enumerate(zip(block, one, strict=True))),
            max_block=None,
            channel_names=(),
            semantics="labels",
            ram_per_pixel=count * ram_per_pixel(meta, np.dtype(np.uint8)) + 16,
        )
        self.winner.meta = meta.replace(
            dtype=np.uint8,
            value_range=(0, 1),
            semantics="intensities",
            ram_per_pixel=count * ram_per_pixel(meta, np.dtype(np.uint8)) + 16,
        )
        return axis

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        axis: int = self.plan
        count = self.image.meta.shape[axis]
        image = self.image.read(roi.with_axis(axis, 0, count))
        # Cut along the other axes only.
        across = [1 if i == axis else n for i, n in enumerate(roi.shape)]
        for key in pieces(across, max(1, (1 << 18) // count)):
            here = key if key == (...,) or len(key) <= axis else (*key[:axis], slice(None), *key[axis + 1 :])
            values = image[here]
            if values.dtype.kind == "f":
                values = np.where(np.isnan(values), values.dtype.type(-np.inf), values)
            best = np.expand_dims(np.argmax(values, axis=axis), axis)
            if slot is self.output:
                best += self.first.value
                np.copyto(out[here], best, casting="unsafe")
            else:
                channels = np.arange(roi.start[axis], roi.stop[axis])
                shape = [-1 if i == axis else 1 for i in range(image.ndim)]
                np.copyto(out[here], best == channels.reshape(shape), casting="unsafe")

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        axis: int = self.plan
        self.output.mark_dirty(roi.with_axis(axis, 0, 1))
        self.winner.mark_dirty(roi.with_axis(axis, 0, self.image.meta.shape[axis]))
