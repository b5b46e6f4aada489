"""Chunks of Zarr are unpacked as zarr-python unpacks them, by codecs on a list and within bounds."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import struct
from pathlib import Path

import google_crc32c
import numcodecs
import numpy as np
import pytest
import zarr
from lazyflow_ops_io._decode import DECODERS
from lazyflow_ops_io.zarr_reader import open_zarr
from zarr import codecs

from lazyflow_core.errors import FormatError, StorageError
from lazyflow_core.roi import Roi

BOMB = gzip.compress(bytes(50_000_000))


def read(path, roi=None):
    with open_zarr(str(path)) as reader:
        roi = roi or reader.meta.roi
        out = np.empty(roi.shape, reader.meta.dtype)
        reader.read(roi, out)
        return out


def refusal(path):
    with pytest.raises(FormatError) as caught:
        read(path)
    assert Path(path).name in str(caught.value)
    return str(caught.value)


def edit(path: Path, name: str = "zarr.json", **changes):
    """Change fields of a document."""
    document = json.loads((path / name).read_text())
    (path / name).write_text(json.dumps(document | changes))


FILTERS = {
    "delta": ([numcodecs.Delta("<u2")], None),
    "delta as bytes": ([numcodecs.Delta("<u2", astype="<i4")], numcodecs.Zstd()),
    "shuffle": ([numcodecs.Shuffle(2)], numcodecs.LZ4()),
    "checksums": ([numcodecs.CRC32(), numcodecs.Adler32(), numcodecs.Fletcher32()], numcodecs.BZ2()),
    "checksum at the end": ([numcodecs.CRC32(location="end")], None),
    "lzma": ([], numcodecs.LZMA()),
    "two": ([numcodecs.Delta("<u2"), numcodecs.Shuffle(2)], numcodecs.Blosc("lz4")),
    "scaled": ([numcodecs.FixedScaleOffset(10, 0.5, "<u2", "<i4")], numcodecs.Zlib()),
    "as type": ([numcodecs.AsType("<i8", "<u2")], numcodecs.GZip()),
}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("name", FILTERS)
def test_zarr_2_filters_are_undone_as_zarr_python_does(tmp_path, volume, name, order):
    filters, compressor = FILTERS[name]
    array = zarr.create_array(tmp_path / "a", shape=volume.shape, chunks=(4, 8, 16), dtype="<u2", order=order,
                              filters=filters, compressors=compressor, zarr_format=2)  # fmt: skip
    array[:] = volume
    np.testing.assert_array_equal(read(tmp_path / "a"), zarr.open_array(tmp_path / "a", mode="r")[:])


def test_zarr_2_filters_of_floats_and_bits_are_undone(tmp_path):
    data = np.random.default_rng(0).normal(size=(20, 30)).astype("<f4")
    for number, filters in enumerate(([numcodecs.Quantize(2, "<f4", "<f2")], [numcodecs.BitRound(5)])):
        zarr.create_array(tmp_path / f"{number}", data=data, chunks=(7, 8), filters=filters, zarr_format=2)
        expected = zarr.open_array(tmp_path / f"{number}", mode="r")[:]
        np.testing.assert_array_equal(read(tmp_path / f"{number}"), expected)
    zarr.create_array(
        tmp_path / "bits", data=data > 0, chunks=(7, 9), filters=[numcodecs.PackBits()], zarr_format=2
    )
    np.testing.assert_array_equal(read(tmp_path / "bits"), data > 0)


SHARDED = {
    "plain": {"shards": (8, 16, 32)},
    "gzip": {"shards": (8, 16, 32), "compressors": codecs.GzipCodec()},
    "blosc": {"shards": (4, 24, 16), "compressors": codecs.BloscCodec()},
    "not packed": {"shards": (8, 16, 32), "compressors": None},
    "list first": {
        "shards": {"shape": (8, 16, 32), "index_location": "start"}, "compressors": codecs.ZstdCodec(),
    },
    "shards in shards": {
        "serializer": codecs.ShardingCodec(
            chunk_shape=(4, 8, 16), codecs=[codecs.ShardingCodec(chunk_shape=(2, 8, 8))]
        ),
        "chunks": (8, 16, 32), "compressors": None,
    },
    "packed shards": {
        "serializer": codecs.ShardingCodec(chunk_shape=(4, 8, 16)), "chunks": (8, 16, 32),
        "compressors": [codecs.GzipCodec(), codecs.ZstdCodec()],
    },
    "transposed": {"filters": [codecs.TransposeCodec(order=(2, 0, 1))]},
    "transposed, big-endian": {
        "filters": [codecs.TransposeCodec(order=(1, 2, 0))], "serializer": codecs.BytesCodec(endian="big"),
        "compressors": [codecs.GzipCodec(), codecs.Crc32cCodec()],
    },
    "transposed shards": {
        "filters": [codecs.TransposeCodec(order=(1, 2, 0))],
        "serializer": codecs.ShardingCodec(chunk_shape=(8, 16, 4)), "chunks": (8, 16, 32),
        "compressors": None,
    },
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Combining a `sharding_indexed` codec")
@pytest.mark.parametrize("name", SHARDED)
def test_zarr_3_codecs_are_undone_as_zarr_python_does(tmp_path, volume, name):
    options = {"chunks": (4, 8, 16), **SHARDED[name]}
    if "serializer" in options:  # zarr 3.0 writes nested shards only if every chunk is there
        volume = np.arange(16 * 32 * 64, dtype=np.uint16).reshape(16, 32, 64)
    array = zarr.create_array(tmp_path / "a", shape=volume.shape, dtype="u2", fill_value=7, **options)
    written = slice(None) if "serializer" in options else slice(6)  # else some chunks are not there
    array[written] = volume[written]
    expected = array[:]
    np.testing.assert_array_equal(read(tmp_path / "a"), expected)
    roi = Roi((3, 5, 9), (9, 20, 33))
    np.testing.assert_array_equal(read(tmp_path / "a", roi), expected[roi.slicing])


def test_only_the_chunks_of_a_shard_that_are_asked_for_are_unpacked(tmp_path, volume, monkeypatch):
    from lazyflow_ops_io._zarr_codecs import Chain

    array = zarr.create_array(
        tmp_path / "a", shape=(8, 16, 32), dtype="u2", chunks=(4, 8, 16), shards=(8, 16, 32)
    )
    array[:] = volume[:8, :16, :32]
    unpacked = []
    original = Chain.decode
    monkeypatch.setattr(
        Chain, "decode", lambda self, data: unpacked.append(self.shape) or original(self, data)
    )
    with open_zarr(str(tmp_path / "a")) as reader:
        assert reader.meta.preferred_block == (4, 8, 16)
        for _ in range(2):
            reader.read(Roi((0, 0, 0), (2, 2, 17)), np.empty((2, 2, 17), "u2"))
    assert unpacked == [(16,), *[(4, 8, 16)] * 4]  # the list of places once, then two chunks each time


def test_a_codec_in_a_file_never_chooses_code(tmp_path):
    class Canary:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "canary"),)

    base = {
        "zarr_format": 2,
        "shape": [4, 4],
        "chunks": [4, 4],
        "dtype": "|u1",
        "fill_value": 0,
        "order": "C",
    }
    for number, id_ in enumerate(
        ["pickle", "json2", "vlen-bytes", "categorize", "msgpack2", 5, None, ["zlib"]]
    ):
        for where in ("compressor", "filters"):
            path = tmp_path / f"{number}{where}.zarr"
            path.mkdir()
            codec = {"id": id_}
            document = base | {"compressor": codec if where == "compressor" else None,
                               "filters": [codec] if where == "filters" else None}  # fmt: skip
            (path / ".zarray").write_text(json.dumps(document))
            (path / "0.0").write_bytes(pickle.dumps(Canary()))
            assert "is packed with the codec" in refusal(path)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "changed",
    [
        [{"name": "bytes"}, {"name": "numcodecs.pickle"}],
        [{"name": "vlen-utf8"}],
        [{"name": "zstd"}],
        [{"name": "bytes"}] * 2,
        [{"name": "bytes", "configuration": {"endian": "middle"}}],
        [{"name": "transpose", "configuration": {"order": [0, 0]}}, {"name": "bytes"}],
        [{"name": "sharding_indexed", "configuration": {"chunk_shape": [3, 4], "codecs": ["bytes"]}}],
        [{"name": "sharding_indexed", "configuration": {"chunk_shape": [4, 4], "codecs": ["bytes"],
                                                        "index_codecs": ["bytes", "gzip"]}}],
        [{"name": "numcodecs.delta", "configuration": {"dtype": "O"}}, "bytes"],
        [{"name": "bytes"}] + [{"name": "crc32c"}] * 20,
        [{}],
        ["bytes", 5],
        "bytes",
        [],
    ],
)  # fmt: skip
def test_zarr_3_codecs_that_cannot_be_are_refused_when_opening(tmp_path, changed):
    zarr.create_array(tmp_path / "a.zarr", shape=(8, 8), chunks=(4, 4), dtype="u1")
    edit(tmp_path / "a.zarr", codecs=changed)
    with pytest.raises(FormatError, match=r"a\.zarr"):
        open_zarr(str(tmp_path / "a.zarr"))


def test_unknown_extensions_are_refused_unless_they_need_not_be_understood(tmp_path):
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=np.ones((4, 4), "u1"))
    edit(path, harmless={"must_understand": False}, storage_transformers=[])
    assert (read(path) == 1).all()
    edit(path, strange={"name": "x"})
    assert "has to be understood" in refusal(path)
    zarr.create_array(path, data=np.ones((4, 4), "u1"), overwrite=True)
    edit(path, storage_transformers=[{"name": "chunk-manifest-json"}])
    assert "chunk-manifest-json" in refusal(path)


@pytest.mark.parametrize("text", ["0", "3", "255"])
def test_a_fill_value_written_as_text_is_a_number(tmp_path, text):
    zarr.create_array(tmp_path / "a", shape=(4,), chunks=(2,), dtype="u1", zarr_format=2)
    edit(tmp_path / "a", ".zarray", fill_value=text)
    assert (read(tmp_path / "a") == int(text)).all()


@pytest.mark.parametrize("value", ["a", "256", -1, 300, 1e400, float("nan"), {}, [1, 2]])
def test_a_fill_value_that_its_type_does_not_have_is_refused(tmp_path, value):
    zarr.create_array(tmp_path / "a.zarr", shape=(4,), chunks=(2,), dtype="u1", zarr_format=2)
    edit(tmp_path / "a.zarr", ".zarray", fill_value=value)
    assert "fill_value" in refusal(tmp_path / "a.zarr")


# ------------------------------------------------------------------------------------------------- hostile


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("off", [-1, 1, 1000])
def test_every_codec_refuses_a_chunk_of_another_size(name, off):
    pack = {
        "zlib": numcodecs.Zlib(), "gzip": numcodecs.GZip(), "zstd": numcodecs.Zstd(),
        "blosc": numcodecs.Blosc(), "lz4": numcodecs.LZ4(), "bz2": numcodecs.BZ2(), "lzma": numcodecs.LZMA(),
    }[name]  # fmt: skip
    packed = pack.encode(bytes(range(200)) * 10)
    assert bytes(DECODERS[name](packed, 2000, False)) == bytes(range(200)) * 10
    with pytest.raises(ValueError, match="expected"):
        DECODERS[name](packed, 2000 + off, False)
    for cut in (0, 1, 4, 15, len(packed) // 2):
        with pytest.raises(Exception):  # noqa: B017
            DECODERS[name](packed[:cut], 2000, False)


@pytest.mark.parametrize("name", ["gzip", "bz2", "lzma"])
def test_streams_in_a_row_are_one_chunk(name):
    pack = {"gzip": gzip.compress, "bz2": numcodecs.BZ2().encode, "lzma": numcodecs.LZMA().encode}[name]
    packed = b"".join(pack(bytes([i]) * 100) for i in range(250))
    assert bytes(DECODERS[name](packed, 25_000, False)) == b"".join(bytes([i]) * 100 for i in range(250))
    with pytest.raises(ValueError, match="more than"):
        DECODERS[name](packed, 24_999, False)


def test_a_zstandard_frame_that_does_not_say_its_size_is_unpacked():
    raw = bytes(range(100))  # one raw block, as streaming programs write: no content size in the head
    frame = b"\x28\xb5\x2f\xfd\x00\x58" + (len(raw) << 3 | 1).to_bytes(3, "little") + raw
    assert bytes(DECODERS["zstd"](frame, 100)) == raw
    for size in (99, 101):
        with pytest.raises(RuntimeError):
            DECODERS["zstd"](frame, size)


def test_a_chunk_in_a_shard_is_not_unpacked_beyond_its_size(tmp_path):
    path = tmp_path / "a.zarr"
    array = zarr.create_array(path, shape=(8, 8), dtype="u1", chunks=(2, 2), shards=(8, 8),
                              compressors=codecs.GzipCodec())  # fmt: skip
    array[...] = 1
    index = struct.pack("<32Q", *[0, len(BOMB)] * 16)
    checksum = struct.pack("<I", google_crc32c.value(index))
    (path / "c/0/0").write_bytes(BOMB + index + checksum)
    assert "more than" in refusal(path)
    (path / "c/0/0").write_bytes(BOMB + index + b"\0\0\0\0")
    assert "checksum" in refusal(path)
    index = struct.pack("<32Q", *[2**62, 2**62] * 16)
    (path / "c/0/0").write_bytes(index + struct.pack("<I", google_crc32c.value(index)))
    assert "beyond its end" in refusal(path)


@pytest.mark.parametrize("options", [
    {"shards": (8, 8), "chunks": (2, 2)},
    {"filters": [codecs.TransposeCodec(order=(1, 0))], "chunks": (8, 8)},
    {"filters": [numcodecs.Delta("|u1")], "chunks": (8, 8), "zarr_format": 2},
])  # fmt: skip
def test_links_out_of_the_store_are_refused_whatever_the_codecs(tmp_path, options):
    other, path = tmp_path / "other.zarr", tmp_path / "a.zarr"
    for name in (other, path):
        zarr.create_array(name, shape=(8, 8), dtype="u1", **options)[...] = 5
    chunk = next(p for p in sorted(path.rglob("*")) if p.is_file() and not p.name.startswith((".z", "zarr")))
    chunk.unlink()
    chunk.symlink_to(other / chunk.relative_to(path))
    assert "leads out" in refusal(path)
    if (path / "c").exists():
        (path / "c").rename(tmp_path / "moved")
        (path / "c").symlink_to(other / "c", target_is_directory=True)
        assert "leads out" in refusal(path)


def test_a_link_to_nothing_is_no_missing_chunk(tmp_path):
    """What is not there has the fill value; a chunk of git-annex that was not fetched has not."""
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=np.ones((4, 4), "u1"), chunks=(2, 2))
    (path / "c/0/1").unlink()
    assert read(path)[0, 3] == 0
    (path / "c/0/1").symlink_to("gone")
    assert "a link to 'gone', which is not there" in refusal(path)
    (path / "c/0/1").unlink()
    (path / "c/0/1").symlink_to("../../../.git/annex/objects/aa/bb/key/key")
    assert "git annex unlock" in refusal(path)
    (path / "c/0").rename(tmp_path / "moved")
    (path / "c/0").symlink_to("gone", target_is_directory=True)
    assert "a link to 'gone', which is not there" in refusal(path)


@pytest.mark.parametrize("compressors", [None, "auto"])
@pytest.mark.parametrize("shards", [None, (4, 4)])
@pytest.mark.parametrize("version", [2, 3])
def test_a_pointer_of_git_lfs_is_told_as_what_it_is(tmp_path, version, shards, compressors):
    if version == 2 and shards:
        return
    path, pointer = (
        tmp_path / "a.zarr",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
    )
    more = {"shards": shards, "compressors": compressors, "zarr_format": version}
    zarr.create_array(path, data=np.ones((4, 4), "u1"), chunks=(2, 2), **more)
    chunk = next(p for p in path.rglob("*") if p.is_file() and p.name[0] in "01")
    chunk.write_bytes(pointer)
    with pytest.raises(StorageError, match=rf"{chunk.relative_to(path)} is a pointer of Git LFS"):
        read(path)
    document = path / ("zarr.json" if version == 3 else ".zarray")
    document.write_bytes(pointer)
    with pytest.raises(StorageError, match=rf"{document.name} is a pointer of Git LFS"):
        read(path)


def test_a_plate_without_groups_of_rows_lists_its_arrays(tmp_path):
    zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    for well in ("A/1", "B/2"):
        zarr.create_array(tmp_path / "a.zarr" / well / "0", data=np.ones((2, 2), "u1"), zarr_format=2)
    assert "2 arrays: A/1/0, B/2/0; give one" in refusal(tmp_path / "a.zarr")
    (tmp_path / "a.zarr/A/1/0/.zarray").write_text("{")
    assert (read(tmp_path / "a.zarr") == 1).all()  # a damaged one hides only itself
