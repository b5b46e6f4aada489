"""Forests that others trained, as values of ours: vigra's, as in ilastik's projects, and scikit-learn's.

Thresholds of both are float64 and are compared with float32 features. Each is replaced by the one float32
that divides float32 numbers in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from lazyflow_core.errors import FormatError

from lazyflow_ops_learning.forest import Forest

__all__ = ["VigraTree", "forest_from_sklearn", "forest_from_vigra"]

Array = npt.NDArray[Any]

#: Types of nodes in vigra's topology (vigra/random_forest/rf_nodeproxy.hxx).
_THRESHOLD_NODE: Final = 0
_CLASS_LEAF: Final = 0x40000000
#: In front of the first node: the numbers of features and of classes.
_FIRST_NODE: Final = 2


class VigraTree(NamedTuple):
    """A tree as vigra stores it.

    Attributes
    ----------
    topology
        int32: the numbers of features and classes, then nodes. One that divides is ``0, p, left, right,
        feature`` with its threshold at ``parameters[p + 1]``; a leaf is ``0x40000000, p`` with its shares
        from ``parameters[p + 1]`` on.
    parameters
        float64.
    """

    topology: Array
    parameters: Array


def forest_from_vigra(
    trees: Iterable[VigraTree],
    labels: Sequence[int],
    class_names: Sequence[str],
    feature_names: Sequence[str],
    about: Mapping[str, Any] | None = None,
) -> Forest:
    """Return a forest of trees that vigra trained.

    Parameters
    ----------
    trees
        Of one or of several of its forests: ilastik averages forests by their trees.
    labels
        For each class that the trees know its label, from 1: label *n* is the class of ``class_names[n -
        1]``.
    class_names, feature_names, about
        See `Forest`.

    Raises
    ------
    FormatError
        If a tree is damaged or of a kind that votes in another way.
    """
    parts: dict[str, list[Array]] = {"threshold": [], "feature": [], "child": [], "leaf": []}
    roots: list[int] = []
    count = 0
    wrong = [label for label in labels if not 1 <= label <= len(class_names)]
    if wrong:
        raise FormatError(f"a forest votes for label {wrong[0]}, but there are {len(class_names)} classes.")
    for number, tree in enumerate(trees):
        try:
            part = _one_vigra_tree(tree, labels, len(class_names), len(feature_names))
        except (FormatError, IndexError) as error:
            raise FormatError(f"tree {number} is damaged: {error}") from None
        part["child"] = np.where(part["child"] != 0, part["child"] + count, 0)
        roots.append(count)
        count += len(part["child"])
        for key, values in part.items():
            parts[key].append(values)
    if not roots:
        raise FormatError("a forest without trees cannot vote.")
    joined = {key: np.concatenate(values) for key, values in parts.items()}
    joined["leaf"] = _pure(joined["leaf"])
    return Forest(
        **joined, roots=roots, class_names=class_names, feature_names=feature_names, about=about or {}
    )


def _one_vigra_tree(tree: VigraTree, labels: Sequence[int], classes: int, features: int) -> dict[str, Array]:
    topology, parameters = np.asarray(tree.topology), np.asarray(tree.parameters, np.float64)
    if topology.ndim != 1 or parameters.ndim != 1 or topology.dtype.kind not in "iu":
        raise FormatError("topology and parameters are no lists of numbers.")
    if len(topology) < _FIRST_NODE + 2 or topology[0] != features or topology[1] != len(labels):
        raise FormatError(
            f"it is not made for {features} features and {len(labels)} classes, or holds no node."
        )
    nodes: list[int] = topology.tolist()
    values: list[float] = parameters.tolist()
    threshold, feature, child, shares = [0.0], [0], [0], [np.zeros(classes)]
    pending = [(_FIRST_NODE, 0)]
    while pending:
        address, index = pending.pop()
        if not _FIRST_NODE <= address < len(nodes) - 1 or len(child) > len(nodes):
            raise FormatError(f"it goes on at {address}, which is no node, or in a circle.")
        kind, place = nodes[address], nodes[address + 1]
        if not 0 <= place < len(values):
            raise FormatError(f"node {address} has its numbers outside of the parameters.")
        if kind == _THRESHOLD_NODE:
            left, right, column = nodes[address + 2 : address + 5]
            if not 0 <= column < features:
                raise FormatError(f"node {address} asks for feature {column} of {features}.")
            feature[index], threshold[index] = column, values[place + 1]
            child[index] = len(child)
            for address_of_child in (left, right):
                pending.append((address_of_child, len(child)))
                threshold.append(0.0)
                feature.append(0)
                child.append(0)
                shares.append(np.zeros(classes))
        elif kind == _CLASS_LEAF:
            given = np.array(values[place + 1 : place + 1 + len(labels)])
            total = given.sum()
            if len(given) != len(labels) or not (given >= 0).all() or not 0 < total < np.inf:
                raise FormatError(f"leaf {address} has no shares of {len(labels)} classes.")
            shares[index][np.asarray(labels) - 1] = given / total
        else:
            raise FormatError(
                f"node {address} is of kind {kind:#x}; only thresholds and constant leaves are known."
            )
    divides = np.array(child) != 0
    return {
        "threshold": np.where(divides, _smallest_float32_from(np.array(threshold)), 0),
        "feature": np.array(feature),
        "child": np.array(child),
        "leaf": np.array(shares)[~divides],
    }


def forest_from_sklearn(
    estimator: Any, feature_names: Sequence[str], class_names: Sequence[str] | None = None
) -> Forest:
    """Return a forest that scikit-learn trained.

    Parameters
    ----------
    estimator
        A fitted ``RandomForestClassifier`` or ``ExtraTreesClassifier`` for one output.
    feature_names
        One per feature.
    class_names
        One per class; default the estimator's classes as texts.

    Raises
    ------
    FormatError
        If it is no such estimator, or sends missing values to the left somewhere.
    """
    trees = [each.tree_ for each in getattr(estimator, "estimators_", ())]
    classes = getattr(estimator, "classes_", None)
    if not trees or classes is None or getattr(estimator, "n_outputs_", 0) != 1:
        raise FormatError(
            f"{type(estimator).__name__} is no fitted forest for classification into one output."
        )
    parts: dict[str, list[Array]] = {"threshold": [], "feature": [], "child": [], "leaf": []}
    roots, count = [], 0
    for tree in trees:
        if getattr(tree, "missing_go_to_left", np.zeros(0)).any():
            raise FormatError(
                "the forest was trained with missing values, of which forests here know nothing."
            )
        order, child = _with_children_adjacent(tree.children_left, tree.children_right)
        divides = child != 0
        limits = _largest_float32_up_to(tree.threshold[order])
        parts["threshold"].append(np.where(divides, np.nextafter(limits, np.float32(np.inf)), 0))
        parts["feature"].append(np.where(divides, tree.feature[order], 0))
        parts["child"].append(np.where(divides, child + count, 0))
        shares = tree.value[order, 0][~divides]
        parts["leaf"].append(shares / shares.sum(axis=1, keepdims=True))
        roots.append(count)
        count += len(order)
    joined = {key: np.concatenate(values) for key, values in parts.items()}
    joined["leaf"] = _pure(joined["leaf"])
    names = [str(name) for name in (classes if class_names is None else class_names)]
    return Forest(
        **joined,
        roots=roots,
        class_names=names,
        feature_names=feature_names,
        about={"source": "scikit-learn"},
    )


def _with_children_adjacent(left: Array, right: Array) -> tuple[Array, Array]:
    """Return an order of nodes in which both children stand together, and their places in it."""
    order, child = [0], [0]
    place = 0
    while place < len(order):
        node = order[place]
        if left[node] >= 0:
            child[place] = len(order)
            order += [int(left[node]), int(right[node])]
            child += [0, 0]
        place += 1
    return np.array(order), np.array(child)


def _pure(shares: Array) -> Array:
    """Return leaves as classes where each votes for one only, else their shares."""
    return shares.argmax(axis=1).astype(np.uint8) if (shares.max(axis=1) == 1).all() else shares


def _smallest_float32_from(threshold: Array) -> Array:
    """Return t32 with ``x < t32`` exactly where ``x < threshold``, for all x of float32."""
    single = _rounded(threshold)
    return np.where(single < threshold, np.nextafter(single, np.float32(np.inf)), single).astype(np.float32)


def _largest_float32_up_to(threshold: Array) -> Array:
    """Return t32 with ``x <= t32`` exactly where ``x <= threshold``, for all x of float32."""
    single = _rounded(threshold)
    return np.where(single > threshold, np.nextafter(single, np.float32(-np.inf)), single).astype(np.float32)


def _rounded(threshold: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(threshold, np.float64).astype(np.float32)
