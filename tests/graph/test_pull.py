import gc
import sys
import threading
import weakref

import numpy as np
import pytest

from lazyflow_core.errors import (
    CircularWaitError,
    ExecuteError,
    LazyflowError,
    NotReadyError,
    ResultError,
    RoiBoundsError,
    RoiError,
)
from lazyflow_core.graph import Graph, InputSlot, Operator, OutputSlot
from lazyflow_core.request import InlineScheduler, Priority, Request, RequestPool, gather
from lazyflow_core.roi import Roi
from lazyflow_core.testing import OpPassThrough

from .operators import OpAdd, OpShift, OpSum, OpTwice

IMAGE = np.arange(12.0).reshape(3, 4)


def test_asking_computes_the_region_and_no_more(graph):
    op = OpAdd(graph=graph, image=IMAGE)
    assert op.executed == []
    request = op.output[1:3, 0]
    assert op.executed == []
    assert np.array_equal(request.wait(), IMAGE[1:3, 0:1] + 1)
    assert op.executed == [Roi((1, 0), (3, 1))]


def test_a_submitted_request_gives_the_same(graph):
    op = OpAdd(graph=graph, image=IMAGE)
    assert np.array_equal(op.output[1].submit().wait(), IMAGE[1:2] + 1)


def test_a_chain_of_operators_is_one_request(graph):
    first = OpAdd(graph=graph, image=IMAGE)
    second = OpAdd(graph=graph, image=first.output)
    assert np.array_equal(second.output.read(), IMAGE + 2)
    assert first.executed == second.executed == [Roi((0, 0), (3, 4))]


def test_write_into_computes_into_the_destination_and_returns_it(graph):
    op = OpAdd(graph=graph, image=IMAGE)
    whole = np.full((6, 8), -1.0)
    destination = whole[::2, ::2]
    result = op.output.request().write_into(destination).wait()
    assert result is destination
    assert np.array_equal(whole[::2, ::2], IMAGE + 1)
    assert (whole[1::2] == -1).all()


@pytest.mark.parametrize("wrong", [np.empty((3, 4), "float32"), np.empty((4, 3))])
def test_a_destination_of_another_shape_or_dtype_is_refused(graph, wrong):
    op = OpAdd(graph=graph, image=IMAGE)
    with pytest.raises(ResultError, match=r"OpAdd\.output: `out` has shape"):
        op.output.read(out=wrong)


@pytest.mark.parametrize("roi", [Roi((0, 0), (4, 4)), Roi((0, 3), (1, 5))])
def test_a_region_outside_the_array_is_refused_at_once(graph, roi):
    op = OpAdd(graph=graph, image=IMAGE)
    for ask in (op.output.request, op.output.read):
        with pytest.raises(RoiBoundsError, match=r"OpAdd\.output: asked for .* but the array is y=3, x=4"):
            ask(roi)


def test_a_region_of_another_dimension_is_refused(graph):
    op = OpAdd(graph=graph, image=IMAGE)
    with pytest.raises(RoiError):
        op.output.request(Roi((0,), (1,)))
    with pytest.raises(RoiError):
        op.output.read(Roi((0,), (1,)))


@pytest.mark.parametrize("region", [(0, 1), (slice(0, 1), slice(0, 1)), 3])
def test_a_region_that_is_no_roi_is_refused_in_a_sentence(graph, region):
    op = OpAdd(graph=graph, image=IMAGE)

    class OpAsks(OpAdd):
        def execute(self, slot, roi, out):
            self.image.read(region)

    asks = OpAsks(graph=graph, image=op.output)
    for mistake in (op.output.read, op.output.request, op.image.mark_dirty, lambda _: asks.output.read()):
        with pytest.raises(LazyflowError, match=r"OpA\w+\.\w+: .* is no Roi; ask for slot\[10:20, :\]"):
            mistake(region)


def test_a_destination_that_is_no_array_is_refused_in_a_sentence(graph):
    op = OpAdd(graph=graph, image=IMAGE)
    with pytest.raises(ResultError, match=r"OpAdd\.output: `out` is of type list; a numpy array is needed"):
        op.output.read(out=[1, 2])


def test_an_empty_region_gives_an_empty_array_and_bothers_no_operator(graph):
    op = OpAdd(graph=graph, image=IMAGE)
    assert op.output[1:1].wait().shape == (0, 4)
    assert op.executed == []


def test_the_result_of_an_operator_that_asks_elsewhere_is_right(graph):
    op = OpShift(graph=graph, image=np.array([1.0, 2.0, 3.0]))
    assert op.output[0:2].wait().tolist() == [0, 1]
    assert op.output[2].wait().tolist() == [2]


def test_requests_at_a_composite_go_straight_to_its_child(graph):
    op = OpTwice(graph=graph, image=IMAGE, amount=2.0)
    assert np.array_equal(op.output[0].wait(), IMAGE[0:1] + 4)
    assert op.second.executed == [Roi((0, 0), (1, 4))]


def test_what_a_reader_gets_of_an_assigned_array_cannot_be_written_to(graph):
    op = OpAdd(graph=graph, image=IMAGE)
    region = op.image.read()
    with pytest.raises(ValueError, match="read-only"):
        region[0, 0] = 5


def test_a_failing_operator_is_named_with_slot_region_and_the_way_to_it(graph):
    class OpFail(OpAdd):
        def execute(self, slot, roi, out):
            raise ValueError("no such luck")

    fail = OpFail(graph=graph, image=IMAGE)
    after = OpAdd(graph=graph, name="after", image=fail.output)
    for ask in (lambda: after.output[0].wait(), lambda: after.output.read(Roi((0, 0), (1, 4)))):
        with pytest.raises(ExecuteError) as caught:
            ask()
        assert str(caught.value) == (
            "OpFail.output [0:1, 0:4]: ValueError: no such luck\n  asked by after.output [0:1, 0:4]"
        )
        assert isinstance(caught.value.__cause__, ValueError)


class OpAsk(Operator):
    """Reads an output of another operator past the connections, as authors sometimes do."""

    image = InputSlot()
    output = OutputSlot()
    asks = None

    def setup_outputs(self):
        self.output.meta = self.image.meta

    def execute(self, slot, roi, out):
        self.asks.output.read(roi, out=out)


@pytest.mark.parametrize("how", ["read", "wait", "submit"])
@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_a_circle_through_operators_is_named(graph, count, how):
    operators = [OpAsk(graph=graph, name=f"ask{n}", image=IMAGE) for n in range(count)]
    for op, asked in zip(operators, [*operators[1:], operators[0]], strict=True):
        op.asks = asked
    first = operators[0].output
    with pytest.raises(ExecuteError) as caught:
        first.read() if how == "read" else first[:].wait() if how == "wait" else first[:].submit().wait()
    assert isinstance(caught.value.__cause__, CircularWaitError)
    text = str(caught.value)
    assert "is needed to compute itself" in text
    assert len(text) < 4000
    for op in operators[:5]:
        assert str(op.output) in text


def test_an_operator_may_read_its_own_output_for_other_regions(graph):
    class OpRunningSum(OpAsk):
        def execute(self, slot, roi, out):
            row = roi.start[0]
            before = np.zeros((1, 1)) if not row else self.output.read(Roi((row - 1, 0), (row, 1)))
            out[...] = self.image.read(roi) + before

    rows = 100 if isinstance(graph.scheduler, InlineScheduler) else 2000
    op = OpRunningSum(graph=graph, image=np.ones((rows, 1)))
    assert op.output.read(Roi((rows - 1, 0), (rows, 1))) == rows


def test_the_way_of_an_error_through_very_many_operators_is_told_in_short(graph):
    class OpFail(OpAdd):
        def execute(self, slot, roi, out):
            raise ValueError("no such luck")

    last = OpFail(graph=graph, image=IMAGE)
    for n in range(300):
        last = OpAdd(graph=graph, name=f"step{n}", image=last.output)
    with pytest.raises(ExecuteError) as caught:
        last.output.read()
    lines = str(caught.value).splitlines()
    assert "step0." in lines[1]
    assert "step299." in lines[-1]
    assert len(lines) < 100


@pytest.mark.parametrize("how", ["read", "wait", "submit", "write_into"])
def test_of_a_failed_operator_nothing_is_left_without_the_collector(graph, how):
    class Big(np.ndarray):
        pass

    made = []

    class OpFail(OpAdd):
        def execute(self, slot, roi, out):
            made.append(weakref.ref(out))
            big = np.zeros(3).view(Big)
            made.append(weakref.ref(big))
            raise ValueError("no such luck")

    fail = OpAdd(graph=graph, image=OpFail(graph=graph, image=IMAGE).output)
    kept = []

    def ask():
        if how == "read":
            fail.output.read()
        request = fail.output.request()
        kept.append(request)
        if how == "write_into":
            destination = np.empty(IMAGE.shape)
            made.append(weakref.ref(destination))
            request.write_into(destination)
        (request if how == "wait" else request.submit()).wait()

    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            with pytest.raises(ExecuteError):
                ask()
        graph.scheduler.close()
        assert len(made) >= 6
        if isinstance(graph.scheduler, InlineScheduler):
            kept.clear()  # it keeps variables for a debugger, as long as the request
        assert [ref for ref in made if ref() is not None] == []
    finally:
        gc.enable()


def test_every_waiter_of_a_failed_request_gets_an_error_of_its_own(graph):
    class OpFail(OpAdd):
        def execute(self, slot, roi, out):
            raise ValueError("no such luck")

    request = OpFail(graph=graph, image=IMAGE).output[0].submit()
    caught = []
    for _ in range(2):
        with pytest.raises(ExecuteError) as info:
            request.wait()
        caught.append(info.value)
    assert caught[0] is not caught[1]
    assert caught[0].__cause__ is caught[1].__cause__


def test_an_operator_that_failed_once_works_afterwards(graph):
    class OpFailOnce(OpAdd):
        def execute(self, slot, roi, out):
            if not self.executed:
                self.executed.append(roi)
                raise ValueError("not the first time")
            super().execute(slot, roi, out)

    op = OpFailOnce(graph=graph, image=IMAGE)
    with pytest.raises(ExecuteError):
        op.output.read()
    assert np.array_equal(op.output.read(), IMAGE + 1)


@pytest.mark.parametrize("result", [np.zeros((4, 3)), np.zeros((3, 4), "float32"), "text"])
def test_an_operator_that_returns_something_else_is_told(graph, result):
    class OpWrong(OpAdd):
        def execute(self, slot, roi, out):
            return result

    with pytest.raises(ExecuteError, match=r"execute returned shape .* expected shape \(3, 4\)"):
        OpWrong(graph=graph, image=IMAGE).output.read()


def test_an_operator_may_return_its_result_instead_of_writing_it(graph):
    class OpReturn(OpAdd):
        def execute(self, slot, roi, out):
            return self.image.read(roi) * 3

    out = np.empty((3, 4))
    op = OpReturn(graph=graph, image=IMAGE)
    assert op.output.read(out=out) is out
    assert np.array_equal(out, IMAGE * 3)


def test_asking_a_slot_that_is_not_ready_leads_to_the_culprit(graph):
    first = OpAdd(graph=graph, name="first")
    second = OpAdd(graph=graph, name="second", image=first.output)
    for ask in (lambda: second.output[0], second.output.read, lambda: second.output.meta):
        with pytest.raises(NotReadyError) as caught:
            ask()
        assert str(caught.value) == (
            "second.output is not ready: first.image has no value.\n"
            "  second.output ← second.image ← first.output ← first.image (not connected, required)"
        )
    assert second.output.why_not_ready() == str(caught.value)


@pytest.mark.parametrize("length", [39, 40, 41, 1000])
def test_a_chain_of_any_length_works_at_the_default_recursion_limit(length):
    assert sys.getrecursionlimit() == 1000
    with Graph() as graph:
        slot = None
        for _ in range(length):
            op = OpAdd(graph=graph, image=IMAGE if slot is None else slot)
            slot = op.output
        assert np.array_equal(slot.read(), IMAGE + length)
        assert np.array_equal(slot[0].submit().wait(), IMAGE[:1] + length)


def test_an_operator_may_ask_for_several_inputs_at_once(graph):
    class OpParallelSum(OpSum):
        def execute(self, slot, roi, out):
            a, b = gather(self.a.request(roi), self.b.request(roi))
            np.add(a, b, out=out)

    op = OpParallelSum(
        graph=graph,
        a=OpAdd(graph=graph, image=IMAGE).output,
        b=OpAdd(graph=graph, image=IMAGE).output,
    )
    assert np.array_equal(op.output.read(), 2 * IMAGE + 2)
    assert np.array_equal(op.output[0].submit().wait(), 2 * IMAGE[:1] + 2)


def test_blocks_of_one_region_can_be_asked_for_in_a_pool(graph):
    op = OpAdd(graph=graph, image=IMAGE)
    with RequestPool(scheduler=graph.scheduler) as pool:
        for row in range(3):
            pool.submit(op.output[row])
        rows = sorted(array[0, 0] for array in pool)
    assert rows == [1, 5, 9]


def test_many_threads_may_ask_at_once():
    with Graph() as graph:
        op = OpSum(graph=graph, a=OpTwice(graph=graph, image=IMAGE).output, b=IMAGE)
        wrong = []

        def ask():
            for _ in range(50):
                if not np.array_equal(op.output.read(), 2 * IMAGE + 2):
                    wrong.append(1)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_a_request_for_a_region_has_the_priority_it_was_given(graph):
    image = OpAdd(graph=graph, image=np.ones(3)).output
    assert image.request().priority is Priority.NORMAL
    request = image.request(priority=Priority.INTERACTIVE)
    assert request.priority is Priority.INTERACTIVE
    request.raise_priority(Priority.BACKGROUND)
    assert request.priority is Priority.INTERACTIVE
    inner = Request(lambda: image.request(priority=Priority.BACKGROUND), priority=Priority.INTERACTIVE).wait()
    assert inner.wait().tolist() == [2, 2, 2]
    assert inner.priority is Priority.BACKGROUND
    with pytest.raises(ValueError, match="priority is 'now'"):
        image.request(priority="now")


@pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
@pytest.mark.parametrize("channels", [1, 2, 3, 7])
def test_a_few_of_many_channels_are_copied_whatever_the_layout(dtype, channels):
    image = np.arange(40 * 50 * 9).astype(dtype).reshape(40, 50, 9)
    graph = Graph()
    source = OpPassThrough(graph=graph)
    source.image.assign(image, axes="yxc")
    roi = Roi((1, 2, 1), (40, 49, 1 + channels))
    frame = np.zeros((channels, 39, 94), dtype)
    for out in (
        np.empty(roi.shape, dtype),
        frame[:, :, ::2].transpose(1, 2, 0),
        np.empty((39, 47, 9), dtype)[..., :channels],
    ):
        assert source.output.read(roi, out=out) is out
        assert np.array_equal(out, image[roi.slicing])
