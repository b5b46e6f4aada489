import copy
import gc
import inspect
import pickle
import weakref
from pathlib import Path
from random import Random

import numpy as np
import pytest

from lazyflow_core.axes import Axes
from lazyflow_core.errors import (
    ConnectError,
    ExecuteError,
    GraphError,
    NotReadyError,
    ParameterError,
    SetupError,
)
from lazyflow_core.graph import Graph, InputSlot, Operator, OutputSlot, ParameterSlot, setup
from lazyflow_core.graph.setup import Setup
from lazyflow_core.meta import ArrayMeta

from .operators import OpAdd, OpSum, OpTwice

IMAGE = np.arange(12.0).reshape(3, 4)


def state(graph):
    """All that a user can see of a graph."""
    return graph.describe()


def test_meta_is_known_before_anything_is_computed(graph):
    op = OpAdd(graph=graph, image=IMAGE.astype("uint8"))
    assert op.output.meta == ArrayMeta((3, 4), "float64", axes="yx")
    assert op.executed == []


def test_building_a_chain_sets_up_each_operator_once(graph):
    first = OpAdd(graph=graph, image=IMAGE)
    second = OpAdd(graph=graph, image=first.output, amount=2.0)
    assert (first.setups, second.setups) == (1, 1)


def test_a_diamond_is_set_up_once_per_change(graph):
    top = OpAdd(graph=graph, image=IMAGE)
    left = OpAdd(graph=graph, image=top.output)
    right = OpAdd(graph=graph, image=left.output)
    bottom = OpSum(graph=graph, a=top.output, b=right.output)
    assert bottom.setups == 1
    top.image.assign(np.zeros((5, 5)))
    assert bottom.setups == 2
    assert bottom.output.meta.shape == (5, 5)


def test_meta_that_stays_the_same_stops_the_cascade(graph):
    first = OpAdd(graph=graph, image=IMAGE)
    second = OpAdd(graph=graph, image=first.output)
    first.amount.value = 5.0
    assert (first.setups, second.setups) == (2, 1)


def test_a_transaction_sets_up_once_for_many_changes(graph):
    op = OpAdd(graph=graph, image=IMAGE)
    with graph.transaction():
        op.amount.value = 2.0
        op.amount.value = 3.0
        op.image.assign(np.zeros((2, 2)))
        assert op.setups == 1
    assert op.setups == 2
    assert op.output.meta.shape == (2, 2)


def test_operators_made_in_one_transaction_are_set_up_once_each_in_order(graph):
    class OpNeedsMask(OpAdd):
        mask = InputSlot(optional=True)

        def setup_outputs(self):
            assert self.mask.ready
            super().setup_outputs()

    with graph.transaction():
        last = OpNeedsMask(graph=graph, image=IMAGE)
        first = OpAdd(graph=graph)
        second = OpAdd(graph=graph, image=first.output)
        last.mask.connect(second.output)
        first.image.assign(IMAGE)
    assert (first.setups, second.setups, last.setups) == (1, 1, 1)


def test_a_raising_setup_leaves_the_graph_as_it_was(graph):
    a = OpAdd(graph=graph, name="a", image=IMAGE)
    total = OpSum(graph=graph, a=a.output, b=IMAGE)
    before = state(graph)
    with pytest.raises(SetupError, match=r"^OpSum: a is y=5, x=5 float64 and b is y=3, x=4 float64"):
        a.image.assign(np.zeros((5, 5)))
    assert state(graph) == before
    assert np.array_equal(total.output.read(), 2 * IMAGE + 1)


def test_a_raising_transaction_takes_back_all_its_changes(graph):
    a = OpAdd(graph=graph, image=IMAGE)
    b = OpAdd(graph=graph, name="b", image=a.output)
    before = state(graph)
    with pytest.raises(KeyError), graph.transaction():
        a.amount.value = 7.0
        b.image.disconnect()
        OpAdd(graph=graph, image=b.output)
        raise KeyError("changed my mind")
    assert state(graph) == before
    assert np.array_equal(b.output.read(), IMAGE + 2)


def test_execution_works_after_a_setup_that_raised(graph):
    # Upstream: the flag that keeps executions out stayed set for ever.
    op = OpSum(graph=graph, a=IMAGE, b=IMAGE)
    with pytest.raises(SetupError):
        op.a.assign(np.zeros((1, 1)))
    assert np.array_equal(op.output[0].submit().wait(), 2 * IMAGE[:1])


def test_an_operator_that_cannot_be_made_is_not_in_the_graph(graph):
    a = OpAdd(graph=graph, image=IMAGE)
    before = state(graph)
    with pytest.raises(SetupError):
        OpSum(graph=graph, a=a.output, b=np.zeros((1, 1)))
    with pytest.raises(ParameterError):
        OpTwice(graph=graph, image=a.output, amount="much")
    assert state(graph) == before
    assert a.output.downstream == ()


def test_disconnecting_makes_everything_downstream_unready(graph):
    first = OpAdd(graph=graph, image=IMAGE)
    second = OpTwice(graph=graph, image=first.output)
    heard = []
    second.output.ready_changed.subscribe(heard.append)
    first.image.disconnect()
    assert not second.output.ready
    assert not second.ready
    assert heard == [second.output]
    first.image.assign(IMAGE)
    assert second.ready
    assert heard == [second.output] * 2


def test_an_operator_can_declare_its_output_not_ready(graph):
    class OpShy(OpAdd):
        def setup_outputs(self):
            self.output.meta = None

    op = OpShy(graph=graph, image=IMAGE)
    assert not op.output.ready
    assert op.output.why_not_ready() == "OpShy.output is not ready: it was declared not ready."


def test_a_setup_that_forgets_an_output_is_told(graph):
    class OpForget(OpAdd):
        def setup_outputs(self):
            pass

    with pytest.raises(SetupError, match=r"OpForget: setup_outputs left 'OpForget\.output' without meta"):
        OpForget(graph=graph, image=IMAGE)


def test_an_optional_input_may_be_missing(graph):
    class OpMaybe(Operator):
        image = InputSlot()
        mask = InputSlot(optional=True)
        output = OutputSlot()

        def setup_outputs(self):
            self.output.meta = self.image.meta.replace(extra={"test.masked": self.mask.ready})

        def propagate_dirty(self, slot, roi):
            self.output.mark_dirty(roi)

    op = OpMaybe(graph=graph, image=IMAGE)
    assert op.output.meta.extra["test.masked"] is False
    op.mask.assign(IMAGE)
    assert op.output.meta.extra["test.masked"] is True
    op.mask.disconnect()
    assert op.output.meta.extra["test.masked"] is False


@pytest.mark.parametrize(
    ("declared", "refusal"),
    [
        ({"dtype": "uint8"}, "dtype float64 is not uint8"),
        ({"dtype": ["uint8", "uint16"]}, "dtype float64 is not uint8 or uint16"),
        ({"axes": "zyx"}, "axes 'yx' are not 'zyx'"),
        ({"ndim": 3}, "2 axes are not 3"),
    ],
)
def test_a_declared_contract_is_checked_when_connecting(graph, declared, refusal):
    class OpPicky(OpAdd):
        image = InputSlot(**declared)

    source = OpAdd(graph=graph, image=IMAGE)
    picky = OpPicky(graph=graph)
    with pytest.raises(ConnectError) as caught:
        picky.image.connect(source.output)
    assert "OpAdd.output (Output, array) to OpPicky.image (Input, array" in str(caught.value)
    assert str(caught.value).endswith(f"{refusal}.")
    with pytest.raises(ConnectError, match=refusal):
        picky.image.assign(IMAGE)


def test_a_contract_also_holds_when_the_meta_changes_later(graph):
    class OpPicky(OpAdd):
        image = InputSlot(ndim=2)

    source = OpAdd(graph=graph, image=IMAGE)
    OpPicky(graph=graph, image=source.output)
    before = state(graph)
    with pytest.raises(SetupError, match="3 axes are not 2"):
        source.image.assign(np.zeros((2, 2, 2)))
    assert state(graph) == before


def test_connecting_in_a_circle_is_refused_and_names_the_circle(graph):
    a = OpAdd(graph=graph, name="a", image=IMAGE)
    b = OpAdd(graph=graph, name="b", image=a.output)
    c = OpTwice(graph=graph, name="c", image=b.output)
    before = state(graph)
    with pytest.raises(ConnectError, match=r"c\.output depends on a\.image already \(a → b"):
        a.image.connect(c.output)
    with pytest.raises(ConnectError, match="already"):
        a.image.connect(a.output)
    assert state(graph) == before


def test_a_circle_of_connections_alone_is_refused_too(graph):
    class OpPass(Operator):
        image = InputSlot()
        output = OutputSlot()

        def __init__(self, **slots):
            super().__init__(**slots)
            self.output.connect(self.image)

    first = OpPass(graph=graph, name="first")
    second = OpPass(graph=graph, name="second", image=first.output)
    with pytest.raises(ConnectError, match=r"second\.output depends on first\.image already"):
        first.image.connect(second.output)
    first.image.assign(IMAGE)
    assert np.array_equal(second.output.read(), IMAGE)


def test_a_refused_circle_leaves_the_order_as_it_was(graph):
    # Half of the ranks had been raised, and a later circle through the other half went unseen.
    a = OpAdd(graph=graph, name="a", image=IMAGE)
    b = OpSum(graph=graph, name="b", a=a.output, b=a.output)
    c = OpAdd(graph=graph, name="c", image=b.output)
    d = OpAdd(graph=graph, name="d", image=b.output)
    ranks = [op.rank for op in (a, b, c, d)]
    for _ in range(3):
        for last in (c, d):
            with pytest.raises(ConnectError, match="depends on"):
                a.image.connect(last.output)
    assert [op.rank for op in (a, b, c, d)] == ranks


def test_slots_of_different_graphs_or_kinds_do_not_connect(graph):
    op = OpAdd(graph=graph, image=IMAGE)
    with Graph() as other, pytest.raises(ConnectError, match="their graphs differ"):
        OpAdd(graph=other, image=op.output)
    with pytest.raises(ConnectError, match=r"to OpAdd\.amount \(Parameter, float, default 1\.0\)"):
        op.amount.connect(op.output)


@pytest.mark.parametrize("value", ["text", None, 3, {}, object()])
def test_what_is_no_array_cannot_be_assigned(graph, value):
    with pytest.raises(ConnectError, match=r"OpAdd\.image: .* is neither a slot nor an array"):
        OpAdd(graph=graph, image=value)


@pytest.mark.parametrize("value", [[[1], [1, 2]], np.array(["a"]), np.zeros(2, [("r", "u1")])])
def test_rows_of_several_lengths_and_what_are_no_numbers_cannot_be_assigned(graph, value):
    with pytest.raises(ConnectError, match=r"OpAdd\.image: .* (is no array|has no pixels)"):
        OpAdd(graph=graph, image=value)


def test_an_array_of_objects_cannot_be_assigned(graph):
    with pytest.raises(ConnectError, match="dtype object"):
        OpAdd(graph=graph, image=np.array([None]))


def test_an_array_can_be_assigned_with_its_axes(graph):
    op = OpAdd(graph=graph)
    op.image.assign(IMAGE, axes="cx")
    assert op.output.meta.axes == Axes("cx")
    with pytest.raises(ConnectError, match="its meta says"):
        op.image.assign(IMAGE, ArrayMeta((4, 3), "float64"))


def test_a_list_of_numbers_is_an_array(graph):
    assert OpAdd(graph=graph, image=[[1, 2], [3, 4]]).output.read().tolist() == [[2, 3], [4, 5]]


# ---------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("type_", "given", "kept"),
    [
        (float, 2, 2.0),
        (float, np.float32(0.5), 0.5),
        (int, np.int64(3), 3),
        (tuple, [1, [2]], (1, (2,))),
        (float | tuple, (1, 2), (1, 2)),
        (str | None, None, None),
        (bool, True, True),
    ],
)
def test_a_parameter_keeps_its_type(type_, given, kept):
    accepted = ParameterSlot(type_).accept(given, "p")
    assert accepted == kept
    assert type(accepted) is type(kept)


@pytest.mark.parametrize(
    ("type_", "given"),
    [(float, "1"), (int, 1.5), (float, True), (str, 1), (tuple, 1.0), (float, None), (bool, 1)],
)
def test_a_parameter_refuses_other_types(type_, given):
    with pytest.raises(ParameterError, match=r"^OpX\.p: .* not "):
        ParameterSlot(type_).accept(given, "OpX.p")


def test_a_parameter_with_choices_suggests_the_nearest():
    with pytest.raises(ParameterError, match="did you mean 'mirror'"):
        ParameterSlot(str, choices=("mirror", "zero")).accept("miror", "p")


def test_a_value_of_the_wrong_type_changes_nothing(graph):
    op = OpAdd(graph=graph, image=IMAGE)
    with pytest.raises(ParameterError, match=r"OpAdd\.amount: 'much' is a str, not float"):
        op.amount.value = "much"
    assert op.amount.value == 1.0
    assert op.setups == 1


def test_a_parameter_that_gets_the_same_value_does_nothing(graph):
    op = OpAdd(graph=graph, image=IMAGE)
    heard = []
    op.amount.value_changed.subscribe(heard.append)
    op.amount.value = 1
    assert (op.setups, heard) == (1, [])
    op.amount.value = 2
    assert (op.setups, heard) == (2, [op.amount])


def test_a_parameter_follows_the_one_it_is_connected_to(graph):
    op = OpTwice(graph=graph, image=IMAGE, amount=3.0)
    assert op.second.amount.value == 3.0
    op.amount.value = 4.0
    assert op.second.amount.value == 4.0
    op.second.amount.disconnect()
    assert op.second.amount.value == 1.0
    assert op.second.amount.is_default


def test_a_required_parameter_keeps_the_operator_from_being_ready(graph):
    class OpNeeds(OpAdd):
        amount = ParameterSlot(float)

    op = OpNeeds(graph=graph, image=IMAGE)
    assert op.output.why_not_ready().startswith("OpNeeds.output is not ready: OpNeeds.amount has no value.")
    with pytest.raises(NotReadyError, match=r"OpNeeds\.amount"):
        _ = op.amount.value
    op.amount.value = 2.0
    assert op.ready


# ---------------------------------------------------------------------------- making and closing operators


def test_an_unknown_slot_is_refused_with_a_suggestion(graph):
    with pytest.raises(TypeError, match=r"OpAdd has no input or parameter 'imgae'; did you mean 'image'"):
        OpAdd(graph=graph, imgae=IMAGE)


def test_an_operator_needs_a_graph():
    with pytest.raises(TypeError, match=r"OpAdd.*needs graph="):
        OpAdd(image=IMAGE)


def test_a_slot_cannot_be_overwritten(graph):
    op = OpAdd(graph=graph, image=IMAGE)
    with pytest.raises(AttributeError, match=r"OpAdd\.image is a slot; change it by image\.connect"):
        op.image = IMAGE


@pytest.mark.parametrize("name", ["graph", "name", "execute", "slots"])
def test_a_slot_cannot_hide_a_member_of_the_operator(name):
    with pytest.raises(GraphError, match=f"OpBad.{name}"):
        type("OpBad", (Operator,), {name: InputSlot()})


def test_slots_keep_the_order_of_the_class_bodies():
    class OpMore(OpAdd):
        extra = InputSlot()
        amount = ParameterSlot(int, default=1)

    assert list(OpMore.declarations) == ["image", "amount", "output", "extra"]
    assert OpMore.declarations["amount"].type is int


def test_closing_an_operator_releases_it_and_what_it_fed_becomes_unready(graph):
    first = OpAdd(graph=graph, image=IMAGE)
    second = OpAdd(graph=graph, image=first.output)
    first.close()
    first.close()
    assert first.closed
    assert first.released == 1
    assert graph.operators == (second,)
    assert not second.output.ready
    with pytest.raises(NotReadyError):
        first.output.read()


def test_closing_a_composite_closes_its_children(graph):
    op = OpTwice(graph=graph, image=IMAGE)
    op.close()
    assert op.first.closed
    assert op.second.closed
    assert op.children == ()


def test_an_operator_that_could_not_be_made_releases_what_it_held(graph):
    made = []

    class OpHolds(OpAdd):
        def __init__(self, **slots):
            made.append(self)
            super().__init__(**slots)

        def setup_outputs(self):
            raise ValueError("no")

    with pytest.raises(SetupError):
        OpHolds(graph=graph, image=IMAGE)
    assert made[0].released == 1
    assert made[0].closed


def test_a_closed_graph_is_freed_without_the_collector():
    gc.collect()
    gc.disable()
    try:
        array = IMAGE.copy()
        with Graph() as graph:
            op = OpTwice(graph=graph, image=OpAdd(graph=graph, image=array).output)
            op.output.read()
        watched = [weakref.ref(graph), weakref.ref(array)]
        del graph, op, array
        assert watched[1]() is None
    finally:
        gc.enable()
        gc.collect()
    assert watched[0]() is None


def test_changing_the_graph_from_inside_execute_is_an_error_not_a_hang(graph):
    class OpMeddle(OpAdd):
        def execute(self, slot, roi, out):
            self.amount.value = 9.0

    op = OpMeddle(graph=graph, image=IMAGE)
    for ask in (op.output.read, lambda: op.output[0].submit().wait()):
        with pytest.raises(ExecuteError, match="cannot be changed from inside execute"):
            ask()
    assert op.amount.value == 1.0
    op.amount.value = 2.0


def test_asking_for_pixels_in_a_setup_is_an_error_not_a_hang(graph):
    class OpPeek(OpAdd):
        def setup_outputs(self):
            self.image.read()
            super().setup_outputs()

    with pytest.raises(SetupError, match="OpPeek: setup_outputs asked for pixels"):
        OpPeek(graph=graph, image=OpAdd(graph=graph, image=IMAGE).output)
    op = OpAdd(graph=graph, image=IMAGE)
    for ask in (op.output.read, op.output[0].wait, lambda: op.output[0].submit().wait()):
        expected = pytest.raises((GraphError, ExecuteError), match="a transaction did before its end")
        with expected, graph.transaction():
            ask()


def test_subscribers_hear_of_a_setup_after_it_is_complete(graph):
    first = OpAdd(graph=graph, image=IMAGE)
    second = OpAdd(graph=graph, image=first.output)
    seen = []
    first.output.meta_changed.subscribe(lambda slot: seen.append((slot, second.output.read().shape)))
    first.image.assign(np.zeros((2, 2)))
    assert seen == [(first.output, (2, 2))]


def test_a_subscriber_that_raises_is_reported_and_stops_nobody(graph, caplog):
    op = OpAdd(graph=graph, image=IMAGE)
    heard = []
    op.output.meta_changed.subscribe(lambda slot: 1 / 0)
    op.output.meta_changed.subscribe(heard.append)
    op.image.assign(np.zeros((2, 2)))
    assert heard == [op.output]
    assert "a subscriber of meta_changed of OpAdd.output raised" in caplog.text


def test_a_subscriber_may_change_the_graph(graph):
    first = OpAdd(graph=graph, image=IMAGE)
    second = OpAdd(graph=graph, name="second", image=IMAGE)
    first.amount.value_changed.subscribe(lambda slot: setattr(second.amount, "value", slot.value))
    first.amount.value = 5.0
    assert second.amount.value == 5.0


def test_an_operator_that_keeps_changing_its_own_inputs_is_stopped(graph):
    class OpRestless(OpAdd):
        def setup_outputs(self):
            super().setup_outputs()
            self.amount.value = self.amount.value + 1

    with pytest.raises(SetupError, match="changes its own inputs again and again"):
        OpRestless(graph=graph, image=IMAGE)
    assert graph.operators == ()


def test_a_block_that_fails_inside_a_transaction_is_taken_back_alone(graph):
    op = OpAdd(graph=graph, name="op", image=IMAGE)
    last = OpAdd(graph=graph, name="last", image=op.output)
    heard = []
    last.output.dirty.subscribe(lambda slot, roi: heard.append(roi))
    with graph.transaction():
        op.amount.value = 2.0
        with pytest.raises(SetupError, match="changed my mind"), graph.transaction():
            op.amount.value = 3.0
            made = OpAdd(graph=graph, image=last.output)
            last.close()
            raise SetupError("changed my mind")
        with pytest.raises(ConnectError):
            op.image.assign("no array")
    assert (op.amount.value, last.closed, last.released) == (2.0, False, 0)
    assert (made.closed, made.released) == (True, 1)
    assert graph.operators == (op, last)
    assert np.array_equal(last.output.read(), IMAGE + 3)
    assert heard == [op.output.meta.roi]


def test_a_closed_operator_is_not_changed_any_more(graph):
    op = OpAdd(graph=graph, name="op", image=IMAGE)
    other = OpAdd(graph=graph, name="other", image=IMAGE)
    op.close()
    for change in (
        lambda: op.image.connect(other.output),
        lambda: other.image.connect(op.output),
        lambda: op.image.assign(IMAGE),
        lambda: setattr(op.amount, "value", 2.0),
        lambda: setattr(op.output, "meta", other.output.meta),
    ):
        with pytest.raises(GraphError, match=r"op\.\w+ belongs to an operator that is closed"):
            change()
    with pytest.raises(GraphError, match="OpAdd cannot be a child of op, which is closed"):
        OpAdd(parent=op)
    assert op.output.why_not_ready() == "op.output is not ready: it belongs to an operator that is closed."
    assert np.array_equal(other.output.read(), IMAGE + 1)


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        (lambda op: OpAdd(graph="g"), r"OpAdd\(\.\.\.\) needs graph="),
        (lambda op: OpAdd(parent="g"), r"OpAdd\(\.\.\.\) needs graph="),
        (lambda op: Graph(4), r"Graph\(4\): that is no scheduler"),
        (lambda op: op.output.dirty.subscribe("refresh"), r"dirty of OpAdd\.output calls functions"),
    ],
)
def test_what_is_of_another_kind_is_a_type_error_in_a_sentence(graph, mistake, sentence):
    with pytest.raises(TypeError, match=sentence):
        mistake(OpAdd(graph=graph))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_what_belongs_to_a_graph_is_neither_pickled_nor_copied(graph, duplicate):
    op = OpAdd(graph=graph, image=IMAGE)
    for thing in (graph, op, op.output):
        with pytest.raises(TypeError, match=r"neither pickled nor copied\. Describe .* Pipeline\.from_graph"):
            duplicate(thing)


def test_a_path_is_accepted_as_text(graph):
    class OpNamed(Operator):
        file = ParameterSlot(str)
        amount = ParameterSlot(float, default=1.0)

    op = OpNamed(graph=graph, file=Path("folder") / "image.h5")
    assert op.file.value == str(Path("folder") / "image.h5")
    with pytest.raises(ParameterError, match=r"amount: .* is a \w+Path, not float\."):
        op.amount.value = Path("image.h5")


def test_masked_pixels_are_refused_and_not_used_as_if_they_were_valid(graph):
    masked = np.ma.masked_greater(IMAGE, 10)
    with pytest.raises(ConnectError, match=r"OpAdd\.image: the array has masked pixels, .* array\.filled"):
        OpAdd(graph=graph, image=masked)
    nothing_masked = OpAdd(graph=graph, image=np.ma.array(IMAGE))
    assert (nothing_masked.output[...].wait() == IMAGE + 1).all()


@pytest.mark.parametrize("seed", range(200))
def test_blocks_inside_each_other_are_taken_back_to_where_they_began(seed):
    random = Random(seed)

    class Target:
        def __init__(self):
            self._born, self.items, self.value = 0, (), 0

    objects = [Target() for _ in range(3)]
    setup = Setup(Graph())

    def state():
        return [(each.items, each.value) for each in objects]

    def block(depth):
        for step in range(random.randrange(8)):
            each = random.choice(objects)
            choice = random.randrange(4)
            if choice == 0:
                setup.set(each, "items", (*each.items, step))
            elif choice == 1:
                setup.set(each, "items", each.items[1:])
            elif choice == 2:
                # Once a tuple and once a number, as the value of a parameter may be.
                setup.set(each, "value", random.choice([(step,), step]))
            elif depth:
                before, mark = state(), setup.mark()
                block(depth - 1)
                if random.randrange(2):
                    setup.keep(mark)
                else:
                    setup.roll_back_to(mark)
                    assert state() == before

    block(4)
    lists = [id(target) for target, attribute, *_ in setup._undo if attribute == "items"]
    assert len(lists) == len(set(lists))
    setup.roll_back()
    assert state() == [((), 0)] * 3


class OpHybrid(Operator):
    """Computes its output from that of a child, which it takes through an input of its own."""

    image = InputSlot()
    inner = InputSlot()
    output = OutputSlot()

    def __init__(self, **slots):
        self.child = OpAdd(parent=self, image=self.image)
        super().__init__(**slots)
        self.inner.connect(self.child.output)

    def setup_outputs(self):
        self.output.meta = self.inner.meta

    def execute(self, slot, roi, out):
        np.multiply(self.inner.read(roi), 2, out=out)

    def propagate_dirty(self, slot, roi):
        if slot is self.inner:
            self.output.mark_dirty(roi)


def test_a_composite_sets_up_after_the_child_that_it_takes_by_an_input(graph):
    hybrid = OpHybrid(graph=graph)
    hybrid.image.assign(np.ones((2, 3)))
    hybrid.image.assign(np.ones((4, 5)))
    assert hybrid.output.meta.shape == (4, 5)
    stale = []
    hybrid.output.dirty.subscribe(lambda slot, roi: stale.append(roi))
    hybrid.child.amount.value = 2.0
    assert stale == [hybrid.output.meta.roi]
    assert hybrid.output.read()[0, 0] == 6


def test_a_composite_that_asks_a_child_before_its_turn_is_told_what_to_do(graph):
    class OpHasty(Operator):
        image = InputSlot()
        output = OutputSlot()

        def __init__(self, **slots):
            self.child = OpAdd(parent=self, image=self.image)
            super().__init__(**slots)

        def setup_outputs(self):
            self.output.meta = self.child.output.meta

    sentence = "set up after hasty, whose setup_outputs asks for it; connect it to an input of hasty"
    with pytest.raises(SetupError, match=sentence):
        OpHasty(graph=graph, name="hasty", image=np.ones((2, 3)))
    assert graph.operators == ()
    hasty = OpHasty(graph=graph, name="hasty")
    for _ in range(2):
        with pytest.raises(SetupError, match=sentence):
            hasty.image.assign(np.ones((2, 3)))
    assert not hasty.image.ready


@pytest.mark.parametrize("belongs", ["parent", "graph"])
def test_an_operator_made_in_setup_outputs_is_refused(graph, belongs):
    class OpMakes(Operator):
        image = InputSlot()
        output = OutputSlot()
        child = None

        def setup_outputs(self):
            self.child = OpAdd(**{belongs: self if belongs == "parent" else graph})

    makes = OpMakes(graph=graph)
    for _ in range(2):
        with pytest.raises(SetupError, match="make it in __init__"):
            makes.image.assign(np.ones(3))
    assert graph.operators == (makes,)
    assert makes.children == ()
    assert makes.child is None


def test_the_setup_transaction_asks_no_slot_for_its_kind():
    """What a kind of slot has, loses and announces it says itself; a new kind changes no line there."""
    assert "isinstance(" not in inspect.getsource(setup)


@pytest.mark.parametrize("name", ["rank", "computed", "is_set_up", "graph", "slots", "_operators"])
def test_authors_cannot_take_a_name_under_which_the_graph_keeps_something(graph, name):
    """``self.rank = 3`` would set operators up in a wrong order, without a word."""
    op = OpAdd(graph=graph, image=np.ones(3))
    with pytest.raises(AttributeError, match=rf"^OpAdd\.{name}: the graph keeps"):
        setattr(op, name, 3)
    with pytest.raises(GraphError, match=rf"^OpMine\.{name}: the graph keeps"):
        type("OpMine", (OpAdd,), {name: 3})
    op.remembered = 3  # any other


def test_a_transaction_hands_out_nothing_and_the_graph_says_whether_one_is_under_way(graph):
    op, seen = OpAdd(graph=graph, image=np.ones(3)), []
    op.output.dirty.subscribe(lambda slot, roi: seen.append(graph.is_changing))
    with graph.transaction() as given:
        assert given is None
        with graph.transaction() as inner:
            assert inner is None
        assert graph.is_changing
        with pytest.raises(GraphError, match="a snapshot is of a complete version"):
            graph.snapshot()
        op.amount.value = 5.0
    with graph.snapshot():
        assert not graph.is_changing
    assert (seen, graph.is_changing) == ([False], False)


def test_what_is_to_be_called_after_the_setup_waits_for_the_end_of_the_transaction(graph):
    op = OpAdd(graph=graph, image=np.ones(3))
    order = []
    op.amount.value_changed.subscribe(lambda slot: order.append("subscriber"))
    with graph.transaction():
        graph._call_after_setup(order.append, "after")
        graph._call_after_setup(order.append, "after")
        op.amount.value = 5.0
        order.append("end of block")
        with pytest.raises(ZeroDivisionError), graph.transaction():
            graph._call_after_setup(order.append, "undone")
            raise ZeroDivisionError
    assert order == ["end of block", "subscriber", "after"]
    with pytest.raises(ZeroDivisionError), graph.transaction():
        graph._call_after_setup(order.append, "undone")
        raise ZeroDivisionError
    assert order == ["end of block", "subscriber", "after"]
