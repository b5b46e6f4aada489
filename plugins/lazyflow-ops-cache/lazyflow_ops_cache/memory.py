"""The memory that all caches of a process share: one budget, and the least recently used block goes first.

There is no thread that looks after it. Whoever keeps one block more makes room for it in the same moment,
so the budget is exceeded at no time.
"""

from __future__ import annotations

import heapq
import os
import threading
import weakref
import zlib
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from lazyflow_core.errors import ParameterError
from lazyflow_core.utility import available_memory, format_bytes, parse_bytes

__all__ = ["BUDGET_VARIABLE", "Block", "MemoryManager", "Packed", "memory_manager", "tick"]

#: Environment variable with the budget of a process, e.g. ``"2 GiB"``.
BUDGET_VARIABLE: Final = "LAZYFLOW_CACHE_BYTES"

#: The part of the memory that was free at the first use which caches take where nobody says otherwise.
#: The rest is for what is being computed, and for everybody else.
_USUAL_SHARE: Final = 0.25

#: Gives the next moment. Advanced by every access to a block, from any thread: ``next`` of a count is one
#: step of the interpreter, so no two accesses have the same moment.
tick: Callable[[], int] = count(1).__next__


class Block:
    """A clean block that a cache keeps.

    Attributes
    ----------
    data
        Its pixels, an array or `Packed`; not changed by anybody. Readers hold it by reference and copy from
        it without any lock, so it lives until the last of them is done, whoever evicts the block meanwhile.
    key
        Where it is in its cache.
    used
        The moment it was last read. Written by readers without a lock: of two who write at once either
        moment is as good.
    evict
        Makes its cache forget it; called under the lock of the manager.
    priority
        Blocks with a smaller number are evicted first, whenever they were read.
    """

    __slots__ = ("__weakref__", "data", "evict", "kept", "key", "priority", "used")

    def __init__(
        self,
        data: npt.NDArray[Any] | Packed,
        key: tuple[int, ...],
        evict: Callable[[Block], None],
        priority: int = 0,
    ) -> None:
        self.data = data
        self.key = key
        self.evict = evict
        self.priority = priority
        self.used = tick()
        #: Whether it counts. Guarded by the lock of the manager.
        self.kept = True


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
    """Counts the bytes of all kept blocks and evicts the least recently used ones beyond a budget.

    Parameters
    ----------
    budget_bytes
        Bytes that clean blocks may take together; None: what `BUDGET_VARIABLE` says, else a quarter of the
        memory that is free when the first block is kept.

    Notes
    -----
    `lock` also guards the bookkeeping of every cache, so there is no order of locks to get wrong. It is
    held for a few statements, never across a wait or a computation. It is re-entrant because a garbage
    collection inside such a section may close a cache.
    """

    def __init__(self, budget_bytes: int | None = None) -> None:
        self.lock = threading.RLock()
        self._budget = None if budget_bytes is None else _checked(budget_bytes)
        #: Bytes and number of the blocks that are kept. Guarded by the lock, as all below.
        self._used = 0
        self._count = 0
        self._evicted = 0
        #: (priority, moment of last use when it was entered, block). A block is entered once. Its moment only
        #: grows, so the first entry whose moment is still true is the least recently used block.
        self._heap: list[tuple[int, int, weakref.ref[Block]]] = []
        #: (bytes, number of blocks) of caches that were garbage collected. Appended by finalizers, which run
        #: anywhere and must take no lock.
        self._abandoned: deque[tuple[int, int]] = deque()

    @property
    def budget_bytes(self) -> int:
        """Bytes that clean blocks may take together; lowering it evicts at once.

        Raises
        ------
        ParameterError
            When assigned something that is no number >= 0, or if `BUDGET_VARIABLE` is no size.
        """
        if self._budget is None:
            self._budget = _usual_budget()
        return self._budget

    @budget_bytes.setter
    def budget_bytes(self, budget_bytes: int) -> None:
        budget = _checked(budget_bytes)
        with self.lock:
            self._budget = budget
            evicted = self._make_room()
        del evicted  # freed outside the lock, as everywhere

    @property
    def used_bytes(self) -> int:
        """Bytes of the blocks that are kept; those that are only being read are not counted."""
        with self.lock:
            self._settle()
            return self._used

    def describe(self) -> str:
        """Return what is kept and what was evicted, for reports.

        Examples
        --------
        >>> MemoryManager(2**20).describe()
        '0 blocks, 0 B of 1.0 MiB; 0 evicted so far'
        """
        with self.lock:
            self._settle()
            used, blocks, evicted = self._used, self._count, self._evicted
        budget = format_bytes(self.budget_bytes)
        return f"{blocks} blocks, {format_bytes(used)} of {budget}; {evicted} evicted so far"

    def keep(self, block: Block) -> list[Block]:
        """Count a new block, evict what is too much, and return that. The caller holds the lock.

        A block that is larger than the budget is evicted itself: its reader has it by reference.
        """
        self._used += block.data.nbytes
        self._count += 1
        heapq.heappush(self._heap, (block.priority, block.used, weakref.ref(block)))
        return self._make_room()

    def forget(self, block: Block) -> None:
        """Count a block no more. The caller holds the lock."""
        if block.kept:
            block.kept = False
            self._used -= block.data.nbytes
            self._count -= 1
            # Its entry stays behind, and is passed over or swept out.
            if len(self._heap) > 2 * self._count + 64:
                self._sweep()

    def abandon(self, nbytes: int, blocks: int) -> None:
        """Count blocks no more that have gone with their cache. Takes no lock."""
        self._abandoned.append((nbytes, blocks))

    def _make_room(self) -> list[Block]:
        self._settle()
        evicted: list[Block] = []
        heap, budget = self._heap, self.budget_bytes
        while self._used > budget and heap:
            priority, moment, reference = heap[0]
            block = reference()
            if block is None or not block.kept:
                heapq.heappop(heap)
            elif block.used != moment:
                heapq.heapreplace(heap, (priority, block.used, reference))
            else:
                heapq.heappop(heap)
                block.evict(block)
                self.forget(block)
                self._evicted += 1
                evicted.append(block)
        return evicted

    def _settle(self) -> None:
        while self._abandoned:
            nbytes, blocks = self._abandoned.popleft()
            self._used -= nbytes
            self._count -= blocks

    def _sweep(self) -> None:
        entries = [(reference(), reference) for *_, reference in self._heap]
        self._heap[:] = [
            (block.priority, block.used, reference) for block, reference in entries if block and block.kept
        ]
        heapq.heapify(self._heap)


def _checked(budget_bytes: int) -> int:
    if isinstance(budget_bytes, bool) or not isinstance(budget_bytes, int) or budget_bytes < 0:
        raise ParameterError(f"budget_bytes={budget_bytes!r} is not a number of bytes >= 0.")
    return budget_bytes


def _usual_budget() -> int:
    text = os.environ.get(BUDGET_VARIABLE)
    if text is None:
        return int(available_memory() * _USUAL_SHARE)
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise ParameterError(f"{BUDGET_VARIABLE}: {error}") from None


_process_manager: Final = MemoryManager()

if hasattr(os, "register_at_fork"):
    # A fork while another thread is inside a section would leave the child a lock nobody releases.
    os.register_at_fork(
        before=_process_manager.lock.acquire,
        after_in_parent=_process_manager.lock.release,
        after_in_child=_process_manager.lock.release,
    )


def memory_manager() -> MemoryManager:
    """Return the manager that all caches of this process share.

    Examples
    --------
    >>> memory_manager() is memory_manager()
    True
    """
    return _process_manager
