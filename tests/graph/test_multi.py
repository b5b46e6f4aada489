import numpy as np
import pytest

from lazyflow_core.errors import ConnectError, GraphError, NotReadyError, SetupError
from lazyflow_core.graph import Graph, InputSlot, Lanes, Operator, OutputSlot, ParameterSlot
from lazyflow_core.roi import Roi

from .operators import OpAdd

A, B, C = (np.full((2, 3), value) for value in (1.0, 2.0, 3.0))


class OpStack(Operator):
    """Its images, one behind the other along a new first axis."""

    images = InputSlot(level=1)
    output = OutputSlot()

    def __init__(self, **slots):
        self.setups = 0
        super().__init__(**slots)

    def setup_outputs(self):
        self.setups += 1
        first = self.images[0].meta
        if any(image.meta.shape != first.shape for image in self.images):
            raise SetupError("images of different shapes")
        self.output.meta = first.replace(shape=(len(self.images), *first.shape), axes="zyx")

    def execute(self, slot, roi, out):
        rest = Roi(roi.start[1:], roi.stop[1:])
        for z in range(roi.start[0], roi.stop[0]):
            self.images[z].read(rest, out=out[z - roi.start[0]])

    def propagate_dirty(self, slot, roi):
        self.output.mark_dirty(Roi((slot.index, *roi.start), (slot.index + 1, *roi.stop)))


class OpUnstack(Operator):
    """Each plane of its image as an output of its own."""

    image = InputSlot(ndim=3)
    planes = OutputSlot(level=1)

    def setup_outputs(self):
        meta = self.image.meta
        self.planes.resize(meta.shape[0])
        for plane in self.planes:
            plane.meta = meta.replace(shape=meta.shape[1:], axes="yx")

    def execute(self, slot, roi, out):
        assert slot.container is self.planes
        out[...] = self.image.read(Roi((slot.index, *roi.start), (slot.index + 1, *roi.stop)))[0]

    def propagate_dirty(self, slot, roi):
        for z in range(roi.start[0], roi.stop[0]):
            self.planes[z].mark_dirty(Roi(roi.start[1:], roi.stop[1:]))


class OpAddToAll(Operator):
    images = InputSlot(level=1)
    amount = ParameterSlot(float, default=1.0)
    results = OutputSlot(level=1)

    def __init__(self, **slots):
        self.lanes = Lanes(self.images, self.make_lane, {self.results: "output"})
        super().__init__(**slots)

    def make_lane(self, image):
        return OpAdd(parent=self, image=image, amount=self.amount)


def values(multi):
    return [float(slot.read()[0, 0]) for slot in multi]


def test_a_list_of_arrays_and_slots_is_assigned_at_once(graph):
    source = OpAdd(graph=graph, image=A)
    stack = OpStack(graph=graph, images=[A, source.output, C])
    assert stack.setups == 1
    assert stack.output.read()[:, 0, 0].tolist() == [1, 2, 3]


def test_an_empty_list_is_not_ready_and_says_so(graph):
    stack = OpStack(graph=graph)
    assert not stack.images.ready
    assert stack.images
    assert stack.output.why_not_ready().startswith(
        "OpStack.output is not ready: OpStack.images is an empty list."
    )
    with pytest.raises(IndexError, match=r"OpStack\.images has 0 slots; there is no OpStack\.images\[0\]"):
        stack.images[0]


def test_the_culprit_in_a_list_is_the_element(graph):
    stack = OpStack(graph=graph, images=[A])
    stack.images.append()
    assert stack.output.why_not_ready().endswith(
        "OpStack.output ← OpStack.images[1] (not connected, required)"
    )


def test_inserting_and_removing_renumbers(graph):
    # Upstream: positions behind an insertion in the middle stayed what they were.
    stack = OpStack(graph=graph, images=[A, C])
    stack.images.insert(1, B)
    assert [slot.index for slot in stack.images] == [0, 1, 2]
    assert stack.output.read()[:, 0, 0].tolist() == [1, 2, 3]
    stack.images.remove(0)
    assert [str(slot) for slot in stack.images] == ["OpStack.images[0]", "OpStack.images[1]"]
    assert stack.output.read()[:, 0, 0].tolist() == [2, 3]
    heard = []
    stack.output.dirty.subscribe(lambda slot, roi: heard.append(roi))
    stack.images[1].mark_dirty(Roi((0, 0), (1, 1)))
    assert heard == [Roi((1, 0, 0), (2, 1, 1))]


def test_another_length_makes_everything_stale(graph):
    stack = OpStack(graph=graph, images=[A, C])
    heard = []
    stack.output.dirty.subscribe(lambda slot, roi: heard.append(roi))
    stack.images.append(B)
    assert heard == [Roi((0, 0, 0), (3, 2, 3))]


def test_a_refused_element_is_not_there_afterwards(graph):
    stack = OpStack(graph=graph, images=[A, C])
    before = graph.describe()
    with pytest.raises(SetupError, match="different shapes"):
        stack.images.append(np.zeros((9, 9)))
    with pytest.raises(SetupError, match="different shapes"):
        stack.images.assign([A, B, C, np.zeros((1, 1))])
    assert graph.describe() == before
    assert [slot.index for slot in stack.images] == [0, 1]
    assert stack.output.read()[:, 0, 0].tolist() == [1, 3]


def test_an_operator_makes_as_many_outputs_as_it_needs(graph):
    unstack = OpUnstack(graph=graph, image=np.stack([A, B, C]))
    assert values(unstack.planes) == [1, 2, 3]
    unstack.image.assign(np.stack([C, A]))
    assert values(unstack.planes) == [3, 1]


def test_a_connected_list_follows_the_length_of_its_upstream(graph):
    unstack = OpUnstack(graph=graph, image=np.stack([A, B]))
    stack = OpStack(graph=graph, images=unstack.planes)
    assert np.array_equal(stack.output.read(), np.stack([A, B]))
    unstack.image.assign(np.stack([C, B, A]))
    assert np.array_equal(stack.output.read(), np.stack([C, B, A]))
    with pytest.raises(GraphError, match=r"OpStack\.images has the length of OpUnstack\.planes"):
        stack.images.append(A)
    heard = []
    stack.output.dirty.subscribe(lambda slot, roi: heard.append(roi))
    unstack.image.mark_dirty(Roi((1, 0, 0), (2, 1, 1)))
    assert heard == [Roi((1, 0, 0), (2, 1, 1))]


def test_a_plain_slot_is_broadcast_to_all_elements_present_and_future(graph):
    source = OpAdd(graph=graph, image=A)
    stack = OpStack(graph=graph)
    stack.images.resize(2)
    stack.images.connect(source.output)
    stack.images.append()
    assert stack.output.read()[:, 0, 0].tolist() == [2, 2, 2]
    stack.images.disconnect()
    assert len(stack.images) == 3
    assert not stack.output.ready


def test_a_list_does_not_connect_to_a_plain_slot(graph):
    unstack = OpUnstack(graph=graph, image=np.stack([A, B]))
    with pytest.raises(ConnectError, match=r"OpUnstack\.planes \(MultiOutput, list of arrays\) to OpAdd"):
        OpAdd(graph=graph, image=unstack.planes)


def test_lists_of_lists_work_alike(graph):
    class OpTable(Operator):
        rows = InputSlot(level=2)
        output = OutputSlot()

        def setup_outputs(self):
            self.output.meta = self.rows[0][0].meta

        def execute(self, slot, roi, out):
            out[...] = sum(cell.read(roi) * (10**row.index) for row in self.rows for cell in row)

        def propagate_dirty(self, slot, roi):
            self.output.mark_dirty(roi)

    table = OpTable(graph=graph, rows=[[A, B], [C]])
    assert str(table.rows[1][0]) == "OpTable.rows[1][0]"
    assert table.output.read()[0, 0] == 1 + 2 + 30
    table.rows[1].append(A)
    assert table.output.read()[0, 0] == 1 + 2 + 30 + 10


def test_signals_tell_what_came_and_went(graph):
    stack = OpStack(graph=graph, images=[A])
    heard = []
    stack.images.inserted.subscribe(lambda slot, index: heard.append(("inserted", index, len(slot))))
    stack.images.removed.subscribe(lambda slot, index: heard.append(("removed", index, len(slot))))
    stack.images.resized.subscribe(lambda slot: heard.append(("resized", len(slot))))
    stack.images.insert(0, B)
    with graph.transaction():
        stack.images.remove(0)
        stack.images.append(C)
    assert heard == [("inserted", 0, 2), ("resized", 2), ("removed", 0, 2), ("inserted", 1, 2)]


# -------------------------------------------------------------------------------------------------- lanes


def test_each_element_has_a_lane_and_what_is_shared_reaches_all(graph):
    op = OpAddToAll(graph=graph, images=[A, B], amount=10.0)
    assert values(op.results) == [11, 12]
    op.images.insert(1, C)
    assert values(op.results) == [11, 13, 12]
    op.amount.value = 20.0
    assert values(op.results) == [21, 23, 22]
    op.images.remove(0)
    assert values(op.results) == [23, 22]
    assert len(op.lanes) == len(op.children) == 2


def test_a_lane_whose_element_goes_is_closed(graph):
    op = OpAddToAll(graph=graph, images=[A, B])
    first = op.lanes[0]
    op.images.remove(0)
    assert first.closed
    assert first.released == 1


def test_a_lane_that_cannot_be_made_leaves_everything_as_it_was(graph):
    class OpPicky(OpAddToAll):
        def make_lane(self, image):
            if len(self.images) > 2:
                raise ValueError("no more than two")
            return super().make_lane(image)

    op = OpPicky(graph=graph, images=[A, B])
    before = graph.describe()
    with pytest.raises(ValueError, match="no more than two"):
        op.images.append(C)
    assert graph.describe() == before
    assert values(op.results) == [2, 3]


def test_lanes_follow_lanes(graph):
    first = OpAddToAll(graph=graph, images=[A, B])
    second = OpAddToAll(graph=graph, name="second", images=first.results)
    assert values(second.results) == [3, 4]
    first.images.append(C)
    assert values(second.results) == [3, 4, 5]
    first.images.resize(0)
    assert len(second.results) == 0
    assert not second.results.ready


def test_lanes_need_a_plain_list(graph):
    class OpWrong(Operator):
        images = InputSlot(level=2)

        def __init__(self, **slots):
            super().__init__(**slots)
            Lanes(self.images, OpAdd, {})

    with pytest.raises(GraphError, match=r"OpWrong.images.* is no list of plain slots"):
        OpWrong(graph=graph)


def test_a_thousand_lanes_work_like_one():
    with Graph() as graph:
        op = OpAddToAll(graph=graph, images=[A] * 1000, amount=5.0)
        assert values(op.results) == [6.0] * 1000
        op.images.remove(500)
        assert [slot.index for slot in op.results] == list(range(999))


def test_closing_a_graph_of_lanes_closes_all(graph):
    op = OpAddToAll(graph=graph, images=[A, B])
    lanes = list(op.lanes)
    op.close()
    assert all(lane.closed for lane in lanes)
    with pytest.raises(NotReadyError):
        lanes[0].output.read()


class OpCast(Operator):
    """Its image in another dtype."""

    image = InputSlot()
    dtype = ParameterSlot(str, default="float64")
    output = OutputSlot()

    def setup_outputs(self):
        self.output.meta = self.image.meta.replace(dtype=self.dtype.value)

    def execute(self, slot, roi, out):
        out[...] = self.image.read(roi)

    def propagate_dirty(self, slot, roi):
        self.output.mark_dirty(roi)


def test_a_list_follows_the_meta_of_the_plain_slot_it_takes(graph):
    origin = OpCast(graph=graph)
    stack = OpStack(graph=graph)
    stack.images.connect(origin.output)
    stack.images.resize(2)
    origin.image.assign(A)  # the plain slot becomes ready after it was connected
    assert stack.output.meta.dtype == np.float64
    origin.dtype.value = "float32"
    assert stack.output.meta.dtype == np.float32
    assert np.array_equal(stack.output.read(), [A, A])
    stale = []
    stack.output.dirty.subscribe(lambda slot, roi: stale.append(roi))
    origin.image.mark_dirty(Roi((0, 0), (1, 1)))
    assert [set(roi.boxes) for roi in stale] == [{Roi((z, 0, 0), (z + 1, 1, 1)) for z in (0, 1)}]
    origin.close()
    assert not stack.output.ready


def test_a_list_of_lists_takes_a_list_whole_for_each_element(graph):
    class OpLists(Operator):
        lists = InputSlot(level=2)

    class OpOne(Operator):
        images = InputSlot(level=1)

    one = OpOne(graph=graph, images=[A])
    lists = OpLists(graph=graph).lists
    lists.resize(2)
    lists.connect(one.images)
    assert [len(each) for each in lists] == [1, 1]
    one.images.append(B)
    assert [len(each) for each in lists] == [2, 2]
    one.images.remove(0)
    assert [each[0].read().tolist() for each in lists] == [B.tolist()] * 2


def test_a_list_says_when_it_becomes_ready_and_when_it_no_longer_is(graph):
    stack = OpStack(graph=graph, images=[A])
    heard = []
    stack.images.ready_changed.subscribe(lambda slot: heard.append(slot.ready))
    stack.images.append()
    stack.images[1].assign(B)
    stack.images[0].assign(C)  # stays ready: nothing to say
    stack.images.remove(1)
    stack.images.remove(0)
    stack.images.assign([A, B])
    assert heard == [False, True, False, True]
    with pytest.raises(SetupError), graph.transaction():
        stack.images.append(np.zeros((1, 1)))
    assert heard == [False, True, False, True]


def test_a_list_of_lists_says_when_it_becomes_ready(graph):
    class OpLists(Operator):
        lists = InputSlot(level=2)

    lists = OpLists(graph=graph).lists
    heard = []
    lists.ready_changed.subscribe(lambda slot: heard.append(slot.ready))
    lists.append().append(A)
    lists[0].append()
    assert heard == [True, False]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda composite, image: OpAdd(graph=Graph(), image=A), "has to be a child of composite"),
        (lambda composite, image: OpAdd(graph=composite.graph, image=A), "has to be a child of composite"),
        (lambda composite, image: None, "has to be an operator, not None"),
        (lambda composite, image: OpAdd, "has to be an operator"),
    ],
    ids=["of another graph", "of nobody", "None", "a class"],
)
def test_what_is_no_lane_is_refused_and_leaves_nothing(graph, make, message):
    class OpLanes(Operator):
        images = InputSlot(level=1)
        results = OutputSlot(level=1)

        def __init__(self, **slots):
            self.lanes = Lanes(self.images, lambda image: make(self, image), {self.results: "output"})
            super().__init__(**slots)

    composite = OpLanes(graph=graph, name="composite")
    with pytest.raises(GraphError, match=message):
        composite.images.append(A)
    assert (len(composite.images), len(composite.lanes), len(composite.results)) == (0, 0, 0)
    assert graph.operators == (composite,)


def test_lanes_fill_outputs_by_the_names_and_checks_of_everybody(graph):
    class OpValues(Operator):
        image = InputSlot()
        total = OutputSlot(value=float)

    class OpLanes(Operator):
        images = InputSlot(level=1)
        results = OutputSlot(level=1)

        def __init__(self, lane, name, outputs=None, **slots):
            self.lanes = Lanes(
                self.images, lambda image: lane(parent=self, image=image), outputs or {self.results: name}
            )
            super().__init__(**slots)

    with pytest.raises(GraphError, match=r"'outptu' of each lane, .* did you mean 'output'"):
        OpLanes(OpAdd, "outptu", graph=graph, images=[A])
    with pytest.raises(ConnectError, match=r"cannot connect .*total"):
        OpLanes(OpValues, "total", graph=graph, images=[A])
    add = OpAdd(graph=graph)
    with pytest.raises(GraphError, match="fill outputs of OpLanes with level 1"):
        OpLanes(OpAdd, "output", {add.output: "output"}, graph=graph)
    assert graph.operators == (add,)
