"""What the second stage of ilastik's autocontext looks at: the image, and what the first stage made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from lazyflow_core import InputSlot, Operator, OutputSlot, Roi
from lazyflow_core.errors import SetupError

__all__ = ["OpStageInput"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class _Plan:
    #: Position of the channel axis.
    channel: int
    #: Channels of the image, which come first.
    images: int
    #: Whether the image has a channel axis.
    has_channel: bool


class OpStageInput(Operator):
    """Put probabilities behind the channels of an image, in its dtype.

    As in ilastik, a probability p becomes floor(255 p) where the image is uint8, floor(65535 p) where it is
    uint16, likewise for other integers, and stays p where it is of floating point.

    Inputs
    ------
    image : InputSlot, any axes with at most one channel axis
    probabilities : InputSlot, float32
        The same axes and lengths, and a channel axis.

    Outputs
    -------
    output : OutputSlot, dtype of ``image``
        Axes of ``probabilities``: the channels of the image, then those of the probabilities.

    Regions
    -------
    pull, push   the same ROI; of each input its channels.

    Memory
    ------
    The probabilities of the region.

    Raises
    ------
    SetupError
        If the two are no images of the same size.
    """

    image = InputSlot(doc="what comes first")
    probabilities = InputSlot(dtype=np.float32, doc="what comes behind")
    output = OutputSlot(doc="both")

    def setup_outputs(self) -> _Plan:
        image, meta = self.image.meta, self.probabilities.meta
        channels = meta.axes.of_kind("channel")
        if len(channels) != 1:
            raise SetupError(f"probabilities ({meta}) need one channel axis.")
        channel = channels[0]
        has_channel = bool(image.axes.of_kind("channel"))
        rest = [i for i in range(meta.ndim) if i != channel]
        own = list(range(meta.ndim)) if has_channel else rest
        keys = [meta.axes[i].key for i in own]
        lengths = [image.axis_length(meta.axes[i].key) for i in rest]
        if [axis.key for axis in image.axes] != keys or lengths != [meta.shape[i] for i in rest]:
            raise SetupError(f"image ({image}) and probabilities ({meta}) are no images of the same size.")
        count = image.shape[channel] if has_channel else 1
        shape = (*meta.shape[:channel], count + meta.shape[channel], *meta.shape[channel + 1 :])
        self.output.meta = meta.replace(
            shape=shape,
            dtype=image.dtype,
            value_range=None,
            channel_names=(),
            preferred_block=None,
            max_block=None,
            ram_per_pixel=max(meta.ram_per_pixel or 0, image.ram_per_pixel or 0) + 4.0 + image.dtype.itemsize,
        )
        return _Plan(channel, count, has_channel)

    def execute(self, slot: Any, roi: Roi, out: Array) -> None:
        plan = self.plan
        c, n = plan.channel, plan.images
        start, stop = roi.start[c], roi.stop[c]
        if start < n:
            region, target = _channels(roi, c, start, min(stop, n)), out[_along(c, 0, min(stop, n) - start)]
            if plan.has_channel:
                self.image.read(region, out=target)
            else:
                flat = Roi((*roi.start[:c], *roi.start[c + 1 :]), (*roi.stop[:c], *roi.stop[c + 1 :]))
                self.image.read(flat, out=np.moveaxis(target, c, 0)[0])
        if stop > n:
            first = max(start, n)
            p = self.probabilities.read(_channels(roi, c, first - n, stop - n))
            target = out[_along(c, first - start, stop - start)]
            target[...] = np.floor(p * np.float32(np.iinfo(out.dtype).max)) if out.dtype.kind in "iu" else p

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        plan = self.plan
        c, n = plan.channel, plan.images
        if slot is self.probabilities:
            roi = _channels(roi, c, roi.start[c] + n, roi.stop[c] + n)
        elif not plan.has_channel:
            roi = Roi((*roi.start[:c], 0, *roi.start[c:]), (*roi.stop[:c], 1, *roi.stop[c:]))
        self.output.mark_dirty(roi)


def _channels(roi: Roi, channel: int, start: int, stop: int) -> Roi:
    """Return a region with other channels."""
    return Roi(
        (*roi.start[:channel], start, *roi.start[channel + 1 :]),
        (*roi.stop[:channel], stop, *roi.stop[channel + 1 :]),
    )


def _along(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, slice(start, stop))
