"""Eigenvalues of symmetric 2×2 and 3×3 matrices, one per pixel, in closed form.

Only ``+ - * /`` and square roots of whole arrays are used. They are rounded correctly wherever a pixel
stands, while numpy's vectorized ``cos`` is not, so any block of an image has the same bits as the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from lazyflow_core.request import checkpoint

__all__ = ["symmetric_eigenvalues"]

Array = npt.NDArray[Any]


def _cosine(t: Array) -> Array:
    return np.asarray(np.cos(np.arccos((t + 1) / 2) / 3))


def _squared_sine(t: Array) -> Array:
    return np.asarray(np.sin(np.arccos((t + 1) / 2) / 3) ** 2 / ((1 - t) / 2))


def _interpolated(function: Any, degree: int) -> Array:
    return np.polynomial.chebyshev.cheb2poly(np.polynomial.chebyshev.chebinterpolate(function, degree))


#: ``cos(acos(r) / 3)`` and ``sin(acos(r) / 3)**2 / (1 - r)`` for 0 <= r <= 1 as polynomials in
#: ``2 * r - 1``: Chebyshev interpolation of degree 9, error below 3e-10. Both are smooth up to the next
#: singularity at r = -1. The native library holds the same numbers.
COSINE, SQUARED_SINE = (_interpolated(function, 9) for function in (_cosine, _squared_sine))

_CHUNK = 1 << 15


def symmetric_eigenvalues(tensor: Sequence[Array], out: Sequence[Array | None]) -> None:
    """Write the eigenvalues of one symmetric matrix per pixel, largest first.

    Parameters
    ----------
    tensor
        The upper triangle row by row: ``a00 a01 a11``, or ``a00 a01 a02 a11 a12 a22``; equal shapes. One
        array alone is a 1×1 matrix.
    out
        As many arrays as rows, or fewer, of the same shape; None for one that is not wanted.
    """
    flat = [np.ascontiguousarray(a).reshape(-1) for a in tensor]
    results = [None if o is None else np.empty(flat[0].shape, o.dtype) for o in out]
    solve = _SOLVERS[len(tensor)]
    # In pieces, so that the intermediates stay small and in the processor's cache.
    for start in range(0, flat[0].size, _CHUNK):
        checkpoint()
        part = slice(start, start + _CHUNK)
        values = solve(*(a[part].astype(np.float64) for a in flat))
        for result, value in zip(results, values, strict=False):
            if result is not None:
                result[part] = value
    for o, result in zip(out, results, strict=True):
        if o is not None and result is not None:
            o[...] = result.reshape(o.shape)


def _solve1(a: Array) -> tuple[Array, ...]:
    return (a,)


def _solve2(a: Array, b: Array, d: Array) -> tuple[Array, ...]:
    mean, half = (a + d) * 0.5, (a - d) * 0.5
    spread = np.sqrt(half * half + b * b)
    return mean + spread, mean - spread


def _solve3(a: Array, b: Array, c: Array, d: Array, e: Array, f: Array) -> tuple[Array, ...]:
    mean = (a + d + f) / 3.0
    a, d, f = a - mean, d - mean, f - mean
    p2 = (a * a + d * d + f * f + 2.0 * (b * b + c * c + e * e)) / 6.0
    p = np.sqrt(p2)
    half_det = 0.5 * (a * (d * f - e * e) - b * (b * f - c * e) + c * (b * e - c * d))
    # The eigenvalues of the traceless part are 2p cos(acos(r)/3 + k 2π/3) with r = det / 2p³; with |r| the
    # one that stands apart is 2p cos(acos|r|/3), and det tells on which side it stands.
    cube = p2 * p
    r = np.abs(half_det) / np.where(cube == 0, 1.0, cube)
    r = np.where(r > 1.0, 1.0, r)
    t = 2.0 * r - 1.0
    cosine = p * _horner(COSINE, t)
    sine = np.sqrt(3.0 * np.abs(_horner(SQUARED_SINE, t) * (1.0 - r))) * p
    apart = 2.0 * cosine
    upper, lower = sine - cosine, -sine - cosine
    falls = half_det < 0
    first = mean + np.where(falls, -lower, apart)
    middle = mean + np.where(falls, -upper, upper)
    last = mean + np.where(falls, -apart, lower)
    return first, middle, last


#: By the number of elements in the upper triangle.
_SOLVERS: dict[int, Callable[..., tuple[Array, ...]]] = {1: _solve1, 3: _solve2, 6: _solve3}


def _horner(coefficients: Array, t: Array) -> Array:
    value = np.full_like(t, coefficients[-1])
    for c in coefficients[-2::-1]:
        value *= t
        value += c
    return value
