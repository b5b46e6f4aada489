"""`OpCast`: the same pixels in another dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
from lazyflow_core import ParameterSlot, Roi

from lazyflow_ops_array.base import OpPointwise, check_real, ram_per_pixel
from lazyflow_ops_array.conversion import POLICIES, check_dtype, convert, converted_range

__all__ = ["OpCast"]


class OpCast(OpPointwise):
    """Convert pixels to another dtype, by a stated policy for what does not fit.

    Values are never scaled; `OpRescaleRange` does that. Floating point becomes integer by rounding to the
    nearest, halves to the even one. ``bool`` is True where a pixel is neither 0 nor NaN.

    Inputs
    ------
    image : InputSlot, any axes, any real dtype
    dtype : ParameterSlot[str]
        Name of the dtype of the result: ``"uint8"``, ``"float32"``, ``">u2"``, …
    overflow : ParameterSlot[str]
        What becomes of values that do not fit. ``"clip"``: the nearest value that does; NaN becomes 0 in
        an integer. ``"wrap"``: modulo the range of an integer, NaN and infinities become 0; too large for
        a narrower float becomes infinite. ``"raise"``: computing that region fails.

    Outputs
    -------
    output : OutputSlot, shape and axes of ``image``
        Its value range follows. The input itself if it has this dtype already.

    Regions
    -------
    pull   ``roi`` needs the same ``roi``.
    push   a dirty ROI stays as it is; another dtype or policy makes everything dirty.

    Memory
    ------
    The input region, the result, and from float to integer two more copies in the dtype of the image.

    Threading
    ---------
    ``execute`` keeps no state; any number may run at once.

    Raises
    ------
    SetupError
        If the image is complex.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> cast = OpCast(graph=Graph(), image=np.array([[-1.5, 2.5, 300.7]]), dtype="uint8")
    >>> cast.output.read()
    array([[  0,   2, 255]], dtype=uint8)
    """

    dtype = ParameterSlot(str, check=check_dtype, doc="dtype of the result, e.g. 'uint8'")
    overflow = ParameterSlot(str, default="clip", choices=POLICIES, doc="what to do with values beyond it")

    def setup_outputs(self) -> None:
        meta = self.image.meta
        check_real(meta)
        dtype = np.dtype(self.dtype.value)
        if dtype == meta.dtype:
            self.set_output(None)
            return
        scratch = 2.0 * meta.dtype.itemsize + 2 if meta.dtype.kind == "f" else meta.dtype.itemsize + 2.0
        self.set_output(
            meta.replace(
                dtype=dtype,
                value_range=converted_range(meta.value_range, dtype, self.overflow.value),
                ram_per_pixel=ram_per_pixel(meta, dtype, scratch),
            )
        )

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        convert(self.image.read(roi), out, self.overflow.value)
