import pickle

import numpy as np
import pytest

from lazyflow_core.axes import Axes, Axis
from lazyflow_core.errors import MetaError, RoiBoundsError
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.roi import Roi


def test_meta_is_compared_by_value():
    assert ArrayMeta((2, 3), "uint8") == ArrayMeta((2, 3), np.uint8, axes="yx")
    assert ArrayMeta((2, 3), "uint8") != ArrayMeta((2, 3), "uint8", value_range=(0, 1))
    assert ArrayMeta((2, 3), "uint8", extra={"io.uri": "a"}) != ArrayMeta(
        (2, 3), "uint8", extra={"io.uri": "b"}
    )


def test_meta_is_frozen_down_to_its_mapping():
    meta = ArrayMeta((2,), "uint8", extra={"a.b": 1})
    with pytest.raises(AttributeError):
        meta.shape = (3,)
    with pytest.raises(TypeError):
        meta.extra["a.b"] = 2


def test_a_new_number_of_axes_drops_the_hints_of_the_old_ones():
    meta = ArrayMeta((8, 8, 8), "uint8", preferred_block=(4, 4, 4))
    assert meta.replace(shape=(8, 8), axes="yx").preferred_block is None


def test_channel_names_that_no_longer_fit_are_dropped():
    meta = ArrayMeta((8, 8, 2), "uint8", axes="yxc", channel_names=("red", "green"))
    assert meta.replace(shape=(8, 8, 1)).channel_names == ()
    assert meta.replace(dtype="float32").channel_names == ("red", "green")


def test_a_misspelled_field_is_refused():
    with pytest.raises(MetaError, match="no field 'shpae'"):
        ArrayMeta((2,), "uint8").replace(shpae=(3,))


@pytest.mark.parametrize(
    "wrong",
    [
        {"axes": "zyx"},
        {"preferred_block": (1,)},
        {"preferred_block": (0, 1)},
        {"value_range": (2, 1)},
        {"ram_per_pixel": 0},
        {"channel_names": ("a",) * 2},
        {"semantics": "picture"},
    ],
)
def test_meta_that_contradicts_itself_is_refused(wrong):
    with pytest.raises(MetaError):
        ArrayMeta((4, 4), "uint8", **wrong)


def test_sizes_do_not_overflow():
    assert ArrayMeta((2**40, 2**40), "float64").nbytes == 2**83


def test_cropping_keeps_pixel_size_and_moves_the_origin():
    axes = Axes([Axis("y", resolution=0.5), Axis("x"), Axis("c")])
    meta = ArrayMeta((8, 8, 2), "uint8", axes, channel_names=("red", "green"))
    cropped = meta.cropped(Roi((2, 0, 1), (4, 8, 2)))
    assert cropped.shape == (2, 8, 1)
    assert cropped.axes[0] == Axis("y", resolution=0.5, translation=1.0)
    assert cropped.channel_names == ("green",)
    with pytest.raises(RoiBoundsError):
        meta.cropped(Roi((0, 0, 0), (9, 8, 2)))


def test_meta_survives_pickling():
    meta = ArrayMeta((2, 3), ">u2", value_range=(0, 4), extra={"a.b": 1})
    assert pickle.loads(pickle.dumps(meta)) == meta
