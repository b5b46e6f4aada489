"""The graph: operators, their connections, one scheduler, one setup at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, cast

from lazyflow_core.foreign import logged, shown
from lazyflow_core.graph.describe import describe
from lazyflow_core.graph.gate import ChangeGate
from lazyflow_core.graph.setup import Change, Setup, Transaction
from lazyflow_core.graph.slots import refuse_copy
from lazyflow_core.graph.versions import DEAD, MAKING, Snapshot, Versions, place_in, seen
from lazyflow_core.request import Request, Scheduler, default_scheduler

if TYPE_CHECKING:
    from lazyflow_core.graph.operator import Operator

__all__ = ["Graph"]

_logger = logging.getLogger("lazyflow_core")

#: What to call when the notifications under way here are over; None outside of any.
_deferred: ContextVar[dict[tuple[Callable[..., object], tuple[Any, ...]], None] | None] = ContextVar(
    "deferred", default=None
)


class Graph:
    """Operators and what connects them.

    Parameters
    ----------
    scheduler
        Where requests run; default the scheduler of the process, made when it is first used.

    Notes
    -----
    Any thread may ask, connect and assign at any time. A change makes a new version of the graph and waits
    for no computation; a computation sees one version, the newest that was complete when it began, and waits
    for no change.

    Examples
    --------
    >>> with Graph() as graph:
    ...     len(graph.operators)
    0
    """

    #: It was there before all versions.
    _born: ClassVar[int] = 0

    def __init__(self, scheduler: Scheduler | None = None) -> None:
        if scheduler is not None and not isinstance(scheduler, Scheduler):
            raise TypeError(f"Graph({scheduler!r}): that is no scheduler, such as ThreadedScheduler(4).")
        #: None for that of the process, which is made when somebody needs it.
        self._own_scheduler = scheduler
        #: Lets one change in at a time.
        self._gate = ChangeGate()
        self._versions = Versions()
        #: Operators without parent. Written by the setup transaction only.
        self._operators: tuple[Operator, ...] = ()
        #: The transaction under way. Touched by the owner of the gate only.
        self._setup: Setup | None = None
        #: Requests of this graph that are being computed, for cancelling them. Added to and discarded from
        #: by any thread; both are atomic.
        self._running: set[Request[Any]] = set()

    @property
    def scheduler(self) -> Scheduler:
        """Where requests run."""
        return default_scheduler() if self._own_scheduler is None else self._own_scheduler

    @property
    def operators(self) -> tuple[Operator, ...]:
        """The operators without parent, in the order they were made."""
        return cast("tuple[Operator, ...]", seen(self, self, "_operators"))

    @property
    def version(self) -> int:
        """Number of the version that is seen here; it grows with every change, and with every stale region.

        Inside ``execute`` that is the version which was complete when the execution began, inside
        `snapshot` that of the snapshot, in ``setup_outputs`` the one that is being made.
        """
        place = place_in(self)
        if place is None or place[3].state is DEAD:
            return self._versions.current.number
        number: int = place[3].number
        return number

    def snapshot(self) -> Snapshot:
        """See one version of the graph inside a ``with`` block, whatever changes meanwhile.

        All that is asked inside gives what was there when it began, also by requests that are made there and
        have begun when it ends. Changes may be made inside; they are seen afterwards.

        Raises
        ------
        GraphError
            In the middle of a change of the same graph.

        Examples
        --------
        ::

            with graph.snapshot():
                first = smooth.output.read(left)
                second = smooth.output.read(right)  # the same sigma, whoever moves the slider
        """
        return Snapshot(self)

    def _unborn(self, field: str, value: Any) -> Any:
        """Never asked: it was there before all versions."""
        return value

    @property
    def is_changing(self) -> bool:
        """Whether the caller is in the middle of a change of this graph.

        There `snapshot` is refused, and what is seen is the version that is being made.
        """
        place = place_in(self)
        return place is not None and place[3].state is MAKING

    def _current_setup(self) -> Setup | None:
        """Return the transaction the caller is in; None if it is in none."""
        return self._setup if self._gate.is_mine() else None

    def transaction(self) -> Transaction:
        """Batch changes: operators are set up once, at the end; if anything raises, nothing was changed.

        Transactions nest; the outermost one is the whole. Where an inner one raises and that is caught, what
        it had changed is taken back, and the outer one goes on.

        Raises
        ------
        GraphError
            When entering it inside ``execute``: what computes cannot change what is computed.

        Examples
        --------
        ::

            with graph.transaction():
                smooth.sigma.value = 3.0
                threshold.level.value = 0.4
        """
        return Transaction(self)

    def _change(self) -> Change:
        """As `transaction`, and gives what writes the changes; for the graph's own code."""
        return Change(self)

    def _call_after_setup(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function when the notifications under way here are over; at once if there are none.

        Inside a transaction these are the ones at its end, and what is undone calls nothing. Of several calls
        with the same function and arguments one is made.
        """
        setup = self._current_setup()
        if setup is not None:
            setup.call_after(function, arguments)
            return
        deferred = _deferred.get()
        if deferred is None:
            function(*arguments)
        else:
            deferred[function, arguments] = None

    def _notify(self, emit: Callable[[], None]) -> None:
        """Call ``emit``, which calls subscribers, and then what they were told to call after it."""
        if _deferred.get() is not None:
            emit()
            return
        deferred: dict[tuple[Callable[..., object], tuple[Any, ...]], None] = {}
        token = _deferred.set(deferred)
        try:
            emit()
        finally:
            _deferred.reset(token)
        for function, arguments in deferred:
            with logged(_logger, "a function to be called after the setup raised: %s", shown(function)):
                function(*arguments)

    def close(self) -> None:
        """Close all operators, cancel what is being computed, and wait for its end."""
        with self._change() as setup:
            setup.close(*self._operators)
        # Those that begin now find nothing.
        for request in list(self._running):
            request.cancel()
        self._versions.wait_for_executions()

    def __enter__(self) -> Graph:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def describe(self) -> str:
        """Return a text that shows operators, slots, connections, meta and what is not ready.

        Where older versions are still seen, its last line says by whom and what is kept for them.
        """
        older = self._versions.describe()
        return describe(self) + (f"\n({older})" if older else "")

    def to_svg(self) -> str:
        """Return a picture as SVG text: operators, slots, connections, meta, what is not ready."""
        from lazyflow_core.graph.draw import to_svg

        return to_svg(self)

    def to_mermaid(self) -> str:
        """Return a picture as Mermaid flowchart text, for pages that render it."""
        from lazyflow_core.graph.draw import to_mermaid

        return to_mermaid(self)

    def _repr_html_(self) -> str:
        from lazyflow_core.graph.draw import to_html

        return to_html(self)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        refuse_copy(self)

    def __repr__(self) -> str:
        operators = self._operators
        count = f"{len(operators)} {'operator' if len(operators) == 1 else 'operators'}"
        waiting = [operator.name for operator in operators if not operator.ready]
        state = f", {len(waiting)} not ready, such as {waiting[0]}" if waiting else ""
        return f"<Graph of {count}{state}>"
