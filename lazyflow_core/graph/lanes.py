"""Lanes: an operator for each element of a multi-level input, kept in step with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from lazyflow_core.errors import GraphError
from lazyflow_core.graph.multi import MultiInput, MultiOutput
from lazyflow_core.graph.operator import Operator
from lazyflow_core.graph.versions import seen
from lazyflow_core.words import near_miss

if TYPE_CHECKING:
    from lazyflow_core.graph.arrays import Input
    from lazyflow_core.graph.setup import Setup

__all__ = ["Lanes"]


class Lanes:
    """The operators that serve the elements of a multi-level input, one each.

    Made in the ``__init__`` of a composite operator. From then on, whenever an element comes or goes, its
    lane and the elements of the outputs come or go in the same transaction.

    Parameters
    ----------
    follow
        The multi-level input, of level 1.
    make
        Called with an element; makes the operator (or composite) for it as a child of the composite and
        connects it: to the element, and to whatever all lanes share.
    outputs
        Multi-level outputs of the composite, each with the name of the lane's output that fills it.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph, InputSlot, Operator, OutputSlot, ParameterSlot
    >>> class OpAdd(Operator):
    ...     image = InputSlot()
    ...     amount = ParameterSlot(int, default=1)
    ...     output = OutputSlot()
    ...
    ...     def setup_outputs(self):
    ...         self.output.meta = self.image.meta
    ...
    ...     def execute(self, slot, roi, out):
    ...         np.add(self.image.read(roi), self.amount.value, out=out)
    ...
    ...     def propagate_dirty(self, slot, roi):
    ...         self.output.mark_dirty(roi)
    >>> class OpAddToAll(Operator):
    ...     images = InputSlot(level=1)
    ...     amount = ParameterSlot(int, default=1)
    ...     results = OutputSlot(level=1)
    ...
    ...     def __init__(self, **slots):
    ...         self.lanes = Lanes(self.images, self.make_lane, {self.results: "output"})
    ...         super().__init__(**slots)
    ...
    ...     def make_lane(self, image):
    ...         return OpAdd(parent=self, image=image, amount=self.amount)
    >>> op = OpAddToAll(graph=Graph(), images=[np.zeros(2), np.ones(3)], amount=5)
    >>> [lane.read().tolist() for lane in op.results]
    [[5.0, 5.0], [6.0, 6.0, 6.0]]
    >>> op.images.remove(0)
    >>> len(op.results), len(op.lanes)
    (1, 1)
    """

    def __init__(
        self,
        follow: MultiInput,
        make: Callable[[Input], Operator],
        outputs: Mapping[MultiOutput, str],
    ) -> None:
        if not isinstance(follow, MultiInput) or follow.level != 1:
            raise GraphError(f"{follow!r} is no list of plain slots; lanes follow an InputSlot(level=1).")
        for output in outputs:
            if (
                not isinstance(output, MultiOutput)
                or output.level != 1
                or output.operator is not follow.operator
            ):
                raise GraphError(
                    f"lanes of {follow} fill outputs of {follow.operator.name} with level 1, not {output!r}."
                )
        self._make = make
        self._follow = follow
        self._outputs = dict(outputs)
        #: Replaced whole by the setup transaction, never changed in place.
        self._operators: tuple[Operator, ...] = ()
        with follow.graph._change() as setup:
            #: Number of the version it came with.
            self._born = setup.version.number
            setup.set(follow, "_lanes", (*follow._lanes, self))
            for index in range(len(follow)):
                self._insert(setup, index)

    def __len__(self) -> int:
        return len(self._seen())

    def __getitem__(self, index: int) -> Operator:
        return self._seen()[index]

    def __iter__(self) -> Iterator[Operator]:
        return iter(self._seen())

    def _seen(self) -> tuple[Operator, ...]:
        """Return the operators in the version that is seen here."""
        return cast("tuple[Operator, ...]", seen(self._follow.graph, self, "_operators"))

    def _unborn(self, field: str, value: Any) -> Any:
        """Return what a field is in a version before this was made; ``value`` is what it is now."""
        return value

    def _insert(self, setup: Setup, index: int) -> None:
        """Make the lane of the element at a position; called by the setup transaction."""
        operator = self._make_operator(self._follow[index])
        operators = self._operators
        setup.set(self, "_operators", (*operators[:index], operator, *operators[index:]))
        for output, name in self._outputs.items():
            setup.insert_element(output, index).connect(operator.slots[name])

    def _make_operator(self, element: Input) -> Operator:
        """Make a lane, and refuse what is none: the author's function may return anything."""
        composite = self._follow.operator
        operator: object = self._make(element)
        if not isinstance(operator, Operator):
            raise GraphError(f"a lane of {element} has to be an operator, not {operator!r}.")
        if operator.parent is not composite:
            raise GraphError(
                f"a lane of {element} has to be a child of {composite.name}; "
                f"make {operator.name} with parent=."
            )
        for output, name in self._outputs.items():
            if name not in operator.slots:
                raise GraphError(
                    f"{output} is to be filled by {name!r} of each lane, which {operator.name} does not have"
                    f"{near_miss(name, operator.slots)}"
                )
        return operator

    def _remove(self, setup: Setup, index: int) -> None:
        """Close the lane of the element at a position; called by the setup transaction."""
        operators = self._operators
        for output in self._outputs:
            setup.remove_element(output, index)
        setup.close(operators[index])
        setup.set(self, "_operators", operators[:index] + operators[index + 1 :])
