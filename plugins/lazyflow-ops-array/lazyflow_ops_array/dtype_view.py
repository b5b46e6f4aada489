"""`OpDtypeView`: the same bytes as another dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
from lazyflow_core import ParameterSlot, Roi
from lazyflow_core.errors import SetupError

from lazyflow_ops_array.base import OpPointwise
from lazyflow_ops_array.conversion import check_dtype

__all__ = ["OpDtypeView"]


class OpDtypeView(OpPointwise):
    """Take the bytes of each pixel as another dtype of the same size: int32 labels as uint32.

    Inputs
    ------
    image : InputSlot, any axes, any dtype
    dtype : ParameterSlot[str]
        Name of a dtype with as many bytes.

    Outputs
    -------
    output : OutputSlot, shape and axes of ``image``, ``dtype``
        Nobody knows its value range. The input itself if it has this dtype already.

    Regions
    -------
    pull   ``roi`` needs the same ``roi``.
    push   a dirty ROI stays as it is; another dtype makes everything dirty.

    Memory
    ------
    None of its own: the input writes into ``out``.

    Raises
    ------
    SetupError
        If the dtype has another number of bytes.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> view = OpDtypeView(graph=Graph(), image=np.array([[1, -1]], np.int32), dtype="uint32")
    >>> view.output.read().tolist()
    [[1, 4294967295]]
    """

    dtype = ParameterSlot(str, check=check_dtype, doc="dtype with as many bytes, e.g. 'uint32'")

    def setup_outputs(self) -> None:
        meta, dtype = self.image.meta, np.dtype(self.dtype.value)
        if dtype.itemsize != meta.dtype.itemsize:
            raise SetupError(
                f"dtype={self.dtype.value!r} has {dtype.itemsize} bytes, pixels of the image have "
                f"{meta.dtype.itemsize} ({meta.dtype}); array.cast converts them."
            )
        if dtype.kind == "b":
            raise SetupError(
                "dtype='bool': a bool of another byte than 0 and 1 is undefined; use array.cast."
            )
        self.set_output(None if dtype == meta.dtype else meta.replace(dtype=dtype, value_range=None))

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        self.image.read(roi, out=out.view(self.image.meta.dtype))
