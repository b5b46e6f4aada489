"""Sections that a microscope or a transfer has lost: found, and filled from their neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from lazyflow_core import InputSlot, Operator, OutputSlot, ParameterSlot, Roi
from lazyflow_core.blocks import pieces
from lazyflow_core.errors import SetupError

from lazyflow_ops_array.base import OpSingle, check_real, ram_per_pixel
from lazyflow_ops_array.blockwise import map_boxes
from lazyflow_ops_array.conversion import convert

__all__ = ["OpFillMissing", "OpFindMissing"]


class OpFindMissing(Operator):
    """Find the sections of an image that are empty.

    Inputs
    ------
    image : InputSlot, any axes, any real dtype
    axis : ParameterSlot[str]
        Across which the sections lie.
    value : ParameterSlot[float]
        What stands where nothing was recorded; NaN counts as well.
    share : ParameterSlot[float]
        Which part of its pixels has to have that value for a section to be missing, all frames and channels
        taken together.

    Outputs
    -------
    sections : OutputSlot[tuple]
        Their positions along the axis, rising.

    Regions
    -------
    pull   all of the image, block by block, when the value is asked for.
    push   any change makes the value dirty.

    Memory
    ------
    Some blocks of a million pixels.

    Raises
    ------
    SetupError
        If the image is complex or has no such axis.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> image = np.array([[[1, 2]], [[0, 0]], [[3, 0]]], np.uint8)
    >>> with Graph() as graph:
    ...     missing = OpFindMissing(graph=graph)
    ...     missing.image.assign(image, axes="zyx")
    ...     missing.sections.value
    (1,)
    """

    image = InputSlot(doc="where to look")
    axis = ParameterSlot(str, default="z", doc="across which the sections lie")
    value = ParameterSlot(float, default=0.0, doc="what stands where nothing was recorded")
    share = ParameterSlot(float, default=1.0, range=(0, 1), doc="part of the pixels that has to have it")
    sections = OutputSlot(value=tuple, doc="positions of those that are missing")

    def setup_outputs(self) -> int:
        """Return the position of the axis."""
        meta = self.image.meta
        check_real(meta)
        return _position(self.axis.value, meta)

    def compute_value(self, slot: Any) -> tuple[int, ...]:
        axis, value = self.plan, self.value.value
        meta = self.image.meta
        length = meta.shape[axis]
        others = tuple(i for i in range(meta.ndim) if i != axis)

        def count(pixels: Any) -> Any:
            empty = pixels == value
            if pixels.dtype.kind == "f":
                empty |= np.isnan(pixels)
            return np.count_nonzero(empty, axis=others)

        counts = np.zeros(length, np.int64)
        for box, part in map_boxes(self.image, count):
            counts[box.start[axis] : box.stop[axis]] += part
        pixels = meta.size // max(1, length)
        if not pixels:
            return ()
        return tuple(np.flatnonzero(counts >= max(1, self.share.value * pixels)).tolist())

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        self.sections.mark_dirty()


class OpFillMissing(OpSingle):
    """Replace sections by what lies between their neighbours.

    Inputs
    ------
    image : InputSlot, any axes, any real dtype
    sections : ParameterSlot[tuple]
        Positions of those to replace, in any order; may be connected to `OpFindMissing`.
    axis : ParameterSlot[str]
        Across which the sections lie.
    method : ParameterSlot[str]
        ``"linear"``: between the next sections on both sides that are there, rounded to the nearest for
        integers. ``"nearest"``: the next one, of equals that before. At the ends of the axis the next one
        that is there is repeated; if none is, nothing is replaced.

    Outputs
    -------
    output : OutputSlot, meta of ``image``
        Its value range, if known, is that of all sections.

    Regions
    -------
    pull   ``roi``, and of the neighbours of the missing sections in it what lies above and below.
    push   a dirty ROI, with the missing sections next to it; where it is only computed which sections these
           are, all that lies above and below.

    Memory
    ------
    The input writes into ``out``; two sections of the region, and one in float64.

    Raises
    ------
    SetupError
        If the image is complex or has no such axis or sections.
    ExecuteError
        If computed positions lie outside.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> fill = OpFillMissing(graph=Graph(), sections=(1, 2))
    >>> fill.image.assign(np.array([[[10]], [[0]], [[0]], [[40]]], np.uint8), axes="zyx")
    >>> fill.output.read().ravel().tolist()
    [10, 20, 30, 40]
    """

    sections = ParameterSlot(tuple, default=(), doc="positions of those to replace")
    axis = ParameterSlot(str, default="z", doc="across which the sections lie")
    method = ParameterSlot(
        str, default="linear", choices=("linear", "nearest"), doc="what to put in their place"
    )

    def setup_outputs(self) -> int:
        """Return the position of the axis."""
        meta = self.image.meta
        check_real(meta)
        axis = _position(self.axis.value, meta)
        if not self.sections.is_computed:
            try:
                gaps = list(_gaps(self.sections.value, meta.shape[axis]))
            except ValueError as error:
                raise SetupError(str(error)) from error
            if not gaps:
                self.set_output(None)
                return axis
        self.set_output(meta.replace(ram_per_pixel=ram_per_pixel(meta, meta.dtype, 8.0)))
        return axis

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        axis = self.plan
        self.image.read(roi, out=out)
        begin, end = roi.start[axis], roi.stop[axis]
        length = self.image.meta.shape[axis]
        for first, last in _gaps(self.sections.value, length):
            if last < begin or first >= end or (first == 0 and last == length - 1):
                continue
            sides = {side: None for side in (first - 1, last + 1) if 0 <= side < length}
            near = {side: self.image.read(roi.with_axis(axis, side, side + 1)) for side in sides}
            for position in range(max(first, begin), min(last + 1, end)):
                here = (slice(None),) * axis + (slice(position - begin, position - begin + 1),)
                self._fill(out[here], position, near)

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        axis = self.plan
        length = self.image.meta.shape[axis]
        start, stop = roi.start[axis], roi.stop[axis]
        if self.sections.is_computed:
            start, stop = 0, length
        else:
            for first, last in _gaps(self.sections.value, length):
                if first <= stop and last + 1 >= start:
                    start, stop = min(start, first), max(stop, last + 1)
        self.output.mark_dirty(roi.with_axis(axis, start, stop))

    def _fill(self, out: Any, position: int, near: dict[int, Any]) -> None:
        sides = sorted(near, key=lambda side: (abs(side - position), side))
        if len(sides) == 1 or self.method.value == "nearest":
            np.copyto(out, near[sides[0]])
            return
        below, above = sorted(sides)
        share = (position - below) / (above - below)
        for key in pieces(out.shape):
            low, high = near[below][key], near[above][key]
            if out.dtype.kind == "b":
                np.copyto(out[key], low if share < 0.5 else high)
                continue
            between = low * (1 - share) + high * share
            if out.dtype.kind == "f":
                np.copyto(out[key], between, casting="same_kind")
            else:
                convert(np.asarray(between, np.float64), out[key], "clip")


def _position(key: str, meta: Any) -> int:
    if key not in meta.axes:
        raise SetupError(f"axis={key!r}: the image has no such axis ({meta}).")
    position: int = meta.axes.index(key)
    return position


def _gaps(sections: Sequence[Any], length: int) -> Iterator[tuple[int, int]]:
    """Give first and last of each run of sections that follow each other.

    Examples
    --------
    >>> list(_gaps((7, 3, 4), 9))
    [(3, 4), (7, 7)]
    """
    wrong = [s for s in sections if isinstance(s, bool) or not isinstance(s, int) or not 0 <= s < length]
    if wrong:
        raise ValueError(f"sections: {wrong[0]!r} is no position from 0 to {length - 1}.")
    ordered = sorted(set(sections))
    first = last = None
    for section in ordered:
        if last is not None and section == last + 1:
            last = section
            continue
        if first is not None and last is not None:
            yield first, last
        first = last = section
    if first is not None and last is not None:
        yield first, last
