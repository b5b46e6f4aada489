"""`OpNormalize`: an image between two of its own percentiles."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from lazyflow_core import ArrayMeta, InputSlot, Operator, OutputSlot, ParameterSlot, Roi
from lazyflow_core.blocks import pieces
from lazyflow_core.errors import SetupError

from lazyflow_ops_array.base import check_real, ram_per_pixel
from lazyflow_ops_array.blockwise import percentiles_of
from lazyflow_ops_array.statistics import check_percentiles

__all__ = ["OpNormalize"]


def _check(values: tuple[Any, ...]) -> str | None:
    problem = check_percentiles(values)
    if problem is None and not (len(values) == 2 and values[0] < values[1]):
        problem = "is not (lower, upper), the first smaller than the second"
    return problem


class OpLimits(Operator):
    """The percentiles of an image or its parts: the child of `OpNormalize` that knows of no clipping."""

    image = InputSlot()
    percentiles = ParameterSlot(tuple, default=())
    per = ParameterSlot(str, default="")
    limits = OutputSlot(value=tuple)

    def setup_outputs(self) -> tuple[int, ...]:
        """Return the positions of the axes along which each position has limits of its own."""
        return _positions(self.per.value, self.image.meta)

    def compute_value(self, slot: Any) -> tuple[tuple[float, float], ...]:
        whole = self.image.meta.roi
        found = []
        for index in product(*(range(whole.stop[axis]) for axis in self.plan)):
            roi = whole
            for axis, position in zip(self.plan, index, strict=True):
                roi = roi.with_axis(axis, position, position + 1)
            found.append(percentiles_of(self.image, self.percentiles.value, roi))
        return tuple((low, high) for low, high in found)

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        self.limits.mark_dirty()


def _positions(per: str, meta: ArrayMeta) -> tuple[int, ...]:
    keys = [key.strip() for key in per.split(",")] if "," in per else list(per)
    for key in keys:
        if key not in meta.axes:
            raise SetupError(f"per={per!r} names {key!r}, but the image has no such axis ({meta}).")
    return tuple(i for i, axis in enumerate(meta.axes) if axis.key in keys)


class OpNormalize(Operator):
    """Map two percentiles of an image to 0 and 1, linearly.

    For limits that are known, see `OpRescaleRange`.

    Inputs
    ------
    image : InputSlot, any axes, any real dtype
        NaN counts for no percentile and stays NaN.
    percentiles : ParameterSlot[tuple]
        Which of them become 0 and 1.
    per : ParameterSlot[str]
        Keys of axes along which each position has limits of its own: ``"c"`` for channels, ``"tc"`` for
        channels of frames. Empty: one pair for all of the image.
    clip : ParameterSlot[bool]
        Whether pixels beyond become 0 and 1; else they are less and more.

    Outputs
    -------
    limits : OutputSlot[tuple]
        The percentiles, a pair for each position along ``per``, the last axis fastest; exact, as of
        ``numpy.nanpercentile``.
    output : OutputSlot, shape and axes of ``image``
        (pixel - lower) / (upper - lower), and 0 where the two are equal; float32, or float64 for float64 and
        integers beyond 16 bits.

    Regions
    -------
    pull   the first request reads the whole image block by block, see `OpStatistics`; then ``roi`` needs
           ``roi``.
    push   any change makes limits and output dirty, but ``clip`` only the output.

    Memory
    ------
    The input region, the result and a piece of it in float64; while limits are computed, see `OpStatistics`.

    Raises
    ------
    SetupError
        If the image is complex, or has no axis that ``per`` names.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> with Graph() as graph:
    ...     pixels = np.array([[0, 10, 20, 30, 40]], np.uint8)
    ...     norm = OpNormalize(graph=graph, image=pixels, percentiles=(25, 75))
    ...     norm.limits.value, norm.output.read().tolist()
    (((10.0, 30.0),), [[0.0, 0.0, 0.5, 1.0, 1.0]])
    """

    pixelwise = True

    image = InputSlot(doc="what to normalize")
    percentiles = ParameterSlot(tuple, default=(1, 99.8), check=_check, doc="what becomes 0 and 1")
    per = ParameterSlot(str, default="", doc="axes with limits of their own, e.g. 'c'")
    clip = ParameterSlot(bool, default=True, doc="whether what lies beyond becomes 0 and 1")
    limits = OutputSlot(value=tuple, doc="the percentiles, a pair for each position along 'per'")
    output = OutputSlot()

    def __init__(self, **slots: Any) -> None:
        child = OpLimits(parent=self, image=self.image, percentiles=self.percentiles, per=self.per)
        self.limits.connect(child.limits)
        super().__init__(**slots)

    def setup_outputs(self) -> tuple[int, ...]:
        """Return the positions of the axes along which each position has limits of its own."""
        meta = self.image.meta
        check_real(meta)
        dtype = np.result_type(meta.dtype, np.float32).newbyteorder("=")
        self.output.meta = meta.replace(
            dtype=dtype,
            value_range=(0, 1) if self.clip.value else None,
            semantics="intensities",
            ram_per_pixel=ram_per_pixel(meta, dtype),
        )
        return _positions(self.per.value, meta)

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        limits = np.array(self.limits.value, np.float64)
        shape = [n if i in self.plan else 1 for i, n in enumerate(self.image.meta.shape)]
        here = tuple(part if i in self.plan else slice(None) for i, part in enumerate(roi.slicing))
        low, high = (np.broadcast_to(limits[:, k].reshape(shape)[here], out.shape) for k in (0, 1))
        image = self.image.read(roi)
        for key in pieces(out.shape, 1 << 16):
            apart = high[key] - low[key]
            with np.errstate(all="ignore"):
                values = image[key] - low[key]
                values /= apart
                # NaN stays, since it equals nothing.
                values[(apart == 0) & (image[key] == image[key])] = 0
                if self.clip.value:
                    np.clip(values, 0, 1, out=values)
                out[key] = values

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        self.output.mark_dirty()
