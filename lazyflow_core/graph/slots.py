"""Bound slots: the connection points of one operator.

A slot is a thin view of the graph. What an array slot knows (`meta`, where its pixels come from) is
written in one place only, by the setup transaction of its graph; reading it needs no lock, because a
transaction excludes everything that computes.

An array slot has a *source*: the slot that really answers a request. It is the slot itself where an
operator computes or an array was assigned; behind a connection it is the upstream slot's source, so a
request passes any number of connections at no cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

import numpy.typing as npt

from lazyflow_core.axes import Axes
from lazyflow_core.errors import ConnectError, GraphError, NotReadyError, RoiBoundsError
from lazyflow_core.graph.diagnosis import why_not_ready
from lazyflow_core.graph.pull import (
    ArraySource,
    AssignedArray,
    SlotRequest,
    execute,
    executing_graph,
    read_from_outside,
    wrong_destination,
)
from lazyflow_core.graph.push import mark_dirty
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.roi import Roi
from lazyflow_core.signals import Signal

if TYPE_CHECKING:
    from lazyflow_core.graph.declarations import Declaration, InputSlot, ParameterSlot
    from lazyflow_core.graph.graph import Graph
    from lazyflow_core.graph.operator import Operator

__all__ = ["ArraySlot", "Input", "Output", "Parameter", "Slot"]

T = TypeVar("T")


class Slot:
    """What all bound slots have in common: a place, connections, signals."""

    __slots__ = ("__weakref__", "_declaration", "_downstream", "_signals", "_upstream", "operator", "rank")

    #: Whether its operator depends on it; False for outputs.
    feeds_operator: ClassVar[bool] = True
    #: Whether it carries an array; False for parameters.
    is_array: ClassVar[bool] = True
    #: Names of the signals slots of this class have.
    _signal_names: ClassVar[tuple[str, ...]] = ("ready_changed",)

    def __init__(self, operator: Operator, declaration: Declaration[Any]) -> None:
        self.operator = operator
        self._declaration: Any = declaration
        #: Made when somebody subscribes; most slots of most graphs have none.
        self._signals: dict[str, Signal] | None = None
        #: Written by the setup transaction only.
        self._upstream: Slot | None = None
        #: Slots whose upstream this is. Replaced whole by the setup transaction, never changed in place.
        self._downstream: tuple[Slot, ...] = ()
        #: Position in a topological order of the graph: an upstream slot's rank is never larger than
        #: ours, and an operator's outputs rank above all its inputs. Written by `order`.
        self.rank = 0

    @property
    def declaration(self) -> Declaration[Any]:
        """What its operator's class body says of it."""
        return cast("Declaration[Any]", self._declaration)

    @property
    def name(self) -> str:
        """Name of the slot in its operator's class."""
        return self.declaration.name

    @property
    def graph(self) -> Graph:
        """The graph its operator belongs to."""
        return self.operator.graph

    @property
    def upstream(self) -> Slot | None:
        """The slot this one is connected to; None if there is none."""
        return self._upstream

    @property
    def downstream(self) -> tuple[Slot, ...]:
        """The slots that are connected to this one."""
        return self._downstream

    @property
    def ready(self) -> bool:
        """Whether it can be asked for its contents."""
        raise NotImplementedError

    def why_not_ready(self) -> str:
        """Return why it cannot be asked: the way upstream to the first culprit; empty if it is ready."""
        return "" if self.ready else why_not_ready(self)

    def connect(self, upstream: Slot) -> None:
        """Take from another slot from now on, instead of what was connected or assigned before.

        Raises
        ------
        ConnectError
            If the two cannot be connected: another graph, another kind, a circle, or a declared contract.
        SetupError
            If an operator downstream refuses what it would get. The graph then answers as before.
        """
        self._check_connectable(upstream)
        with self.graph.transaction() as setup:
            setup.connect(self, upstream)

    def disconnect(self) -> None:
        """Take from nowhere from now on; parameters get their default back."""
        with self.graph.transaction() as setup:
            setup.disconnect(self)

    def signal(self, name: str) -> Signal:
        """Return a signal of this slot by name, for code that treats all alike."""
        if name not in self._signal_names:
            raise GraphError(f"{self} has no signal {name!r}; it has {', '.join(self._signal_names)}.")
        if self._signals is None:
            self._signals = {}
        if name not in self._signals:
            self._signals[name] = Signal(lambda: f"{name} of {self}")
        return self._signals[name]

    def _emit(self, name: str, *arguments: Any) -> None:
        if self._signals is not None and name in self._signals:
            self._signals[name].emit(self, *arguments)

    @property
    def ready_changed(self) -> Signal:
        """Called with the slot when `ready` changed."""
        return self.signal("ready_changed")

    def _check_connectable(self, upstream: Slot) -> None:
        if not isinstance(upstream, Slot):
            raise ConnectError(f"cannot connect {upstream!r} to {self}: it is no slot; use assign instead.")
        if upstream.graph is not self.graph:
            raise ConnectError(f"cannot connect {upstream.kind} to {self.kind}: their graphs differ.")
        if upstream.is_array is not self.is_array:
            raise ConnectError(f"cannot connect {upstream.kind} to {self.kind}.")

    @property
    def kind(self) -> str:
        """Name, class and contents in a few words, for error messages."""
        return f"{self} ({type(self).__name__}, {self.declaration.describe()})"

    def __str__(self) -> str:
        return f"{self.operator.name}.{self.name}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"


class ArraySlot(Slot):
    """A slot through which an array is asked for by region."""

    __slots__ = ("_meta", "_source")
    _signal_names = ("ready_changed", "meta_changed", "dirty")

    def __init__(self, operator: Operator, declaration: Declaration[Any]) -> None:
        super().__init__(operator, declaration)
        #: None means not ready. Written by the setup transaction only.
        self._meta: ArrayMeta | None = None
        #: Who answers requests; None means not ready. Written by the setup transaction only.
        self._source: ArraySource | None = None

    @property
    def ready(self) -> bool:
        """Whether it can be asked for pixels."""
        return self._meta is not None

    @property
    def meta(self) -> ArrayMeta:
        """What the array will be.

        Raises
        ------
        NotReadyError
            If nothing is known yet; the text leads to the first culprit.
        """
        if self._meta is None:
            raise NotReadyError(why_not_ready(self))
        return self._meta

    # ----------------------------------------------------------------------------------------------- pull

    def request(self, roi: Roi | None = None) -> SlotRequest:
        """Return a request for one region; nothing is computed before it is submitted or waited for.

        Parameters
        ----------
        roi
            In the coordinates of this slot's array; None for all of it.

        Returns
        -------
        SlotRequest
            Its result is an array of ``roi.shape`` and the dtype of the meta. It may be read-only where
            it is a view of an assigned array.

        Raises
        ------
        NotReadyError
            If the slot is not ready.
        RoiBoundsError
            If the region reaches outside the array.
        """
        meta = self.meta
        if roi is None:
            roi = meta.roi
        elif not roi.fits(meta.shape):
            raise self._outside(roi)
        return SlotRequest(self, roi)

    def __getitem__(self, key: Any) -> SlotRequest:
        """Return a request for a region given by numpy slicing; integers keep their axis."""
        return self.request(Roi.from_slicing(key, self.meta.shape))

    def read(self, roi: Roi | None = None, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Compute one region now and return it; what an operator calls on its inputs.

        Parameters
        ----------
        roi
            In the coordinates of this slot's array; None for all of it.
        out
            Array of ``roi.shape`` and the dtype of the meta to compute into; need not be contiguous.

        Returns
        -------
        numpy.ndarray
            ``out`` where it was given. Otherwise an array to be read, not changed: it may be a view of
            what others see too.

        Raises
        ------
        NotReadyError, RoiBoundsError
            As `request`.
        ExecuteError
            If an operator failed; names operator, slot and ROI, and has the reason as ``__cause__``.
        """
        # Every hop of every pull passes here: no call that is not needed, no frame to spare.
        if executing_graph.get() is not self.operator.graph:
            return read_from_outside(self, roi, out)
        meta, source = self._meta, self._source
        if meta is None or source is None:
            raise NotReadyError(why_not_ready(self))
        if roi is None:
            roi = meta.roi
        elif not roi.fits(meta.shape):
            raise self._outside(roi)
        # Dtypes that numpy knows are one object each, so the comparison proper is rare.
        if out is not None and (
            out.shape != roi.shape or (out.dtype is not meta.dtype and out.dtype != meta.dtype)
        ):
            raise wrong_destination(self, meta, roi, out)
        return source.compute(roi, out)

    def _outside(self, roi: Roi) -> Exception:
        return RoiBoundsError(
            f"{self}: asked for {roi} but the array is {self.meta}. ROIs are absolute and never clipped; "
            "use roi.clip(slot.meta.roi) for the overlap."
        )

    # ----------------------------------------------------------------------------------------------- push

    def mark_dirty(self, roi: Roi | None = None) -> None:
        """Announce that a region is stale: to everything downstream, then to subscribers of `dirty`.

        Parameters
        ----------
        roi
            In the coordinates of this slot's array; None for all of it. Empty regions say nothing.

        Raises
        ------
        RoiBoundsError
            If the region reaches outside the array.
        """
        if self._meta is None:
            return  # nobody can have computed anything from it
        if roi is None:
            roi = self._meta.roi
        elif not roi.fits(self._meta.shape):
            raise self._outside(roi)
        mark_dirty(self, roi)

    @property
    def dirty(self) -> Signal:
        """Called with slot and ROI for every box that went stale, after everything downstream knows."""
        return self.signal("dirty")

    @property
    def meta_changed(self) -> Signal:
        """Called with the slot when its meta is another one, after the setup is complete."""
        return self.signal("meta_changed")


class Input(ArraySlot):
    """An array that an operator reads: connected to another slot, or assigned."""

    __slots__ = ()

    @property
    def declaration(self) -> InputSlot:
        """What its operator's class body says of it."""
        return cast("InputSlot", self._declaration)

    @property
    def required(self) -> bool:
        """Whether its operator is not ready without it."""
        return not self.declaration.optional

    def assign(self, array: Any, meta: ArrayMeta | None = None, *, axes: Axes | str | None = None) -> None:
        """Take an array from now on, instead of what was connected or assigned before.

        Parameters
        ----------
        array
            A numpy array, which is not copied (call `mark_dirty` after changing it), or any object with
            ``shape``, ``dtype`` and slicing, such as an open HDF5 data set, which is then read by region
            and must allow that from several threads.
        meta
            What is known of it; default its shape and dtype with the usual axes.
        axes
            Its axes, where no meta is given.

        Raises
        ------
        ConnectError
            If it is no array, or not what the operator accepts.
        """
        source = AssignedArray(array, meta, axes, where=str(self))
        with self.graph.transaction() as setup:
            setup.assign_array(self, source)

    def accept(self, value: Any) -> None:
        """Connect a slot or assign an array, whichever it is."""
        if isinstance(value, Slot):
            self.connect(value)
        else:
            self.assign(value)

    def _check_connectable(self, upstream: Slot) -> None:
        super()._check_connectable(upstream)
        meta = cast(ArraySlot, upstream)._meta
        if meta is not None:
            self._check_contract(meta, upstream.kind)

    def _check_contract(self, meta: ArrayMeta, given: str) -> None:
        refusal = self.declaration.refusal(meta)
        if refusal:
            raise ConnectError(f"cannot connect {given} to {self.kind}: {refusal}.")


class Output(ArraySlot):
    """An array that an operator computes, or that a composite operator takes from one of its children."""

    __slots__ = ()
    feeds_operator = False

    @property
    def meta(self) -> ArrayMeta:
        """What the array will be; operators assign it in ``setup_outputs``, None for not ready."""
        if self._meta is None:
            raise NotReadyError(why_not_ready(self))
        return self._meta

    @meta.setter
    def meta(self, meta: ArrayMeta | None) -> None:
        if meta is not None and not isinstance(meta, ArrayMeta):
            raise GraphError(f"{self}.meta = {meta!r}: it is an ArrayMeta, or None for not ready.")
        if self._upstream is not None:
            raise GraphError(f"{self} is connected to {self._upstream} and takes its meta from there.")
        source = None if meta is None else self
        setup = self.operator.graph.current_setup()
        if setup is not None:  # the usual case, inside setup_outputs
            setup.set_meta(self, meta, source)
            return
        with self.graph.transaction() as setup:
            setup.set_meta(self, meta, source)

    #: An output is the source of itself: its operator computes.
    compute = execute


class Parameter(Slot, Generic[T]):
    """One typed Python value that an operator depends on."""

    __slots__ = ("_assigned", "_has_value", "_value")
    is_array = False
    _signal_names = ("ready_changed", "value_changed")

    def __init__(self, operator: Operator, declaration: ParameterSlot[T]) -> None:
        super().__init__(operator, declaration)
        # All three are written by the setup transaction only.
        self._has_value = declaration.has_default
        self._value: Any = declaration.default
        #: Whether the value was given rather than being the default.
        self._assigned = False

    @property
    def declaration(self) -> ParameterSlot[T]:
        """What its operator's class body says of it."""
        return cast("ParameterSlot[T]", self._declaration)

    @property
    def ready(self) -> bool:
        """Whether it has a value."""
        return self._has_value

    @property
    def value(self) -> T:
        """The value; assigning another one pushes the change through the graph.

        Raises
        ------
        NotReadyError
            If it has none yet.
        ParameterError
            When assigning, if the value is of another type or not allowed.
        SetupError
            When assigning, if an operator refuses it. The graph then answers as before.
        """
        if not self._has_value:
            raise NotReadyError(why_not_ready(self))
        return cast(T, self._value)

    @value.setter
    def value(self, value: T) -> None:
        accepted = self.declaration.accept(value, str(self))
        with self.graph.transaction() as setup:
            setup.assign_value(self, accepted)

    @property
    def required(self) -> bool:
        """Whether its operator is not ready without it: always."""
        return True

    @property
    def is_default(self) -> bool:
        """Whether nothing was assigned or connected."""
        return not self._assigned and self._upstream is None

    def accept(self, value: Any) -> None:
        """Connect a slot or assign a value, whichever it is."""
        if isinstance(value, Slot):
            self.connect(value)
        else:
            self.value = value

    @property
    def value_changed(self) -> Signal:
        """Called with the slot when its value is another one, after the setup is complete."""
        return self.signal("value_changed")
