"""How much does the graph cost per operator, per hop, per change? Printed beside goals and peers.

    python benchmarks/graph.py

Every figure is the smallest of several repeats in one run; ratios are of figures of the same run. The
layers benchmark compares with numpy doing the same per block, and with dask where it is installed.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from lazyflow_core import ArrayMeta, Graph, InputSlot, Operator, OutputSlot, Roi
from lazyflow_core.graph import Lanes
from lazyflow_core.request import ThreadedScheduler
from lazyflow_core.utility import plan_blocks, process_blocks


class OpAddOne(Operator):
    image = InputSlot()
    output = OutputSlot()

    def setup_outputs(self) -> None:
        self.output.meta = self.image.meta

    def execute(self, slot, roi, out) -> None:
        np.add(self.image.read(roi, out=out), 1, out=out)

    def propagate_dirty(self, slot, roi) -> None:
        self.output.mark_dirty(roi)


class OpNothing(OpAddOne):
    """One hop and nothing else."""

    def execute(self, slot, roi, out) -> None:
        self.image.read(roi, out=out)


class OpLeaf(OpAddOne):
    """Answers without computing or asking."""

    def execute(self, slot, roi, out) -> None:
        pass


class OpSource(Operator):
    """Knows what it looks like, and nothing else."""

    output = OutputSlot()

    def setup_outputs(self) -> None:
        self.output.meta = ArrayMeta((4, 5), np.uint8)

    def execute(self, slot, roi, out) -> None:
        out[...] = 0


class OpPass(Operator):
    """A connection from input to output."""

    image = InputSlot()
    output = OutputSlot()

    def __init__(self, **slots) -> None:
        super().__init__(**slots)
        self.output.connect(self.image)


def best(function: Callable[[], object], number: int, repeats: int = 7, clock=time.thread_time) -> float:
    """Return the smallest mean seconds of a call.

    Of this thread's processor time, unless said otherwise: all of it happens here, and other programs on
    the machine disturb it less.
    """
    times = []
    for _ in range(repeats):
        began = clock()
        for _ in range(number):
            function()
        times.append((clock() - began) / number)
    return min(times)


def chain(kind: type[Operator], length: int, image: np.ndarray, graph: Graph) -> list[Operator]:
    operators: list[Operator] = []
    for _ in range(length):
        operators.append(kind(graph=graph, image=operators[-1].output if operators else image))
    return operators


def row(what: str, value: float, goal: float | None, unit: str = "µs", note: str = "") -> None:
    verdict = "" if goal is None else ("  ok" if value <= goal else "  MISSED")
    goal_text = "" if goal is None else f"≤ {goal:g}"
    print(f"{what:<66}{value:>10.2f} {unit:<6}{goal_text:>10}{verdict}  {note}")


def hops() -> None:
    image = np.zeros((4, 5), np.uint8)
    roi = Roi((0, 0), (4, 5))
    out = np.empty((4, 5), np.uint8)
    with Graph() as graph:
        call = best(lambda: None, 100_000)
        row("a Python call", call * 1e6, None)
        leaf = OpLeaf(graph=graph, image=image)
        request = best(lambda: leaf.output.request(roi).write_into(out).wait(), 20_000)
        row("hop: slot.request(roi).write_into(dest).wait()", request * 1e6, 4)

        # One hop inside an operator: the difference of chains of 31 and 1, per operator.
        short, long = OpLeaf(graph=graph, image=image), chain(OpNothing, 30, image, graph)
        long[0].image.connect(short.output)
        one = best(lambda: short.output.read(roi, out=out), 20_000)
        many = best(lambda: long[-1].output.read(roi, out=out), 2_000)
        row("hop: read inside an operator", (many - one) / 30 * 1e6, 0.8)

        passes = chain(OpPass, 30, image, graph)
        passes[0].image.connect(short.output)
        aliased = best(lambda: passes[-1].output.read(roi, out=out), 20_000)
        row("hop: pass-through", (aliased - one) / 30 * 1e6, 0.02)


def changes() -> None:
    image = np.zeros((4, 5), np.uint8)
    length = 200
    with Graph() as graph:
        operators = chain(OpNothing, length, image, graph)
        operators[-1].output.dirty.subscribe(lambda slot, roi: None)
        roi = Roi((0, 0), (2, 2))
        dirty = best(lambda: operators[0].image.mark_dirty(roi), 50)
        row("dirty, per operator", dirty / length * 1e6, 3)

        source = OpSource(graph=graph)
        operators[0].image.connect(source.output)
        highest = iter(range(1, 10**9))

        def change_meta() -> None:
            source.output.meta = source.output.meta.replace(value_range=(0, next(highest)))

        meta = best(change_meta, 20)
        row("another meta, per operator", meta / length * 1e6, 5)


def building() -> None:
    image = np.zeros((4, 5), np.uint8)
    number = 2_000

    def seconds() -> float:
        graph = Graph()
        began = time.thread_time()
        chain(OpNothing, number, image, graph)
        return time.thread_time() - began

    row("create and connect an operator", min(seconds() for _ in range(3)) / number * 1e6, 25)

    class OpLanes(Operator):
        images = InputSlot(level=1)
        results = OutputSlot(level=1)

        def __init__(self, **slots) -> None:
            Lanes(self.images, lambda image: OpNothing(parent=self, image=image), {self.results: "output"})
            super().__init__(**slots)

    lanes = best(lambda: OpLanes(graph=Graph(), images=[image] * 1000), 1, 3)
    row("create 1 000 lanes", lanes, 1, "s")
    gc.collect()
    tracemalloc.start()
    graph = Graph()
    chain(OpNothing, number, image, graph)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    row("bytes per such operator", size / number, 3000, "B")


def large() -> None:
    """A volume of 2⁴⁰ pixels through ten operators."""
    block = Roi((10_000, 5_000, 5_000), (10_064, 5_064, 5_064))

    def all_of_it() -> None:
        with Graph() as graph:
            source = OpSource(graph=graph)
            slot = source.output
            source.output.meta = ArrayMeta((2**14, 2**13, 2**13), np.uint8, axes="zyx")
            for _ in range(10):
                slot = OpNothing(graph=graph, image=slot).output
            graph.describe()
            source.output.mark_dirty()
            slot.read(block)

    row("describe, dirty and read a block of 2⁴⁰ pixels, 10 operators", best(all_of_it, 1), 1, "s")


def layers() -> None:
    depth = 10
    image = np.random.default_rng(0).integers(0, 100, (256, 256, 256), dtype=np.uint8)
    small = Roi((3, 64, 64), (4, 128, 128))
    with Graph(ThreadedScheduler(2)) as graph:
        last = chain(OpAddOne, depth, image, graph)[-1].output
        row(
            "10 layers, ROI (1, 64, 64), from a foreign thread",
            best(lambda: last.read(small), 500) * 1e3,
            0.15,
            "ms",
        )

        def ours() -> None:
            plan = plan_blocks(last.meta, block_shape=(64, 64, 64), workers=2)
            process_blocks(last, lambda roi, array: None, plan)

        def by_hand() -> None:
            from concurrent.futures import ThreadPoolExecutor

            def block(roi: Roi) -> None:
                array = image[roi.slicing].copy()
                for _ in range(depth):
                    np.add(array, 1, out=array)

            grid = plan_blocks(last.meta, block_shape=(64, 64, 64), workers=2).grid
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(block, grid))

        wall = time.perf_counter
        t_ours, t_hand = best(ours, 1, clock=wall), best(by_hand, 1, clock=wall)
        row("10 layers over 256³ in 64³ blocks: ours", t_ours * 1e3, None, "ms")
        row("   numpy by hand in a ThreadPoolExecutor", t_hand * 1e3, None, "ms")
        row("   ratio", t_ours / t_hand, 1.15, "×")
        try:
            import dask.array
        except ImportError:
            print("   (dask is not installed)")
        else:
            lazy = dask.array.from_array(image, chunks=64)
            for _ in range(depth):
                lazy = lazy + np.uint8(1)
            t_dask = best(lambda: lazy.compute(scheduler="threads", num_workers=2), 1, 3, wall)
            row(
                "   dask, which fuses the layers",
                t_dask * 1e3,
                None,
                "ms",
                f"{t_ours / t_dask:.2f} × of it is ours",
            )
            t_small = best(
                lambda: lazy[small.slicing].compute(scheduler="threads", num_workers=2), 1, 5, wall
            )
            row("   dask, ROI (1, 64, 64)", t_small * 1e3, None, "ms")


if __name__ == "__main__":
    print(f"{'':<66}{'measured':>10} {'':<6}{'goal':>10}")
    hops()
    changes()
    building()
    large()
    layers()
