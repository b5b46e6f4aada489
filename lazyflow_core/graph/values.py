"""Slots that carry one Python value: parameters, and outputs that compute a value once per change."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from lazyflow_core.errors import ConnectError, ExecuteError, GraphError, NotReadyError
from lazyflow_core.graph.diagnosis import why_not_ready
from lazyflow_core.graph.pull import enter, leave, reason
from lazyflow_core.graph.push import mark_dirty
from lazyflow_core.graph.slots import Slot, SlotSignal
from lazyflow_core.request import Request, RequestState

if TYPE_CHECKING:
    from lazyflow_core.graph.declarations import OutputSlot, ParameterSlot
    from lazyflow_core.graph.operator import Operator
    from lazyflow_core.graph.setup import Setup

__all__ = ["Parameter", "ValueOutput", "ValueRequest", "check_values_fit"]

T = TypeVar("T")

_INSTEAD_OF_VALUE: Final = {
    **dict.fromkeys(("read", "result", "as_array"), "slot.value"),
    **dict.fromkeys(("meta", "shape", "dtype"), "slot.value; a value has no meta"),
}


class Parameter(Slot, Generic[T]):
    """One typed Python value that an operator depends on: assigned, or taken from another slot."""

    __slots__ = ("_assigned", "_has_value", "_value")
    contents = "value"
    _contents_hint = "slot.value"
    _right_words = _INSTEAD_OF_VALUE
    _signal_names = ("ready_changed", "value_changed")

    def __init__(self, operator: Operator, declaration: ParameterSlot[T]) -> None:
        super().__init__(operator, declaration)
        # All three are written by the setup transaction only.
        self._has_value = declaration.has_default
        #: The value; or the `ValueOutput` that computes it.
        self._value: Any = declaration.default
        #: Whether the value was given rather than being the default.
        self._assigned = False

    @property
    def declaration(self) -> ParameterSlot[T]:
        """What its operator's class body says of it."""
        return cast("ParameterSlot[T]", self._declaration)

    @property
    def ready(self) -> bool:
        """Whether it has a value, or somebody who can compute it."""
        return self._has_value

    @property
    def is_default(self) -> bool:
        """Whether nothing was assigned or connected."""
        return not self._assigned and self._upstream is None

    @property
    def is_computed(self) -> bool:
        """Whether its value comes from an output that computes it, and so is unknown during setup."""
        return isinstance(self._value, ValueOutput)

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
        if not self._has_value:
            raise NotReadyError(why_not_ready(self))
        value = self._value
        if type(value) is ValueOutput:
            if self.graph.current_setup() is not None:
                raise GraphError(
                    f"{self} is computed by {value}, which takes pixels; setup_outputs cannot know it yet. "
                    "Give it a value, or connect it where it is needed in execute only."
                )
            return self.declaration.accept(value.value, str(self))
        return cast(T, value)

    @value.setter
    def value(self, value: T) -> None:
        accepted = self.declaration.accept(value, str(self))
        with self.graph.transaction() as setup:
            setup.assign_value(self, accepted)

    @contextmanager
    def temporarily(self, value: T) -> Iterator[None]:
        """Have another value inside a ``with`` block; afterwards what was assigned or connected before."""
        upstream, assigned, old = self._upstream, self._assigned, self._value
        self.value = value
        try:
            yield
        finally:
            if self.operator.closed:
                pass  # by the block; there is nothing to put back
            elif upstream is not None:
                self.connect(upstream)
            elif assigned:
                self.value = old
            else:
                self.disconnect()

    def accept(self, value: Any) -> None:
        """Connect a slot or assign a value, whichever it is."""
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

    def _take_over(self, setup: Setup, upstream: Slot) -> None:
        origin = cast("Parameter[Any] | ValueOutput[Any]", upstream)
        setup.set_value(self, origin._has_value, origin._value)

    def _let_go(self, setup: Setup) -> None:
        setup.set(self, "_assigned", False)
        setup.set_value(self, self.declaration.has_default, self.declaration.default)


def check_values_fit(slot: Slot, upstream: Slot) -> None:
    """Raise `ConnectError` unless a parameter, or a list of them, may take what an upstream slot has."""
    declaration: Any = slot.declaration
    origin: Any = upstream.declaration
    if not declaration.admits(origin.type if upstream.feeds_operator else origin.value_type):
        raise ConnectError(f"cannot connect {upstream.kind} to {slot.kind}: no value fits both.")


class ValueOutput(Slot, Generic[T]):
    """One Python value that an operator computes: once per change, shared by all who wait for it."""

    __slots__ = ("_has_value", "_lock", "_request", "_value")
    contents = "value"
    _contents_hint = "slot.value"
    _right_words = _INSTEAD_OF_VALUE
    feeds_operator = False
    _signal_names = ("ready_changed", "value_changed")

    def __init__(self, operator: Operator, declaration: OutputSlot[Any]) -> None:
        super().__init__(operator, declaration)
        # Written by the setup transaction only.
        self._has_value = False
        #: The output that computes: itself, or that of the child it is connected to.
        self._value: ValueOutput[Any] = self
        #: Guards `_request`; held for a few statements.
        self._lock = threading.Lock()
        #: Who computes or has computed the value since the last change.
        self._request: ValueRequest[T] | None = None

    @property
    def ready(self) -> bool:
        """Whether its operator has all it needs to compute it."""
        return self._has_value

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
        if not self._has_value:
            raise NotReadyError(why_not_ready(self))
        if self._value is not self:
            return cast("Request[T]", self._value.request())
        with self._lock:
            request = self._request
            if request is None or request.state in (RequestState.FAILED, RequestState.CANCELLED):
                request = self._request = ValueRequest(self)
            return request

    def mark_dirty(self) -> None:
        """Announce that the value has to be computed again: to everything downstream, then to subscribers.

        Who waits for it already gets the old one.
        """
        mark_dirty(self, None)

    def forget(self) -> None:
        """Compute it again next time; called by the dirty walk."""
        with self._lock:
            self._request = None

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
        origin = cast("ValueOutput[Any]", upstream)
        setup.set_value(self, origin._has_value, origin._value)

    def _let_go(self, setup: Setup) -> None:
        setup.set_value(self, False, self)
        setup.affect(self.operator)


class ValueRequest(Request[T]):
    """A request for a computed value."""

    __slots__ = ("slot",)

    def __init__(self, slot: ValueOutput[T]) -> None:
        super().__init__(None, scheduler=slot.operator.graph.own_scheduler)
        self.slot = slot

    def _run(self, out: Any) -> T:
        slot = self.slot
        graph = slot.operator.graph
        token = enter(graph)
        graph.running.add(self)
        try:
            return cast(T, slot.operator.compute_value(slot))
        finally:
            graph.running.discard(self)
            leave(graph, token)

    def _make_error(self, cause: BaseException) -> ExecuteError:
        return ExecuteError(f"{self.slot}: {reason(cause)}")

    def _describe_work(self) -> str:
        return f"compute {self.slot}"
