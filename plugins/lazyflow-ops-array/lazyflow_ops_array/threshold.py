"""`OpThreshold`: which pixels are brighter than a level?"""

from __future__ import annotations

from math import isnan
from typing import Any

import numpy as np
from lazyflow_core import ParameterSlot, Roi
from lazyflow_core.blocks import pieces
from lazyflow_core.utility import is_above

from lazyflow_ops_array.base import OpPointwise, check_real, ram_per_pixel

__all__ = ["OpThreshold"]

_MASK = np.dtype(np.uint8)


class OpThreshold(OpPointwise):
    """Mark the pixels that are larger than a level.

    Inputs
    ------
    image : InputSlot, any axes, any real dtype
    level : ParameterSlot[float]
        In the unit of the pixels. A pixel equal to it is *not* marked, nor is one that is NaN. Compared
        exactly with integers; with floating point after rounding the level to the image's dtype, unless that
        has no such numbers: only infinity is above 70000 in float16.

    Outputs
    -------
    output : OutputSlot, shape and axes of ``image``, uint8
        1 where the image is above the level, 0 elsewhere.

    Regions
    -------
    pull   ``roi`` needs the same ``roi``.
    push   a dirty ROI stays as it is; a new level makes everything dirty.

    Memory
    ------
    The input region and one byte per pixel.

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
    >>> threshold = OpThreshold(graph=Graph(), image=np.array([[0.5, 0.7], [np.nan, 0.9]]), level=0.5)
    >>> threshold.output[:].wait()
    array([[0, 1],
           [0, 1]], dtype=uint8)
    """

    level = ParameterSlot(
        float,
        default=0.5,
        check=lambda level: "is not a number to compare with" if isnan(level) else None,
        doc="pixels larger than this are marked",
    )

    def setup_outputs(self) -> None:
        meta = self.image.meta
        check_real(meta)
        self.set_output(
            meta.replace(
                dtype=_MASK,
                value_range=(0, 1),
                semantics="intensities",
                ram_per_pixel=ram_per_pixel(meta, _MASK),
            )
        )

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        image, level = self.image.read(roi), self.level.value
        for key in pieces(out.shape):
            is_above(image[key], level, out=out[key])
