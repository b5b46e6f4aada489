import numpy as np
import pytest
from lazyflow_core.errors import FormatError

from lazyflow_ops_learning.convert import VigraTree, forest_from_sklearn, forest_from_vigra

LEAF = 0x40000000
#: x0 < 1.5 → 70 % of the first class, 30 % of the second; else x2 < -2 → second, else first.
TOPOLOGY = [3, 2, 0, 0, 7, 9, 0, LEAF, 2, 0, 5, 14, 16, 2, LEAF, 7, LEAF, 10]
PARAMETERS = [1.0, 1.5, 10.0, 0.7, 0.3, 1.0, -2.0, 5.0, 0.0, 1.0, 5.0, 1.0, 0.0]


def tree(topology=TOPOLOGY, parameters=PARAMETERS):
    return VigraTree(np.array(topology, np.int32), np.array(parameters))


def test_a_tree_of_vigra_votes_as_vigra_does():
    forest = forest_from_vigra([tree()], [1, 3], ["a", "never painted", "b"], "xyz")
    features = np.array([[1, 1.5, 2, np.nan], [0, 0, 0, 0], [0, -3, -2, -2.5]], "f4")
    assert np.allclose(
        forest.predict(features), np.array([[0.7, 0, 0.3], [0, 0, 1], [1, 0, 0], [0, 0, 1]]).T, atol=1e-7
    )


@pytest.mark.parametrize("threshold", [0.1, 1 / 3, -0.1, 1e-45, -1e-45, 1e-320, 16777217.0, 2.0])
def test_thresholds_divide_float32_as_in_double_precision(threshold):
    forest = forest_from_vigra([tree(parameters=[1.0, threshold, *PARAMETERS[2:]])], [1, 2], "ab", "xyz")
    near = np.float32(threshold)
    values = [near]
    for _ in range(3):
        values += [np.nextafter(values[-1], np.float32(np.inf)), np.nextafter(values[0], np.float32(-np.inf))]
        values.insert(0, values.pop())
    x = np.array([values, [0] * len(values), [0] * len(values)], "f4")
    votes = forest.predict(x)[1]
    assert np.array_equal(votes > 0, x[0].astype(float) < threshold)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({4: 2}, "in a circle|no node"),
        ({4: 99}, "99, which is no node"),
        ({4: -1}, "-1, which is no node"),
        ({2: 1}, "of kind 0x1"),
        ({6: 3}, "feature 3 of 3"),
        ({3: 50}, "outside of the parameters"),
        ({8: 12}, "no shares of 2 classes"),
        ({0: 4}, "not made for 3 features"),
        ({1: 3}, "not made for"),
    ],
)
def test_a_damaged_tree_is_refused(changes, sentence):
    topology = list(TOPOLOGY)
    for place, value in changes.items():
        topology[place] = value
    with pytest.raises(FormatError, match=f"tree 1 is damaged.*{sentence}"):
        forest_from_vigra([tree(), tree(topology)], [1, 2], "ab", "xyz")


def test_labels_that_nobody_named_are_refused():
    with pytest.raises(FormatError, match="votes for label 3, but there are 2 classes"):
        forest_from_vigra([tree()], [1, 3], "ab", "xyz")
    with pytest.raises(FormatError, match="without trees"):
        forest_from_vigra([], [1, 2], "ab", "xyz")


class Estimator:
    """What is asked of an estimator of scikit-learn; the real one is tried with the peers."""

    n_outputs_ = 1

    def __init__(self, trees, classes=(0, 1)):
        self.estimators_ = [type("Estimator", (), {"tree_": one}) for one in trees]
        self.classes_ = np.array(classes)


def sklearn_tree(**changes):
    return type(
        "Tree",
        (),
        {
            "children_left": np.array([1, -1, 3, -1, -1]),
            "children_right": np.array([2, -1, 4, -1, -1]),
            "threshold": np.array([0.1, -2, 0.5, -2, -2]),
            "feature": np.array([0, -2, 1, -2, -2]),
            "value": np.array([[[5, 5]], [[10, 0]], [[1, 3]], [[1, 0]], [[0, 3]]], float),
        }
        | changes,
    )


def test_a_tree_of_scikit_learn_votes_as_there():
    forest = forest_from_sklearn(Estimator([sklearn_tree()]), ["x", "y"])
    below, above = np.float32(0.1), np.nextafter(np.float32(0.1), np.float32(1))
    # float32(0.1) is above 0.1, so the largest float32 that goes left is the one before it.
    left = np.nextafter(below, np.float32(0))
    features = np.array([[left, below, above, 1], [9, 0.5, 0.5, 0.51]], "f4")
    assert forest.predict(features).argmax(axis=0).tolist() == [0, 0, 0, 1]
    assert forest.predict(np.array([[below], [1]], "f4")).argmax() == 1
    assert forest.class_names == ("0", "1")


def test_what_is_no_forest_of_scikit_learn_is_refused():
    with pytest.raises(FormatError, match="no fitted forest"):
        forest_from_sklearn(object(), ["x"])
    with pytest.raises(FormatError, match="missing values"):
        forest_from_sklearn(
            Estimator([sklearn_tree(missing_go_to_left=np.array([1, 0, 0, 0, 0]))]), ["x", "y"]
        )
