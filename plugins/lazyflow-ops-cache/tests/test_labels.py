"""What is painted is there, whole, and can be taken back: against a plain array."""

import gc
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from lazyflow_core import Graph, InputSlot, Operator, OutputSlot, Roi
from lazyflow_core.errors import (
    ExecuteError,
    GraphError,
    ParameterError,
    ResultError,
    RoiBoundsError,
    SetupError,
)
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.pipeline import Pipeline
from lazyflow_core.request import Request, RequestEvent, ThreadedScheduler
from lazyflow_core.utility import memory_ledger

from lazyflow_ops_cache.block_cache import OpBlockCache
from lazyflow_ops_cache.labels import OpLabels

ERASER = 255


def make(shape=(20, 30), graph=None, **options):
    return OpLabels(graph=graph or Graph(), image=np.zeros(shape, "float32"), **options)


def heard(slot):
    boxes = []
    slot.dirty.subscribe(lambda slot, roi: boxes.extend(roi.boxes))
    return boxes


def test_zero_keeps_the_eraser_removes_and_every_other_number_is_a_class():
    op = make((2, 5))
    op.image[0] = [1, 2, 3, 4, 0]
    op.image[0] = [0, 7, ERASER, ERASER, ERASER]
    assert op.labels.read().tolist() == [[1, 7, 0, 0, 0], [0] * 5]
    assert op.labels.meta.dtype == np.uint8
    assert op.labels.meta.semantics == "labels"


def test_only_what_is_another_label_is_stale():
    op = make()
    boxes = heard(op.labels)
    op.image[2:9, 3:20] = np.pad(np.ones((1, 1)), ((3, 3), (10, 6)))
    op.image[5, 13] = 1
    op.image[0:20, 0:30] = 0
    assert boxes == [Roi((5, 13), (6, 14))]


def test_pixels_of_the_image_are_never_read_and_say_nothing_when_they_change():
    class OpNoPixels(Operator):
        output = OutputSlot()

        def setup_outputs(self):
            self.output.meta = ArrayMeta((100, 10**9), "float32", "yx")

    graph = Graph()
    source = OpNoPixels(graph=graph)
    op = OpLabels(graph=graph, image=source.output)
    op.image[50, 10**9 - 3 : 10**9] = 2
    boxes = heard(op.labels)
    source.output.mark_dirty()
    assert boxes == []
    assert op.labels[50, 10**9 - 4 :].wait().tolist() == [[0, 2, 2, 2]]
    assert [str(box) for box in op.boxes.value] == ["[50:51, 999999997:1000000000]"]


def test_the_channels_of_the_image_have_one_label():
    graph = Graph()
    op = OpLabels(graph=graph)
    op.image.assign(np.zeros((4, 3, 5), "uint8"), axes="ycx")
    op.image[1:3, :, 2] = 4
    op.image[3, 0, 4] = 5
    assert op.labels.meta.axes.keys == "yx"
    assert op.labels.read()[1:].tolist() == [[0, 0, 4, 0, 0], [0, 0, 4, 0, 0], [0, 0, 0, 0, 5]]
    with pytest.raises(ResultError, match="differ between its channels"):
        op.image[0, :, 0] = [[1], [2], [1]]


@pytest.mark.parametrize("data", [256, -1, 1.5, np.nan, "a", [1, 2, 3, 4, 5]])
def test_what_is_no_label_is_refused_and_nothing_is_painted(data):
    op = make()
    with pytest.raises(ResultError):
        op.paint([(Roi((0, 0), (2, 2)), 1), (Roi((4, 4), (6, 6)), data)])
    assert op.painted.value.blocks == {}
    with pytest.raises(RoiBoundsError, match="cannot paint"):
        op.paint([(Roi((0, 0), (2, 31)), 1)])
    with pytest.raises(ResultError, match="from 0 to 9, the eraser"):
        make(eraser=9).image[0, 0] = 10


def test_deleting_a_class_shifts_those_above_it_and_merging_leaves_a_gap():
    op = make((1, 6))
    op.image[0] = [1, 2, 3, 4, 2, 0]
    boxes = heard(op.labels)
    op.delete_class(2)
    assert op.labels.read().tolist() == [[1, 0, 2, 3, 0, 0]]
    assert boxes == [Roi((0, 1), (1, 5))]
    op.merge_classes(1, 3)
    assert op.labels.read().tolist() == [[3, 0, 2, 3, 0, 0]]
    op.clear_class(3)
    assert op.counts.value == {2: 1}
    op.clear()
    assert op.boxes.value == ()
    for _ in range(4):
        op.undo()
    assert op.labels.read().tolist() == [[1, 2, 3, 4, 2, 0]]
    for wrong in (0, 255, 300, -1):
        with pytest.raises(ParameterError, match="is no class; classes are 1 to 254"):
            op.delete_class(wrong)
        with pytest.raises(ParameterError, match="is no class"):
            op.merge_classes(1, wrong)


def test_undo_and_redo_go_through_all_strokes_and_painting_forgets_what_was_undone():
    op = make()
    states = [op.labels.read()]
    for n in range(5):
        op.image[n : n + 3, n : 2 * n + 2] = n + 1
        states.append(op.labels.read())
    for state in states[-2::-1]:
        op.undo()
        assert np.array_equal(op.labels.read(), state)
    with pytest.raises(GraphError, match="nothing to undo"):
        op.undo()
    op.redo()
    assert np.array_equal(op.labels.read(), states[1])
    op.image[19, 29] = 1
    assert (op.can_undo, op.can_redo) == (True, False)
    with pytest.raises(GraphError, match="nothing to redo"):
        op.redo()


def test_several_regions_of_one_stroke_are_undone_together():
    op = make()
    op.paint([(Roi((0, 0), (4, 4)), 1), (Roi((2, 2), (6, 6)), 2), (Roi((3, 3), (4, 4)), ERASER)])
    assert op.counts.value == {1: 12, 2: 15}
    op.undo()
    assert op.painted.value.blocks == {}


def test_a_value_of_what_was_painted_can_be_gone_back_to():
    op = make()
    op.image[0, 0] = 1
    before = op.painted.value
    op.image[5, 5:8] = 2
    op.image[6, 6] = 3
    boxes = heard(op.labels)
    op.painted.value = before
    assert op.counts.value == {1: 1}
    assert [box for box in boxes if Roi((5, 5), (7, 8)) in box]


def test_a_transaction_that_fails_takes_back_what_was_painted_in_it():
    graph = Graph()
    op = make(graph=graph)
    op.image[0, 0] = 1
    boxes = heard(op.labels)
    with pytest.raises(RuntimeError), graph.transaction():
        op.paint([(Roi((3, 3), (5, 5)), 2)])
        op.undo()
        op.paint([(Roi((7, 7), (8, 8)), 2)])
        raise RuntimeError
    assert (op.counts.value, boxes) == ({1: 1}, [])
    with graph.transaction():
        op.paint([(Roi((3, 3), (5, 5)), 2)])
        op.paint([(Roi((3, 3), (4, 4)), 3)])
    assert op.counts.value == {1: 1, 2: 3, 3: 1}
    assert boxes == [Roi((0, 0), (5, 5))]  # of several strokes at once all labels of the blocks they touch


def test_a_stroke_is_seen_whole_or_not_at_all_by_who_began_before_it():
    with ThreadedScheduler(2) as scheduler, Graph(scheduler) as graph:
        entered, go_on = RequestEvent(), RequestEvent()

        class OpTwice(Operator):
            labels = InputSlot()
            output = OutputSlot()

            def setup_outputs(self):
                self.output.meta = self.labels.meta

            def execute(self, slot, roi, out):
                first = self.labels.read(roi)
                entered.set()
                go_on.wait()
                out[...] = first + 10 * self.labels.read(roi)

            def propagate_dirty(self, slot, roi):
                self.output.mark_dirty(roi)

        op = make((64, 64), graph)
        op.image[:, :] = 1
        twice = OpTwice(graph=graph, labels=op.labels)
        request = twice.output[:].submit()
        entered.wait()
        op.image[:, :] = 2
        with graph.snapshot():
            go_on.set()
            assert np.unique(request.wait()).tolist() == [11]
            op.image[:, :] = 3
            assert np.unique(op.labels.read()).tolist() == [2]
            assert op.counts.value == {2: 64 * 64}
        assert np.unique(twice.output.read()).tolist() == [33]


def test_strokes_of_many_threads_beside_readers_are_all_there_and_each_is_whole():
    with ThreadedScheduler(2) as scheduler, Graph(scheduler) as graph:
        op = make((4, 100, 300), graph)
        cache = OpBlockCache(graph=graph, image=op.labels, block=(4, 64, 128))
        torn, stop = [], threading.Event()

        def paint(thread):
            for step in range(20):
                op.image[thread, :, :] = 1 + step
            for step in range(10):
                op.paint([(Roi((thread, 0, 10 * step), (thread + 1, 100, 10 * step + 3)), 100 + step)])

        def look():
            while not stop.is_set():
                with graph.snapshot():
                    pixels = op.labels.read()
                    for plane in pixels:
                        if len(np.unique(plane[:, 100:])) > 1:
                            torn.append(np.unique(plane))
                    if not np.array_equal(cache.output.read(), pixels):
                        torn.append("cache")

        readers = [threading.Thread(target=look) for _ in range(2)]
        writers = [threading.Thread(target=paint, args=(n,)) for n in range(4)]
        for thread in readers + writers:
            thread.start()
        for thread in writers:
            thread.join()
        stop.set()
        for thread in readers:
            thread.join()
        assert torn == []
        expected = np.full((4, 100, 300), 20, np.uint8)
        for step in range(10):
            expected[:, :, 10 * step : 10 * step + 3] = 100 + step
        assert np.array_equal(op.labels.read(), expected)
        assert len(op.painted.value.undoable) == 120


def test_an_image_that_leaves_labels_without_a_place_is_refused():
    op = make()
    op.image[10:15, 25] = 7
    with pytest.raises(SetupError, match=r"shape \(15, 25\) now, but there are labels at \[10:15, 25:26\]"):
        op.image.assign(np.zeros((15, 25)))
    with pytest.raises(SetupError, match="axes 'xy' now, but there are labels on 'yx'"):
        op.image.assign(np.zeros((20, 30)), axes="xy")
    with pytest.raises(SetupError, match="eraser=7, but there are labels of class 7"):
        op.eraser.value = 7
    op.image.assign(np.zeros((15, 40), "uint16"))
    assert op.counts.value == {7: 5}
    assert op.labels.read().shape == (15, 40)
    op.image[0, 39] = 1
    op.clear()
    op.image.assign(np.zeros((5, 5)))
    with pytest.raises(GraphError, match=r"cannot undo: its labels at .* have no place"):
        op.undo()
    op.image.assign(np.zeros((5, 5, 5)))
    op.image[4, 4, 4] = 3
    op.undo()
    with pytest.raises(GraphError, match="nothing to undo"):
        op.undo()


def test_labels_count_in_the_ledger_are_never_evicted_and_are_gone_with_their_operator():
    ledger = memory_ledger()
    account, before = ledger.account("cache.labels"), ledger.budget_bytes
    gc.collect()
    empty = account.used_bytes
    op = make((200, 200))
    op.image[:, :] = np.random.default_rng(0).integers(1, 250, (200, 200))
    kept = account.used_bytes - empty
    assert 30_000 < kept < 60_000
    try:
        ledger.budget_bytes = 0
        assert account.used_bytes - empty == kept
        assert op.labels.read().all()
    finally:
        ledger.budget_bytes = before
    del op
    gc.collect()
    assert account.used_bytes == empty


def test_labels_are_no_part_of_a_pipeline():
    graph = Graph()
    op = OpLabels(graph=graph)
    assert Pipeline.from_graph(graph).steps[0].settings == {}
    op.image.assign(np.zeros((4, 4)))
    op.image[0, 0] = 1
    op.image.disconnect()
    assert op.painted.value.blocks  # also while there is no image
    assert Pipeline.from_graph(graph).steps[0].settings == {}


def test_what_computes_cannot_paint():
    class OpPaints(Operator):
        image = InputSlot()
        output = OutputSlot()

        def setup_outputs(self):
            self.output.meta = self.image.meta

        def execute(self, slot, roi, out):
            op.paint([(roi, 1)])

    graph = Graph()
    op = make(graph=graph)
    with pytest.raises(ExecuteError, match="cannot be changed from inside execute"):
        OpPaints(graph=graph, image=op.labels).output.read()


SHAPES = st.sampled_from([(7,), (9, 14), (600, 9), (3, 8, 9), (2, 2, 65, 4)])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_strokes_are_what_a_plain_array_would_have(data):
    shape = data.draw(SHAPES)
    op = OpLabels(graph=Graph())
    op.image.assign(np.zeros(shape, "float32"), axes="tzyx"[-len(shape) :])
    model = np.zeros(shape, np.uint8)
    shown = np.zeros(shape, np.uint8)  # what somebody sees who reads again what he hears to be stale

    def look(slot, roi):
        for box in roi.boxes:
            shown[box.slicing] = slot.read(box)

    op.labels.dirty.subscribe(look)
    past, future = [], []
    for _ in range(data.draw(st.integers(1, 12))):
        action = data.draw(st.sampled_from(["paint", "paint", "paint", "delete", "merge", "undo", "redo"]))
        before = model.copy()
        if action == "paint":
            corners = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
            roi = Roi(*zip(*corners, strict=True))
            brush = data.draw(nps.arrays(np.uint8, roi.shape, elements=st.sampled_from([0, 1, 2, 3, 9, 255])))
            op.paint([(roi, brush)])
            part = model[roi.slicing]
            part[brush != 0] = brush[brush != 0]
            part[brush == 255] = 0
        elif action == "delete":
            number = data.draw(st.integers(1, 9))
            op.delete_class(number)
            model[model == number] = 0
            model[model > number] -= 1
        elif action == "merge":
            number, into = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
            op.merge_classes(number, into)
            model[model == number] = into
        elif action == "undo" and past:
            op.undo()
            future.append(model)
            model = past.pop()
            before = model
        elif action == "redo" and future:
            op.redo()
            past.append(model)
            model = future.pop()
            before = model
        if not np.array_equal(before, model):
            past.append(before)
            future.clear()
        assert np.array_equal(op.labels.read(), model)
        assert np.array_equal(shown, model)
    numbers, counts = np.unique(model, return_counts=True)
    assert op.counts.value == {int(n): int(c) for n, c in zip(numbers, counts, strict=True) if n}
    covered = np.zeros(shape, bool)
    for box in op.boxes.value:
        assert model[box.slicing].any()
        covered[box.slicing] = True
    assert not model[~covered].any()
    assert (op.can_undo, op.can_redo) == (bool(past), bool(future))


def test_a_request_may_paint():
    op = make()

    def work():
        op.image[0, 0] = 1

    Request(work).submit().wait()
    assert op.counts.value == {1: 1}
