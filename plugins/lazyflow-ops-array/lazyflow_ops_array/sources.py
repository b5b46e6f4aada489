"""Images that nobody has to compute: of one value, until there is another one."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np
from lazyflow_core import ArrayMeta, Axes, InputSlot, Operator, OutputSlot, ParameterSlot, Roi
from lazyflow_core.blocks import pieces
from lazyflow_core.errors import AxesError, LazyflowError, SetupError

from lazyflow_ops_array.conversion import check_dtype

__all__ = ["OpConstant", "OpPlaceholder"]


def _check_shape(value: tuple[Any, ...]) -> str | None:
    if not value or any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in value):
        return "is not one number of pixels for each axis"
    return None


def _filled(value: float, dtype: np.dtype[Any], name: str) -> Any:
    """Return a value in a dtype that can hold it."""
    if dtype.kind not in "buifc":
        if value:
            raise SetupError(f"value={value!r}: {dtype} has no numbers.")
        return np.zeros((), dtype)[()]
    if dtype.kind in "ui":
        bounds = np.iinfo(dtype)
        fits = isfinite(value) and value == int(value) and bounds.min <= value <= bounds.max
    elif dtype.kind == "b":
        fits = value in (0, 1)
    else:
        fits = not isfinite(value) or abs(value) <= float(np.finfo(dtype).max)
    if not fits:
        raise SetupError(f"{name}={value!r}: {dtype} has no such number.")
    return dtype.type(value)


class OpConstant(Operator):
    """An image in which every pixel has the same value.

    Inputs
    ------
    shape : ParameterSlot[tuple]
        Pixels along each axis.
    value : ParameterSlot[float]
        Of every pixel.
    dtype : ParameterSlot[str]
        Name of the dtype.
    axes : ParameterSlot[str]
        Keys of the axes; empty: the usual ones.

    Outputs
    -------
    output : OutputSlot

    Regions
    -------
    pull   needs nothing.
    push   a parameter makes everything dirty.

    Memory
    ------
    None of its own.

    Raises
    ------
    SetupError
        If the dtype has no such number, or the axes do not fit the shape.

    Examples
    --------
    >>> from lazyflow_core import Graph
    >>> constant = OpConstant(graph=Graph(), shape=(1000, 1000, 1000), value=7)
    >>> constant.output[5, 5, 5:8].wait().tolist()
    [[[7, 7, 7]]]
    """

    shape = ParameterSlot(tuple, check=_check_shape, doc="pixels along each axis")
    value = ParameterSlot(float, default=0.0, doc="of every pixel")
    dtype = ParameterSlot(str, default="uint8", check=check_dtype, doc="e.g. 'uint8'")
    axes = ParameterSlot(str, default="", doc="keys of the axes; '' for the usual ones")
    output = OutputSlot()

    def setup_outputs(self) -> Any:
        """Return the pixel."""
        dtype, shape = np.dtype(self.dtype.value), self.shape.value
        pixel = _filled(self.value.value, dtype, "value")
        try:
            axes = Axes(self.axes.value) if self.axes.value else Axes.guess(shape)
            value_range = (pixel.item(), pixel.item()) if np.isfinite(pixel) else None
            self.output.meta = ArrayMeta(shape, dtype, axes, value_range=value_range)
        except (AxesError, LazyflowError) as error:
            raise SetupError(f"shape={shape}, axes={self.axes.value!r}: {error}") from error
        return pixel

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        for key in pieces(out.shape):
            out[key] = self.plan


class OpPlaceholder(Operator):
    """An image, or one value everywhere as long as that image is not there.

    Inputs
    ------
    like : InputSlot, optional, any array
        What the result looks like until then: its meta is taken, its pixels are not asked for.
    image : InputSlot, optional
        The image; while it is ready the output is connected to it.
    value : ParameterSlot[float]
        Of every pixel until then.

    Outputs
    -------
    output : OutputSlot, meta of ``like``, or ``image`` itself

    Regions
    -------
    pull   needs nothing, or what ``image`` needs.
    push   ``like`` makes nothing dirty; the rest as ``image`` says.

    Memory
    ------
    None of its own.

    Raises
    ------
    SetupError
        If the dtype of ``like`` has no such number.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> labels = OpPlaceholder(graph=Graph(), like=np.zeros((1, 2), np.uint8))
    >>> labels.output.read().tolist()
    [[0, 0]]
    >>> labels.image.assign(np.array([[3, 4]], np.uint8))
    >>> labels.output.read().tolist()
    [[3, 4]]
    """

    like = InputSlot(optional=True, doc="what the image will look like")
    image = InputSlot(optional=True, doc="the image, as soon as there is one")
    value = ParameterSlot(float, default=0.0, doc="of every pixel until then")
    output = OutputSlot()

    def setup_outputs(self) -> Any:
        """Return the pixel; None while the image is there."""
        if self.image.ready:
            self.output.connect(self.image)
            return None
        if self.output.upstream is not None:
            self.output.disconnect()
        if not self.like.ready:
            self.output.meta = None
            return None
        meta = self.like.meta
        pixel = _filled(self.value.value, meta.dtype, "value")
        self.output.meta = meta.replace(value_range=None, ram_per_pixel=float(meta.dtype.itemsize))
        return pixel

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        for key in pieces(out.shape):
            out[key] = self.plan

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        """Say nothing: the pixels are those of `value`, or of `image`, which is connected."""
