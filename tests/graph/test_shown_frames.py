"""What pytest and IPython show of an error: the author's lines, none of ours."""

import traceback

import numpy as np
import pytest

from lazyflow_core.errors import LazyflowError
from lazyflow_core.graph import Graph, InputSlot, Operator, OutputSlot, ParameterSlot
from lazyflow_core.request import Request, RequestEvent, RequestPool, gather

IMAGE = np.arange(12.0).reshape(3, 4)


class OpSteep(Operator):
    image = InputSlot(ndim=2)
    level = ParameterSlot(float, default=1.0)
    output = OutputSlot()

    def setup_outputs(self):
        if self.level.value > 2:
            raise ValueError("too steep")
        self.output.meta = self.image.meta

    def execute(self, slot, roi, out):
        out[...] = self.image.read(roi)[:, :, 0]


class OpForgets(OpSteep):
    def setup_outputs(self):
        pass


class OpPair(Operator):
    image = InputSlot()
    output = OutputSlot()

    def __init__(self, **slots):
        super().__init__(**slots)
        child = OpSteep(parent=self, image=self.image, level=3.0)
        self.output.connect(child.output)


def made(graph):
    OpSteep(graph=graph, image=IMAGE, level=3.0)


def made_without_meta(graph):
    OpForgets(graph=graph, image=IMAGE)


def made_with_a_child(graph):
    OpPair(graph=graph, image=IMAGE)


def of_a_wrong_type(graph):
    OpSteep(graph=graph, image=IMAGE, level="steep")


def of_a_wrong_name(graph):
    OpSteep(graph=graph, image=IMAGE, levle=1.0)


def no_array(graph):
    OpSteep(graph=graph, image="no array")


def connected(graph):
    OpSteep(graph=graph, image=np.zeros((1, 2, 3)))


def connected_in_a_circle(graph):
    op = OpSteep(graph=graph)
    op.image.connect(op.output)


def assigned(graph):
    first = OpSteep(graph=graph, image=IMAGE)
    OpSteep(graph=graph, image=first.output)
    first.level.value = 3.0


def assigned_by_name(graph):
    OpSteep(graph=graph, image=IMAGE).level = 3.0


def in_a_transaction(graph):
    op = OpSteep(graph=graph, image=IMAGE)
    with graph.transaction():
        op.level.value = 3.0


def not_ready(graph):
    OpSteep(graph=graph).output.read()


def outside(graph):
    OpSteep(graph=graph, image=IMAGE).output[7].wait()


def read(graph):
    OpSteep(graph=graph, image=IMAGE).output.read()


def waited_for(graph):
    OpSteep(graph=graph, image=IMAGE).output[0].wait()


def submitted(graph):
    OpSteep(graph=graph, image=IMAGE).output[0].submit().wait()


def gathered(graph):
    op = OpSteep(graph=graph, image=IMAGE)
    gather(op.output[0], op.output[1])


def in_a_pool(graph):
    op = OpSteep(graph=graph, image=IMAGE)
    with RequestPool() as pool:
        pool.submit(op.output[0])


def timed_out(graph):
    event = RequestEvent()
    request = Request(event.wait).submit()
    try:
        request.wait(timeout=0)
    finally:
        event.set()
        request.cancel()


MISTAKES = [made, made_without_meta, made_with_a_child, of_a_wrong_type, of_a_wrong_name, no_array, connected]
MISTAKES += [connected_in_a_circle, assigned, assigned_by_name, in_a_transaction, not_ready, outside, read]
MISTAKES += [waited_for, submitted, gathered, in_a_pool, timed_out]


def shown(error):
    """Yield module and place of what a reader sees; the innermost frame is always shown."""
    while error is not None:
        entry = error.__traceback__
        while entry is not None:
            frame = entry.tb_frame
            if entry.tb_next is not None and not frame.f_locals.get("__tracebackhide__"):
                place = f"{frame.f_globals['__name__']}.{frame.f_code.co_qualname}:{entry.tb_lineno}"
                yield place
            entry = entry.tb_next
        error = error.__cause__


@pytest.mark.parametrize("mistake", MISTAKES)
def test_no_line_of_ours_is_between_the_author_and_the_sentence(mistake):
    with Graph() as graph:
        with pytest.raises((LazyflowError, TypeError, AttributeError)) as caught:
            mistake(graph)
        ours = [place for place in shown(caught.value) if place.startswith("lazyflow_core")]
        assert ours == []
        assert len(traceback.format_exception(caught.value)) < 40
