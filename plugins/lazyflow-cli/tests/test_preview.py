"""The picture of `run --preview` and `demo`: any array has one, and pixels have their true shape in it."""

import numpy as np
import pytest
from lazyflow_core import ArrayMeta, Axes, Axis, Roi
from PIL import Image

from lazyflow_cli import _preview
from lazyflow_cli._preview import draw, middle_plane, panel_of


def panel(data, axes, backdrop=None, **meta):
    meta = ArrayMeta(data.shape, data.dtype, axes, **meta)
    plane, rows_columns = middle_plane(meta, meta.roi)
    return panel_of(data[plane.slicing], meta, plane, rows_columns, title="a.output", backdrop=backdrop)


@pytest.mark.parametrize(
    ("axes", "shape", "plane", "rows_columns"),
    [
        ("yx", (20, 30), "[0:20, 0:30]", (0, 1)),
        ("zyx", (9, 20, 30), "[4:5, 0:20, 0:30]", (1, 2)),
        ("xyz", (30, 20, 9), "[0:30, 0:20, 4:5]", (1, 0)),
        ("tzyxc", (5, 9, 20, 30, 3), "[2:3, 4:5, 0:20, 0:30, 0:1]", (2, 3)),
        ("zc", (9, 3), "[0:9, 0:3]", (0, 1)),
        ("x", (30,), "[0:30]", (0, 0)),
        ("yx", (5000, 2048), "[1476:3524, 0:2048]", (0, 1)),
    ],
)
def test_the_plane_is_the_middle_one(axes, shape, plane, rows_columns):
    meta = ArrayMeta(shape, "uint8", axes)
    roi, found = middle_plane(meta, meta.roi)
    assert (str(roi), found) == (plane, rows_columns)


def test_the_plane_is_the_middle_of_the_region():
    meta = ArrayMeta((9, 20, 30), "uint8", "zyx")
    plane, _ = middle_plane(meta, Roi((6, 5, 0), (8, 15, 30)))
    assert str(plane) == "[7:8, 5:15, 0:30]"


@pytest.mark.parametrize("axes", ["zyx", "xyz", "yxc", "tyx"])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64", "bool"])
def test_rows_are_y_and_columns_are_x(axes, dtype):
    data = np.zeros([{"y": 20, "x": 30}.get(key, 1) for key in axes], dtype)
    bright = [0] * 3
    bright[axes.index("x")] = 29
    data[tuple(bright)] = 1
    pixels = panel(data, axes).pixels.sum(-1)
    assert pixels.shape == (20, 30)
    assert np.argwhere(pixels == pixels.max()).tolist() == [[0, 29]]


def test_a_line_is_a_picture_of_one_row():
    assert panel(np.arange(30.0), "x").pixels.shape == (1, 30, 3)


def test_what_is_not_finite_is_dark_or_bright_and_spoils_nothing_else():
    data = np.linspace(0, 1, 400).reshape(20, 20)
    clean = panel(data, "yx").pixels
    data[0, 0], data[-1, -1] = np.nan, np.inf
    pixels = panel(data, "yx").pixels
    assert pixels[0, 0].tolist() == [0, 0, 0]
    assert pixels[-1, -1].tolist() == [255, 255, 255]
    assert np.abs(pixels.astype(int) - clean)[1:-1].max() <= 3


def test_a_constant_image_and_one_without_a_finite_pixel_have_pictures():
    assert panel(np.full((4, 4), 7.0), "yx").pixels.shape == (4, 4, 3)
    assert panel(np.full((4, 4), np.nan), "yx").pixels.max() == 0


def test_a_mask_is_laid_over_its_source():
    source = panel(np.random.default_rng(0).uniform(size=(20, 30)), "yx")
    mask = np.zeros((20, 30), np.uint8)
    mask[5:10] = 1
    pixels = panel(mask, "yx", value_range=(0, 1), backdrop=source).pixels.astype(float)
    outside = np.delete(pixels, np.s_[5:10], axis=0)
    assert (pixels[5:10, :, 0] > pixels[5:10, :, 2]).all()  # orange
    assert np.ptp(outside, axis=-1).max() == 0  # gray


def test_labels_keep_their_colors_and_differ():
    labels = np.arange(60).reshape(6, 10)
    pixels = panel(labels, "yx", semantics="labels").pixels
    assert pixels[0, 0].tolist() == [0, 0, 0]
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) == 60
    shifted = panel(labels[1:], "yx", semantics="labels").pixels
    np.testing.assert_array_equal(shifted, pixels[1:])


def test_pixels_have_their_true_shape_in_the_picture(tmp_path):
    axes = Axes([Axis("y", unit="micrometer", resolution=2.0), Axis("x", unit="micrometer", resolution=1.0)])
    flat = _preview._scaled(panel(np.zeros((10, 20), np.uint8), axes))
    assert flat.width == flat.height == 560
    draw([panel(np.zeros((10, 20), np.uint8), axes)], "x" * 500, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width == 560 + 2 * 36  # however long the caption is
