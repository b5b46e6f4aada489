"""`OpPixelFunction`: a function of each pixel."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from lazyflow_core import ArrayMeta, ParameterSlot, Roi
from lazyflow_core.errors import SetupError

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
        A name in `FUNCTIONS`: integers then become float32, or float64 where that is needed to hold them,
        and values without a result become NaN or infinite, silently. From Python also a callable that
        takes an array in the dtype of the image and returns one of the same shape, each pixel of which
        depends on that pixel alone; it must not change its argument, and may run many times at once.

    Outputs
    -------
    output : OutputSlot, shape and axes of ``image``
        In the dtype the function returns; its value range is known for functions that only rise or fall.

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
            raise SetupError(f"function failed on one pixel of {meta.dtype}: {error!r}.") from error
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

    def execute(self, slot: Any, roi: Roi, out: Any) -> Array:
        return self._apply(self.image.read(roi))

    def _apply(self, pixels: Array) -> Array:
        function = self.function.value
        if not isinstance(function, str):
            return function(pixels)
        with np.errstate(all="ignore"):
            return FUNCTIONS[function](pixels.astype(np.result_type(pixels.dtype, np.float32), copy=False))

    def _new_range(self, meta: ArrayMeta) -> tuple[float, float] | None:
        if self.function.value not in _MONOTONIC or meta.value_range is None:
            return None
        low, high = sorted(self._apply(np.array(meta.value_range, np.float64)).tolist())
        return (low, high) if isfinite(low) and isfinite(high) else None
