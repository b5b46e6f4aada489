"""What a user painted, as a value: sparse, packed, never changed; every stroke makes another one.

Knows no graph. A `Painted` is a version of what was painted, which shares with the one before all blocks that
a stroke did not touch. So who reads one sees each stroke whole or not at all, without a lock.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count, product
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from lazyflow_core import Roi
from lazyflow_core.utility import Account, Holding, format_bytes, memory_ledger

__all__ = [
    "Change",
    "Key",
    "PaintedBlock",
    "Labels",
    "Painted",
    "UndoStep",
    "changed",
    "painting",
    "recoloured",
]

Labels = npt.NDArray[np.uint8]
#: Position of a block in the grid of blocks.
Key = tuple[int, ...]

#: Numbers blocks, so that a block can say which one it was made from without keeping that alive.
_serial: Final = count(1)

#: Strokes that can be taken back.
_MOST_STEPS: Final = 200


class PaintedBlock(Holding):
    """The labels in one block of the grid: the smallest box that has them all, packed.

    Counts in the ledger of the process as long as it lives, and is never given back.

    Attributes
    ----------
    box
        Where, absolute; on each side of it there is a label.
    counts
        How many pixels each class has, in the order of the classes.
    before
        The serial number of the block that it replaced; 0 for none.
    changed
        What differs between the two.
    """

    __slots__ = ("_packed", "before", "box", "changed", "counts", "serial")

    def __init__(self, box: Roi, labels: Labels, before: PaintedBlock | None, changed: Roi) -> None:
        self._packed = zlib.compress(labels.tobytes(), level=1)
        pixels = np.bincount(labels[labels != 0])
        self.counts = tuple((int(n), int(pixels[n])) for n in np.flatnonzero(pixels))
        self.box = box
        self.serial = next(_serial)
        self.before = 0 if before is None else before.serial
        self.changed = changed
        super().__init__(len(self._packed), None)
        _account().keep(self)

    def unpack(self) -> Labels:
        """Return the labels of `box`, read-only."""
        labels: Labels = np.frombuffer(zlib.decompress(self._packed, bufsize=self.box.size or 1), np.uint8)
        return labels.reshape(self.box.shape)

    def __del__(self) -> None:
        account = getattr(self, "account", None)  # of one that was made whole
        if account is not None:
            account.abandon(self.nbytes, 1)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.box, self._packed)


def _restored(box: Roi, packed: bytes) -> PaintedBlock:
    labels = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(box.shape)
    return PaintedBlock(box, labels, None, box)


def _account() -> Account:
    return memory_ledger().account("cache.labels")


#: Given the place of a block and its labels there, which it may change in place, returns what they become.
Change = Callable[[Roi, Labels], Labels]

#: What a step puts where: a block, or None for nothing.
Blocks = Mapping[Key, PaintedBlock | None]


@dataclass(frozen=True, eq=False)
class UndoStep:
    """What was where before a stroke, or after one that was taken back."""

    blocks: Blocks


@dataclass(frozen=True, eq=False)
class Painted:
    """All that was painted, and what undoing leads to.

    Parameters
    ----------
    axes
        Keys of the axes in their order; empty as long as nothing was painted.
    block
        Shape of a block of the grid, in pixels.
    blocks
        Where there are labels.
    undoable, redoable
        Steps back and forth, the next one last.
    """

    axes: str = ""
    block: tuple[int, ...] = ()
    blocks: Mapping[Key, PaintedBlock] = field(default_factory=dict)
    undoable: tuple[UndoStep, ...] = ()
    redoable: tuple[UndoStep, ...] = ()

    def __repr__(self) -> str:
        size = sum(block.nbytes for block in self.blocks.values())
        return f"<Painted: {len(self.blocks)} blocks, {format_bytes(size)}>"

    @property
    def boxes(self) -> tuple[Roi, ...]:
        """Boxes that hold all labels, at most one per block, in the order of the blocks."""
        return tuple(self.blocks[key].box for key in sorted(self.blocks))

    @property
    def counts(self) -> dict[int, int]:
        """How many pixels each class has that has any."""
        total: Counter[int] = Counter()
        for block in self.blocks.values():
            total.update(dict(block.counts))
        return dict(sorted(total.items()))

    @property
    def largest(self) -> int:
        """The largest label; 0 if there is none."""
        return max((block.counts[-1][0] for block in self.blocks.values()), default=0)

    @property
    def extent(self) -> tuple[int, ...]:
        """Where the labels end on each axis; empty if there are none."""
        return tuple(map(max, zip(*(block.box.stop for block in self.blocks.values()), strict=True)))

    def read(self, roi: Roi, out: npt.NDArray[Any]) -> None:
        """Write the labels of a region into ``out``, 0 where there are none."""
        out[...] = 0
        for key in self.keys_in(roi):
            block = self.blocks[key]
            part = block.box & roi
            if not part.is_empty:
                out[part.relative_to(roi).slicing] = block.unpack()[part.relative_to(block.box).slicing]

    def keys_in(self, roi: Roi) -> list[Key]:
        """Return the keys of the blocks with labels that a region touches."""
        if not self.blocks or roi.is_empty:
            return []
        ranges = [
            range(a // side, -(-b // side))
            for a, b, side in zip(roi.start, roi.stop, self.block, strict=True)
        ]
        if prod(map(len, ranges)) <= len(self.blocks):
            return [key for key in product(*ranges) if key in self.blocks]
        return [key for key in self.blocks if all(k in r for k, r in zip(key, ranges, strict=True))]

    def put(
        self, blocks: Blocks, undoable: tuple[UndoStep, ...], redoable: tuple[UndoStep, ...] = ()
    ) -> Painted:
        """Return what is painted with some blocks exchanged."""
        kept = {key: block for key, block in {**self.blocks, **blocks}.items() if block is not None}
        return replace(self, blocks=kept, undoable=undoable[-_MOST_STEPS:], redoable=redoable)

    def painted_over(self, blocks: Blocks) -> Painted:
        """Return what is painted after a stroke, which can be undone."""
        return self.put(blocks, (*self.undoable, self._step_back(blocks)))

    def undone(self) -> Painted:
        """Return what was painted before the last stroke."""
        step = self.undoable[-1]
        return self.put(step.blocks, self.undoable[:-1], (*self.redoable, self._step_back(step.blocks)))

    def redone(self) -> Painted:
        """Return what was painted before the last stroke was undone."""
        step = self.redoable[-1]
        return self.put(step.blocks, (*self.undoable, self._step_back(step.blocks)), self.redoable[:-1])

    def _step_back(self, blocks: Blocks) -> UndoStep:
        return UndoStep({key: self.blocks.get(key) for key in blocks})

    def differences(self, other: Painted) -> list[Roi]:
        """Return boxes outside of which both have the same labels."""
        boxes = []
        for key in {**self.blocks, **other.blocks}:
            one, two = self.blocks.get(key), other.blocks.get(key)
            if one is two:
                continue
            if two is not None and two.before == (one.serial if one else 0):
                boxes.append(two.changed)
            elif one is not None and one.before == (two.serial if two else 0):
                boxes.append(one.changed)
            else:
                boxes += [block.box for block in (one, two) if block is not None]
        return boxes


def changed(old: PaintedBlock | None, place: Roi, change: Change) -> PaintedBlock | None:
    """Return what a change makes of the block at a place; the old one where it changes no pixel."""
    labels = np.zeros(place.shape, np.uint8)
    if old is not None:
        labels[old.box.relative_to(place).slicing] = old.unpack()
    new = change(place, labels.copy())
    if old is None and not new.any():
        return None
    different = _box_of(new != labels, place)
    if different is None:
        return old
    box = _box_of(new, place)
    if box is None:
        return None
    return PaintedBlock(box, np.ascontiguousarray(new[box.relative_to(place).slicing]), old, different)


def painting(roi: Roi, labels: Labels, eraser: int) -> Change:
    """Return the change that paints a region: 0 keeps what is there, the eraser removes it."""

    def change(place: Roi, old: Labels) -> Labels:
        part = place & roi
        target = old[part.relative_to(place).slicing]
        brush = labels[part.relative_to(roi).slicing]
        np.copyto(target, brush, where=brush != 0)
        target[brush == eraser] = 0
        return old

    return change


def recoloured(table: Labels) -> Change:
    """Return the change that gives each class another number."""
    return lambda place, old: table[old]


def _box_of(mask: npt.NDArray[Any], place: Roi) -> Roi | None:
    """Return the smallest box with all that is not zero; None if all is."""
    start, stop = [], []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        there = np.flatnonzero(mask.any(axis=others))
        if not len(there):
            return None
        start.append(int(there[0]) + place.start[axis])
        stop.append(int(there[-1]) + 1 + place.start[axis])
    return Roi(start, stop)
