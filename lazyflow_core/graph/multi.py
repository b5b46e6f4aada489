"""Multi-level slots: a list of slots, as one slot of an operator.

Its length is set by hand, or follows: a multi-level slot that is connected to another one has its length and
is connected to it element by element; one that is connected to a plain slot keeps its own length and has
every element connected to that.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from lazyflow_core.errors import ConnectError, GraphError
from lazyflow_core.graph.arrays import Input, Output
from lazyflow_core.graph.slots import Slot, SlotSignal, Turn
from lazyflow_core.graph.values import Parameter, ValueOutput, check_values_fit
from lazyflow_core.graph.versions import seen

if TYPE_CHECKING:
    from lazyflow_core.graph.declarations import Declaration
    from lazyflow_core.graph.lanes import Lanes
    from lazyflow_core.graph.operator import Operator
    from lazyflow_core.graph.setup import Setup

__all__ = [
    "MultiInput",
    "MultiOutput",
    "MultiParameter",
    "MultiSlot",
    "MultiValueOutput",
    "leaves",
    "singles",
]

S = TypeVar("S", bound=Slot)


class MultiSlot(Slot, Generic[S]):
    """A list of slots of one kind; read it like a list, change its length by the methods below.

    An empty one is not ready. It is true nevertheless, as every slot is.
    """

    __slots__ = ("_elements", "_lanes", "_level")
    _signal_names = ("ready_changed", "resized", "inserted", "removed")
    _contents_hint = "its elements, such as slot[0],"
    _right_words = dict.fromkeys(
        ("read", "request", "meta", "shape", "dtype", "as_array", "wait", "value"),
        "one of its elements, such as slot[0]",
    )

    def __init__(self, operator: Operator, declaration: Declaration[Any], level: int) -> None:
        super().__init__(operator, declaration)
        self._level = level
        #: Replaced whole by the setup transaction, never changed in place.
        self._elements: tuple[S, ...] = ()
        #: Lanes that follow its length.
        self._lanes: tuple[Lanes, ...] = ()

    @property
    def level(self) -> int:
        """1 for a list of slots, 2 for a list of lists of them, …"""
        return self._level

    # ------------------------------------------------------------------------------------- being a list

    def __len__(self) -> int:
        return len(self._seen())

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[S]:
        return iter(self._seen())

    def __getitem__(self, index: int) -> S:
        try:
            return self._seen()[index]
        except IndexError:
            raise IndexError(f"{self} has {len(self)} slots; there is no {self}[{index}].") from None

    @property
    def ready(self) -> bool:
        """Whether it has elements and all of them are ready."""
        return self.first_unready() is None

    @property
    def required(self) -> bool:
        """Whether its operator is not ready without it."""
        return not getattr(self.declaration, "optional", False)

    def first_unready(self) -> Slot | None:
        """Return the first element that is not ready, itself if it is empty, None if all is ready."""
        elements = self._seen()
        if not elements:
            return self
        for element in elements:
            unready = element.first_unready()
            if unready is not None:
                return unready
        return None

    # -------------------------------------------------------------------------------------- its length

    def resize(self, length: int) -> None:
        """Have ``length`` elements: take some away at the end, or add some that have nothing yet.

        Raises
        ------
        GraphError
            If its length follows another slot, or ``length`` is negative.
        """
        if length < 0:
            raise GraphError(f"{self}: a length of {length} is not possible.")
        self._check_own_length()
        with self.graph._change() as setup:
            for _ in range(len(self) - length):
                setup.remove_element(self, len(self) - 1)
            for _ in range(length - len(self)):
                setup.insert_element(self, len(self))

    def insert(self, index: int, value: Any = None) -> S:
        """Make a new element at a position and return it; those behind it move up.

        Parameters
        ----------
        index
            Position of the new element, 0 to the length.
        value
            A slot to connect it to, or what to assign to it; None for nothing yet.
        """
        if not 0 <= index <= len(self):
            raise IndexError(f"{self} has {len(self)} slots; there is no position {index} to insert at.")
        self._check_own_length()
        with self.graph._change() as setup:
            element = cast(S, setup.insert_element(self, index))
            if value is not None:
                element.accept(value)
            return element

    def append(self, value: Any = None) -> S:
        """Make a new element at the end and return it; see `insert`."""
        return self.insert(len(self), value)

    def remove(self, index: int) -> None:
        """Take the element at a position away; those behind it move down."""
        self[index]  # says in a sentence that there is none
        self._check_own_length()
        with self.graph._change() as setup:
            setup.remove_element(self, index % len(self))

    def assign(self, values: Iterable[Any]) -> None:
        """Have one element for each value: connected where it is a slot, else assigned."""
        given = list(values)
        with self.graph._change() as setup:
            setup.disconnect(self)
            self.resize(len(given))
            for element, value in zip(self._elements, given, strict=True):
                element.accept(value)

    def accept(self, value: Any) -> None:
        """Connect a slot; or assign the elements of a list."""
        if isinstance(value, Slot):
            self.connect(value)
        elif isinstance(value, (list, tuple)):
            self.assign(value)
        else:
            raise ConnectError(
                f"{self}: {reprlib.repr(value)} is neither a slot nor a list of slots and arrays."
            )

    def _check_own_length(self) -> None:
        if isinstance(self._upstream, MultiSlot):
            raise GraphError(f"{self} has the length of {self._upstream}, which it is connected to.")

    # ------------------------------------------------------------------------------------------ connections

    def _take_over(self, setup: Setup, upstream: Slot) -> None:
        if isinstance(upstream, MultiSlot) and upstream.level == self.level:
            for _ in range(len(self)):
                setup.remove_element(self, len(self) - 1)
            for element in upstream:
                setup.connect(setup.insert_element(self, len(self)), element)
        else:
            for element in self._elements:
                setup.connect(element, upstream)

    def _let_go(self, setup: Setup) -> None:
        for element in self._elements:
            setup.disconnect(element)

    # ---------------------------------------------------------------------------------------------- signals

    def _news(self, old: Any) -> Iterator[tuple[Turn, str]]:
        if len(self._elements) != old:
            yield Turn.VALUES, "resized"

    @property
    def resized(self) -> SlotSignal:
        """Called with the slot when its length is another one."""
        return self.signal("resized")

    @property
    def inserted(self) -> SlotSignal:
        """Called with the slot and the position for each new element."""
        return self.signal("inserted")

    @property
    def removed(self) -> SlotSignal:
        """Called with the slot and the position for each element that went."""
        return self.signal("removed")

    def _first_lacking(self) -> Slot | None:
        """As `first_unready`, of the newest version."""
        if not self._elements:
            return self
        return next(filter(None, (element._first_lacking() for element in self._elements)), None)

    def _seen(self) -> tuple[S, ...]:
        """Return its elements in the version that is seen here."""
        return cast("tuple[S, ...]", seen(self.operator.graph, self, "_elements"))

    def _make_element(self) -> Slot:
        raise NotImplementedError


class MultiInput(MultiSlot[Any]):
    """A list of arrays that an operator reads."""

    __slots__ = ()

    def _make_element(self) -> Slot:
        if self._level > 1:
            return MultiInput(self.operator, self._declaration, self._level - 1)
        return Input(self.operator, self._declaration)


class MultiParameter(MultiInput):
    """A list of values that an operator depends on, each assigned or taken from another slot."""

    __slots__ = ()
    contents = "value"

    @property
    def is_default(self) -> bool:
        """Whether it has no element and is not connected."""
        return not self._seen() and self.upstream is None

    def _check_connectable(self, upstream: Slot) -> None:
        super()._check_connectable(upstream)
        check_values_fit(self, upstream)

    def _make_element(self) -> Slot:
        if self._level > 1:
            return MultiParameter(self.operator, self._declaration, self._level - 1)
        return Parameter(self.operator, self._declaration)


class MultiOutput(MultiSlot[Any]):
    """A list of arrays that an operator computes; it sets the length in ``setup_outputs``, or by lanes."""

    __slots__ = ()
    feeds_operator = False

    def _make_element(self) -> Slot:
        if self._level > 1:
            return MultiOutput(self.operator, self._declaration, self._level - 1)
        return Output(self.operator, self._declaration)


class MultiValueOutput(MultiOutput):
    """A list of values that an operator computes, each when it is asked for; length as of `MultiOutput`."""

    __slots__ = ()
    contents = "value"

    def _make_element(self) -> Slot:
        if self._level > 1:
            return MultiValueOutput(self.operator, self._declaration, self._level - 1)
        return ValueOutput(self.operator, self._declaration)


def singles(slots: Iterable[Slot]) -> Iterator[Slot]:
    """Give the slots that are no lists: what goes from a slot to a list goes to each of its elements."""
    return (slot for slot in slots if not slot.level)


def leaves(slots: Iterable[Slot]) -> Iterator[Slot]:
    """Give the slots of a list that are no lists themselves, those in lists included."""
    for slot in slots:
        if isinstance(slot, MultiSlot):
            yield from leaves(slot)
        else:
            yield slot
