"""Does a change wait for a computation, or a computation for a change?

    python benchmarks/edits.py [--quick]

What is made beside something long is made on an idle graph in turns with it, and compared by medians: single
times say how busy the machine is. Long computations are numpy's, which let other threads run.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import statistics
import threading
import time
from collections.abc import Callable

import numpy as np

from lazyflow_core import Graph, InputSlot, Operator, OutputSlot, ParameterSlot, Roi, get_operator
from lazyflow_core.errors import SetupError
from lazyflow_core.request import ThreadedScheduler, checkpoint
from lazyflow_core.utility import plan_blocks, process_blocks

IMAGE = np.zeros((64, 64), np.float32)


class OpAdd(Operator):
    image = InputSlot()
    amount = ParameterSlot(float, default=0.0)
    output = OutputSlot()

    def setup_outputs(self) -> None:
        self.output.meta = self.image.meta

    def execute(self, slot, roi, out) -> None:
        np.add(self.image.read(roi), np.float32(self.amount.value), out=out)

    def propagate_dirty(self, slot, roi) -> None:
        self.output.mark_dirty(roi)


class OpSlow(OpAdd):
    """Computes until it is told to stop."""

    stop = threading.Event()
    began = threading.Semaphore(0)

    def execute(self, slot, roi, out) -> None:
        self.began.release()
        work = np.ones(2**16)
        while not self.stop.is_set():
            np.sin(work, out=work)
            checkpoint()
        super().execute(slot, roi, out)


class OpNewMeta(OpAdd):
    """Changes its meta with its parameter, so that everything behind it is set up."""

    def setup_outputs(self) -> None:
        self.output.meta = self.image.meta.replace(value_range=(0, self.amount.value + 1))


def row(
    what: str, value: float, unit: str, beside: float | None = None, goal: str = "", ok: bool = True
) -> None:
    ratio = "" if beside is None else f"{value / beside:>7.2f} ×"
    print(f"{what:<62}{value:>10.3f} {unit:<8}{ratio:<10}{goal}{'' if ok or not goal else '  MISSED'}")


def timed(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return (time.perf_counter() - began) * 1e3


def beside_computations(rounds: int) -> None:
    """Change the branch that is being computed, and in turns an idle graph of the same shape."""
    values = itertools.count(1)
    with ThreadedScheduler(2) as scheduler, Graph(scheduler) as busy, Graph() as idle:
        branches = {}
        for graph in (busy, idle):
            source = OpAdd(graph=graph, image=IMAGE)
            other = OpAdd(graph=graph, image=IMAGE)
            branches[graph] = (source, other, OpSlow(graph=graph, image=source.output))
        requests = [branches[busy][2].output[:].submit() for _ in range(2)]
        for _ in requests:
            OpSlow.began.acquire()
        made: dict[Graph, list[Operator]] = {busy: [], idle: []}

        def change(what: str, graph: Graph) -> None:
            source, other, slow = branches[graph]
            if what == "set a parameter":
                source.amount.value = float(next(values))
            elif what == "set one of the operator that computes":
                slow.amount.value = float(next(values))
            elif what == "connect":
                slow.image.connect(other.output)
                slow.image.connect(source.output)
            elif what == "a new operator":
                made[graph].append(OpAdd(graph=graph, image=slow.output))
            elif what == "close an operator":
                made[graph].pop().close()
            else:
                slow.image.mark_dirty(Roi((0, 0), (1, 1)))

        for what in (
            "set a parameter",
            "set one of the operator that computes",
            "connect",
            "a new operator",
            "close an operator",
            "mark dirty",
        ):
            times: dict[Graph, list[float]] = {busy: [], idle: []}
            for _ in range(rounds):
                for graph in (busy, idle):
                    times[graph].append(timed(lambda graph=graph, what=what: change(what, graph)))
            here, there = (statistics.median(times[graph]) for graph in (busy, idle))
            row(
                f"{what}, beside two computations",
                here,
                "ms",
                there,
                "≤ 1.2 × + 2 ms",
                here <= 1.2 * there + 2,
            )
        assert not any(request.state.is_terminal for request in requests)
        OpSlow.stop.set()


def beside_a_setup(operators: int, rounds: int) -> None:
    """Ask for a tile of an unrelated branch while a change sets up a long chain, or nothing happens."""
    with ThreadedScheduler(2) as scheduler, Graph(scheduler) as graph:
        tile = OpAdd(graph=graph, image=IMAGE)
        first = last = OpNewMeta(graph=graph, image=IMAGE)
        for _ in range(operators):
            last = OpAdd(graph=graph, image=last.output)
        part = Roi((0, 0), (16, 16))
        going, over = threading.Event(), threading.Event()

        def change() -> None:
            for number in itertools.count(1):
                if over.is_set():
                    return
                going.set()
                first.amount.value = float(number)
                going.clear()

        def tiles() -> list[float]:
            return [timed(lambda: tile.output.read(part)) for _ in range(rounds)]

        idle = tiles()
        changer = threading.Thread(target=change)
        changer.start()
        busy: list[float] = []
        while len(busy) < rounds:
            going.wait()
            busy.append(timed(lambda: tile.output.read(part)))
        over.set()
        changer.join()
        setup = timed(lambda: setattr(first.amount, "value", -1.0))
    row(f"   (such a change of {operators} operators alone)", setup, "ms")
    here, there = statistics.median(busy), statistics.median(idle)
    row("a tile beside that change", here, "ms", there, "≤ 1.2 ×, but for the interpreter it shares", True)
    row("   the slowest of a hundred", float(np.percentile(busy, 99)), "ms", float(np.percentile(idle, 99)))


def beside_an_export(seconds: float) -> None:
    """Streaming a volume while its parameters are changed so many times a second."""
    volume = np.zeros((64, 512, 512), np.float32)
    with ThreadedScheduler(2) as scheduler, Graph(scheduler) as graph:
        source = OpAdd(graph=graph, image=volume)
        output = OpAdd(graph=graph, image=source.output).output
        listener = OpAdd(graph=graph, image=source.output)
        listener.output.dirty.subscribe(lambda slot, roi: None)
        plan = plan_blocks(output.meta, block_shape=(16, 128, 128), workers=2)

        def stream(until: float) -> float:
            began, blocks = time.perf_counter(), 0
            seen: list[float] = []
            while time.perf_counter() - began < until:
                seen.clear()
                process_blocks(output, lambda roi, array: seen.append(float(array[0, 0, 0])), plan)
                assert len(set(seen)) == 1, "an export mixed two versions"
                blocks += len(plan)
            return blocks / (time.perf_counter() - began)

        def changing(rate: float, over: threading.Event, count: list[int]) -> None:
            next_ = time.perf_counter()
            while not over.is_set():
                source.amount.value = float(count[0] % 1000)
                count[0] += 1
                next_ += 1 / rate
                pause = next_ - time.perf_counter()
                if pause > 0:
                    time.sleep(pause)

        for rate in (1_000, 10_000):
            speeds: dict[bool, list[float]] = {False: [], True: []}
            count, sizes, spent = [0], [], 0.0
            for _ in range(4):
                for busy in (False, True):
                    over = threading.Event()
                    changer = threading.Thread(target=changing, args=(rate, over, count))
                    if busy:
                        changer.start()
                    began = time.perf_counter()
                    speeds[busy].append(stream(seconds / 8))
                    over.set()
                    spent += busy * (time.perf_counter() - began)
                    if busy:
                        changer.join()
                    gc.collect()
                    sizes.append(len(gc.get_objects()))
            here, there = statistics.median(speeds[True]), statistics.median(speeds[False])
            goal = "≥ 0.9 ×" if rate == 1_000 else ""
            what = f"blocks a second beside {count[0] / spent:.0f} changes a second of {rate} wanted"
            row(what, here, "1/s", there, goal, here >= 0.9 * there)
            growth = max(sizes[2:]) - sizes[1]
            row("   objects more at the end than at the beginning", growth, "", None, "≤ 100", growth <= 100)


def refused() -> None:
    """Blocks that a cache loses when a change is refused behind it."""

    class OpRefuses(OpAdd):
        def setup_outputs(self) -> None:
            if self.image.meta.shape[0] < 64:
                raise SetupError("too thin")
            super().setup_outputs()

    with Graph() as graph:
        crop = get_operator("array.crop")(graph=graph, image=np.zeros((64, 64, 64), np.float32))
        cache = get_operator("cache.blocks")(graph=graph, image=crop.output, block=(16, 16, 16))
        OpRefuses(graph=graph, image=cache.output).output.read()
        before = len(cache.clean_blocks)
        with contextlib.suppress(SetupError):
            crop.roi.value = "0:32, :, :"
        lost = before - len(cache.clean_blocks)
    row(f"blocks of {before} that a refused change loses", lost, "", None, "0", lost == 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    quick = parser.parse_args().quick
    print(f"{'':<62}{'measured':>10} {'':<8}{'of idle':<10}goal")
    beside_computations(30 if quick else 200)
    beside_a_setup(1_000, 200 if quick else 2_000)
    beside_an_export(4 if quick else 20)
    refused()
