"""How much does the graph cost per operator, per hop, per change? Printed beside goals and peers.

    python benchmarks/graph.py

What is compared is measured in turns, a short batch of each and that many times over, so that whatever else
the machine does meets all of them; the figure of each is its smallest batch. The layers are compared with
numpy doing the same per block, and with dask where it is installed; where threads compete for the interpreter
single batches differ much, so the ratio of the medians is told, too.
"""

from __future__ import annotations

import gc
import itertools
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

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


def measure(
    functions: Mapping[str, Callable[[], object]],
    seconds: float = 1.0,
    rounds: int = 200,
    clock: Callable[[], float] = time.thread_time,
    pick: Callable[[list[float]], float] = min,
) -> dict[str, float]:
    """Return the seconds that a call of each function takes.

    Of this thread's processor time, unless said otherwise. The functions take turns for ``seconds`` in all,
    in batches of such a length that there are ``rounds`` of them where a call is short enough.
    """
    numbers = {}
    for name, function in functions.items():
        function()
        began = clock()
        function()
        once = max(clock() - began, 1e-7)
        numbers[name] = max(1, int(seconds / len(functions) / rounds / once))
    gc.collect()
    batches: dict[str, list[float]] = {name: [] for name in functions}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or not all(batches.values()):
        for name, function in functions.items():
            calls = range(numbers[name])
            began = clock()
            for _ in calls:
                function()
            batches[name].append((clock() - began) / numbers[name])
    return {name: pick(times) for name, times in batches.items()}


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
    roi, inner = Roi((0, 0), (4, 5)), Roi((1, 1), (3, 4))
    out, part = np.empty((4, 5), np.uint8), np.empty((2, 3), np.uint8)
    # All of them on one stack: deeper chains have a request in between, which has a row of its own.
    length = 20
    with Graph() as graph:
        leaf = OpLeaf(graph=graph, image=image)
        many, passes = chain(OpNothing, length, image, graph), chain(OpPass, length, image, graph)
        for first in (many[0], passes[0]):
            first.image.connect(leaf.output)
        deep = chain(OpNothing, 1000, image, graph)[-1].output
        first, last, aliased = leaf.output, many[-1].output, passes[-1].output
        t = measure(
            {
                "call": lambda: None,
                "hop": lambda: first.request(roi).write_into(out).wait(),
                "one": lambda: first.read(roi, out=out),
                "many": lambda: last.read(roi, out=out),
                "one, inner": lambda: first.read(inner, out=part),
                "many, inner": lambda: last.read(inner, out=part),
                "aliased": lambda: aliased.read(roi, out=out),
            },
            seconds=4,
        )
        wall = measure({"deep": lambda: deep.read(roi, out=out)}, clock=time.perf_counter)
    row("a Python call", t["call"] * 1e6, None)
    row("hop: slot.request(roi).write_into(dest).wait()", t["hop"] * 1e6, 4)
    row("hop: read inside an operator", (t["many"] - t["one"]) / length * 1e6, 0.8)
    row("   of a part of the array", (t["many, inner"] - t["one, inner"]) / length * 1e6, 0.8)
    row("   in a chain of 1 000 operators", wall["deep"] / 1000 * 1e6, None)
    row("hop: pass-through", max(0, t["aliased"] - t["one"]) / length * 1e6, 0.02)


def changes() -> None:
    image = np.zeros((4, 5), np.uint8)
    length = 200
    with Graph() as graph:
        operators, others = chain(OpNothing, length, image, graph), chain(OpNothing, length, image, graph)
        source = OpSource(graph=graph)
        others[0].image.connect(source.output)
        operators[-1].output.dirty.subscribe(lambda slot, roi: None)
        roi = Roi((0, 0), (2, 2))
        highest = itertools.count(1)

        def change_meta() -> None:
            source.output.meta = source.output.meta.replace(value_range=(0, next(highest)))

        t = measure({"dirty": lambda: operators[0].image.mark_dirty(roi), "meta": change_meta}, seconds=2)
    row("dirty, per operator", t["dirty"] / length * 1e6, 3)
    row("another meta, per operator", t["meta"] / length * 1e6, 5)


def building() -> None:
    image = np.zeros((4, 5), np.uint8)
    number = 1_000

    class OpLanes(Operator):
        images = InputSlot(level=1)
        results = OutputSlot(level=1)

        def __init__(self, **slots) -> None:
            Lanes(self.images, lambda image: OpNothing(parent=self, image=image), {self.results: "output"})
            super().__init__(**slots)

    t = measure(
        {
            "create": lambda: chain(OpNothing, number, image, Graph()),
            "lanes": lambda: OpLanes(graph=Graph(), images=[image] * 1000),
        },
        seconds=4,
    )
    t |= measure({"many lanes": lambda: OpLanes(graph=Graph(), images=[image] * 10_000)})
    row("create and connect an operator", t["create"] / number * 1e6, 25)
    row("create 1 000 lanes", t["lanes"], 1, "s")
    row("create 10 000 lanes", t["many lanes"], None, "s")
    gc.collect()
    tracemalloc.start()
    graph = Graph()
    chain(OpNothing, number, image, graph)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    row("bytes per such operator", size / number, 3000, "B")


def connecting() -> None:
    """Connect operators that are there and have nothing yet, in every order."""
    length = 100
    pairs = list(itertools.pairwise(range(length)))
    mixed = random.Random(0).sample(pairs, len(pairs))

    def connected(order: Iterable[tuple[int, int]]) -> None:
        graph = Graph()
        operators = [OpNothing(graph=graph) for _ in range(length)]
        for before, behind in order:
            operators[behind].image.connect(operators[before].output)

    t = measure(
        {
            "made": lambda: connected(()),
            "along": lambda: connected(pairs),
            "against": lambda: connected(reversed(pairs)),
            "mixed": lambda: connected(mixed),
        },
        seconds=4,
    )
    for order, what in (("along", "from its beginning"), ("against", "from its end"), ("mixed", "at random")):
        price = (t[order] - t["made"]) / len(pairs) * 1e6
        row(f"connect a chain of {length} {what}, per operator", price, 25)


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

    t = measure({"all": all_of_it}, seconds=0.3)
    row("describe, dirty and read a block of 2⁴⁰ pixels, 10 operators", t["all"], 1, "s")


def layers() -> None:
    depth = 10
    image = np.random.default_rng(0).integers(0, 100, (256, 256, 256), dtype=np.uint8)
    small = Roi((3, 64, 64), (4, 128, 128))
    with Graph(ThreadedScheduler(2)) as graph, ThreadPoolExecutor(2) as pool:
        last = chain(OpAddOne, depth, image, graph)[-1].output
        plan = plan_blocks(last.meta, block_shape=(64, 64, 64), workers=2)

        def ours() -> None:
            process_blocks(last, lambda roi, array: None, plan)

        def by_hand() -> None:
            def block(roi: Roi) -> None:
                array = image[roi.slicing].copy()
                for _ in range(depth):
                    np.add(array, 1, out=array)

            list(pool.map(block, plan.grid))

        both = {"ours": ours, "by hand": by_hand}
        few = {"ours": lambda: last.read(small)}
        try:
            import dask.array
        except ImportError:
            print("   (dask is not installed)")
        else:
            lazy = dask.array.from_array(image, chunks=64)
            for _ in range(depth):
                lazy = lazy + np.uint8(1)
            part = lazy[small.slicing]
            both["dask"] = lambda: lazy.compute(scheduler="threads", num_workers=2)
            few["dask"] = lambda: part.compute(scheduler="threads", num_workers=2)
        wall = time.perf_counter
        t = measure(few, seconds=1, clock=wall)
        row("10 layers, ROI (1, 64, 64), from a foreign thread", t["ours"] * 1e3, 0.15, "ms")
        if "dask" in t:
            row("   dask", t["dask"] * 1e3, None, "ms")
        medians: list[float] = []

        def smallest(times: list[float]) -> float:
            medians.append(statistics.median(times))
            return min(times)

        t = measure(both, seconds=8, clock=wall, pick=smallest)
        row("10 layers over 256³ in 64³ blocks: ours", t["ours"] * 1e3, None, "ms")
        row("   numpy by hand in a ThreadPoolExecutor", t["by hand"] * 1e3, None, "ms")
        row("   ratio", t["ours"] / t["by hand"], 1.15, "×", f"of medians {medians[0] / medians[1]:.2f} ×")
        if "dask" in t:
            row("   dask, which fuses the layers", t["dask"] * 1e3, None, "ms")


if __name__ == "__main__":
    print(f"{'':<66}{'measured':>10} {'':<6}{'goal':>10}")
    hops()
    changes()
    building()
    connecting()
    large()
    layers()
