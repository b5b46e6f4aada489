import numpy as np
import pytest
from forests import random_forest
from lazyflow_core import ArrayMeta, Graph, Operator, OutputSlot, Roi
from lazyflow_core.errors import ExecuteError, SetupError

from lazyflow_ops_learning import Forest, prediction, save_forest
from lazyflow_ops_learning.autocontext import OpStageInput
from lazyflow_ops_learning.prediction import OpForestFile, OpPredict


@pytest.fixture
def graph():
    with Graph() as graph:
        yield graph


@pytest.fixture
def forest():
    return random_forest(np.random.default_rng(5), trees=9, features=4, classes=3)


IMAGE = np.random.default_rng(6).uniform(-3, 3, (4, 12, 10)).astype("f4")


def predict(graph, forest, image=IMAGE, axes="cyx", **parameters):
    op = OpPredict(graph=graph, classifier=forest, **parameters)
    op.features.assign(image, axes=axes)
    return op


def test_results_are_those_of_the_forest(graph, forest):
    op = predict(graph, forest)
    votes = forest.predict(IMAGE.reshape(4, -1)).reshape(3, 12, 10)
    assert np.array_equal(op.probabilities.read(), votes)
    assert np.array_equal(op.labels.read(), votes.argmax(axis=0) + 1)
    ordered = np.sort(votes, axis=0)
    assert np.array_equal(op.uncertainty.read(), 1 - (ordered[-1] - ordered[-2]))
    assert op.probabilities.meta.channel_names == forest.class_names
    assert op.probabilities.meta.axes.keys == "cyx"
    assert op.labels.meta.semantics == "labels"
    op.dtype.value = "uint8"
    assert np.array_equal(op.probabilities.read(), np.rint(votes * np.float32(255)))


def test_only_the_channels_that_the_forest_asks_for_are_computed(graph):
    asked = []

    class OpFeatures(Operator):
        output = OutputSlot()

        def setup_outputs(self):
            self.output.meta = ArrayMeta((5, 6, 7), "f4", "cyx")

        def execute(self, slot, roi, out):
            asked.append((roi.start[0], roi.stop[0]))
            out[...] = 0

    forest = Forest(
        [0.5, 0, 0.5, 0, 0], [1, 0, 4, 0, 0], [1, 0, 3, 0, 0], [0], np.array([0, 1, 0], "u1"), "ab", "vwxyz"
    )
    OpPredict(graph=graph, features=OpFeatures(graph=graph).output, classifier=forest).labels.read()
    assert sorted(asked) == [(1, 2), (4, 5)]


def test_a_large_region_is_done_part_by_part(graph, forest, monkeypatch):
    whole = predict(graph, forest).probabilities.read()
    monkeypatch.setattr(prediction, "_MOST_BYTES", 16 * 7)
    assert np.array_equal(predict(graph, forest).probabilities.read(), whole)
    assert np.array_equal(predict(graph, forest).labels.read(), whole.argmax(axis=0) + 1)


def test_nothing_is_asked_where_the_mask_is_zero(graph, forest):
    mask = np.zeros((12, 10), np.uint8)
    mask[3:5, 2:4] = 7
    op = OpPredict(graph=graph, classifier=forest, mask=mask)
    op.features.assign(IMAGE, axes="cyx")
    inside = mask != 0
    assert np.array_equal(op.labels.read() != 0, inside)
    assert not op.probabilities.read()[:, ~inside].any()
    assert not op.uncertainty.read()[~inside].any()
    with pytest.raises(SetupError, match="the mask"):
        op.mask.assign(np.zeros((12, 11), np.uint8))


def test_a_forest_of_other_features_is_refused_by_the_first_that_differs(graph, forest):
    op = OpPredict(graph=graph, classifier=forest)
    names = ("feature 0", "feature 1", "other", "feature 3")
    with pytest.raises(SetupError, match="number 2 is 'feature 2' there and 'other' here"):
        op.features.assign(IMAGE, ArrayMeta(IMAGE.shape, "f4", "cyx", channel_names=names))
    with pytest.raises(SetupError, match="trained with 4 features, not 3"):
        op.features.assign(IMAGE[:3], axes="cyx")
    with pytest.raises(SetupError, match="one channel axis"):
        op.features.assign(IMAGE, axes="zyx")


def test_a_computed_classifier_needs_the_classes_and_fits_when_it_comes(graph, forest, tmp_path):
    save_forest(forest, tmp_path / "a.npz")
    file = OpForestFile(graph=graph, path=str(tmp_path / "a.npz"))
    with pytest.raises(SetupError, match="say by classes="):
        predict(graph, file.classifier)
    op = predict(graph, file.classifier, classes=forest.class_names)
    assert np.array_equal(op.labels.read(), predict(graph, forest).labels.read())
    op.classes.value = 2
    with pytest.raises(ExecuteError, match="knows 3 classes, not 2"):
        op.labels.read()
    file.path.value = str(tmp_path / "none.npz")
    with pytest.raises(ExecuteError, match="does not exist"):
        op.labels.read()
    for wrong in (0, 256, (), ("a", 1)):
        with pytest.raises(ValueError, match="classes"):
            op.classes.value = wrong


def test_an_equal_classifier_makes_nothing_stale(graph, forest):
    op = predict(graph, forest)
    stale = []
    op.labels.dirty.subscribe(lambda slot, roi: stale.append(roi))
    op.classifier.value = forest.with_features(forest.feature_names, range(4))
    assert stale == []
    op.classifier.value = random_forest(np.random.default_rng(9), features=4)
    assert stale == [Roi((0, 0), (12, 10))]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("uint8", [0, 127, 254, 255]), ("uint16", [0, 32767, 65528, 65535]), ("float32", [0, 0.5, 0.9999, 1])],
)
def test_the_second_stage_gets_probabilities_in_the_type_of_the_image(graph, dtype, expected):
    p = np.array([[0, 0.5, 0.9999, 1]], "f4")
    op = OpStageInput(graph=graph)
    with graph.transaction():
        op.image.assign(np.array([1, 2, 3, 4], dtype), axes="x")
        op.probabilities.assign(p, axes="cx")
    assert op.output.read().tolist() == [[1, 2, 3, 4], np.array(expected, dtype).tolist()]
    assert op.output[1:2, 2:].wait().tolist() == [np.array(expected[2:], dtype).tolist()]
    with pytest.raises(SetupError, match="same size"):
        op.image.assign(np.zeros(5, dtype), axes="x")
