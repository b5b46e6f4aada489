"""What do array operators cost, next to numpy on the whole array and to scikit-image?

Stacking, reordering, selecting and ten layers of arithmetic over 256³ pixels, against the same by hand.
Functions take turns, so that whatever else the machine does meets all of them; times are processor times
where one thread works, and wall times besides where several do. (Not called ``array``: that would hide the
module of the standard library from everything that runs from this folder.)
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from lazyflow_ops_array.channel import OpChannel
from lazyflow_ops_array.downsample import OpDownsample
from lazyflow_ops_array.expression import OpExpression
from lazyflow_ops_array.pixel_function import OpPixelFunction
from lazyflow_ops_array.projection import OpProjection
from lazyflow_ops_array.reorder_axes import OpReorderAxes
from lazyflow_ops_array.resize import OpResize
from lazyflow_ops_array.stack import OpStack

from lazyflow_core import Graph, InputSlot, Operator, OutputSlot
from lazyflow_core.request import ThreadedScheduler
from lazyflow_core.utility import plan_blocks, process_blocks

SIDE = 256
ROUNDS = 7


def measure(
    functions: dict[str, Callable[[], object]], clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """Return the median of some rounds in which the functions take turns, in seconds."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(ROUNDS):
        for name, function in functions.items():
            began = clock()
            function()
            times[name].append(clock() - began)
    return {name: statistics.median(each) for name, each in times.items()}


def row(text: str, ours: float, peer: float, goal: str) -> None:
    """Print one line: milliseconds, the peer's, and their ratio."""
    print(f"{text:<58}{ours * 1e3:>9.1f} ms{peer * 1e3:>9.1f} ms{ours / peer:>8.2f} ×   {goal}")


def plumbing(volume: Any) -> None:
    """Geometry: the pixels only move."""
    graph = Graph()
    parts = np.split(volume, 4)
    out = np.empty(volume.shape, volume.dtype)
    stack = OpStack(graph=graph, images=parts, axis="z").output
    t = measure({"ours": lambda: stack.read(out=out), "numpy": lambda: np.concatenate(parts, out=out)})
    row("stack 4 images along z", t["ours"], t["numpy"], "≤ 1.10")

    reorder = OpReorderAxes(graph=graph, image=volume, axes="xyz").output
    t = measure({"ours": lambda: reorder.read(out=out), "numpy": lambda: np.copyto(out, volume.T)})
    row("reorder zyx to xyz", t["ours"], t["numpy"], "≤ 1.10")

    colors = volume.reshape(SIDE, SIDE // 8, SIDE, 8)
    channel = OpChannel(graph=graph, channels=(1, 2, 5))
    channel.image.assign(colors, axes="zyxc")
    few = np.empty((*colors.shape[:3], 3), volume.dtype)
    t = measure(
        {
            "ours": lambda: channel.output.read(out=few),
            "numpy": lambda: np.take(colors, (1, 2, 5), axis=3, out=few, mode="clip"),
        }
    )
    row("select 3 of 8 channels", t["ours"], t["numpy"], "≤ 1.10")


def reductions(volume: Any) -> None:
    """Projection and downsampling against the best that numpy alone does."""
    graph = Graph()
    for method, best in (
        ("max", lambda: np.maximum.reduce(volume, axis=0)),
        ("mean", lambda: np.add.reduce(volume, axis=0, dtype=np.float64)),
    ):
        projection = OpProjection(graph=graph, image=volume, method=method).output
        t = measure({"ours": projection.read, "numpy": best})
        row(f"projection along z, {method}, {volume.dtype}", t["ours"], t["numpy"], "≤ 1.25")

    def by_slices() -> Any:
        wide = volume.astype(np.uint32) if volume.dtype.kind == "u" else volume
        for axis in range(3):
            even = (slice(None),) * axis + (slice(None, None, 2),)
            odd = (slice(None),) * axis + (slice(1, None, 2),)
            wide = wide[even] + wide[odd]
        return wide / 8

    down = OpDownsample(graph=graph, image=volume).output
    t = measure({"ours": down.read, "numpy": by_slices})
    row(f"downsample by 2³, mean, {volume.dtype}", t["ours"], t["numpy"], "≤ 1.25")


def resizing(volume: Any) -> None:
    """Resizing against scikit-image."""
    try:
        from skimage.transform import resize
    except ImportError:
        sys.exit("scikit-image is not installed")
    image = volume[:128, :128, :128].astype(np.float32)
    graph = Graph()
    for side in (64, 100, 200):
        ours = OpResize(graph=graph, image=image, shape=(side,) * 3).output
        t = measure(
            {"ours": ours.read, "skimage": lambda side=side: resize(image, (side,) * 3, preserve_range=True)}
        )
        row(f"resize 128³ to {side}³, float32, against scikit-image", t["ours"], t["skimage"], "≤ 0.33")


class OpAdd(Operator):
    """Add one to each pixel, as anybody would write it."""

    pixelwise = True
    image = InputSlot()
    output = OutputSlot()

    def setup_outputs(self) -> None:
        self.output.meta = self.image.meta.replace(value_range=None)

    def execute(self, slot: Any, roi: Any, out: Any) -> None:
        np.add(self.image.read(roi, out=out), 1, out=out)

    def propagate_dirty(self, slot: Any, roi: Any) -> None:
        self.output.mark_dirty(roi)


class OpAddAlone(OpAdd):
    """The same without the declaration."""

    pixelwise = False


def layers(volume: Any) -> None:
    """Ten layers that work pixel by pixel: together, one after the other, and by hand."""
    with Graph(ThreadedScheduler(2)) as graph, ThreadPoolExecutor(2) as pool:
        ends = {}
        for operator in (OpAdd, OpAddAlone):
            source: Any = volume
            for _ in range(10):
                source = operator(graph=graph, image=source).output
            ends[operator] = source
        plan = plan_blocks(ends[OpAdd].meta, workers=2)

        def by_hand() -> None:
            def block(roi: Any) -> None:
                pixels = volume[roi.slicing].copy()
                for _ in range(10):
                    np.add(pixels, 1, out=pixels)

            list(pool.map(block, plan.grid))

        functions: dict[str, Callable[[], object]] = {
            "fused": lambda: process_blocks(ends[OpAdd], lambda roi, pixels: None, plan),
            "unfused": lambda: process_blocks(ends[OpAddAlone], lambda roi, pixels: None, plan),
            "hand": by_hand,
        }
        block = "×".join(map(str, plan.grid.block))
        for name, clock in (("processor", time.process_time), ("wall", time.perf_counter)):
            t = measure(functions, clock)
            text = f"10 layers, {volume.dtype}, blocks {block}, {name} time"
            row(f"{text}: by hand", t["fused"], t["hand"], "≤ 1.05")
            row(f"{text}: unfused", t["fused"], t["unfused"], "≤ 0.60")


def expressions(volume: Any) -> None:
    """An expression against numpy on whole arrays, and a function."""
    graph = Graph()
    other = volume[::-1].copy()
    with np.errstate(all="ignore"):
        op = OpExpression(graph=graph, images=[volume, other], expression="(a - b) / (a + b + 1)").output
        t = measure({"ours": op.read, "numpy": lambda: (volume - other) / (volume + other + np.float32(1))})
        row("(a - b) / (a + b + 1), float32", t["ours"], t["numpy"], "≤ 1")
    op = OpPixelFunction(graph=graph, image=volume, function="sqrt").output
    t = measure({"ours": op.read, "numpy": lambda: np.sqrt(volume)})
    row("sqrt, float32", t["ours"], t["numpy"], "≤ 1.10")


if __name__ == "__main__":
    chance = np.random.default_rng(0)
    floats = chance.random((SIDE,) * 3, dtype=np.float32)
    bytes_ = (floats * 255).astype(np.uint8)
    print(f"{'':<58}{'ours':>12}{'peer':>12}{'ratio':>10}   goal")
    plumbing(bytes_)
    reductions(bytes_)
    reductions(floats)
    resizing(floats)
    expressions(floats)
    layers(floats)
    layers(bytes_)
