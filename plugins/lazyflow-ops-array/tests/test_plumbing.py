"""Slices, winners, views, sources, metadata, stored results, missing sections, declared axes."""

import numpy as np
import pytest
from lazyflow_core import ArrayMeta, Axes, Axis, Graph, InputSlot, Operator, OutputSlot, ParameterSlot, Roi
from lazyflow_core.errors import ExecuteError, GraphError, ParameterError, SetupError
from lazyflow_core.graph import Lanes
from lazyflow_core.testing import OpRecorder

from lazyflow_ops_array.argmax import OpArgmax
from lazyflow_ops_array.axis_contract import with_axes
from lazyflow_ops_array.dtype_view import OpDtypeView
from lazyflow_ops_array.metadata import OpCopyMeta, OpReadMeta, OpSetMeta
from lazyflow_ops_array.missing import OpFillMissing, OpFindMissing
from lazyflow_ops_array.pixel_function import OpPixelFunction
from lazyflow_ops_array.precomputed import OpPrecomputed
from lazyflow_ops_array.slices import OpSlices
from lazyflow_ops_array.sources import OpConstant, OpPlaceholder

CHANCE = np.random.default_rng(6)


def assigned(operator, image, axes, **parameters):
    op = operator(graph=Graph(), **parameters)
    op.image.assign(image, axes=axes)
    return op


# ------------------------------------------------------------------------------------------------- slices


def test_only_the_slices_that_change_are_dirty_also_in_another_order():
    image = CHANCE.random((4, 5, 6))
    op = assigned(OpSlices, image, "zyx", positions=(3, 0, -1, 1))
    for output, z in zip(op.slices, (3, 0, 3, 1), strict=True):
        assert np.array_equal(output.read(), image[z : z + 1])
    heard = []
    for output in op.slices:
        output.dirty.subscribe(lambda slot, roi: heard.append((slot.index, roi)))
    op.image.mark_dirty(Roi((2, 1, 0), (4, 2, 6)))
    assert heard == [(0, Roi((0, 1, 0), (1, 2, 6))), (2, Roi((0, 1, 0), (1, 2, 6)))]
    with pytest.raises(SetupError, match="has 4 pixels"):
        op.positions.value = (4,)
    op.positions.value = ()
    assert len(op.slices) == 4


def test_lanes_follow_the_slices():
    class OpEach(Operator):
        images = InputSlot(level=1)
        results = OutputSlot(level=1)

        def __init__(self, **slots):
            self.lanes = Lanes(self.images, self.make, {self.results: "output"})
            super().__init__(**slots)

        def make(self, image):
            return OpPixelFunction(parent=self, image=image, function="negative")

    op = assigned(OpSlices, np.arange(6.0).reshape(3, 2), "yx", axis="y")
    each = OpEach(graph=op.graph, images=op.slices)
    assert [lane.read().tolist() for lane in each.results] == [[[-0.0, -1.0]], [[-2.0, -3.0]], [[-4.0, -5.0]]]
    op.positions.value = (2,)
    assert [lane.read().tolist() for lane in each.results] == [[[-4.0, -5.0]]]


# ----------------------------------------------------------------------------------------------- channels


@pytest.mark.parametrize(
    ("axes", "shape"), [("yxc", (7, 9, 4)), ("cyx", (4, 7, 9)), ("tzyxc", (2, 3, 4, 5, 3))]
)
def test_the_winner_is_that_of_numpy_in_any_order_of_axes(axes, shape):
    image = CHANCE.integers(0, 3, shape).astype(np.uint8)
    op = assigned(OpArgmax, image, axes, first=1)
    c = axes.index("c")
    expected = np.expand_dims(image.argmax(axis=c), c)
    assert np.array_equal(op.output.read(), expected + 1)
    assert op.output.meta.semantics == "labels"
    channels = np.arange(shape[c]).reshape([-1 if i == c else 1 for i in range(len(shape))])
    assert np.array_equal(op.winner.read(), expected == channels)
    part = op.winner.meta.roi.with_axis(c, 1, 3)
    assert np.array_equal(op.winner.read(part), (expected == channels)[part.slicing])


def test_nan_wins_nowhere_and_many_channels_need_a_wider_dtype():
    op = assigned(OpArgmax, np.array([[[np.nan, 1.0, 0.0], [np.nan] * 3]]), "yxc")
    assert op.output.read().ravel().tolist() == [1, 0]
    op = assigned(OpArgmax, np.zeros((1, 1, 300)), "yxc")
    assert op.output.meta.dtype == np.uint16


# ---------------------------------------------------------------------------------------- dtypes, sources


def test_bytes_are_seen_as_another_dtype_in_any_layout():
    image = CHANCE.integers(-9, 9, (5, 6)).astype(np.int32)
    op = assigned(OpDtypeView, image, "yx", dtype="uint32")
    assert np.array_equal(op.output.read(), image.view(np.uint32))
    out = np.empty((6, 5), np.uint32).T
    assert np.array_equal(op.output.read(out=out), image.view(np.uint32))
    for wrong, says in (("uint16", "array.cast"), ("complex64", "real")):
        with pytest.raises((SetupError, ParameterError), match=says):
            op.dtype.value = wrong


def test_a_constant_is_what_the_dtype_can_hold():
    op = OpConstant(graph=Graph(), shape=(2, 3), value=7, dtype=">u2")
    assert op.output.read().tolist() == [[7] * 3] * 2
    assert op.output.meta.value_range == (7, 7)
    for wrong in (-1, 7.5, 70_000, float("nan")):
        with pytest.raises(SetupError, match="no such number"):
            op.value.value = wrong
    with pytest.raises(SetupError, match="axes='xyz'"):
        op.axes.value = "xyz"
    op.dtype.value = "float32"
    op.value.value = float("nan")
    assert np.isnan(op.output.read()).all()


def test_a_placeholder_becomes_the_image_and_back():
    op = OpPlaceholder(graph=Graph())
    assert not op.output.ready
    op.like.assign(np.ones((2, 2), np.uint8))
    assert op.output.read().tolist() == [[0, 0], [0, 0]]
    image = np.array([[1, 2, 3]], np.uint16)
    op.image.assign(image)
    assert np.shares_memory(op.output.read(), image)
    op.image.disconnect()
    assert op.output.read().tolist() == [[0, 0], [0, 0]]


# ----------------------------------------------------------------------------------------------- metadata


def test_what_a_file_does_not_say_can_be_stated():
    op = assigned(OpSetMeta, np.zeros((3, 4, 5, 2)), "zyxc")
    assert op.output.upstream is not None
    op.axes.value = "tyxc"
    op.pixel_size.value = (0, 0.5, 0.5, 0)
    op.unit.value = "micrometer"
    op.origin.value = (0, 10, 20, 0)
    op.channel_names.value = ("a", "b")
    op.value_range.value = (0, 1)
    op.semantics.value = "labels"
    meta = op.output.meta
    assert meta.axes == Axes(
        [
            "t",
            Axis("y", unit="micrometer", resolution=0.5, translation=10),
            Axis("x", unit="micrometer", resolution=0.5, translation=20),
            "c",
        ]
    )
    assert (meta.channel_names, meta.value_range, meta.semantics) == (("a", "b"), (0, 1), "labels")
    for slot, wrong in (
        (op.axes, "tyx"),
        (op.axes, "ttxc"),
        (op.pixel_size, (1.0,)),
        (op.origin, (1, 2)),
        (op.channel_names, ("a",)),
    ):
        with pytest.raises(SetupError):
            slot.value = wrong
    with pytest.raises(ParameterError, match="negative"):
        op.pixel_size.value = (0, -1, 1, 0)
    assert op.output.meta == meta


def test_metadata_go_from_one_image_to_another_and_become_values():
    axes = Axes([Axis("y", resolution=2.0, translation=5.0), Axis("x", resolution=3.0)])
    copy = OpCopyMeta(graph=Graph(), image=np.zeros((2, 3)), fields=("axes", "semantics"))
    copy.like.assign(np.ones((2, 3)), ArrayMeta((2, 3), "f8", axes, semantics="labels"))
    values = OpReadMeta(graph=copy.graph, image=copy.output)
    assert values.pixel_size.value == (2.0, 3.0)
    assert values.origin.value == (5.0, 0.0)
    assert values.semantics.value == "labels"
    assert values.value_range.value == ()
    copy.like.assign(np.ones((2, 3)), axes="yx")
    assert values.pixel_size.value == (0.0, 0.0)
    with pytest.raises(SetupError, match="do not fit"):
        copy.like.assign(np.ones((2, 3, 4)))
    with pytest.raises(ParameterError, match="none of"):
        copy.fields.value = ("shape",)


# ----------------------------------------------------------------------------------------- stored results


def test_stored_pixels_are_taken_except_where_something_went_stale():
    graph = Graph()
    pixels = np.arange(12.0).reshape(3, 4)
    slow = OpRecorder(graph=graph, image=pixels)
    op = OpPrecomputed(graph=graph, slow=slow.output, precomputed=-pixels)
    assert np.array_equal(op.output.read(), -pixels)
    assert not slow.asked
    slow.output.mark_dirty(Roi((1, 1), (2, 3)))
    expected = -pixels
    expected[1, 1:3] *= -1
    assert np.array_equal(op.output.read(), expected)
    assert slow.asked == [Roi((1, 1), (2, 3))]
    with graph.snapshot():
        op.precomputed.mark_dirty()
        assert np.array_equal(op.output.read(), expected)  # what began before sees what was there
    assert np.array_equal(op.output.read(), -pixels)
    slow.output.mark_dirty()
    assert np.array_equal(op.output.read(), pixels)
    op.ignore_dirty.value = True
    assert np.array_equal(op.output.read(), -pixels)
    op.precomputed.disconnect()
    assert np.array_equal(op.output.read(), pixels)
    with pytest.raises(SetupError, match="not like"):
        op.precomputed.assign(pixels[:2])


def test_many_stale_boxes_never_give_a_stored_pixel_for_a_stale_one():
    pixels = np.zeros((20, 20))
    op = OpPrecomputed(graph=Graph(), slow=pixels, precomputed=np.ones((20, 20)))
    expected = np.ones((20, 20))
    for _ in range(200):
        y, x = CHANCE.integers(0, 20, 2).tolist()
        op.slow.mark_dirty(Roi((y, x), (y + 1, x + 1)))
        expected[y, x] = 0
        assert (op.output.read() <= expected).all()


# --------------------------------------------------------------------------------------- missing sections


def test_missing_sections_are_found_and_filled():
    image = CHANCE.integers(1, 200, (9, 6, 7)).astype(np.uint8)
    whole = image.astype(np.float64)
    image[[0, 3, 4, 8]] = 0
    graph = Graph()
    find = OpFindMissing(graph=graph)
    find.image.assign(image, axes="zyx")
    assert find.sections.value == (0, 3, 4, 8)
    fill = OpFillMissing(graph=graph, sections=find.sections)
    fill.image.connect(find.image)
    expected = image.copy()
    expected[0], expected[8] = image[1], image[7]
    expected[3] = np.rint(whole[2] * 2 / 3 + whole[5] / 3)
    expected[4] = np.rint(whole[2] / 3 + whole[5] * 2 / 3)
    assert np.array_equal(fill.output.read(), expected)
    for roi in (Roi((3, 1, 2), (4, 3, 5)), Roi((0, 0, 0), (1, 6, 7)), Roi((4, 0, 0), (9, 1, 1))):
        assert np.array_equal(fill.output.read(roi), expected[roi.slicing])
    fill.method.value = "nearest"
    assert np.array_equal(fill.output.read()[3:5], image[[2, 5]])
    image[3] = 5
    find.image.mark_dirty(Roi((3, 0, 0), (4, 6, 7)))
    assert np.array_equal(fill.output.read()[3:5], image[[3, 3]])


def test_a_section_is_missing_if_enough_of_it_is_and_nan_counts():
    image = CHANCE.random((4, 10, 10))
    image[1, :5] = 0
    image[2] = np.nan
    op = assigned(OpFindMissing, image, "zyx")
    assert op.sections.value == (2,)
    op.share.value = 0.5
    assert op.sections.value == (1, 2)
    op.image.assign(np.zeros((4, 0, 3)), axes="zyx")
    assert op.sections.value == ()


def test_sections_that_are_not_there_and_an_image_without_any_are_said():
    with pytest.raises(SetupError, match="no position from 0 to 2"):
        assigned(OpFillMissing, np.zeros((3, 2, 2)), "zyx", sections=(3,))
    empty = assigned(OpFillMissing, np.zeros((3, 2, 2)), "zyx", sections=(0, 1, 2))
    assert not empty.output.read().any()

    class OpWrong(Operator):
        image = InputSlot()
        sections = OutputSlot(value=tuple)

        def compute_value(self, slot):
            return (7,)

        def propagate_dirty(self, slot, roi):
            self.sections.mark_dirty()

    wrong = OpWrong(graph=empty.graph, image=np.zeros(1))
    empty.sections.connect(wrong.sections)
    with pytest.raises(ExecuteError, match="no position"):
        empty.output.read()


# ------------------------------------------------------------------------------------------ declared axes


class OpFrames(Operator):
    """Knows tzyxc only: the index of the frame is added to it; counts frames."""

    image = InputSlot(axes="tzyxc")
    factor = ParameterSlot(float, default=1.0)
    output = OutputSlot()
    count = OutputSlot(value=int)

    def setup_outputs(self):
        self.output.meta = self.image.meta.replace(dtype=np.float64)

    def execute(self, slot, roi, out):
        out[...] = self.image.read(roi)
        out += self.factor.value * np.arange(roi.start[0], roi.stop[0]).reshape(-1, 1, 1, 1, 1)

    def compute_value(self, slot):
        return self.image.meta.shape[0]

    def propagate_dirty(self, slot, roi):
        self.output.mark_dirty(roi)
        self.count.mark_dirty()


@pytest.mark.parametrize("axes", ["tzyxc", "yx", "xty", "cxt", "t"])
def test_an_operator_for_one_order_of_axes_takes_any(axes):
    lengths = dict(zip("tzyxc", (3, 1, 4, 5, 2), strict=True))
    image = CHANCE.random([lengths[key] for key in axes])
    op = with_axes("tzyxc")(OpFrames)(graph=Graph(), factor=10.0)
    op.image.assign(image, axes=axes)
    assert op.output.meta.axes.keys == axes
    frames = np.arange(lengths["t"] if "t" in axes else 1) * 10.0
    expected = image + frames.reshape([-1 if key == "t" else 1 for key in axes])
    assert np.array_equal(op.output.read(), expected)
    assert op.count.value == len(frames)
    heard = []
    op.output.dirty.subscribe(lambda slot, roi: heard.append(roi))
    roi = Roi([0] * image.ndim, [1] * image.ndim)
    op.image.mark_dirty(roi)
    assert heard == [roi]


def test_what_cannot_be_reordered_is_refused_where_it_is_declared():
    class OpList(Operator):
        images = InputSlot(level=1)
        output = OutputSlot()

    class OpSource(Operator):
        output = OutputSlot()

    for operator, says in ((OpList, "list"), (OpSource, "no input")):
        with pytest.raises(GraphError, match=says):
            with_axes("zyx")(operator)
    op = with_axes("zyx")(OpPixelFunction)(graph=Graph(), function="abs")
    with pytest.raises(SetupError, match="cannot be dropped"):
        op.image.assign(np.zeros((2, 2, 2)), axes="tyx")
