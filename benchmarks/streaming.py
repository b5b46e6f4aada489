"""What does streaming cost beside the work itself? A file → Gaussian → a file, next to the same by hand.

    python benchmarks/streaming.py                # 256 x 256 x 256 uint8, HDF5
    python benchmarks/streaming.py --side 512     # what the goals are for, about a minute
    python benchmarks/streaming.py --format zarr --compression gzip

By hand means: h5py, zarr-python or tifffile and the same kernel, in a thread pool, with nothing of ours
around them. h5py keeps the chunks that it unpacked last, with room for all that blocks share, so a packed
source shows what the framework unpacks more than once. All figures are of one run, measured in turns, the
smallest of several; storage is not compressed unless asked for, so that the filter and what is around it take
the time. The peak of memory is that of a process of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import tifffile
import zarr
from lazyflow_ops_filters.kernels import Job, get_backend
from lazyflow_ops_filters.kernels.filters import GaussianSmoothing

sys.path.insert(0, str(Path(__file__).parent))
from make_volume import write_volume

from lazyflow_core import BlockGrid, Graph, InputSlot, Operator, OutputSlot, Roi, get_operator
from lazyflow_core.plugins import open_writer
from lazyflow_core.request import ThreadedScheduler
from lazyflow_core.utility import export, peak_memory, plan_blocks

SIGMA = 1.6
BLOCK = 128
CHUNKS = 64
#: For the chunks that h5py keeps unpacked: a slab of blocks of a volume of 1024 pixels a side.
CACHE_BYTES = 256 * 2**20


def pipeline(source: Path, workers: int) -> tuple[Graph, object]:
    graph = Graph(scheduler=ThreadedScheduler(workers))
    volume = get_operator("io.read")(graph=graph, path=str(source))
    smooth = get_operator("filters.gaussian_smoothing")(graph=graph, image=volume.output, sigma=SIGMA)
    return graph, smooth.output


def new_file(target: Path, meta: object) -> object:
    options = {} if target.suffix == ".tif" else {"chunks": CHUNKS, "compression": None}
    return open_writer(str(target), meta, overwrite=True, **options)


def by_framework(source: Path, target: Path, workers: int) -> None:
    graph, output = pipeline(source, workers)
    with graph:
        export(output, new_file(target, output.meta))
    graph.scheduler.close()


Read = Callable[[Roi], np.ndarray]
Write = Callable[[Roi, np.ndarray], object]


@contextmanager
def opened_by_hand(source: Path, target: Path) -> Iterator[tuple[tuple[int, ...], Read, Write]]:
    """Open a source and a new target with the library of their format; give shape, reading and writing."""
    chunks = (CHUNKS,) * 3
    if source.suffix == ".h5":
        target.unlink(missing_ok=True)
        with (
            h5py.File(source, rdcc_nbytes=CACHE_BYTES, rdcc_nslots=100_003) as file,
            h5py.File(target, "w") as result,
        ):
            volume = file["data"]
            smooth = result.create_dataset("data", volume.shape, np.float32, chunks=chunks)

            def read(roi: Roi) -> np.ndarray:
                image = np.empty(roi.shape, volume.dtype)
                volume.read_direct(image, source_sel=roi.slicing)
                return image

            yield volume.shape, read, lambda roi, out: smooth.write_direct(out, dest_sel=roi.slicing)
        files = [target]
    elif source.suffix == ".zarr":
        volume = zarr.open(source, mode="r")["0"]
        smooth = zarr.create_array(
            target, shape=volume.shape, dtype=np.float32, chunks=chunks, compressors=None, overwrite=True
        )
        yield (
            volume.shape,
            lambda roi: volume[roi.slicing],
            lambda roi, out: smooth.set_basic_selection(roi.slicing, out),
        )
        files = [path for path in target.rglob("*") if path.is_file()]
    else:
        volume = tifffile.memmap(source, mode="r")
        smooth = tifffile.memmap(target, shape=volume.shape, dtype=np.float32)
        yield (
            volume.shape,
            lambda roi: volume[roi.slicing],
            lambda roi, out: smooth.__setitem__(roi.slicing, out),
        )
        smooth.flush()
        files = [target]
    for path in files:
        with path.open("rb+") as written:
            os.fsync(written.fileno())  # as our writers do


def by_hand(source: Path, target: Path, threads: int) -> None:
    filter, backend = GaussianSmoothing((SIGMA,) * 3), get_backend("auto")
    with opened_by_hand(source, target) as (shape, read, write):
        halo, whole = filter.halo(shape), Roi.from_shape(shape)

        def one_block(roi: Roi) -> None:
            wide = roi.with_halo(halo, within=whole)
            out = np.empty(roi.shape, np.float32)
            backend.run(filter, Job(read(wide), "mirror", roi.relative_to(wide).slicing, [out]))
            write(roi, out)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(one_block, BlockGrid(shape, (BLOCK,) * 3)))


class OpNothing(Operator):
    """An operator that leaves the pixels as they are in memory."""

    image = InputSlot()
    output = OutputSlot()

    def setup_outputs(self) -> None:
        self.output.meta = self.image.meta.replace(dtype=np.float32)

    def execute(self, slot: object, roi: Roi, out: np.ndarray) -> None:
        pass


class NoWriter:
    """A writer that throws away what it gets."""

    step = (CHUNKS,) * 3

    def write(self, roi: Roi, data: np.ndarray) -> None:
        pass

    def commit(self) -> int:
        return 0

    def abort(self) -> None:
        pass


def seconds_of_nothing(side: int, workers: int, rounds: int) -> float:
    """Return what graph, requests and export take when neither filter nor storage does anything."""
    graph = Graph(scheduler=ThreadedScheduler(workers))
    with graph:
        image = np.broadcast_to(np.uint8(0), (side,) * 3)
        operator = OpNothing(graph=graph, image=image)
        (times,) = times_of(lambda: export(operator.output, NoWriter()), rounds=rounds)
    graph.scheduler.close()
    return min(times)


def times_of(*works: Callable[[], None], rounds: int) -> list[list[float]]:
    """Return the seconds of each work in each round, measured in turns."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, measured in zip(works, times, strict=True):
            began = time.perf_counter()
            work()
            measured.append(time.perf_counter() - began)
    return times


def report_memory(source: Path, target: Path, workers: int) -> None:
    """Print base, peak and projected bytes of one run; what a process of its own does."""
    graph, output = pipeline(source, workers)
    with graph:
        writer = new_file(target, output.meta)
        plan = plan_blocks(output.meta, step=writer.step, workers=workers)
        base = peak_memory()
        export(output, writer)
        print(base, peak_memory(), plan.bytes_in_flight)


def row(what: str, value: float, unit: str, goal: float | None = None, at_least: bool = False) -> None:
    verdict = ""
    if goal is not None:
        met = value >= goal if at_least else value <= goal
        verdict = f"{'≥' if at_least else '≤'} {goal:g}  {'ok' if met else 'MISSED'}"
    print(f"{what:<66}{value:>10.3f} {unit:<5}{verdict:>15}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=256, help="pixels along each axis (default 256)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default 5)")
    parser.add_argument("--folder", type=Path, help="where the files are made; default a temporary folder")
    parser.add_argument("--format", choices=["h5", "zarr", "tif"], default="h5", help="of both files")
    parser.add_argument("--compression", choices=["gzip"], help="how the source is packed; default not")
    parser.add_argument("--memory-of", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory_of:
        source, target, workers = given.memory_of
        report_memory(Path(source), Path(target), int(workers))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        source, target = (Path(name, f"{stem}.{given.format}") for stem in ("volume", "smooth"))
        options = {"chunks": CHUNKS, "compression": given.compression}
        write_volume(str(source), given.side, **({} if given.format == "tif" else options))
        times = times_of(
            lambda: by_hand(source, target, 1),
            lambda: by_hand(source, target, 2),
            lambda: by_framework(source, target, 1),
            lambda: by_framework(source, target, 2),
            rounds=given.rounds,
        )
        hand, hands, one, two = map(min, times)
        pixels = given.side**3 / 1e6
        row("by hand, one thread", pixels / hand, "MB/s")
        row("by hand, two threads", pixels / hands, "MB/s")
        row("   against one: what this machine gives at most", hand / hands, "×")
        row("one worker", pixels / one, "MB/s", 92, at_least=True)
        row("two workers", pixels / two, "MB/s", 139, at_least=True)
        row("   against one", one / two, "×", 1.7, at_least=True)
        row("one worker against one thread by hand, by the clock", one / hand, "×")
        row("two workers against two threads by hand, by the clock", two / hands, "×")
        # The clock cannot tell a few per cent on a machine where others work too; this can.
        for workers, work in ((1, one), (2, two)):
            nothing = seconds_of_nothing(given.side, workers, given.rounds)
            what = f"graph and requests alone, {workers} worker{'s' * (workers > 1)}, share of the time"
            row(what, 100 * nothing / work, "%", 3)
        for workers in (1, 2):
            command = [sys.executable, __file__, "--memory-of", str(source), str(target), str(workers)]
            said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            base, peak, projected = (int(n) / 2**20 for n in said.split())
            what = f"peak of memory, {workers} worker{'s' * (workers > 1)}: {peak:.0f} MiB, base {base:.0f}"
            row(f"{what}, above it", peak - base, "MiB", round(projected))
    print(f"{os.cpu_count()} processors")


if __name__ == "__main__":
    main()
