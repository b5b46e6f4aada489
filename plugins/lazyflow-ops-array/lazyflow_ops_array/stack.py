"""`OpStack`: several images as one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import prod
from typing import Any

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

    #: Whether the axis is new, its position in the output, and where each image begins along it (and the last
    #: one ends). Written by `setup_outputs`.
    _is_new: bool
    _position: int
    _offsets: tuple[int, ...]

    def setup_outputs(self) -> None:
        metas = [image.meta for image in self.images]
        first, key = metas[0], self.axis.value
        self._is_new = key not in first.axes
        if not self._is_new:
            self._position = first.axes.index(key)
            lengths = [meta.axis_length(key) for meta in metas]
        else:
            self._position = first.ndim if Axis(key).kind == "channel" else 0
            lengths = [1] * len(metas)
        for index, meta in enumerate(metas):
            if meta.axes.keys != first.axes.keys:
                problem = f"has axes {meta.axes.keys!r}, the first one {first.axes.keys!r}"
            elif meta.dtype != first.dtype:
                problem = f"has dtype {meta.dtype}, the first one {first.dtype}; cast one of them"
            elif self._at_axis(meta.shape, lengths[index]) != self._at_axis(first.shape, lengths[index]):
                problem = f"({meta}) has other lengths than the first one ({first})"
            else:
                continue
            raise SetupError(f"images[{index}] {problem}.")
        self._offsets = tuple(accumulate(lengths, initial=0))
        axes = list(first.axes)
        if self._is_new:
            axes.insert(self._position, Axis(key))
        blocks = {meta.preferred_block for meta in metas}
        block = first.preferred_block if len(blocks) == 1 else None
        ranges = [meta.value_range for meta in metas]
        known = [r for r in ranges if r is not None]
        shape = self._at_axis(first.shape, self._offsets[-1])
        self.output.meta = first.replace(
            shape=shape,
            axes=Axes(axes),
            value_range=(min(r[0] for r in known), max(r[1] for r in known))
            if len(known) == len(ranges)
            else None,
            preferred_block=None if block is None else self._at_axis(block, 1) if self._is_new else block,
            max_block=None,
            channel_names=_channel_names(metas, Axes(axes), shape, key),
            semantics="labels" if all(meta.semantics == "labels" for meta in metas) else "intensities",
            ram_per_pixel=max(ram_per_pixel(meta, meta.dtype) for meta in metas),
        )

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        reads = []
        begin, end = roi.start[self._position], roi.stop[self._position]
        for image, (first, stop) in zip(self.images, pairwise(self._offsets), strict=True):
            a, b = max(begin, first), min(end, stop)
            if a < b:
                part = roi.with_axis(self._position, a - first, b - first)
                here: tuple[Any, ...] = (slice(None),) * self._position
                if self._is_new:
                    part = Roi(_without(part.start, self._position), _without(part.stop, self._position))
                    here += (a - begin, ...)
                else:
                    here += (slice(a - begin, b - begin),)
                reads.append(image.request(part).write_into(out[here]))
        if reads:
            gather(*reads)

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        offset = self._offsets[slot.index]
        start, stop = roi.start, roi.stop
        first, last = (0, 1) if self._is_new else (start[self._position], stop[self._position])
        self.output.mark_dirty(Roi(self._at_axis(start, first + offset), self._at_axis(stop, last + offset)))

    def _at_axis(self, values: Sequence[int], value: int) -> tuple[int, ...]:
        """Return one number per axis of the output: those of an image, and ``value`` for the axis."""
        rest = values if self._is_new else _without(values, self._position)
        return (*rest[: self._position], value, *rest[self._position :])


def _without(values: Sequence[int], position: int) -> tuple[int, ...]:
    return (*values[:position], *values[position + 1 :])


def _channel_names(metas: Sequence[ArrayMeta], axes: Axes, shape: Sequence[int], key: str) -> tuple[str, ...]:
    channels = axes.of_kind("channel")
    if axes.index(key) not in channels:
        names = metas[0].channel_names
    else:
        names = tuple(name for meta in metas for name in meta.channel_names)
    return names if len(names) == prod(shape[i] for i in channels) else ()
