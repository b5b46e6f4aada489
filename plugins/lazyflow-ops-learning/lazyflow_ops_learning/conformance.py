"""The operators of this distribution with inputs on which they are tried against the laws of operators.

Here and not in the tests, so that users can try them where they are installed: ``lazyflow operators check``.

Importing this writes the forests that are read, into a folder that goes with the process.
"""

from __future__ import annotations

import os
import tempfile

import numpy as np
from lazyflow_core import Roi
from lazyflow_core.testing import Case, array

from lazyflow_ops_learning.autocontext import OpStageInput
from lazyflow_ops_learning.forest import Forest
from lazyflow_ops_learning.forest_file import save_forest
from lazyflow_ops_learning.prediction import OpForestFile, OpPredict
from lazyflow_ops_learning.samples import OpSamples, Samples
from lazyflow_ops_learning.train_operator import OpTrainForest

#: Below 30 the first class; else below 60 of the second feature the second one, else the third.
FOREST = Forest(
    [30, 0, 60, 0, 0],
    [0, 0, 1, 0, 0],
    [1, 0, 3, 0, 0],
    [0],
    np.array([0, 1, 2], "u1"),
    ["low", "middle", "high"],
    ["one", "two", "unused"],
)
#: The same question, answered with doubt.
DOUBTS = Forest(
    [50, 0, 0],
    [1, 0, 0],
    [1, 0, 0],
    [0],
    [[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]],
    FOREST.class_names,
    FOREST.feature_names,
)
FEATURES = array((3, 9, 11, 8), "czyx")
MASK = (array((9, 11, 8), "zyx", seed=3).pixels > 60).astype(np.uint8)

LABELS = (array((9, 11, 8), "zyx", seed=4).pixels // 20).astype(np.uint8)
SAMPLES = Samples(
    FEATURES.pixels[:, LABELS != 0],
    LABELS[LABELS != 0],
    np.zeros(np.count_nonzero(LABELS), np.int32),
    np.flatnonzero(LABELS),
    FOREST.feature_names,
)

_FOLDER = tempfile.TemporaryDirectory(prefix="lazyflow-conformance-")
_FILES = [os.path.join(_FOLDER.name, f"{name}.forest.npz") for name in ("votes", "doubts")]
for _forest, _path in zip((FOREST, DOUBTS), _FILES, strict=True):
    save_forest(_forest, _path)

CASES = [
    Case(OpForestFile, params={"path": _FILES[0]}, change={"path": _FILES[1]}, name="forest file, votes"),
    Case(OpForestFile, params={"path": _FILES[1]}, change={"path": _FILES[0]}, name="forest file, shares"),
    Case(OpPredict, {"features": FEATURES}, {"classifier": FOREST}, {"classifier": DOUBTS}),
    Case(
        OpPredict,
        {"features": array((2, 12, 3, 9), "tycx", "uint16")},
        {"classifier": DOUBTS, "dtype": "uint8"},
        {"dtype": "float32"},
        name="predict, channels in the middle",
    ),
    Case(
        OpPredict,
        {"features": FEATURES, "mask": MASK},
        {"classifier": FOREST, "classes": 3},
        {"classes": ("a", "b", "c")},
        name="predict inside a mask",
    ),
    Case(OpSamples, {"features": FEATURES, "labels": LABELS}),
    Case(
        OpSamples,
        {"features": array((9, 3, 11), "ycx", "uint16"), "labels": LABELS[..., 0].astype(np.int64)},
        {"boxes": (Roi((0, 0), (4, 5)),)},
        {"boxes": (Roi((2, 3), (9, 11)),)},
        name="samples in boxes, channels in the middle",
    ),
    Case(OpTrainForest, params={"samples": [SAMPLES], "trees": 3}, change={"seed": 1}),
    Case(
        OpTrainForest,
        params={"samples": [SAMPLES, SAMPLES], "trees": 2, "classes": 7, "smallest_leaf": 5},
        change={"class_weights": (1.0, 2.0, 3.0, 1.0, 1.0, 1.0, 1.0)},
        name="train with two images",
    ),
    Case(
        OpStageInput,
        {
            "image": array((9, 11), "yx", "uint8", high=255),
            "probabilities": array((2, 9, 11), "cyx", low=0, high=1),
        },
        read_factor=1.0,
    ),
    Case(
        OpStageInput,
        {
            "image": array((9, 11, 2), "yxc", "float32"),
            "probabilities": array((9, 11, 3), "yxc", low=0, high=1),
        },
        name="stage input of channels",
        read_factor=1.0,
    ),
]
