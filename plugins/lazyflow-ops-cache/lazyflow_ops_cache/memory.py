"""Blocks in memory, and what the caches of a process have in its ledger."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from lazyflow_core.utility import (
    BUDGET_VARIABLE,
    Account,
    Holding,
    MemoryLedger,
    format_bytes,
    memory_ledger,
    tick,
)

from lazyflow_ops_cache.storage import Pixels

__all__ = ["BUDGET_VARIABLE", "Block", "MemoryManager", "memory_manager", "tick"]


class Block(Holding):
    """A clean block that a cache keeps.

    Attributes
    ----------
    data
        Its pixels, an array or what `storage` makes of one; not changed by anybody. Readers hold it by
        reference and copy from it without any lock, so it lives until the last of them is done, whoever
        evicts the block meanwhile.
    key
        Where it is in its cache.
    since, until
        The versions of the graph in which it holds: the first one, and the first one in which it does not
        any more, None as long as it holds. Guarded by the lock of the manager; ``since`` never changes.
    """

    __slots__ = ("data", "key", "since", "until")

    def __init__(
        self,
        data: Pixels,
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
        #: Where bytes of blocks count while they are computed.
        self.computing = self.ledger.account("cache.computing")

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

    def part(self, name: str) -> Account:
        """Return an account for the blocks of one cache, which count here, too.

        A block that is larger than the budget is given back at once: its reader has it by reference.
        """
        return self._account.part(name)


_process_manager: Final = MemoryManager()


def memory_manager() -> MemoryManager:
    """Return the manager that all caches of this process share.

    Examples
    --------
    >>> memory_manager() is memory_manager()
    True
    """
    return _process_manager
