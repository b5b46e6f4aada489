"""Block grids: dividing an array into blocks, and choosing how large they are.

A *block* is the unit of work and of caching. A *chunk* is the unit of a storage layout; writers choose
blocks that are whole chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from types import EllipsisType
from typing import Final

from lazyflow_core.errors import RoiError
from lazyflow_core.request import checkpoint
from lazyflow_core.roi import Roi

__all__ = ["PIECE", "BlockGrid", "choose_block_shape", "pieces"]

#: Pixels that numpy works on at a time: a few milliseconds, and little beside the cost of a call.
PIECE: Final = 1 << 19


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """The division of an array into equal blocks, counted from its origin; those at the end are cut off.

    Parameters
    ----------
    shape
        Shape of the array.
    block
        Shape of a block, every number >= 1.
    origin
        Where the first block begins: 0 on every axis (the default) aligns blocks with the array; the start
        of a ROI aligns them with that ROI.

    Raises
    ------
    RoiError
        If the lengths differ or a block has no extent.

    Examples
    --------
    >>> grid = BlockGrid((5, 4), (3, 4))
    >>> len(grid), [str(roi) for roi in grid]
    (2, ['[0:3, 0:4]', '[3:5, 0:4]'])
    >>> grid.covering(Roi((2, 1), (3, 2)))
    Roi(start=(0, 0), stop=(3, 4))
    """

    shape: tuple[int, ...]
    block: tuple[int, ...]
    origin: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        object.__setattr__(self, "block", tuple(self.block))
        object.__setattr__(self, "origin", tuple(self.origin) or (0,) * len(self.shape))
        if not len(self.shape) == len(self.block) == len(self.origin):
            raise RoiError(
                f"block {self.block} with origin {self.origin} does not fit an array of shape {self.shape}."
            )
        if any(b < 1 for b in self.block):
            raise RoiError(f"block {self.block}: every number is at least 1.")

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of blocks along each axis, from the origin to the end."""
        return tuple(
            max(0, -((o - s) // b)) for s, b, o in zip(self.shape, self.block, self.origin, strict=True)
        )

    def __len__(self) -> int:
        return prod(self.counts)

    def __iter__(self) -> Iterator[Roi]:
        """Give the ROI of every block, in C order."""
        return self.touching(Roi(self.origin, map(max, self.origin, self.shape)))

    def roi_of(self, index: Sequence[int]) -> Roi:
        """Return the ROI of the block at a position of the grid, cut off at the end of the array."""
        start = tuple(o + i * b for i, b, o in zip(index, self.block, self.origin, strict=True))
        stop = tuple(min(s, a + b) for a, b, s in zip(start, self.block, self.shape, strict=True))
        return Roi(start, stop)

    def indices(self, roi: Roi) -> Iterator[tuple[int, ...]]:
        """Give the grid positions of the blocks that share a pixel with ``roi``, in C order."""
        if roi.is_empty:
            return iter(())
        ranges = (
            range((a - o) // b, -((o - e) // b))
            for a, e, b, o in zip(roi.start, roi.stop, self.block, self.origin, strict=True)
        )
        return product(*ranges)

    def touching(self, roi: Roi) -> Iterator[Roi]:
        """Give the ROIs of the blocks that share a pixel with ``roi``, whole, in C order."""
        return map(self.roi_of, self.indices(roi))

    def tiles(self, roi: Roi) -> Iterator[Roi]:
        """Give the parts of ``roi`` that lie in one block each, in C order."""
        return (block & roi for block in self.touching(roi))

    def covering(self, roi: Roi) -> Roi:
        """Return the union of all blocks that ``roi`` touches; ``roi`` itself if it is empty."""
        if roi.is_empty:
            return roi
        start = tuple(
            o + (a - o) // b * b for a, b, o in zip(roi.start, self.block, self.origin, strict=True)
        )
        stop = tuple(
            min(s, o - (o - e) // b * b)
            for e, b, o, s in zip(roi.stop, self.block, self.origin, self.shape, strict=True)
        )
        return Roi(start, stop)


def choose_block_shape(
    shape: Sequence[int],
    *,
    most_pixels: int,
    step: Sequence[int] | None = None,
    most: Sequence[int] | None = None,
) -> tuple[int, ...]:
    """Return a block shape for an array: large, as close to a cube as may be, made of whole steps.

    Starts with one step and doubles the shortest side until the next doubling would exceed a limit. A
    step that is larger than ``most_pixels`` alone is still returned whole: splitting a storage chunk costs
    more than the memory it saves.

    Parameters
    ----------
    shape
        Shape of the array in pixels.
    most_pixels
        How many pixels a block may have.
    step
        What a block is a multiple of on each axis, e.g. the chunks of a file; default 1 everywhere.
    most
        The longest side per axis; default the array's.

    Returns
    -------
    tuple of int
        Never longer than the array on any axis.

    Raises
    ------
    RoiError
        If the lengths differ or ``most_pixels`` is not positive.

    Examples
    --------
    >>> choose_block_shape((1000, 1000, 1000), most_pixels=64**3)
    (64, 64, 64)
    >>> choose_block_shape((3, 1000, 1000), most_pixels=64**3, step=(1, 100, 100))
    (3, 200, 400)
    """
    limit = tuple(min(s, m) if m else s for s, m in zip(shape, most or shape, strict=True))
    unit = tuple(step) if step is not None else (1,) * len(shape)
    if len(unit) != len(shape) or any(u < 1 for u in unit):
        raise RoiError(f"step {unit} does not fit an array of shape {tuple(shape)}.")
    if most_pixels < 1:
        raise RoiError(f"most_pixels={most_pixels} is not a number of pixels.")
    block = [max(1, min(u, s)) for u, s in zip(unit, shape, strict=True)]
    growing = set(range(len(block)))
    while growing:
        axis = min(growing, key=lambda i: (block[i], -i))
        longer = min(block[axis] * 2, max(limit[axis], block[axis]))
        if longer < limit[axis]:
            longer -= longer % unit[axis]
        if longer <= block[axis] or prod(block) // block[axis] * longer > most_pixels:
            growing.discard(axis)
        else:
            block[axis] = longer
    return tuple(block)


def pieces(shape: Sequence[int], size: int = PIECE) -> Iterator[tuple[slice | EllipsisType, ...]]:
    """Yield keys that cut an array into pieces of about ``size`` pixels, with a `checkpoint` before each.

    What is done to a whole array by numpy cannot be stopped; done piece by piece it goes on for a few
    milliseconds after its request was cancelled, however large the array. Pieces follow each other in memory.

    Examples
    --------
    >>> list(pieces((2, 3)))
    [(Ellipsis,)]
    >>> for key in pieces((5, 1000), size=2000):
    ...     print(key[0])
    slice(0, 2, None)
    slice(2, 4, None)
    slice(4, 5, None)
    """
    if prod(shape) <= max(size, 1):
        checkpoint()
        yield (...,)
        return
    row = prod(shape[1:])
    if row > size:
        for i in range(shape[0]):
            for key in pieces(shape[1:], size):
                yield (slice(i, i + 1), *key)
        return
    step = size // row
    for start in range(0, shape[0], step):
        checkpoint()
        yield (slice(start, min(start + step, shape[0])),)
