"""Units and sizes of pixels: known, or absent and said; never invented, never lost."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from lazyflow_ops_io._units import _OME, is_pixel, ome_symbol, unit_name
from lazyflow_ops_io.tiff_reader import open_tiff
from lazyflow_ops_io.tiff_writer import create_tiff

from lazyflow_core.axes import Axes, Axis
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.plugins.files import AXES_GUESSED, NOTES

UM, NM, MM, S, MS = "micrometer", "nanometer", "millimeter", "second", "millisecond"


def meta_of(path):
    with open_tiff(str(path)) as reader:
        return reader.meta


def sizes_of(meta):
    return {a.key: (a.resolution, a.unit) for a in meta.axes if a.resolution is not None or a.unit}


@pytest.mark.parametrize("name", _OME)
def test_every_unit_has_one_symbol_and_both_are_understood(name):
    symbol = ome_symbol(name, of_time=False) or ome_symbol(name, of_time=True)
    assert unit_name(symbol) == unit_name(name) == unit_name(f" {name}s ") == unit_name(name.title()) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("\u00b5m", UM), ("\u03bcm", UM), ("\\u00B5m", UM), ("\\u03BCm", UM), ("um", UM), ("micron", UM),
        ("Microns", UM), ("micrometers", UM), ("micrometres", UM), ("micrometre", UM), ("nm", NM),
        ("nanometres", NM), ("\u00c5", "angstrom"), ("\u212b", "angstrom"), ("Angstroms", "angstrom"),
        ("mm", MM), ("Mm", "megameter"), ("in", "inch"), ("inches", "inch"), ("pm", "picometer"),
        ("Pm", "petameter"), ("msec", MS), ("ms", MS), ("sec", S), ("s", S), ("Seconds", S),
        ("min", "minute"),
        ("hr", "hour"), ("h", "hour"), ("hours", "hour"), ("d", "day"), ("\u00b5s", "microsecond"),
        ("\u03bcsec", "microsecond"), ("usec", "microsecond"), ("furlong", None), ("frames", None),
        ("", None),
        ("pixel", None), (None, None), (5, None), ("M", None), ("u m", None),
    ],
)  # fmt: skip
def test_a_unit_is_understood_in_every_spelling_or_not_at_all(text, name):
    assert unit_name(text) == name


@given(st.text(max_size=12))
def test_any_text_is_a_known_unit_or_none(text):
    assert unit_name(text) in {*_OME, None}
    assert not (is_pixel(text) and unit_name(text))


# -------------------------------------------------------------------------------------------------- ImageJ


def imagej(path, lines, resolution=None, unit=1, frames=False):
    """Write a stack as ImageJ describes it."""
    count = "frames" if frames else "slices"
    text = f"ImageJ=1.54f\nimages=3\n{count}=3\nhyperstack=true\nmode=grayscale\n" + "".join(
        f"{line}\n" for line in lines
    )
    tifffile.imwrite(
        path,
        np.zeros((3, 4, 5), np.uint8),
        description=text,
        metadata=None,
        resolution=resolution,
        resolutionunit=unit,
        photometric="minisblack",
    )
    return meta_of(path)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["unit=um", "spacing=3"], {"x": (0.5, UM), "y": (0.25, UM), "z": (3.0, UM)}),
        (["unit=um", "yunit=nm", "zunit=mm", "spacing=3"], {"x": (0.5, UM), "y": (0.25, NM), "z": (3.0, MM)}),
        (["unit=um", "spacing=-3"], {"x": (0.5, UM), "y": (0.25, UM), "z": (3.0, UM)}),
        (["unit=\\u00B5m", "zunit=nm"], {"x": (0.5, UM), "y": (0.25, UM)}),
        (["unit=\\u03BCm", "zunit=pixel", "spacing=1"], {"x": (0.5, UM), "y": (0.25, UM)}),
        (["unit=micrometers"], {"x": (0.5, UM), "y": (0.25, UM)}),
        (["unit=inch"], {"x": (0.5, "inch"), "y": (0.25, "inch")}),
        (["unit=pixel", "spacing=3"], {"x": (0.5, None), "y": (0.25, None), "z": (3.0, None)}),
        (["spacing=3"], {"x": (0.5, None), "y": (0.25, None), "z": (3.0, None)}),
        (["unit=um", "spacing=nan"], {"x": (0.5, UM), "y": (0.25, UM)}),
        (["unit=um", "spacing=0"], {"x": (0.5, UM), "y": (0.25, UM)}),
    ],
)
def test_imagej_gives_each_axis_its_own_unit(tmp_path, lines, expected):
    meta = imagej(tmp_path / "a.tif", lines, resolution=(2, 4))
    assert sizes_of(meta) == expected
    assert meta.axes.keys == "zyx"


def test_a_unit_that_is_not_known_is_said_and_the_size_stays(tmp_path):
    meta = imagej(tmp_path / "a.tif", ["unit=furlong", "zunit=nm", "spacing=3"], resolution=(2, 4))
    assert sizes_of(meta) == {"x": (0.5, None), "y": (0.25, None), "z": (3.0, NM)}
    assert meta.extra[NOTES] == tuple(f"the unit 'furlong' of {key} is not known" for key in "xy")


@pytest.mark.parametrize(
    ("lines", "expected", "noted"),
    [
        (["finterval=10"], {"t": (10.0, S)}, 0),
        (["finterval=10", "tunit=msec"], {"t": (10.0, MS)}, 0),
        (["finterval=10", "tunit=hr"], {"t": (10.0, "hour")}, 0),
        (["finterval=10", "tunit=min"], {"t": (10.0, "minute")}, 0),
        (["finterval=10", "tunit=frames"], {}, 0),
        (["finterval=10", "tunit=fortnights"], {}, 1),
        (["finterval=-10"], {"t": (10.0, S)}, 0),
        (["finterval=0", "tunit=sec"], {}, 0),
        (["fps=7", "tunit=sec"], {}, 0),
    ],
)
def test_imagej_times_have_their_unit_or_none(tmp_path, lines, expected, noted):
    meta = imagej(tmp_path / "a.tif", lines, frames=True)
    assert sizes_of(meta) == expected
    assert len(meta.extra.get(NOTES, ())) == noted
    assert meta.axes.keys == "tyx"


@pytest.mark.parametrize("description", ["ImageJ", "plain"])
@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [
        ((20000, 40000), 3, {"x": (5e-05, "centimeter"), "y": (2.5e-05, "centimeter")}),
        ((50800, 50800), 2, {"x": (1 / 50800, "inch"), "y": (1 / 50800, "inch")}),
        ((72, 72), 2, {}),  # of a screen
        ((96, 96), 2, {}),
        ((1, 1), 1, {}),
        (None, 1, {}),
    ],
)
def test_resolution_tags_count_where_they_give_a_unit(tmp_path, description, resolution, unit, expected):
    path = tmp_path / "a.tif"
    if description == "ImageJ":
        meta = imagej(path, [], resolution=resolution, unit=unit)
    else:
        tifffile.imwrite(
            path, np.zeros((4, 5), "u1"), resolution=resolution, resolutionunit=unit, metadata=None
        )
        meta = meta_of(path)
    assert sizes_of(meta) == {key: (pytest.approx(size), unit) for key, (size, unit) in expected.items()}


# ----------------------------------------------------------------------------------------------------- OME


@pytest.mark.parametrize("name", [n for n in _OME if ome_symbol(n, of_time=False)])
def test_every_length_of_ome_is_read(tmp_path, name):
    metadata = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": ome_symbol(name, of_time=False)}
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((2, 4, 5), "u1"), metadata=metadata)
    assert sizes_of(meta_of(tmp_path / "a.ome.tif")) == {"x": (0.5, name)}


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"PhysicalSizeX": 0.5, "TimeIncrement": 2}, {"x": (0.5, UM), "t": (2.0, S)}),  # OME's defaults
        ({"TimeIncrement": 2, "TimeIncrementUnit": "ms"}, {"t": (2.0, MS)}),
        ({"TimeIncrement": 2, "TimeIncrementUnit": "h"}, {"t": (2.0, "hour")}),
        ({"PhysicalSizeX": 1, "PhysicalSizeXUnit": "pixel"}, {}),
        ({"PhysicalSizeX": 3, "PhysicalSizeXUnit": "reference frame"}, {}),
        ({"PhysicalSizeX": 3, "PhysicalSizeXUnit": "\u03bcm"}, {"x": (3.0, UM)}),
    ],
)
def test_ome_units_are_known_or_absent(tmp_path, metadata, expected):
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((2, 4, 5), "u1"), metadata={"axes": "TYX", **metadata})
    meta = meta_of(tmp_path / "a.ome.tif")
    assert sizes_of(meta) == expected
    assert AXES_GUESSED not in meta.extra


SIZES = st.one_of(st.none(), st.floats(1e-6, 1e6), st.integers(1, 5).map(float))
LENGTHS = st.sampled_from([None, "furlong", *(n for n in _OME if ome_symbol(n, of_time=False))])
TIMES = st.sampled_from([None, "fortnight", *(n for n in _OME if ome_symbol(n, of_time=True))])


@given(lengths=st.tuples(*[st.tuples(LENGTHS, SIZES)] * 3), time=st.tuples(TIMES, SIZES))
def test_every_size_and_unit_comes_back_from_tiff(tmp_path_factory, lengths, time):
    axes = Axes([Axis(k, None, u, s) for k, (u, s) in zip("tzyx", (time, *lengths), strict=True)])
    path = tmp_path_factory.mktemp("units") / "a.tif"
    with create_tiff(str(path), ArrayMeta((2, 2, 2, 2), "uint8", axes)) as writer:
        writer.write(writer.meta.roi, np.zeros((2, 2, 2, 2), np.uint8))
        writer.commit()
    assert meta_of(path).axes == axes
