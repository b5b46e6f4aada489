"""What lies beyond the border of an image, and how far a kernel may look there."""

from __future__ import annotations

__all__ = ["BORDERS", "SCIPY_MODES", "largest_reach"]

#: ``mirror`` reflects at the centre of the outermost pixel (``c b | a b c``), ``reflect`` at its edge
#: (``b a | a b c``), ``nearest`` repeats it (``a a | a b c``), ``zero`` is zero (``0 0 | a b c``).
BORDERS = ("mirror", "reflect", "nearest", "zero")

#: What scipy.ndimage calls them.
SCIPY_MODES = {"mirror": "mirror", "reflect": "reflect", "nearest": "nearest", "zero": "constant"}


def largest_reach(length: int, border: str) -> int | None:
    """Return the largest kernel radius an axis of that many pixels allows; None for any.

    A mirror has ``length - 1`` pixels to show and is not looked into twice (vigra's rule). An axis of
    one pixel is constant: it is not filtered, whatever the sigma, and its derivatives are zero. There is
    nothing to compute of an empty one.

    Examples
    --------
    >>> largest_reach(5, "mirror"), largest_reach(5, "reflect"), largest_reach(1, "mirror")
    (4, 5, None)
    """
    if length <= 1:
        return None
    return {"mirror": length - 1, "reflect": length}.get(border)
