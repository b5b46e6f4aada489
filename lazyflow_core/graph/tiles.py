"""Operators that work pixel by pixel, computed together tile by tile.

Ten of them in a row over a large region would each write all of it to memory for the next one to read. Tile
by tile the pixels stay in a processor's cache on their way through all of them. Nothing is compiled or
rewritten: the last of them is asked for one tile after the other, and asks those before it as ever. What is
not of their kind (a filter, a cache, a file) is asked once, for the whole region, since small regions may be
expensive there.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import numpy.typing as npt

from lazyflow_core.blocks import pieces
from lazyflow_core.graph.versions import here
from lazyflow_core.roi import Roi

if TYPE_CHECKING:
    from lazyflow_core.graph.arrays import ArraySlot, Output
    from lazyflow_core.graph.pull import AssignedArray

__all__ = ["LEAST_SIZE", "read_in_tiles"]

Array = npt.NDArray[Any]

#: Bytes of a tile in the widest dtype on its way. Measured: half of it costs too many hops, twice as much
#: falls out of the second cache of a core where operators do not write in place.
_TILE_BYTES: Final = 1 << 19

#: A region of fewer tiles is computed at once: the next cache still holds it. Measured: one of four tiles of
#: uint8, through ten layers that write in place, takes 1.3 times as long in tiles.
_FEWEST: Final = 16

#: Pixels of the smallest region that may be worth it, of the widest dtype.
LEAST_SIZE: Final = _FEWEST * _TILE_BYTES // 16


class Tiles:
    """A region that is being computed tile by tile, on one stack and in one version of the graph."""

    __slots__ = ("_blocks", "_party", "_region", "_scratch", "_shape", "_version", "tile", "top")

    def __init__(self, region: Roi, shape: tuple[int, ...], party: Any, version: Any) -> None:
        self._region = region
        self._shape = shape
        self._party = party
        self._version = version
        #: The part that is being computed.
        self.tile = region
        #: What the operators began with, over the whole region.
        self._blocks: dict[Output | AssignedArray, Array] = {}
        #: Memory for what operators read of each other, used again for each tile: new memory would have to be
        #: cleared by the system each time. The first ``top`` are in use, by the executions that are going on.
        self._scratch: list[Array] = []
        self.top = 0

    def scratch(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return an array that its reader may use until the end of its ``execute``."""
        if self.tile is self._region:
            return np.empty(shape, dtype)
        size = prod(shape) * dtype.itemsize
        index = self.top
        self.top = index + 1
        if index == len(self._scratch):
            self._scratch.append(np.empty(size, np.uint8))
        elif self._scratch[index].size < size:
            self._scratch[index] = np.empty(size, np.uint8)
        return np.ndarray(shape, dtype, self._scratch[index])

    def read(
        self, slot: ArraySlot, source: Output | AssignedArray, roi: Roi, out: Array | None, version: Any
    ) -> Array:
        """Return a region of a slot whose source does not work pixel by pixel."""
        party = self._party
        is_part = self.tile is not self._region and roi == self.tile and version is self._version
        block = self._blocks.get(source) if is_part else None
        if block is None:
            is_part = is_part and slot.meta.shape == self._shape
            party.tiles = None  # what comes before is another matter
            try:
                if not is_part:
                    return slot.read(roi, out)
                block = self._blocks[source] = slot.read(self._region)
            finally:
                party.tiles = self
        part = block[roi.relative_to(self._region).slicing]
        if out is None:
            return part
        np.copyto(out, part)
        return out


def read_in_tiles(slot: ArraySlot, source: Output, roi: Roi, out: Array) -> Array:
    """Compute a large region of an operator that works pixel by pixel."""
    _, _, party, version, _ = here.get()
    tiles = Tiles(roi, slot.meta.shape, party, version)
    pixels = _TILE_BYTES // _widest(source)
    party.tiles = tiles
    try:
        if out.size < _FEWEST * pixels:
            return slot.read(roi, out)
        for key in pieces(out.shape, pixels):
            start, stop = list(roi.start), list(roi.stop)
            for axis, part in enumerate(key):
                assert isinstance(part, slice)  # there are several
                start[axis], stop[axis] = roi.start[axis] + part.start, roi.start[axis] + part.stop
            tiles.tile = Roi(start, stop)
            slot.read(tiles.tile, out[key])
    finally:
        party.tiles = None
    return out


def _widest(source: Output) -> int:
    """Return the bytes of the widest pixel on the way from what these operators begin with."""
    from lazyflow_core.graph.multi import leaves  # which stands above slots, and so above this

    widest = 1
    known, pending = {source}, [source]
    while pending:
        output = pending.pop()
        widest = max(widest, output.meta.dtype.itemsize)
        for each in leaves(output.operator.inputs):
            _, meta, before = cast("ArraySlot", each)._seen()
            if meta is None or before is None or before in known:
                continue
            widest = max(widest, meta.dtype.itemsize)
            operator = getattr(before, "operator", None)  # an assigned array has none
            if operator is not None and operator.pixelwise:
                known.add(cast("Output", before))
                pending.append(cast("Output", before))
    return widest
