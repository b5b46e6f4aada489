"""Damaged and hostile files end in one sentence that names the file, never in anything else."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numcodecs
import numpy as np
import pytest
import tifffile
import zarr
from lazyflow_ops_io.hdf5_reader import open_hdf5
from lazyflow_ops_io.npy import open_npy
from lazyflow_ops_io.tiff_reader import open_tiff
from lazyflow_ops_io.zarr_reader import open_zarr

from lazyflow_core.errors import FormatError, StorageError
from lazyflow_core.roi import Roi

SECRET = b"the contents of another file"


def check_refused(opener, path, **options):
    """Open and read; return the sentence of the FormatError that must come."""
    with pytest.raises(FormatError) as caught, opener(str(path), **options) as reader:
        out = np.empty(reader.meta.shape, reader.meta.dtype)
        reader.read(reader.meta.roi, out)
    text = str(caught.value)
    assert Path(path).name in text
    assert "\n" not in text
    assert text.endswith(".")
    return text


# ------------------------------------------------------------------------------------------ all formats


@pytest.mark.parametrize("percent", range(0, 100, 5))
def test_a_truncated_file_is_refused(storage, tmp_path, volume, percent):
    path = tmp_path / f"a{storage.suffix}"
    storage.write(path, volume, "zyx")
    victims = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for victim in victims:
        whole = victim.read_bytes()
        victim.write_bytes(whole[: len(whole) * percent // 100])
        check_refused(storage.open, path)
        victim.write_bytes(whole)


@pytest.mark.parametrize("contents", [b"", b"\0" * 5000, b"no image at all\n" * 300, bytes(range(256)) * 20])
def test_garbage_is_refused(storage, tmp_path, contents):
    path = tmp_path / f"a{storage.suffix}"
    if storage.suffix == ".zarr":
        path.mkdir()
        (path / "zarr.json").write_bytes(contents)
    else:
        path.write_bytes(contents)
    check_refused(storage.open, path)


def test_a_file_of_another_kind_is_refused(storage, tmp_path):
    path = tmp_path / f"a{storage.suffix}"
    path.write_text("hello") if storage.suffix == ".zarr" else path.mkdir()
    with pytest.raises((FormatError, StorageError), match="a" + storage.suffix):
        storage.open(str(path))


def test_a_missing_file_is_a_storage_error(storage, tmp_path):
    with pytest.raises(StorageError, match=r"[Nn]o such"):
        storage.open(str(tmp_path / f"a{storage.suffix}"))


def test_an_unknown_dataset_is_refused(storage, tmp_path, volume):
    path = tmp_path / f"a{storage.suffix}"
    storage.write(path, volume, "zyx")
    assert "nix" in check_refused(storage.open, path, dataset="nix")


def write_hdf5(path, data, *, libver="earliest", **options):
    with h5py.File(path, "w", libver=libver) as file:
        file.create_dataset("a", data=data, **options)


def write_zarr(path, data, **options):
    array = zarr.create_array(path, shape=data.shape, dtype=data.dtype, chunks=(5, 8, 16), **options)
    array[:] = data


def write_zarr_2(path, data):
    write_zarr(
        path, data, zarr_format=2, filters=[numcodecs.Delta("<u2"), numcodecs.Shuffle(2)],
        compressors=numcodecs.LZ4(),
    )  # fmt: skip


MUTANTS = {
    "hdf5-gzip": lambda p, v: write_hdf5(p, v, chunks=(5, 8, 16), compression="gzip", shuffle=True),
    "hdf5-latest": lambda p, v: write_hdf5(p, v, chunks=(5, 8, 16), compression="gzip", libver="latest"),
    "hdf5-contiguous": lambda p, v: write_hdf5(p, v),
    "hdf5-scaleoffset": lambda p, v: write_hdf5(p, v, chunks=(5, 8, 16), scaleoffset=0, compression="gzip"),
    "hdf5-lzf": lambda p, v: write_hdf5(p, v, chunks=(5, 8, 16), compression="lzf", fletcher32=True),
    "zarr-3": lambda p, v: write_zarr(p, v, zarr_format=3),
    "zarr-shards": lambda p, v: write_zarr(p, v, shards=(10, 16, 32)),
    "zarr-2": lambda p, v: write_zarr(p, v, zarr_format=2),
    "zarr-filters": write_zarr_2,
    "tiff-plain": lambda p, v: tifffile.imwrite(p, v),
    "tiff-ome": lambda p, v: tifffile.imwrite(p, v, ome=True, compression="deflate"),
    "tiff-tiled": lambda p, v: tifffile.imwrite(p, v, tile=(16, 16), compression="deflate", predictor=True),
    "tiff-imagej": lambda p, v: tifffile.imwrite(p, v, imagej=True, compression="deflate", rowsperstrip=5),
    "npy": lambda p, v: np.save(p, v),
}
SUFFIXES = {"hdf5": ".h5", "zarr": ".zarr", "tiff": ".tif", "npy": ".npy"}

#: Most that a process grows by, whatever it reads, in MiB.
MEMORY_MIB = 300


def run_mutants(tmp_path, volume, layout, per_format):
    name = layout.partition("-")[0]
    count = -(-per_format // sum(other.partition("-")[0] == name for other in MUTANTS))
    path = tmp_path / f"seed{SUFFIXES[name]}"
    MUTANTS[layout](path, volume)
    script = Path(__file__).with_name("mutants.py")
    done = subprocess.run(
        [sys.executable, script, name, path, "0", str(count)],
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["wrong"] == []
    assert result["grown_mib"] <= MEMORY_MIB
    assert result["outcomes"].get("FormatError", 0) > count // 20  # the damage is felt


@pytest.mark.parametrize("layout", MUTANTS)
def test_mutants_give_data_or_a_sentence(tmp_path, volume, layout):
    """Two thousand for each format, each in a process of its own, since they may crash a library."""
    run_mutants(tmp_path, volume, layout, 2000)


@pytest.mark.stress
@pytest.mark.timeout(900)
@pytest.mark.parametrize("layout", MUTANTS)
def test_twenty_thousand_mutants_of_each_format_give_data_or_a_sentence(tmp_path, volume, layout):
    run_mutants(tmp_path, volume, layout, 20_000)


# ------------------------------------------------------------------------------------------------- HDF5


@pytest.fixture
def secret(tmp_path):
    """A file that must not be read through another one."""
    path = tmp_path / "secret.txt"
    path.write_bytes(SECRET)
    return path


def test_hdf5_external_links_are_refused_wherever_they_stand(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["group/data"] = np.arange(5)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["own"] = np.arange(3)
        file["direct"] = h5py.ExternalLink("other.h5", "/group/data")
        file["folder"] = h5py.ExternalLink("other.h5", "/group")
        file["soft"] = h5py.SoftLink("/folder/data")
        file["good"] = h5py.SoftLink("/own")
    for name in ("direct", "folder/data", "soft", "/soft"):
        assert "link to another file" in check_refused(open_hdf5, tmp_path / "a.h5", dataset=name)
    with open_hdf5(str(tmp_path / "a.h5"), dataset="good") as reader:
        assert reader.meta.shape == (3,)
    with open_hdf5(str(tmp_path / "a.h5")) as reader:  # the only dataset of its own
        assert reader.meta.extra["io.dataset"] == "/own"


def test_hdf5_external_storage_is_refused(tmp_path, secret):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", (len(SECRET),), "u1", external=[(str(secret), 0, len(SECRET))])
    assert "in other files" in check_refused(open_hdf5, tmp_path / "a.h5", dataset="a")


def test_hdf5_virtual_datasets_are_refused(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["data"] = np.arange(5)
    layout = h5py.VirtualLayout((5,), "i8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "data", (5,))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("a", layout)
    assert "in other files" in check_refused(open_hdf5, tmp_path / "a.h5", dataset="a")


def test_hdf5_links_in_a_circle_end(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["one"] = h5py.SoftLink("/two")
        file["two"] = h5py.SoftLink("/one")
        file.create_group("group")["again"] = file["/"]
        file["group/data"] = np.zeros(3)
        file["group/deep"] = h5py.SoftLink("deep/deep")
    assert "soft links" in check_refused(open_hdf5, tmp_path / "a.h5", dataset="one")
    assert "soft links" in check_refused(open_hdf5, tmp_path / "a.h5", dataset="group/deep/x")
    with open_hdf5(str(tmp_path / "a.h5")) as reader:
        assert reader.meta.shape == (3,)


def test_hdf5_values_that_are_no_numbers_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["text"] = ["a", "b"]
        file["table"] = np.zeros(3, [("a", int), ("b", float)])
        file["nothing"] = h5py.Empty("f4")
        file["scalar"] = 5
    for name in ("text", "table"):
        assert "only numbers" in check_refused(open_hdf5, tmp_path / "a.h5", dataset=name)
    assert "without a shape" in check_refused(open_hdf5, tmp_path / "a.h5", dataset="nothing")
    assert "0 axes" in check_refused(open_hdf5, tmp_path / "a.h5", dataset="scalar")


def test_a_huge_hdf5_shape_alone_is_fine(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", (2**40, 2**20), "u1", chunks=(64, 64), fillvalue=7)
    with open_hdf5(str(tmp_path / "a.h5")) as reader:
        out = np.empty((2, 3), np.uint8)
        reader.read(Roi((2**39, 2**19), (2**39 + 2, 2**19 + 3)), out)
        assert (out == 7).all()


def test_an_hdf5_chunk_is_not_unpacked_beyond_its_size(tmp_path):
    bomb = zlib.compress(bytes(50_000_000))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("a", (8, 8), "u1", chunks=(8, 8), compression="gzip")
        dataset.id.write_direct_chunk((0, 0), bomb)
    assert "more than" in check_refused(open_hdf5, tmp_path / "a.h5")


def test_an_hdf5_file_that_is_being_written_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.arange(10)
        file.flush()
        with pytest.raises(StorageError, match=r"a\.h5.*being written"):
            open_hdf5(str(tmp_path / "a.h5"))


def test_a_global_heap_without_an_end_is_refused(tmp_path):
    # HDF5 would walk it for ever, deaf to Ctrl-C, and block every other HDF5 file of the process.
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.arange(10)
        file["a"].attrs["axistags"] = "a string of variable length"
    data = bytearray((tmp_path / "a.h5").read_bytes())
    heap = data.index(b"GCOL")
    struct.pack_into("<HHIQ", data, heap + 16, 0, 0, 0, 0)
    (tmp_path / "a.h5").write_bytes(data)
    check_refused(open_hdf5, tmp_path / "a.h5")


# ------------------------------------------------------------------------------------------------- Zarr


def zarr_2(path: Path, **changes):
    """Write a Zarr 2 array of one chunk with a changed document."""
    document = {
        "zarr_format": 2, "shape": [4, 4], "chunks": [4, 4], "dtype": "|u1", "compressor": None,
        "fill_value": 0, "order": "C", "filters": None,
    }  # fmt: skip
    path.mkdir(exist_ok=True)
    (path / ".zarray").write_text(json.dumps(document | changes))
    (path / "0.0").write_bytes(bytes(range(16)))
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [-4, 4]},
        {"shape": "many"},
        {"shape": [4.0, 4]},
        {"shape": [True, 4]},
        {"shape": []},
        {"shape": [1] * 33, "chunks": [1] * 33},
        {"chunks": [0, 4]},
        {"chunks": [4]},
        {"chunks": [2**40, 4]},
        {"dtype": "|O"},
        {"dtype": [["a", "<i4"]]},
        {"dtype": "<M8[ns]"},
        {"dtype": 7},
        {"fill_value": {"a": 1}},
        {"fill_value": 10**400},
        {"order": "Q"},
        {"dimension_separator": "/../"},
        {"zarr_format": 9},
        {"compressor": {"id": "nix"}},
        {"compressor": "gzip"},
    ],
)
def test_zarr_metadata_that_cannot_be_is_refused(tmp_path, changes):
    check_refused(open_zarr, zarr_2(tmp_path / "a.zarr", **changes))


def test_a_huge_zarr_shape_alone_is_fine(tmp_path):
    path = zarr_2(tmp_path / "a.zarr", shape=[2**60, 2**60], fill_value=9)
    with open_zarr(str(path)) as reader:
        out = np.empty((2, 2), np.uint8)
        reader.read(Roi((2**59, 5), (2**59 + 2, 7)), out)
        assert (out == 9).all()


@pytest.mark.parametrize("compressor", ["gzip", "zlib", "zstd", "blosc"])
def test_a_zarr_chunk_is_not_unpacked_beyond_its_size(tmp_path, compressor):
    import numcodecs

    bomb = {
        "gzip": gzip.compress,
        "zlib": zlib.compress,
        "zstd": numcodecs.Zstd().encode,
        "blosc": numcodecs.Blosc("zstd").encode,
    }[compressor](bytes(50_000_000))
    path = zarr_2(tmp_path / "a.zarr", compressor={"id": compressor})
    (path / "0.0").write_bytes(bomb)
    assert "damaged" in check_refused(open_zarr, path)


@pytest.mark.parametrize(
    "key", ["../b.zarr", "/../b.zarr", "a/../../b.zarr", "..", "a//b", "a\0b", "..\\b.zarr"]
)
def test_zarr_keys_never_lead_out_of_the_store(tmp_path, key):
    zarr_2(tmp_path / "b.zarr")
    path = zarr_2(tmp_path / "a.zarr")
    assert "no path inside" in check_refused(open_zarr, path, dataset=key)
    (path / ".zarray").unlink()
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zattrs").write_text(
        json.dumps({"multiscales": [{"axes": ["y", "x"], "datasets": [{"path": key}]}]})
    )
    assert "no path inside" in check_refused(open_zarr, path)


def test_zarr_symbolic_links_never_lead_out_of_the_store(tmp_path):
    other = zarr_2(tmp_path / "b.zarr")
    path = zarr_2(tmp_path / "a.zarr")
    (path / "0.0").unlink()
    (path / "0.0").symlink_to(other / "0.0")
    assert "leads out" in check_refused(open_zarr, path)
    (path / "inner").symlink_to(other, target_is_directory=True)
    assert "leads out" in check_refused(open_zarr, path, dataset="inner")
    (path / "0.0").unlink()
    (path / "real").write_bytes(bytes(16))
    (path / "0.0").symlink_to("real")
    with open_zarr(str(path)) as reader:
        reader.read(reader.meta.roi, np.empty((4, 4), np.uint8))


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xff\xfe",
        b"[]",
        b"null",
        b"",
        b'{"zarr_format": 1e400}',
        b"{" + b" " * 2**24,
    ],
    ids=["deep list", "deep object", "bad UTF-8", "a list", "null", "empty", "infinite", "huge"],
)
def test_zarr_documents_that_are_none_are_refused(tmp_path, text):
    for name in ("zarr.json", ".zarray", ".zgroup"):
        path = tmp_path / "a.zarr"
        path.mkdir()
        (path / name).write_bytes(text)
        check_refused(open_zarr, path)
        shutil.rmtree(path)


def test_odd_ome_metadata_is_ignored_rather_than_believed(tmp_path):
    zarr_2(tmp_path / "a.zarr" if (tmp_path / "a.zarr").mkdir() else tmp_path / "a.zarr" / "0")
    path = tmp_path / "a.zarr"
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": ["a", None]}]}
    for axes in (
        ["y", "x"],
        [{"name": "y"}, {"name": "y"}],
        [{}, {}],
        5,
        [5, 6],
        ["y"],
        [{"name": "y", "type": 5}] * 2,
    ):
        (path / ".zattrs").write_text(json.dumps({"multiscales": [{"axes": axes, "datasets": [level]}]}))
        with open_zarr(str(path)) as reader:
            assert reader.meta.axes.keys == "yx"


# ------------------------------------------------------------------------------------------- TIFF and NPY


def test_tiles_without_extent_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((50, 60), np.uint8), tile=(16, 16))
    for tag in ("TileLength", "TileWidth"):
        shutil.copy(tmp_path / "a.tif", tmp_path / "b.tif")
        with tifffile.TiffFile(tmp_path / "b.tif", mode="r+") as tif:
            tif.pages[0].tags[tag].overwrite(0)
        check_refused(open_tiff, tmp_path / "b.tif")


def test_tiff_directories_in_a_loop_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 5, 6), np.uint8))
    data = bytearray((tmp_path / "a.tif").read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * entries, first)
    (tmp_path / "a.tif").write_bytes(data)
    assert "loop" in check_refused(open_tiff, tmp_path / "a.tif")


def test_a_tiff_that_declares_more_than_it_has_is_refused(tmp_path):
    for options in ({}, {"compression": "deflate"}, {"tile": (16, 16)}):
        with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
            tif.write(np.zeros((50, 60), np.uint8), **options)
        with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
            for name in ("ImageWidth", "ImageLength"):
                tif.pages[0].tags[name].overwrite(2_000_000_000, dtype="I")
        check_refused(open_tiff, tmp_path / "a.tif")


def test_a_tiff_tile_is_not_unpacked_beyond_its_size(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (128, 128), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", noise, compression="deflate", rowsperstrip=128)
    bomb = zlib.compress(bytes(50_000_000))
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
        page = tif.pages[0]
        offset = (tmp_path / "a.tif").stat().st_size
        page.tags["StripOffsets"].overwrite(offset)
        page.tags["StripByteCounts"].overwrite(len(bomb))
    with open(tmp_path / "a.tif", "ab") as file:
        file.write(bomb)
    assert "more than" in check_refused(open_tiff, tmp_path / "a.tif")


def test_ome_metadata_with_more_planes_than_pages_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 5, 6), np.uint8), ome=True, metadata={"axes": "ZYX"})
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data.replace(b'SizeZ="2"', b'SizeZ="9"'))
    assert "9 planes" in check_refused(open_tiff, tmp_path / "a.tif")


def test_ome_tiff_in_several_files_is_refused(tmp_path):
    for name in ("a", "b"):
        tifffile.imwrite(
            tmp_path / f"{name}.tif", np.zeros((5, 6), np.uint8), ome=True, metadata={"axes": "YX"}
        )
    with tifffile.TiffFile(tmp_path / "b.tif") as tif:
        uuid = tif.ome_metadata.partition('UUID="')[2].partition('"')[0]
    data = np.zeros((1, 5, 6), np.uint8)
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        'UUID="urn:uuid:1"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" '
        'SizeX="6" SizeY="5" SizeZ="1" SizeC="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
        '<TiffData IFD="0" PlaneCount="1">'
        f'<UUID FileName="b.tif">{uuid}</UUID></TiffData></Pixels></Image></OME>'
    )
    tifffile.imwrite(tmp_path / "a.tif", data, description=xml, metadata=None)
    assert "another file" in check_refused(open_tiff, tmp_path / "a.tif")


def test_npy_objects_are_never_unpickled(tmp_path):
    class Canary:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "canary"),)

    np.save(tmp_path / "a.npy", np.array([Canary()], dtype=object), allow_pickle=True)
    check_refused(open_npy, tmp_path / "a.npy")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<u2', 'fortran_order': False, 'shape': (1152921504606846976,), }",
        "{'descr': '<u2', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': [('a', '<u2')], 'fortran_order': False, 'shape': (2,), }",
        "__import__('os').system('true')",
        "(" * 5000,
    ],
)
def test_npy_headers_that_cannot_be_are_refused(tmp_path, header):
    text = header.encode() + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(4))
    check_refused(open_npy, tmp_path / "a.npy")
