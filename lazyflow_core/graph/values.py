"""Slots that carry one Python value: parameters, and outputs that compute a value once per change."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import Token
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

import numpy as np

from lazyflow_core.errors import ConnectError, ExecuteError, GraphError, NotReadyError
from lazyflow_core.foreign import contextmanager
from lazyflow_core.graph.cells import MISSING, Cell, Missing
from lazyflow_core.graph.diagnosis import why_not_ready
from lazyflow_core.graph.pull import reason
from lazyflow_core.graph.push import mark_dirty
from lazyflow_core.graph.slots import Slot, SlotSignal, Turn
from lazyflow_core.graph.versions import enter, execute_in, leave, place_in, seen
from lazyflow_core.request import Request, RequestState

if TYPE_CHECKING:
    from lazyflow_core.graph.declarations import OutputSlot, ParameterSlot
    from lazyflow_core.graph.operator import Operator
    from lazyflow_core.graph.setup import Setup

__all__ = ["Parameter", "ValueOutput", "ValueRequest", "check_values_fit"]

T = TypeVar("T")


def seen_value(slot: Parameter[Any] | ValueOutput[Any]) -> Any:
    """Return what a slot has in the version that is seen here: a value, who computes it, or `MISSING`."""
    graph = slot.operator.graph
    settled = slot._versions.settled
    number, value = slot._state
    if number <= settled:
        return value
    place = place_in(graph)
    if place is None:
        # In this order, as for arrays.
        current = graph._versions.current
        number, value = slot._state
        return value if number <= current.number else graph._versions.look_up(None, slot, "_state")[1]
    number, value = slot._state
    return value if number <= place[3].number else graph._versions.look_up(place[3], slot, "_state")[1]


_INSTEAD_OF_VALUE: Final = {
    **dict.fromkeys(("read", "result", "as_array"), "slot.value"),
    **dict.fromkeys(("meta", "shape", "dtype"), "slot.value; a value has no meta"),
}


class Parameter(Slot, Generic[T]):
    """One typed Python value that an operator depends on: assigned, or taken from another slot."""

    __slots__ = ("_assigned", "_state")
    contents = "value"
    _contents_hint = "slot.value"
    _right_words = _INSTEAD_OF_VALUE
    _signal_names = ("ready_changed", "value_changed")
    _stale_signal = "value_changed"

    def __init__(self, operator: Operator, declaration: ParameterSlot[T]) -> None:
        super().__init__(operator, declaration)
        # Both are written by the setup transaction only.
        #: Number of the version it was written in; the value, or the `ValueOutput` that computes it, or
        #: `MISSING`. Read once each time.
        self._state: tuple[int, Any] = (self._born, self._default())
        #: Whether the value was given rather than being the default.
        self._assigned = False

    @property
    def declaration(self) -> ParameterSlot[T]:
        """What its operator's class body says of it."""
        return cast("ParameterSlot[T]", self._declaration)

    @property
    def ready(self) -> bool:
        """Whether it has a value, or somebody who can compute it."""
        return self._seen() is not MISSING

    @property
    def is_default(self) -> bool:
        """Whether nothing was assigned or connected."""
        return not seen(self.operator.graph, self, "_assigned") and self.upstream is None

    @property
    def is_computed(self) -> bool:
        """Whether its value comes from an output that computes it, and so is unknown during setup."""
        return type(self._seen()) is ValueOutput

    @property
    def value(self) -> T:
        """The value; assigning another one pushes the change through the graph.

        Where it is computed by an upstream operator, reading it waits for that.

        Raises
        ------
        NotReadyError
            If it has none yet.
        ParameterError
            When assigning, if the value is of another type or not allowed.
        SetupError
            When assigning, if an operator refuses it. The graph then answers as before.
        GraphError
            When reading a computed value during setup.
        """
        settled = self._versions.settled
        number, value = self._state
        if number > settled:
            value = self._seen()
        kind = type(value)
        if kind is Missing:
            raise NotReadyError(why_not_ready(self))
        if kind is ValueOutput:
            if self.graph._current_setup() is not None:
                raise GraphError(
                    f"{self} is computed by {value}, which takes pixels; setup_outputs cannot know it yet. "
                    "Give it a value, or connect it where it is needed in execute only."
                )
            return self.declaration.accept(value.value, str(self))
        return cast(T, value)

    @value.setter
    def value(self, value: T) -> None:
        __tracebackhide__ = True
        accepted = self.declaration.accept(value, str(self))
        with self.graph._change() as setup:
            setup.assign_value(self, accepted)

    @contextmanager
    def temporarily(self, value: T) -> Iterator[None]:
        """Have another value inside a ``with`` block; afterwards what was assigned or connected before."""
        with self.graph.transaction():  # what another thread is changing may be taken back
            upstream, assigned, old = self._upstream, self._assigned, self._state[1]
            self.value = value
        try:
            yield
        finally:
            with self.graph.transaction():
                if self.operator._closed:
                    pass  # by the block; there is nothing to put back
                elif upstream is not None:
                    self.connect(upstream)
                elif assigned:
                    self.value = old
                else:
                    self.disconnect()

    def accept(self, value: Any) -> None:
        """Connect a slot or assign a value, whichever it is."""
        __tracebackhide__ = True
        if isinstance(value, Slot):
            self.connect(value)
        else:
            self.value = value

    @property
    def value_changed(self) -> SlotSignal:
        """Called with the slot when its value is another one, or has to be computed again."""
        return self.signal("value_changed")

    def _check_connectable(self, upstream: Slot) -> None:
        super()._check_connectable(upstream)
        check_values_fit(self, upstream)

    def _fit(self, value: Any) -> Any:
        """Return a value as it has it: in its own type, where it is known already."""
        __tracebackhide__ = True
        if value is MISSING or is_computed(value):
            return value
        return self.declaration.accept(value, str(self))

    def _news(self, old: Any) -> Iterator[tuple[Turn, str]]:
        return _value_news(old, self._state[1])

    def _take_over(self, setup: Setup, upstream: Slot) -> None:
        __tracebackhide__ = True
        setup.set_value(self, cast("Parameter[Any] | ValueOutput[Any]", upstream)._state[1])

    def _let_go(self, setup: Setup) -> None:
        setup.set(self, "_assigned", False)
        setup.set_value(self, self._default())

    def _default(self) -> Any:
        return self.declaration.default if self.declaration.has_default else MISSING

    def _seen(self) -> Any:
        """Return its value in the version that is seen here."""
        return seen_value(self)

    def _first_lacking(self) -> Slot | None:
        """Return itself, if it is not ready in the newest version."""
        return self if self._state[1] is MISSING else None

    def _unborn(self, field: str, value: Any) -> Any:
        return (0, MISSING) if field == "_state" else value


def is_computed(value: Any) -> bool:
    """Whether what a parameter has is the output that computes its value."""
    return type(value) is ValueOutput


def same_value(a: Any, b: Any) -> bool:
    """Whether two values of a parameter are equal in type and content; what cannot be compared is not.

    Examples
    --------
    >>> same_value(1.0, 1.0), same_value(1, 1.0), same_value(np.zeros(2), np.zeros(2))
    (True, False, True)
    """
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    try:
        if isinstance(a, np.ndarray):
            return a.dtype == b.dtype and np.array_equal(a, b)
        return bool(a == b)
    except Exception:  # whatever a foreign __eq__ raises: unknown means changed
        return False


def _value_news(old: Any, new: Any) -> Iterator[tuple[Turn, str]]:
    """Give what the subscribers of a slot are told that had a value, or `MISSING`, and has another one."""
    if (new is MISSING) != (old is MISSING):
        yield Turn.VALUES, "ready_changed"
    if new is not MISSING and not same_value(old, new):
        yield Turn.VALUES, "value_changed"


def check_values_fit(slot: Slot, upstream: Slot) -> None:
    """Raise `ConnectError` unless a parameter, or a list of them, may take what an upstream slot has."""
    declaration: Any = slot.declaration
    origin: Any = upstream.declaration
    if not declaration.admits(origin.type if upstream.feeds_operator else origin.value_type):
        raise ConnectError(f"cannot connect {upstream.kind} to {slot.kind}: no value fits both.")


class ValueOutput(Slot, Generic[T]):
    """One Python value that an operator computes: once per change, shared by all who wait for it."""

    __slots__ = ("_cell", "_state")
    contents = "value"
    _contents_hint = "slot.value"
    _right_words = _INSTEAD_OF_VALUE
    feeds_operator = False
    _signal_names = ("ready_changed", "value_changed")
    _stale_signal = "value_changed"

    def __init__(self, operator: Operator, declaration: OutputSlot[Any]) -> None:
        super().__init__(operator, declaration)
        #: Number of the version it was written in; the output that computes, itself or that of the child it
        #: is connected to, or `MISSING`. Written by the setup transaction only.
        self._state: tuple[int, Any] = (self._born, MISSING)
        #: Who computes or has computed the value, in the versions between two changes of it. Replaced by the
        #: walk that declares it stale.
        self._cell = Cell[T]()

    @property
    def ready(self) -> bool:
        """Whether its operator has all it needs to compute it."""
        return seen_value(self) is not MISSING

    @property
    def value(self) -> T:
        """The value; computed when it is asked for, and waited for by all who ask meanwhile.

        Raises
        ------
        NotReadyError
            If its operator is not ready.
        ExecuteError
            If the operator failed; it is asked again next time.
        """
        return self.request().wait()

    def request(self) -> Request[T]:
        """Return the request for the value, the same one for all who ask between two changes."""
        origin = seen_value(self)
        if origin is MISSING:
            raise NotReadyError(why_not_ready(self))
        if origin is not self:
            return cast("Request[T]", origin.request())
        cell: Cell[T] = seen(self.operator.graph, self, "_cell")
        with cell.lock:
            request = cell.request
            if request is None or request.state in (RequestState.FAILED, RequestState.CANCELLED):
                request = cell.request = ValueRequest(self, cell)
            return request

    def mark_dirty(self) -> None:
        """Announce that the value has to be computed again: to everything downstream, then to subscribers.

        Who waits for it already gets the old one.
        """
        mark_dirty(self, None)

    def _forget(self) -> None:
        """Compute it again next time, in any version, although it is not stale: its memory is needed."""
        versions = self.graph._versions
        for version in versions.alive():
            cell: Cell[T] = versions.look_up(version, self, "_cell")
            with cell.lock:
                cell.request = None

    @property
    def value_changed(self) -> SlotSignal:
        """Called with the slot when the value has to be computed again."""
        return self.signal("value_changed")

    def accept(self, value: Any) -> None:
        """Connect it to that of a child."""
        self.connect(value)

    def _check_connectable(self, upstream: Slot) -> None:
        super()._check_connectable(upstream)
        if not isinstance(upstream, ValueOutput):
            raise ConnectError(f"cannot connect {upstream.kind} to {self.kind}.")

    def _take_over(self, setup: Setup, upstream: Slot) -> None:
        setup.set_value(self, cast("ValueOutput[Any]", upstream)._state[1])

    def _let_go(self, setup: Setup) -> None:
        self._lose(setup)
        setup.affect(self.operator)

    def _lose(self, setup: Setup) -> None:
        setup.set_value(self, MISSING)

    def _set_up(self, setup: Setup) -> None:
        setup.set_value(self, self)
        setup.mark_dirty(self, None)

    def _fit(self, value: Any) -> Any:
        """Return what it is told to have: nothing, or who computes the value."""
        return value

    def _news(self, old: Any) -> Iterator[tuple[Turn, str]]:
        return _value_news(old, self._state[1])

    def _first_lacking(self) -> Slot | None:
        """Return itself, if it is not ready in the newest version."""
        return self if self._state[1] is MISSING else None

    def _unborn(self, field: str, value: Any) -> Any:
        return (0, MISSING) if field == "_state" else value


class ValueRequest(Request[T]):
    """A request for a computed value; it sees a version in which the value is that of its cell."""

    __slots__ = ("_cell", "slot")

    def __init__(self, slot: ValueOutput[T], cell: Cell[T]) -> None:
        super().__init__(None, scheduler=slot.operator.graph._own_scheduler)
        self.slot = slot
        self._cell = cell

    def _run(self, out: Any) -> T:
        slot = self.slot
        graph = slot.operator.graph
        token = self._enter()
        graph._running.add(self)
        try:
            return cast(T, slot.operator.compute_value(slot))
        finally:
            graph._running.discard(self)
            leave(graph, token)

    def _enter(self) -> Token[Any]:
        """Begin in the version of whoever runs it; or, if the value is another one there, of one who waits.

        Whoever made it may have given up before it began, and its version may be gone. Those who wait for it
        see one in which the value is that of the cell; where nobody does, any version is right.
        """
        slot = self.slot
        graph = slot.operator.graph
        token = enter(graph)
        if seen(graph, slot, "_cell") is self._cell:
            return token
        found = graph._versions.enter_one_where(
            lambda version: graph._versions.look_up(version, slot, "_cell") is self._cell
        )
        if found is None:
            return token
        leave(graph, token)
        return execute_in(graph, found)

    def _make_error(self, cause: BaseException) -> ExecuteError:
        return ExecuteError(f"{self.slot}: {reason(cause)}")

    def _describe_work(self) -> str:
        return f"compute {self.slot}"
