"""`OpResize`: an image with another number of pixels over the same extent."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from lazyflow_core import ArrayMeta, ParameterSlot, Roi
from lazyflow_core.blocks import pieces
from lazyflow_core.errors import SetupError

from lazyflow_ops_array.base import OpSingle, check_real, ram_per_pixel
from lazyflow_ops_array.conversion import convert

__all__ = ["OpResize"]

Array = npt.NDArray[Any]

#: Pixels of a result that are worked on at a time.
_TILE: Final = 1 << 16


def _check_shape(value: tuple[Any, ...]) -> str | None:
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in value):
        return "is not one number of pixels >= 1 for each axis"
    return None


def _check_scale(value: float | tuple[Any, ...]) -> str | None:
    for factor in value if isinstance(value, tuple) else (value,):
        is_number = isinstance(factor, (int, float)) and not isinstance(factor, bool)
        if not (is_number and isfinite(factor) and factor > 0):
            return "is neither a number > 0 nor one such number for each axis"
    return None


class OpResize(OpSingle):
    """Interpolate an image at more or fewer pixels over the same extent.

    Inputs
    ------
    image : InputSlot, any axes, any real dtype
    shape : ParameterSlot[tuple]
        Pixels along each axis of the result. Empty: what ``scale`` says.
    scale : ParameterSlot[float or tuple]
        How many pixels there will be for one: one number for all spatial axes, or one for each axis of the
        image. A side is rounded to the nearest number of pixels, 1 at least.
    interpolation : ParameterSlot[str]
        ``"linear"``, ``"nearest"``, or ``"auto"``: ``"nearest"`` for labels and bool, else ``"linear"``.
    anti_aliasing : ParameterSlot[bool]
        Whether what is finer than the new pixels is smoothed away first, on axes that shrink, by a Gaussian
        with a sigma of ``(pixels before / after - 1) / 2``. Never for ``"nearest"``.

    Outputs
    -------
    output : OutputSlot, axes and dtype of ``image``
        Equal to ``skimage.transform.resize(..., preserve_range=True)`` with ``order`` 1 or 0, up to the last
        digits, integers rounded to the nearest. Computed in float32, or in float64 for float64 and integers
        beyond 16 bits. Pixel sizes change, the extent stays. The input itself if the shape does.

    Regions
    -------
    pull   ``roi`` needs what lies under it, with four sigma of the Gaussian and a pixel around it.
    push   a dirty ROI becomes all pixels that take from it; a new parameter makes everything dirty.

    Memory
    ------
    The region of the input and, for each axis that changes, a result in the dtype of the computation.

    Raises
    ------
    SetupError
        If the image is complex or empty, or shape and scale are not one number per axis, or change the number
        of channels.

    Source
    ------
    scikit-image, ``skimage.transform.resize``: ``scipy.ndimage.gaussian_filter`` (truncated at 4 sigma) and
    ``zoom`` with ``grid_mode``, both with mirrored borders. Both are linear along each axis, so together they
    are one row of weights for each pixel of the result.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> resize = OpResize(graph=Graph(), image=np.array([[0.0, 4.0]]), shape=(1, 4))
    >>> resize.output.read().tolist()
    [[1.0, 1.0, 3.0, 3.0]]
    """

    shape = ParameterSlot(tuple, default=(), check=_check_shape, doc="pixels along each axis; () for scale")
    scale = ParameterSlot(
        float | tuple, default=1.0, usual=(0.1, 4), check=_check_scale, doc="pixels for one, per axis"
    )
    interpolation = ParameterSlot(
        str, default="auto", choices=("auto", "linear", "nearest"), doc="how to find values in between"
    )
    anti_aliasing = ParameterSlot(bool, default=True, doc="whether to smooth before there are fewer pixels")

    def setup_outputs(self) -> tuple[_Weights | None, ...]:
        """Return for each axis what its pixels are made of; None where it stays."""
        meta = self.image.meta
        check_real(meta)
        shape = self._new_shape(meta)
        if shape == meta.shape:
            self.set_output(None)
            return (None,) * meta.ndim
        method = self.interpolation.value
        if method == "auto":
            method = "nearest" if meta.semantics == "labels" or meta.dtype.kind == "b" else "linear"
        weights = tuple(
            None if n == m else _weights(n, m, method == "nearest", self.anti_aliasing.value)
            for n, m in zip(meta.shape, shape, strict=True)
        )
        factors = [n / m for n, m in zip(meta.shape, shape, strict=True)]
        working = np.result_type(meta.dtype, np.float32)
        self.set_output(
            meta.replace(
                shape=shape,
                axes=meta.axes.downsampled(factors, by_mean=True),
                preferred_block=None,
                max_block=None,
                ram_per_pixel=ram_per_pixel(meta, meta.dtype, 2.0 * working.itemsize)
                * max(1.0, prod(factors)),
            )
        )
        return weights

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        plan: tuple[_Weights | None, ...] = self.plan
        windows = [
            (a, b) if w is None else w.window(a, b) for w, a, b in zip(plan, roi.start, roi.stop, strict=True)
        ]
        pixels = self.image.read(Roi([a for a, _ in windows], [b for _, b in windows]))
        changing = [axis for axis, w in enumerate(plan) if w is not None]
        if all(plan[axis].weights is None for axis in changing):  # type: ignore[union-attr]
            # Nearest: pixels are only picked.
            for axis in changing:
                w = plan[axis]
                assert w is not None
                picked = w.first[roi.start[axis] : roi.stop[axis]] - windows[axis][0]
                pixels = np.take(pixels, picked, axis=axis)
            np.copyto(out, pixels)
            return
        working = np.result_type(pixels.dtype, np.float32).newbyteorder("=")
        # What shrinks most comes first and what grows most last, so that there is less to do; of equals those
        # first that are neither small then nor far apart in memory. It is an order of axes, not of regions,
        # so each pixel is computed alike in every region.
        growth = [n / m for n, m in zip(self.output.meta.shape, self.image.meta.shape, strict=True)]
        changing.sort(key=lambda axis: (growth[axis], axis if growth[axis] < 1 else -axis))
        for axis in changing:
            w = plan[axis]
            assert w is not None
            pixels = w.apply(pixels, axis, windows[axis][0], roi.start[axis], roi.stop[axis], working)
        if out.dtype.kind == "f":
            np.copyto(out, pixels, casting="same_kind")
        else:
            convert(pixels, out, "clip")

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        start, stop = [], []
        for w, a, b in zip(self.plan, roi.start, roi.stop, strict=True):
            first, end = (a, b) if w is None else w.touched(a, b)
            start.append(first)
            stop.append(max(first, end))
        self.output.mark_dirty(Roi(start, stop))

    def _new_shape(self, meta: ArrayMeta) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.shape.value
        scale = self.scale.value
        name, given = ("shape", shape) if shape else ("scale", scale)
        if isinstance(given, tuple) and len(given) != meta.ndim:
            raise SetupError(f"{name}={given} is not one number for each axis of the image ({meta}).")
        if not shape:
            scales = (
                scale
                if isinstance(scale, tuple)
                else [scale if i in meta.axes.spatial else 1.0 for i in range(meta.ndim)]
            )
            shape = tuple(
                n if s == 1 else max(1, round(n * s)) for n, s in zip(meta.shape, scales, strict=True)
            )
        for axis in meta.axes.of_kind("channel"):
            if shape[axis] != meta.shape[axis]:
                raise SetupError(f"{name}={given}: channels are no neighbours, their number stays.")
        if 0 in meta.shape and shape != meta.shape:
            raise SetupError(f"the image has no pixels ({meta}).")
        if max(shape, default=0) > max(_LONGEST, *meta.shape):
            raise SetupError(
                f"{name}={given}: the longest side would have {max(shape)} pixels; {_LONGEST} can be made."
            )
        return shape


#: Pixels of a side: what each is made of is kept in tables, some hundred bytes a pixel.
_LONGEST: Final = 1 << 22


@dataclass(frozen=True, eq=False)
class _Weights:
    """What the pixels of a result are made of, along one axis.

    Parameters
    ----------
    first
        For each the first pixel of the image it takes from.
    weights
        For each those of the pixels from there on, shape (length of the result, count), contiguous along the
        first axis; None: the first pixel only.
    """

    first: Array
    weights: Array | None

    @property
    def count(self) -> int:
        """How many pixels of the image make one of the result."""
        return 1 if self.weights is None else self.weights.shape[1]

    def window(self, start: int, stop: int) -> tuple[int, int]:
        """Return which pixels of the image are needed for some of the result."""
        return int(self.first[start]), int(self.first[stop - 1]) + self.count

    def touched(self, start: int, stop: int) -> tuple[int, int]:
        """Return which pixels of the result take from some of the image."""
        first = np.searchsorted(self.first, start - self.count, side="right")
        return int(first), int(np.searchsorted(self.first, stop, side="left"))

    def apply(
        self, pixels: Array, axis: int, begin: int, start: int, stop: int, dtype: np.dtype[Any]
    ) -> Array:
        """Return some pixels of the result; ``begin`` is where in the image ``pixels`` begin."""
        assert self.weights is not None
        shape = list(pixels.shape)
        shape[axis] = stop - start
        result = np.empty(shape, dtype)
        first = self.first[start:stop] - begin
        weights = self.weights[start:stop].astype(dtype, copy=False)
        column = [1] * pixels.ndim
        # A few planes at a time, not cut along the axis: everything stays in a processor's cache.
        across = [n for i, n in enumerate(shape) if i != axis]
        for key in pieces(across, max(1, _TILE // (stop - start))):
            full = (
                (*key, *[slice(None)] * (len(across) - len(key)))
                if key != (...,)
                else (slice(None),) * len(across)
            )
            here = (*full[:axis], slice(None), *full[axis:])
            source, target = pixels[here].astype(dtype, copy=False), result[here]
            column[axis] = -1
            scratch = np.empty(target.shape, dtype)
            with np.errstate(invalid="ignore", over="ignore"):  # infinite pixels
                for k in range(self.count):
                    taken = _taken(source, first + k, axis, scratch)
                    value = weights[:, k].reshape(column)
                    if k == 0:
                        np.multiply(taken, value, out=target)
                    else:
                        target += np.multiply(taken, value, out=scratch)
        return result


def _taken(source: Array, indices: Array, axis: int, scratch: Array) -> Array:
    """Return some pixels along an axis: a view where they are evenly spaced, else in ``scratch``."""
    step = int(indices[1] - indices[0]) if len(indices) > 1 else 1
    if step > 0 and (np.diff(indices) == step).all():
        here = (slice(None),) * axis
        return source[(*here, slice(int(indices[0]), int(indices[-1]) + 1, step))]
    # The mode that checks no index and so needs no copy.
    return np.take(source, indices, axis=axis, out=scratch, mode="clip")


def _weights(before: int, after: int, nearest: bool, anti_aliasing: bool) -> _Weights:
    """Return the weights of one axis with so many pixels before and after."""
    factor = before / after
    places = (np.arange(after) + 0.5) * factor - 0.5
    if nearest:
        return _Weights(_mirrored(np.floor(places + 0.5).astype(np.intp), before), None)
    sigma = max(0.0, (factor - 1) / 2) if anti_aliasing else 0.0
    radius = int(4 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    gauss = np.exp(-0.5 * (offsets / sigma) ** 2) if radius else np.ones(1)
    gauss /= gauss.sum()
    low = np.floor(places).astype(np.intp)
    share = places - low
    # Two neighbours in the smoothed image, mirrored at the border; each made of the image, mirrored again.
    neighbours = _mirrored(np.stack([low, low + 1], axis=1), before)
    indices = _mirrored(neighbours[:, :, None] + offsets, before).reshape(after, -1)
    values = (np.stack([1 - share, share], axis=1)[:, :, None] * gauss).reshape(after, -1)
    indices = np.where(values == 0, indices.max(axis=1, keepdims=True, where=values != 0, initial=0), indices)
    count = int((indices.max(axis=1) - indices.min(axis=1)).max()) + 1
    first = np.minimum(indices.min(axis=1), before - count)
    weights = np.zeros((after, count), order="F")
    np.add.at(weights, (np.arange(after)[:, None], indices - first[:, None]), values)
    return _Weights(first, weights)


def _mirrored(indices: Array, length: int) -> Array:
    """Return indices that fall outside where the borders mirror them, the border pixel itself once."""
    if length == 1:
        return np.zeros_like(indices)
    period = 2 * (length - 1)
    folded = np.abs(indices) % period
    inside: Array = np.minimum(folded, period - folded)
    return inside
