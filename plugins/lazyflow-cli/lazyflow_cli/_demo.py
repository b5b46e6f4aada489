"""What the demo computes with: generated cells, and a chain of the operators that are installed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from lazyflow_core import ArrayMeta, Axes, Axis, Graph, InputSlot, Operator, OutputSlot, Roi, get_operator
from lazyflow_core.errors import PluginError

__all__ = ["CountingArray", "OpEdges", "build", "cells", "meta_of"]

_SHAPE = (48, 192, 192)
_CELLS = 70

#: Operators by id with their parameters, in the order they are chained.
_CHAIN: tuple[tuple[str, dict[str, Any]], ...] = (
    ("filters.gaussian_smoothing", {"sigma": 1.5}),
    ("filters.gaussian_gradient_magnitude", {"sigma": 1.0}),
    ("array.threshold", {"level": 18.0}),
)


class OpEdges(Operator):
    """Compute how much a pixel differs from its right and lower neighbours.

    Inputs
    ------
    image : InputSlot, at least two axes, any real dtype

    Outputs
    -------
    output : OutputSlot, shape and axes of ``image``, float32

    Regions
    -------
    pull   ``roi`` needs one more pixel at the ends of the last two axes, where there is one.
    push   a dirty ROI grows by one pixel at the beginning of the last two axes.

    Memory
    ------
    Three times the region in float32.
    """

    image = InputSlot()
    output = OutputSlot()

    def setup_outputs(self) -> None:
        """Announce float32 of the same shape."""
        self.output.meta = self.image.meta.replace(dtype=np.float32, value_range=None)

    def execute(self, slot: Any, roi: Roi, out: npt.NDArray[Any]) -> None:
        """Compute one region."""
        plane = (0,) * (roi.ndim - 2)
        wanted = Roi(roi.start, np.add(roi.stop, (*plane, 1, 1)))
        there = wanted & self.image.meta.roi
        missing = np.subtract(wanted.stop, there.stop)
        image = self.image.read(there).astype(np.float32)
        image = np.pad(image, [(0, n) for n in missing], mode="edge")
        center = image[..., :-1, :-1]
        np.hypot(image[..., 1:, :-1] - center, image[..., :-1, 1:] - center, out=out)

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        """A changed pixel changes itself and the neighbours that look at it."""
        plane = (0,) * (roi.ndim - 2)
        self.output.mark_dirty(Roi(np.maximum(np.subtract(roi.start, (*plane, 1, 1)), 0), roi.stop))


class CountingArray:
    """An array that counts how many of its pixels were read."""

    def __init__(self, data: npt.NDArray[Any]) -> None:
        self._data = data
        self.shape = data.shape
        self.dtype = data.dtype
        self.pixels_read = 0

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        part: npt.NDArray[Any] = self._data[key]
        self.pixels_read += part.size
        return part


def cells() -> npt.NDArray[np.uint8]:
    """Return a volume of cells with bright walls, noisy as under a microscope; the same every time."""
    random = np.random.default_rng(7)
    # Planes lie further apart than the pixels in them.
    axes = [np.arange(n, dtype=np.float32) * step for n, step in zip(_SHAPE, (1.6, 1.0, 1.0), strict=True)]
    nearest = np.full(_SHAPE, np.inf, np.float32)
    second = nearest.copy()
    inside = np.zeros(_SHAPE, np.float32)
    for _ in range(_CELLS):
        z, y, x = ((axis - random.uniform(0, axis[-1])) ** 2 for axis in axes)
        distance = np.sqrt(z[:, None, None] + y[:, None] + x).astype(np.float32)
        inside[distance < nearest] = random.uniform(10, 70)
        second = np.minimum(second, np.maximum(distance, nearest))
        nearest = np.minimum(distance, nearest)
    wall = 160 * np.exp(-(((second - nearest) / 3.0) ** 2))
    noisy = random.poisson((inside + wall) * 0.5) / 0.5
    result: npt.NDArray[np.uint8] = noisy.clip(0, 255).astype(np.uint8)
    return result


def meta_of(volume: CountingArray) -> ArrayMeta:
    """Return what is known of the volume, pixel sizes included."""
    axes = Axes(
        Axis(key, unit="micrometer", resolution=size)
        for key, size in zip("zyx", (0.4, 0.25, 0.25), strict=True)
    )
    return ArrayMeta(volume.shape, volume.dtype, axes)


def build(graph: Graph, volume: CountingArray, meta: ArrayMeta) -> list[Any]:
    """Return a chain of operators over the volume: those of `_CHAIN` that are installed, or `OpEdges`."""
    operators: list[Any] = []
    for operator_id, parameters in _CHAIN:
        try:
            operator = get_operator(operator_id)
        except PluginError:
            continue
        operators.append(operator(graph=graph, name=operator_id, **parameters))
    operators = operators or [OpEdges(graph=graph, name="edges")]
    for upstream, downstream in pairwise(operators):
        downstream.image.connect(upstream.output)
    operators[0].image.assign(volume, meta)
    return operators
