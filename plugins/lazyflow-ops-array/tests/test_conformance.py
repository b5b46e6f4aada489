"""Every operator here obeys the laws of operators."""

from lazyflow_core.testing import Case, array, parametrize_with_checks

from lazyflow_ops_array.cast import OpCast
from lazyflow_ops_array.channel import OpChannel
from lazyflow_ops_array.crop import OpCrop
from lazyflow_ops_array.pixel_function import OpPixelFunction
from lazyflow_ops_array.reorder_axes import OpReorderAxes
from lazyflow_ops_array.rescale_range import OpRescaleRange
from lazyflow_ops_array.threshold import OpThreshold

IMAGE = {"image": array((2, 13, 11, 3), "zyxc", high=300)}
VOLUME = {"image": array((1, 9, 14), "tyx", "uint16", high=1000)}
NO_MORE = {"halo": 0, "read_factor": 1.0}

CASES = [
    Case(OpCast, IMAGE, {"dtype": "uint8"}, {"overflow": "wrap"}, **NO_MORE),
    Case(OpCast, VOLUME, {"dtype": "uint16"}, {"dtype": "float32"}, name="cast to the same", **NO_MORE),
    Case(OpChannel, IMAGE, {"channels": (2, 0, 2)}, {"channels": 1}, read_factor=1.0),
    Case(OpCrop, IMAGE, {"roi": "y=2:12, x=-9:"}, {"roi": "z=1"}, read_factor=1.0),
    Case(OpCrop, VOLUME, {"roi": "..."}, {"roi": "..., 3:9"}, name="crop of nothing", read_factor=1.0),
    Case(OpPixelFunction, VOLUME, {"function": "sqrt"}, {"function": "isnan"}, **NO_MORE),
    Case(OpReorderAxes, IMAGE, {"axes": "xtcyz"}, {"axes": "zyxc"}, read_factor=1.0),
    Case(OpReorderAxes, VOLUME, {"axes": "xy"}, {"axes": "cxyz"}, name="drop", read_factor=1.0),
    Case(OpRescaleRange, IMAGE, {"from_range": (0, 200)}, {"to_range": (10, 20)}, **NO_MORE),
    Case(OpThreshold, IMAGE, {"level": 100.0}, {"level": 20.0}, **NO_MORE),
]


@parametrize_with_checks(CASES)
def test_operators_obey_the_laws(case, check):
    check(case)
