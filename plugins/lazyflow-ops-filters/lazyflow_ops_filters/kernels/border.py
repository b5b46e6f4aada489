"""What lies beyond the border of an image, and how far a kernel may look there."""

from __future__ import annotations

from typing import Any

__all__ = ["BORDERS", "LARGEST_RADIUS", "NUMPY_MODES", "SCIPY_MODES", "largest_reach"]

#: ``mirror`` reflects at the centre of the outermost pixel (``c b | a b c``), ``reflect`` at its edge
#: (``b a | a b c``), ``nearest`` repeats it (``a a | a b c``), ``zero`` is zero (``0 0 | a b c``).
BORDERS = ("mirror", "reflect", "nearest", "zero")

#: What scipy.ndimage calls them.
SCIPY_MODES = {"mirror": "mirror", "reflect": "reflect", "nearest": "nearest", "zero": "constant"}

#: What numpy.pad calls them.
NUMPY_MODES: Any = {"mirror": "reflect", "reflect": "symmetric", "nearest": "edge", "zero": "constant"}

#: No kernel reaches further than this, in pixels: some megabytes of weights, a second per row.
LARGEST_RADIUS = 1 << 16


def largest_reach(length: int, border: str) -> int | None:
    """Return the largest kernel radius an axis of that many pixels allows; None where none is applied.

    A mirror has ``length - 1`` pixels to show and is not looked into twice (vigra's rule); the other borders
    never end. An axis of one pixel is constant: it is not filtered, whatever the sigma, and its derivatives
    are zero. There is nothing to compute of an empty one.

    Examples
    --------
    >>> largest_reach(5, "mirror"), largest_reach(5, "reflect"), largest_reach(1, "mirror")
    (4, 5, None)
    """
    if length <= 1:
        return None
    return min({"mirror": length - 1, "reflect": length}.get(border, LARGEST_RADIUS), LARGEST_RADIUS)
