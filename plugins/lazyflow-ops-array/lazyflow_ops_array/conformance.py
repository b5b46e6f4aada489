"""The operators of this distribution with inputs on which they are tried against the laws of operators.

Here and not in the tests, so that users can try them where they are installed: ``lazyflow operators check``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lazyflow_core.testing import Case, array

from lazyflow_ops_array.argmax import OpArgmax
from lazyflow_ops_array.axis_contract import OpReorderLike
from lazyflow_ops_array.cast import OpCast
from lazyflow_ops_array.channel import OpChannel
from lazyflow_ops_array.crop import OpCrop
from lazyflow_ops_array.downsample import OpDownsample, OpPyramid
from lazyflow_ops_array.dtype_view import OpDtypeView
from lazyflow_ops_array.expression import OpExpression
from lazyflow_ops_array.metadata import OpCopyMeta, OpReadMeta, OpSetMeta
from lazyflow_ops_array.missing import OpFillMissing, OpFindMissing
from lazyflow_ops_array.normalize import OpNormalize
from lazyflow_ops_array.pixel_function import OpPixelFunction
from lazyflow_ops_array.precomputed import OpPrecomputed
from lazyflow_ops_array.projection import OpProjection
from lazyflow_ops_array.reorder_axes import OpReorderAxes
from lazyflow_ops_array.rescale_range import OpRescaleRange
from lazyflow_ops_array.resize import OpResize
from lazyflow_ops_array.slices import OpSlices
from lazyflow_ops_array.sources import OpConstant, OpPlaceholder
from lazyflow_ops_array.stack import OpStack
from lazyflow_ops_array.statistics import OpStatistics
from lazyflow_ops_array.threshold import OpThreshold

IMAGE = {"image": array((2, 13, 11, 3), "zyxc", high=300)}
VOLUME = {"image": array((1, 9, 14), "tyx", "uint16", high=1000)}
NUMBERS = array((11, 13), "xy", "float64", low=-5, high=5).pixels
MEASURED = {"image": np.where(NUMBERS > 4.5, np.nan, NUMBERS)}
NO_MORE: dict[str, Any] = {"halo": 0, "read_factor": 1.0}

CASES = [
    Case(OpCast, IMAGE, {"dtype": "uint8"}, {"overflow": "wrap"}, **NO_MORE),
    Case(OpCast, VOLUME, {"dtype": "uint16"}, {"dtype": "float32"}, name="cast to the same", **NO_MORE),
    Case(OpChannel, IMAGE, {"channels": (2, 0, 2)}, {"channels": 1}, read_factor=1.0),
    Case(OpChannel, {"image": array((3, 8, 9), "cyx")}, {"channels": 1}, {"channels": 0}, read_factor=1.0),
    Case(OpCrop, IMAGE, {"roi": "y=2:12, x=-9:"}, {"roi": "z=1"}, read_factor=1.0),
    Case(OpCrop, VOLUME, {"roi": "..."}, {"roi": "..., 3:9"}, name="crop of nothing", read_factor=1.0),
    Case(OpPixelFunction, VOLUME, {"function": "sqrt"}, {"function": "isnan"}, **NO_MORE),
    Case(OpReorderAxes, IMAGE, {"axes": "xtcyz"}, {"axes": "zyxc"}, read_factor=1.0),
    Case(OpReorderAxes, VOLUME, {"axes": "xy"}, {"axes": "cxyz"}, name="drop", read_factor=1.0),
    Case(OpRescaleRange, IMAGE, {"from_range": (0, 200)}, {"to_range": (10, 20)}, **NO_MORE),
    Case(
        OpRescaleRange, VOLUME, {"from_range": (0, 900), "dtype": "float32"}, {"to_range": (-1, 1)}, **NO_MORE
    ),
    Case(OpPixelFunction, MEASURED, {"function": "isfinite"}, {"function": "exp"}, **NO_MORE),
    Case(OpStack, {"images": [array((9, n), "yx", seed=n) for n in (8, 5, 7)]}, {"axis": "x"}),
    Case(
        OpStack, {"images": [array((6, 7, 2), "xyc", seed=n) for n in (1, 2)]}, {"axis": "z"}, {"axis": "c"}
    ),
    Case(
        OpExpression,
        {"images": [array((9, 8), "yx", dtype, seed=n) for n, dtype in enumerate(("u1", "f4", ">i4"))]},
        {"expression": "where(a > 20, (a - b) / (a + b), c)"},
        {"expression": "0 < a < c"},
        halo=0,
        read_factor=3.0,
    ),
    Case(
        OpExpression, {"images": [VOLUME["image"]]}, {"expression": "a // 3"}, {"dtype": "uint8"}, **NO_MORE
    ),
    Case(OpProjection, IMAGE, {"axis": "y"}, {"method": "min"}),
    Case(OpProjection, VOLUME, {"axis": "x", "method": "mean"}, {"method": "std"}, tol=1e-6),
    Case(OpProjection, MEASURED, {"axis": "x", "method": "percentile"}, {"percentile": 10.0}),
    Case(OpDownsample, IMAGE, {"factor": (1, 4, 3, 1)}, {"method": "stride"}, tol=1e-6),
    Case(OpDownsample, VOLUME, {"factor": 2}, {"factor": 5}, read_factor=None),
    Case(
        OpDownsample,
        {"image": array((13, 17), "yx", "uint16", high=4, semantics="labels")},
        {"factor": 3},
        {"method": "max"},
    ),
    Case(OpPyramid, IMAGE, {"count": 3}, {"factor": 3}, tol=1e-6),
    Case(
        OpPyramid,
        {"image": array((13, 17), "yx", "uint8", high=4, semantics="labels")},
        {"count": 2},
        {"count": 4},
    ),
    Case(OpNormalize, IMAGE, {"per": "c"}, {"percentiles": (10, 60)}, tags={"global"}),
    Case(OpNormalize, MEASURED, {"clip": False}, {"clip": True}, name="normalize NaN", tags={"global"}),
    Case(OpResize, IMAGE, {"scale": 0.4}, {"interpolation": "nearest"}),
    Case(OpResize, VOLUME, {"shape": (1, 20, 5)}, {"anti_aliasing": False}),
    Case(OpStatistics, VOLUME, {"percentiles": (0, 20)}, {"bins": 10}, tags={"global"}),
    Case(OpStatistics, MEASURED, {"bin_range": (-5, 5)}, {"percentiles": ()}, tags={"global"}),
    Case(OpThreshold, IMAGE, {"level": 100.0}, {"level": 20.0}, **NO_MORE),
    Case(OpThreshold, MEASURED, {"level": 1.0}, {"level": -2.0}, name="threshold of NaN", **NO_MORE),
    Case(OpSlices, IMAGE, {"axis": "y"}, {"positions": (3, -1, 3)}, read_factor=1.0),
    Case(OpSlices, VOLUME, {"axis": "t"}, {"axis": "y"}, read_factor=1.0),
    Case(OpArgmax, IMAGE, {}, {"first": 1}),
    Case(OpArgmax, {"image": array((3, 8, 9), "cyx", high=9, dtype="uint8")}, {}, {"axis": "y"}),
    Case(OpDtypeView, IMAGE, {"dtype": "uint32"}, {"dtype": "float32"}, **NO_MORE),
    Case(OpDtypeView, VOLUME, {"dtype": "int16"}, {"dtype": ">u2"}, **NO_MORE),
    Case(OpConstant, {}, {"shape": (9, 8), "value": 3}, {"shape": (3, 8), "dtype": "float32"}),
    Case(OpConstant, {}, {"shape": (2, 3, 4), "axes": "cxy"}, {"value": 9}, name="constant, channels first"),
    Case(OpPlaceholder, {"like": IMAGE["image"]}, {}, {"value": 2.5}),
    Case(OpPlaceholder, {"like": VOLUME["image"], **VOLUME}, {}, {"value": 3}, **NO_MORE),
    Case(OpSetMeta, IMAGE, {"axes": "tzyx"}, {"pixel_size": (0, 1, 2, 2)}, **NO_MORE),
    Case(OpSetMeta, VOLUME, {"semantics": "labels"}, {"origin": (0, 4, 5)}, **NO_MORE),
    Case(OpCopyMeta, {**IMAGE, "like": IMAGE["image"]}, {}, {"fields": ("semantics",)}, read_factor=1.0),
    Case(
        OpCopyMeta, {**VOLUME, "like": array((1, 9, 14), "zyx", low=7)}, {}, {"fields": ()}, read_factor=1.0
    ),
    Case(OpReadMeta, IMAGE),
    Case(OpReadMeta, VOLUME),
    Case(OpPrecomputed, {"slow": IMAGE["image"]}, {}, {"ignore_dirty": True}, **NO_MORE),
    Case(
        OpPrecomputed,
        {"slow": VOLUME["image"], "precomputed": array((1, 9, 14), "tyx", "uint16", high=9)},
        {"ignore_dirty": True},
        name="precomputed, whatever happens",
        **NO_MORE,
    ),
    Case(OpFindMissing, IMAGE, {"axis": "y"}, {"value": 3.0}, tags={"global"}),
    Case(OpFindMissing, VOLUME, {"axis": "x"}, {"share": 0.2}, tags={"global"}),
    Case(OpFillMissing, IMAGE, {"axis": "y", "sections": (0, 3, 4, 12)}, {"method": "nearest"}),
    Case(OpFillMissing, VOLUME, {"axis": "x", "sections": (13, 5)}, {"sections": (1,)}),
    Case(OpReorderLike, {**IMAGE, "like": array((11, 5, 3), "xtc")}, read_factor=1.0),
    Case(OpReorderLike, {**VOLUME, "like": array((4, 1), "yx")}, read_factor=1.0),
]
