"""`OpDownsample` and `OpPyramid`: fewer, larger pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from lazyflow_core import ArrayMeta, InputSlot, Operator, OutputSlot, ParameterSlot, Roi
from lazyflow_core.blocks import pieces
from lazyflow_core.errors import SetupError

from lazyflow_ops_array.base import check_real
from lazyflow_ops_array.conversion import convert

__all__ = ["OpDownsample", "OpPyramid"]

Array = npt.NDArray[Any]

_METHODS: Final = ("auto", "mean", "stride", "mode", "max", "min")

#: Pixels that are read at a time, and that are worked on at a time.
_READ: Final = 1 << 22
_TILE: Final = 1 << 17


def _check_factor(value: int | tuple[Any, ...]) -> str | None:
    items = value if isinstance(value, tuple) else (value,)
    if not items or any(isinstance(f, bool) or not isinstance(f, int) or f < 1 for f in items):
        return "is neither a number >= 1 nor one such number per axis"
    return None


class OpDownsample(Operator):
    """Make one pixel of each box of pixels.

    Inputs
    ------
    image : InputSlot, any axes, any real dtype
    factor : ParameterSlot[int or tuple]
        Pixels along the sides of a box: one number for all spatial axes, or one for each axis of the image.
    method : ParameterSlot[str]
        ``"mean"``: rounded to the nearest for integers, halves to the even one. ``"stride"``: the first
        pixel. ``"mode"``: the most frequent value, of several the smallest, for labels. ``"max"``, ``"min"``.
        ``"auto"``: ``"mode"`` for labels, else ``"mean"``.

    Outputs
    -------
    output : OutputSlot, axes and dtype of ``image``
        Boxes begin at the origin; those at the end are of the pixels that are left. Pixel sizes grow, and the
        origin lies in the middle of the first box, or stays for ``"stride"``.

    Regions
    -------
    pull   ``roi`` needs the boxes of its pixels, a few million pixels at a time.
    push   a dirty ROI becomes the pixels of the boxes it touches; another parameter makes everything dirty.

    Memory
    ------
    The boxes, at most four million pixels of them, the result, and pieces that fit a processor's cache.

    Raises
    ------
    SetupError
        If the image is complex, the factors are not one per axis, or that of a channel axis is not 1.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> pixels = np.array([[1, 3, 5, 7, 9], [1, 3, 5, 7, 9]], np.uint8)
    >>> OpDownsample(graph=Graph(), image=pixels, factor=2).output.read().tolist()
    [[2, 6, 9]]
    """

    image = InputSlot(doc="what to make smaller")
    factor = ParameterSlot(
        int | tuple, default=2, usual=(1, 16), check=_check_factor, doc="pixels that become one, per axis"
    )
    method = ParameterSlot(str, default="auto", choices=_METHODS, doc="what becomes of a box")
    output = OutputSlot()

    def setup_outputs(self) -> tuple[int, ...]:
        """Return the factor of each axis."""
        meta = self.image.meta
        factors = _factors(self.factor.value, meta)
        self.output.meta = _smaller(meta, factors, _method(self.method.value, meta))
        return factors

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        _compute(self.image, roi, out, self.plan, _method(self.method.value, self.image.meta))

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        _mark(self.output, roi, self.plan)


class OpPyramid(Operator):
    """The same image in several sizes, each computed where it is looked at and not before.

    Inputs
    ------
    image : InputSlot, any axes, any real dtype
    factor : ParameterSlot[int or tuple]
        From each level to the next, as for `OpDownsample`.
    method : ParameterSlot[str]
        As for `OpDownsample`.
    count : ParameterSlot[int]
        How many levels, the image itself included. 0: as many as it takes until no side that shrinks is
        longer than 256 pixels.

    Outputs
    -------
    levels : OutputSlot, a list of arrays
        The first is the image. Each of the others is computed from the image, not from the level before, so
        that means are means and modes are modes of all pixels; put a cache behind those that are looked at
        often.

    Regions
    -------
    As for `OpDownsample` with the factor of the level.

    Memory
    ------
    As for `OpDownsample` with the factor of the level.

    Raises
    ------
    SetupError
        As for `OpDownsample`.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> pyramid = OpPyramid(graph=Graph(), image=np.zeros((64, 1000, 1200)))
    >>> [level.meta.shape for level in pyramid.levels]
    [(64, 1000, 1200), (32, 500, 600), (16, 250, 300), (8, 125, 150)]
    """

    image = InputSlot(doc="the finest level")
    factor = ParameterSlot(
        int | tuple, default=2, usual=(1, 16), check=_check_factor, doc="from level to level, per axis"
    )
    method = ParameterSlot(str, default="auto", choices=_METHODS, doc="what becomes of a box")
    count = ParameterSlot(int, default=0, range=(0, 32), doc="how many levels; 0: until they are small")
    levels = OutputSlot(level=1, doc="the image, and smaller ones")

    def setup_outputs(self) -> tuple[tuple[int, ...], ...]:
        """Return the factors of each level."""
        meta = self.image.meta
        factors = _factors(self.factor.value, meta)
        method = _method(self.method.value, meta)
        count = self.count.value or _usual_count(meta.shape, factors)
        self.levels.resize(count)
        all_factors = tuple(tuple(f**level for f in factors) for level in range(count))
        if self.levels[0].upstream is None:
            self.levels[0].connect(self.image)
        for level, own in zip(range(1, count), all_factors[1:], strict=True):
            self.levels[level].meta = _smaller(meta, own, method)
        return all_factors

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        method = _method(self.method.value, self.image.meta)
        _compute(self.image, roi, out, self.plan[slot.index], method)

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        for level, factors in zip(self.levels, self.plan, strict=True):
            if level.upstream is None:
                _mark(level, roi, factors)


def _factors(value: int | tuple[int, ...], meta: ArrayMeta) -> tuple[int, ...]:
    check_real(meta)
    if isinstance(value, int):
        return tuple(value if i in meta.axes.spatial else 1 for i in range(meta.ndim))
    if len(value) != meta.ndim:
        raise SetupError(f"factor={value} is not one number for each axis of the image ({meta}).")
    for axis in meta.axes.of_kind("channel"):
        if value[axis] != 1:
            raise SetupError(f"factor={value}: channels are no neighbours; their factor is 1.")
    return value


def _method(value: str, meta: ArrayMeta) -> str:
    if value == "auto":
        return "mode" if meta.semantics == "labels" else "mean"
    return value


def _usual_count(shape: Sequence[int], factors: Sequence[int]) -> int:
    count = 1
    while any(f > 1 and -(-n // f ** (count - 1)) > 256 for n, f in zip(shape, factors, strict=True)):
        count += 1
    return count


def _smaller(meta: ArrayMeta, factors: Sequence[int], method: str) -> ArrayMeta:
    def divided(values: Sequence[int] | None) -> tuple[int, ...] | None:
        return None if values is None else tuple(-(-v // f) for v, f in zip(values, factors, strict=True))

    return meta.replace(
        shape=divided(meta.shape),
        axes=meta.axes.downsampled(factors, by_mean=method != "stride"),
        preferred_block=divided(meta.preferred_block),
        max_block=divided(meta.max_block),
        ram_per_pixel=meta.dtype.itemsize
        + min(prod(factors), _READ) * max(meta.ram_per_pixel or 0.0, float(meta.dtype.itemsize)),
    )


def _mark(output: Any, roi: Roi, factors: Sequence[int]) -> None:
    start = [a // f for a, f in zip(roi.start, factors, strict=True)]
    stop = [-(-b // f) for b, f in zip(roi.stop, factors, strict=True)]
    output.mark_dirty(Roi(start, stop))


def _compute(image: Any, roi: Roi, out: Array, factors: Sequence[int], method: str) -> None:
    shape = image.meta.shape
    for key in pieces(out.shape, max(1, _READ // prod(factors))):
        part, target = _part(roi, key), out[key]
        start = [a * f for a, f in zip(part.start, factors, strict=True)]
        if method == "stride":
            stop = [(b - 1) * f + 1 for b, f in zip(part.stop, factors, strict=True)]
            pixels = image.read(Roi(start, stop))
            np.copyto(target, pixels[tuple(slice(None, None, f) for f in factors)])
            continue
        stop = [min(b * f, n) for b, f, n in zip(part.stop, factors, shape, strict=True)]
        pixels = image.read(Roi(start, stop))
        for where, box in _boxes(target.shape, pixels.shape, factors):
            within = tuple(
                slice(s.start * f, s.start * f + (s.stop - s.start) * b)
                for s, f, b in zip(where, factors, box, strict=True)
            )
            _reduce(pixels[within], target[where], box, method)


def _part(roi: Roi, key: tuple[Any, ...]) -> Roi:
    """Return the part of a region that a key of `pieces` addresses."""
    start, stop = list(roi.start), list(roi.stop)
    for axis, part in enumerate(key):
        if isinstance(part, slice):
            start[axis], stop[axis] = roi.start[axis] + part.start, roi.start[axis] + part.stop
    return Roi(start, stop)


def _boxes(
    shape: Sequence[int], pixels: Sequence[int], factors: Sequence[int]
) -> Iterator[tuple[tuple[slice, ...], tuple[int, ...]]]:
    """Give the parts of an array whose boxes are alike, with the shape of those: whole, or what is left."""
    parts = []
    for n, size, factor in zip(shape, pixels, factors, strict=True):
        left = size - (n - 1) * factor
        whole = n if left == factor else n - 1
        ends = sorted({0, whole, n})
        parts.append([(slice(a, b), factor if b <= whole else left) for a, b in pairwise(ends)])
    for combined in product(*parts):
        yield tuple(where for where, _ in combined), tuple(side for _, side in combined)


def _reduce(pixels: Array, out: Array, box: tuple[int, ...], method: str) -> None:
    """Write what becomes of boxes that are all whole."""
    for key in pieces(out.shape, max(1, _TILE // prod(box))):
        within = tuple(
            slice(part.start * b, part.stop * b) if isinstance(part, slice) else part
            for part, b in zip(key, box, strict=False)
        )
        part, target = pixels[within], out[key]
        if method == "mode":
            target[...] = _mode(part, box)
        elif method == "mean":
            with np.errstate(invalid="ignore", over="ignore"):  # infinite pixels
                _mean(part, target, box)
        else:
            extreme = np.maximum if method == "max" else np.minimum
            for axis, side in enumerate(box):
                part = _along(part, axis, side, extreme)
            np.copyto(target, part)


def _along(pixels: Array, axis: int, side: int, ufunc: np.ufunc, dtype: Any = None) -> Array:
    """Combine each ``side`` neighbours along an axis."""
    if side == 1:
        return pixels if dtype is None else pixels.astype(dtype, copy=False)
    before = (slice(None),) * axis
    first, second = (pixels[(*before, slice(k, None, side))] for k in (0, 1))
    result: Array = ufunc(first, second, dtype=dtype) if dtype is not None else ufunc(first, second)
    for k in range(2, side):
        ufunc(result, pixels[(*before, slice(k, None, side))], out=result)
    return result


def _mean(pixels: Array, out: Array, box: tuple[int, ...]) -> None:
    count, kind = prod(box), pixels.dtype.kind
    if kind == "f":
        working = np.dtype(np.promote_types(pixels.dtype, np.float64))
    elif pixels.dtype.itemsize * 8 + count.bit_length() <= 32 and kind != "i":
        working = np.dtype(np.uint32)
    elif pixels.dtype.itemsize * 8 + count.bit_length() <= 63:
        working = np.dtype(np.int64)
    else:
        working = np.dtype(np.float64)
    # The innermost last: until then whole rows are added.
    for axis, side in enumerate(box):
        pixels = _along(pixels, axis, side, np.add, working)
    if kind == "f":
        np.divide(pixels, count, out=out, casting="unsafe")
    elif kind == "b":
        np.greater(pixels, count / 2, out=out)
    elif working == np.uint32 and count & (count - 1) == 0 and count < 1 << 16:
        # By shifts: halves to the even one, as rint does.
        shift, half = np.uint32(count.bit_length() - 1), np.uint32(count // 2)
        whole = pixels >> shift
        if half:
            pixels = pixels + (half - np.uint32(1) + (whole & np.uint32(1)))
            whole = np.right_shift(pixels, shift, out=pixels)
        np.copyto(out, whole, casting="unsafe")
    else:
        convert(np.rint(pixels / count), out, "clip")


def _mode(pixels: Array, box: tuple[int, ...]) -> Array:
    """Return the most frequent value of each box, the smallest of several."""
    shape = [n for size, side in zip(pixels.shape, box, strict=True) for n in (size // side, side)]
    ndim, count = len(box), prod(box)
    order = (*range(1, 2 * ndim, 2), *range(0, 2 * ndim, 2))
    values = np.ascontiguousarray(pixels).reshape(shape).transpose(order)
    values = np.sort(values.reshape(count, *values.shape[ndim:]), axis=0)
    best: Array = values[0].copy()
    longest = np.ones(best.shape, np.intp)
    run = np.ones(best.shape, np.intp)
    for i in range(1, count):
        run = np.where(values[i] == values[i - 1], run + 1, 1)
        longer = run > longest
        np.copyto(longest, run, where=longer)
        np.copyto(best, values[i], where=longer)
    return best
