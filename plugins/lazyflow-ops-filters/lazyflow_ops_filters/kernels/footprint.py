"""Neighbourhoods of a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

__all__ = ["SHAPES", "Footprint"]

SHAPES = ("box", "ball")


@dataclass(frozen=True)
class Footprint:
    """The pixels around a pixel that are its neighbourhood.

    Attributes
    ----------
    radius
        How far it reaches per axis in pixels; 0 for an axis along which it does not.
    shape
        ``"box"``: everything within the radius of each axis; ``"ball"``: the ellipsoid with these radii.
    """

    radius: tuple[int, ...]
    shape: str = "box"

    def within(self, shape: Sequence[int]) -> Footprint:
        """Return it for images of a shape: an axis of one pixel has no neighbours along it."""
        radius = tuple(0 if n == 1 else r for r, n in zip(self.radius, shape, strict=True))
        return self if radius == self.radius else Footprint(radius, self.shape)

    @cached_property
    def mask(self) -> npt.NDArray[np.bool_]:
        """A box of ``2 * radius + 1`` pixels, True where the neighbourhood is."""
        if self.shape == "box":
            return np.ones([2 * r + 1 for r in self.radius], bool)
        squares = [(np.arange(-r, r + 1) / max(r, 1)) ** 2 for r in self.radius]
        return np.asarray(sum(np.ix_(*squares)) <= 1 + 1e-9)

    @cached_property
    def size(self) -> int:
        """Number of pixels."""
        return int(self.mask.sum())

    @cached_property
    def is_box(self) -> bool:
        """Whether it is a box, as a ball within one row is."""
        return self.size == self.mask.size

    @cached_property
    def reach(self) -> npt.NDArray[np.int32]:
        """Per row along the last axis how far it reaches; -1 for rows without a pixel of it."""
        return np.asarray((self.mask.sum(-1) - 1) // 2, np.int32)
