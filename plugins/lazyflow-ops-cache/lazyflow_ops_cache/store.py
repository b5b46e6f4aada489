"""What a cache knows of its blocks: which are clean, and who is computing which.

Knows no graph, no image and no request; ``DESIGN.md`` tells the invariants and the interleavings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import Any, Generic, TypeVar

import numpy.typing as npt

from lazyflow_ops_cache.memory import Block, MemoryManager, Packed

__all__ = ["BlockStore", "Count", "Key"]

#: Position of a block in the block grid.
Key = tuple[int, ...]

#: Who computes a block; compared by identity.
C = TypeVar("C")


class Count:
    """A number that only grows."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0


class BlockStore(Generic[C]):
    """The clean blocks of one cache, and the claims on those that are being computed.

    A *claim* is the right to keep what one computer is about to compute of a block. There is at most one
    per block. Dirt withdraws it, so whoever began before the dirt came cannot keep the result.

    Parameters
    ----------
    manager
        Whose budget the blocks count against; its lock guards everything here.
    kept
        Counts the blocks that were kept, of several stores that follow each other.
    """

    def __init__(self, manager: MemoryManager, kept: Count | None = None) -> None:
        self._manager = manager
        self._kept = Count() if kept is None else kept
        #: Clean blocks. Written under the lock, read without it: a reader that gets a block just before it is
        #: dropped asked before it was dropped.
        self.blocks: dict[Key, Block] = {}
        #: Who computes a block now and may keep it. Invariant: no key is here and in `blocks`.
        self._claims: dict[Key, C] = {}
        #: Bytes of `blocks`.
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the clean blocks."""
        return self._nbytes

    @property
    def computed(self) -> int:
        """How many blocks were kept so far, by this store and those before it."""
        return self._kept.number

    def find_or_claim(self, key: Key, claimant: C) -> Block | C:
        """Return the clean block, else who computes it already, else ``claimant``, who has the claim now."""
        with self._manager.lock:
            block = self.blocks.get(key)
            return self._claims.setdefault(key, claimant) if block is None else block

    def keep(self, key: Key, claimant: C, data: npt.NDArray[Any] | Packed, priority: int = 0) -> bool:
        """Keep a computed block, if the claim on it still stands; return whether it did."""
        block = Block(data, key, self._forget, priority)
        with self._manager.lock:
            if self._claims.get(key) is not claimant:
                return False
            del self._claims[key]
            self.blocks[key] = block
            self._nbytes += data.nbytes
            self._kept.number += 1
            evicted = self._manager.keep(block)
        del evicted
        return True

    def give_up(self, key: Key, claimant: C) -> None:
        """Withdraw the claim of somebody who is done with the block, if it still stands."""
        with self._manager.lock:
            if self._claims.get(key) is claimant:
                del self._claims[key]

    def invalidate(self, first: Sequence[int], stop: Sequence[int]) -> None:
        """Drop the blocks, and withdraw the claims, in a box ``[first, stop)`` of grid positions."""
        with self._manager.lock:
            dropped = [self._drop(key) for key in list(self._keys_in(first, stop))]
        del dropped

    def clear(self) -> None:
        """Drop all blocks and withdraw all claims."""
        with self._manager.lock:
            dropped = [self._drop(key) for key in [*self.blocks, *self._claims]]
        del dropped

    def _keys_in(self, first: Sequence[int], stop: Sequence[int]) -> Iterator[Key]:
        known = len(self.blocks) + len(self._claims)
        if prod(b - a for a, b in zip(first, stop, strict=True)) <= known:
            return product(*map(range, first, stop))
        return (
            key
            for key in (*self.blocks, *self._claims)
            if all(a <= k < b for a, k, b in zip(first, key, stop, strict=True))
        )

    def _drop(self, key: Key) -> Block | None:
        """Forget what is known of one block; return it, so that it is freed outside the lock."""
        self._claims.pop(key, None)
        block = self.blocks.get(key)
        if block is not None:
            self._forget(block)
            self._manager.forget(block)
        return block

    def _forget(self, block: Block) -> None:
        del self.blocks[block.key]
        self._nbytes -= block.data.nbytes

    def __del__(self) -> None:
        if self.blocks:
            self._manager.abandon(self._nbytes, len(self.blocks))
