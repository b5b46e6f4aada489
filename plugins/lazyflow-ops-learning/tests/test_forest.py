import pickle

import numpy as np
import pytest
from forests import random_forest
from lazyflow_core.errors import FormatError

from lazyflow_ops_learning import Forest

PARTS = {
    "threshold": [0.5, 0.0, 0.0],
    "feature": [1, 0, 0],
    "child": [1, 0, 0],
    "roots": [0],
    "leaf": np.array([1, 0], "u1"),
    "class_names": ["dark", "bright"],
    "feature_names": ["a", "b"],
}


def test_a_forest_is_a_value():
    forest, same = Forest(**PARTS), Forest(**PARTS, about={"seed": 1})
    assert forest == same
    assert hash(forest) == hash(same)
    assert forest != Forest(**PARTS | {"class_names": ["bright", "dark"]})
    assert forest != Forest(**PARTS | {"threshold": [0.25, 0.0, 0.0]})
    assert forest != "forest"
    with pytest.raises(ValueError, match="read-only"):
        forest.threshold[0] = 3
    with pytest.raises(TypeError):
        forest.about["seed"] = 3
    assert (forest.tree_count, forest.class_count, forest.feature_count) == (1, 2, 2)
    assert forest.used_features == (1,)
    assert repr(forest) == "<Forest of 1 tree, 3 nodes, 2 features: dark, bright>"


def test_a_forest_is_pickled_by_its_description():
    forest = random_forest(np.random.default_rng(1), pure=False)
    copy = pickle.loads(pickle.dumps(forest))
    assert copy == forest
    assert copy.about == forest.about


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"threshold": [0.5, 0.0]}, "one threshold, feature and child per node"),
        ({"threshold": [], "feature": [], "child": []}, "list of numbers|one threshold"),
        ({"threshold": [np.nan, 0, 0]}, "not finite"),
        ({"threshold": [1e300, 0, 0]}, "not finite"),
        ({"child": [0, 1, 0]}, "node 1 of a forest has children at 1"),
        ({"child": [2, 0, 0]}, "not behind it in its tree"),
        ({"child": [-1, 0, 0]}, "whole numbers from 0"),
        ({"child": [1.5, 0, 0]}, "whole numbers from 0"),
        ({"feature": [2, 0, 0]}, "more than its 2 features"),
        ({"feature": [70_000, 0, 0]}, "whole numbers from 0 to 65535"),
        ({"roots": []}, "list of numbers|roots of a forest"),
        ({"roots": [1]}, "roots of a forest"),
        ({"roots": [0, 0]}, "roots of a forest"),
        ({"roots": [0, 3]}, "roots of a forest"),
        ({"roots": [0, 1]}, "not behind it in its tree"),  # the first tree ends before its children
        ({"leaf": np.array([1, 2], "u1")}, "class below 2"),
        ({"leaf": np.array([1], "u1")}, "2 leaves"),
        ({"leaf": [[0.5, 0.5]]}, "2 shares each"),
        ({"leaf": [[0.5, 0.6], [1, 0]]}, "add up to one"),
        ({"leaf": [[-0.5, 1.5], [1, 0]]}, "none negative"),
        ({"leaf": [[np.nan, 0.5], [1, 0]]}, "add up to one"),
        ({"class_names": []}, "1 to 255 classes"),
        ({"feature_names": []}, "1 to 65535 features"),
        ({"threshold": [["a"]]}, "list of numbers"),
    ],
)
def test_what_is_no_forest_is_refused(changes, sentence):
    with pytest.raises(FormatError, match=sentence):
        Forest(**PARTS | changes)


def test_features_can_be_put_into_another_order():
    rng = np.random.default_rng(2)
    forest = random_forest(rng, features=5)
    order = rng.permutation(5)
    features = rng.normal(size=(5, 99)).astype("f4")
    moved = np.empty_like(features)
    moved[order] = features
    other = forest.with_features([f"new {n}" for n in range(5)], order.tolist())
    assert np.array_equal(other.predict(moved), forest.predict(features))
    assert other.feature_names[order[0]] == f"new {order[0]}"
    for wrong in ([0, 1, 2, 3], [0, 0, 1, 2, 3], [1, 2, 3, 4, 5]):
        with pytest.raises(FormatError, match="order"):
            forest.with_features([str(n) for n in range(len(wrong))], wrong)
