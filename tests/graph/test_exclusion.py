"""Setup, execution and closing exclude each other without holding a worker."""

import threading

import numpy as np
import pytest

from lazyflow_core.errors import NotReadyError, RequestCancelledError, RequestError
from lazyflow_core.graph import Graph
from lazyflow_core.request import Request, RequestEvent, RequestState, ThreadedScheduler

from .operators import OpAdd

IMAGE = np.arange(12.0).reshape(3, 4)


class OpWait(OpAdd):
    """Waits for an event before it computes."""

    def __init__(self, **slots):
        self.entered, self.go_on = RequestEvent(), RequestEvent()
        super().__init__(**slots)

    def execute(self, slot, roi, out):
        self.entered.set()
        self.go_on.wait()
        super().execute(slot, roi, out)


@pytest.fixture
def one_worker():
    with ThreadedScheduler(1) as scheduler, Graph(scheduler) as graph:
        yield graph


def test_a_setup_that_waits_inside_a_request_frees_its_worker(one_worker):
    op = OpWait(graph=one_worker, image=IMAGE)
    running = op.output[0].submit()
    op.entered.wait()
    changing = Request(lambda: setattr(op.amount, "value", 5.0), scheduler=one_worker.scheduler).submit()
    # The only worker has two suspended requests now and can still run this one.
    Request(op.go_on.set, scheduler=one_worker.scheduler).submit().wait()
    changing.wait()
    assert np.array_equal(running.wait(), IMAGE[:1] + 1)
    assert np.array_equal(op.output[0].wait(), IMAGE[:1] + 5)


def test_an_execution_that_waits_for_a_setup_frees_its_worker(one_worker):
    op = OpAdd(graph=one_worker, image=IMAGE)
    asked = []
    with one_worker.transaction():
        op.amount.value = 5.0
        # Asked by somebody else: what a setup itself starts is refused.
        asker = threading.Thread(target=lambda: asked.append(op.output[0].submit()))
        asker.start()
        asker.join()
        free = Request(lambda: "free", scheduler=one_worker.scheduler)
        assert free.submit().wait() == "free"
        assert asked[0].state is RequestState.SUSPENDED
    assert np.array_equal(asked[0].wait(), IMAGE[:1] + 5)


def test_what_an_execution_leaves_behind_waits_for_a_setup_too(one_worker):
    graph, go_on = one_worker, threading.Event()

    class OpAsksLater(OpAdd):
        def execute(self, slot, roi, out):
            self.later = Request(self.ask, scheduler=graph.scheduler).submit()
            super().execute(slot, roi, out)

        def ask(self):
            go_on.wait()
            return self.image.read()

    op = OpAsksLater(graph=graph, image=IMAGE)
    op.output.read()
    with graph.transaction():
        op.image.assign(IMAGE + 100)
        go_on.set()
        while op.later.state in (RequestState.QUEUED, RequestState.RUNNING):
            pass
        assert op.later.state is RequestState.SUSPENDED
    assert np.array_equal(op.later.wait(), IMAGE + 100)


def test_a_cancelled_setup_lets_executions_in_again(one_worker):
    op = OpWait(graph=one_worker, image=IMAGE)
    running = op.output[0].submit()
    op.entered.wait()
    changing = Request(lambda: setattr(op.amount, "value", 5.0), scheduler=one_worker.scheduler).submit()
    Request(lambda: None, scheduler=one_worker.scheduler).submit().wait()  # now it waits at the gate
    assert changing.cancel()
    with pytest.raises(RequestCancelledError):
        changing.wait()
    op.go_on.set()
    assert np.array_equal(running.wait(), IMAGE[:1] + 1)
    assert np.array_equal(op.output[0].submit().wait(), IMAGE[:1] + 1)
    assert op.amount.value == 1.0


def test_closing_a_graph_cancels_what_is_computed_and_ends(one_worker):
    op = OpWait(graph=one_worker, image=IMAGE)
    running = op.output[0].submit()
    op.entered.wait()
    one_worker.close()
    assert running.state is RequestState.CANCELLED
    assert op.closed
    with pytest.raises(NotReadyError):
        op.output.read()


def test_a_request_made_before_its_operator_closed_is_told(one_worker):
    op = OpAdd(graph=one_worker, image=IMAGE)
    request = op.output[0]
    op.close()
    with pytest.raises(RequestError, match="not ready"):
        request.wait()


def test_a_request_made_before_the_array_shrank_is_told(one_worker):
    op = OpAdd(graph=one_worker, image=IMAGE)
    request = op.output[2]
    op.image.assign(np.zeros((2, 2)))
    with pytest.raises(RequestError, match="the array is y=2, x=2"):
        request.wait()


def test_changes_from_many_threads_are_made_one_after_the_other():
    with Graph() as graph:
        op = OpAdd(graph=graph, image=IMAGE, amount=0.0)
        wrong = []

        def change(n):
            for i in range(20):
                with graph.transaction():
                    op.amount.value = float(n * 100 + i)
                    if op.amount.value != n * 100 + i:
                        wrong.append((n, i))

        def look():
            for _ in range(50):
                rows = op.output.read()
                if len(np.unique(rows - IMAGE)) != 1:
                    wrong.append(rows)

        threads = [threading.Thread(target=change, args=(n,)) for n in range(3)]
        threads += [threading.Thread(target=look) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
