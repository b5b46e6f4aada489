"""Executions end when their graph or operator closes; changes from many threads are made one by one."""

import threading

import numpy as np
import pytest

from lazyflow_core.errors import NotReadyError, RequestError
from lazyflow_core.graph import Graph
from lazyflow_core.request import RequestEvent, RequestState, ThreadedScheduler

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
