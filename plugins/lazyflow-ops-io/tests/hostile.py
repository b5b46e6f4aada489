"""Make files that want to harm, open each, and report what came of it.

Run as a program by `test_hostile`, so that time and memory are those of the readers:

    python hostile.py FOLDER

Prints one line of JSON: by name of a file, the outcome, how many MiB the process grew to open and read it,
and how many seconds of the processor it took.
``CANARY`` in the folder must not appear, the contents of ``secret`` must not be read.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import pickle
import resource
import socket
import struct
import sys
import time
import zlib
from pathlib import Path

import google_crc32c
import h5py
import numcodecs
import numpy as np
import tifffile
import zarr

from lazyflow_core.errors import LazyflowError
from lazyflow_core.plugins import open_reader
from lazyflow_core.roi import Roi

SECRET = b"the contents of another file" * 4
ZEROS = bytes(2**28)
SOME_ZEROS = bytes(2**22)


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder / "CANARY"),)


def zarr_2(path, chunk=bytes(16), **changes):
    document = {"zarr_format": 2, "shape": [4, 4], "chunks": [4, 4], "dtype": "|u1", "compressor": None,
                "fill_value": 0, "order": "C", "filters": None}  # fmt: skip
    path.mkdir()
    (path / ".zarray").write_text(json.dumps(document | changes))
    if chunk is not None:
        (path / "0.0").write_bytes(chunk)
    return path


def zarr_3(path, codecs, chunk=bytes(16), **changes):
    document = {"zarr_format": 3, "node_type": "array", "shape": [4, 4], "data_type": "uint8",
                "fill_value": 0,
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 4]}},
                "chunk_key_encoding": {"name": "default"}, "codecs": codecs, "attributes": {}}  # fmt: skip
    (path / "c/0").mkdir(parents=True)
    (path / "zarr.json").write_text(json.dumps(document | changes))
    (path / "c/0/0").write_bytes(chunk)
    return path


def make_zarr(folder):
    evil = pickle.dumps(Canary(folder))
    for id_ in ("pickle", "json2", "vlen-array"):
        zarr_2(folder / f"compressor-{id_}.zarr", evil, compressor={"id": id_, "protocol": 5})
        zarr_2(folder / f"filter-{id_}.zarr", evil, filters=[{"id": id_, "protocol": 5, "dtype": "O"}])
    zarr_3(folder / "codec-pickle.zarr", [{"name": "bytes"}, {"name": "numcodecs.pickle"}], evil)
    zarr_2(folder / "object.zarr", evil, dtype="|O", filters=[{"id": "pickle"}])
    bombs = {
        "gzip": gzip.compress(SOME_ZEROS) * 64, "zlib": zlib.compress(ZEROS, 1),
        "bz2": bz2.compress(SOME_ZEROS) * 64,
        "lzma": lzma.compress(SOME_ZEROS) * 64, "zstd": numcodecs.Zstd().encode(ZEROS),
        "blosc": numcodecs.Blosc("zstd").encode(ZEROS), "lz4": numcodecs.LZ4().encode(ZEROS),
    }  # fmt: skip
    for id_, bomb in bombs.items():
        size = 200_000  # large enough for the packed bytes to be looked at
        zarr_2(folder / f"bomb-{id_}.zarr", bomb, shape=[size, 1], chunks=[size, 1], compressor={"id": id_})
        zarr_2(
            folder / f"bomb-{id_}-delta.zarr", bomb, shape=[size, 1], chunks=[size, 1],
            compressor={"id": id_}, filters=[{"id": "delta", "dtype": "|u1"}],
        )  # fmt: skip
    twice = gzip.compress(bombs["gzip"])
    zarr_2(folder / "bomb-twice.zarr", twice, compressor={"id": "gzip"}, filters=[{"id": "gzip"}])
    members = gzip.compress(b"") * 50_000
    zarr_2(folder / "members.zarr", members, shape=[2**20, 1], chunks=[2**20, 1], compressor={"id": "gzip"})
    shard = {"name": "sharding_indexed", "configuration": {
        "chunk_shape": [2, 2], "codecs": ["bytes", "gzip"], "index_codecs": ["bytes", "crc32c"]}}  # fmt: skip
    bomb = bombs["gzip"][:60_000]
    index = struct.pack("<8Q", *[0, len(bomb)] * 4)
    zarr_3(folder / "bomb-shard.zarr", [shard], bomb + index + struct.pack("<I", google_crc32c.value(index)))
    deep = {"name": "bytes"}
    for _ in range(100):
        deep = {"name": "sharding_indexed", "configuration": {
            "chunk_shape": [4, 4], "codecs": [deep], "index_codecs": ["bytes"]}}  # fmt: skip
    zarr_3(folder / "shards-in-shards.zarr", [deep])
    zarr_3(folder / "transformer.zarr", ["bytes"], storage_transformers=[{"name": "unknown"}])
    zarr_2(folder / "large-chunk.zarr", None, shape=[2**40], chunks=[2**35])
    zarr_2(folder / "dimensions.zarr", None, shape=[2] * 40, chunks=[1] * 40)
    other = zarr_2(folder / "other-secret.zarr", SECRET[:16])
    link = zarr_2(folder / "link-chunk.zarr", None)
    (link / "0.0").symlink_to(other / "0.0")
    link = zarr_2(folder / "link-document.zarr", None)
    (link / ".zarray").unlink()
    (link / ".zarray").symlink_to("/dev/zero")
    zarr.create_array(folder / "link-shard.zarr", data=np.ones((8, 8), "u1"), chunks=(2, 2), shards=(8, 8))
    zarr.create_array(
        folder / "shard-secret.zarr", data=np.full((8, 8), 7, "u1"), chunks=(2, 2), shards=(8, 8)
    )
    (folder / "link-shard.zarr/c").rename(folder / "moved")
    (folder / "link-shard.zarr/c").symlink_to(folder / "shard-secret.zarr/c", target_is_directory=True)
    pipe = zarr_2(folder / "pipe.zarr", None)
    os.mkfifo(pipe / "0.0")
    (folder / "pipe-document.zarr").mkdir()
    os.mkfifo(folder / "pipe-document.zarr/zarr.json")
    group = folder / "leads-out.zarr"
    group.mkdir()
    (group / ".zgroup").write_text('{"zarr_format": 2}')
    level = {"axes": ["y", "x"], "datasets": [{"path": "../other-secret.zarr"}]}
    (group / ".zattrs").write_text(json.dumps({"multiscales": [level]}))
    (folder / "nested.zarr").mkdir()
    (folder / "nested.zarr/zarr.json").write_text('{"a":' * 100_000)
    place = folder / "folders.zarr"
    for _ in range(150):
        place.mkdir()
        (place / ".zgroup").write_text('{"zarr_format": 2}')
        place = place / "g"
    (folder / "folders.zarr/again").symlink_to(".", target_is_directory=True)


def make_hdf5(folder):
    with h5py.File(folder / "other-secret.h5", "w") as file:
        file["d"] = np.frombuffer(SECRET, "u1")
    for name, item in {
        "link": h5py.ExternalLink("other-secret.h5", "/d"),
        "folder-link": h5py.ExternalLink("other-secret.h5", "/"),
    }.items():  # fmt: skip
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["e"] = item
            file["d"] = h5py.SoftLink("/e/d" if name == "folder-link" else "/e")
    with h5py.File(folder / "external.h5", "w") as file:
        file.create_dataset("d", (50,), "u1", external=[(str(folder / "secret"), 0, 50)])
    with h5py.File(folder / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout((50,), "u1")
        layout[:] = h5py.VirtualSource(str(folder / "other-secret.h5"), "d", (112,))[:50]
        file.create_virtual_dataset("g/v", layout)
        file["d"] = h5py.SoftLink("/g/v")
    with h5py.File(folder / "circle.h5", "w") as file:
        file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")
        file.create_group("g")["again"] = file["/"]
    bomb = zlib.compress(ZEROS, 1)
    for name, options in {
        "bomb": {"compression": "gzip"},
        "bomb-shuffle": {"compression": "gzip", "shuffle": True},
        "bomb-scaleoffset": {"compression": "gzip", "scaleoffset": 0},
        "bomb-fletcher": {"compression": "gzip", "fletcher32": True},
    }.items():
        with h5py.File(folder / f"{name}.h5", "w") as file:
            dataset = file.create_dataset("d", (200_000,), "u1", chunks=(200_000,), **options)
            dataset.id.write_direct_chunk((0,), bomb)
    with h5py.File(folder / "huge-chunk.h5", "w") as file:
        file.create_dataset("d", (2**40,), "u1", chunks=(2**32 - 1,), compression="gzip")
    with h5py.File(folder / "strings.h5", "w") as file:
        file.create_dataset("d", (3,), h5py.vlen_dtype("u1"))
    os.mkfifo(folder / "pipe.h5")


OME = (
    '<?xml version="1.0"?>{}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image '
    'ID="Image:0" Name="{}"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="6" SizeY="5" '
    'SizeZ="{}" SizeC="1" SizeT="1"><TiffData IFD="0" PlaneCount="1"/></Pixels></Image></OME>'
)


def make_tiff(folder):
    laughs = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
    long = f'<!DOCTYPE x [<!ENTITY a "{"A" * 100_000}">]>'
    for name, text in {
        "entity": OME.format(f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{folder}/secret">]>', "&e;", 1),
        "laughs": OME.format(f'<!DOCTYPE x [<!ENTITY l0 "lol">{laughs}]>', "&l11;", 1),
        "quadratic": OME.format(long, "&a;" * 20_000, 1),
        "planes": OME.format("", "", 2_000_000_000),
        "deep": OME.format("", "", 1).replace("<Image", "<a>" * 200_000 + "</a>" * 200_000 + "<Image"),
    }.items():
        tifffile.imwrite(folder / f"{name}.tif", np.zeros((5, 6), "u1"), description=text, metadata=None)

    def directory(entries, following=0):
        packed = b"".join(struct.pack("<HHII", *e) for e in entries)
        return struct.pack("<H", len(entries)) + packed + struct.pack("<I", following)

    page = [(256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8),
            (277, 3, 1, 1), (278, 3, 1, 4), (279, 4, 1, 16)]  # fmt: skip
    head = b"II*\0" + struct.pack("<I", 8)
    (folder / "loop.tif").write_bytes(head + directory(page, 8) + bytes(64))
    (folder / "own-level.tif").write_bytes(head + directory([*page, (330, 4, 1, 8)]) + bytes(64))
    claims = [(40000 + i, 1, 2**22 - 10, 8) for i in range(3000)]
    (folder / "claims.tif").write_bytes(head + directory(page + claims) + bytes(2**22))
    wide = [(256, 4, 1, 2**31 - 1), (257, 4, 1, 2**31 - 1), *page[2:]]
    (folder / "wide.tif").write_bytes(head + directory(wide) + bytes(64))
    pages = b"".join(
        struct.pack("<HHHIII", 1, 256, 3, 1, 1, 8 + 18 * (i + 1) if i < 899_999 else 0)
        for i in range(900_000)
    )
    (folder / "pages.tif").write_bytes(head + pages)
    bomb = zlib.compress(ZEROS, 1)
    for name, compression, packed in (
        ("bomb", 8, bomb),
        ("bomb-lzma", 34925, lzma.compress(SOME_ZEROS) * 64),
        ("bomb-zstd", 50000, numcodecs.Zstd().encode(ZEROS)),
    ):
        packed = {8: bomb, 34925: lzma.compress(SOME_ZEROS) * 64, 50000: numcodecs.Zstd().encode(ZEROS)}[
            compression
        ]
        at = 8 + 2 + 12 * len(page) + 4
        rows = [(256, 4, 1, 500), (257, 4, 1, 400), page[2], (259, 3, 1, compression), page[4],
                (273, 4, 1, at), page[6], (278, 4, 1, 400), (279, 4, 1, len(packed))]  # fmt: skip
        (folder / f"{name}.tif").write_bytes(head + directory(rows) + packed)
    os.mkfifo(folder / "pipe.tif")


def make_npy(folder):
    def npy(name, header, more=b""):
        text = header.encode() + b"\n"
        packed = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + more
        (folder / f"{name}.npy").write_bytes(packed)

    npy("huge", "{'descr': '|u1', 'fortran_order': False, 'shape': (4611686018427387904,), }")
    npy("object", "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", pickle.dumps(Canary(folder)))
    npy("code", "__import__('os').mkdir('CANARY')")
    npy("nested", "(" * 9000)
    npy("fields", "{'descr': " + str([("a" * 5, "<f8")] * 500) + ", 'fortran_order': False, 'shape': (1,), }")
    os.mkfifo(folder / "pipe.npy")
    (folder / "device.npy").symlink_to("/dev/zero")
    (folder / "circle.npy").symlink_to("circle.npy")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / "socket.npy"))
    listening.close()


def read(path) -> str:
    """Open a file and read from both ends; return what came of it."""
    try:
        with open_reader(str(path)) as reader:
            shape = reader.meta.shape
            for start in ([0] * len(shape), [max(0, n - 3) for n in shape]):
                roi = Roi(start, [min(n, a + 60) for a, n in zip(start, shape, strict=True)])
                out = np.empty(roi.shape, reader.meta.dtype)
                reader.read(roi, out)
                if out.tobytes()[:16] in SECRET + SECRET and out.any():
                    return "secret"
        return "data"
    except LazyflowError as error:
        text = str(error)
        return type(error).__name__ if "\n" not in text and path.name in text else f"bad sentence: {text}"
    except BaseException as error:
        return f"foreign {error!r}"


def main(folder):
    folder = Path(folder)
    (folder / "secret").write_bytes(SECRET)
    os.chdir(folder)
    make_zarr(folder)
    make_hdf5(folder)
    make_tiff(folder)
    make_npy(folder)
    for name in ("h5", "tif", "npy", "zarr"):  # what importing takes is not a file's doing
        read(folder / f"missing.{name}")
    read(folder / "other-secret.zarr"), read(folder / "other-secret.h5")
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".zarr", ".h5", ".tif", ".npy") or "secret" in path.name:
            continue
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = peak()
        begin = time.process_time()
        outcome = read(path)
        found[path.name] = (outcome, peak() - before, time.process_time() - begin)
    print(json.dumps(found))


def peak() -> int:
    """Return the most memory since the peak began anew, in MiB."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) // 1024


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main(sys.argv[1])
