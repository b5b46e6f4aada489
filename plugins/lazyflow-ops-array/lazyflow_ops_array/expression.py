"""`OpExpression`: arithmetic between images, as text."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from lazyflow_core import ArrayMeta, InputSlot, Operator, OutputSlot, ParameterSlot, Roi
from lazyflow_core.blocks import pieces
from lazyflow_core.errors import SetupError

from lazyflow_ops_array.base import check_real
from lazyflow_ops_array.conversion import check_dtype, convert
from lazyflow_ops_array.expression_text import LETTERS, Expression, ExpressionError, parse

__all__ = ["OpExpression"]

#: Pixels computed at a time: all steps of an expression over them stay in a processor's cache.
_TILE = 1 << 17


def _check(text: str) -> str | None:
    try:
        parse(text)
    except ExpressionError as error:
        return str(error)
    return None


class OpExpression(Operator):
    """Compute an expression of images, pixel by pixel.

    Inputs
    ------
    images : InputSlot, a list of arrays of the same shape and axes, any real dtypes
        In the expression the first is ``a``, the second ``b``, and so on to ``z``.
    expression : ParameterSlot[str]
        Such as ``"(a - b) / (a + b)"``, ``"where(a > 0.5, b, 0)"`` or ``"0 < a < 9 and not isnan(b)"``. It
        may use ``+ - * / // % **``, comparisons, ``and or not``, ``& | ^ ~`` between conditions,
        ``x if condition else y``,
        numbers, ``pi``, ``inf``, ``nan``, and `lazyflow_ops_array.expression_text.FUNCTIONS`. It is never
        run as code.
    dtype : ParameterSlot[str]
        Of the result. Empty, the default: see below. Else it is converted as by `OpCast` with
        ``overflow="clip"``.

    Outputs
    -------
    output : OutputSlot, shape and axes of the images
        All is computed in one floating point dtype: float32, if that holds all values of the dtypes of the
        images that the expression uses (integers of up to 16 bits), else float64; so no integer wraps around,
        and integers beyond 2**53 are rounded. That is the dtype of the result, or uint8, 1 and 0, if the
        expression is a condition. What has no result, such as 0 / 0, is NaN or infinite, silently. A number
        that is not 0 counts as true, NaN does as well.

    Regions
    -------
    pull   ``roi`` needs the same ``roi`` of the images that the expression uses.
    push   a dirty ROI of an image that is used stays as it is; a new expression makes everything dirty.

    Memory
    ------
    The regions of the images and of the result; steps in between are pieces that fit a processor's cache.

    Threading
    ---------
    ``execute`` keeps no state; any number may run at once.

    Raises
    ------
    ParameterError
        If the text means nothing; says where.
    SetupError
        If the images do not fit together, are complex, or are fewer than the expression has letters.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> images = [np.array([[250, 10]], np.uint8), np.array([[10, 10]], np.uint8)]
    >>> index = OpExpression(graph=Graph(), images=images, expression="(a - b) / (a + b)")
    >>> index.output.read().tolist()
    [[0.9230769276618958, 0.0]]
    """

    pixelwise = True

    images = InputSlot(level=1, doc="a, b, c, … of the expression")
    expression = ParameterSlot(str, check=_check, doc="e.g. '(a - b) / (a + b)'")
    dtype = ParameterSlot(
        str,
        default="",
        check=lambda name: check_dtype(name) if name else None,
        doc="dtype of the result; '' for that in which it is computed",
    )
    output = OutputSlot()

    def setup_outputs(self) -> _Plan:
        """Return the parsed expression, and in which dtype to compute it."""
        expression = parse(self.expression.value)
        metas = [image.meta for image in self.images]
        if expression.indices[-1] >= len(metas):
            raise SetupError(
                f"expression={expression.text!r} uses {LETTERS[expression.indices[-1]]!r}, but there are "
                f"{len(metas)} images."
            )
        used = [metas[index] for index in expression.indices]
        first = used[0]
        for index, meta in zip(expression.indices, used, strict=True):
            check_real(meta)
            if meta.shape != first.shape or meta.axes.keys != first.axes.keys:
                raise SetupError(
                    f"images[{index}] ({meta}) has another shape or other axes than "
                    f"images[{expression.indices[0]}] ({first})."
                )
        computed = np.result_type(np.float32, *(meta.dtype for meta in used)).newbyteorder("=")
        default = np.dtype(np.uint8) if expression.gives_truths else computed
        dtype = np.dtype(self.dtype.value) if self.dtype.value else default
        blocks = [meta.preferred_block for meta in used if meta.preferred_block is not None]
        self.output.meta = first.replace(
            dtype=dtype,
            value_range=(0, 1) if expression.gives_truths else None,
            semantics="intensities",
            preferred_block=blocks[0] if blocks else None,
            ram_per_pixel=sum(_needed(meta) for meta in used) + dtype.itemsize,
        )
        return _Plan(expression, computed)

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        expression, computed = self.plan
        images = {index: self.images[index].read(roi) for index in expression.indices}
        for key in pieces(out.shape, _TILE):
            part = out[key]
            result = expression.evaluate({i: pixels[key] for i, pixels in images.items()}, computed, part)
            if result is not part:
                convert(result, part, "clip")

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        if slot.index in self.plan.expression.indices:
            self.output.mark_dirty(roi)


class _Plan(NamedTuple):
    expression: Expression
    #: Floating point dtype in which it is computed.
    computed: np.dtype[Any]


def _needed(meta: ArrayMeta) -> float:
    return max(meta.ram_per_pixel or 0.0, float(meta.dtype.itemsize))
