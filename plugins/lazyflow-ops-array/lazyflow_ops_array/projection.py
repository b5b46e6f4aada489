"""`OpProjection`: an image along one of its axes, as one pixel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from lazyflow_core import InputSlot, Operator, OutputSlot, ParameterSlot, Roi
from lazyflow_core.blocks import pieces
from lazyflow_core.errors import SetupError

from lazyflow_ops_array.base import check_real

__all__ = ["OpProjection"]

Array = npt.NDArray[Any]

#: Pixels that are read at a time.
_SLAB: Final = 1 << 21


class OpProjection(Operator):
    """Reduce an axis to one pixel: the maximum, mean or another number of each line along it.

    Inputs
    ------
    image : InputSlot, any axes, any real dtype
    axis : ParameterSlot[str]
        Key of the axis.
    method : ParameterSlot[str]
        ``"max"``, ``"min"``, ``"mean"``, ``"sum"``, ``"std"`` (divides by the number of pixels), or
        ``"percentile"``. A line with a NaN gives NaN, as for numpy.
    percentile : ParameterSlot[float]
        For that method: 50 is the median. Between two pixels it is interpolated linearly.

    Outputs
    -------
    output : OutputSlot, axes of ``image``
        The axis stays, with one pixel as thick as all were; `array.reorder_axes` drops it. ``max`` and
        ``min`` have the dtype of the image; ``sum`` int64 or uint64 for integers, which wraps around beyond,
        and float64 for floating point; the others float32, or float64 for float64 and integers beyond 16
        bits, summed up in float64.

    Regions
    -------
    pull   ``roi`` needs the whole lines through it, slab by slab except for percentiles.
    push   a dirty ROI becomes the pixels of the lines through it; a new parameter makes everything dirty.

    Memory
    ------
    Slabs of two million pixels, the result, and an array like it in float64; for percentiles the whole
    lines, twice.

    Raises
    ------
    SetupError
        If the image is complex, has no such axis, or no pixel along it.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> pixels = np.array([[1, 2, 9], [4, 4, 4]], np.uint8)
    >>> projection = OpProjection(graph=Graph(), image=pixels, axis="x")
    >>> projection.output.read().tolist()
    [[9], [4]]
    >>> projection.method.value = "mean"
    >>> projection.output.read().tolist()
    [[4.0], [4.0]]
    """

    image = InputSlot(doc="what to project")
    axis = ParameterSlot(str, default="z", doc="along which axis")
    method = ParameterSlot(
        str,
        default="max",
        choices=("max", "min", "mean", "sum", "std", "percentile"),
        doc="what becomes of a line",
    )
    percentile = ParameterSlot(float, default=50.0, range=(0, 100), doc="which one, for method 'percentile'")
    output = OutputSlot()

    def setup_outputs(self) -> int:
        """Return the position of the axis."""
        meta, key, method = self.image.meta, self.axis.value, self.method.value
        check_real(meta)
        if key not in meta.axes:
            raise SetupError(f"axis={key!r}: the image has no such axis ({meta}).")
        axis = meta.axes.index(key)
        length = meta.shape[axis]
        if not length:
            raise SetupError(f"axis={key!r}: there is no pixel along it ({meta}).")
        dtype = _dtype_of(method, meta.dtype)
        factors = [length if i == axis else 1 for i in range(meta.ndim)]
        block, most = meta.preferred_block, meta.max_block
        self.output.meta = meta.replace(
            shape=_with(meta.shape, axis, 1),
            dtype=dtype,
            axes=meta.axes.downsampled(factors, by_mean=True),
            value_range=meta.value_range if method in ("max", "min") else None,
            preferred_block=block and _with(block, axis, 1),
            max_block=most and _with(most, axis, 1),
            semantics=meta.semantics if method in ("max", "min") else "intensities",
            ram_per_pixel=dtype.itemsize
            + 16.0
            + length * 2 * max(meta.ram_per_pixel or 0, meta.dtype.itemsize),
        )
        return axis

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        method, axis = self.method.value, self.plan
        if method == "percentile":
            image = self.image.read(roi.with_axis(axis, 0, self.image.meta.shape[axis]))
            for key in _lines(out.shape, axis, image.shape[axis]):
                out[key] = _percentile(image[key], self.percentile.value, axis)
        elif method in ("max", "min"):
            extreme = np.maximum if method == "max" else np.minimum
            for first, slab in self._slabs(roi, axis):
                for key in _lines(out.shape, axis, slab.shape[axis]):
                    values = extreme.reduce(slab[key], axis=axis, keepdims=True)
                    extreme(out[key], values, out=out[key]) if first else np.copyto(out[key], values)
        elif method == "sum":
            out[...] = 0
            for _, slab in self._slabs(roi, axis):
                for key in _lines(out.shape, axis, slab.shape[axis]):
                    out[key] += np.add.reduce(slab[key], axis=axis, dtype=out.dtype, keepdims=True)
        else:
            self._moments(roi, axis, out, squares=method == "std")

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        self.output.mark_dirty(roi.with_axis(self.plan, 0, 1))

    def _slabs(self, roi: Roi, axis: int) -> Iterator[tuple[int, Array]]:
        """Give the lines through a region piece by piece, each with how many pixels were before it."""
        meta = self.image.meta
        length = meta.shape[axis]
        step = meta.preferred_block[axis] if meta.preferred_block else 1
        thickness = max(step, _SLAB // roi.size // step * step)
        for start in range(0, length, thickness):
            stop = min(start + thickness, length)
            yield start, self.image.read(roi.with_axis(axis, start, stop))

    def _moments(self, roi: Roi, axis: int, out: Array, squares: bool) -> None:
        """Write the mean of each line, or its standard deviation; parts join as in `blockwise.summary_of`."""
        mean, spread = np.zeros(out.shape), np.zeros(out.shape if squares else ())
        with np.errstate(all="ignore"):
            for before, slab in self._slabs(roi, axis):
                count = slab.shape[axis]
                for key in _lines(out.shape, axis, count):
                    part = slab[key]
                    own = np.add.reduce(part, axis=axis, dtype=np.float64, keepdims=True)
                    own /= count
                    if not before:
                        apart, mean[key] = 0.0, own
                    else:
                        apart = own - mean[key]
                        mean[key] += apart * (count / (before + count))
                        lost = ~np.isfinite(mean[key])
                        if lost.any():  # infinite pixels
                            mean[key][lost] = (mean[key] + own)[lost]
                    if squares:
                        away = part - own
                        spread[key] += np.add.reduce(np.square(away, out=away), axis=axis, keepdims=True)
                        if before:
                            spread[key] += np.square(apart) * (before * count / (before + count))
            out[...] = np.sqrt(spread / self.image.meta.shape[axis]) if squares else mean


def _lines(shape: tuple[int, ...], axis: int, length: int) -> Iterator[tuple[Any, ...]]:
    """Give keys that cut a projected array into pieces of whole lines, which are so long."""
    return pieces(shape, max(1, (1 << 18) // length))


def _percentile(lines: Array, percentile: float, axis: int) -> Array:
    if lines.dtype.kind == "b":
        lines = lines.astype(np.uint8)
    elif lines.dtype.itemsize < 4 and lines.dtype.kind == "f":
        lines = lines.astype(np.float32)
    place = percentile / 100 * (lines.shape[axis] - 1)
    low, fraction = int(place), place - int(place)
    wanted = [low, low + 1] if fraction else [low]
    parted = np.partition(lines, [*wanted, -1] if lines.dtype.kind == "f" else wanted, axis=axis)
    take = [np.take(parted, [index], axis=axis).astype(np.float64) for index in wanted]
    with np.errstate(all="ignore"):
        result = take[0]
        if fraction:
            result = np.where(take[0] == take[1], take[0], take[0] + (take[1] - take[0]) * fraction)
    if lines.dtype.kind == "f":
        # NaN is sorted to the end.
        result = np.where(np.isnan(np.take(parted, [-1], axis=axis)), np.nan, result)
    return result


def _dtype_of(method: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    if method in ("max", "min"):
        return dtype
    if method != "sum":
        return np.result_type(dtype, np.float32).newbyteorder("=")
    return np.dtype({"f": np.float64, "u": np.uint64}.get(dtype.kind, np.int64))


def _with(values: tuple[int, ...], axis: int, value: int) -> tuple[int, ...]:
    return (*values[:axis], value, *values[axis + 1 :])
