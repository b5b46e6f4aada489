"""Ctrl-C in the middle of a change, at every call of a function: nothing hangs, nothing is half done."""

import sys
import threading
from functools import partial

import numpy as np
import pytest

from lazyflow_core.graph import Graph, InputSlot, Operator, OutputSlot, StaleBoxes
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
