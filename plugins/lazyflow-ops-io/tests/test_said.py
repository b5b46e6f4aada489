"""What files say of axes, sizes and channels is found wherever it stands; what they do not say is told."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from lazyflow_ops_io.hdf5_reader import open_hdf5
from lazyflow_ops_io.npy import create_npy, open_npy
from lazyflow_ops_io.read import OpRead
from lazyflow_ops_io.tiff_reader import open_tiff
from lazyflow_ops_io.tiff_writer import create_tiff
from lazyflow_ops_io.zarr_reader import open_zarr
from lazyflow_ops_io.zarr_writer import create_zarr

from lazyflow_core import Graph
from lazyflow_core.axes import Axes, Axis
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.plugins.files import AXES_GUESSED

UM = "micrometer"


def meta_of(opener, path, **options):
    with opener(str(path), **options) as reader:
        return reader.meta


def said(meta):
    return meta.axes.keys, [a.resolution for a in meta.axes], [a.unit for a in meta.axes]


# ------------------------------------------------------------------------------------------- axes guessed


def test_axes_that_nobody_named_are_marked_as_guessed(tmp_path):
    data = np.zeros((3, 4, 5), np.uint8)
    np.save(tmp_path / "a.npy", data)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack")
    zarr.create_array(tmp_path / "a.zarr", data=data)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = data
    for opener, name in (
        (open_npy, "a.npy"),
        (open_tiff, "a.tif"),
        (open_zarr, "a.zarr"),
        (open_hdf5, "a.h5"),
    ):
        meta = meta_of(opener, tmp_path / name)
        assert meta.axes.keys == "zyx"
        assert meta.extra[AXES_GUESSED]
        with Graph() as graph:
            stated = OpRead(graph=graph, path=str(tmp_path / name), axes="tyx").output.meta
            assert (stated.axes.keys, AXES_GUESSED in stated.extra) == ("tyx", False)


def test_axes_that_somebody_named_are_not(storage, tmp_path):
    storage.write(tmp_path / f"a{storage.suffix}", np.zeros((3, 4, 5), np.uint8), "tyx")
    meta = storage.read(tmp_path / f"a{storage.suffix}")[1]
    assert (AXES_GUESSED in meta.extra) != storage.keeps_axes
    tifffile.imwrite(tmp_path / "plane.tif", np.zeros((4, 5), np.uint8))
    tifffile.imwrite(tmp_path / "color.tif", np.zeros((4, 5, 3), np.uint8), photometric="rgb")
    for name in ("plane", "color"):  # TIFF itself has rows, columns and samples
        assert AXES_GUESSED not in meta_of(open_tiff, tmp_path / f"{name}.tif").extra


def test_axes_that_were_guessed_are_not_known_once_they_are_written(storage, tmp_path):
    np.save(tmp_path / "movie.npy", np.zeros((3, 4, 5), np.uint8))
    for axes, guessed in (("", True), ("zyx", not storage.keeps_axes)):
        path = str(tmp_path / f"a{axes}{storage.suffix}")
        with Graph() as graph:
            meta = OpRead(graph=graph, path=str(tmp_path / "movie.npy"), axes=axes).output.meta
        with storage.create(path, meta, **storage.options) as writer:
            writer.write(meta.roi, np.zeros(meta.shape, np.uint8))
            writer.commit()
        assert (AXES_GUESSED in storage.read(path)[1].extra) == guessed


def test_which_kernels_computed_the_pixels_is_kept(storage, tmp_path):
    extra = {"filters.computed_by": 'native ("C++", µ)', "io.path": "elsewhere", "x": object()}
    meta = ArrayMeta((3, 4), "uint8", "yx", extra=extra)
    with storage.create(str(tmp_path / f"a{storage.suffix}"), meta, **storage.options) as writer:
        writer.write(meta.roi, np.zeros((3, 4), np.uint8))
        writer.commit()
    found = storage.read(tmp_path / f"a{storage.suffix}")[1].extra
    assert found.get("filters.computed_by") == (extra["filters.computed_by"] if storage.keeps_axes else None)
    assert found["io.path"] == str(tmp_path / f"a{storage.suffix}")


@pytest.mark.parametrize("kept", ["[1]", "{", '{"lazyflow.axes_guessed": "no", "x.computed_by": 3, "y": 4}'])
def test_what_is_kept_about_an_array_is_not_believed(tmp_path, kept):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.zeros((3, 4), np.uint8)
        file["a"].attrs["lazyflow"] = kept
        file["a"].dims[0].label, file["a"].dims[1].label = "y", "x"
    assert set(meta_of(open_hdf5, tmp_path / "a.h5").extra) == {"io.path", "io.dataset"}


# -------------------------------------------------------------------------------------------- OME-Zarr


def image_of(version, paths, axes=None, scales=None):
    image = {"version": version, "datasets": [{"path": path} for path in paths]}
    if axes is not None:
        image["axes"] = list(axes) if version == "0.3" else [{"name": k, "type": kind(k)} for k in axes]
    for data_set, scale in zip(image["datasets"], scales or (), strict=False):
        data_set["coordinateTransformations"] = [{"type": "scale", "scale": scale}]
    return image


def kind(key):
    return {"t": "time", "c": "channel"}.get(key, "space")


def put_image(root, group, version, data, axes=None, scales=None, **more):
    """Write an image with two levels as another program does."""
    form = 3 if version == "0.5" else 2
    image = image_of(version, ["0", "1"], axes, scales)
    content = {"multiscales": [image], **more}
    attributes = {"ome": {"version": version, **content}} if version == "0.5" else content
    where = zarr.create_group(root, path=group, zarr_format=form, attributes=attributes)
    for level, pixels in (("0", data), ("1", data[..., ::2, ::2])):
        where.create_array(level, shape=pixels.shape, dtype=pixels.dtype, chunks=pixels.shape)[...] = pixels


@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3", "0.4", "0.5"])
def test_every_version_of_ome_zarr_names_its_axes(tmp_path, version):
    data = np.zeros((1, 2, 3, 8, 9), np.uint8)
    scaled = version in ("0.4", "0.5")
    axes = None if version < "0.3" else "tczyx"
    scales = [[1, 1, 2, 0.5, 0.5], [1, 1, 2, 1, 1]] if scaled else None
    put_image(tmp_path / "a.zarr", "", version, data, axes, scales)
    for opened, dataset, size in (("a.zarr", None, 0.5), ("a.zarr/0", None, 0.5), ("a.zarr", "1", None)):
        meta = meta_of(open_zarr, tmp_path / opened, dataset=dataset)
        sizes = [None, None, 2.0, size, size] if scaled else [None] * 5
        assert said(meta)[:2] == ("tczyx", sizes)
        assert AXES_GUESSED not in meta.extra


def test_a_zarr_of_no_version_and_other_rank_is_guessed(tmp_path):
    root = zarr.create_group(
        tmp_path / "a.zarr", zarr_format=2, attributes={"multiscales": [image_of("0.1", "0")]}
    )
    root.create_array("0", shape=(3, 4, 5), dtype="u1")
    assert meta_of(open_zarr, tmp_path / "a.zarr").extra[AXES_GUESSED]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_level_that_is_opened_by_its_path_looks_at_what_is_around_it(tmp_path, version):
    path = tmp_path / "a.zarr"
    data = np.zeros((2, 8, 9), np.uint16)
    omero = {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}
    put_image(path, "", version, data, "cyx", [[1, 0.5, 0.5], [1, 1, 1]], omero=omero)
    put_image(path, "labels/nuclei", version, data[0], "yx", [[0.5, 0.25], [1, 0.5]], **{"image-label": {}})
    put_image(path, "B/03/0", version, data, "cyx", [[1, 2, 3], [1, 4, 6]])
    whole = meta_of(open_zarr, path)
    level = meta_of(open_zarr, path / "0")
    assert (level.axes, level.channel_names) == (whole.axes, ("DAPI", "GFP"))
    assert said(level) == ("cyx", [None, 0.5, 0.5], [None] * 3)
    labels = meta_of(open_zarr, path / "labels" / "nuclei" / "1")
    assert (said(labels)[:2], labels.semantics) == (("yx", [None, 0.5]), "labels")
    well = meta_of(open_zarr, path / "B" / "03" / "0" / "1")
    assert said(well)[:2] == ("cyx", [None, 4.0, 6.0])
    assert said(meta_of(open_zarr, path / "B", dataset="03/0/1"))[:2] == ("cyx", [None, 4.0, 6.0])


def test_what_is_around_a_folder_that_is_no_level_says_nothing_of_it(tmp_path):
    put_image(tmp_path / "a.zarr", "", "0.4", np.zeros((2, 8, 9), np.uint16), "cyx")
    zarr.create_array(tmp_path / "a.zarr" / "other", data=np.zeros((2, 8, 9)), zarr_format=2)
    assert meta_of(open_zarr, tmp_path / "a.zarr" / "other").extra[AXES_GUESSED]


@pytest.mark.parametrize(
    ("text", "unit"),
    [("um", UM), ("\u03bcm", UM), ("microns", UM), ("pixel", None), ("degree", "degree"), (5, None)],
)
def test_units_of_ome_zarr_are_named_as_here(tmp_path, text, unit):
    image = image_of("0.4", ["0"], "yx", [[2, 3]])
    for axis in image["axes"]:
        axis["unit"] = text
    root = zarr.create_group(tmp_path / "a.zarr", zarr_format=2, attributes={"multiscales": [image]})
    root.create_array("0", shape=(4, 5), dtype="u1")
    assert said(meta_of(open_zarr, tmp_path / "a.zarr")) == ("yx", [2.0, 3.0], [unit, unit])


@pytest.mark.parametrize("scale", [[-2, 3], [0, 3], [2], ["a", 3], [float("nan"), 3]])
def test_sizes_that_are_none_do_not_hide_the_axes(tmp_path, scale):
    image = image_of("0.4", ["0"], "ty", [scale])
    root = zarr.create_group(tmp_path / "a.zarr", zarr_format=2, attributes={"multiscales": [image]})
    root.create_array("0", shape=(4, 5), dtype="u1")
    keys, sizes, _ = said(meta_of(open_zarr, tmp_path / "a.zarr"))
    assert (keys, sizes[0]) == ("ty", None)


# ------------------------------------------------------------------------------------------------- HDF5


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"element_size_um": (3.0, 2.0, 1.0)}, ("zyx", [3.0, 2.0, 1.0], [UM] * 3)),
        ({"ELEMENT_SIZE_UM": (3.0, 2.0, 1.0)}, ("zyx", [3.0, 2.0, 1.0], [UM] * 3)),
        ({"element_size_um": (2.0, 1.0)}, ("zyx", [None, 2.0, 1.0], [None, UM, UM])),
        ({"element_size_um": (-3.0, np.inf, 1.0)}, ("zyx", [None, None, 1.0], [None, None, UM])),
        ({"element_size_um": (1.0, 1.0, 1.0, 1.0)}, ("zyx", [None] * 3, [None] * 3)),
        ({"DIMENSION_LABELS": np.array([b"T", b"Y", b"X"])}, ("tyx", [None] * 3, [None] * 3)),
        (
            {
                "axistags": Axes(["t", Axis("y", resolution=0.5), "x"]).to_axistags(),
                "axis_units": '{"y": "um"}',
            },
            ("tyx", [None, 0.5, None], [None, UM, None]),
        ),
        (
            {
                "axistags": Axes(["z", Axis("y", resolution=0.5), "x"]).to_axistags(),
                "element_size_um": (3, 0.5, 2),
            },
            ("zyx", [3.0, 0.5, 2.0], [UM] * 3),
        ),
        (
            {
                "axistags": Axes(["z", Axis("y", resolution=0.7), "x"]).to_axistags(),
                "element_size_um": (3, 0.5, 2),
            },
            ("zyx", [3.0, 0.7, 2.0], [UM, None, UM]),
        ),
        (
            {"axistags": json.dumps({"axes": [{"key": k, "resolution": -1} for k in "tyx"]})},
            ("tyx", [None] * 3, [None] * 3),
        ),
    ],
)
def test_attributes_of_hdf5_give_axes_and_sizes(tmp_path, attributes, expected):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.zeros((3, 4, 5), np.uint8)
        file["a"].attrs.update(attributes)
    assert said(meta_of(open_hdf5, tmp_path / "a.h5")) == expected


# ------------------------------------------------------------------------------------- names of channels

NAMES = ("DAPI", "Gradient (σ=1.6)", 'the "third"')


@pytest.mark.parametrize("keys", ["czyx", "zyxc", "tcyx", "cyx", "yxc", "zcyx"])
def test_names_of_channels_come_back(storage, tmp_path, keys):
    shape = tuple({"t": 2, "c": 3, "z": 2, "y": 5, "x": 6}[k] for k in keys)
    meta = ArrayMeta(shape, "uint8", keys, channel_names=NAMES)
    path = tmp_path / f"a{storage.suffix}"
    with storage.create(str(path), meta, **storage.options) as writer:
        writer.write(meta.roi, np.zeros(shape, np.uint8))
        writer.commit()
        noted = any("names of channels" in note for note in writer.notes)
    found = storage.read(path)[1].channel_names
    assert (found, noted) == ((NAMES, False) if storage.name != "npy" else ((), True))


def test_names_of_channels_are_added_to_a_store(tmp_path):
    create_zarr(str(tmp_path / "a.zarr"), ArrayMeta((1, 1), "u1")).abort()
    meta = ArrayMeta((3, 5, 6), "uint32", "cyx", channel_names=NAMES, semantics="labels")
    for name in ("first", "second"):
        with create_zarr(str(tmp_path / "a.zarr"), meta, dataset=name) as writer:
            writer.write(meta.roi, np.zeros(meta.shape, meta.dtype))
            writer.commit()
        found = meta_of(open_zarr, tmp_path / "a.zarr", dataset=name)
        assert (found.channel_names, found.semantics) == (NAMES, "labels")


def test_other_programs_find_the_names(tmp_path):
    meta = ArrayMeta((3, 5, 6), "uint8", "cyx", channel_names=NAMES)
    data = np.zeros(meta.shape, np.uint8)
    for create, name in ((create_tiff, "a.tif"), (create_zarr, "a.zarr")):
        with create(str(tmp_path / name), meta) as writer:
            writer.write(meta.roi, data)
            writer.commit()
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        described = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]["Channel"]
        assert [channel["Name"] for channel in described] == list(NAMES)
    ome = zarr.open_group(tmp_path / "a.zarr", mode="r").attrs["ome"]
    assert [channel["label"] for channel in ome["omero"]["channels"]] == list(NAMES)
    assert all(
        {"color", "window"} <= channel.keys() and channel["window"].keys() == {"min", "max", "start", "end"}
        for channel in ome["omero"]["channels"]
    )


def test_names_of_channels_are_read_from_ome_and_imagej(tmp_path):
    data = np.zeros((2, 3, 4, 5), np.uint16)
    tifffile.imwrite(
        tmp_path / "a.ome.tif", data, metadata={"axes": "ZCYX", "Channel": {"Name": list("abc")}}
    )
    assert meta_of(open_tiff, tmp_path / "a.ome.tif").channel_names == ("a", "b", "c")
    labels = {"same": list("abc") * 2, "each its own": [f"{n}" for n in range(6)]}
    for name, expected in (("same", ("a", "b", "c")), ("each its own", ())):
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, data, imagej=True, metadata={"axes": "ZCYX", "Labels": labels[name]})
        assert meta_of(open_tiff, path).channel_names == expected


def test_what_has_no_place_in_a_format_is_noted(tmp_path):
    axes = Axes(["t", Axis("y", None, UM, 0.5, 3.0), Axis("x", None, UM, 0.5)])
    with create_npy(str(tmp_path / "a.npy"), ArrayMeta((3, 4, 5), "u1", axes)) as writer:
        assert writer.notes == (
            "NPY has no place for axes, pixel sizes; write Zarr, HDF5 or TIFF to keep them",
        )
    with create_tiff(str(tmp_path / "a.tif"), ArrayMeta((3, 4, 5), "u1", axes)) as writer:
        assert "where the first pixel lies" in writer.notes[0]
    with create_npy(str(tmp_path / "a.npy"), ArrayMeta((3, 4, 5), "u1", "zyx")) as writer:
        assert writer.notes == ()
