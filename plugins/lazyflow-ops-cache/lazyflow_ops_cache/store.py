"""What a cache knows of its blocks: which are clean, since when, and who is computing which.

Knows no image and no request; ``DESIGN.md`` tells the invariants and the interleavings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import Any, Generic, TypeVar

import numpy.typing as npt
from lazyflow_core import Roi, StaleBoxes

from lazyflow_ops_cache.memory import Block, MemoryManager, Packed

__all__ = ["BlockStore", "Count", "Key"]

#: Position of a block in the block grid.
Key = tuple[int, ...]

#: Versions of the graph in which something holds: the first one, and the first one in which it does not hold
#: any more; None as long as there is no such version.
Span = tuple[int, int | None]

#: Who computes a block; compared by identity.
C = TypeVar("C")


class Count:
    """A number that only grows."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0


class _Claim(Generic[C]):
    """Somebody who computes a block, and in which versions it holds as far as is known."""

    __slots__ = ("since", "until", "who")

    def __init__(self, who: C, since: int, until: int | None) -> None:
        self.who = who
        self.since = since
        self.until = until


class BlockStore(Generic[C]):
    """The clean blocks of one plan of a cache, and the claims on those that are being computed.

    A *claim* is the right of one computer to be joined by others who want the same block in a version in
    which it holds. There is at most one per block and version. Dirt ends what a claim holds for, so whoever
    sees the version after it claims anew.

    Parameters
    ----------
    manager
        Whose budget the blocks count against; its lock guards everything here.
    kept
        Counts the blocks that were kept, of several stores that follow each other.
    graph
        Whose versions these are; None where there is one version only.
    """

    def __init__(self, manager: MemoryManager, kept: Count | None = None, graph: Any = None) -> None:
        self._manager = manager
        self._kept = Count() if kept is None else kept
        #: Which blocks, as boxes of the grid, went stale when.
        self._stale = None if graph is None else StaleBoxes(graph, self._forget_old)
        #: Clean blocks, each of them holds still. Written under the lock, read without it: a reader that gets
        #: a block just before it is dropped sees a version in which it holds, if that is none before its
        #: `since`.
        self.blocks: dict[Key, Block] = {}
        #: Blocks that hold no more, for executions that began before.
        self._old: dict[Key, list[Block]] = {}
        #: Of these, those that came since it was last looked which are needed; and the versions that need the
        #: others.
        self._unsorted: list[Block] = []
        self._needed_by: frozenset[int] = frozenset()
        #: Who computes a block now.
        self._claims: dict[Key, list[_Claim[C]]] = {}
        #: Bytes and number of all blocks.
        self._nbytes = 0
        self._count = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the blocks, also of those that are kept for older executions only."""
        return self._nbytes

    @property
    def computed(self) -> int:
        """How many blocks were kept so far, by this store and those before it."""
        return self._kept.number

    def find_or_claim(self, key: Key, claimant: C, version: int = 0) -> Block | C:
        """Return the block of a version, else who computes it, else ``claimant``, who claims it now."""
        with self._manager.lock:
            kept: tuple[Block | None, ...] = (self.blocks.get(key), *self._old.get(key, ()))
            for block in kept:
                if block is not None and _holds(block.since, block.until, version):
                    return block
            claims = self._claims.setdefault(key, [])
            for claim in claims:
                if _holds(claim.since, claim.until, version):
                    return claim.who
            claims.append(_Claim(claimant, *self._span(key, version)))
            return claimant

    def keep(
        self, key: Key, claimant: C, data: npt.NDArray[Any] | Packed, priority: int = 0, version: int = 0
    ) -> Span:
        """Keep a block of a version, unless the claim was given up; return in which versions it holds."""
        with self._manager.lock:
            since, until = span = self._span(key, version)
            claims = self._claims.get(key, ())
            if not any(claim.who is claimant for claim in claims):
                return span
            block = Block(data, key, self._forget, priority, since)
            self._end_claim(key, claimant)
            if until is not None:
                self._put_aside(block, until)
            elif key in self.blocks:
                return span  # somebody else was as fast
            else:
                self.blocks[key] = block
            self._nbytes += block.nbytes
            self._count += 1
            self._kept.number += 1
            evicted = self._manager.keep(block)
        del evicted
        return span

    def give_up(self, key: Key, claimant: C) -> None:
        """End the claim of somebody who is done with the block, if it still stands."""
        with self._manager.lock:
            self._end_claim(key, claimant)

    def invalidate(self, first: Sequence[int], stop: Sequence[int]) -> None:
        """Let the blocks in a box ``[first, stop)`` of grid positions hold no longer than until now.

        "Now" is the version that is being made. As long as somebody sees an older one, they are kept for
        that, the first to be evicted.
        """
        dropped: list[Block | None] = []
        with self._manager.lock:
            version, is_needed = 0, False
            if self._stale is not None:
                version, is_needed = self._stale.add(Roi(first, stop)), self._stale.is_seen_before
            for key in list(self._keys_in(first, stop)):
                for claim in self._claims.get(key, ()):
                    if claim.until is None:
                        claim.until = version
                block = self.blocks.get(key)
                if block is None:
                    continue
                if is_needed:
                    del self.blocks[key]
                    self._put_aside(block, version)
                    self._manager.demote(block)
                else:
                    dropped.append(self._drop(block))
            if self._stale is None:
                for key in list(self._keys_in(first, stop)):
                    del self._claims[key]
        del dropped

    def clear(self) -> None:
        """Drop all blocks and end all claims."""
        with self._manager.lock:
            self._claims.clear()
            dropped = [self._drop(block) for block in self._all()]
            self._unsorted.clear()
        del dropped

    def _span(self, key: Key, version: int) -> Span:
        if self._stale is None:
            return 0, None
        place = Roi(key, tuple(k + 1 for k in key))
        return self._stale.since(place, version), self._stale.until(place, version)

    def _put_aside(self, block: Block, until: int) -> None:
        block.until = until
        block.priority = _FIRST_TO_GO
        self._old.setdefault(block.key, []).append(block)
        self._unsorted.append(block)

    def _forget_old(self, left: tuple[int, ...]) -> None:
        """Drop what no version needs that is left; called when one is gone."""
        with self._manager.lock:
            candidates = self._unsorted
            if not self._needed_by.issubset(left):
                candidates = [block for blocks in self._old.values() for block in blocks]
                self._needed_by = frozenset()
            self._unsorted = []
            needed_by, dropped = set(self._needed_by), []
            for block in candidates:
                if block.account is None:
                    continue  # evicted meanwhile
                user = next((v for v in left if _holds(block.since, block.until, v)), None)
                if user is None:
                    dropped.append(self._drop(block))
                else:
                    needed_by.add(user)
            self._needed_by = frozenset(needed_by)
        del dropped

    def _all(self) -> list[Block]:
        return [*self.blocks.values(), *(block for blocks in self._old.values() for block in blocks)]

    def _keys_in(self, first: Sequence[int], stop: Sequence[int]) -> Iterator[Key]:
        known = len(self.blocks) + len(self._claims)
        if prod(b - a for a, b in zip(first, stop, strict=True)) <= known:
            keys = product(*map(range, first, stop))
            return (key for key in keys if key in self.blocks or key in self._claims)
        return (
            key
            for key in {**self.blocks, **self._claims}
            if all(a <= k < b for a, k, b in zip(first, key, stop, strict=True))
        )

    def _drop(self, block: Block) -> Block:
        """Forget a block; return it, so that it is freed outside the lock."""
        self._forget(block)
        self._manager.forget(block)
        return block

    def _forget(self, block: Block) -> None:
        key = block.key
        if self.blocks.get(key) is block:
            del self.blocks[key]
        else:
            others = [other for other in self._old.get(key, ()) if other is not block]
            if others:
                self._old[key] = others
            else:
                self._old.pop(key, None)
        self._nbytes -= block.nbytes
        self._count -= 1

    def _end_claim(self, key: Key, claimant: C) -> None:
        claims = [claim for claim in self._claims.get(key, ()) if claim.who is not claimant]
        if claims:
            self._claims[key] = claims
        else:
            self._claims.pop(key, None)

    def __del__(self) -> None:
        if self._count:
            self._manager.abandon(self._nbytes, self._count)


#: Priority of blocks that are kept for older executions.
_FIRST_TO_GO = -(2**31)


def _holds(since: int, until: int | None, version: int) -> bool:
    return since <= version and (until is None or version < until)
