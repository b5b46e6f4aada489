"""What is kept with an array about how it came to be: guessed axes, and which kernels computed its pixels.

Every format has one place for it, in which the same keys stand as in ``meta.extra``. Nothing depends on it
but what a reader says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lazyflow_core.plugins.files import AXES_GUESSED

__all__ = ["about", "read_about"]

#: End of the keys under which operators say what computed their pixels.
_COMPUTED_BY = ".computed_by"

_MOST_LETTERS = 1000


def about(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of ``meta.extra`` is kept in files; empty if nothing.

    Examples
    --------
    >>> about({"io.path": "a.tif", "lazyflow.axes_guessed": True, "filters.computed_by": "scipy 1.17"})
    {'lazyflow.axes_guessed': True, 'filters.computed_by': 'scipy 1.17'}
    """
    return {
        key: value
        for key, value in extra.items()
        if (key == AXES_GUESSED and value is True)
        or (key.endswith(_COMPUTED_BY) and isinstance(value, str) and len(value) <= _MOST_LETTERS)
    }


def read_about(kept: Any) -> dict[str, Any]:
    """Return the same of what a file keeps, JSON or what it says; empty if it is something else."""
    if isinstance(kept, str):
        try:
            kept = json.loads(kept)
        except (ValueError, RecursionError):
            return {}
    return about(kept) if isinstance(kept, dict) else {}
