"""Operators that work pixel by pixel are computed together by tiles; what is before them is asked once."""

import threading

import numpy as np
import pytest

from lazyflow_core.errors import ExecuteError
from lazyflow_core.graph import Graph, InputSlot, Operator, OutputSlot, ParameterSlot
from lazyflow_core.request import ThreadedScheduler, current_request
from lazyflow_core.roi import Roi
from lazyflow_core.testing import OpRecorder

PIXELS = np.arange(7 * 10 * 12, dtype=np.int64).reshape(7, 10, 12)


class OpAdd(Operator):
    pixelwise = True
    image = InputSlot()
    other = InputSlot(optional=True)
    amount = ParameterSlot(int, default=1)
    output = OutputSlot()

    def __init__(self, **slots):
        self.computed_for = []
        super().__init__(**slots)

    def setup_outputs(self):
        self.output.meta = self.image.meta.replace(value_range=None)

    def execute(self, slot, roi, out):
        self.computed_for.append(roi)
        np.add(self.image.read(roi), self.amount.value, out=out)
        if self.other.ready:
            out += self.other.read(roi)

    def propagate_dirty(self, slot, roi):
        self.output.mark_dirty(roi)


class OpLazyArray:
    """Something that is read by region and counts how often."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.asked = array, array.shape, array.dtype, []

    def __getitem__(self, key):
        self.asked.append(key)
        return self.array[key]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Tiles of 32 pixels, for regions of 64 and more."""
    monkeypatch.setattr("lazyflow_core.graph.arrays.LEAST_SIZE", 63)
    monkeypatch.setattr("lazyflow_core.graph.tiles._FEWEST", 2)
    monkeypatch.setattr("lazyflow_core.graph.tiles._TILE_BYTES", 32 * 8)


def chain(graph, source, count):
    operators = []
    for _ in range(count):
        operators.append(OpAdd(graph=graph, image=source))
        source = operators[-1].output
    return operators


def test_a_tile_goes_through_all_of_them_before_the_next_one():
    graph = Graph()
    source = OpRecorder(graph=graph, image=PIXELS)
    operators = chain(graph, source.output, 3)
    roi = Roi((1, 2, 0), (6, 9, 12))
    assert np.array_equal(operators[-1].output.read(roi), PIXELS[roi.slicing] + 3)
    assert source.asked == [roi]
    tiles = operators[0].computed_for
    assert len(tiles) > 5
    assert all(tile.size <= 32 for tile in tiles)
    assert sum(tile.size for tile in tiles) == roi.size
    assert operators[1].computed_for == tiles


def test_a_small_region_is_computed_at_once():
    operators = chain(Graph(), PIXELS, 3)
    roi = Roi((0, 0, 0), (1, 5, 12))
    operators[-1].output.read(roi)
    assert operators[0].computed_for == [roi]


def test_what_two_of_them_begin_with_is_asked_once():
    graph = Graph()
    source = OpRecorder(graph=graph, image=PIXELS)
    left, right = chain(graph, source.output, 1) + chain(graph, source.output, 1)
    both = OpAdd(graph=graph, image=left.output, other=right.output)
    assert np.array_equal(both.output.read(), 2 * PIXELS + 3)
    assert source.asked == [both.output.meta.roi]


def test_an_array_that_is_read_by_region_is_asked_once():
    lazy = OpLazyArray(PIXELS)
    operators = chain(Graph(), lazy, 2)
    lazy.asked.clear()
    assert np.array_equal(operators[-1].output.read(), PIXELS + 2)
    assert len(lazy.asked) == 1


def test_operators_of_another_kind_in_between_have_tiles_of_their_own():
    graph = Graph()
    first = chain(graph, PIXELS, 2)
    between = OpRecorder(graph=graph, image=first[-1].output)
    last = chain(graph, between.output, 2)
    out = np.empty(PIXELS.shape[::-1], np.int64).T
    assert last[-1].output.read(out=out) is out
    assert np.array_equal(out, PIXELS + 4)
    assert between.asked == [between.output.meta.roi]
    assert len(first[0].computed_for) > 5


def test_an_input_of_another_shape_is_asked_as_it_is():
    class OpWeighted(OpAdd):
        def execute(self, slot, roi, out):
            np.multiply(self.image.read(roi), self.other.read(), out=out)

    graph = Graph()
    weight = OpRecorder(graph=graph, image=np.full((1, 1, 1), 3))
    source = OpRecorder(graph=graph, image=PIXELS)
    op = OpWeighted(graph=graph, image=source.output, other=weight.output)
    assert np.array_equal(op.output.read(), PIXELS * 3)
    assert source.asked == [op.output.meta.roi]
    assert set(weight.asked) == {Roi((0, 0, 0), (1, 1, 1))}


def test_one_that_reads_more_than_it_says_gets_what_it_asks_for():
    class OpLiar(OpAdd):
        def execute(self, slot, roi, out):
            out[...] = self.image.read()[roi.slicing] + self.image.read(roi)

    graph = Graph()
    source = OpRecorder(graph=graph, image=PIXELS)
    op = OpLiar(graph=graph, image=chain(graph, source.output, 1)[0].output)
    assert np.array_equal(op.output.read(), 2 * PIXELS + 2)


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_after_a_failure_in_the_middle_the_next_request_begins_anew(kind):
    graph = Graph()

    class OpFails(OpAdd):
        fails = True

        def execute(self, slot, roi, out):
            if self.fails and roi.start[0] > 2:
                raise kind("by design")
            super().execute(slot, roi, out)

    fails = OpFails(graph=graph, image=PIXELS)
    last = OpAdd(graph=graph, image=fails.output)
    with pytest.raises(ExecuteError if kind is ValueError else kind, match="by design"):
        last.output.read()
    fails.fails = False
    fails.amount.value = 10
    assert np.array_equal(last.output.read(), PIXELS + 11)


def test_a_cancelled_one_stops_between_tiles_and_leaves_nothing_behind():
    with ThreadedScheduler(1) as scheduler, Graph(scheduler) as graph:

        class OpCancels(OpAdd):
            def execute(self, slot, roi, out):
                super().execute(slot, roi, out)
                if len(self.computed_for) == 3:
                    current_request().cancel()

        cancels = OpCancels(graph=graph, image=PIXELS)
        last = OpAdd(graph=graph, image=cancels.output)
        over = threading.Event()
        request = last.output.request()
        request.on_cancelled(lambda *_: over.set())
        request.submit()  # nobody waits for it
        assert over.wait(10)
        assert len(cancels.computed_for) == 3
        assert np.array_equal(last.output.request().submit().wait(), PIXELS + 2)


def test_two_reads_of_one_operator_do_not_share_their_memory():
    class OpDifference(OpAdd):
        def execute(self, slot, roi, out):
            left, right, again = self.image.read(roi), self.other.read(roi), self.image.read(roi)
            out[...] = left - right + again

    graph = Graph()
    left, right = chain(graph, PIXELS, 3), chain(graph, PIXELS, 2)
    op = OpDifference(graph=graph, image=left[-1].output, other=right[-1].output)
    last = OpDifference(graph=graph, image=op.output, other=left[0].output)
    once = PIXELS + 3 - (PIXELS + 2) + PIXELS + 3
    assert np.array_equal(last.output.read(), once - (PIXELS + 1) + once)


def test_a_chain_deeper_than_a_stack_is_still_right():
    operators = chain(Graph(), PIXELS, 100)
    assert np.array_equal(operators[-1].output.read(), PIXELS + 100)


def test_all_tiles_are_of_one_version_whatever_changes_meanwhile():
    graph = Graph()
    first = OpAdd(graph=graph, image=PIXELS)

    class OpChanges(OpAdd):
        def execute(self, slot, roi, out):
            super().execute(slot, roi, out)
            if len(self.computed_for) == 3:
                thread = threading.Thread(target=lambda: setattr(first.amount, "value", 1000))
                thread.start()
                thread.join()

    last = OpChanges(graph=graph, image=first.output)
    assert np.array_equal(last.output.read(), PIXELS + 2)
    assert np.array_equal(last.output.read(), PIXELS + 1001)
