"""Other programs read what we write, and we read what they write."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from lazyflow_ops_io.hdf5_reader import open_hdf5
from lazyflow_ops_io.hdf5_writer import create_hdf5
from lazyflow_ops_io.npy import open_npy
from lazyflow_ops_io.tiff_reader import open_tiff
from lazyflow_ops_io.zarr_reader import open_zarr
from lazyflow_ops_io.zarr_writer import create_zarr

from lazyflow_core.axes import Axes, Axis
from lazyflow_core.meta import ArrayMeta

UM = "micrometer"


def read(opener, path, **options):
    with opener(str(path), **options) as reader:
        out = np.empty(reader.meta.shape, reader.meta.dtype)
        reader.read(reader.meta.roi, out)
        return out, reader.meta


def test_each_library_reads_our_file(variant, tmp_path, volume, axes):
    path = tmp_path / f"a{variant.suffix}"
    variant.write(path, volume, axes)
    if variant.suffix == ".h5":
        with h5py.File(path) as file:
            found = file["data"][:]
    elif variant.suffix == ".zarr":
        root = zarr.open(path, mode="r")
        found = root[:] if isinstance(root, zarr.Array) else root["0"][:]
    elif variant.suffix == ".tif":
        found = tifffile.imread(path)
    else:
        found = np.load(path)
    np.testing.assert_array_equal(found, volume)


# ------------------------------------------------------------------------------------------------- HDF5


def test_hdf5_attributes_are_those_other_programs_know(tmp_path, axes):
    data = np.zeros((3, 4, 5), np.float32)
    writer = create_hdf5(
        str(tmp_path / "a.h5"), ArrayMeta(data.shape, data.dtype, axes), dataset="/volume/data"
    )
    writer.write(writer.meta.roi, data)
    writer.commit()
    with h5py.File(tmp_path / "a.h5") as file:
        dataset = file["volume/data"]
        assert (dataset.compression, dataset.shuffle) == ("gzip", False)
        tags = json.loads(dataset.attrs["axistags"])["axes"]
        assert [(t["key"], t["typeFlags"], t["resolution"]) for t in tags] == [
            ("z", 2, 0.235), ("y", 2, 0.15), ("x", 2, 0.15),
        ]  # fmt: skip
        assert json.loads(dataset.attrs["axis_units"]) == dict.fromkeys("zyx", UM)
        np.testing.assert_array_equal(dataset.attrs["element_size_um"], (0.235, 0.15, 0.15))
        assert [d.label for d in dataset.dims] == ["z", "y", "x"]


LAYOUTS = {
    "contiguous": {},
    "chunked": {"chunks": (4, 8, 16)},
    "gzip": {"chunks": (4, 8, 16), "compression": "gzip"},
    "shuffled": {"chunks": (4, 8, 16), "compression": "gzip", "shuffle": True},
    "checksum": {"chunks": (4, 8, 16), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "checksum only": {"chunks": (4, 8, 16), "fletcher32": True},
    "lzf": {"chunks": (4, 8, 16), "compression": "lzf"},
    "scale-offset": {"chunks": (4, 8, 16), "scaleoffset": 0},
}


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("dtype", ["uint8", ">u2", "float64", "bool"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_hdf5_in_every_layout_is_read(tmp_path, volume, layout, dtype, libver):
    data = (volume % 199).astype(dtype)
    if layout == "scale-offset" and data.dtype.kind != "u":
        data = (volume % 199).astype("int32")
    with h5py.File(tmp_path / "a.h5", "w", libver=libver) as file:
        file.create_dataset("a", data=data, **LAYOUTS[layout])
    found, meta = read(open_hdf5, tmp_path / "a.h5")
    assert meta.dtype.isnative
    np.testing.assert_array_equal(found, data)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_hdf5_is_read_without_h5py_where_all_filters_are_known(tmp_path, volume, layout, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", data=volume, **LAYOUTS[layout])
    asked = []
    original = h5py.Dataset.read_direct
    monkeypatch.setattr(h5py.Dataset, "read_direct", lambda *a, **k: asked.append(1) or original(*a, **k))
    read(open_hdf5, tmp_path / "a.h5")
    assert bool(asked) == (layout in ("lzf", "scale-offset"))


def test_hdf5_with_a_user_block_missing_chunks_and_skipped_filters_is_read(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=1024) as file:
        file.create_dataset("a", data=np.arange(20), chunks=(5,))
    np.testing.assert_array_equal(read(open_hdf5, tmp_path / "a.h5")[0], np.arange(20))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        dataset = file.create_dataset("b", (20,), "u1", chunks=(5,), compression="gzip", fillvalue=9)
        dataset[5:10] = 3
        dataset.id.write_direct_chunk((10,), bytes(range(5)), filter_mask=1)
    expected = np.array([9] * 5 + [3] * 5 + [0, 1, 2, 3, 4] + [9] * 5)
    np.testing.assert_array_equal(read(open_hdf5, tmp_path / "b.h5")[0], expected)


def test_hdf5_axes_come_from_axistags_labels_or_the_shape(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        shape = (2, 3, 4, 5)
        tags = Axes(["t", "c", Axis("y", resolution=0.5), "x"]).to_axistags()
        file.create_dataset("tags", shape, "u1").attrs["axistags"] = tags
        file["tags"].attrs["axis_units"] = json.dumps({"y": "nanometer", "x": ""})
        labels = file.create_dataset("labels", shape, "u1")
        for dimension, key in zip(labels.dims, "ctyx", strict=True):
            dimension.label = key
        file.create_dataset("fixed", shape, "u1").attrs["DIMENSION_LABELS"] = np.array(
            [b"c", b"t", b"y", b"x"]
        )
        file.create_dataset("broken", shape, "u1").attrs["axistags"] = "{"
        file.create_dataset("short", shape, "u1").attrs["axistags"] = Axes("yx").to_axistags()
        file.create_dataset("number", shape, "u1").attrs["axistags"] = 5
        file["number"].attrs["drange"] = (3, 2)
        file["short"].attrs["drange"] = "all"
    keys = {}
    for name in ("tags", "labels", "fixed", "broken", "short", "number"):
        with open_hdf5(str(tmp_path / "a.h5"), dataset=name) as reader:
            keys[name] = reader.meta.axes.keys
            assert reader.meta.value_range is None
            if name == "tags":
                assert reader.meta.axes[2] == Axis("y", None, "nanometer", 0.5)
    assert keys == {"tags": "tcyx", "labels": "ctyx", "fixed": "ctyx", "broken": "zyxc", "short": "zyxc",
                    "number": "zyxc"}  # fmt: skip


# ------------------------------------------------------------------------------------------------- Zarr


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_of_every_codec_is_read(tmp_path, volume, version):
    import numcodecs
    from zarr import codecs

    two = [None, numcodecs.GZip(), numcodecs.Zlib(), numcodecs.Zstd(), numcodecs.Blosc("zstd", shuffle=2),
           numcodecs.LZ4(), numcodecs.BZ2()]  # fmt: skip
    three = [None, codecs.GzipCodec(), codecs.ZstdCodec(checksum=True), codecs.BloscCodec(cname="zstd"),
             [codecs.ZstdCodec(), codecs.Crc32cCodec()]]  # fmt: skip
    for number, codec in enumerate(two if version == 2 else three):
        path = tmp_path / f"{number}.zarr"
        array = zarr.create_array(path, shape=volume.shape, dtype="u2", chunks=(4, 8, 16), compressors=codec,
                                  zarr_format=version)  # fmt: skip
        array[:] = volume
        np.testing.assert_array_equal(read(open_zarr, path)[0], volume)


def test_zarr_with_shards_filters_fortran_order_and_big_endian_is_read(tmp_path, volume):
    import numcodecs
    from zarr import codecs

    common = {"shape": volume.shape, "chunks": (4, 8, 16)}
    arrays = {
        "shards": {"shards": (8, 16, 32), "dtype": "u2"},
        "transposed": {"filters": [codecs.TransposeCodec(order=(2, 0, 1))], "dtype": "u2"},
        "big": {"serializer": codecs.BytesCodec(endian="big"), "dtype": "u2"},
        "dots": {"chunk_key_encoding": {"name": "v2", "separator": "."}, "dtype": "u2"},
        "delta": {"filters": [numcodecs.Delta("u2")], "dtype": "u2", "zarr_format": 2},
        "fortran": {"order": "F", "dtype": "u2", "zarr_format": 2},
        "big 2": {"dtype": ">u2", "zarr_format": 2},
        "slash 2": {"dtype": "u2", "zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}},
    }
    for name, options in arrays.items():
        array = zarr.create_array(tmp_path / name, **common, **options)
        array[:] = volume
        found, _ = read(open_zarr, tmp_path / name)
        np.testing.assert_array_equal(found, volume, err_msg=name)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("dtype", "fill"),
    [("f4", float("nan")), ("f8", float("-inf")), ("i4", -5), ("bool", True), ("c8", 1 - 2j)],
)
def test_zarr_fill_values_are_what_missing_chunks_hold(tmp_path, dtype, fill, version):
    zarr.create_array(
        tmp_path / "a", shape=(4, 5), dtype=dtype, chunks=(2, 2), fill_value=fill, zarr_format=version
    )
    np.testing.assert_array_equal(read(open_zarr, tmp_path / "a")[0], np.full((4, 5), fill, dtype))


def multiscale(path, version, levels, **extra):
    """Write an OME-Zarr image as other programs do."""
    image = {
        "axes": [{"name": "c", "type": "channel"}, {"name": "y", "type": "space", "unit": UM},
                 {"name": "x", "type": "space"}],
        "datasets": [
            {"path": name, "coordinateTransformations": [{"type": "scale", "scale": [1, s, 2 * s]},
                                                         {"type": "translation", "translation": [0, 5, 0]}]}
            for name, s in levels
        ],
        "coordinateTransformations": [{"type": "scale", "scale": [1, 10, 1]}],
    }  # fmt: skip
    content = {"multiscales": [image], **extra}
    group = zarr.create_group(path, zarr_format=version)
    group.attrs.update({"ome": {"version": "0.5", **content}} if version == 3 else content)
    for name, s in levels:
        array = group.create_array(name, shape=(2, int(8 / s), int(9 / s)), chunks=(1, 4, 4), dtype="u2")
        array[:] = int(s * 10)


@pytest.mark.parametrize("version", [2, 3])
def test_ome_zarr_gives_the_finest_level_and_any_other_by_name(tmp_path, version):
    multiscale(
        tmp_path / "a", version, [("s0", 0.5), ("s1", 1.0)],
        omero={"channels": [{"label": "DAPI"}, {"label": "GFP"}]},
    )  # fmt: skip
    found, meta = read(open_zarr, tmp_path / "a")
    assert meta.shape == (2, 16, 18)
    assert meta.axes == Axes(["c", Axis("y", None, UM, 5.0, 50.0), "x"])
    assert meta.channel_names == ("DAPI", "GFP")
    assert meta.semantics == "intensities"
    assert (found == 5).all()
    found, meta = read(open_zarr, tmp_path / "a", dataset="s1")
    assert meta.axes == Axes(["c", Axis("y", None, UM, 10.0, 50.0), Axis("x", resolution=2.0)])
    assert (found == 10).all()


def test_ome_zarr_labels_are_read_as_labels(tmp_path):
    multiscale(tmp_path / "a", 2, [("0", 1.0)])
    multiscale(tmp_path / "a" / "labels" / "nuclei", 2, [("0", 1.0)], **{"image-label": {"version": "0.4"}})
    assert read(open_zarr, tmp_path / "a", dataset="labels/nuclei")[1].semantics == "labels"
    assert read(open_zarr, tmp_path / "a")[1].semantics == "intensities"


def test_zarr_with_several_arrays_lists_them(tmp_path):
    group = zarr.create_group(tmp_path / "a")
    for name in ("one", "two"):
        group.create_array(name, shape=(2, 2), dtype="u1")
    with pytest.raises(Exception, match=r"2 arrays: one, two; give one as dataset"):
        open_zarr(str(tmp_path / "a"))


def test_zarr_axes_come_from_dimension_names(tmp_path):
    zarr.create_array(tmp_path / "a", shape=(2, 3), dtype="u1", dimension_names=["time", "x"])
    assert [a.key for a in read(open_zarr, tmp_path / "a")[1].axes] == ["time", "x"]


@pytest.mark.parametrize("version", [2, 3])
def test_our_zarr_is_ome_zarr(tmp_path, axes, version):
    meta = ArrayMeta((3, 4, 5), "u1", axes)
    writer = create_zarr(str(tmp_path / "a.zarr"), meta, zarr_format=version)
    writer.write(meta.roi, np.zeros(meta.shape, "u1"))
    writer.commit()
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    content = group.attrs["ome"] if version == 3 else group.attrs["multiscales"][0]
    assert content["version"] == ("0.5" if version == 3 else "0.4")
    image = content["multiscales"][0] if version == 3 else content
    assert image["axes"] == [{"name": k, "type": "space", "unit": UM} for k in "zyx"]
    assert image["datasets"] == [
        {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [0.235, 0.15, 0.15]},
                                                    {"type": "translation", "translation": [4.0, 0.0, -1.5]}]}
    ]  # fmt: skip
    if version == 3:
        assert group["0"].metadata.dimension_names == ("z", "y", "x")


# ------------------------------------------------------------------------------------------------- TIFF


TIFF_LAYOUTS = {
    "plain": {},
    "strips": {"rowsperstrip": 5, "byteorder": ">"},
    "deflate": {"compression": "deflate"},
    "tiles": {"tile": (16, 32)},
    "deflated tiles": {"tile": (16, 32), "compression": "deflate"},
    "volumetric": {"tile": (4, 16, 16), "volumetric": True},
    "ome": {"ome": True, "compression": "deflate"},
    "imagej": {"imagej": True},
    "bigtiff": {"bigtiff": True, "compression": "deflate"},
}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("layout", TIFF_LAYOUTS)
def test_tiff_in_every_layout_is_read(tmp_path, volume, layout, dtype):
    data = (volume % 199).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", data, metadata={"axes": "ZYX"}, **TIFF_LAYOUTS[layout])
    found, meta = read(open_tiff, tmp_path / "a.tif")
    np.testing.assert_array_equal(found, data)
    assert meta.axes.keys == "zyx"


@pytest.mark.parametrize(
    "layout",
    [{"photometric": "minisblack"}, {"tile": (16, 16), "photometric": "minisblack"}, {"photometric": "rgb"}],
)
@pytest.mark.parametrize("dtype", ["uint8", ">u2", "int32"])
def test_tiff_with_a_predictor_is_read(tmp_path, layout, dtype):
    shape = (40, 50, 3) if layout["photometric"] == "rgb" else (5, 40, 50)
    data = np.random.default_rng(2).integers(0, 99, shape).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", data, compression="deflate", predictor=True, **layout)
    np.testing.assert_array_equal(read(open_tiff, tmp_path / "a.tif")[0], data)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_tiff_colours_are_channels(tmp_path, planar):
    shape = (40, 50, 3) if planar == "contig" else (3, 40, 50)
    data = np.arange(6000, dtype=np.uint16).reshape(shape)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb", planarconfig=planar, tile=(16, 16))
    found, meta = read(open_tiff, tmp_path / "a.tif")
    np.testing.assert_array_equal(found, data)
    assert meta.axes.keys == ("yxc" if planar == "contig" else "cyx")


def test_imagej_pixel_sizes_are_read(tmp_path, volume):
    tifffile.imwrite(tmp_path / "a.tif", volume, imagej=True, resolution=(4, 2),
                     metadata={"axes": "ZYX", "spacing": 0.75, "unit": "um"})  # fmt: skip
    _, meta = read(open_tiff, tmp_path / "a.tif")
    assert meta.axes == Axes([Axis("z", None, UM, 0.75), Axis("y", None, UM, 0.5), Axis("x", None, UM, 0.25)])


def test_tiff_with_several_series_asks_which(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(np.zeros((4, 5), np.uint8))
        tif.write(np.ones((6, 7, 8), np.uint16))
    with pytest.raises(Exception, match=r"2 series: 0 .4 x 5., 1 .6 x 7 x 8.; give its number"):
        open_tiff(str(tmp_path / "a.tif"))
    assert read(open_tiff, tmp_path / "a.tif", dataset="1")[1].shape == (6, 7, 8)
    with pytest.raises(Exception, match="no series '2'"):
        open_tiff(str(tmp_path / "a.tif"), dataset="2")


# -------------------------------------------------------------------------------------------------- NPY


def test_arrays_of_more_dimensions_than_usual_are_read(tmp_path):
    data = np.arange(64).reshape((2,) * 6)
    np.save(tmp_path / "a.npy", data)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = data
    zarr.create_array(tmp_path / "a.zarr", data=data)
    for opener, name in ((open_npy, "a.npy"), (open_hdf5, "a.h5"), (open_zarr, "a.zarr")):
        found, meta = read(opener, tmp_path / name)
        np.testing.assert_array_equal(found, data)
        assert [a.key for a in meta.axes] == [f"axis_{i}" for i in range(6)]


def test_npy_in_fortran_order_is_read(tmp_path, volume):
    np.save(tmp_path / "a.npy", np.asfortranarray(volume))
    np.testing.assert_array_equal(read(open_npy, tmp_path / "a.npy")[0], volume)
