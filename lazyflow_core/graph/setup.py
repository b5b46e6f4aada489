"""The setup transaction: the only writer of connections, metadata, values and readiness.

It makes the next version of the graph. Changes are made at once and noted, each with what was there before:
in the version that is current, for whoever sees it, and in a list, to be taken back. At the end every
operator whose inputs changed sets up its outputs, once, in topological order; then the dirty walk tells them
what is stale; then the new version becomes the current one, in one step, and subscribers are called. If
anything raises on the way, the list is taken back in reverse order. What an operator prepared for executing
is its *plan*, a value like any other here, so the old one, with an open file or thousands of blocks, is there
again without another setup.
"""

from __future__ import annotations

import heapq
import itertools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, cast

from lazyflow_core.errors import ConnectError, GraphError, SetupError
from lazyflow_core.foreign import logged, text_of
from lazyflow_core.graph.multi import MultiSlot, leaves, singles
from lazyflow_core.graph.order import new_ranks
from lazyflow_core.graph.pull import AssignedArray, reason
from lazyflow_core.graph.push import Walk, fitting
from lazyflow_core.graph.slots import Turn
from lazyflow_core.graph.values import same_value
from lazyflow_core.graph.versions import MAKING, Duty, Version, here, look, place_in, run_all
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.roi import Roi

if TYPE_CHECKING:
    from types import TracebackType

    from lazyflow_core.graph.arrays import ArraySlot, Input, Output
    from lazyflow_core.graph.graph import Graph
    from lazyflow_core.graph.operator import Operator
    from lazyflow_core.graph.slots import Slot
    from lazyflow_core.graph.values import Parameter, ValueOutput

__all__ = ["Change", "Setup", "Transaction"]

_logger = logging.getLogger("lazyflow_core")

T = TypeVar("T")

#: How the graph writes its fields; operators refuse everybody else.
write: Final = object.__setattr__

#: An operator that is set up so often in one transaction keeps changing its own inputs.
_MOST_SETUPS: Final = 50


class Change:
    """Begins a setup, or joins the one the caller is in already."""

    __slots__ = ("_graph", "_joined", "_mark", "_place", "_setup")

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        #: What this block has to bring to its end; None where it joined another one.
        self._setup: Setup | None = None
        #: The one it joined, and how far that was.
        self._joined: Setup | None = None
        self._mark: tuple[int, ...] = ()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a transaction is not copied; graph.transaction() inside of it joins it.")

    def __enter__(self) -> Setup:
        __tracebackhide__ = True
        graph = self._graph
        joined = graph._current_setup()
        if joined is not None and not joined.is_walking:
            self._joined, self._mark = joined, joined.mark()
            return joined
        place = place_in(graph)
        if place is not None:
            if place[3].state is MAKING:
                raise GraphError(
                    "the graph cannot be changed from inside propagate_dirty or propagate_change, or by what "
                    "a change started and waits for; let setup_outputs do it, or change it afterwards."
                )
            if place[1] is not None:
                raise GraphError(
                    "the graph cannot be changed from inside execute; change it before or after."
                )
        self._place = here.get()
        try:
            graph._gate.enter()
            self._setup = graph._setup = Setup(graph)
            look(graph, self._setup.version)
        except BaseException:  # Ctrl-C on the way
            self._leave()
            raise
        return self._setup

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        setup = self._setup
        if setup is None:
            if self._joined is not None:
                if error is None:
                    self._joined.keep(self._mark)
                else:
                    self._joined.roll_back_to(self._mark)  # whoever catches it goes on with a whole graph
            return
        graph = self._graph
        todo = []
        try:
            if error is None:
                try:
                    setup.commit()
                    todo = graph._versions.publish(setup.version, setup.duties)
                except BaseException:
                    if graph._versions.current is not setup.version:
                        setup.roll_back()
                    raise
            else:
                setup.roll_back()
        finally:
            try:
                self._leave()
            except BaseException:  # Ctrl-C on the way
                self._leave()
                raise
            run_all(todo)
            # Also after a failure: operators that were made for nothing release what they hold.
            graph._notify(setup.notify)

    def __del__(self) -> None:
        # Ctrl-C may come when `__exit__` begins, before its first line: then nobody else ends the change.
        if getattr(self, "_setup", None) is not None:
            self.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)

    def _leave(self) -> None:
        """Let the next change in; twice is fine."""
        here.set(self._place)
        if self._graph._gate.is_mine():
            self._graph._setup = None
            self._graph._gate.leave()
        self._setup = None


class Transaction(Change):
    """``with graph.transaction()``: a change, without what writes it."""

    __slots__ = ()

    def __enter__(self) -> None:  # type: ignore[override]  # what writes is for the graph's own code
        __tracebackhide__ = True
        super().__enter__()


class Setup:
    """The changes of one transaction; there is one at a time."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        #: The version it makes, and the notes of the one before it.
        self.version: Version = graph._versions.make()
        self._number = self.version.number
        self._notes = cast("Version", self.version.older).notes
        #: (object, attribute, value before, where the same attribute was noted before or -1), in the order
        #: of the changes. Of a tuple that is replaced again and again within a block (the children of an
        #: operator, the elements of a list) only the first is kept: n of them would take n² of memory.
        self._undo: list[tuple[Any, str, Any, int]] = []
        #: Where in `_undo` an attribute that is a tuple was noted last, by the object's id and its name.
        self._noted: dict[tuple[int, str], int] = {}
        #: Where in `_undo` stands the last entry that may be one too many at the end of its block.
        self._last_again = -1
        #: How long `_undo` was when each of the blocks began that are going on, this whole setup first.
        self._blocks = [0]
        #: Operators to set up, by rank.
        self._heap: list[tuple[int, int, Operator]] = []
        self._count = itertools.count()
        self._affected: set[Operator] = set()
        #: How often each operator was set up.
        self._runs: dict[Operator, int] = {}
        #: Meta, value or length of each slot before its first change.
        self._before: dict[Slot, Any] = {}
        self._dirty: list[tuple[ArraySlot | ValueOutput[Any], Roi | None]] = []
        #: Parameters and multi-level inputs that are other than before.
        self._changed: dict[Slot, None] = {}
        #: (slot, signal, position) of elements that came and went.
        self._events: list[tuple[MultiSlot[Any], str, int]] = []
        #: Whether lists with subscribers were ready before the first change of an element or of their length.
        self._was_ready: dict[MultiSlot[Any], bool] = {}
        #: What to call when subscribers have been called, as `Graph._call_after_setup` was told.
        self._after: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._born: dict[Operator, None] = {}
        #: What operators prepared in this setup, in its order; and what each had before its first change.
        self._made_plans: list[tuple[Operator, Any]] = []
        self._old_plans: dict[Operator, tuple[int, Any]] = {}
        #: Plans that nobody has seen, to be dropped at the end.
        self._lost_plans: list[tuple[Operator, Any]] = []
        #: Operators that were made in a block that failed, inside of this one.
        self._stillborn: list[Operator] = []
        self._closed: list[Operator] = []
        #: True while stale regions are walked: what is set up by now must not change any more.
        self.is_walking = False
        #: The operator whose `setup_outputs` runs, and which of its outputs it has set.
        self.current: Operator | None = None
        self.outputs_set: set[Slot] = set()
        self._walk = Walk(graph, self.version)
        #: What is to be done when nobody sees the version before this one any more.
        self.duties: list[Duty] = []
        #: (slot, signal, arguments) to be emitted at the end. Found out before the next change can begin.
        self._emissions: list[tuple[Slot, str, tuple[Any, ...]]] = []

    # ------------------------------------------------------------------------------------------- changes

    def set(self, target: Any, attribute: str, value: Any) -> None:
        """Write a field of the graph's state, so that it can be taken back. Everything is written here."""
        before = getattr(target, attribute)
        if target._born < self._number:  # else nobody sees a version in which it was another
            self._notes.setdefault((target, attribute), before)
        if type(before) is not tuple or attribute == "_state":
            self._undo.append((target, attribute, before, -1))
        else:
            key = (id(target), attribute)
            earlier = self._noted.get(key, -1)
            if earlier < self._blocks[-1]:
                # The entry before the mark of it: a Ctrl-C in between leaves one too many, not one too few.
                self._undo.append((target, attribute, before, earlier))
                self._noted[key] = len(self._undo) - 1
                if earlier >= 0:
                    self._last_again = len(self._undo) - 1
        write(target, attribute, value)

    def add(self, operator: Operator) -> None:
        """Take a new operator into the graph."""
        siblings = operator.graph if operator.parent is None else operator.parent
        if operator.parent is not None and operator.parent._closed:
            raise GraphError(f"{operator.name} cannot be a child of {operator.parent.name}, which is closed.")
        if self.current is not None and operator.parent in (None, self.current):
            # A change that fails would take the operator back, but not what its maker remembers of it.
            raise GraphError(
                f"setup_outputs of {self.current.name} makes an operator, {operator.name}; "
                "make it in __init__, unready until it is needed, or use Lanes for one per element of a list."
            )
        self.set(siblings, "_operators", (*siblings._operators, operator))
        self._born[operator] = None
        self.affect(operator)

    def connect(self, slot: Slot, upstream: Slot) -> None:
        """Let ``slot`` take from ``upstream``."""
        __tracebackhide__ = True
        if slot._upstream is upstream:
            return
        _check_open(slot)
        _check_open(upstream)
        self._make_room(upstream, slot)
        self._detach(slot)
        self.set(slot, "_upstream", upstream)
        self.set(upstream, "_downstream", (*upstream._downstream, slot))
        self._note_computed(slot)
        slot._take_over(self, upstream)

    def disconnect(self, slot: Slot) -> None:
        """Let ``slot`` take from nowhere; a parameter falls back to its default."""
        if self._detach(slot):
            self._note_computed(slot)
        slot._let_go(self)

    def assign_array(self, slot: Input, source: AssignedArray) -> None:
        """Let ``slot`` take an array."""
        __tracebackhide__ = True
        _check_open(slot)
        self._detach(slot)
        self.set_meta(slot, source.meta, source)
        self.mark_dirty(slot, None)

    def assign_value(self, parameter: Parameter[Any], value: Any) -> None:
        """Let ``parameter`` have a value, which is known to be of its type."""
        __tracebackhide__ = True
        _check_open(parameter)
        self._detach(parameter)
        self.set(parameter, "_assigned", True)
        self.set_value(parameter, value)

    def set_meta(
        self, slot: ArraySlot, meta: ArrayMeta | None, source: Output | AssignedArray | None
    ) -> None:
        """Let a slot and all that is connected to it have that meta and source."""
        __tracebackhide__ = True
        if slot.operator is self.current and not slot.feeds_operator:
            self.outputs_set.add(slot)
        # Every slot that a change reaches passes here: what `set` does is written out, and the two metas that
        # were compared for the slot before, nearly always the same, are not compared again.
        number, notes, note_undo, before = self._number, self._notes, self._undo.append, self._before
        compared: object = self
        same_meta = False
        pending = [slot]
        while pending:
            slot = pending.pop()
            state = slot._state
            _, old_meta, old_source = state
            if old_meta is not compared:
                same_meta, compared = old_meta is meta or old_meta == meta, old_meta
            if same_meta and old_source is source:
                continue
            before.setdefault(slot, old_meta)
            if slot._container is not None:
                self._note_readiness(slot._container)
            if not same_meta and slot.feeds_operator:
                if meta is not None and slot._declaration.refusal(meta):
                    cast("Input", slot)._check_contract(meta, slot._upstream)
                if slot.operator not in self._affected:
                    self.affect(slot.operator)
            if slot._born < number:
                notes.setdefault((slot, "_state"), state)
            note_undo((slot, "_state", state, -1))
            slot._state = (number, meta, source)
            follower: Any
            for follower in slot._downstream:
                if not follower._level:
                    pending.append(follower)

    def set_value(self, slot: Parameter[Any] | ValueOutput[Any], value: Any) -> None:
        """Let a slot and all that is connected to it have a value, each in its own type.

        ``value`` is a `ValueOutput` where it is computed, `MISSING` where there is none.
        """
        __tracebackhide__ = True
        pending = [(slot, value)]
        while pending:
            slot, value = pending.pop()
            value = slot._fit(value)
            old = slot._state[1]
            if same_value(old, value):
                continue
            self._before.setdefault(slot, old)
            self._note_readiness(slot._container)
            self.set(slot, "_state", (self._number, value))
            if slot.feeds_operator:
                self.affect(slot.operator)
                self._note_change(slot)
            for follower in singles(slot._downstream):
                pending.append((cast("Parameter[Any]", follower), value))

    def insert_element(self, multi: MultiSlot[Any], index: int) -> Slot:
        """Make an element of a multi-level slot, and of all that have its length."""
        _check_open(multi)
        element = multi._make_element()
        element._container = multi
        element._born = self._number
        element.rank = multi.operator.rank - 1 if multi.feeds_operator else multi.operator.rank
        elements = multi._elements
        self._set_elements(multi, (*elements[:index], element, *elements[index:]), index, "inserted")
        self._note_computed(element)
        for follower in _of_same_length(multi):
            self.connect(self.insert_element(follower, index), element)
        if multi._upstream is not None and multi._upstream.level < multi.level:
            self.connect(element, multi._upstream)
        for lanes in multi._lanes:
            lanes._insert(self, index)
        return element

    def remove_element(self, multi: MultiSlot[Any], index: int) -> None:
        """Take away an element of a multi-level slot, and of all that have its length."""
        for lanes in multi._lanes:
            lanes._remove(self, index)
        for same in _of_same_length(multi):
            self.remove_element(same, index)
        elements = multi._elements
        element = elements[index]
        for follower in element._downstream:
            self.disconnect(follower)
        self.disconnect(element)
        self._set_elements(multi, elements[:index] + elements[index + 1 :], index, "removed")
        if not multi.feeds_operator:
            operator = multi.operator
            self.set(operator, "computed", _without(operator.computed, element))

    def mark_dirty(self, slot: ArraySlot | ValueOutput[Any], roi: Roi | None) -> None:
        """Announce a stale region (None for all) at the end. Nobody has seen a new operator yet."""
        if slot.operator not in self._born:
            self._dirty.append((slot, roi))

    def close(self, *operators: Operator) -> None:
        """Take operators with their children out of the graph; what they fed becomes unready."""
        family = [operator for operator in operators if not operator._closed]
        for operator in family:
            family += operator._operators
            # What goes in, first: an output that loses what it was connected to counts as computed by its
            # operator, and that must not depend on it.
            for slot in operator.slots.values():
                if slot.feeds_operator:
                    for each in (slot, *leaves([slot])):
                        self.disconnect(each)
        for operator in reversed(family):
            for slot in operator.slots.values():
                for each in (slot, *leaves([slot])):
                    for follower in each._downstream:
                        self.disconnect(follower)
                    if not each.feeds_operator:
                        self.disconnect(each)
            siblings = operator.graph if operator.parent is None else operator.parent
            self.set(siblings, "_operators", _without(siblings._operators, operator))
            self.set(operator, "_closed", True)
            self.set(operator, "is_set_up", False)
            self._plan(operator, None)
            self._closed.append(operator)

    def call_after(self, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        """Call a function when subscribers have been called; not if what is done here is undone."""
        self._after.append((function, arguments))

    def is_due(self, operator: Operator) -> bool:
        """Whether an operator is still to be set up."""
        return operator in self._affected

    def affect(self, operator: Operator) -> None:
        """Let an operator set up its outputs again, before the end."""
        if operator not in self._affected:
            self._affected.add(operator)
            heapq.heappush(self._heap, (operator.rank, next(self._count), operator))

    def _enqueue(self, operator: Operator) -> None:
        heapq.heappush(self._heap, (operator.rank, next(self._count), operator))

    # -------------------------------------------------------------------------------------------- the end

    def commit(self) -> None:
        """Set up the operators whose inputs changed, then tell everybody downstream what is stale."""
        __tracebackhide__ = True
        while self._heap:
            rank, _, operator = heapq.heappop(self._heap)
            if rank != operator.rank or operator not in self._affected:
                continue  # it was moved in the order meanwhile, and stands here once more
            self._affected.discard(operator)
            if not operator._closed:
                self._set_up(operator)
        self.is_walking = True
        for slot in self._changed:
            self._walk.changed(slot)
        for stale, roi in self._dirty:
            if not stale.operator._closed:
                fits, roi = fitting(stale, roi)
                if fits:
                    self._walk.mark(stale, roi)
        self._walk.run()
        self._collect_emissions()
        for operator, (number, plan) in self._old_plans.items():
            if plan is not None and plan is not operator._planned[1]:
                self.duties.append((number, _Drop(operator), plan))
        for operator, plan in self._made_plans:
            if plan is not operator._planned[1]:
                self._lost_plans.append((operator, plan))
        for operator in self._closed:
            if operator in self._born:
                self._stillborn.append(operator)
            else:
                self.duties.append((operator._born, _release, operator))

    def mark(self) -> tuple[int, ...]:
        """Begin a block inside of this setup; return how far it is, for `keep` or `roll_back_to`."""
        self._blocks.append(len(self._undo))
        noted = (self._undo, self._born, self._closed, self._events, self._dirty, self._after, self._changed)
        return tuple(map(len, noted))

    def keep(self, mark: tuple[int, ...]) -> None:
        """End a block that went well: what the block around it has noted as well is noted once."""
        self._blocks.pop()
        around, begin = self._blocks[-1], mark[0]
        if self._last_again < begin:
            return
        entries = self._undo[begin:]
        del self._undo[begin:]
        for entry in entries:
            target, attribute, before, earlier = entry
            if type(before) is tuple:
                key = (id(target), attribute)
                if earlier >= around:
                    self._noted[key] = earlier
                    continue
                self._noted[key] = len(self._undo)
            self._undo.append(entry)

    def roll_back_to(self, mark: tuple[int, ...]) -> None:
        """Put everything back as it was at a mark. No operator was set up since; that happens at the end."""
        self._blocks.pop()
        undo, born, closed, events, dirty, after, changed = mark
        self._take_back(undo)
        while len(self._born) > born:
            operator, _ = self._born.popitem()
            write(operator, "_closed", True)
            self._stillborn.append(operator)
        del self._closed[closed:], self._events[events:], self._dirty[dirty:], self._after[after:]
        while len(self._changed) > changed:
            self._changed.popitem()

    def _take_back(self, length: int) -> None:
        while len(self._undo) > length:
            target, attribute, before, earlier = self._undo.pop()
            write(target, attribute, before)
            if attribute == "rank":
                if target in self._affected:
                    self._enqueue(target)
            elif type(before) is tuple:
                if earlier < 0:
                    self._noted.pop((id(target), attribute), None)
                else:
                    self._noted[id(target), attribute] = earlier

    def roll_back(self) -> None:
        """Put everything back as it was."""
        self._take_back(0)
        self._graph._versions.fail(self.version)
        self._lost_plans = self._made_plans
        for operator in self._born:
            write(operator, "_closed", True)
            self._stillborn.append(operator)
        self._after.clear()
        self._emissions.clear()
        self._walk = Walk(self._graph, self.version)

    def notify(self) -> None:
        """Free what was made for nothing, and call subscribers. Called when the next change may begin."""
        for operator, plan in self._lost_plans:
            with logged(_logger, "%s.drop failed.", operator.name):
                operator.drop(plan)
        for operator in self._stillborn:
            with logged(_logger, "%s.release failed.", operator.name):
                operator.release()
        for slot, name, arguments in self._emissions:
            slot._emit(name, *arguments)
        self._walk.notify()
        for function, arguments in self._after:
            self._graph._call_after_setup(function, *arguments)

    def _collect_emissions(self) -> None:
        """Find out what subscribers are told, from the version they are told of, and in which order."""
        news: list[tuple[Turn, Slot, str, tuple[Any, ...]]] = []
        for slot, old in self._before.items():
            if slot._signals is not None:
                news += [(turn, slot, signal, ()) for turn, signal in slot._news(old)]
            if slot._watchers:
                slot._outdate(self._walk, old)
        for multi, was_ready in self._was_ready.items():
            if (multi._first_lacking() is None) != was_ready:
                news.append((Turn.UNREADY if was_ready else Turn.READY, multi, "ready_changed", ()))
        news += [(Turn.ELEMENTS, multi, event, (index,)) for multi, event, index in self._events]
        # Within a turn they stay as they are. What the walk announces it announces once.
        news.sort(key=lambda one: one[0])
        self._emissions = [
            (slot, signal, arguments)
            for _, slot, signal, arguments in news
            if signal != slot._stale_signal or not self._walk.announces(slot)
        ]

    # -------------------------------------------------------------------------------------------- the parts

    def _detach(self, slot: Slot) -> bool:
        """Take a slot away from its upstream; return whether there was one."""
        upstream = slot._upstream
        if upstream is None:
            return False
        self.set(upstream, "_downstream", _without(upstream._downstream, slot))
        self.set(slot, "_upstream", None)
        return True

    def _note_computed(self, slot: Slot) -> None:
        """Keep `Operator.computed`: the outputs, those in lists included, that are not connected."""
        __tracebackhide__ = True
        if slot.feeds_operator or slot.level:
            return
        operator = slot.operator
        computed = operator.computed
        if slot._upstream is None:
            self._make_room(operator, slot)
            self.set(operator, "computed", (*computed, slot))
        else:
            self.set(operator, "computed", _without(computed, slot))

    def _make_room(self, before: Slot | Operator, slot: Slot) -> None:
        """Change the order of the graph so that ``slot`` can come behind what it is to depend on."""
        __tracebackhide__ = True
        for target, rank in new_ranks(before, slot).items():
            self._set_rank(target, rank)

    def _set_rank(self, target: Slot | Operator, rank: int) -> None:
        """As `set`; only changes read ranks, so they are not noted for executions."""
        self._undo.append((target, "rank", target.rank, -1))
        write(target, "rank", rank)
        if target in self._affected:
            self._enqueue(cast("Operator", target))

    def _note_readiness(self, multi: MultiSlot[Any] | None) -> None:
        while multi is not None:
            if multi._signals is not None and multi not in self._was_ready:
                self._was_ready[multi] = multi.ready
            multi = multi._container

    def _note_change(self, slot: Slot) -> None:
        if slot.operator not in self._born:
            self._changed[slot] = None

    def _set_elements(
        self, multi: MultiSlot[Any], elements: tuple[Slot, ...], index: int, event: str
    ) -> None:
        self._before.setdefault(multi, len(multi))
        self._note_readiness(multi)
        self.set(multi, "_elements", elements)
        for position in range(index, len(elements)):
            self.set(elements[position], "_index", position)
        self._events.append((multi, event, index))
        if multi.feeds_operator:
            self.affect(multi.operator)
            self._note_change(multi)

    def _set_up(self, operator: Operator) -> None:
        __tracebackhide__ = True
        if operator._first_lacking() is not None:
            if operator.is_set_up:
                self.set(operator, "is_set_up", False)
                self._plan(operator, None)
            for output in operator.computed:
                output._lose(self)
            return
        self._runs[operator] = runs = self._runs.get(operator, 0) + 1
        if runs > _MOST_SETUPS:
            raise SetupError(f"{operator.name}: setup_outputs changes its own inputs again and again.")
        self.current, self.outputs_set = operator, set()
        try:
            plan = operator.setup_outputs()
            if plan is not operator._planned[1]:
                self._plan(operator, plan)
            if plan is not None:
                self._made_plans.append((operator, plan))
            for output in operator.computed:
                output._set_up(self)
        except (ConnectError, SetupError) as error:
            name = f"{operator.name}: "
            text = text_of(error)
            raise SetupError(text if text.startswith(name) else name + text) from error
        except Exception as error:
            raise SetupError(f"{operator.name}: {reason(error)}") from error
        finally:
            self.current = None
        if not operator.is_set_up:
            self.set(operator, "is_set_up", True)

    def _plan(self, operator: Operator, plan: Any) -> None:
        before = operator._planned
        if plan is not before[1]:
            self._old_plans.setdefault(operator, before)
            self.set(operator, "_planned", (self._number, plan))


class _Drop:
    """``operator.drop`` for one of its plans; says so in reports."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    def __call__(self, plan: Any) -> None:
        self._operator.drop(plan)

    def __str__(self) -> str:
        return f"{self._operator.name}.drop"


def _release(operator: Operator) -> None:
    operator.release()


def _without(items: tuple[T, ...], item: T) -> tuple[T, ...]:
    """Return a tuple without one of its items; by its methods, since lists may have 10 000 elements."""
    if items and items[-1] is item:
        return items[:-1]  # of many that go, the last goes first
    try:
        index = items.index(item)
    except ValueError:
        return items
    return items[:index] + items[index + 1 :]


def _of_same_length(multi: MultiSlot[Any]) -> list[MultiSlot[Any]]:
    """Return the lists that follow another's length; lists of such lists take it whole, for each element."""
    return [cast("MultiSlot[Any]", slot) for slot in multi._downstream if slot.level == multi.level]


def _check_open(slot: Slot) -> None:
    if slot.operator._closed:
        raise GraphError(f"{slot} belongs to an operator that is closed; make a new one.")
