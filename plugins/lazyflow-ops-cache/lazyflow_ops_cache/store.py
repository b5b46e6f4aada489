"""What a cache knows of its blocks: which are clean, since when, and who is computing which.

Knows no image and no request; ``DESIGN.md`` tells the invariants and the interleavings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import Any, Generic, TypeVar

from lazyflow_core import Roi, StaleBoxes

from lazyflow_ops_cache.memory import Block, MemoryManager
from lazyflow_ops_cache.storage import Pixels, Spilled

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
    """The clean blocks of a cache, and the claims on those that are being computed.

    Plans that follow each other share it as long as they keep the same blocks in the same way: each has a
    *lease*, and with the last one the blocks go.

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
    name
        What it is called in reports.
    """

    def __init__(
        self, manager: MemoryManager, kept: Count | None = None, graph: Any = None, name: str = "blocks"
    ) -> None:
        self._manager = manager
        #: What the blocks count in.
        self.account = manager.part(name)
        self._leases = 1
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
        #: The frozen time that is now: the version it began in; None where nothing is frozen. Guarded by the
        #: lock, as what follows.
        self.frozen_since: int | None = None
        #: Boxes of the grid that went stale in it, and the keys of blocks that somebody missed.
        self._withheld: list[tuple[Sequence[int], Sequence[int]]] = []
        self._missed: set[Key] = set()

    @property
    def nbytes(self) -> int:
        """Bytes of memory of the blocks, also of those that are kept for older executions only."""
        return self.account.used_bytes

    def lease(self) -> bool:
        """Let one more plan use it; False if it was cleared with the last one."""
        with self._manager.lock:
            if self._leases:
                self._leases += 1
            return self._leases > 0

    def release(self) -> None:
        """End the lease of a plan; with the last one all blocks go."""
        with self._manager.lock:
            self._leases -= 1
            if self._leases:
                return
        self.clear()

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

    def keep(self, key: Key, claimant: C, data: Pixels, priority: int = 0, version: int = 0) -> Span:
        """Keep a block of a version, unless the claim was given up; return in which versions it holds."""
        with self._manager.lock:
            since, until = span = self._span(key, version)
            claims = self._claims.get(key, ())
            if not any(claim.who is claimant for claim in claims):
                return span
            self._end_claim(key, claimant)
            if until is None and key in self.blocks:
                return span  # somebody else was as fast
            self._kept.number += 1
            evicted = self._enter(Block(data, key, self._forget, priority, since), until)
        del evicted
        return span

    def restore(self, key: Key, data: Pixels, priority: int, version: int) -> bool:
        """Keep a block that was computed in another process; return whether it is one of now."""
        with self._manager.lock:
            since, until = self._span(key, version)
            if until is not None or key in self.blocks or not self._leases:
                return False
            evicted = self._enter(Block(data, key, self._forget, priority, since), None)
        del evicted
        return True

    def _enter(self, block: Block, until: int | None) -> list[Any]:
        """Keep a block; return what was given back for it."""
        if until is not None:
            self._put_aside(block, until)
        else:
            self.blocks[block.key] = block
        if isinstance(block.data, Spilled):
            return []  # only its copy in memory counts
        try:
            return self.account.keep(block)
        except BaseException:  # Ctrl-C on the way
            if block.account is None:
                self._forget(block)  # it does not count
            raise

    def clean_at(self, version: int) -> list[tuple[Key, Block]]:
        """Return the blocks that hold in a version, in the order of their keys."""
        with self._manager.lock:
            kept = [
                (block.key, block)
                for block in self._all()
                if _holds(block.since, block.until, version)
                and block.since >= self._span(block.key, version)[0]
            ]
        return sorted(kept, key=lambda item: item[0])

    def freeze(self, since: int) -> None:
        """Begin a frozen time, if it is another one than now: from now on stale blocks stay."""
        with self._manager.lock:
            self.frozen_since = since

    def misses(self, key: Key, frozen_since: int | None) -> bool:
        """Note that somebody in a frozen time misses a block; False if that time is over."""
        with self._manager.lock:
            if self.frozen_since != frozen_since:
                return False
            self._missed.add(key)
            return True

    def withhold(self, first: Sequence[int], stop: Sequence[int]) -> None:
        """Let the blocks in a box of the grid stay although they are stale, until the frozen time is over.

        What is computed of them by anybody is told apart by versions as always.
        """
        with self._manager.lock:
            self._note_stale(first, stop)
            self._withheld.append((tuple(first), tuple(stop)))

    @property
    def outdated(self) -> list[tuple[Sequence[int], Sequence[int]]]:
        """Boxes of the grid where what a frozen cache gives is not what is upstream."""
        with self._manager.lock:
            one = [(key, tuple(k + 1 for k in key)) for key in sorted(self._missed)]
            return [*self._withheld, *one]

    def thaw(self) -> list[tuple[Sequence[int], Sequence[int]]]:
        """End the frozen time; return the boxes of the grid that are stale now."""
        with self._manager.lock:
            boxes = self.outdated
            for first, stop in self._withheld:
                self.invalidate(first, stop)
            self.frozen_since = None
            self._withheld.clear()
            self._missed.clear()
            return boxes

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
            version = self._note_stale(first, stop)
            is_needed = self._stale is not None and self._stale.is_seen_before
            for key in list(self._keys_in(first, stop)):
                block = self.blocks.get(key)
                if block is None:
                    continue
                if is_needed:
                    del self.blocks[key]
                    self._put_aside(block, version)
                    self._demote(block)
                else:
                    dropped.append(self._drop(block))
        del dropped

    def _note_stale(self, first: Sequence[int], stop: Sequence[int]) -> int:
        """Let what is computed in a box hold no longer than until now; return the version that is now."""
        version = 0 if self._stale is None else self._stale.add(Roi(first, stop))
        for key in list(self._keys_in(first, stop)):
            if self._stale is None:
                self._claims.pop(key, None)
            for claim in self._claims.get(key, ()):
                if claim.until is None:
                    claim.until = version
        return version

    def _demote(self, block: Block) -> None:
        """Let a block be given back as its priority says that it has now."""
        if isinstance(block.data, Spilled):
            block.data.cool()
        elif block.account is not None:
            self.account.forget(block)
            self.account.keep(block)  # there was room for it

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
                if block not in self._old.get(block.key, ()):
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
        self.account.forget(block)  # first, as in the ledger
        self._forget(block)
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

    def _end_claim(self, key: Key, claimant: C) -> None:
        claims = [claim for claim in self._claims.get(key, ()) if claim.who is not claimant]
        if claims:
            self._claims[key] = claims
        else:
            self._claims.pop(key, None)

    def __del__(self) -> None:
        # Whoever holds one of them holds the store, so all are gone. Copies of those on disk count alone.
        counted = [block.nbytes for block in self._all() if block.account is not None]
        if counted:
            self.account.abandon(sum(counted), len(counted))


#: Priority of blocks that are kept for older executions.
_FIRST_TO_GO = -(2**31)


def _holds(since: int, until: int | None, version: int) -> bool:
    return since <= version and (until is None or version < until)
