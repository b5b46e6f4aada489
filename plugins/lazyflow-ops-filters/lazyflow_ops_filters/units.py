"""Lengths in the unit of the axes, for sigmas that mean something on anisotropic data."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite

from lazyflow_core import Axis
from lazyflow_core.errors import SetupError

__all__ = ["PIXEL", "in_pixels"]

PIXEL = "pixel"

#: Meters per unit; OME-NGFF spells units out, people and other formats do not.
_METERS = {
    "angstrom": 1e-10,
    "nanometer": 1e-9,
    "nm": 1e-9,
    "micrometer": 1e-6,
    "micron": 1e-6,
    "um": 1e-6,
    "µm": 1e-6,  # micro sign
    "μm": 1e-6,  # Greek letter mu
    "millimeter": 1e-3,
    "mm": 1e-3,
    "centimeter": 1e-2,
    "cm": 1e-2,
    "meter": 1.0,
    "m": 1.0,
}


def in_pixels(lengths: Iterable[float], unit: str, axes: Iterable[Axis]) -> tuple[float, ...]:
    """Return lengths given in ``unit`` as pixels, one per axis.

    Raises
    ------
    SetupError
        If an axis has no pixel size, the units cannot be converted into each other, or a length comes out
        as no pixels or as infinitely many.

    Examples
    --------
    >>> in_pixels([0.5, 0.5], "micrometer", [Axis("z", unit="nanometer", resolution=250), Axis("x", unit="um",
    ...     resolution=0.1)])
    (2.0, 5.0)
    """
    return tuple(_in_pixels(length, unit, axis) for length, axis in zip(lengths, axes, strict=True))


def _in_pixels(length: float, unit: str, axis: Axis) -> float:
    pixel = _pixel(unit, axis)
    pixels = length / pixel
    if not isfinite(pixels) or (pixels == 0) != (length == 0):
        raise SetupError(
            f"unit={unit!r}: {length:g} {unit} cannot be counted in pixels of axis {axis.key}, which are "
            f"{pixel:g} {unit} long; check unit and pixel size."
        )
    return pixels


def _pixel(unit: str, axis: Axis) -> float:
    """Return the size of a pixel in a unit."""
    if unit == PIXEL:
        return 1.0
    if axis.resolution is None:
        raise SetupError(f"unit={unit!r}: axis {axis.key} has no pixel size; give lengths in pixels.")
    if unit == axis.unit:
        return axis.resolution
    try:
        ratio = _METERS[axis.unit or ""] / _METERS[unit]
    except KeyError:
        raise SetupError(
            f"unit={unit!r} cannot be converted to the unit of axis {axis.key}, {axis.unit!r}; use that "
            f"unit, {PIXEL!r}, or two of {', '.join(sorted(_METERS))}."
        ) from None
    # Rounded so that powers of ten stay exact: 250 nm are 0.25 µm, not 0.25000000000000006.
    return float(f"{axis.resolution * ratio:.15g}")
