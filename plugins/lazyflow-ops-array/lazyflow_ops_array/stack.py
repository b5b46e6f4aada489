"""`OpStack`: several images as one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import prod
from typing import Any, NamedTuple

from lazyflow_core import ArrayMeta, Axes, Axis, InputSlot, Operator, OutputSlot, ParameterSlot, Roi
from lazyflow_core.errors import SetupError
from lazyflow_core.request import gather

from lazyflow_ops_array.base import ram_per_pixel

__all__ = ["OpStack"]


class OpStack(Operator):
    """Put images one behind the other along an axis they have, or along a new one.

    Inputs
    ------
    images : InputSlot, a list of arrays
        All with the same dtype and axes, and the same lengths except along ``axis``.
    axis : ParameterSlot[str]
        Key of the axis. A new one is the first of the result; a new channel axis is the last.

    Outputs
    -------
    output : OutputSlot, dtype of the images
        Pixel sizes and origin are those of the first image.

    Regions
    -------
    pull   ``roi`` needs its part of each image that it touches, several at the same time.
    push   a dirty ROI of an image moves to where that image is.

    Memory
    ------
    None of its own: the images write into ``out``.

    Raises
    ------
    SetupError
        If the images do not fit together; names the first one that does not.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> rows = [np.array([[1, 2]]), np.array([[3, 4], [5, 6]])]
    >>> OpStack(graph=Graph(), images=rows, axis="y").output.read().tolist()
    [[1, 2], [3, 4], [5, 6]]
    """

    images = InputSlot(level=1, doc="what to put together")
    axis = ParameterSlot(
        str,
        default="z",
        check=lambda key: None if key.isidentifier() else "is no axis key",
        doc="along which axis",
    )
    output = OutputSlot()

    def setup_outputs(self) -> _Along:
        """Return along what, and where each image begins there."""
        metas = [image.meta for image in self.images]
        first, key = metas[0], self.axis.value
        is_new = key not in first.axes
        if not is_new:
            position = first.axes.index(key)
            lengths = [meta.axis_length(key) for meta in metas]
        else:
            position = first.ndim if Axis(key).kind == "channel" else 0
            lengths = [1] * len(metas)
        along = _Along(is_new, position, tuple(accumulate(lengths, initial=0)))
        for index, meta in enumerate(metas):
            if meta.axes.keys != first.axes.keys:
                problem = f"has axes {meta.axes.keys!r}, the first one {first.axes.keys!r}"
            elif meta.dtype != first.dtype:
                problem = f"has dtype {meta.dtype}, the first one {first.dtype}; cast one of them"
            elif along.at_axis(meta.shape, lengths[index]) != along.at_axis(first.shape, lengths[index]):
                problem = f"({meta}) has other lengths than the first one ({first})"
            else:
                continue
            raise SetupError(f"images[{index}] {problem}.")
        axes = list(first.axes)
        if is_new:
            axes.insert(position, Axis(key))
        blocks = {meta.preferred_block for meta in metas}
        block = first.preferred_block if len(blocks) == 1 else None
        ranges = [meta.value_range for meta in metas]
        known = [r for r in ranges if r is not None]
        shape = along.at_axis(first.shape, along.offsets[-1])
        self.output.meta = first.replace(
            shape=shape,
            axes=Axes(axes),
            value_range=(min(r[0] for r in known), max(r[1] for r in known))
            if len(known) == len(ranges)
            else None,
            preferred_block=None if block is None else along.at_axis(block, 1) if is_new else block,
            max_block=None,
            channel_names=_channel_names(metas, Axes(axes), shape, key),
            semantics="labels" if all(meta.semantics == "labels" for meta in metas) else "intensities",
            ram_per_pixel=max(ram_per_pixel(meta, meta.dtype) for meta in metas),
        )
        return along

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        is_new, position, offsets = self.plan
        reads = []
        begin, end = roi.start[position], roi.stop[position]
        for image, (first, stop) in zip(self.images, pairwise(offsets), strict=True):
            a, b = max(begin, first), min(end, stop)
            if a < b:
                part = roi.with_axis(position, a - first, b - first)
                here: tuple[Any, ...] = (slice(None),) * position
                if is_new:
                    part = Roi(_without(part.start, position), _without(part.stop, position))
                    here += (a - begin, ...)
                else:
                    here += (slice(a - begin, b - begin),)
                reads.append(image.request(part).write_into(out[here]))
        if reads:
            gather(*reads)

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        along: _Along = self.plan
        offset = along.offsets[slot.index]
        start, stop, position = roi.start, roi.stop, along.position
        first, last = (0, 1) if along.is_new else (start[position], stop[position])
        self.output.mark_dirty(Roi(along.at_axis(start, first + offset), along.at_axis(stop, last + offset)))


class _Along(NamedTuple):
    """The axis along which images are put together."""

    #: Whether it is a new one.
    is_new: bool
    #: Where it is among the axes of the output.
    position: int
    #: Where each image begins along it, and where the last one ends.
    offsets: tuple[int, ...]

    def at_axis(self, values: Sequence[int], value: int) -> tuple[int, ...]:
        """Return one number per axis of the output: those of an image, and ``value`` for this one."""
        rest = values if self.is_new else _without(values, self.position)
        return (*rest[: self.position], value, *rest[self.position :])


def _without(values: Sequence[int], position: int) -> tuple[int, ...]:
    return (*values[:position], *values[position + 1 :])


def _channel_names(metas: Sequence[ArrayMeta], axes: Axes, shape: Sequence[int], key: str) -> tuple[str, ...]:
    channels = axes.of_kind("channel")
    if axes.index(key) not in channels:
        names = metas[0].channel_names
    else:
        names = tuple(name for meta in metas for name in meta.channel_names)
    return names if len(names) == prod(shape[i] for i in channels) else ()
