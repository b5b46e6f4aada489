"""The setup transaction: the only writer of connections, metadata, values and readiness.

Changes are made at once and noted, each with what was there before. At the end every operator whose
inputs changed sets up its outputs, once, in topological order; then the dirty walk tells them what is
stale; then executions may run again and subscribers are called. If anything raises on the way, the notes
are taken back in reverse order and the operators that had already set up do so again from their old
inputs, so that what they keep for themselves (an open file) is the old one too.
"""

from __future__ import annotations

import heapq
import itertools
import logging
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from lazyflow_core.errors import ConnectError, GraphError, SetupError
from lazyflow_core.graph.order import raise_ranks
from lazyflow_core.graph.pull import ArraySource, AssignedArray, executing_graph, reason
from lazyflow_core.graph.push import Walk
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.roi import Roi

if TYPE_CHECKING:
    from types import TracebackType

    from lazyflow_core.graph.graph import Graph
    from lazyflow_core.graph.operator import Operator
    from lazyflow_core.graph.slots import ArraySlot, Input, Output, Parameter, Slot

__all__ = ["Setup", "Transaction"]

_logger = logging.getLogger("lazyflow_core")

#: An operator that is set up so often in one transaction keeps changing its own inputs.
_MOST_SETUPS: Final = 50


class Transaction:
    """``with graph.transaction()``: begins a setup, or joins the one the caller is in already."""

    __slots__ = ("_graph", "_setup")

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        #: What this block has to bring to its end; None where it joined another one.
        self._setup: Setup | None = None

    def __enter__(self) -> Setup:
        graph = self._graph
        joined = graph.current_setup()
        if joined is not None:
            return joined
        if executing_graph.get() is graph:
            raise GraphError("the graph cannot be changed from inside execute; change it before or after.")
        graph.gate.begin_setup()
        setup = self._setup = graph.setup = Setup()
        return setup

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        setup = self._setup
        if setup is None:
            return
        try:
            if error is None:
                try:
                    setup.commit()
                except BaseException:
                    setup.roll_back()
                    raise
            else:
                setup.roll_back()
        finally:
            self._graph.setup = None
            self._graph.gate.end_setup()
            # Also after a failure: operators that were made for nothing release what they hold.
            setup.notify()


class Setup:
    """The changes of one transaction; all methods are called while nothing executes."""

    def __init__(self) -> None:
        #: (object, attribute, value before), in the order of the changes.
        self._undo: list[tuple[Any, str, Any]] = []
        #: Operators to set up, by rank.
        self._heap: list[tuple[int, int, Operator]] = []
        self._count = itertools.count()
        self._affected: set[Operator] = set()
        #: How often each operator was set up.
        self._runs: dict[Operator, int] = {}
        #: Meta or (has value, value) of each slot before its first change.
        self._before: dict[Slot, Any] = {}
        self._dirty: list[tuple[ArraySlot, Roi | None]] = []
        self._parameters: dict[Parameter[Any], None] = {}
        self._born: dict[Operator, None] = {}
        self._closed: list[Operator] = []
        #: The operator whose `setup_outputs` runs, and which of its outputs it has set.
        self._current: Operator | None = None
        self._outputs_set: set[Output] = set()
        #: True while old inputs are set up again; the state is restored already, so nothing is written.
        self._restoring = False
        self._walk = Walk()

    # ------------------------------------------------------------------------------------------- changes

    def add(self, operator: Operator) -> None:
        """Take a new operator into the graph."""
        siblings = operator.graph if operator.parent is None else operator.parent
        self._set(siblings, "_operators", (*siblings._operators, operator))
        self._born[operator] = None
        self._affect(operator)

    def connect(self, slot: Slot, upstream: Slot) -> None:
        """Let ``slot`` take from ``upstream``."""
        if slot._upstream is upstream or self._restoring:
            return
        raise_ranks(upstream, slot)
        self._detach(slot)
        self._set(slot, "_upstream", upstream)
        self._set(upstream, "_downstream", (*upstream._downstream, slot))
        self._note_computed(slot)
        if slot.is_array:
            array_slot, array_upstream = cast("ArraySlot", slot), cast("ArraySlot", upstream)
            self.set_meta(array_slot, array_upstream._meta, array_upstream._source)
            self.mark_dirty(array_slot, None)
        else:
            parameter, origin = cast("Parameter[Any]", slot), cast("Parameter[Any]", upstream)
            self._set_value(parameter, origin._has_value, origin._value)

    def disconnect(self, slot: Slot) -> None:
        """Let ``slot`` take from nowhere; a parameter falls back to its default."""
        if self._restoring:
            return
        self._detach(slot)
        if slot.is_array:
            self.set_meta(cast("ArraySlot", slot), None, None)
            if not slot.feeds_operator:
                self._affect(slot.operator)
        else:
            parameter = cast("Parameter[Any]", slot)
            self._set(parameter, "_assigned", False)
            self._set_value(parameter, parameter.declaration.has_default, parameter.declaration.default)

    def assign_array(self, slot: Input, source: AssignedArray) -> None:
        """Let ``slot`` take an array."""
        if self._restoring:
            return
        self._detach(slot)
        self.set_meta(slot, source.meta, source)
        self.mark_dirty(slot, None)

    def assign_value(self, parameter: Parameter[Any], value: Any) -> None:
        """Let ``parameter`` have a value, which is known to be of its type."""
        if self._restoring:
            return
        self._detach(parameter)
        self._set(parameter, "_assigned", True)
        self._set_value(parameter, True, value)

    def set_meta(self, slot: ArraySlot, meta: ArrayMeta | None, source: ArraySource | None) -> None:
        """Let a slot and all that is connected to it have that meta and source."""
        if self._restoring:
            return
        if slot.operator is self._current and not slot.feeds_operator:
            self._outputs_set.add(cast("Output", slot))
        pending = [slot]
        while pending:
            slot = pending.pop()
            same_meta = slot._meta == meta
            if same_meta and slot._source is source:
                continue
            self._before.setdefault(slot, slot._meta)
            if not same_meta:
                if slot.feeds_operator:
                    if meta is not None:
                        given = f"an array ({meta})" if slot._upstream is None else slot._upstream.kind
                        cast("Input", slot)._check_contract(meta, given)
                    self._affect(slot.operator)
                self._set(slot, "_meta", meta)
            self._set(slot, "_source", source)
            pending += cast("tuple[ArraySlot, ...]", slot._downstream)

    def mark_dirty(self, slot: ArraySlot, roi: Roi | None) -> None:
        """Announce a stale region (None for all) at the end. Nobody has seen a new operator yet."""
        if slot.operator not in self._born and not self._restoring:
            self._dirty.append((slot, roi))

    def close(self, operator: Operator) -> None:
        """Take an operator with its children out of the graph; what it fed becomes unready."""
        if operator.closed:
            return
        for child in reversed(operator._operators):
            self.close(child)
        for slot in operator.slots.values():
            for follower in slot._downstream:
                self.disconnect(follower)
            self.disconnect(slot)
        siblings = operator.graph if operator.parent is None else operator.parent
        remaining = tuple(other for other in siblings._operators if other is not operator)
        self._set(siblings, "_operators", remaining)
        self._set(operator, "closed", True)
        self._closed.append(operator)

    # -------------------------------------------------------------------------------------------- the end

    def commit(self) -> None:
        """Set up the operators whose inputs changed, then tell everybody downstream what is stale."""
        while self._heap:
            operator = heapq.heappop(self._heap)[-1]
            self._affected.discard(operator)
            if not operator.closed:
                self._set_up(operator)
        for parameter in self._parameters:
            self._walk.parameter_changed(parameter)
        for slot, roi in self._dirty:
            if slot._meta is not None and not slot.operator.closed:
                self._walk.mark(slot, slot._meta.roi if roi is None else roi)
        self._walk.run()

    def roll_back(self) -> None:
        """Put everything back as it was."""
        for target, attribute, value in reversed(self._undo):
            setattr(target, attribute, value)
        self._restoring = True
        for operator in self._runs:
            if operator not in self._born and operator.first_missing() is None:
                try:
                    operator.setup_outputs()
                except Exception:
                    _logger.exception("%s could not be set up again with its old inputs.", operator.name)
        for operator in self._born:
            operator.closed = True
        self._closed = list(self._born)
        self._before.clear()
        self._walk = Walk()

    def notify(self) -> None:
        """Call subscribers and let closed operators release what they hold. Called outside the gate."""
        for operator in self._closed:
            try:
                operator.release()
            except Exception:
                _logger.exception("%s.release failed.", operator.name)
        changed = [(slot, old) for slot, old in self._before.items() if slot._signals is not None]
        arrays = [(cast("ArraySlot", slot), old) for slot, old in changed if slot.is_array]
        values = [(cast("Parameter[Any]", slot), old) for slot, old in changed if not slot.is_array]
        for slot, old in arrays:
            if old is not None and slot._meta is None:
                slot._emit("ready_changed")
        for slot, old in arrays:
            if slot._meta is not None and slot._meta != old:
                slot._emit("meta_changed")
        for slot, old in arrays:
            if old is None and slot._meta is not None:
                slot._emit("ready_changed")
        for parameter, (had_value, old) in values:
            if parameter._has_value != had_value:
                parameter._emit("ready_changed")
            if parameter._has_value and not (had_value and same_value(old, parameter._value)):
                parameter._emit("value_changed")
        self._walk.notify()

    # -------------------------------------------------------------------------------------------- the parts

    def _set(self, target: Any, attribute: str, value: Any) -> None:
        self._undo.append((target, attribute, getattr(target, attribute)))
        setattr(target, attribute, value)

    def _detach(self, slot: Slot) -> None:
        upstream = slot._upstream
        if upstream is not None:
            self._set(upstream, "_downstream", tuple(s for s in upstream._downstream if s is not slot))
            self._set(slot, "_upstream", None)
            self._note_computed(slot)

    def _note_computed(self, slot: Slot) -> None:
        if not slot.feeds_operator:
            operator = slot.operator
            self._set(operator, "computed", tuple(o for o in operator.outputs if o._upstream is None))

    def _set_value(self, parameter: Parameter[Any], has_value: bool, value: Any) -> None:
        """Let a parameter and all that is connected to it have a value, each in its own type."""
        pending = [(parameter, value)]
        while pending:
            parameter, value = pending.pop()
            if has_value:
                value = parameter.declaration.accept(value, str(parameter))
            if parameter._has_value == has_value and same_value(parameter._value, value):
                continue
            self._before.setdefault(parameter, (parameter._has_value, parameter._value))
            self._set(parameter, "_has_value", has_value)
            self._set(parameter, "_value", value)
            self._affect(parameter.operator)
            if parameter.operator not in self._born:
                self._parameters[parameter] = None
            pending += [(cast("Parameter[Any]", follower), value) for follower in parameter._downstream]

    def _affect(self, operator: Operator) -> None:
        if operator not in self._affected:
            self._affected.add(operator)
            heapq.heappush(self._heap, (operator.rank, next(self._count), operator))

    def _set_up(self, operator: Operator) -> None:
        if operator.first_missing() is not None:
            for output in operator.computed:
                self.set_meta(output, None, None)
            return
        self._runs[operator] = self._runs.get(operator, 0) + 1
        if self._runs[operator] > _MOST_SETUPS:
            raise SetupError(f"{operator.name}: setup_outputs changes its own inputs again and again.")
        self._current, self._outputs_set = operator, set()
        try:
            operator.setup_outputs()
            for output in operator.computed:
                if output not in self._outputs_set:
                    raise GraphError(
                        f"setup_outputs left {output.name!r} without meta; assign self.{output.name}.meta, "
                        "None for not ready."
                    )
        except (ConnectError, SetupError) as error:
            name = f"{operator.name}: "
            text = str(error)
            raise SetupError(text if text.startswith(name) else name + text) from error
        except Exception as error:
            raise SetupError(f"{operator.name}: {reason(error)}") from error
        finally:
            self._current = None


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
