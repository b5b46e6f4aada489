"""Depth, size and number: what must not depend on how large a graph or an array is."""

import gc
import subprocess
import sys
import textwrap
import tracemalloc
import weakref

import numpy as np
import pytest

from lazyflow_core.axes import Axes
from lazyflow_core.graph import Graph, InputSlot, Lanes, Operator, OutputSlot, ParameterSlot
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.roi import Roi

from .operators import OpAdd, OpTwice

IMAGE = np.arange(12.0).reshape(3, 4)


def chain(graph, kind, length, image=IMAGE):
    operators = []
    for _ in range(length):
        operators.append(kind(graph=graph, image=operators[-1].output if operators else image))
    return operators


@pytest.mark.parametrize("kind", [OpAdd, OpTwice])
def test_setup_and_push_through_a_thousand_operators_need_no_stack(kind):
    assert sys.getrecursionlimit() == 1000
    with Graph() as graph:
        operators = chain(graph, kind, 1000)
        heard = []
        operators[-1].output.dirty.subscribe(lambda slot, roi: heard.append(roi))
        operators[0].image.mark_dirty(Roi((0, 0), (1, 1)))
        assert heard == [Roi((0, 0), (1, 1))]
        operators[0].image.assign(np.zeros((2, 2)))
        assert operators[-1].output.meta.shape == (2, 2)
        operators[0].image.disconnect()
        assert not operators[-1].output.ready
        assert 100 < len(operators[-1].output.why_not_ready()) < 1000


def test_a_chain_built_from_its_end_works_too():
    with Graph() as graph:
        operators = [OpAdd(graph=graph) for _ in range(200)]
        for i in range(199, 0, -1):
            operators[i].image.connect(operators[i - 1].output)
        operators[0].image.assign(IMAGE)
        assert np.array_equal(operators[-1].output.read(), IMAGE + 200)
        ranks = [op.rank for op in operators]
        assert ranks == sorted(set(ranks))


def test_an_array_of_a_trillion_pixels_is_described_dirtied_and_read_by_block():
    code = textwrap.dedent(
        """
        import numpy as np
        from lazyflow_core import ArrayMeta, Graph, InputSlot, Operator, OutputSlot, Roi
        from lazyflow_core.utility import peak_memory

        class OpEmpty(Operator):
            output = OutputSlot()

            def setup_outputs(self):
                self.output.meta = ArrayMeta((2**14, 2**13, 2**13), np.uint8, axes="zyx")

            def execute(self, slot, roi, out):
                out[...] = roi.start[0] % 251

        class OpPass(Operator):
            image = InputSlot()
            output = OutputSlot()

            def setup_outputs(self):
                self.output.meta = self.image.meta

            def execute(self, slot, roi, out):
                self.image.read(roi, out=out)

            def propagate_dirty(self, slot, roi):
                self.output.mark_dirty(roi)

        with Graph() as graph:
            source = OpEmpty(graph=graph)
            slot = source.output
            for _ in range(10):
                slot = OpPass(graph=graph, image=slot).output
            assert slot.meta.size == slot.meta.nbytes == 2**40
            assert "z=16384" in graph.describe()
            heard = []
            slot.dirty.subscribe(lambda slot, roi: heard.append(roi))
            source.output.mark_dirty()
            assert heard == [slot.meta.roi]
            assert (slot[10_000:10_064, 5_000:5_064, -64:].wait() == 10_000 % 251).all()
        assert peak_memory() < 200e6, peak_memory()
        """
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class OpLanes(Operator):
    images = InputSlot(level=1)
    amount = ParameterSlot(float, default=1.0)
    results = OutputSlot(level=1)

    def __init__(self, **slots):
        Lanes(self.images, self.make_lane, {self.results: "output"})
        super().__init__(**slots)

    def make_lane(self, image):
        return OpAdd(parent=self, image=image, amount=self.amount)


def calls(function):
    """Return how often Python functions and generators were entered; no clock is that exact."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_lanes_cost_the_same_each_however_many_there_are():
    def cost(number):
        made = []
        return (
            calls(lambda: made.append(OpLanes(graph=Graph(), images=[IMAGE] * number))) / number,
            calls(lambda: made[0].images.resize(number // 2)) / number,
            calls(made[0].close) / number,
        )

    few, many = cost(50), cost(400)
    for each, one in zip(many, few, strict=True):
        assert each <= 1.1 * one


def test_the_memory_in_which_lanes_are_made_grows_with_their_number_only():
    def peak(number):
        gc.collect()
        tracemalloc.start()
        try:
            with Graph() as graph:
                OpLanes(graph=graph, images=[IMAGE] * number)
            return tracemalloc.get_traced_memory()[1] / number
        finally:
            tracemalloc.stop()

    peak(10)
    assert peak(800) < 1.2 * peak(200)


def test_a_thousand_graphs_leave_nothing_behind():
    watched = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(1000):
            array = IMAGE.copy()
            with Graph() as graph:
                chain(graph, OpTwice, 2, array)[-1].output.read()
            watched.append(weakref.ref(array))
        del graph, array
        assert not any(ref() is not None for ref in watched)
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((0, 4), "yx"),
        ((1,), "x"),
        ((), ""),
        ((1, 2, 1, 2, 1, 2), "tczyxa"),
        ((3, 0), "yc"),
        ((1, 1, 1), "zyx"),
    ],
)
def test_arrays_of_unusual_shape_pass_like_any_other(graph, shape, axes):
    image = np.ones(shape)
    op = OpAdd(graph=graph)
    op.image.assign(image, ArrayMeta(shape, image.dtype, Axes(axes)))
    assert np.array_equal(op.output.read(), image + 1)
    assert op.output.request().submit().wait().shape == shape
    op.image.mark_dirty()


@pytest.mark.parametrize(
    "image",
    [
        np.asfortranarray(IMAGE),
        IMAGE[::2, ::-1],
        IMAGE.astype(">f8"),
        IMAGE > 3,
        IMAGE.astype("float16"),
        IMAGE.astype("complex64"),
    ],
    ids=["fortran", "strided", "big endian", "bool", "half", "complex"],
)
def test_arrays_of_unusual_layout_are_read_as_they_are(graph, image):
    op = OpAdd(graph=graph, image=np.zeros((1, 1)))
    op.image.assign(image)
    assert op.image.meta.dtype == image.dtype
    assert np.array_equal(op.image.read(Roi((0, 1), (2, 3))), image[0:2, 1:3])
    out = np.empty((2, 2), image.dtype)
    assert np.array_equal(op.image.read(Roi((0, 1), (2, 3)), out=out), image[0:2, 1:3])
