"""Random changes of a graph against a plain model that recomputes everything.

The model is a dictionary of nodes and a recursive function; it knows nothing of setup, readiness, dirty
regions or order. After each step every output of the graph must be ready exactly when the model can compute
it, equal the model wherever it is asked, and every pixel that changed must lie in a region that was pushed.
"""

import logging

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from lazyflow_core.errors import ConnectError, GraphError, SetupError
from lazyflow_core.graph import (
    Graph,
    InputSlot,
    Lanes,
    MultiSlot,
    Operator,
    OutputSlot,
    ParameterSlot,
    push,
    setup,
)
from lazyflow_core.graph.multi import leaves
from lazyflow_core.request import InlineScheduler, SeededScheduler, ThreadedScheduler
from lazyflow_core.roi import Roi

from .operators import OpAdd, OpShift, OpSum, OpTwice

LENGTHS = st.integers(1, 6)
ARRAYS = LENGTHS.flatmap(
    lambda n: st.lists(st.integers(0, 9), min_size=n, max_size=n).map(lambda v: np.array(v, float))
)


class OpJoin(Operator):
    """Its arrays one after the other."""

    parts = InputSlot(level=1)
    output = OutputSlot()

    def setup_outputs(self):
        first = self.parts[0].meta
        self.output.meta = first.replace(shape=(sum(p.meta.shape[0] for p in self.parts),))

    def _places(self):
        at = 0
        for part in self.parts:
            yield part, at
            at += part.meta.shape[0]

    def execute(self, slot, roi, out):
        for part, at in self._places():
            wanted = roi & Roi((at,), (at + part.meta.shape[0],))
            if not wanted.is_empty:
                out[wanted.relative_to(roi).slicing] = part.read(wanted.shift((-at,)))

    def propagate_dirty(self, slot, roi):
        _, at = list(self._places())[slot.index]
        self.output.mark_dirty(roi.shift((at,)))


class OpAddToAll(Operator):
    """Adds to each of its arrays, by lanes, and joins them."""

    parts = InputSlot(level=1)
    amount = ParameterSlot(float, default=1.0)
    added = OutputSlot(level=1)
    output = OutputSlot()

    def __init__(self, **slots):
        self.lanes = Lanes(self.parts, self.make_lane, {self.added: "output"})
        super().__init__(**slots)
        self.join = OpJoin(parent=self, parts=self.added)
        self.output.connect(self.join.output)

    def make_lane(self, part):
        return OpAdd(parent=self, image=part, amount=self.amount)


class Node:
    """What the model knows of an operator: its class, what feeds its inputs, its amount."""

    def __init__(self, kind, inputs):
        self.kind = kind
        self.inputs = inputs  # name → None, array, Node; or a list of those
        self.amount = 1.0
        self.closed = False

    def value(self, known=None):
        """The whole output; None if it cannot be computed. ``known`` keeps what was computed in one step."""
        known = {} if known is None else known
        if self not in known:
            known[self] = self._compute(known)
        return known[self]

    def _compute(self, known):
        if self.closed:
            return None
        given = {name: self.given(source, known) for name, source in self.inputs.items()}
        if any(value is None for value in given.values()):
            return None
        if self.kind is OpAdd:
            return given["image"] + self.amount
        if self.kind is OpTwice:
            return given["image"] + 2 * self.amount
        if self.kind is OpShift:
            return np.concatenate([[0.0], given["image"][:-1]])
        if self.kind is OpSum:
            a, b = given["a"], given["b"]
            return a + b if a.shape == b.shape else None  # which the graph refuses, see _shapes_agree
        joined = np.concatenate(given["parts"])
        return joined if self.kind is OpJoin else joined + self.amount

    def given(self, source, known):
        if isinstance(source, list):
            parts = [self.given(part, known) for part in source]
            return None if not parts or any(part is None for part in parts) else parts
        return source.value(known) if isinstance(source, Node) else source

    def depends_on(self, other):
        seen, pending = set(), [self]
        while pending:
            node = pending.pop()
            if node not in seen:
                seen.add(node)
                for source in node.inputs.values():
                    pending += [
                        s for s in (source if isinstance(source, list) else [source]) if isinstance(s, Node)
                    ]
        return other in seen


class Complaints(logging.Handler):
    """What the graph reports instead of raising."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


class GraphMachine(RuleBasedStateMachine):
    nodes = Bundle("nodes")

    def make_scheduler(self):
        return InlineScheduler()

    def __init__(self):
        super().__init__()
        self.scheduler = self.make_scheduler()
        self.graph = Graph(self.scheduler)
        self.operators = {}  # Node → Operator
        self.before = {}  # Node → what its output was after the last step
        self.pushed = {}  # Node → regions heard of since
        self.complaints = Complaints()
        logging.getLogger("lazyflow_core").addHandler(self.complaints)

    def teardown(self):
        logging.getLogger("lazyflow_core").removeHandler(self.complaints)
        self.graph.close()
        self.scheduler.close()

    # ------------------------------------------------------------------------------------------- steps

    def _source(self, operator_or_array):
        if isinstance(operator_or_array, Node):
            return self.operators[operator_or_array].output
        return operator_or_array

    def _shapes_agree(self):
        """Whether every OpSum has inputs of one shape; another graph is refused."""
        known = {}
        for node in self.operators:
            if node.kind is OpSum and not node.closed:
                a, b = (node.given(node.inputs[name], known) for name in "ab")
                if a is not None and b is not None and a.shape != b.shape:
                    return False
        return True

    def _is_small(self):
        """Whether no output has grown too long to be compared often: lists of lists grow fast."""
        known = {}
        return all(len(v) < 100 for v in (node.value(known) for node in self.operators) if v is not None)

    def _change(self, node, key, new, do):
        """Change the model and the graph; both must refuse or accept."""
        holder, index = key
        old = holder[index]
        circle = isinstance(new, Node) and new.depends_on(node)
        holder[index] = new
        if circle or not self._shapes_agree():
            holder[index] = old
            with pytest.raises((ConnectError, SetupError)):
                do()
        else:
            do()

    @initialize(target=nodes, array=ARRAYS)
    def begin(self, array):
        return self._add(OpAdd, {"image": array})

    def _add(self, kind, inputs):
        node = Node(kind, inputs)
        self.operators[node] = None
        if not self._shapes_agree():
            del self.operators[node]
            with pytest.raises(SetupError):
                kind(graph=self.graph, **{k: self._argument(v) for k, v in inputs.items()})
            return multiple()
        operator = kind(
            graph=self.graph, **{k: self._argument(v) for k, v in inputs.items() if v is not None}
        )
        self.operators[node] = operator
        self.pushed[node] = []
        operator.output.dirty.subscribe(lambda slot, roi: self.pushed[node].extend(roi.boxes))
        return node

    def _argument(self, value):
        return [self._source(v) for v in value] if isinstance(value, list) else self._source(value)

    @rule(target=nodes, kind=st.sampled_from([OpAdd, OpTwice, OpShift]), source=nodes)
    def add_behind(self, kind, source):
        return self._add(kind, {"image": source})

    @rule(target=nodes, a=nodes, b=nodes)
    def add_sum(self, a, b):
        return self._add(OpSum, {"a": a, "b": b})

    @rule(
        target=nodes,
        kind=st.sampled_from([OpJoin, OpAddToAll]),
        parts=st.lists(nodes, min_size=0, max_size=3),
    )
    def add_list(self, kind, parts):
        if not self._is_small():
            return multiple()
        return self._add(kind, {"parts": list(parts)})

    def _plain_input(self, node, data):
        names = [name for name in node.inputs if name != "parts"]
        return data.draw(st.sampled_from(names)) if names and not node.closed else None

    @rule(node=nodes, source=nodes, data=st.data())
    def connect(self, node, source, data):
        name = self._plain_input(node, data)
        if name is None or source.closed:
            return
        slot = self.operators[node].slots[name]
        self._change(node, (node.inputs, name), source, lambda: slot.connect(self._source(source)))

    @rule(node=nodes, data=st.data())
    def disconnect(self, node, data):
        name = self._plain_input(node, data)
        if name is not None:
            self._change(node, (node.inputs, name), None, self.operators[node].slots[name].disconnect)

    @rule(node=nodes, array=ARRAYS, data=st.data())
    def assign(self, node, array, data):
        name = self._plain_input(node, data)
        if name is not None:
            slot = self.operators[node].slots[name]
            self._change(node, (node.inputs, name), array, lambda: slot.assign(array))

    @rule(node=nodes, data=st.data())
    def write_in_place_and_mark_dirty(self, node, data):
        for array in node.inputs.values():
            if isinstance(array, np.ndarray):
                span = st.tuples(*[st.integers(0, len(array))] * 2).map(sorted)
                spans = data.draw(st.lists(span, min_size=1, max_size=2))
                for start, stop in spans:
                    array[start:stop] += 1
                # The operator may have been given the array by another input, too: mark them all.
                with self.graph.transaction():
                    for other, operator in self.operators.items():
                        for key, value in other.inputs.items():
                            if value is array and not other.closed:
                                for start, stop in spans:
                                    operator.slots[key].mark_dirty(Roi((start,), (stop,)))
                return

    @rule(node=nodes, amount=st.integers(0, 5))
    def set_amount(self, node, amount):
        if node.kind in (OpAdd, OpTwice, OpAddToAll) and not node.closed:
            node.amount = float(amount)
            self.operators[node].amount.value = amount

    @rule(node=nodes, source=nodes, data=st.data())
    def insert(self, node, source, data):
        parts = node.inputs.get("parts")
        if parts is None or node.closed or source.closed or not self._is_small():
            return
        index = data.draw(st.integers(0, len(parts)))
        slot = self.operators[node].parts
        if source.depends_on(node):
            with pytest.raises(ConnectError):
                slot.insert(index, self._source(source))
            return
        parts.insert(index, source)
        if self._shapes_agree():
            slot.insert(index, self._source(source))
        else:
            parts.pop(index)
            with pytest.raises(SetupError):
                slot.insert(index, self._source(source))

    @rule(node=nodes, data=st.data())
    def remove(self, node, data):
        parts = node.inputs.get("parts")
        if not parts or node.closed:
            return
        index = data.draw(st.integers(0, len(parts) - 1))
        taken = parts.pop(index)
        if self._shapes_agree():
            self.operators[node].parts.remove(index)
        else:
            parts.insert(index, taken)
            with pytest.raises(SetupError):
                self.operators[node].parts.remove(index)

    @rule(node=nodes, length=st.integers(0, 4))
    def resize(self, node, length):
        parts = node.inputs.get("parts")
        if parts is None or node.closed:
            return
        old = list(parts)
        parts[:] = (parts + [None] * length)[:length]
        if self._shapes_agree():
            self.operators[node].parts.resize(length)
        else:
            parts[:] = old
            with pytest.raises(SetupError):
                self.operators[node].parts.resize(length)

    @rule(node=consumes(nodes))
    def close(self, node):
        if not node.closed:
            node.closed = True
            self.operators[node].close()
            for other in self.operators:
                for name, source in other.inputs.items():
                    if source is node:
                        other.inputs[name] = None
                    elif isinstance(source, list):
                        other.inputs[name] = [None if s is node else s for s in source]

    @rule(node=nodes, amount=st.integers(0, 5), array=ARRAYS, fail=st.booleans())
    def transaction(self, node, amount, array, fail):
        if node.kind is not OpAdd or node.closed:
            return
        operator = self.operators[node]
        old = node.amount, node.inputs["image"]
        node.amount, node.inputs["image"] = float(amount), array
        refused = not self._shapes_agree()
        if refused or fail:
            node.amount, node.inputs["image"] = old
        try:
            with self.graph.transaction():
                operator.amount.value = amount
                operator.image.assign(array)
                if fail:
                    raise GraphError("changed my mind")
        except (GraphError, SetupError):
            assert refused or fail
        else:
            assert not refused

    @rule(node=nodes, source=nodes, amount=st.integers(0, 5))
    def a_block_of_a_transaction_that_is_given_up(self, node, source, amount):
        if node.closed or source.closed:
            return
        operator = self.operators[node]
        with self.graph.transaction():
            with pytest.raises(GraphError, match="changed my mind"), self.graph.transaction():
                OpAdd(graph=self.graph, image=operator.output)
                if "parts" in node.inputs:
                    operator.parts.insert(0)
                    operator.parts.resize(1)
                else:
                    operator.inputs[0].assign(np.zeros(1))
                self.operators[source].close()
                raise GraphError("changed my mind")
            if node.kind is OpAdd:
                node.amount = float(amount)
                operator.amount.value = amount

    @rule(node=nodes, data=st.data())
    def pull_a_region(self, node, data):
        expected = node.value()
        if expected is None:
            return
        start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(expected))] * 2)))
        request = self.operators[node].output[start:stop]
        if data.draw(st.booleans()):
            request.submit()
        assert np.array_equal(request.wait(), expected[start:stop])

    # ---------------------------------------------------------------------------------------- always true

    @invariant()
    def everything_equals_the_model(self):
        known = {}
        for node, operator in self.operators.items():
            expected = node.value(known)
            output = operator.output
            assert output.ready == (expected is not None), (output, output.why_not_ready())
            if expected is not None:
                assert output.meta.shape == expected.shape
                assert np.array_equal(output.read(), expected)

    @invariant()
    def ranks_are_an_order(self):
        for operator in self.operators.values():
            for slot in leaves(operator.slots.values()):
                assert slot.upstream is None or slot.rank >= slot.upstream.rank
                assert not slot.feeds_operator or slot.rank < operator.rank
            assert all(output.rank >= operator.rank for output in operator.computed)

    @invariant()
    def elements_know_where_they_are(self):
        for operator in self.operators.values():
            for slot in operator.slots.values():
                if isinstance(slot, MultiSlot):
                    assert [element.index for element in slot] == list(range(len(slot)))

    @invariant()
    def nothing_was_reported(self):
        assert not self.complaints.messages

    @invariant()
    def every_changed_pixel_was_pushed(self):
        known = {}
        for node in self.operators:
            now, before = node.value(known), self.before.get(node)
            if now is not None and before is not None and now.shape == before.shape:
                stale = np.zeros(now.shape, bool)
                for roi in self.pushed[node]:
                    stale[roi.slicing] = True
                assert not ((now != before) & ~stale).any(), (self.operators[node], now, before)
            self.pushed[node].clear()
            self.before[node] = None if now is None else now.copy()


class ThreadedGraphMachine(GraphMachine):
    def make_scheduler(self):
        return ThreadedScheduler(2)


class SeededGraphMachine(GraphMachine):
    def make_scheduler(self):
        return SeededScheduler(0)


QUICK = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)

TestInline = GraphMachine.TestCase
TestInline.settings = settings(QUICK, max_examples=200)
TestThreaded = ThreadedGraphMachine.TestCase
TestThreaded.settings = QUICK
TestSeeded = SeededGraphMachine.TestCase
TestSeeded.settings = QUICK


# ---------------------------------------------------------------------------------------------- has it teeth?


def ranks_of_slots_only(upstream, slot):
    """As `new_ranks`, but what is behind operators stays where it is."""
    ranks, pending = {}, [slot]
    for each in pending:
        if each is upstream:
            raise ConnectError("a circle")
        if each.rank < upstream.rank:
            ranks[each] = upstream.rank
            pending += each.downstream
    return ranks


def keep_what_failed(self):
    self._before.clear()
    self._walk = push.Walk()


def forget_changes(self, slot):
    pass


def first_box_only(boxes):
    return boxes[:1]


def number_no_elements(self, multi, elements, index, event):
    self._before.setdefault(multi, len(multi))
    self.set(multi, "_elements", elements)
    for position in range(len(elements)):
        if elements[position]._index is None:
            self.set(elements[position], "_index", position)
    if multi.feeds_operator:
        self.affect(multi.operator)
        self._note_change(multi)


def set_up_nothing_downstream(self, operator):
    if operator in self._born or (operator.computed and operator.rank < 3):
        original_affect(self, operator)


original_affect = setup.Setup.affect


def keep_nothing(self, mark):
    self._blocks.pop()
    del self._undo[mark[0] :]


MUTANTS = {
    "half raised ranks": (setup, "new_ranks", ranks_of_slots_only),
    "a rollback that keeps what failed": (setup.Setup, "roll_back", keep_what_failed),
    "a block that keeps what was given up": (setup.Setup, "roll_back_to", lambda self, mark: None),
    "a block whose changes are not taken back with what is around it": (setup.Setup, "keep", keep_nothing),
    "parameters that push nothing": (push.Walk, "changed", forget_changes),
    "only the first of several stale boxes": (push, "coalesce", first_box_only),
    "elements that keep their old position": (setup.Setup, "_set_elements", number_no_elements),
    "a setup that stops half way": (setup.Setup, "affect", set_up_nothing_downstream),
}


@pytest.mark.parametrize(("where", "name", "fault"), MUTANTS.values(), ids=MUTANTS)
def test_the_model_finds_planted_faults(where, name, fault, monkeypatch, caplog):
    monkeypatch.setattr(where, name, fault)
    search = settings(
        QUICK, max_examples=500, database=None, derandomize=True, phases=[Phase.generate], print_blob=False
    )
    # Whatever the fault makes fail: a comparison, an internal error, a refusal that does not come.
    with pytest.raises((Exception, pytest.fail.Exception)):
        run_state_machine_as_test(GraphMachine, settings=search)
