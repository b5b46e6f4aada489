"""`with_axes`: an operator that knows one order of axes, for images of any."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from lazyflow_core import InputSlot, Operator, OutputSlot, ParameterSlot
from lazyflow_core.errors import GraphError

from lazyflow_ops_array.reorder_axes import OpReorder, OpReorderAxes

__all__ = ["OpReorderLike", "with_axes"]


class OpReorderLike(OpReorder):
    """Give an image the order of axes of another one.

    Inputs
    ------
    image : InputSlot, any axes, any dtype
    like : InputSlot, any array
        Whose order to take; its pixels are not asked for. An axis that it lacks is dropped if it has one
        pixel, else it comes last; an axis that only it has is left out.

    Outputs
    -------
    output : OutputSlot, dtype of ``image``
        As of `OpReorderAxes`.

    Regions
    -------
    pull, push   a ROI becomes the same ROI in the other order of axes; ``like`` makes nothing dirty.

    Memory
    ------
    None of its own: the input writes into a transposed view of ``out``.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> op = OpReorderLike(graph=Graph())
    >>> op.image.assign(np.zeros((1, 5, 6, 2)), axes="zyxc")
    >>> op.like.assign(np.zeros((6, 5)), axes="xy")
    >>> str(op.output.meta)
    'x=6, y=5, c=2 float64'
    """

    like = InputSlot(doc="whose order of axes to take")

    def wanted_keys(self) -> list[str]:
        own, other = self.image.meta, self.like.meta.axes
        keys = [axis.key for axis in other if axis.key in own.axes]
        keys += [a.key for a, n in zip(own.axes, own.shape, strict=True) if a.key not in other and n != 1]
        return keys or [own.axes[0].key]

    def propagate_dirty(self, slot: Any, roi: Any) -> None:
        if slot is self.image:
            super().propagate_dirty(slot, roi)


def with_axes(keys: str) -> Callable[[type[Operator]], type[Operator]]:
    """Let an operator be written for one order of axes and take images of any: a decorator for its class.

    Its inputs are reordered to ``keys``, missing axes added; its outputs come back in the order of axes of
    its first input, without those that were added and still have one pixel. Where an image has the order
    already, nothing is in between.

    Parameters
    ----------
    keys
        The axes, such as ``"tzyxc"``; separated by commas where one is longer than a letter.

    Returns
    -------
    callable
        What makes the class of a composite operator with the same slots of an operator class.

    Raises
    ------
    GraphError
        If the class has no input, or lists of arrays among its slots.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> @with_axes("zyxc")
    ... class OpFirstPlane(Operator):
    ...     image = InputSlot()
    ...     output = OutputSlot()
    ...
    ...     def setup_outputs(self):
    ...         meta = self.image.meta
    ...         self.output.meta = meta.cropped(meta.roi.with_axis(0, 0, 1))
    ...
    ...     def execute(self, slot, roi, out):
    ...         self.image.read(roi, out=out)
    ...
    ...     def propagate_dirty(self, slot, roi):
    ...         if roi.start[0] == 0:
    ...             self.output.mark_dirty(roi.with_axis(0, 0, 1))
    >>> first = OpFirstPlane(graph=Graph())
    >>> first.image.assign(np.arange(6).reshape(2, 3), axes="xz")
    >>> first.output.read().tolist()
    [[0], [3]]
    """

    def decorate(operator: type[Operator]) -> type[Operator]:
        declared = operator.declarations
        inputs = [name for name, slot in declared.items() if isinstance(slot, InputSlot)]
        arrays = [
            name
            for name, slot in declared.items()
            if isinstance(slot, OutputSlot) and slot.value_type is None
        ]
        lists = [name for name in (*inputs, *arrays) if declared[name].level]
        if lists or not inputs:
            problem = f"{lists[0]!r} is a list of arrays" if lists else "there is no input"
            raise GraphError(f"with_axes({keys!r}): {operator.__name__}: {problem}.")

        def __init__(self: Any, **slots: Any) -> None:
            child = operator(parent=self)
            for name, slot in child.slots.items():
                own = self.slots[name]
                if name in inputs:
                    slot.connect(OpReorderAxes(parent=self, image=own, axes=keys).output)
                elif isinstance(declared[name], ParameterSlot):
                    slot.connect(own)
                elif name in arrays:
                    back = OpReorderLike(parent=self, image=slot, like=self.slots[inputs[0]])
                    own.connect(back.output)
                else:
                    own.connect(slot)
            Operator.__init__(self, **slots)

        slots: dict[str, Any] = dict(declared)
        for name in inputs:
            inner: Any = declared[name]
            slots[name] = InputSlot(optional=inner.optional, dtype=inner.dtypes or None, doc=inner.doc)
        namespace = {**slots, "__init__": __init__, "__doc__": operator.__doc__}
        namespace |= {"__module__": operator.__module__, "__qualname__": operator.__qualname__}
        made: type[Operator] = types.new_class(
            operator.__name__, (Operator,), exec_body=lambda body: body.update(namespace)
        )
        return made

    return decorate
