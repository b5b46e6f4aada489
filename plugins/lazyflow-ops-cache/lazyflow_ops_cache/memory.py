"""Blocks in memory, and what the caches of a process have in its ledger."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from lazyflow_core.utility import BUDGET_VARIABLE, Holding, MemoryLedger, format_bytes, memory_ledger, tick

__all__ = ["BUDGET_VARIABLE", "Block", "MemoryManager", "Packed", "memory_manager", "tick"]


class Block(Holding):
    """A clean block that a cache keeps.

    Attributes
    ----------
    data
        Its pixels, an array or `Packed`; not changed by anybody. Readers hold it by reference and copy from
        it without any lock, so it lives until the last of them is done, whoever evicts the block meanwhile.
    key
        Where it is in its cache.
    since, until
        The versions of the graph in which it holds: the first one, and the first one in which it does not
        any more, None as long as it holds. Guarded by the lock of the manager; ``since`` never changes.
    """

    __slots__ = ("data", "key", "since", "until")

    def __init__(
        self,
        data: npt.NDArray[Any] | Packed,
        key: tuple[int, ...],
        evict: Callable[[Block], None],
        priority: int = 0,
        since: int = 0,
    ) -> None:
        super().__init__(data.nbytes, evict, priority)
        self.since = since
        self.until: int | None = None
        self.data = data
        self.key = key


class Packed:
    """The pixels of a block, compressed; indexing it unpacks all of it."""

    __slots__ = ("_bytes", "_dtype", "_plain_bytes", "_shape")

    def __init__(self, data: npt.NDArray[Any]) -> None:
        self._bytes = zlib.compress(data.tobytes(), level=1)  # the fastest; the others gain little
        self._dtype, self._shape, self._plain_bytes = data.dtype, data.shape, data.nbytes

    @property
    def nbytes(self) -> int:
        """Bytes that are kept."""
        return len(self._bytes)

    def __getitem__(self, key: tuple[slice, ...]) -> npt.NDArray[Any]:
        plain = zlib.decompress(self._bytes, bufsize=self._plain_bytes)
        whole: npt.NDArray[Any] = np.frombuffer(plain, self._dtype)
        return whole.reshape(self._shape)[key]


class MemoryManager:
    """The blocks of all caches, in a ledger that they share with everything else that is kept.

    Parameters
    ----------
    budget_bytes
        For a ledger of its own with that budget; None for that of the process.

    Notes
    -----
    `lock`, that of the ledger, also guards the bookkeeping of every cache.
    """

    def __init__(self, budget_bytes: int | None = None) -> None:
        self.ledger = memory_ledger() if budget_bytes is None else MemoryLedger(budget_bytes)
        self._account = self.ledger.account("cache.blocks")

    @property
    def lock(self) -> AbstractContextManager[bool]:
        """The lock of the ledger."""
        return self.ledger.lock

    @property
    def budget_bytes(self) -> int:
        """Bytes that the process may keep, blocks and all else; see `MemoryLedger`."""
        return self.ledger.budget_bytes

    @budget_bytes.setter
    def budget_bytes(self, budget_bytes: int) -> None:
        self.ledger.budget_bytes = budget_bytes

    @property
    def used_bytes(self) -> int:
        """Bytes of the blocks that are kept; those that are only being read are not counted."""
        return self._account.used_bytes

    def describe(self) -> str:
        """Return what is kept and what was evicted, for reports; of everything see `MemoryLedger.describe`.

        Examples
        --------
        >>> MemoryManager(2**20).describe()
        '0 blocks, 0 B of 1.0 MiB; 0 evicted so far'
        """
        account, ledger = self._account, self.ledger
        used = f"{account.holdings} blocks, {format_bytes(account.used_bytes)}"
        return f"{used} of {format_bytes(ledger.budget_bytes)}; {account.given_back} evicted so far"

    def keep(self, block: Block) -> list[Holding]:
        """Count a new block, evict what is too much, and return that. The caller holds the lock.

        A block that is larger than the budget is evicted itself: its reader has it by reference.
        """
        return self._account.keep(block)

    def demote(self, block: Block) -> None:
        """Let a block be evicted as its priority says that it has now. The caller holds the lock."""
        self._account.forget(block)
        self._account.keep(block)  # there was room for it

    def forget(self, block: Block) -> None:
        """Count a block no more. The caller holds the lock."""
        self._account.forget(block)

    def abandon(self, nbytes: int, blocks: int) -> None:
        """Count blocks no more that have gone with their cache. Takes no lock."""
        self._account.abandon(nbytes, blocks)


_process_manager: Final = MemoryManager()


def memory_manager() -> MemoryManager:
    """Return the manager that all caches of this process share.

    Examples
    --------
    >>> memory_manager() is memory_manager()
    True
    """
    return _process_manager
