"""`OpChannel`: some channels of an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lazyflow_core import ArrayMeta, ParameterSlot, Roi
from lazyflow_core.errors import SetupError

from lazyflow_ops_array.base import OpSingle

__all__ = ["OpChannel"]


def _check(value: int | str | tuple[Any, ...]) -> str | None:
    items = value if isinstance(value, tuple) else (value,)
    if not items:
        return "selects no channel"
    wrong = [item for item in items if isinstance(item, bool) or not isinstance(item, (int, str))]
    return f"has {wrong[0]!r} in it, which is neither a number nor a name" if wrong else None


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Give ``(position, first, count)`` for each run of numbers that follow each other.

    Examples
    --------
    >>> list(_runs([4, 5, 2]))
    [(0, 4, 2), (2, 2, 1)]
    """
    begin = 0
    for i in range(1, len(numbers) + 1):
        if i == len(numbers) or numbers[i] != numbers[i - 1] + 1:
            yield begin, numbers[begin], i - begin
            begin = i


class OpChannel(OpSingle):
    """Select channels by number or name, in any order, also repeatedly.

    Inputs
    ------
    image : InputSlot, any axes of which one is a channel axis, any dtype
    channels : ParameterSlot[int, str or tuple]
        One channel or several, each as its number counted from 0 or as its name.

    Outputs
    -------
    output : OutputSlot, axes and dtype of ``image``
        The channel axis stays, also for a single channel; `array.reorder_axes` drops it.

    Regions
    -------
    pull   ``roi`` needs the same ROI of the selected channels only, one read per run of neighbours.
    push   the same ROI of those channels that are selected.

    Memory
    ------
    None of its own: the input writes into ``out``.

    Raises
    ------
    SetupError
        If there is no channel axis, or no such channel; names those there are.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> bgr = OpChannel(graph=Graph(), image=np.array([[[1, 2, 3]]]), channels=(2, 1, 0))
    >>> bgr.output.read().tolist()
    [[[3, 2, 1]]]
    """

    channels = ParameterSlot(int | str | tuple, default=0, check=_check, doc="numbers or names of channels")

    def setup_outputs(self) -> tuple[int, tuple[int, ...]]:
        """Return the position of the channel axis, and the number in the image of each output channel."""
        meta = self.image.meta
        axes = meta.axes.of_kind("channel")
        if len(axes) != 1:
            raise SetupError(f"the image has {len(axes) or 'no'} channel axes, not one ({meta}).")
        axis = axes[0]
        value = self.channels.value
        items = value if isinstance(value, tuple) else (value,)
        numbers = tuple(_number(item, meta, meta.shape[axis]) for item in items)
        if numbers == tuple(range(meta.shape[axis])):
            self.set_output(None)
            return axis, numbers
        count = len(numbers)
        names = meta.channel_names and tuple(meta.channel_names[n] for n in numbers)
        block = meta.preferred_block
        if block is not None:
            block = (*block[:axis], min(block[axis], count), *block[axis + 1 :])
        shape = (*meta.shape[:axis], count, *meta.shape[axis + 1 :])
        self.set_output(meta.replace(shape=shape, channel_names=names, preferred_block=block))
        return axis, numbers

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        axis, numbers = self.plan
        selected = numbers[roi.start[axis] : roi.stop[axis]]
        for position, first, count in _runs(selected):
            part = (slice(None),) * axis + (slice(position, position + count),)
            self.image.read(roi.with_axis(axis, first, first + count), out=out[part])

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        axis, numbers = self.plan
        first, end = roi.start[axis], roi.stop[axis]
        stale = [i for i, number in enumerate(numbers) if first <= number < end]
        for _, start, count in _runs(stale):
            self.output.mark_dirty(roi.with_axis(axis, start, start + count))


def _number(item: int | str, meta: ArrayMeta, count: int) -> int:
    if isinstance(item, str):
        if item in meta.channel_names:
            return meta.channel_names.index(item)
        there_are = ", ".join(map(repr, meta.channel_names)) or "channels without names"
        raise SetupError(f"the image has no channel {item!r}; it has {there_are}.")
    if not 0 <= item < count:
        raise SetupError(f"the image has no channel {item}; its channels are 0 to {count - 1}.")
    return item
