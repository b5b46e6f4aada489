"""Crop, reorder and channels: what they accept, what they refuse, and what they tell downstream."""

import numpy as np
import pytest
from lazyflow_core import ArrayMeta, Graph, Roi
from lazyflow_core.errors import ParameterError, SetupError

from lazyflow_ops_array.channel import OpChannel
from lazyflow_ops_array.crop import OpCrop
from lazyflow_ops_array.reorder_axes import OpReorderAxes

VOLUME = np.arange(4 * 5 * 6).reshape(4, 5, 6)
HINTED = ArrayMeta(
    (4, 5, 6, 3),
    "u1",
    "zyxc",
    value_range=(0, 9),
    preferred_block=(2, 5, 3, 3),
    max_block=(4, 4, 4, 2),
    channel_names=("red", "green", "blue"),
    semantics="labels",
    extra={"io.uri": "a"},
)


def hinted(operator_class, **parameters):
    operator = operator_class(graph=Graph(), **parameters)
    operator.image.assign(np.zeros(HINTED.shape, "u1"), HINTED)
    return operator


@pytest.mark.parametrize(
    ("roi", "expected"),
    [
        ("1:3", VOLUME[1:3]),
        ("1:3, :, 5:", VOLUME[1:3, :, 5:]),
        ("..., -2:", VOLUME[..., -2:]),
        (" 2 ,...", VOLUME[2:3]),
        ("-1", VOLUME[-1:]),
        ("x=:2, z=3", VOLUME[3:, :, :2]),
        ("1:1", VOLUME[1:1]),
        (((1, 0, 2), (3, 5, 4)), VOLUME[1:3, :, 2:4]),
        ([[1, 0, 2], [3, 5, 4]], VOLUME[1:3, :, 2:4]),
    ],
)
def test_a_crop_is_written_as_text_or_as_corners(roi, expected):
    crop = OpCrop(graph=Graph(), image=VOLUME, roi=roi)
    assert np.array_equal(crop.output.read(), expected)


@pytest.mark.parametrize(
    ("roi", "reason"),
    [
        ("", "not a range of pixels"),
        ("1:2:3", "not a range of pixels"),
        ("a:b", "not a range of pixels"),
        ("__import__('os')", "not a range of pixels"),
        ("z=1, z=2", "twice"),
        ("z=1, 2:3", "with and without"),
        ((1, 2), "pair"),
        (((3,), (1,)), "no box"),
        (((0.5,), (1,)), "no box"),
    ],
)
def test_what_is_no_crop_is_refused_at_once(roi, reason):
    with pytest.raises(ParameterError, match=reason):
        OpCrop(graph=Graph(), roi=roi)


@pytest.mark.parametrize(
    "roi", ["2:9", "3:1", ":, :, :, :", "w=1", "-7:", "..., ...", ((0, 0), (1, 1)), ((0, 0, 0), (1, 1, 7))]
)
def test_a_crop_that_does_not_fit_the_image_leaves_the_old_one(roi):
    crop = OpCrop(graph=Graph(), image=VOLUME, roi="1:2")
    with pytest.raises(SetupError, match="OpCrop: roi="):
        crop.roi.value = roi
    assert np.array_equal(crop.output.read(), VOLUME[1:2])


def test_a_crop_keeps_preferred_blocks_only_where_they_still_begin_with_it():
    assert hinted(OpCrop, roi="z=2:, x=3:").output.meta.preferred_block == (2, 5, 3, 3)
    assert hinted(OpCrop, roi="z=1:").output.meta.preferred_block is None
    meta = hinted(OpCrop, roi="c=1:").output.meta
    assert (meta.channel_names, meta.semantics, dict(meta.extra)) == (
        ("green", "blue"),
        "labels",
        {"io.uri": "a"},
    )


def test_dirt_outside_a_crop_is_not_announced():
    crop = OpCrop(graph=Graph(), image=VOLUME, roi="1:3")
    heard = []
    crop.output.dirty.subscribe(lambda slot, roi: heard.append(roi))
    crop.image.mark_dirty(Roi((0, 0, 0), (1, 5, 6)))
    crop.image.mark_dirty(Roi((0, 1, 1), (2, 2, 2)))
    assert heard == [Roi((0, 1, 1), (1, 2, 2))]


def test_reordering_maps_every_hint():
    meta = hinted(OpReorderAxes, axes="ctxyz").output.meta
    assert meta.shape == (3, 1, 6, 5, 4)
    assert meta.preferred_block == (3, 1, 3, 5, 2)
    assert meta.max_block == (2, 1, 4, 4, 4)
    assert (meta.channel_names, meta.value_range, meta.semantics) == (HINTED.channel_names, (0, 9), "labels")


def test_axes_with_long_names_are_separated_by_commas():
    reorder = OpReorderAxes(graph=Graph(), axes="x, angle, y")
    reorder.image.assign(np.zeros((2, 3)), ArrayMeta((2, 3), "f8", "yx"))
    assert reorder.output.meta.axes.keys == "x,angle,y"


def test_an_axis_with_pixels_is_not_dropped():
    with pytest.raises(SetupError, match="axis z has 4 pixels"):
        OpReorderAxes(graph=Graph(), image=VOLUME, axes="yx")
    with pytest.raises(ParameterError, match="twice"):
        OpReorderAxes(graph=Graph(), axes="xyx")
    with pytest.raises(ParameterError, match="no axis"):
        OpReorderAxes(graph=Graph(), axes="")


def test_a_dropped_axis_comes_back_with_one_pixel():
    reorder = OpReorderAxes(graph=Graph(), image=VOLUME[:1], axes="xy")
    back = OpReorderAxes(graph=reorder.graph, image=reorder.output, axes="zyx")
    assert np.array_equal(back.output.read(), VOLUME[:1])


def test_channels_are_selected_by_number_and_name():
    channel = hinted(OpChannel, channels=("blue", 0))
    meta = channel.output.meta
    assert (meta.shape, meta.channel_names) == ((4, 5, 6, 2), ("blue", "red"))
    assert meta.preferred_block == (2, 5, 3, 2)


@pytest.mark.parametrize(("channels", "reason"), [(3, "0 to 2"), (-1, "0 to 2"), ("cyan", "'red', 'green'")])
def test_a_channel_that_is_not_there_is_refused(channels, reason):
    with pytest.raises(SetupError, match=reason):
        hinted(OpChannel, channels=channels)


def test_channels_need_one_channel_axis_and_numbers_or_names():
    with pytest.raises(SetupError, match="no channel axes"):
        OpChannel(graph=Graph(), image=VOLUME)
    for value in ((), (1.5,), (True,)):
        with pytest.raises(ParameterError):
            OpChannel(graph=Graph(), channels=value)


def test_only_stale_channels_that_are_selected_are_announced():
    channel = hinted(OpChannel, channels=(2, 0, 2))
    heard = []
    channel.output.dirty.subscribe(lambda slot, roi: heard.append(set(roi.boxes)))
    channel.image.mark_dirty(Roi((0, 0, 0, 1), (1, 1, 1, 2)))
    channel.image.mark_dirty(Roi((0, 0, 0, 2), (1, 1, 1, 3)))
    assert heard == [{Roi((0, 0, 0, 0), (1, 1, 1, 1)), Roi((0, 0, 0, 2), (1, 1, 1, 3))}]
