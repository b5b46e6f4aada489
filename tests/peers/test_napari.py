"""napari shows a slot; run by the tox environment ``napari``, which is large and not in the ordinary run."""

import numpy as np
from napari.layers import Image, Labels

from .conftest import IMAGE


def test_an_image_layer_shows_one_plane_and_computes_no_more(op):
    layer = Image(op.output.as_array(), contrast_limits=(0, 1000))
    shown = np.asarray(layer._slice.image.raw)
    assert any(np.array_equal(shown, 1000 - plane) for plane in IMAGE)
    assert op.executed
    assert {roi.shape for roi in op.executed} == {(1, 6, 8)}


def test_a_labels_layer_takes_it_too(op):
    assert Labels(op.output.as_array()).data.shape == IMAGE.shape
