"""The memory that everything kept in this process shares: one budget, one list of who keeps how much.

A cache keeps blocks, an operator the result for a whole image, a reader unpacked chunks. None of them can
know how much the others have, so all write into one ledger. Whoever keeps something more makes room for it
in the same moment; there is no thread that looks after it.
"""

from __future__ import annotations

import heapq
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from textwrap import indent
from typing import TYPE_CHECKING, Any, Final

from lazyflow_core.errors import ParameterError
from lazyflow_core.foreign import contextmanager
from lazyflow_core.utility.memory import available_memory, format_bytes, parse_bytes

if TYPE_CHECKING:
    from lazyflow_core.graph import ValueOutput

__all__ = [
    "BUDGET_VARIABLE",
    "Account",
    "Holding",
    "MemoryLedger",
    "MemoryReport",
    "Reservation",
    "memory_ledger",
    "tick",
]

#: Environment variable with the budget of a process, e.g. ``"2 GiB"``.
BUDGET_VARIABLE: Final = "LAZYFLOW_CACHE_BYTES"

#: The part of the memory that was free at the first use which may be kept where nobody says otherwise.
#: The rest is for what is being computed, and for everybody else.
_USUAL_SHARE: Final = 0.25

#: Gives the next moment. Advanced by every access to a holding, from any thread: ``next`` of a count is one
#: step of the interpreter, so no two accesses have the same moment.
tick: Callable[[], int] = count(1).__next__


class Holding:
    """Something that is kept, and can be given back.

    Parameters
    ----------
    nbytes
        Bytes it takes.
    give_back
        Called with it under the lock of the ledger when its room is needed: its keeper forgets it. It takes
        no lock under which anybody calls the ledger, waits for nothing, and does not raise. None for what
        cannot be had again, such as what a user painted: it counts, others make room for it, and it stays.
    priority
        Holdings with a smaller number are given back first, whenever they were used.
    essential
        Kept even beyond the budget, until something as essential or somebody who lowers the budget needs the
        room: what would otherwise be computed again as a whole for every block of it.

    Attributes
    ----------
    used
        The moment it was last used, a `tick`. Written by users without a lock: of two who write at once
        either moment is as good.
    """

    __slots__ = ("__weakref__", "account", "essential", "give_back", "nbytes", "priority", "used")

    def __init__(
        self,
        nbytes: int,
        give_back: Callable[[Any], None] | None,
        priority: int = 0,
        *,
        essential: bool = False,
    ) -> None:
        self.nbytes = nbytes
        self.give_back = give_back
        self.priority = priority
        self.essential = essential
        self.used = tick()
        #: Where it counts, None where it does not. Guarded by the lock of the ledger.
        self.account: Account | None = None


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """Who keeps how much: one line of a report, and the lines below it.

    Parameters
    ----------
    name
        Of the account or its part.
    nbytes
        Bytes that are kept or reserved, all parts included.
    holdings
        How many things are kept.
    given_back
        How many had to be given back so far.
    parts
        The same for each part, the largest first.
    """

    name: str
    nbytes: int
    holdings: int
    given_back: int
    parts: tuple[MemoryReport, ...] = ()

    def __str__(self) -> str:
        line = (
            f"{self.name}: {format_bytes(self.nbytes)}, {self.holdings} kept, "
            f"{self.given_back} given back so far"
        )
        return "\n".join([line, *(indent(str(part), "  ") for part in self.parts)])


class Account:
    """What one kind of keeper has in the ledger; made by `MemoryLedger.account`, its parts by `part`."""

    def __init__(self, ledger: MemoryLedger, name: str, whole: Account | None = None) -> None:
        self.ledger = ledger
        self.name = name
        self._whole = whole
        #: Its parts, as long as somebody keeps something there. Guarded by the lock of the ledger.
        self._parts: weakref.WeakSet[Account] = weakref.WeakSet()
        #: Bytes, kept and reserved, and number of holdings. Guarded by the lock of the ledger.
        self._used = 0
        self._count = 0
        #: How many holdings had to be given back so far.
        self.given_back = 0

    @property
    def used_bytes(self) -> int:
        """Bytes that are kept or reserved under this name; what is only being read is not counted."""
        with self.ledger.lock:
            self.ledger._settle()
            return self._used

    @property
    def holdings(self) -> int:
        """How many things are kept under this name."""
        with self.ledger.lock:
            self.ledger._settle()
            return self._count

    def part(self, name: str) -> Account:
        """Return a new part of the account, for one of several keepers of a kind.

        What counts there counts here. It shows in reports as long as its keeper has it. A part has no parts.
        """
        assert self._whole is None
        with self.ledger.lock:
            part = Account(self.ledger, name, self)
            self._parts.add(part)
            return part

    def report(self) -> MemoryReport:
        """Return what is kept here, and of that in each part."""
        with self.ledger.lock:
            self.ledger._settle()
            parts = sorted(self._parts, key=lambda part: (-part._used, part.name))
            below = tuple(part.report() for part in parts)
            return MemoryReport(self.name, self._used, self._count, self.given_back, below)

    def keep(self, holding: Holding) -> list[Holding]:
        """Count a holding, ask others to give back what is too much, and return what was given back.

        Let go of that list outside the lock: the arrays are freed with it. Something larger than the budget
        is given back at once, unless it is essential; whoever needs it now has it by reference.
        """
        ledger = self.ledger
        with ledger.lock:
            # In this order, and `_add` without a call or a loop: Ctrl-C comes before both or after both.
            self._add(holding.nbytes, 1)
            holding.account = self
            heapq.heappush(
                ledger._heap, (holding.essential, holding.priority, holding.used, weakref.ref(holding))
            )
            return ledger._make_room(holding.essential, holding)

    def keep_as_long_as(self, owner: Any, holding: Holding) -> None:
        """Count a holding until an object, such as the array it stands for, is gone."""
        given_back = self.keep(holding)
        # Runs anywhere, even inside a section of the lock's own thread, and must take no lock.
        weakref.finalize(owner, self.ledger._gone.append, holding).atexit = False
        del given_back

    def keep_value(self, slot: ValueOutput[Any], value: Any, nbytes: int) -> None:
        """Count what a value output computed until it is gone; for the end of ``compute_value``.

        It is essential, see `Holding`. Where its room is needed nevertheless, the slot computes it again when
        it is asked next; whoever has it by then keeps it.
        """
        forget = weakref.WeakMethod(slot._forget)  # the ledger must not keep the slot

        def give_back(holding: Holding) -> None:
            function = forget()
            if function is not None:
                function()

        self.keep_as_long_as(value, Holding(nbytes, give_back, essential=True))

    def forget(self, holding: Holding) -> None:
        """Count a holding no more, if it still counts."""
        with self.ledger.lock:
            if holding.account is self:
                self._add(-holding.nbytes, -1)
                holding.account = None
                self.ledger._sweep()

    def abandon(self, nbytes: int, holdings: int) -> None:
        """Count holdings no more that have gone with their keeper. Takes no lock: for ``__del__``."""
        self.ledger._abandoned.append((self, nbytes, holdings))

    @contextmanager
    def reserved(self, nbytes: int) -> Iterator[None]:
        """Count bytes that are needed for a while; all but what is essential makes room for them."""
        reservation = self.reserve(nbytes)
        try:
            yield
        finally:
            reservation.release()

    def reserve(self, nbytes: int) -> Reservation:
        """Do as `reserved`, for those whom a ``with`` block would cost too much."""
        reservation = Reservation(self)
        with self.ledger.lock:
            self._add(nbytes, 0)
            reservation.nbytes = nbytes
            given_back = self.ledger._make_room(False)
        del given_back
        return reservation

    def _add(self, nbytes: int, holdings: int) -> None:
        whole = self._whole
        if whole is not None:
            whole._used += nbytes
            whole._count += holdings
        self._used += nbytes
        self._count += holdings
        self.ledger._used += nbytes
        self.ledger._count += holdings

    def _gave_back(self) -> None:
        self.given_back += 1
        if self._whole is not None:
            self._whole.given_back += 1


class Reservation:
    """Bytes that are needed for a while; made by `Account.reserve`. What is dropped is released, too."""

    __slots__ = ("_account", "nbytes")

    def __init__(self, account: Account) -> None:
        self._account = account
        #: 0 before it counts, and when it was released. Guarded by the lock of the ledger.
        self.nbytes = 0

    def release(self) -> None:
        """Count the bytes no more; twice is fine."""
        with self._account.ledger.lock:
            self._account._add(-self.nbytes, 0)
            self.nbytes = 0

    def __del__(self) -> None:
        if self.nbytes:  # Ctrl-C on the way
            self._account.abandon(self.nbytes, 0)


class MemoryLedger:
    """Counts what is kept, by whom, and has the least recently used given back beyond a budget.

    Parameters
    ----------
    budget_bytes
        Bytes that may be kept together; None: what `BUDGET_VARIABLE` says, else a quarter of the memory that
        is free when something is kept first.

    Notes
    -----
    `lock` may also guard the bookkeeping of keepers, so that there is no order of locks to get wrong. It is
    held for a few statements, never across a wait or a computation. It is re-entrant because a garbage
    collection inside such a section may close a keeper.

    Examples
    --------
    >>> ledger = MemoryLedger(100)
    >>> blocks = ledger.account("cache.blocks")
    >>> forgotten = []
    >>> for name in "ab":
    ...     given_back = blocks.keep(Holding(60, forgotten.append))
    >>> len(forgotten), blocks.used_bytes
    (1, 60)
    >>> with ledger.account("export").reserved(30):
    ...     print(ledger.describe())
    90 B of 100 B kept
      cache.blocks: 60 B, 1 kept, 1 given back so far
      export: 30 B, 0 kept, 0 given back so far
    """

    def __init__(self, budget_bytes: int | None = None) -> None:
        self.lock = threading.RLock()
        self._budget = None if budget_bytes is None else _checked(budget_bytes)
        #: Guarded by the lock, as all below.
        self._accounts: dict[str, Account] = {}
        self._used = 0
        self._count = 0
        #: (essential, priority, moment of last use when it was entered, holding). A holding is entered once.
        #: Its moment only grows, so the first one whose moment is still true was least recently used.
        self._heap: list[tuple[bool, int, int, weakref.ref[Holding]]] = []
        #: What was garbage collected. Appended by finalizers, which run anywhere and must take no lock.
        self._abandoned: deque[tuple[Account, int, int]] = deque()
        self._gone: deque[Holding] = deque()

    @property
    def budget_bytes(self) -> int:
        """Bytes that may be kept together; lowering it has others give back at once, essential or not.

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
            given_back = self._make_room(True)
        del given_back  # freed outside the lock, as everywhere

    @property
    def used_bytes(self) -> int:
        """Bytes that are kept or reserved; what was given back but is still being read is not counted."""
        with self.lock:
            self._settle()
            return self._used

    def account(self, name: str) -> Account:
        """Return the account of that name, such as ``cache.blocks``; the same one for all who ask."""
        with self.lock:
            return self._accounts.setdefault(name, Account(self, name))

    def report(self) -> tuple[MemoryReport, ...]:
        """Return who keeps how much: one report per account, in the order of their names."""
        with self.lock:
            return tuple(self._accounts[name].report() for name in sorted(self._accounts))

    def describe(self) -> str:
        """Return who keeps how much, for people: the sum, then a line per account and part."""
        with self.lock:
            used, lines = self.used_bytes, [indent(str(report), "  ") for report in self.report()]
        return "\n".join([f"{format_bytes(used)} of {format_bytes(self.budget_bytes)} kept", *lines])

    def relieve(self) -> int:
        """Have all given back that can be had again at little cost, and return how many bytes that was.

        For whoever meets a `MemoryError`, and tries once more after it. What is essential stays.
        """
        with self.lock:
            before = self._used
            given_back = self._make_room(False, budget_bytes=0)
            freed = before - self._used
        del given_back
        return freed

    def _make_room(
        self, essential: bool, newest: Holding | None = None, budget_bytes: int | None = None
    ) -> list[Holding]:
        """Have holdings given back until the budget holds; what is essential only for what is so too.

        The newest holding is among them, unless it is essential.
        """
        self._settle()
        given_back: list[Holding] = []
        heap, budget = self._heap, self.budget_bytes if budget_bytes is None else budget_bytes
        while self._used > budget and heap:
            dear, priority, moment, reference = heap[0]
            holding = reference()
            if holding is None or holding.account is None or holding.give_back is None:
                heapq.heappop(heap)
            elif holding.used != moment:
                heapq.heapreplace(heap, (dear, priority, holding.used, reference))
            elif dear and (not essential or holding is newest):
                break  # others that are essential, too, were used since
            else:
                heapq.heappop(heap)
                given_back.append(holding)
                # Counted off first: after a Ctrl-C in between it is kept and not counted until it goes.
                holding.account._gave_back()
                holding.account.forget(holding)
                holding.give_back(holding)
        return given_back

    def _settle(self) -> None:
        while self._abandoned:
            account, nbytes, holdings = self._abandoned.popleft()
            account._add(-nbytes, -holdings)
        while self._gone:
            holding = self._gone.popleft()
            if holding.account is not None:
                holding.account.forget(holding)

    def _sweep(self) -> None:
        """Take out entries of what counts no more, once they are many; until then they are passed over."""
        if len(self._heap) <= 2 * self._count + 64:
            return
        entries = [(reference(), reference) for *_, reference in self._heap]
        self._heap[:] = [
            (holding.essential, holding.priority, holding.used, reference)
            for holding, reference in entries
            if holding and holding.account is not None
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


_process_ledger: Final = MemoryLedger()

if hasattr(os, "register_at_fork"):
    # A fork while another thread is inside a section would leave the child a lock nobody releases.
    os.register_at_fork(
        before=_process_ledger.lock.acquire,
        after_in_parent=_process_ledger.lock.release,
        after_in_child=_process_ledger.lock.release,
    )


def memory_ledger() -> MemoryLedger:
    """Return the ledger of this process.

    Examples
    --------
    >>> memory_ledger() is memory_ledger()
    True
    """
    return _process_ledger
