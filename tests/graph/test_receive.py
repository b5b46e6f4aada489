import numpy as np
import pytest

from lazyflow_core.errors import ExecuteError, GraphError, NotReadyError, ResultError, RoiBoundsError
from lazyflow_core.graph import InputSlot, Operator, OutputSlot
from lazyflow_core.roi import Roi

from .operators import OpAdd, OpTwice

IMAGE = np.zeros((3, 4), "uint8")


class OpLabels(Operator):
    """Keeps what is painted into it."""

    image = InputSlot()
    output = OutputSlot()

    def setup_outputs(self):
        self.labels = np.zeros(self.image.meta.shape, self.image.meta.dtype)
        self.output.meta = self.image.meta.replace(semantics="labels")

    def execute(self, slot, roi, out):
        out[...] = self.labels[roi.slicing]

    def propagate_dirty(self, slot, roi):
        pass

    def receive(self, slot, roi, data):
        self.labels[roi.slicing] = data
        self.output.mark_dirty(roi)


def test_data_pushed_into_an_input_reach_the_operator(graph):
    op = OpLabels(graph=graph, image=IMAGE)
    heard = []
    op.output.dirty.subscribe(lambda slot, roi: heard.append(roi))
    op.image[1, 1:3] = [[5, 6]]
    assert op.output.read()[1].tolist() == [0, 5, 6, 0]
    assert heard == [Roi((1, 1), (2, 3))]
    op.image[:] = 7
    assert (op.output.read() == 7).all()


def test_data_pushed_into_a_composite_reach_its_child(graph):
    class OpOuter(Operator):
        image = InputSlot()
        output = OutputSlot()

        def __init__(self, **slots):
            super().__init__(**slots)
            self.labels = OpLabels(parent=self, image=self.image)
            self.output.connect(self.labels.output)

    op = OpOuter(graph=graph, image=IMAGE)
    op.image[0, 0] = 3
    assert op.output[0, 0].wait() == 3


@pytest.mark.parametrize(
    ("key", "data", "error"),
    [
        ((3, 0), 1, RoiBoundsError),
        ((0, 0), 1.5, ResultError),
        ((0, slice(0, 2)), [1, 2, 3], ResultError),
        ((0, 0), "a", ResultError),
    ],
)
def test_data_that_do_not_fit_are_refused(graph, key, data, error):
    op = OpLabels(graph=graph, image=IMAGE)
    with pytest.raises(error):
        op.image[key] = data
    assert (op.output.read() == 0).all()


def test_an_operator_that_takes_no_data_says_so(graph):
    with pytest.raises(GraphError, match=r"OpAdd\.image takes no data"):
        OpAdd(graph=graph, image=IMAGE).image[0] = 1
    with pytest.raises(GraphError, match="takes no data"):
        OpTwice(graph=graph, image=IMAGE).image[0] = 1
    with pytest.raises(NotReadyError):
        OpLabels(graph=graph).image[0] = 1


def test_a_subscriber_can_be_called_after_everything_else(graph):
    op = OpTwice(graph=graph, image=IMAGE)
    heard = []
    op.output.meta_changed.subscribe(lambda slot: heard.append("after"), when="after_setup")
    op.output.dirty.subscribe(lambda slot, roi: heard.append("dirty"))
    op.output.meta_changed.subscribe(lambda slot: heard.append("meta"))
    op.image.assign(np.zeros((2, 2)))
    assert heard == ["meta", "dirty", "after"]


def test_a_deferred_subscriber_is_called_once_per_change_and_may_fail(graph, caplog):
    op = OpAdd(graph=graph, image=IMAGE)
    heard = []

    def refresh(slot, roi):
        heard.append(roi)
        raise ValueError("no screen")

    op.output.dirty.subscribe(refresh, when="after_setup")
    op.image.mark_dirty(Roi((0, 0), (1, 1)))
    assert heard == [Roi((0, 0), (1, 1))]
    assert "after the setup raised" in caplog.text
    with pytest.raises(GraphError, match="'now' or 'after_setup'"):
        op.output.dirty.subscribe(refresh, when="later")


def test_an_error_of_a_child_of_an_execution_names_the_way(graph):
    class OpFail(OpAdd):
        def execute(self, slot, roi, out):
            raise ValueError("inner")

    class OpAsk(OpAdd):
        def execute(self, slot, roi, out):
            self.image.request(roi).submit().wait()

    op = OpAsk(graph=graph, image=OpFail(graph=graph, image=IMAGE).output)
    with pytest.raises(ExecuteError) as caught:
        op.output[0].wait()
    assert (
        str(caught.value) == "OpFail.output [0:1, 0:4]: ValueError: inner\n  asked by OpAsk.output [0:1, 0:4]"
    )
