"""Painting, training and predicting across distributions: what a user does in front of an image."""

import numpy as np
import pytest

from lazyflow_core import Graph, Operator, OutputSlot, Roi, get_operator
from lazyflow_core.meta import ArrayMeta

SELECTION = [("gaussian_smoothing", 1.0), ("laplacian_of_gaussian", 1.6)]


class OpCells(Operator):
    """Bright cells on a dark ground, and which regions were asked for."""

    output = OutputSlot()

    def __init__(self, **slots):
        rng = np.random.default_rng(0)
        y, x = np.indices((200, 300)) % 50 - 25
        self.truth = x * x + y * y < 200
        self.pixels = (self.truth * 100 + rng.normal(50, 20, (200, 300))).astype("f4")
        self.asked = []
        super().__init__(**slots)

    def setup_outputs(self):
        self.output.meta = ArrayMeta((200, 300), "f4", "yx")

    def execute(self, slot, roi, out):
        self.asked.append(roi)
        out[...] = self.pixels[roi.slicing]


@pytest.fixture
def graph():
    with Graph() as graph:
        yield graph


def test_strokes_teach_a_forest_and_only_what_changed_is_asked_for(graph):
    cells = OpCells(graph=graph)
    features = get_operator("filters.pixel_features")(graph=graph, image=cells.output, selection=SELECTION)
    labels = get_operator("cache.labels")(graph=graph, image=cells.output)
    samples = get_operator("learning.samples")(
        graph=graph, features=features.output, labels=labels.labels, boxes=labels.boxes
    )
    train = get_operator("learning.train_forest")(
        graph=graph, samples=[samples.samples], classes=("ground", "cell"), trees=20
    )
    predict = get_operator("learning.predict")(
        graph=graph, features=features.output, classifier=train.classifier, classes=("ground", "cell")
    )
    heard = []
    predict.labels.dirty.subscribe(lambda slot, roi: heard.append(roi))
    labels.paint([(Roi((0, 0), (3, 30)), 1), (Roi((20, 20), (30, 30)), 2)])
    assert heard == [Roi((0, 0), (200, 300))]
    assert predict.probabilities.meta.channel_names == ("ground", "cell")
    assert cells.asked == []
    assert samples.samples.value.counts == {1: 90, 2: 100}
    assert all(roi in Roi((0, 0), (60, 60)) for roi in cells.asked)
    found = predict.labels.read() == 2
    assert (found == cells.truth).mean() > 0.95
    assert train.classifier.value.feature_names == features.output.meta.channel_names
    first = train.classifier.value

    cells.asked.clear()
    labels.image[150:152, 270:275] = 1
    assert samples.samples.value.counts == {1: 100, 2: 100}
    assert all(roi in Roi((130, 250), (172, 300)) for roi in cells.asked)
    assert train.classifier.value != first
    cells.asked.clear()
    labels.undo()
    assert train.classifier.value is first
    assert cells.asked == []
