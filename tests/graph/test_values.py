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
from lazyflow_core.graph import Graph, InputSlot, Operator, OutputSlot, ParameterSlot
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


def test_an_output_of_values_has_no_level():
    with pytest.raises(GraphError, match="has no level"):
        OutputSlot(value=float, level=1)


def test_a_value_that_is_there_again_is_one_notification(graph, mean):
    use = OpAdd(graph=graph, image=IMAGE, amount=mean.mean)
    heard = []
    for slot in (mean.mean, use.amount):
        slot.value_changed.subscribe(lambda slot: heard.append(str(slot)))
    mean.image.disconnect()
    mean.image.assign(IMAGE + 1)
    assert heard == ["OpMean.mean", "OpAdd.amount"]
