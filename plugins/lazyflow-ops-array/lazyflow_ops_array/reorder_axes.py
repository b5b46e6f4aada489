"""`OpReorderAxes`: the same pixels with other axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from lazyflow_core import Axes, Axis, ParameterSlot, Roi
from lazyflow_core.errors import AxesError, SetupError

from lazyflow_ops_array.base import OpSingle

__all__ = ["OpReorder", "OpReorderAxes"]


def _keys(text: str) -> list[str]:
    return [key.strip() for key in text.split(",")] if "," in text else list(text)


def _check(text: str) -> str | None:
    try:
        Axes(_keys(text))
    except AxesError as error:
        return f"are no axes: {error}"
    return None if text else "names no axis"


class OpReorder(OpSingle):
    """Base of operators that give an image other axes; `wanted_keys` says which."""

    def wanted_keys(self) -> list[str]:
        """Return the keys of the axes of the result, in order."""
        raise NotImplementedError

    def setup_outputs(self) -> tuple[int | None, ...]:
        """Return for each axis of the output its position in the image; None if it is new."""
        meta = self.image.meta
        keys = self.wanted_keys()
        shown = ("" if all(len(key) == 1 for key in keys) else ",").join(keys)
        for axis, length in zip(meta.axes, meta.shape, strict=True):
            if axis.key not in keys and length != 1:
                raise SetupError(
                    f"axis {axis.key} has {length} pixels and cannot be dropped by axes={shown!r}; "
                    "crop it to one pixel first."
                )
        origins = tuple(meta.axes.index(key) if key in meta.axes else None for key in keys)
        if origins == tuple(range(meta.ndim)):
            self.set_output(None)
            return origins
        axes = [Axis(k) if i is None else meta.axes[i] for k, i in zip(keys, origins, strict=True)]
        preferred, largest = meta.preferred_block, meta.max_block
        self.set_output(
            meta.replace(
                shape=_reorder(origins, meta.shape),
                axes=Axes(axes),
                preferred_block=None if preferred is None else _reorder(origins, preferred),
                max_block=None if largest is None else _reorder(origins, largest),
            )
        )
        return origins

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        if roi.is_empty:
            return
        origins = self.plan
        kept = [origin for origin in origins if origin is not None]
        view = out[tuple(0 if origin is None else slice(None) for origin in origins)]
        # The kept axes in the order of the image, and one pixel for each that was dropped.
        view = view.transpose(np.argsort(kept))
        view = view[tuple(slice(None) if i in kept else np.newaxis for i in range(self.image.meta.ndim))]
        start, stop = [0] * view.ndim, [1] * view.ndim
        for origin, a, b in zip(origins, roi.start, roi.stop, strict=True):
            if origin is not None:
                start[origin], stop[origin] = a, b
        self.image.read(Roi(start, stop), out=view)

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        origins = self.plan
        self.output.mark_dirty(Roi(_reorder(origins, roi.start, new=0), _reorder(origins, roi.stop)))


class OpReorderAxes(OpReorder):
    """Permute axes, add missing ones with one pixel, and drop those that have only one.

    Inputs
    ------
    image : InputSlot, any axes, any dtype
    axes : ParameterSlot[str]
        Keys of the axes of the result, in order; separated by commas where one is longer than a letter.

    Outputs
    -------
    output : OutputSlot, dtype of ``image``
        Axes keep pixel size, unit and origin; an axis that is new has none. The input itself if the axes
        are these already.

    Regions
    -------
    pull, push   a ROI becomes the same ROI in the other order of axes.

    Memory
    ------
    None of its own: the input writes into a transposed view of ``out``.

    Raises
    ------
    SetupError
        If an axis that has more than one pixel is left out; names it.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> reorder = OpReorderAxes(graph=Graph(), image=np.zeros((3, 480, 640)), axes="xyzc")
    >>> str(reorder.output.meta)
    'x=640, y=480, z=3, c=1 float64'
    """

    axes = ParameterSlot(str, default="tzyxc", check=_check, doc="axes of the result, e.g. 'tzyxc'")

    def wanted_keys(self) -> list[str]:
        return _keys(self.axes.value)


def _reorder(origins: Sequence[int | None], values: Sequence[int], new: int = 1) -> tuple[int, ...]:
    return tuple(new if origin is None else values[origin] for origin in origins)
