"""How fast are files read and written by region, next to the libraries themselves and to plain copying?

    python benchmarks/io.py                 # 256 x 256 x 256 pixels, under a minute
    python benchmarks/io.py --side 512

Every row is a ratio of two figures measured in turn in this run, best of several rounds, on a warm page
cache. Absolute figures of another machine mean little; the ratios should hold.
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

CHUNK = 64
ROUNDS = 5


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


def best_of(*works: Callable[[], Any], rounds: int = ROUNDS) -> list[float]:
    """Return the shortest time of each work in seconds; they take turns, so noise hits all alike."""
    best = [float("inf")] * len(works)
    for _ in range(rounds):
        for i, work in enumerate(works):
            start = time.perf_counter()
            work()
            best[i] = min(best[i], time.perf_counter() - start)
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


def p50(read: Callable[[Roi], Any], rois: Sequence[Roi]) -> float:
    times = []
    for roi in rois:
        start = time.perf_counter()
        read(roi)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def bench_hdf5(report: Report, folder: Path, volume: np.ndarray) -> None:
    dtype, grid = volume.dtype, list(BlockGrid(volume.shape, (CHUNK,) * 3))
    chunks = (CHUNK,) * 3
    plain, packed = folder / "plain.h5", folder / "packed.h5"
    with h5py.File(plain, "w") as file:
        file.create_dataset("a", data=volume, chunks=chunks)

    def write_h5py() -> None:
        with h5py.File(packed, "w") as file:
            dataset = file.create_dataset(
                "a", volume.shape, dtype, chunks=chunks, compression="gzip", compression_opts=1
            )
            in_threads(lambda roi: dataset.__setitem__(roi.slicing, volume[roi.slicing]), grid, 2)
        with open(packed, "rb+") as file:
            os.fsync(file.fileno())  # as our writers do

    def write_ours() -> None:
        meta = ArrayMeta(volume.shape, dtype, "zyx")
        writer = open_writer(str(folder / "ours.h5"), meta, overwrite=True, chunks=chunks)
        in_threads(lambda roi: writer.write(roi, volume[roi.slicing]), grid, 2)
        writer.commit()

    def pack_alone() -> None:
        in_threads(lambda roi: isal_zlib.compress(volume[roi.slicing].tobytes(), 1), grid, 2)

    (other,) = best_of(write_h5py, rounds=2)
    ours, alone = best_of(write_ours, pack_alone)
    report.speed(f"write gzip HDF5, 2 threads, {dtype} / h5py", volume.nbytes, ours, other, 15)
    report.most("ISA-L packs the same chunks and writes nothing", volume.nbytes, alone, other)
    places, size = chunk_places(packed, "a"), CHUNK**3 * dtype.itemsize
    with closing(open_reader(str(packed))) as reader, h5py.File(packed) as file:
        dataset, fd = file["a"], os.open(packed, os.O_RDONLY)

        def unpack_alone() -> None:
            in_threads(
                lambda roi: isal_zlib.decompress(os.pread(fd, *places[roi.start]), bufsize=size), grid, 2
            )

        ours, other, alone = best_of(
            lambda: in_threads(reading(reader), grid, 2),
            lambda: in_threads(lambda roi: dataset[roi.slicing], grid, 2),
            unpack_alone,
        )
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
            rois, dataset = random_rois(volume.shape, 32, 300), file["a"]
            ours, other = p50(read, rois), p50(lambda roi: dataset[roi.slicing], rois)
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
    with closing(open_reader(str(blosc))) as reader:
        times = best_of(
            lambda: in_threads(reading(reader), grid, 2),
            lambda: in_threads(lambda roi: array[roi.slicing], grid, 2),
        )
    report.speed(f"read Blosc Zarr 3, 2 threads, {volume.dtype} / zarr-python", volume.nbytes, *times, 4)

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
        with closing(open_reader(str(path))) as reader:
            times = best_of(
                partial(in_threads, reading(reader), rois, 2),
                partial(in_threads, lambda roi, store=store: store[roi.slicing], rois, 2),
                rounds=2,
            )
        nbytes = len(rois) * CHUNK**3
        report.speed(f"read {kind} TIFF, 2 threads, uint8 / tifffile's aszarr", nbytes, *times, 5)


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
        bench_opening(report, folder)
        bench_tiff(report, folder, volume)
    print(f"{time.perf_counter() - begin:.0f} s in all; {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
