"""The 1-D kernels of all Gaussian filters: sampled derivatives of a Gaussian, as vigra defines them.

Every backend takes its weights from `kernel`, so a result depends on the backend by rounding only.
"""

from __future__ import annotations

from functools import lru_cache
from math import floor, isfinite, log10

import numpy as np
import numpy.typing as npt

__all__ = ["MAX_ORDER", "kernel", "largest_sigma", "radius"]

#: Highest derivative. A kernel of order n needs n + 1 samples that differ, and noise grows with every order.
MAX_ORDER = 6

#: Below this sigma all weight falls on one pixel and the kernel changes no more; avoids 0/0.
_SMALLEST_SIGMA = 1e-3

#: Stands for radii that are larger still, even infinite.
_BEYOND_ANY_IMAGE = 2.0**62


def radius(sigma: float, order: int = 0, window: float = 0.0) -> int:
    """Return how many pixels a kernel reaches to either side.

    Parameters
    ----------
    sigma
        Standard deviation in pixels, > 0.
    order
        Which derivative: 0 smooths.
    window
        Reach in multiples of ``sigma``; 0 means the usual ``3 + order / 2``.

    Examples
    --------
    >>> radius(1.0), radius(1.0, order=2), radius(0.1), radius(1.6, window=2.0)
    (3, 4, 1, 3)

    Source
    ------
    The rule of vigra's ``Kernel1D::initGaussianDerivative``: rounded to the nearest pixel, at least 1.
    Above the second derivative a kernel gets the samples its order needs, where vigra's may be too short.
    """
    if not (isfinite(sigma) and sigma > 0):
        raise ValueError(f"sigma={sigma!r} is not a positive number of pixels.")
    if order not in range(MAX_ORDER + 1):
        raise ValueError(f"order={order!r} is not an integer between 0 and {MAX_ORDER}.")
    if not (isfinite(window) and window >= 0):
        raise ValueError(f"window={window!r} is not a number >= 0 of sigmas (0: the usual window).")
    reach = min((window or 3 + 0.5 * order) * sigma, _BEYOND_ANY_IMAGE)
    return max(floor(reach + 0.5), (order + 1) // 2, 1)


def largest_sigma(reach: int, order: int = 0, window: float = 0.0) -> float:
    """Return the largest sigma whose kernel reaches at most ``reach`` pixels; 0 if none is small enough.

    Cut to as many digits as ``:g`` shows, and to three decimals where these say enough.

    Examples
    --------
    >>> largest_sigma(3), radius(largest_sigma(3)), radius(largest_sigma(3) + 0.001)
    (1.166, 3, 4)
    """
    if reach < max((order + 1) // 2, 1):
        return 0.0
    sigma = (reach + 0.5) / (window or 3 + 0.5 * order)
    digits = floor(log10(sigma))
    step = 10.0 ** min(max(-3, digits - 5), digits - 3)
    count = floor(sigma / step)
    while radius(cut := float(f"{count * step:.6g}"), order, window) > reach:
        count -= 1
    return cut


@lru_cache(maxsize=256)
def kernel(sigma: float, order: int = 0, window: float = 0.0) -> npt.NDArray[np.float64]:
    """Return the weights of a Gaussian, or of its derivative, for *correlation*.

    Position ``i`` of the result weighs the pixel ``i - radius`` steps further along the axis, so the
    first derivative of a rising ramp is positive.

    Parameters
    ----------
    sigma, order, window
        As in `radius`.

    Returns
    -------
    ndarray, shape (2 * radius + 1,), float64, read-only
        Smoothing weights have the sum 1. Derivative weights have the sum 0 and give exactly 1 for
        ``x**order / order!``, whatever was cut off.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> kernel(0.3, order=1).tolist(), kernel(0.3, order=2).round(12).tolist()
    ([-0.5, 0.0, 0.5], [1.0, -2.0, 1.0])
    >>> float(kernel(2.5).sum().round(12))
    1.0
    """
    reach = radius(sigma, order, window)
    sigma = max(sigma, _SMALLEST_SIGMA)
    x = np.arange(-reach, reach + 1, dtype=np.float64)
    # Odd derivatives are 0 at the centre; scaling them by the pixel next to it keeps a tiny sigma from
    # underflowing to an all-zero kernel.
    exponent = (x * x - 1.0 if order % 2 else x * x) / (-2.0 * sigma * sigma)
    if order % 2:
        exponent[reach] = 0.0
    weights = _hermite(x / sigma, order) * np.exp(exponent)
    if order == 0:
        weights /= weights.sum()
    else:
        if order % 2 == 0:
            weights -= weights.mean()  # odd ones have none, and stay exactly antisymmetric
        moment = weights @ x**order / np.prod(np.arange(1, order + 1, dtype=np.float64))
        weights /= moment
    weights.flags.writeable = False
    return weights


def _hermite(x: npt.NDArray[np.float64], order: int) -> npt.NDArray[np.float64]:
    """Return the probabilists' Hermite polynomial: the factor a derivative puts before the Gaussian."""
    before, now = np.zeros_like(x), np.ones_like(x)
    for n in range(order):
        before, now = now, x * now - n * before
    return now
