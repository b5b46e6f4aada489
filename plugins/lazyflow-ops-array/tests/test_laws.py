"""What the laws of operators do not ask: no dirt too many, for any order of axes; passing through."""

import numpy as np
import pytest
from lazyflow_core import ArrayMeta, Axes, Axis, Graph, Roi
from lazyflow_core.testing import check_operator

from lazyflow_ops_array import conformance
from lazyflow_ops_array.cast import OpCast
from lazyflow_ops_array.channel import OpChannel
from lazyflow_ops_array.crop import OpCrop
from lazyflow_ops_array.pixel_function import OpPixelFunction
from lazyflow_ops_array.reorder_axes import OpReorderAxes
from lazyflow_ops_array.rescale_range import OpRescaleRange
from lazyflow_ops_array.threshold import OpThreshold

CASES = {
    "cast": (OpCast, {"dtype": "uint8"}),
    "cast to the same": (OpCast, {"dtype": "float64"}),
    "channels": (OpChannel, {"channels": (2, 0, 1, 2)}),
    "one channel": (OpChannel, {"channels": 1}),
    "all channels": (OpChannel, {"channels": (0, 1, 2)}),
    "crop": (OpCrop, {"roi": "y=2:5, x=-3:"}),
    "crop of nothing": (OpCrop, {"roi": "..."}),
    "function": (OpPixelFunction, {"function": "log1p"}),
    "reorder": (OpReorderAxes, {"axes": "xtcyz"}),
    "reorder and drop": (OpReorderAxes, {"axes": "cxy"}),
    "rescale": (OpRescaleRange, {"from_range": (0, 200), "dtype": "uint16"}),
    "threshold": (OpThreshold, {"level": 100.0}),
}
ORDERS = ("zyxc", "cxyz", "yczx")


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(params=ORDERS)
def operator_and_pixels(request, case):
    """The operator on an image whose axes have one of several orders."""
    operator_class, parameters = case
    lengths = {"z": 1, "y": 9, "x": 7, "c": 3}
    pixels = np.random.default_rng(5).uniform(0, 260, tuple(lengths[key] for key in request.param))
    operator = operator_class(graph=Graph(), **parameters)
    operator.image.assign(pixels, axes=request.param)
    return operator, pixels


def rois_in(shape, count=12):
    chance = np.random.default_rng(1)
    for _ in range(count):
        corners = np.sort(chance.integers(0, np.add(shape, 1), (2, len(shape))), axis=0)
        yield Roi(*corners.tolist())


def test_the_dirty_regions_are_the_pixels_that_change(operator_and_pixels):
    operator, pixels = operator_and_pixels
    for roi in rois_in(pixels.shape):
        heard = []
        unsubscribe = operator.output.dirty.subscribe(lambda slot, box, heard=heard: heard.extend(box.boxes))
        before = np.array(operator.output.read())
        pixels[roi.slicing] += 120.0
        operator.image.mark_dirty(roi)
        unsubscribe()
        announced = np.zeros(before.shape, bool)
        for box in heard:
            announced[box.slicing] = True
        assert not ((before != operator.output.read()) & ~announced).any()
        # and not more: each announced pixel takes from a changed one
        assert announced.sum() == expected_count(operator, pixels.shape, roi)


def expected_count(operator, shape, roi):
    """Pull a picture of the changed pixels through the geometry of the operator."""
    marks = np.zeros(shape)
    marks[roi.slicing] = 1
    geometry = (OpChannel, OpCrop, OpReorderAxes)
    if not isinstance(operator, geometry):
        return marks.sum()
    other = type(operator)(graph=Graph(), **{p.name: p.value for p in operator.parameters})
    other.image.assign(marks, operator.image.meta)
    return other.output.read().sum()


def test_an_operator_that_passed_through_computes_when_it_has_to_and_back():
    image = np.array([[0.0, 300.0]])
    cast = OpCast(graph=Graph(), image=image, dtype="float64")
    assert np.shares_memory(cast.output.read(), image)
    cast.dtype.value = "uint8"
    assert cast.output.read().tolist() == [[0, 255]]
    cast.dtype.value = "float64"
    assert cast.output.read().tolist() == [[0, 300]]
    cast.image.assign(np.array([[1, 2]]))
    assert cast.output.read().dtype == np.float64
    cast.image.disconnect()
    assert not cast.output.ready


def test_geometry_keeps_pixel_size_unit_and_origin():
    axes = Axes(
        [Axis("z", unit="micrometer", resolution=2.0, translation=10.0), "y", Axis("x", resolution=0.5)]
    )
    crop = OpCrop(graph=Graph(), roi="3:5, :, 4:")
    crop.image.assign(np.zeros((6, 7, 8)), ArrayMeta((6, 7, 8), "f8", axes))
    reorder = OpReorderAxes(graph=crop.graph, image=crop.output, axes="tcxyz")
    meta = reorder.output.meta
    assert meta.shape == (1, 1, 4, 7, 2)
    assert meta.axes[4] == Axis("z", unit="micrometer", resolution=2.0, translation=16.0)
    assert meta.axes[2] == Axis("x", resolution=0.5, translation=2.0)
    assert meta.axes[0] == Axis("t")


@pytest.mark.parametrize("case", [c for c in conformance.CASES if c.load().pixelwise], ids=lambda c: c.name)
def test_what_works_pixel_by_pixel_is_the_same_tile_by_tile(case, monkeypatch):
    checks = ["meta_consistency", "roi_consistency", "out_buffer", "input_unchanged", "thread_safety"]
    monkeypatch.setattr("lazyflow_core.graph.arrays.LEAST_SIZE", 7)
    monkeypatch.setattr("lazyflow_core.graph.tiles._FEWEST", 2)
    monkeypatch.setattr("lazyflow_core.graph.tiles._TILE_BYTES", 64)
    failed = [result for result in check_operator(case, checks=checks) if result.status == "failed"]
    assert not failed, failed
