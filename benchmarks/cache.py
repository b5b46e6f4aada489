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

from lazyflow_core import Graph, InputSlot, Operator, OutputSlot, Roi

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


def warm() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE,) * 3, np.uint8)
    with Graph() as graph:
        cache = make_cache(graph, pixels, (BLOCK,) * 3)
        out = cache.output.read()

        copied, read = best(lambda: np.copyto(out, pixels), lambda: cache.output.read(out=out))
        row("warm read of everything against a numpy copy of it", copied / read, "×", 0.5, at_least=True)
        blocks = [(roi.slicing, np.ascontiguousarray(pixels[roi.slicing])) for roi in cache.clean_blocks]

        def by_hand() -> None:
            for slicing, block in blocks:
                out[slicing] = block

        hand, read = best(by_hand, lambda: cache.output.read(out=out))
        row("   against a numpy loop that copies the same blocks", hand / read, "×")

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
    per_block = []
    for side in (64, 32, 16):
        with Graph() as graph:
            cache = make_cache(graph, pixels, (side,) * 3)
            out = cache.output.read()
            count = (SIDE // side) ** 3
            plain = [(roi.slicing, np.ascontiguousarray(pixels[roi.slicing])) for roi in cache.clean_blocks]

            def by_hand(plain=plain, out=out) -> None:
                for slicing, block in plain:
                    out[slicing] = block

            read, hand = best(lambda cache=cache, out=out: cache.output.read(out=out), by_hand, repeats=7)
            per_block.append((read - hand) / count * 1e6)
            row(
                f"warm read of everything, {count} blocks",
                read * 1e3,
                "ms",
                note=f"by hand {hand * 1e3:.1f} ms",
            )
    row("   more than numpy by hand, per block of 4096", per_block[-1], "µs")


def cold() -> None:
    pixels = np.zeros((64, 64, 64), np.uint8)
    with Graph() as graph:
        smooth = OpSmoothish(graph=graph, image=pixels)
        cache = OpBlockCache(graph=graph, image=smooth.output, block=(4, 4, 4))
        one = Roi((0, 0, 0), (4, 4, 4))

        def miss() -> None:
            cache._store.clear()
            cache.output.read(one)

        missed, computed = best(miss, lambda: smooth.output.read(one), number=300)
        row("a miss, besides computing the block", (missed - computed) * 1e6, "µs")

        began = time.perf_counter()
        cache._store.clear()
        cache.output.read()
        row("4096 misses at once on all workers, per block", (time.perf_counter() - began) / 4096 * 1e6, "µs")


if __name__ == "__main__":
    print(f"{'256³ uint8, blocks of 64³':<66}{'measured':>10}      {'goal':>14}")
    warm()
    growth()
    cold()
