"""Thresholds from the distribution of values."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["otsu_level"]


def otsu_level(counts: npt.NDArray[Any], values: npt.NDArray[Any]) -> float:
    """Return the value that parts a histogram into two classes which vary least in themselves (Otsu 1979).

    Parameters
    ----------
    counts
        How often each value occurs.
    values
        The values, rising; as long as ``counts``.

    Returns
    -------
    float
        The last value of the lower class: what is greater is above the threshold. The value itself if there
        is only one, NaN if there is none.

    Examples
    --------
    >>> import numpy as np
    >>> otsu_level(np.array([8, 9, 1, 0, 7, 6]), np.arange(6))
    2.0
    """
    occurs = np.flatnonzero(counts)
    if occurs.size < 2:
        return float(values[occurs[0]]) if occurs.size else float("nan")
    n, v = counts[occurs].astype(np.float64), values[occurs].astype(np.float64)
    below, total = np.cumsum(n)[:-1], n.sum()
    moment = np.cumsum(n * v)
    between = (moment[:-1] * total - moment[-1] * below) ** 2 / (below * (total - below))
    return float(v[np.argmax(between)])
