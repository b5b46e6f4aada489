"""napari shows a slot; run by the tox environment ``napari``, which is large and not in the ordinary run."""

import numpy as np
import pytest
from napari.layers import Image, Labels

from lazyflow_core.graph import Graph, InputSlot, Operator, OutputSlot

IMAGE = np.arange(4 * 6 * 8, dtype="uint16").reshape(4, 6, 8)


class OpNegate(Operator):
    image = InputSlot()
    output = OutputSlot()

    def __init__(self, **slots):
        self.executed = []
        super().__init__(**slots)

    def setup_outputs(self):
        self.output.meta = self.image.meta

    def execute(self, slot, roi, out):
        self.executed.append(roi)
        np.subtract(1000, self.image.read(roi), out=out)

    def propagate_dirty(self, slot, roi):
        self.output.mark_dirty(roi)


@pytest.fixture
def op():
    with Graph() as graph:
        yield OpNegate(graph=graph, image=IMAGE)


def test_an_image_layer_shows_one_plane_and_computes_no_more(op):
    layer = Image(op.output.as_array(), contrast_limits=(0, 1000))
    shown = np.asarray(layer._slice.image.raw)
    assert any(np.array_equal(shown, 1000 - plane) for plane in IMAGE)
    assert op.executed
    assert {roi.shape for roi in op.executed} == {(1, 6, 8)}


def test_a_labels_layer_takes_it_too(op):
    assert Labels(op.output.as_array()).data.shape == IMAGE.shape
