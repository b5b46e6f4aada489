"""`OpSlices`: an image as a list of its slices."""

from __future__ import annotations

from typing import Any, NamedTuple

from lazyflow_core import InputSlot, Operator, OutputSlot, ParameterSlot, Roi
from lazyflow_core.errors import SetupError

__all__ = ["OpSlices"]


def _check(value: tuple[Any, ...]) -> str | None:
    wrong = [item for item in value if isinstance(item, bool) or not isinstance(item, int)]
    return f"has {wrong[0]!r} in it, which is no position" if wrong else None


class OpSlices(Operator):
    """Give each slice of an image along an axis as an output of its own, for lanes to work on.

    Inputs
    ------
    image : InputSlot, any axes, any dtype
    axis : ParameterSlot[str]
        Key of the axis.
    positions : ParameterSlot[tuple]
        Which slices, in which order, also repeatedly; negative ones count from the end. Empty: all.

    Outputs
    -------
    slices : OutputSlot, a list of arrays with dtype and axes of ``image``
        The axis stays, with one pixel, whose place is that of the slice.

    Regions
    -------
    pull   ``roi`` needs the same ROI of that slice.
    push   what a dirty ROI has in each slice; nothing in the others.

    Memory
    ------
    None of its own: the input writes into ``out``.

    Raises
    ------
    SetupError
        If the image has no such axis, or no pixel at such a position.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> slices = OpSlices(graph=Graph(), image=np.array([[1, 2], [3, 4]]), axis="y").slices
    >>> [each.read().tolist() for each in slices]
    [[[1, 2]], [[3, 4]]]
    """

    image = InputSlot(doc="what to take apart")
    axis = ParameterSlot(str, default="z", doc="along which axis")
    positions = ParameterSlot(tuple, default=(), check=_check, doc="which slices; () for all")
    slices = OutputSlot(level=1, doc="one for each position")

    def setup_outputs(self) -> _Plan:
        """Return which slice of the image each output is."""
        meta, key = self.image.meta, self.axis.value
        if key not in meta.axes:
            raise SetupError(f"axis={key!r}: the image has no such axis ({meta}).")
        axis = meta.axes.index(key)
        length = meta.shape[axis]
        positions = tuple(range(length))
        if self.positions.value:
            positions = tuple(p + length if p < 0 else p for p in self.positions.value)
            wrong = [p for p in positions if not 0 <= p < length]
            if wrong:
                raise SetupError(f"positions={self.positions.value}: axis {key} has {length} pixels.")
        self.slices.resize(len(positions))
        block = meta.preferred_block
        thin = None if block is None else (*block[:axis], 1, *block[axis + 1 :])
        for output, position in zip(self.slices, positions, strict=True):
            output.meta = meta.cropped(meta.roi.with_axis(axis, position, position + 1)).replace(
                preferred_block=thin
            )
        return _Plan(axis, positions)

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        axis, positions = self.plan
        position = positions[slot.index]
        self.image.read(roi.with_axis(axis, position, position + 1), out=out)

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        axis, positions = self.plan
        for output, position in zip(self.slices, positions, strict=True):
            if roi.start[axis] <= position < roi.stop[axis]:
                output.mark_dirty(roi.with_axis(axis, 0, 1))


class _Plan(NamedTuple):
    #: Where among the axes it is.
    axis: int
    #: Which slice each output is.
    positions: tuple[int, ...]
