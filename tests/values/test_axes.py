import pytest

from lazyflow_core.axes import Axes, Axis
from lazyflow_core.errors import AxesError

MICRO = "micrometer"


def test_cropping_moves_the_origin_along():
    axes = Axes([Axis("z", unit=MICRO, resolution=0.5, translation=1.0), "y"]).cropped((4, 7))
    assert axes[0].translation == 3.0
    assert axes[1].translation == 0.0  # no pixel size, so no position either


def test_reordering_keeps_what_is_known_of_each_axis():
    z = Axis("z", unit=MICRO, resolution=2.0)
    assert Axes([z, "y", "x"]).transposed("xyz")[2] == z


@pytest.mark.parametrize(("by_mean", "first"), [(True, 1.0 + 0.5 * 1.5), (False, 1.0)])
def test_larger_pixels_lie_where_the_smaller_ones_did(by_mean, first):
    axes = Axes([Axis("x", unit=MICRO, resolution=0.5, translation=1.0), "c"])
    x, c = axes.downsampled((4, 1), by_mean=by_mean)
    assert (x.resolution, x.translation) == (2.0, first)
    assert c == Axis("c")
    with pytest.raises(AxesError, match="one number > 0 per axis"):
        axes.downsampled((0, 1), by_mean=True)


@pytest.mark.parametrize("keys", ["zy", "zyxx", "zyc"])
def test_reordering_to_other_axes_is_refused(keys):
    with pytest.raises(AxesError):
        Axes("zyx").transposed(keys)


def test_a_key_occurs_once():
    with pytest.raises(AxesError, match="occurs twice"):
        Axes("zyz")


@pytest.mark.parametrize("resolution", [0, -1, float("inf"), float("nan")])
def test_a_pixel_has_a_positive_size_or_none(resolution):
    with pytest.raises(AxesError, match="resolution"):
        Axis("x", resolution=resolution)


@pytest.mark.parametrize(
    ("shape", "keys"),
    [
        ((5,), "x"),
        ((5, 5), "yx"),
        ((5, 5, 5), "zyx"),
        ((5, 5, 3), "yxc"),
        ((5,) * 4, "zyxc"),
        ((5,) * 5, "tzyxc"),
    ],
)
def test_the_usual_axes_of_a_shape(shape, keys):
    assert Axes.guess(shape).keys == keys


def test_six_dimensions_have_no_usual_axes():
    with pytest.raises(AxesError, match="6 dimensions"):
        Axes.guess((1,) * 6)


def test_ngff_there_and_back_gives_the_same_axes():
    axes = Axes(
        [
            Axis("t", unit="second", resolution=5.0),
            Axis("c"),
            Axis("z", unit=MICRO, resolution=0.235, translation=1.5),
            Axis("y", unit=MICRO, resolution=0.15),
            Axis("x", unit=MICRO, resolution=0.15),
        ]
    )
    assert Axes.from_ngff(*axes.to_ngff()) == axes
    unknown = Axes("tczyx")
    assert Axes.from_ngff(*unknown.to_ngff()) == unknown


@pytest.mark.parametrize("axes", ["zyx", [{"nam": "x"}], [3]])
def test_what_is_no_ngff_is_refused_in_a_sentence(axes):
    with pytest.raises(AxesError, match="not the axes of OME-NGFF"):
        Axes.from_ngff(axes)


def test_axes_are_reordered_by_keys_not_positions():
    with pytest.raises(AxesError, match="cannot be reordered to '10'"):
        Axes("yx").transposed((1, 0))


def test_ngff_transformations_apply_in_order():
    steps = [
        {"type": "scale", "scale": [2.0]},
        {"type": "translation", "translation": [3.0]},
        {"type": "scale", "scale": [10.0]},
    ]
    axis = Axes.from_ngff([{"name": "x", "type": "space"}], steps)[0]
    assert (axis.resolution, axis.translation) == (20.0, 30.0)


def test_an_ngff_scale_of_another_length_is_refused():
    with pytest.raises(AxesError, match="2 numbers for 1 axes"):
        Axes.from_ngff([{"name": "x"}], [{"type": "scale", "scale": [1, 2]}])


def test_axistags_json_there_and_back_keeps_keys_kinds_and_resolutions():
    axes = Axes([Axis("z", resolution=0.5), "y", "c"])
    back = Axes.from_axistags(axes.to_axistags())
    assert back == axes


def test_axistags_json_as_vigra_writes_it():
    # Written by vigra 1.11 for defaultAxistags("yxc") with a resolution set on y.
    text = """{
      "axes": [
        {"key": "y", "typeFlags": 2, "resolution": 0.25, "description": ""},
        {"key": "x", "typeFlags": 2, "resolution": 0, "description": ""},
        {"key": "c", "typeFlags": 1, "resolution": 0, "description": ""}
      ]
    }"""
    axes = Axes.from_axistags(text, units={"y": MICRO})
    assert axes.keys == "yxc"
    assert axes[0] == Axis("y", unit=MICRO, resolution=0.25)
    assert axes[2].kind == "channel"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"axes": [{}]}', '{"axes": 3}', "[" * 100_000])
def test_text_that_is_no_axistags_is_refused_in_a_sentence(text):
    with pytest.raises(AxesError, match="axistags"):
        Axes.from_axistags(text)


def test_a_scale_that_stands_in_an_array_is_no_scale_of_one():
    axes = [{"name": "x", "type": "space", "unit": "micrometer"}]
    assert Axes.from_ngff(axes, [{"type": "scale", "path": "s"}])[0].resolution is None
