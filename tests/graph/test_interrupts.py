"""Ctrl-C in the middle of a change, at every call of a function: nothing hangs, nothing is half done."""

import sys
import threading
from functools import partial

import numpy as np
import pytest

from lazyflow_core.graph import Graph, InputSlot, Operator, OutputSlot, StaleBoxes
from lazyflow_core.graph.versions import run_all
from tests.graph.operators import OpAdd


class OpKeep(Operator):
    """Keeps its whole input until it hears that it is stale."""

    image = InputSlot()
    output = OutputSlot()

    def __init__(self, **slots):
        self.stale, self.kept, self.since = StaleBoxes(self.graph), None, 0
        super().__init__(**slots)

    def setup_outputs(self):
        self.output.meta = self.image.meta

    def propagate_dirty(self, slot, roi):
        self.stale.add(roi)
        self.kept = None
        self.output.mark_dirty(roi)

    def execute(self, slot, roi, out):
        whole = self.image.meta.roi
        if self.kept is None or self.since > self.graph.version:
            self.kept, self.since = self.image.read(), self.stale.since(whole)
        out[...] = self.kept[roi.slicing]


def interrupted(number, function):
    """Call a function with a Ctrl-C at the n-th call inside the core; return where, or None if it ended."""
    calls, where = 0, None

    def trace(frame, event, argument):
        nonlocal calls, where
        code = frame.f_code
        if "lazyflow_core" in code.co_filename and not code.co_name.startswith("__del__"):
            calls += 1
            if calls == number:
                sys.settrace(None)
                where = f"{code.co_qualname}, called in line {frame.f_back.f_lineno}"
                raise KeyboardInterrupt

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return where


def build():
    graph, array = Graph(), np.arange(4.0)
    first = OpAdd(graph=graph, image=array)
    keep = OpKeep(graph=graph, image=first.output)
    last = OpKeep(graph=graph, image=OpAdd(graph=graph, image=keep.output).output)
    last.output.read()
    return graph, array, first, last


def set_value(array, first, last):
    first.amount.value = 7.0


def read(array, first, last):
    last.output.read()


def mark_dirty(array, first, last):
    array[:] = 100.0
    first.image.mark_dirty()


@pytest.mark.parametrize("change", [set_value, mark_dirty, read])
def test_ctrl_c_anywhere_in_a_change_leaves_a_graph_that_answers_and_can_be_changed(change):
    number = 0
    while True:
        number += 1
        graph, array, first, last = build()
        before = graph.version
        where = interrupted(number, partial(change, array, first, last))
        if where is None:
            break
        if change is mark_dirty and graph.version == before:
            first.image.mark_dirty()  # it had not begun
        for amount in (first.amount.value, 50.0):
            # From another thread: one change that was not ended would let nobody else in.
            ended = threading.Thread(target=setattr, args=(first.amount, "value", amount), daemon=True)
            ended.start()
            ended.join(20)
            assert not ended.is_alive(), where
            first.amount.value = amount
            assert np.array_equal(last.output.read(), array + amount + 1), where
    assert number > 10


class OpPlanned(OpAdd):
    """Has a plan that is to be dropped once."""

    def __init__(self, **slots):
        self.made, self.dropped = [], []
        super().__init__(**slots)

    def setup_outputs(self):
        super().setup_outputs()
        self.made.append(object())
        return self.made[-1]

    def drop(self, plan):
        self.dropped.append(plan)


@pytest.mark.parametrize("held", [1, 2])
def test_a_version_whose_end_is_interrupted_ends_with_the_next_change(held):
    for number in range(1, 200):
        graph = Graph()
        op = OpPlanned(graph=graph, image=np.arange(4.0))
        oldest = [graph.snapshot() for _ in range(held - 1)]
        op.amount.value = 2.0
        snapshot = graph.snapshot()
        op.amount.value = 3.0
        where = interrupted(number, snapshot.close)
        for each in oldest:
            with each:
                assert op.output.read()[0] == 1.0, where
        op.amount.value = 4.0
        assert len(set(op.dropped)) == len(op.dropped), where
        if where is None:
            break
        if where.startswith(("Versions.leave", "Snapshot.close")):
            continue  # the version is still counted
        if where.startswith(("run_all", "logged", "_Told.__call__", "_Drop")):
            continue  # what was just being done is not done again
        assert op.plan is op.made[-1]
        assert len(op.dropped) == len(op.made) - 1, where
        assert graph._versions.describe() == "", where
    else:
        pytest.fail("there are more calls than were tried")


def test_of_what_is_due_at_the_end_of_a_version_nothing_is_left_out_for_an_interrupt():
    done = []

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all([lambda: done.append(1), stop, lambda: done.append(2), stop, lambda: done.append(3)])
    assert done == [1, 2, 3]
