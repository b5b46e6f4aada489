import threading

import numpy as np
import pytest
from lazyflow_core import ArrayMeta, Graph, InputSlot, Operator, OutputSlot, Roi
from lazyflow_core.errors import ExecuteError, SetupError

from lazyflow_ops_learning import train_operator
from lazyflow_ops_learning.samples import OpSamples, Samples, join_samples
from lazyflow_ops_learning.train_operator import OpTrainForest


class OpWatched(Operator):
    """Passes an image on, and tells which regions were asked for."""

    image = InputSlot()
    output = OutputSlot()

    def __init__(self, **slots):
        self.asked = []
        self.before = lambda: None
        super().__init__(**slots)

    def setup_outputs(self):
        self.output.meta = self.image.meta

    def execute(self, slot, roi, out):
        self.asked.append(roi)
        pixels = self.image.read(roi)
        self.before()
        out[...] = pixels

    def propagate_dirty(self, slot, roi):
        self.output.mark_dirty(roi)


@pytest.fixture
def graph():
    with Graph() as graph:
        yield graph


def image(shape, axes, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape).astype("f4"), ArrayMeta(shape, "f4", axes)


def gatherer(graph, features, axes, labels, label_axes, **slots):
    watched = OpWatched(graph=graph)
    op = OpSamples(graph=graph, **slots)
    with graph.transaction():
        watched.image.assign(features, axes=axes)
        op.features.connect(watched.output)
        op.labels.assign(labels, axes=label_axes)
    return op, watched


def expected(features, channel, labels):
    """Features, labels and positions of all labelled pixels in the order of their positions."""
    flat = np.moveaxis(features, channel, 0).reshape(features.shape[channel], -1)
    position = np.flatnonzero(labels)
    return flat[:, position], labels.reshape(-1)[position], position


def assert_holds(samples, features, channel, labels):
    columns, numbers, position = expected(features, channel, labels)
    order = np.argsort(samples.position)
    assert np.array_equal(samples.position[order], position)
    assert np.array_equal(samples.labels[order], numbers)
    assert np.array_equal(samples.features[:, order], columns)


@pytest.mark.parametrize(
    ("shape", "axes", "label_axes"),
    [
        ((3, 40, 50), "cyx", "yx"),
        ((40, 50, 3), "yxc", "yx"),
        ((2, 70, 80, 66), "czyx", "zyx"),
        ((4, 3, 30, 20), "tcyx", "tyx"),
        ((5, 7), "cx", "x"),
        ((3, 40, 50), "cyx", "yxc"),
        ((1, 0, 5), "cyx", "yx"),
    ],
)
def test_samples_are_the_labelled_pixels_with_their_features(graph, shape, axes, label_axes):
    features, _ = image(shape, axes)
    channel = axes.index("c")
    flat = [n for i, n in enumerate(shape) if i != channel]
    rng = np.random.default_rng(1)
    labels = rng.integers(1, 5, flat) * (rng.random(flat) < 0.01)
    shown = labels[..., np.newaxis] if "c" in label_axes else labels
    op, _ = gatherer(graph, features, axes, shown.astype("i4"), label_axes)
    samples = op.samples.value
    assert_holds(samples, features, channel, labels)
    assert samples.feature_names == tuple(f"feature {n}" for n in range(shape[channel]))
    assert sum(samples.counts.values()) == len(samples) == np.count_nonzero(labels)


def test_features_are_asked_for_where_there_are_labels_and_again_where_there_are_new_ones(graph):
    features, _ = image((2, 1100, 600), "cyx")
    labels = np.zeros((1100, 600), np.uint8)
    labels[3:5, 7:9] = 1
    labels[900, 100] = 2
    op, watched = gatherer(graph, features, "cyx", labels, "yx")
    first = op.samples.value
    assert set(watched.asked) == {Roi((0, 3, 7), (2, 5, 9)), Roi((0, 900, 100), (2, 901, 101))}
    watched.asked.clear()

    labels[4:6, 8:11] = 2  # partly over what was painted
    op.labels.mark_dirty(Roi((4, 8), (6, 11)))
    second = op.samples.value
    assert watched.asked == [Roi((0, 4, 8), (2, 6, 11))]
    assert_holds(second, features, 0, labels)
    watched.asked.clear()

    labels[4:6, 8:11] = 0
    labels[3:5, 7:9] = 1
    op.labels.mark_dirty(Roi((3, 7), (6, 11)))
    third = op.samples.value
    assert third == first
    assert watched.asked == []

    features[:, 900, 100] = 7
    watched.image.mark_dirty(Roi((0, 890, 90), (1, 910, 110)))
    fourth = op.samples.value
    assert watched.asked == [Roi((0, 900, 100), (2, 901, 101))]
    assert fourth != first
    assert_holds(fourth, features, 0, labels)


def test_labels_are_looked_for_in_the_boxes_that_are_given(graph):
    features, _ = image((1, 600, 600), "cyx")
    labels = np.zeros((600, 600), np.uint8)
    labels[10, 10] = labels[590, 590] = 1
    watched = OpWatched(graph=graph, image=labels)
    op = OpSamples(graph=graph, labels=watched.output, boxes=(Roi((8, 8), (12, 12)),))
    op.features.assign(features, axes="cyx")
    assert op.samples.value.position.tolist() == [10 * 600 + 10]
    op.boxes.value = (Roi((8, 8), (12, 12)), Roi((520, 520), (600, 600)), Roi((0, 0), (3, 3)))
    assert len(op.samples.value) == 2
    # The boxes in one block are looked at together.
    assert set(watched.asked) == {
        Roi((8, 8), (12, 12)),
        Roi((0, 0), (12, 12)),
        Roi((520, 520), (600, 600)),
    }
    op.boxes.value = ()
    assert len(op.samples.value) == 0
    op.boxes.value = (Roi((8, 8), (12, 700)),)
    with pytest.raises(ExecuteError, match="outside of"):
        op.samples.value  # noqa: B018


def test_what_changes_while_samples_are_gathered_is_seen_next_time(graph):
    features, _ = image((2, 20, 20), "cyx")
    labels = np.zeros((20, 20), np.uint8)
    labels[1, 1] = labels[5, 5] = 1
    op, watched = gatherer(graph, features.copy(), "cyx", labels, "yx")
    asked, go_on = threading.Event(), threading.Event()

    def wait():
        asked.set()
        go_on.wait()

    watched.before = wait
    request = op.samples.request().submit()
    asked.wait()
    with graph.transaction():
        watched.image.assign(features + 1, axes="cyx")
        op.labels.assign(labels * 2, axes="yx")
    go_on.set()
    assert_holds(request.wait(), features, 0, labels)
    assert_holds(op.samples.value, features + 1, 0, labels * 2)


def test_random_strokes_and_changes_give_what_a_new_operator_gives(graph):
    rng = np.random.default_rng(11)
    features, labels = rng.normal(size=(2, 70, 60, 66)).astype("f4"), np.zeros((70, 60, 66), np.uint8)
    op, watched = gatherer(graph, features, "czyx", labels, "zyx")
    for _ in range(60):
        start = rng.integers(0, [66, 56, 62])
        box = Roi(start.tolist(), (start + rng.integers(1, 5, 3)).tolist())
        if rng.random() < 0.7:
            labels[box.slicing] = rng.integers(0, 4)
            op.labels.mark_dirty(box)
        else:
            features[(slice(None), *box.slicing)] += 1
            watched.image.mark_dirty(Roi((0, *box.start), (2, *box.stop)))
        if rng.random() < 0.6:
            assert_holds(op.samples.value, features, 0, labels)


def test_an_image_of_another_size_brings_other_samples(graph):
    features, _ = image((2, 20, 30), "cyx")
    labels = np.ones((20, 30), np.uint8)
    op, watched = gatherer(graph, features, "cyx", labels, "yx")
    assert len(op.samples.value) == 600
    with graph.transaction():
        watched.image.assign(features[:, :10] + 1, axes="cyx")
        op.labels.assign(labels[:10], axes="yx")
    assert_holds(op.samples.value, features[:, :10] + 1, 0, labels[:10])
    with graph.transaction():
        watched.image.assign(features, axes="cyx")
        op.labels.assign(labels, axes="yx")
    assert_holds(op.samples.value, features, 0, labels)


def test_what_does_not_fit_is_refused(graph):
    op, _ = gatherer(graph, np.zeros((2, 4, 5), "f4"), "cyx", np.zeros((4, 5), np.uint8), "yx")
    for labels, axes in ((np.zeros((4, 6), np.uint8), "yx"), (np.zeros((4, 5), np.uint8), "xy")):
        with pytest.raises(SetupError, match="'y': 4, 'x': 5"):
            op.labels.assign(labels, axes=axes)
    with pytest.raises(SetupError, match="are no image of"):
        op.labels.assign(np.zeros((4, 5, 2), np.uint8), axes="yxc")
    with pytest.raises(SetupError, match="whole numbers"):
        op.labels.assign(np.zeros((4, 5)), axes="yx")
    with pytest.raises(SetupError, match="one channel axis"):
        op.features.assign(np.zeros((4, 5), "f4"), axes="yx")
    for label in (256, -1, 2**40):
        op.labels.assign(np.full((4, 5), label), axes="yx")
        with pytest.raises(ExecuteError, match=f"label {label} in .*; classes are 1 to 255"):
            op.samples.value  # noqa: B018


def samples(features, labels, names="ab"):
    labels = np.array(labels, np.uint8)
    count = len(labels)
    return Samples(np.array(features, "f4"), labels, np.zeros(count, "i4"), np.arange(count), tuple(names))


def test_samples_of_several_images_are_joined_if_their_features_are_the_same():
    one, two = samples([[1, 2], [3, 4]], [1, 2]), samples([[5], [6]], [3])
    joined = join_samples([one, two])
    assert joined.features.tolist() == [[1, 2, 5], [3, 4, 6]]
    assert joined.image.tolist() == [0, 0, 1]
    assert joined.counts == {1: 1, 2: 1, 3: 1}
    assert one == samples([[1, 2], [3, 4]], [1, 2])
    assert hash(one) != hash(two)
    assert one != samples([[1, 2], [3, 4]], [2, 1])
    assert one != 3
    with pytest.raises(ValueError, match="read-only"):
        one.labels[0] = 3
    with pytest.raises(ValueError, match="images 0 and 1 have other features: number 1 is 'b' and 'x'"):
        join_samples([one, samples([[5], [6]], [3], names="ax")])
    with pytest.raises(ValueError, match="2 are not 1"):
        join_samples([one, samples([[5]], [3], names="a")])


def trainer(graph, *lanes, **parameters):
    parts = []
    for features, labels in lanes:
        op, _ = gatherer(graph, features, "cyx", labels, "yx")
        parts.append(op)
    return OpTrainForest(graph=graph, samples=[op.samples for op in parts], **parameters), parts


def test_a_stroke_that_is_undone_does_not_train_again(graph, monkeypatch):
    trained = []

    def train(*args, **kwargs):
        trained.append(kwargs["seed"])
        return train_forest(*args, **kwargs)

    train_forest = train_operator.train_forest
    monkeypatch.setattr(train_operator, "train_forest", train)
    features, _ = image((2, 20, 20), "cyx")
    labels = np.zeros((20, 20), np.uint8)
    labels[:3], labels[9:] = 1, 2
    op, (part,) = trainer(graph, (features, labels), trees=5)
    heard = []
    op.classifier.value_changed.subscribe(lambda slot: heard.append(slot))
    first = op.classifier.value
    assert op.classifier.value is first
    assert len(trained) == 1
    assert 0 <= op.out_of_bag.value <= 1
    assert list(op.importance.value) == sorted(op.importance.value, key=lambda n: -op.importance.value[n])
    assert len(trained) == 1
    labels[5, 5] = 1
    part.labels.mark_dirty(Roi((5, 5), (6, 6)))
    assert op.classifier.value != first
    labels[5, 5] = 0
    part.labels.mark_dirty(Roi((5, 5), (6, 6)))
    assert op.classifier.value is first
    assert len(trained) == 2
    assert len(heard) == 2
    op.seed.value = 3
    assert op.classifier.value != first
    assert trained == [0, 0, 3]


def test_images_come_and_go(graph):
    rng = np.random.default_rng(2)
    lanes = []
    for number in range(2):
        labels = np.zeros((20, 20), np.uint8)
        labels[number::2, 3], labels[number::2, 9] = 1, 2
        lanes.append((rng.normal(size=(2, 20, 20)).astype("f4"), labels))
    op, (one, two) = trainer(graph, *lanes, trees=3)
    both = op.classifier.value
    assert both.about["samples"] == [20, 20]
    op.samples.remove(1)
    assert op.classifier.value.about["samples"] == [10, 10]
    op.samples.append(two.samples)
    assert op.classifier.value == both
    one.labels.assign(np.zeros((20, 20), np.uint8), axes="yx")
    assert op.classifier.value.about["samples"] == [10, 10]


def test_what_cannot_be_trained_yet_is_told(graph):
    labels = np.zeros((20, 20), np.uint8)
    op, (part,) = trainer(graph, (image((2, 20, 20), "cyx")[0], labels))
    with pytest.raises(ExecuteError, match="two classes or more; there are none"):
        op.classifier.value  # noqa: B018
    labels[3:5] = 2
    part.labels.mark_dirty()
    with pytest.raises(ExecuteError, match="all are 'class 2'"):
        op.classifier.value  # noqa: B018
    labels[5:7] = 3
    part.labels.mark_dirty()
    assert op.classifier.value.class_names == ("class 1", "class 2", "class 3")
    op.classes.value = ("a", "b", "c", "d")
    assert op.classifier.value.class_names == ("a", "b", "c", "d")
    op.classes.value = 2
    with pytest.raises(ExecuteError, match="labels of class 3, but 2 classes"):
        op.classifier.value  # noqa: B018
    empty = OpTrainForest(graph=graph)
    assert not empty.classifier.ready
