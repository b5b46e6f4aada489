"""Operators: the nodes of a graph, and what their authors answer."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, cast

import numpy.typing as npt

from lazyflow_core.errors import GraphError
from lazyflow_core.graph.arrays import Input, Output
from lazyflow_core.graph.declarations import Declaration
from lazyflow_core.graph.multi import MultiInput, MultiOutput, MultiParameter
from lazyflow_core.graph.show import operator_html, operator_text, signature_of
from lazyflow_core.graph.slots import Slot, refuse_copy
from lazyflow_core.graph.values import Parameter, ValueOutput
from lazyflow_core.graph.versions import place_in, seen
from lazyflow_core.roi import Roi
from lazyflow_core.words import near_miss

if TYPE_CHECKING:
    from lazyflow_core.graph.graph import Graph

__all__ = ["Operator"]

#: Names that a slot cannot have: keywords of the constructor.
_CONSTRUCTOR_KEYWORDS = ("graph", "name", "parent")


class _Signature:
    """What `inspect.signature`, ``help`` and notebooks show of an operator class: its slots by name."""

    def __get__(self, cls: type[Operator] | None, metaclass: type) -> inspect.Signature:
        if cls is None:
            raise AttributeError("__signature__")  # the metaclass itself is called as any other
        return signature_of(cls)


class OperatorType(type):
    """The class of operator classes: collects their slots, and makes an operator in one transaction.

    A metaclass, because only its ``__call__`` surrounds the whole ``__init__`` chain of a subclass: if any
    of it raises, the graph forgets the operator and its children, and answers as before.
    """

    declarations: dict[str, Declaration[Any]]
    __signature__ = _Signature()

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> None:
        super().__init__(name, bases, namespace)
        inherited: dict[str, Declaration[Any]] = {}
        for base in reversed(cls.__mro__[1:]):
            inherited.update(getattr(base, "declarations", {}))
        own = {key: value for key, value in namespace.items() if isinstance(value, Declaration)}
        for slot in own:
            if slot in _CONSTRUCTOR_KEYWORDS or slot in _MEMBERS:
                raise GraphError(f"{name}.{slot}: a slot cannot have the name of a member of Operator.")
        for member in sorted(_OF_THE_GRAPH & namespace.keys()):
            raise GraphError(f"{name}.{member}: {_TAKEN}")
        cls.declarations = inherited | own

    def __call__(
        cls,
        *arguments: Any,
        graph: Graph | None = None,
        parent: Operator | None = None,
        name: str | None = None,
        **keywords: Any,
    ) -> Any:
        __tracebackhide__ = True
        if parent is not None:
            graph = getattr(parent, "graph", None)
        if graph is None or not hasattr(graph, "transaction"):
            raise TypeError(f"{cls.__name__}(...) needs graph=, or parent= for the child of an operator.")
        with graph._change() as setup:
            operator: Any = object.__new__(cast("type[Any]", cls))
            operator._attach(graph, parent, name)
            setup.add(operator)
            operator.__init__(*arguments, **keywords)
        return operator


#: Members of `Operator`; filled below, after the class exists.
_MEMBERS: frozenset[str] = frozenset()

#: Those that only the graph writes: an author's ``self.rank = 3`` would set operators up in a wrong order.
_OF_THE_GRAPH: frozenset[str] = frozenset()
_TAKEN = "the graph keeps what it knows of an operator under that name; choose another one."


class Operator(metaclass=OperatorType):
    """A node of the graph. Authors declare slots in the class body and answer three questions.

    Parameters
    ----------
    graph
        The graph it belongs to; or
    parent
        the composite operator whose child it is.
    name
        What it is called in errors and pictures; default the name of its class.
    **slots
        What to connect or assign to its inputs and parameters.

    Raises
    ------
    TypeError
        For a keyword that is no input or parameter.
    ConnectError, ParameterError, SetupError
        If it cannot work with what it gets. The graph then does not have it.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph, InputSlot, Operator, OutputSlot, ParameterSlot
    >>> class OpThreshold(Operator):
    ...     image = InputSlot()
    ...     level = ParameterSlot(float, default=0.5)
    ...     mask = OutputSlot()
    ...
    ...     def setup_outputs(self):
    ...         self.mask.meta = self.image.meta.replace(dtype=np.uint8, value_range=(0, 1))
    ...
    ...     def execute(self, slot, roi, out):
    ...         np.greater(self.image.read(roi), self.level.value, out=out)
    ...
    ...     def propagate_dirty(self, slot, roi):
    ...         self.mask.mark_dirty(roi)
    >>> threshold = OpThreshold(graph=Graph(), image=np.array([[0.1, 0.9], [0.7, 0.2]]))
    >>> threshold.mask[0].wait()
    array([[0, 1]], dtype=uint8)
    """

    declarations: ClassVar[dict[str, Declaration[Any]]]

    #: Whether a pixel of an output depends, of the inputs that have its shape, on the pixels at the same
    #: place only, and ``execute`` asks those by `read` for the region that it computes. Neighbours in the
    #: graph that declare it are computed together: all of them for one tile that fits a processor's cache,
    #: before the next tile. What comes before them is asked once, for the whole region.
    pixelwise: ClassVar[bool] = False

    # Set by _attach, before __init__ of the subclass runs.
    graph: Graph
    parent: Operator | None
    name: str
    #: All its slots by name, in the order of the class body, inherited ones first.
    slots: dict[str, Slot]
    inputs: tuple[Input | MultiInput, ...]
    parameters: tuple[Parameter[Any] | MultiParameter, ...]
    outputs: tuple[Output | MultiOutput | ValueOutput[Any], ...]
    #: The outputs it computes itself: those, in lists too, that are not connected. Written by the setup
    #: transaction only.
    computed: tuple[Output | ValueOutput[Any], ...]
    #: One more than the largest rank of its inputs and parameters. Written by `order`.
    rank: int
    #: Whether it left the graph. Written by the setup transaction only.
    _closed: bool
    #: Whether all it needs is there and `setup_outputs` succeeded. Written by the setup transaction only.
    is_set_up: bool
    #: Number of the version it was written in, and what `setup_outputs` returned in it; None where it
    #: returned nothing, or the operator is not set up. Written by the setup transaction only.
    _planned: tuple[int, Any]
    #: Number of the version that it came with.
    _born: int
    #: Its children. Written by the setup transaction only.
    _operators: tuple[Operator, ...]

    def _attach(self, graph: Graph, parent: Operator | None, name: str | None) -> None:
        values = self.__dict__
        setup: Any = graph._setup
        values["graph"] = graph
        values["_born"] = born = setup.version.number
        slots = {key: declaration.bind(self) for key, declaration in type(self).declarations.items()}
        inputs, parameters, outputs = [], [], []
        for slot in slots.values():
            if not slot.feeds_operator:
                slot.rank = 1
                outputs.append(slot)
            elif slot.contents == "array":
                inputs.append(slot)
            else:
                parameters.append(slot)
        # Into the dictionary: __setattr__ guards the slots against everybody else.
        values.update(
            slots,
            parent=parent,
            name=name or type(self).__name__,
            rank=1,
            _closed=False,
            is_set_up=False,
            _planned=(born, None),
            slots=slots,
            inputs=tuple(inputs),
            parameters=tuple(parameters),
            outputs=tuple(outputs),
            computed=tuple(slot for slot in outputs if not slot.level),
            _operators=(),
        )

    def __init__(self, **slots: Any) -> None:
        __tracebackhide__ = True
        for key, value in slots.items():
            slot = self.slots.get(key)
            if slot is None or not slot.feeds_operator:
                possible = [s.name for s in (*self.inputs, *self.parameters)]
                raise TypeError(
                    f"{self.name} has no input or parameter {key!r}{near_miss(key, possible)} "
                    f"It has {', '.join(possible) or 'none'}."
                )
            slot.accept(value)

    # ------------------------------------------------------------------------------- what authors answer

    def setup_outputs(self) -> Any:
        """What will the outputs look like? Assign the meta of every output; return what executing needs.

        Called whenever the meta of an input or a parameter changed and all required ones are ready. What it
        sees is the graph as it will be; executions that go on meanwhile see it as it was. It does not ask for
        pixels. What it raises makes the change fail, and the graph answers as before. An operator with no
        array to describe needs none: a composite one, whose outputs are all connected, or one that computes
        values only.

        It writes nothing but outputs, since a change that fails later is taken back and nothing else is.

        Returns
        -------
        object or None
            The *plan*: what was found out here and ``execute`` needs (a box, kernels, an open file), a value
            that is not changed afterwards. It becomes ``self.plan``, until the next one takes its place or
            the operator cannot work any more. A plan that holds something, and so defines `drop`, is made
            anew each time. None: there is nothing to prepare.
        """
        if any(output.contents == "array" for output in self.computed):
            raise NotImplementedError(f"{type(self).__name__} has to define setup_outputs.")
        return None

    def drop(self, plan: Any) -> None:
        """Free what a plan holds, such as an open file. Called once for each, when nobody uses it any more.

        That is: after another one took its place, after the operator closed, or after the change failed that
        it was made for. It may run in any thread, and neither asks nor changes the graph.
        """

    def execute(self, slot: Output, roi: Roi, out: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
        """Compute one region of one output into ``out``.

        Runs any number of times at once and keeps no state.

        Parameters
        ----------
        slot
            Which output.
        roi
            The region, in its coordinates; inside its array, and never empty.
        out
            Array of ``roi.shape`` and the output's dtype, with unknown contents; may be non-contiguous.

        Returns
        -------
        numpy.ndarray or None
            None after writing into ``out``; or an array of the same shape and dtype, which is copied.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define execute.")

    def propagate_dirty(self, slot: Input, roi: Roi) -> None:
        """An input region went stale: which output regions did? Call ``mark_dirty`` of those.

        Parameters
        ----------
        slot
            Which input.
        roi
            The stale region, in the coordinates of that input.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define propagate_dirty.")

    def propagate_change(self, slot: Parameter[Any] | MultiInput) -> None:
        """A parameter, or the length of a list of inputs, changed: what is stale? All, unless overridden."""
        for output in self.computed:
            output.mark_dirty()

    def compute_value(self, slot: ValueOutput[Any]) -> Any:
        """Compute the value of an output that carries one; called once per change, however many ask."""
        raise NotImplementedError(f"{type(self).__name__} has to define compute_value.")

    def receive(self, slot: Input, roi: Roi, data: npt.NDArray[Any]) -> None:
        """Take pixels that somebody pushed into an input by ``op.image[key] = data``.

        Parameters
        ----------
        slot
            Which input.
        roi
            Where, in its coordinates.
        data
            Array of ``roi.shape`` and the input's dtype; read-only, so copy what is to be kept.
        """
        raise GraphError(f"{slot} takes no data: {type(self).__name__} does not define receive.")

    def release(self) -> None:
        """Free what it holds besides its slots and its plan. Called once, after it closed, in any thread."""

    # ------------------------------------------------------------------------------------ what users ask

    @property
    def ready(self) -> bool:
        """Whether all required inputs and parameters are there, and all outputs can be asked."""
        return self.first_missing() is None and all(output.ready for output in self.outputs)

    def first_missing(self) -> Slot | None:
        """Return the first required input or parameter that is not ready; None if there is none."""
        for slot in self.inputs:
            if slot.required and (unready := slot.first_unready()) is not None:
                return unready
        for parameter in self.parameters:
            if not parameter.ready:
                return parameter.first_unready()
        return None

    def _first_lacking(self) -> Slot | None:
        """As `first_missing`, of the newest version; for the graph's own code."""
        for slot in self.inputs:
            lacking = slot._first_lacking()
            if lacking is not None and slot.required:
                return lacking
        for parameter in self.parameters:
            lacking = parameter._first_lacking()
            if lacking is not None:
                return lacking
        return None

    @property
    def children(self) -> tuple[Operator, ...]:
        """The operators it is made of; empty unless it is composite."""
        return cast("tuple[Operator, ...]", seen(self.graph, self, "_operators"))

    @property
    def closed(self) -> bool:
        """Whether it left the graph."""
        return cast(bool, seen(self.graph, self, "_closed"))

    @property
    def plan(self) -> Any:
        """What `setup_outputs` returned: all that executing needs besides the inputs.

        None where it returned nothing, or the operator cannot work.
        """
        versions = self.graph._versions
        settled = versions.settled
        number, plan = self._planned
        if number <= settled:
            return plan
        place = place_in(self.graph)
        if place is None:
            # In this order, as for slots.
            current = versions.current
            number, plan = self._planned
            return plan if number <= current.number else versions.look_up(None, self, "_planned")[1]
        return plan if number <= place[3].number else versions.look_up(place[3], self, "_planned")[1]

    def _unborn(self, field: str, value: Any) -> Any:
        """Return what a field is in a version before this operator was made; ``value`` is what it is now."""
        return (0, None) if field == "_planned" else value

    def close(self) -> None:
        """Leave the graph, with all children; closing twice is fine.

        It returns at once. Slots downstream become unready, for everybody who begins now; what is being
        computed goes on with what it has, and when it is over plans are dropped and `release` is called.
        """
        if not self._closed:
            with self.graph._change() as setup:
                setup.close(self)

    def __enter__(self) -> Operator:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __setattr__(self, name: str, value: object) -> None:
        if name in type(self).declarations:
            slot = self.slots[name]
            how = "value =" if isinstance(slot, Parameter) else "connect or assign"
            raise AttributeError(f"{slot} is a slot; change it by {slot.name}.{how}.")
        if name in _OF_THE_GRAPH:
            raise AttributeError(f"{self.name}.{name}: {_TAKEN}")
        super().__setattr__(name, value)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        refuse_copy(self)

    def __repr__(self) -> str:
        return operator_text(self)

    def _repr_html_(self) -> str:
        return operator_html(self)


_MEMBERS = frozenset(dir(Operator)) | frozenset(Operator.__annotations__)
_OF_THE_GRAPH = frozenset(Operator.__annotations__) - {"declarations", "name", "pixelwise"}
