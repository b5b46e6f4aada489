import threading

import numpy as np
import pytest

from lazyflow_core.errors import (
    ConnectError,
    ExecuteError,
    GraphError,
    NotReadyError,
    ParameterError,
    SetupError,
)
from lazyflow_core.graph import Graph, InputSlot, Lanes, Operator, OutputSlot, ParameterSlot
from lazyflow_core.request import RequestEvent, ThreadedScheduler

from .operators import OpAdd

IMAGE = np.arange(12.0).reshape(3, 4)


class OpMean(Operator):
    """The mean of its image, as one number."""

    image = InputSlot()
    mean = OutputSlot(value=float)

    def __init__(self, **slots):
        self.computed_times = 0
        super().__init__(**slots)

    def compute_value(self, slot):
        self.computed_times += 1
        return float(self.image.read().mean())

    def propagate_dirty(self, slot, roi):
        self.mean.mark_dirty()


@pytest.fixture
def mean(graph):
    return OpMean(graph=graph, image=IMAGE)


def test_a_value_is_computed_when_it_is_asked_for_and_once(mean):
    assert mean.computed_times == 0
    assert mean.mean.value == 5.5
    assert mean.mean.value == 5.5
    assert mean.computed_times == 1


def test_a_change_makes_it_be_computed_again(mean):
    heard = []
    mean.mean.value_changed.subscribe(heard.append)
    assert mean.mean.value == 5.5
    mean.image.assign(IMAGE + 1)
    assert heard == [mean.mean]
    assert mean.mean.value == 6.5
    mean.image.mark_dirty()
    assert mean.mean.value == 6.5
    assert mean.computed_times == 3


def test_a_parameter_takes_a_computed_value(graph, mean):
    add = OpAdd(graph=graph, image=IMAGE, amount=mean.mean)
    assert add.amount.is_computed
    assert np.array_equal(add.output.read(), IMAGE + 5.5)
    heard = []
    add.output.dirty.subscribe(lambda slot, roi: heard.append(roi))
    mean.image.assign(IMAGE + 1)
    assert heard == [add.output.meta.roi]
    assert np.array_equal(add.output[0].submit().wait(), IMAGE[:1] + 6.5)


def test_a_computed_value_passes_through_a_composite(graph):
    class OpOuter(Operator):
        image = InputSlot()
        mean = OutputSlot(value=float)

        def __init__(self, **slots):
            super().__init__(**slots)
            self.inner = OpMean(parent=self, image=self.image)
            self.mean.connect(self.inner.mean)

    outer = OpOuter(graph=graph, image=IMAGE)
    add = OpAdd(graph=graph, image=IMAGE, amount=outer.mean)
    assert outer.mean.value == 5.5
    outer.image.assign(IMAGE * 2)
    assert outer.mean.value == add.amount.value == 11.0


def test_a_value_of_an_operator_that_is_not_ready_is_not_there(graph):
    mean = OpMean(graph=graph)
    assert not mean.mean.ready
    with pytest.raises(NotReadyError, match=r"OpMean\.mean is not ready: OpMean\.image has no value"):
        _ = mean.mean.value
    add = OpAdd(graph=graph, image=IMAGE, amount=mean.mean)
    assert not add.output.ready
    mean.image.assign(IMAGE)
    assert add.output.ready
    mean.image.disconnect()
    assert not add.output.ready


def test_a_value_that_could_not_be_computed_is_tried_again(graph):
    class OpFailOnce(OpMean):
        def compute_value(self, slot):
            if not self.computed_times:
                self.computed_times += 1
                raise ValueError("not yet")
            return super().compute_value(slot)

    mean = OpFailOnce(graph=graph, image=IMAGE)
    with pytest.raises(ExecuteError, match=r"OpFailOnce\.mean: ValueError: not yet"):
        _ = mean.mean.value
    assert mean.mean.value == 5.5


def test_reading_a_computed_value_in_a_setup_is_an_error_not_a_hang(graph, mean):
    class OpEager(OpAdd):
        def setup_outputs(self):
            self.amount.value  # noqa: B018
            super().setup_outputs()

    with pytest.raises(SetupError, match=r"OpEager: OpEager\.amount is computed by OpMean\.mean, which"):
        OpEager(graph=graph, image=IMAGE, amount=mean.mean)


def test_a_computed_value_of_the_wrong_type_is_told_where_it_is_read(graph):
    class OpAnything(OpMean):
        mean = OutputSlot(value=object)

    class OpNeedsText(Operator):
        text = ParameterSlot(str)

    op = OpNeedsText(graph=graph, text=OpAnything(graph=graph, image=IMAGE).mean)
    with pytest.raises(ParameterError, match=r"OpNeedsText\.text: 5\.5 is a float, not str"):
        _ = op.text.value


def test_values_whose_types_exclude_each_other_do_not_connect(graph, mean):
    class OpTypes(Operator):
        text = ParameterSlot(str, default="")
        number = ParameterSlot(float | tuple, default=0.0)
        count = ParameterSlot(int, default=0)
        flag = ParameterSlot(bool, default=False)

    op = OpTypes(graph=graph, number=mean.mean)
    op.number.connect(op.count)  # integers are accepted for float
    with pytest.raises(ConnectError, match=r"OpTypes\.text \(.*\): no value fits both"):
        op.text.connect(mean.mean)
    for number in (op.number, op.count):
        with pytest.raises(ConnectError):
            number.connect(op.flag)
    assert op.number.upstream is op.count


def test_values_connect_to_values_only(graph, mean):
    with pytest.raises(ConnectError):
        mean.image.connect(mean.mean)
    with pytest.raises(ConnectError):
        mean.mean.connect(OpAdd(graph=graph).amount)


def test_all_who_ask_at_once_share_one_computation():
    entered, go_on = RequestEvent(), RequestEvent()

    class OpSlow(OpMean):
        def compute_value(self, slot):
            entered.set()
            go_on.wait()
            return super().compute_value(slot)

    with ThreadedScheduler(2) as scheduler, Graph(scheduler) as graph:
        mean = OpSlow(graph=graph, image=IMAGE)
        got = []
        threads = [threading.Thread(target=lambda: got.append(mean.mean.value)) for _ in range(4)]
        for thread in threads:
            thread.start()
        entered.wait()
        go_on.set()
        for thread in threads:
            thread.join()
        assert got == [5.5] * 4
        assert mean.computed_times == 1


def test_a_value_can_be_another_one_for_a_while(graph):
    op = OpAdd(graph=graph, image=IMAGE, amount=2.0)
    with op.amount.temporarily(7.0):
        assert op.output.read()[0, 0] == 7
    assert op.amount.value == 2.0
    with pytest.raises(KeyError), op.amount.temporarily(7.0):
        raise KeyError
    assert op.amount.value == 2.0


def test_after_a_while_a_default_is_the_default_again_and_a_connection_is_back(graph, mean):
    op = OpAdd(graph=graph, image=IMAGE)
    with op.amount.temporarily(7.0):
        pass
    assert op.amount.is_default
    op.amount.connect(mean.mean)
    with op.amount.temporarily(7.0):
        assert op.amount.upstream is None
    assert op.amount.upstream is mean.mean


def test_a_value_that_is_there_again_is_one_notification(graph, mean):
    use = OpAdd(graph=graph, image=IMAGE, amount=mean.mean)
    heard = []
    for slot in (mean.mean, use.amount):
        slot.value_changed.subscribe(lambda slot: heard.append(str(slot)))
    mean.image.disconnect()
    mean.image.assign(IMAGE + 1)
    assert heard == ["OpMean.mean", "OpAdd.amount"]


class OpTotal(Operator):
    image = InputSlot()
    total = OutputSlot(value=float)

    def compute_value(self, slot):
        return float(self.image.read().sum())

    def propagate_dirty(self, slot, roi):
        self.total.mark_dirty()


class OpTotals(Operator):
    """The sum of each of its images, by lanes."""

    images = InputSlot(level=1)
    totals = OutputSlot(value=float, level=1)

    def __init__(self, **slots):
        self.lanes = Lanes(
            self.images, lambda image: OpTotal(parent=self, image=image), {self.totals: "total"}
        )
        super().__init__(**slots)


class OpLargest(Operator):
    """The largest of several values, and which it is."""

    values = ParameterSlot(float, level=1)
    largest = OutputSlot(value=float)

    def __init__(self, **slots):
        self.told = []
        super().__init__(**slots)

    def compute_value(self, slot):
        return max(each.value for each in self.values)

    def propagate_change(self, slot):
        self.told.append(slot)
        super().propagate_change(slot)


def test_lanes_of_values_feed_a_list_of_parameters(graph):
    totals = OpTotals(graph=graph, images=[np.ones(2), np.ones(5)])
    largest = OpLargest(graph=graph, values=totals.totals)
    assert [total.value for total in totals.totals] == [2.0, 5.0]
    assert largest.largest.value == 5.0
    heard = []
    largest.largest.value_changed.subscribe(lambda slot: heard.append(slot.value))
    totals.images.append(np.ones(9))
    totals.images[0].assign(np.full(2, 50.0))
    totals.images.remove(0)
    totals.images[1].mark_dirty()
    assert heard == [9.0, 100.0, 9.0, 9.0]
    assert len(largest.values) == 2


def test_a_list_of_parameters_takes_values_and_slots_each_in_its_type(graph):
    total = OpTotal(graph=graph, image=np.ones(4))
    largest = OpLargest(graph=graph, values=[1, total.total, 2.5])
    assert [each.value for each in largest.values] == [1.0, 4.0, 2.5]
    largest.told.clear()
    largest.values[0].value = 7
    assert largest.told == [largest.values[0]]
    assert largest.told[0].index == 0
    assert largest.largest.value == 7.0
    with pytest.raises(ParameterError, match=r"OpLargest.values\[2\]: 'x' is a str, not float"):
        largest.values[2].value = "x"
    with pytest.raises(ParameterError, match="not float"):
        largest.values.append("x")
    assert len(largest.values) == 3
    largest.values.resize(4)
    assert not largest.largest.ready
    assert "OpLargest.values[3] has no value" in largest.largest.why_not_ready()


def test_a_list_of_parameters_connects_to_values_that_fit_only(graph):
    class OpTexts(Operator):
        texts = OutputSlot(value=str, level=1)
        image = InputSlot()

        def setup_outputs(self):
            self.texts.resize(2)

        def compute_value(self, slot):
            return f"text {slot.index}"

    texts = OpTexts(graph=graph, image=np.ones(1))
    assert [text.value for text in texts.texts] == ["text 0", "text 1"]
    largest = OpLargest(graph=graph)
    for upstream in (texts.texts, texts.texts[0]):
        with pytest.raises(ConnectError, match="no value fits both"):
            largest.values.connect(upstream)
    with pytest.raises(ConnectError, match="cannot connect"):
        largest.values.connect(texts.image)
    assert "list of float values" in largest.values.kind
    assert not largest.values.ready


def test_a_value_given_to_a_list_of_parameters_reaches_all_elements(graph):
    total = OpTotal(graph=graph, image=np.ones(4))
    largest = OpLargest(graph=graph)
    largest.values.resize(2)
    largest.values.connect(total.total)
    largest.values.resize(3)
    assert [each.value for each in largest.values] == [4.0] * 3
    total.image.assign(np.ones(6))
    assert [each.value for each in largest.values] == [6.0] * 3


@pytest.mark.parametrize(
    ("type_", "limits", "good", "bad"),
    [
        (float, (0.0, 1.0), [0, 0.0, 0.5, 1.0], [-0.1, 1.1, float("nan"), float("inf")]),
        (float, (0.5, None), [0.5, float("inf")], [0.4, float("nan")]),
        (int, (None, 3), [3, -(10**30)], [4]),
        (int, (1, 2**63), [1, 2**63], [0, 2**63 + 1]),
        (float | tuple, (0.1, 9), [1.0, (1.0, 2), ()], [0.0, (1.0, 0.0)]),
        (float | None, (0, 1), [None, 0.5], [2.0]),
    ],
)
def test_a_range_refuses_what_is_outside_and_says_so(type_, limits, good, bad):
    slot = ParameterSlot(type_, range=limits)
    for value in good:
        slot.accept(value, "p")
    for value in bad:
        with pytest.raises(ParameterError, match=r"^p: .* is (outside .*|less than|more than|no number)"):
            slot.accept(value, "p")


def test_ranges_and_steps_are_hints_for_sliders(graph):
    assert ParameterSlot(int, range=(0, 100)).step == 1
    assert ParameterSlot(float, range=(0, 1)).step is None
    assert ParameterSlot(float, range=(0, 1), step=0.05).accept(0.123, "p") == 0.123
    assert ParameterSlot(int, default=5, range=(0, 100)).describe() == "int, 0 to 100, default 5"
    assert "numbers from 0 on" in ParameterSlot(int, default=5, range=(0, None)).describe()
    assert ParameterSlot(int, range=(0, 100)).usual == (0, 100)
    assert ParameterSlot(int, range=(0, None)).usual is None
    sigma = ParameterSlot(float | tuple, range=(0, None), usual=(0.5, 10))
    assert (sigma.usual, sigma.accept(200, "sigma")) == ((0.5, 10), 200.0)


def test_what_a_range_refuses_of_a_tuple_is_named():
    with pytest.raises(ParameterError, match=r"^p: \(1, -2\) holds -2, which is less than 0\.$"):
        ParameterSlot(tuple, range=(0, None)).accept((1, -2), "p")


@pytest.mark.parametrize("usual", [(0, 200), (50, None), (9, 1), 5])
def test_a_slider_goes_between_two_numbers_of_the_range(usual):
    with pytest.raises(GraphError, match=r"usual=|range="):
        ParameterSlot(float, range=(0, 100), usual=usual)


@pytest.mark.parametrize("limits", [(1, 0), 5, (1,), (None, "x"), [0, 1]])
def test_what_is_no_range_is_refused(limits):
    with pytest.raises(GraphError, match="range="):
        ParameterSlot(float, range=limits)
    with pytest.raises(GraphError, match="has no numbers"):
        ParameterSlot(str, range=(0, 1))
    with pytest.raises(GraphError, match="step=-1"):
        ParameterSlot(float, step=-1)


@pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1, 2**64 - 1, np.uint64(2**63 + 1), 10**400])
def test_a_whole_number_that_no_float_holds_is_refused_rather_than_moved(value):
    slot = ParameterSlot(float)
    with pytest.raises(ParameterError, match=r"^level: .*(no float holds|is an int, not float)"):
        slot.accept(value, "level")
    assert slot.accept(2**63, "level") == 2**63
    assert ParameterSlot(float | int).accept(2**53 + 1, "level") == 2**53 + 1


def test_what_is_put_back_after_a_while_was_never_part_of_a_change_that_was_refused(graph, monkeypatch):
    op, waits = OpAdd(graph=graph, image=IMAGE), threading.Event()

    def elsewhere():
        with op.amount.temporarily(7.0):
            pass

    with pytest.raises(KeyError), graph.transaction():
        op.amount.value = 5.0
        enter = graph._gate.enter.__func__
        monkeypatch.setattr(type(graph._gate), "enter", lambda gate: (waits.set(), enter(gate))[1])
        thread = threading.Thread(target=elsewhere)
        thread.start()
        assert waits.wait(30)
        raise KeyError
    thread.join(30)
    assert op.amount.is_default
    assert op.amount.value == 1.0


def test_memory_of_a_value_is_given_back_in_every_version_that_is_seen(graph, mean):
    with graph.snapshot():
        assert mean.mean.value == 5.5
        mean.image.assign(IMAGE + 1)
        assert mean.mean.value == 5.5
        computed = mean.computed_times
        mean.mean._forget()
        assert mean.mean.value == 5.5
        assert mean.computed_times == computed + 1
    assert mean.mean.value == 6.5
