"""Thresholds from the distribution of values."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["otsu_bin"]


def otsu_bin(counts: npt.NDArray[Any]) -> int | None:
    """Return which bin ends the lower of the two classes that vary least in themselves (Otsu 1979).

    Parameters
    ----------
    counts
        How often each value occurs, the values rising by equal steps. Which step, and from where, makes no
        difference, so nothing can overflow.

    Returns
    -------
    int or None
        The last bin of the lower class that is not empty. The only one if there is only one, None if there is
        none.

    Examples
    --------
    >>> import numpy as np
    >>> otsu_bin(np.array([8, 9, 1, 0, 7, 6]))
    2
    """
    occurs = np.flatnonzero(counts)
    if occurs.size < 2:
        return int(occurs[0]) if occurs.size else None
    n, v = counts[occurs].astype(np.float64), occurs.astype(np.float64)
    below, total = np.cumsum(n)[:-1], n.sum()
    moment = np.cumsum(n * v)
    between = (moment[:-1] * total - moment[-1] * below) ** 2 / (below * (total - below))
    return int(occurs[np.argmax(between)])
