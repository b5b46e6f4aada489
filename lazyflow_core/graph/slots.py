"""Bound slots: the connection points of one operator. This file has what all kinds have in common.

A slot is a thin view of the graph. What it knows is written in one place only, by the setup transaction of
its graph; reading it needs no lock, since what is replaced is noted first (`versions`). Public properties say
what holds in the version that is seen; the graph's own code reads the fields, which are the newest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, cast

from lazyflow_core.errors import ConnectError, GraphError
from lazyflow_core.graph.diagnosis import why_not_ready
from lazyflow_core.graph.show import slot_html, slot_text
from lazyflow_core.graph.versions import seen
from lazyflow_core.signals import Signal

if TYPE_CHECKING:
    from lazyflow_core.graph.declarations import Declaration
    from lazyflow_core.graph.graph import Graph
    from lazyflow_core.graph.multi import MultiSlot
    from lazyflow_core.graph.operator import Operator
    from lazyflow_core.graph.push import Walk
    from lazyflow_core.graph.setup import Setup

__all__ = ["Slot", "SlotSignal", "Turn", "refuse_copy"]


def refuse_copy(part: object) -> NoReturn:
    """Say what to do instead of pickling or copying a graph or a part of one."""
    raise TypeError(
        f"{part!r} belongs to its process and is neither pickled nor copied. Describe the graph by "
        "Pipeline.from_graph(graph): descriptions can be pickled, and build() makes another."
    )


class Turn(IntEnum):
    """When subscribers hear of what changed in one transaction: unreadiness travels before anything else."""

    UNREADY = 1
    META = 2
    READY = 3
    ELEMENTS = 4  #: of lists: what came and what went
    VALUES = 5  #: and lengths


class SlotSignal(Signal):
    """A signal of a slot, which can also call after everything else.

    Subscribers are called when a change is complete: the transaction is over, every operator downstream has
    heard of it. ``when="after_setup"`` calls once more later: after all other subscribers to anything
    that changed with it, and once however often it was emitted with the same arguments.
    """

    __slots__ = ("_graph",)

    def __init__(self, name: Callable[[], str], graph: Graph) -> None:
        super().__init__(name)
        self._graph = graph

    def subscribe(
        self, function: Callable[..., object], when: Literal["now", "after_setup"] = "now"
    ) -> Callable[[], None]:
        """Call ``function`` at each emission from now on; return the function that ends it."""
        if when == "now":
            return super().subscribe(function)
        if when != "after_setup":
            raise GraphError(f"when={when!r}: a signal calls 'now' or 'after_setup'.")
        return super().subscribe(lambda *arguments: self._graph._call_after_setup(function, *arguments))


class _Absent:
    """An attribute that a slot is often asked for and does not have: says what is meant.

    Not a ``__getattr__``: where a class has one, the interpreter looks up *every* attribute of its objects
    the slow way, which cost each hop a fifth.
    """

    def __init__(self, name: str, instead: str) -> None:
        self._name = name
        self._instead = instead

    def __get__(self, slot: Slot | None, kind: type[Slot]) -> NoReturn:
        where = "" if slot is None else f" {str(slot)!r}"
        raise AttributeError(f"{kind.__name__}{where} has no attribute {self._name!r}; use {self._instead}.")


class Slot:
    """What all bound slots have in common: a place, connections, signals."""

    __slots__ = (
        "__weakref__",
        "_born",
        "_container",
        "_declaration",
        "_downstream",
        "_index",
        "_signals",
        "_upstream",
        "_versions",
        "operator",
        "rank",
    )

    #: Whether its operator depends on it; False for outputs.
    feeds_operator: ClassVar[bool] = True
    #: What it carries; slots of different contents do not connect.
    contents: ClassVar[Literal["array", "value"]] = "array"
    #: 0 unless it is a list; for loops over all slots, where a property would be a call each.
    _level: int = 0
    #: What to call for its contents, for error messages.
    _contents_hint: ClassVar[str] = "slot.read() and slot.as_array()"
    #: Attributes that it is asked for and does not have, and what is meant.
    _right_words: ClassVar[Mapping[str, str]] = {}
    #: Names of the signals slots of this class have.
    _signal_names: ClassVar[tuple[str, ...]] = ("ready_changed",)
    #: The one that the walk of stale regions emits; empty for lists, whose elements have their own.
    _stale_signal: ClassVar[str] = ""
    #: Requests that give up when what it has changes; only array slots have any.
    _watchers: Any = None

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        for name, instead in cls.__dict__.get("_right_words", {}).items():
            setattr(cls, name, _Absent(name, instead))

    def __init__(self, operator: Operator, declaration: Declaration[Any]) -> None:
        self.operator = operator
        self._declaration: Any = declaration
        #: Number of the version that it came with; of an element of a list its own.
        self._born: int = operator._born
        #: Those of its graph, at hand for whoever looks whether what is there is seen by everybody.
        self._versions = operator.graph._versions
        #: Made when somebody subscribes; most slots of most graphs have none.
        self._signals: dict[str, SlotSignal] | None = None
        # The next four are written by the setup transaction only.
        self._upstream: Slot | None = None
        #: Slots whose upstream this is. Replaced whole, never changed in place.
        self._downstream: tuple[Slot, ...] = ()
        #: The multi-level slot it is an element of, and its position there.
        self._container: MultiSlot[Any] | None = None
        self._index: int | None = None
        #: Position in a topological order of the graph: an upstream slot's rank is never larger than
        #: ours, and an operator's outputs rank above all its inputs. Written by `order`.
        self.rank = 0

    # ---------------------------------------------------------------------------------------- where it is

    @property
    def declaration(self) -> Declaration[Any]:
        """What its operator's class body says of it."""
        return cast("Declaration[Any]", self._declaration)

    @property
    def name(self) -> str:
        """Name of the slot in its operator's class."""
        return self.declaration.name

    @property
    def level(self) -> int:
        """0 for a slot, 1 for a list of slots, 2 for a list of lists, …"""
        return self._level

    @property
    def graph(self) -> Graph:
        """The graph its operator belongs to."""
        return self.operator.graph

    @property
    def container(self) -> MultiSlot[Any] | None:
        """The multi-level slot it is an element of; None if it is a slot of its own."""
        return self._container

    @property
    def index(self) -> int | None:
        """Its position in the multi-level slot it is an element of, right now; None if it is in none."""
        return cast("int | None", seen(self.operator.graph, self, "_index"))

    @property
    def upstream(self) -> Slot | None:
        """The slot this one is connected to; None if there is none."""
        return cast("Slot | None", seen(self.operator.graph, self, "_upstream"))

    @property
    def downstream(self) -> tuple[Slot, ...]:
        """The slots that are connected to this one."""
        return cast("tuple[Slot, ...]", seen(self.operator.graph, self, "_downstream"))

    @property
    def kind(self) -> str:
        """Name, class and contents in a few words, for error messages."""
        return f"{self} ({type(self).__name__}, {self.declaration.describe(self.level)})"

    def __str__(self) -> str:
        if self._container is not None:
            return f"{self._container}[{self.index}]"
        return f"{self.operator.name}.{self.name}"

    def __repr__(self) -> str:
        return slot_text(self)

    def _repr_html_(self) -> str:
        return slot_html(self)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        refuse_copy(self)

    # ------------------------------------------------------------------------- what it is often taken for

    #: numpy's functions refuse it instead of treating it as a Python object.
    __array_ufunc__ = None

    def __array__(self, *arguments: object, **keywords: object) -> NoReturn:
        raise TypeError(f"{self!r} is no array; {self._contents_hint} are its {self.contents}.")

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Slot):
            return self is other
        # Who compares a slot with a number means its contents, and False would be wrong for most of them.
        if isinstance(other, (int, float, complex, str, bytes)) or hasattr(type(other), "__array__"):
            raise TypeError(
                f"{self!r} is compared with a {type(other).__name__}; {self._contents_hint} "
                f"are its {self.contents}."
            )
        return NotImplemented

    # -------------------------------------------------------------------------------------------- readiness

    @property
    def ready(self) -> bool:
        """Whether it can be asked for its contents."""
        raise NotImplementedError

    @property
    def required(self) -> bool:
        """Whether its operator is not ready without it."""
        return True

    def why_not_ready(self) -> str:
        """Return why it cannot be asked: the way upstream to the first culprit; empty if it is ready."""
        return "" if self.ready else why_not_ready(self)

    def _first_lacking(self) -> Slot | None:
        """As `first_unready`, of the newest version; for the graph's own code."""
        raise NotImplementedError

    def first_unready(self) -> Slot | None:
        """Return the slot in it that is not ready: itself or an element; None if all is."""
        return None if self.ready else self

    # ------------------------------------------------------------------------------------------ connections

    def connect(self, upstream: Slot) -> None:
        """Take from another slot from now on, instead of what was connected or assigned before.

        Raises
        ------
        ConnectError
            If the two cannot be connected: another graph, another kind, a circle, or a declared contract.
        SetupError
            If an operator downstream refuses what it would get. The graph then answers as before.
        """
        __tracebackhide__ = True
        self._check_connectable(upstream)
        with self.graph._change() as setup:
            setup.connect(self, upstream)

    def disconnect(self) -> None:
        """Take from nowhere from now on; parameters get their default back."""
        with self.graph._change() as setup:
            setup.disconnect(self)

    def _unborn(self, field: str, value: Any) -> Any:
        """Return what a field is in a version before this slot was made; ``value`` is what it is now."""
        return value

    def accept(self, value: Any) -> None:
        """Connect a slot or assign anything else, whichever ``value`` is."""
        __tracebackhide__ = True
        raise NotImplementedError

    def _check_connectable(self, upstream: Slot) -> None:
        if not isinstance(upstream, Slot):
            raise ConnectError(f"cannot connect {upstream!r} to {self}: it is no slot; use assign instead.")
        if upstream.graph is not self.graph:
            raise ConnectError(f"cannot connect {upstream.kind} to {self.kind}: their graphs differ.")
        if upstream.contents != self.contents or upstream.level > self.level:
            raise ConnectError(f"cannot connect {upstream.kind} to {self.kind}.")

    def _take_over(self, setup: Setup, upstream: Slot) -> None:
        """Get what an upstream slot has; called by the setup transaction when the link is made."""
        raise NotImplementedError

    def _let_go(self, setup: Setup) -> None:
        """Lose what came from upstream; called by the setup transaction when the link is gone."""
        raise NotImplementedError

    # What the setup transaction leaves to the kinds of slots, each in its own way.

    def _lose(self, setup: Setup) -> None:
        """Have nothing any more, since the operator that computes it cannot work."""
        raise NotImplementedError

    def _set_up(self, setup: Setup) -> None:
        """Be computed by its operator from now on, which has just been set up."""
        raise NotImplementedError

    def _news(self, old: Any) -> Iterable[tuple[Turn, str]]:
        """Give what its subscribers are to be told when a change is complete, and when.

        ``old`` is what it had before: meta, value, or length.
        """
        raise NotImplementedError

    def _outdate(self, walk: Walk, old: Any) -> None:
        """Let its watchers give up, if it has something else than before."""
        raise NotImplementedError

    # --------------------------------------------------------------------------------------------- signals

    def signal(self, name: str) -> SlotSignal:
        """Return a signal of this slot by name, for code that treats all alike."""
        if name not in self._signal_names:
            raise GraphError(f"{self} has no signal {name!r}; it has {', '.join(self._signal_names)}.")
        if self._signals is None:
            self._signals = {}
        if name not in self._signals:
            self._signals[name] = SlotSignal(lambda: f"{name} of {self}", self.graph)
        return self._signals[name]

    def _emit(self, name: str, *arguments: Any) -> None:
        """Call the subscribers of a signal with this slot and the arguments."""
        if self._signals is not None and name in self._signals:
            self._signals[name].emit(self, *arguments)

    @property
    def ready_changed(self) -> SlotSignal:
        """Called with the slot when `ready` changed."""
        return self.signal("ready_changed")
