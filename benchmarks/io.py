"""How fast are files read and written by region, next to the libraries themselves and to plain copying?

    python benchmarks/io.py                 # 256 x 256 x 256 pixels, about two minutes
    python benchmarks/io.py --side 512

Every row is a ratio of two figures of this run, best of several rounds in which all take turns, on a warm
page cache; what is over too soon to be measured is repeated. A library is measured on each of its roads, one
thread and two, by region and as a whole, and the best one counts. Absolute figures of another machine mean
little; the ratios should hold. Packing is compared in processor time too, which others on the machine
disturb least. tensorstore takes part where it is installed (pip install tensorstore).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numcodecs
import numpy as np
import tifffile
import zarr
from isal import isal_zlib

sys.path.insert(0, str(Path(__file__).parent))
from make_volume import make_texture

from lazyflow_core.blocks import BlockGrid
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.plugins import open_reader, open_writer
from lazyflow_core.roi import Roi

try:
    import tensorstore
except ImportError:
    tensorstore = None

CHUNK = 64
ROUNDS = 5

#: What is faster is done several times for each measurement.
LEAST_SECONDS = 0.05


def make_volume(side: int, dtype: str) -> np.ndarray:
    """Return a volume with the texture of smoothed noise; as float32 hardly anything packs it."""
    texture = make_texture(CHUNK * 2)
    repeat = -(-side // texture.shape[0])
    volume = np.tile(texture, (repeat,) * 3)[:side, :side, :side]
    noise = np.random.default_rng(1).random(volume.shape, np.float32)
    return (volume + 8 * noise).astype(dtype)


POOL = ThreadPoolExecutor(2)


def in_threads(work: Callable[[Roi], Any], rois: Sequence[Roi], threads: int) -> None:
    def several(some: Sequence[Roi]) -> None:
        for roi in some:
            work(roi)

    if threads == 1:
        several(rois)
    else:  # one task per thread, so that the pool itself costs nothing
        list(POOL.map(several, [rois[i::threads] for i in range(threads)]))


def best_of(
    *works: Callable[[], Any], rounds: int = ROUNDS, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Return the shortest time of each work in seconds; they take turns, so noise hits all alike."""
    best = [float("inf")] * len(works)
    repeats = [0] * len(works)
    for number in range(rounds):
        order = range(len(works))
        for i in order if number % 2 else reversed(order):
            start = clock()
            for _ in range(repeats[i] or 1):
                works[i]()
            passed = (clock() - start) / (repeats[i] or 1)
            best[i] = min(best[i], passed)
            repeats[i] = repeats[i] or max(1, round(LEAST_SECONDS / max(passed, 1e-6)))
    return best


def reading(reader: Any) -> Callable[[Roi], np.ndarray]:
    def read(roi: Roi) -> np.ndarray:
        out = np.empty(roi.shape, reader.meta.dtype)
        reader.read(roi, out)
        return out

    return read


class Report:
    """Rows of a table, printed as they come."""

    def __init__(self) -> None:
        print(f"{'what':58}{'ours':>12}{'other':>12}{'ratio':>8}   goal")

    def row(self, what: str, ours: str, other: str, ratio: float, goal: str, reached: bool) -> None:
        print(
            f"{what:58}{ours:>12}{other:>12}{ratio:8.2f}   {goal}{'' if reached else '  MISSED'}", flush=True
        )

    def most(self, what: str, nbytes: int, floor: float, other: float) -> None:
        """Print what this machine gives at most: the time of what cannot be left out, against the other's."""
        print(
            f"{'   at most: ' + what:58}{f'{nbytes / floor / 1e6:.0f} MB/s':>12}{'':>12}{other / floor:8.2f}",
            flush=True,
        )

    def speed(self, what: str, nbytes: int, ours: float, other: float, goal: float) -> None:
        ratio = other / ours
        self.row(
            what,
            f"{nbytes / ours / 1e6:.0f} MB/s",
            f"{nbytes / other / 1e6:.0f} MB/s",
            ratio,
            f">= {goal}",
            ratio >= goal,
        )


def chunk_places(path: Path, dataset: str) -> dict[tuple[int, ...], tuple[int, int]]:
    """Return size and offset of each chunk, by its first pixel."""
    with h5py.File(path) as file:
        found: list[Any] = []
        file[dataset].id.chunk_iter(found.append)
    return {tuple(i.chunk_offset): (i.size, i.byte_offset) for i in found}


def plain_reading(path: Path, dataset: str, dtype: np.dtype) -> Callable[[Roi], np.ndarray]:
    """Return the least there is to do: pread of a whole uncompressed chunk and a copy."""
    places = chunk_places(path, dataset)
    fd = os.open(path, os.O_RDONLY)

    def read(roi: Roi) -> np.ndarray:
        out = np.empty(roi.shape, dtype)
        size, offset = places[roi.start]
        out[...] = np.frombuffer(os.pread(fd, size, offset), dtype).reshape(roi.shape)
        return out

    return read


def random_rois(shape: Sequence[int], side: int, count: int) -> list[Roi]:
    rng = np.random.default_rng(5)
    starts = [[int(v) for v in rng.integers(0, [n - side for n in shape])] for _ in range(count)]
    return [Roi(start, [a + side for a in start]) for start in starts]


def p50(rois: Sequence[Roi], *reads: Callable[[Roi], Any]) -> list[float]:
    """Return the median time of each way to read; they take turns at every region."""
    times: list[list[float]] = [[] for _ in reads]
    for roi in rois:
        for read, measured in zip(reads, times, strict=True):
            start = time.perf_counter()
            read(roi)
            measured.append(time.perf_counter() - start)
    return list(map(statistics.median, times))


def directly(dataset: h5py.Dataset) -> Callable[[Roi], np.ndarray]:
    """Return h5py's road without a second copy."""

    def read(roi: Roi) -> np.ndarray:
        out = np.empty(roi.shape, dataset.dtype)
        dataset.read_direct(out, source_sel=roi.slicing)
        return out

    return read


def bench_hdf5(report: Report, folder: Path, volume: np.ndarray) -> None:
    dtype, grid = volume.dtype, list(BlockGrid(volume.shape, (CHUNK,) * 3))
    chunks = (CHUNK,) * 3
    plain, packed = folder / "plain.h5", folder / "packed.h5"
    with h5py.File(plain, "w") as file:
        file.create_dataset("a", data=volume, chunks=chunks)

    def write_h5py(threads: int) -> None:
        with h5py.File(packed, "w") as file:
            dataset = file.create_dataset(
                "a", volume.shape, dtype, chunks=chunks, compression="gzip", compression_opts=1
            )
            in_threads(lambda roi: dataset.__setitem__(roi.slicing, volume[roi.slicing]), grid, threads)
        with open(packed, "rb+") as file:
            os.fsync(file.fileno())  # as our writers do

    def write_ours() -> None:
        meta = ArrayMeta(volume.shape, dtype, "zyx")
        writer = open_writer(str(folder / "ours.h5"), meta, overwrite=True, chunks=chunks)
        in_threads(lambda roi: writer.write(roi, volume[roi.slicing]), grid, 2)
        writer.commit()

    def pack_alone() -> None:
        in_threads(lambda roi: isal_zlib.compress(volume[roi.slicing].tobytes(), 1), grid, 2)

    ours, alone, *others = best_of(
        write_ours, pack_alone, partial(write_h5py, 1), partial(write_h5py, 2), rounds=3
    )
    other = min(others)
    report.speed(f"write gzip HDF5, 2 threads, {dtype} / h5py", volume.nbytes, ours, other, 15)
    report.most("ISA-L packs the same chunks and writes nothing", volume.nbytes, alone, other)
    places, size = chunk_places(packed, "a"), CHUNK**3 * dtype.itemsize
    # Without its cache of unpacked chunks, which a small volume fits into: then nothing would be unpacked.
    with closing(open_reader(str(packed))) as reader, h5py.File(packed, rdcc_nbytes=0) as file:
        dataset, fd = file["a"], os.open(packed, os.O_RDONLY)

        def unpack_alone() -> None:
            in_threads(
                lambda roi: isal_zlib.decompress(os.pread(fd, *places[roi.start]), bufsize=size), grid, 2
            )

        ours, alone, *others = best_of(
            lambda: in_threads(reading(reader), grid, 2),
            unpack_alone,
            *(partial(in_threads, directly(dataset), grid, threads) for threads in (1, 2)),
        )
        other = min(others)
        os.close(fd)
        report.speed(f"read gzip HDF5, 2 threads, {dtype} / h5py", volume.nbytes, ours, other, 3)
        report.most("ISA-L unpacks the same chunks to nowhere", volume.nbytes, alone, other)
    with closing(open_reader(str(plain))) as reader:
        read, least = reading(reader), plain_reading(plain, "a", dtype)
        one, two, one_plain, two_plain = best_of(
            *(lambda r=r, n=n: in_threads(r, grid, n) for r in (read, least) for n in (1, 2)),
            rounds=2 * ROUNDS,
        )
        for threads, ours, other in ((1, one, one_plain), (2, two, two_plain)):
            what = f"read plain HDF5, {threads} thread{'s' * (threads > 1)}, {dtype} / pread + copy"
            report.speed(what, volume.nbytes, ours, other, 0.9)
        report.speed(f"read plain HDF5, {dtype}, 2 threads / 1 thread", volume.nbytes, two, one, 1.15)
        report.most("pread + copy, 2 threads / 1 thread", volume.nbytes, two_plain, one_plain)
        with h5py.File(plain) as file:
            ours, other = p50(random_rois(volume.shape, 32, 300), read, directly(file["a"]))
        ratio = ours / other
        report.row(
            f"random 32 cubed of plain HDF5, {dtype}, p50 / h5py",
            f"{ours * 1e6:.0f} us", f"{other * 1e6:.0f} us", ratio, "<= 1.2", ratio <= 1.2,
        )  # fmt: skip


def bench_zarr(report: Report, folder: Path, volume: np.ndarray) -> None:
    grid = list(BlockGrid(volume.shape, (CHUNK,) * 3))
    plain, blosc = folder / "plain.zarr", folder / "blosc.zarr"
    for path, compression in ((plain, None), (blosc, "blosc")):
        meta = ArrayMeta(volume.shape, volume.dtype, "zyx")
        writer = open_writer(str(path), meta, overwrite=True, chunks=(CHUNK,) * 3, compression=compression)
        in_threads(lambda roi, w=writer: w.write(roi, volume[roi.slicing]), grid, 2)
        writer.commit()
    array = zarr.open(blosc, mode="r")["0"]
    roads = {
        "zarr-python": [partial(in_threads, lambda roi: array[roi.slicing], grid, 2), lambda: array[...]]
    }
    if tensorstore is not None:
        store = tensorstore.open(as_tensorstore(blosc / "0")).result()
        roads["tensorstore"] = [
            partial(in_threads, lambda roi: store[roi.slicing].read().result(), grid, 2),
            lambda: store.read().result(),
        ]
    with closing(open_reader(str(blosc))) as reader:
        ours, *others = best_of(
            lambda: in_threads(reading(reader), grid, 2), *(road for some in roads.values() for road in some)
        )
    for name, goal in (("zarr-python", 4), ("tensorstore", 1)):
        if name in roads:
            other = min(others.pop(0) for _ in roads[name])
            report.speed(
                f"read Blosc Zarr 3, 2 threads, {volume.dtype} / {name}", volume.nbytes, ours, other, goal
            )

    def least(roi: Roi) -> np.ndarray:
        out = np.empty(roi.shape, volume.dtype)
        key = "/".join(str(a // CHUNK) for a in roi.start)
        with open(plain / "0" / "c" / key, "rb", buffering=0) as file:
            out[...] = np.frombuffer(file.read(), volume.dtype).reshape(roi.shape)
        return out

    with closing(open_reader(str(plain))) as reader:
        one, two, one_plain, two_plain = best_of(
            *(lambda r=r, n=n: in_threads(r, grid, n) for r in (reading(reader), least) for n in (1, 2)),
            rounds=2 * ROUNDS,
        )
        for threads, ours, other in ((1, one, one_plain), (2, two, two_plain)):
            what = f"read plain Zarr, {threads} thread{'s' * (threads > 1)}, {volume.dtype} / read + copy"
            report.speed(what, volume.nbytes, ours, other, 0.9)
        report.speed(f"read plain Zarr, {volume.dtype}, 2 threads / 1 thread", volume.nbytes, two, one, 1.15)
        report.most("read + copy, 2 threads / 1 thread", volume.nbytes, two_plain, one_plain)


def as_tensorstore(path: Path) -> dict[str, Any]:
    return {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}


def bench_zarr_writing(report: Report, folder: Path, volume: np.ndarray) -> None:
    """Write with zstd, the default: processor time, in which nothing waits for a disk."""
    chunks, grid = (CHUNK,) * 3, list(BlockGrid(volume.shape, (CHUNK,) * 3))
    meta = ArrayMeta(volume.shape, volume.dtype, "zyx")

    def write_ours() -> None:
        writer = open_writer(str(folder / "ours.zarr"), meta, overwrite=True, chunks=chunks)
        in_threads(lambda roi: writer.write(roi, volume[roi.slicing]), grid, 2)
        writer.commit()

    def new_array() -> Any:
        codec = zarr.codecs.ZstdCodec(level=3)
        return zarr.create_array(
            folder / "python.zarr",
            shape=volume.shape,
            dtype=volume.dtype,
            chunks=chunks,
            compressors=codec,
            fill_value=0,
            overwrite=True,
        )

    def write_regions() -> None:
        array = new_array()
        in_threads(lambda roi: array.__setitem__(roi.slicing, volume[roi.slicing]), grid, 2)

    def write_whole() -> None:
        new_array()[...] = volume

    def write_tensorstore() -> None:
        codec = {"name": "zstd", "configuration": {"level": 3}}
        store = tensorstore.open(
            as_tensorstore(folder / "tensorstore.zarr"),
            create=True,
            delete_existing=True,
            dtype=volume.dtype.name,
            shape=volume.shape,
            chunk_layout=tensorstore.ChunkLayout(chunk_shape=chunks),
            codec=tensorstore.CodecSpec({"driver": "zarr3", "codecs": [codec]}),
        ).result()
        store.write(volume).result()

    def pack_alone() -> None:
        encode = numcodecs.Zstd(level=3).encode
        in_threads(lambda roi: encode(np.ascontiguousarray(volume[roi.slicing])), grid, 2)

    peers = [write_regions, write_whole, *([write_tensorstore] if tensorstore is not None else [])]
    ours, alone, *others = best_of(write_ours, pack_alone, *peers, clock=time.process_time)
    report.speed(
        f"write zstd Zarr 3, {volume.dtype}, processor time / zarr-python",
        volume.nbytes, ours, min(others[:2]), 1,
    )  # fmt: skip
    if tensorstore is not None:
        report.speed(
            f"write zstd Zarr 3, {volume.dtype}, processor time / tensorstore",
            volume.nbytes, ours, others[2], 0.9,
        )  # fmt: skip
    report.most("zstd packs the same chunks and writes nothing", volume.nbytes, alone, min(others[:2]))


def bench_opening(report: Report, folder: Path) -> None:
    path = folder / "many.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("a", (256, 256, 256), "u1", chunks=(8, 8, 8))
        dataset[...] = 1

    def open_and_read() -> None:
        with closing(open_reader(str(path))) as reader:
            reading(reader)(Roi((0, 0, 0), (8, 8, 8)))

    (ours,) = best_of(open_and_read, rounds=3)
    report.row(
        "open an HDF5 of 32768 chunks and read the first region",
        f"{ours * 1e3:.0f} ms", "150 ms", ours / 0.150, "<= 1", ours <= 0.150,
    )  # fmt: skip


def bench_tiff(report: Report, folder: Path, volume: np.ndarray) -> None:
    rois = random_rois(volume.shape, CHUNK, 24)
    for kind, compression in (("tiled", None), ("deflated, tiled", "deflate")):
        path = folder / "tiled.tif"
        tifffile.imwrite(path, volume, tile=(128, 128), compression=compression)
        store = zarr.open(tifffile.imread(path, aszarr=True), mode="r")

        def by_store(roi: Roi, store: Any = store) -> np.ndarray:
            return store[roi.slicing]

        def by_pages(roi: Roi, path: Path = path) -> np.ndarray:
            pages = tifffile.imread(path, key=range(roi.start[0], roi.stop[0]), maxworkers=2)
            return pages[(slice(None), *roi.slicing[1:])]

        with tifffile.TiffFile(path) as tif, closing(open_reader(str(path))) as reader:
            pages = list(tif.pages)  # so that reading does not list them

            def by_open_pages(roi: Roi, pages: Any = pages) -> np.ndarray:
                planes = pages[roi.start[0] : roi.stop[0]]
                return np.stack([page.asarray(maxworkers=2)[roi.slicing[1:]] for page in planes])

            ours, *others = best_of(
                partial(in_threads, reading(reader), rois, 2),
                partial(in_threads, by_store, rois, 2),
                partial(in_threads, by_pages, rois, 1),  # several threads of its own
                partial(in_threads, by_open_pages, rois, 1),
                rounds=3,
            )
        nbytes = len(rois) * CHUNK**3
        report.speed(f"read {kind} TIFF, 2 threads, uint8 / tifffile", nbytes, ours, min(others), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=256, help="pixels along each axis (default 256)")
    side = parser.parse_args().side
    begin = time.perf_counter()
    report = Report()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for dtype in ("float32", "uint8"):
            volume = make_volume(side, dtype)
            bench_hdf5(report, folder, volume)
            bench_zarr(report, folder, volume)
            bench_zarr_writing(report, folder, volume)
        bench_opening(report, folder)
        bench_tiff(report, folder, volume)
    print(f"{time.perf_counter() - begin:.0f} s in all; {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
