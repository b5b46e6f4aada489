"""What does a block cache cost when it is warm, after an edit, and when it has nothing? Beside the goals.

    python benchmarks/cache.py

Every figure is the smallest of several repeats; what is compared is measured in turns, so that other
programs on the machine disturb both alike. Times are of this thread's processor, since a warm read and a
block alone happen in the thread that asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from lazyflow_ops_cache.block_cache import OpBlockCache
from lazyflow_ops_cache.labels import OpLabels
from lazyflow_ops_cache.storage import Packed

from lazyflow_core import Graph, InputSlot, Operator, OutputSlot, Roi
from lazyflow_core.utility import memory_ledger

SIDE = 256
BLOCK = 64


class OpSmoothish(Operator):
    """About as much work per pixel as a small filter."""

    image = InputSlot()
    output = OutputSlot()

    def setup_outputs(self) -> None:
        self.output.meta = self.image.meta

    def execute(self, slot, roi, out) -> None:
        compute(self.image.read(roi), out)

    def propagate_dirty(self, slot, roi) -> None:
        self.output.mark_dirty(roi)


def compute(pixels: np.ndarray, out: np.ndarray) -> None:
    np.copyto(out, np.sqrt(pixels.astype(np.float32)) * 10, casting="unsafe")


def best(*functions: Callable[[], object], number: int = 1, repeats: int = 15) -> list[float]:
    """Return the smallest mean seconds of a call of each function, measured in turns."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, measured in zip(functions, times, strict=True):
            began = time.thread_time()
            for _ in range(number):
                function()
            measured.append((time.thread_time() - began) / number)
    return [min(measured) for measured in times]


def row(
    what: str, value: float, unit: str, goal: float | None = None, at_least: bool = False, note: str = ""
):
    verdict = ""
    if goal is not None:
        met = value >= goal if at_least else value <= goal
        verdict = f"{'≥' if at_least else '≤'} {goal:g}  {'ok' if met else 'MISSED'}"
    print(f"{what:<66}{value:>10.3f} {unit:<4}{verdict:>14}  {note}")


def make_cache(graph: Graph, pixels: np.ndarray, block: tuple[int, ...]) -> OpBlockCache:
    smooth = OpSmoothish(graph=graph, image=pixels)
    return OpBlockCache(graph=graph, image=smooth.output, block=block)


def copies_alone(cache: OpBlockCache, pixels: np.ndarray, out: np.ndarray) -> Callable[[], None]:
    """Return what copies the blocks into their places with numpy alone, each row as one element."""
    row_type = np.dtype((np.void, cache.block.value[-1] * pixels.itemsize))
    pairs = [
        (out[roi.slicing].view(row_type), np.ascontiguousarray(pixels[roi.slicing]).view(row_type))
        for roi in sorted(cache.clean_blocks, key=lambda roi: roi.start)
    ]

    def copy() -> None:
        for target, block in pairs:
            np.copyto(target, block)

    return copy


def warm() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE,) * 3, np.uint8)
    with Graph() as graph:
        cache = make_cache(graph, pixels, (BLOCK,) * 3)
        out = cache.output.read()

        alone = copies_alone(cache, pixels, out)
        copied, read, by_hand = best(
            lambda: np.copyto(out, pixels), lambda: cache.output.read(out=out), alone, repeats=30
        )
        row("warm read of everything against a numpy copy of it", copied / read, "×", 0.5, at_least=True)
        # Rows of a block lie apart in the result: the processor, not the cache, is what takes the time.
        row("   numpy alone copying the same blocks, rows of 64 bytes", copied / by_hand, "×")
        row("   the cache's own share, per block", (read - by_hand) / len(cache.clean_blocks) * 1e6, "µs")

        smaller = Roi((32,) * 3, (160,) * 3)
        part, source = np.empty(smaller.shape, np.uint8), pixels[smaller.slicing].copy()
        copied, read = best(
            lambda: np.copyto(part, source), lambda: cache.output.read(smaller, out=part), number=10
        )
        row("   128³ across 27 blocks against a numpy copy", copied / read, "×")

        voxel = Roi((5, 5, 5), (6, 6, 6))
        row("warm read of one pixel", best(lambda: cache.output.read(voxel), number=2000)[0] * 1e6, "µs", 15)
        plane = Roi((100, 0, 0), (101, SIDE, SIDE))
        row(
            "warm slice of 16 blocks", best(lambda: cache.output.read(plane), number=200)[0] * 1e3, "ms", 0.15
        )

        block = pixels[64:128, :BLOCK, :BLOCK].copy()
        answer = np.empty_like(block)
        source_slot = cache.image.upstream.operator.image

        def edit_and_look() -> None:
            pixels[98:103, 20:25, 20:25] ^= 1
            source_slot.mark_dirty(Roi((98, 20, 20), (103, 25, 25)))
            cache.output.read(plane)

        edited, numpy_alone = best(edit_and_look, lambda: compute(block, answer), number=10)
        row("edit of 5³ and the slice again, against numpy on that block", edited / numpy_alone, "×", 2)


def growth() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE,) * 3, np.uint8)
    for side in (64, 32, 16):
        with Graph() as graph:
            cache = make_cache(graph, pixels, (side,) * 3)
            out = cache.output.read()
            count = (SIDE // side) ** 3
            alone = copies_alone(cache, pixels, out)
            read, by_hand = best(lambda cache=cache, out=out: cache.output.read(out=out), alone)
            note = f"of {read / count * 1e6:.2f} in all"
            share = (read - by_hand) / count * 1e6
            row(f"{count} blocks: the cache's share per block", share, "µs", note=note)


def packed() -> None:
    """Read all of a packed cache, and of one whose blocks are on disk, beside the codec alone."""
    ramp = np.add.outer(np.add.outer(np.arange(SIDE), np.arange(SIDE)), np.arange(SIDE))
    everything, rows = (slice(None),) * 3, np.dtype((np.void, BLOCK))
    pixels = (ramp // 4 + np.random.default_rng(0).integers(0, 4, ramp.shape)).astype(np.uint8)
    for kind in ("compressed", "disk"):
        with Graph() as graph:
            smooth = OpSmoothish(graph=graph, image=pixels)
            cache = OpBlockCache(graph=graph, image=smooth.output, block=(BLOCK,) * 3, storage=kind)
            out = cache.output.read()
            blocks = [Packed(np.ascontiguousarray(out[roi.slicing])) for roi in cache.clean_blocks]

            def read(cache=cache, out=out, kind=kind) -> None:
                if kind == "disk":
                    memory_ledger().relieve()  # of the copies in memory
                cache.output.read(out=out)

            places = [out[roi.slicing] for roi in cache.clean_blocks]

            def by_hand(blocks=blocks, places=places) -> None:
                for block, place in zip(blocks, places, strict=True):
                    np.copyto(place.view(rows), block[everything].view(rows))

            took, alone = best(read, by_hand, repeats=7)
            row(f"{kind}: read of everything against unpacking and copying by hand", took / alone, "×", 1.3)
            size = cache.used_bytes if kind == "compressed" else cache.disk_bytes
            row(f"   bytes kept of those of the pixels, {kind}", size / pixels.nbytes, "×")


def labels() -> None:
    """Paint into a volume that has many labels already."""
    with Graph() as graph:
        op = OpLabels(graph=graph)
        op.image.assign(np.broadcast_to(np.uint8(0), (512,) * 3), axes="zyx")
        chance = np.random.default_rng(0)
        for z, y, x in chance.integers(0, 500, (2000, 3)):
            op.image[z, y : y + 7, x : x + 7] = int(chance.integers(1, 5))
        dab, place = np.ones((1, 7, 7), np.uint8), Roi((256, 250, 250), (257, 257, 257))
        plane = Roi((256, 0, 0), (257, 512, 512))

        def stroke() -> None:
            op.paint([(place, dab)])
            op.undo()

        painted, read = best(stroke, lambda: op.labels.read(plane), number=20)
        row("labels: a dab of 7² in 512³ with 2 000 of them, and its undoing", painted * 1e3, "ms")
        row("   a slice of 512² of it", read * 1e3, "ms")
        row("   bytes for each dab", memory_ledger().account("cache.labels").used_bytes / 2000, "B")


def cold() -> None:
    pixels = np.zeros((64, 64, 64), np.uint8)
    with Graph() as graph:
        smooth = OpSmoothish(graph=graph, image=pixels)
        cache = OpBlockCache(graph=graph, image=smooth.output, block=(4, 4, 4))
        one = Roi((0, 0, 0), (4, 4, 4))

        def miss() -> None:
            cache.plan.store.clear()
            cache.output.read(one)

        missed, computed = best(miss, lambda: smooth.output.read(one), number=300)
        row("a miss, besides computing the block", (missed - computed) * 1e6, "µs")

        began = time.perf_counter()
        cache.plan.store.clear()
        cache.output.read()
        row("4096 misses at once on all workers, per block", (time.perf_counter() - began) / 4096 * 1e6, "µs")


if __name__ == "__main__":
    print(f"{'256³ uint8, blocks of 64³':<66}{'measured':>10}      {'goal':>14}")
    warm()
    growth()
    packed()
    cold()
    labels()
