"""`OpPixelFunction`: a function of each pixel."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor, isfinite
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from lazyflow_core import ArrayMeta, ParameterSlot, Roi
from lazyflow_core.blocks import pieces
from lazyflow_core.errors import SetupError
from lazyflow_core.foreign import shown

from lazyflow_ops_array.base import OpPointwise, check_real, ram_per_pixel

__all__ = ["FUNCTIONS", "OpPixelFunction"]

Array = npt.NDArray[Any]


def _logistic(x: Array) -> Array:
    # tanh does not overflow where exp(-x) does.
    result: Array = np.tanh(x / 2) / 2 + x.dtype.type(0.5)
    return result


#: The functions that have a name. Called with floating point, so that none of them wraps around.
FUNCTIONS: Final[dict[str, Callable[[Array], Array]]] = {
    "abs": np.abs,
    "cos": np.cos,
    "exp": np.exp,
    "isfinite": np.isfinite,
    "isnan": np.isnan,
    "log": np.log,
    "log10": np.log10,
    "log1p": np.log1p,
    "log2": np.log2,
    "logistic": _logistic,
    "negative": np.negative,
    "reciprocal": np.reciprocal,
    "sign": np.sign,
    "sin": np.sin,
    "sqrt": np.sqrt,
    "square": np.square,
    "tanh": np.tanh,
}

#: Those of them that never fall or never rise, so that the ends of a range become ends.
_MONOTONIC: Final = {"exp", "log", "log10", "log1p", "log2", "logistic", "negative", "sign", "sqrt", "tanh"}

#: Those of them of which every processor makes the nearest number.
_CORRECTLY_ROUNDED: Final = {"negative", "sign", "sqrt"}

#: What no rounding leaves.
_LIMITS: Final = {"exp": (0.0, float("inf")), "logistic": (0.0, 1.0), "tanh": (-1.0, 1.0)}


def _check(value: str | Callable[[Array], Array]) -> str | None:
    if isinstance(value, str) and value not in FUNCTIONS:
        return f"is none of {', '.join(FUNCTIONS)}"
    return None


class OpPixelFunction(OpPointwise):
    """Apply a function to each pixel.

    Inputs
    ------
    image : InputSlot, any axes, any real dtype
    function : ParameterSlot[str or callable]
        A name in `FUNCTIONS`: integers then become float32, or float64 where that is needed to hold them or
        what becomes of the ends of their range (``exp`` of uint8), and values without a result become NaN or
        infinite, silently. From Python also a callable that
        takes an array in the dtype of the image and returns one of the same shape, each pixel of which
        depends on that pixel alone; it must not change its argument, and may run many times at once.

    Outputs
    -------
    output : OutputSlot, shape and axes of ``image``
        In the dtype the function returns; its value range is known for functions that only rise or fall, if
        it is finite, to the last digits of that dtype.

    Regions
    -------
    pull   ``roi`` needs the same ``roi``.
    push   a dirty ROI stays as it is; another function makes everything dirty.

    Memory
    ------
    The input region and two arrays like the result.

    Raises
    ------
    SetupError
        If the image is complex, or the function does not turn an array of one pixel into another one.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> root = OpPixelFunction(graph=Graph(), image=np.array([[4, 9]], np.uint8), function="sqrt")
    >>> root.output.read()
    array([[2., 3.]], dtype=float32)
    >>> root.function.value = lambda pixels: 255 - pixels
    >>> root.output.read()
    array([[251, 246]], dtype=uint8)
    """

    function = ParameterSlot(str | Callable, check=_check, doc="name of a function, e.g. 'sqrt'")

    def setup_outputs(self) -> None:
        meta = self.image.meta
        check_real(meta)
        try:
            probe = self._apply(np.ones((1,) * meta.ndim, meta.dtype))
        except Exception as error:
            raise SetupError(f"function failed on one pixel of {meta.dtype}: {shown(error)}.") from error
        if not isinstance(probe, np.ndarray) or probe.shape != (1,) * meta.ndim or probe.dtype.hasobject:
            raise SetupError(f"function returned {probe!r} for an array of one pixel, not such an array.")
        self.set_output(
            meta.replace(
                dtype=probe.dtype,
                value_range=self._new_range(meta),
                semantics="intensities",
                ram_per_pixel=ram_per_pixel(meta, probe.dtype, probe.dtype.itemsize),
            )
        )

    def execute(self, slot: Any, roi: Roi, out: Any) -> Array | None:
        image = self.image.read(roi)
        if not isinstance(self.function.value, str):
            return self._apply(image)
        for key in pieces(out.shape):
            part = out[key]
            result = self._apply(image[key], part)
            if result is not part:
                part[...] = result
        return None

    def _apply(self, pixels: Array, out: Array | None = None) -> Array:
        """Return the result for some pixels, in ``out`` where the function can write into it."""
        function = self.function.value
        if not isinstance(function, str):
            return function(pixels)
        named = FUNCTIONS[function]
        with np.errstate(all="ignore"):
            values = pixels.astype(_dtype_for(function, self.image.meta), copy=False)
            if isinstance(named, np.ufunc) and out is not None:
                return named(values, out=out)  # type: ignore[no-any-return]
            return named(values)

    def _new_range(self, meta: ArrayMeta) -> tuple[float, float] | None:
        function = self.function.value
        if function not in _MONOTONIC or meta.value_range is None:
            return None
        ends = self._apply(_ends(meta.value_range, meta.dtype))
        if function not in _CORRECTLY_ROUNDED:
            # The others are off by some units of the last digit, differently at different places of an array.
            room = np.where(ends == 0, 0, 8 * np.spacing(np.abs(ends)))
            ends = np.sort(ends) + [-1, 1] * room[np.argsort(ends)]
        low, high = sorted(ends.tolist())
        lowest, highest = _LIMITS.get(function, (low, high))
        low, high = max(low, lowest), min(high, highest)
        return (low, high) if isfinite(low) and isfinite(high) else None


def _ends(value_range: tuple[float, float], dtype: np.dtype[Any]) -> Array:
    """Return the ends of a range as pixels have them."""
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        low, high = max(floor(value_range[0]), bounds.min), min(ceil(value_range[1]), bounds.max)
        return np.array([min(low, bounds.max), max(high, bounds.min)], dtype)
    with np.errstate(over="ignore"):
        return np.array(value_range, np.float64).astype(dtype)


def _dtype_for(function: str, meta: ArrayMeta) -> np.dtype[Any]:
    """Return the precision in which a named function is computed."""
    dtype = np.result_type(meta.dtype, np.float32)
    if meta.dtype.kind == "f" or dtype == np.float64:
        return dtype
    bounds = (0, 1) if meta.dtype.kind == "b" else (np.iinfo(meta.dtype).min, np.iinfo(meta.dtype).max)
    ends = np.array(meta.value_range or bounds, np.float64)
    narrow, wide = FUNCTIONS[function](ends.astype(np.float32)), FUNCTIONS[function](ends)
    return np.dtype(np.float64) if (np.isinf(narrow) & np.isfinite(wide)).any() else dtype
