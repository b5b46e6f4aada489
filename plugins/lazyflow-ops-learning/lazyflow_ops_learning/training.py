"""A forest from samples: `train_forest`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from lazyflow_core.errors import NotReadyError, ParameterError, ResultError
from lazyflow_core.request import RequestPool

from lazyflow_ops_learning.binning import MOST_BINS, bin_features
from lazyflow_ops_learning.forest import MOST_CLASSES, MOST_FEATURES, Forest
from lazyflow_ops_learning.numpy_trainer import CodedSamples, Growing, Tree, grow_by_numpy

__all__ = ["MOST_TREES", "train_forest"]

Array = npt.NDArray[Any]

#: Votes out of the bag are counted in 16 bits.
MOST_TREES: Final = 65535
_MOST_SAMPLES: Final = 2**31 - 1


def train_forest(
    features: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    class_names: Sequence[str],
    feature_names: Sequence[str] = (),
    trees: int = 100,
    features_per_split: int = 0,
    bootstrap: bool = True,
    smallest_leaf: int = 1,
    class_weights: Sequence[float] = (),
    bins: int = 256,
    seed: int = 0,
    about: Mapping[str, Any] = MappingProxyType({}),
) -> Forest:
    """Train a random forest: trees that each ask other features of other samples, and vote.

    Each tree draws as many samples as there are, with replacement, and divides them, until those of a leaf
    are of one class, by the feature and the limit that make both sides purest (Gini); of a few features that
    are drawn for each division. The same samples, parameters and seed give the same forest, whatever runs
    beside, on any machine.

    Parameters
    ----------
    features
        float32 of shape (features, samples). NaN and infinity are allowed: NaN is above every limit.
    labels
        Whole numbers of shape (samples,): the class of each sample, from 0.
    class_names
        One per class, at least two. Of a class that has no sample the forest knows nothing but the name.
    feature_names
        One per feature; default ``"feature 0"`` and so on.
    trees
        How many, 1 to 65535.
    features_per_split
        How many features are looked at for each division, or more until one of them divides; 0 for the square
        root of their number.
    bootstrap
        Whether samples are drawn for each tree; else every tree has all of them, once, and nothing is out
        of the bag.
    smallest_leaf
        How many draws are on each side of a division, at least.
    class_weights
        A positive number per class: how much a sample of it counts; default 1 for all.
    bins
        In how many intervals the values of a feature are divided at most, 2 to 65536. Values in the same one
        are not told apart.
    seed
        A whole number from 0, below 2⁶⁴.
    about
        What else is to stand in the forest's `about`.

    Returns
    -------
    Forest
        Its ``about`` says how it was trained, and

        ``samples``
            how many there were of each class,
        ``out_of_bag_error``
            which share of samples is taken for another class by the trees that had not drawn them; None if
            there is no such sample,
        ``confusion``
            for each class how often its samples were taken for each class, by those trees,
        ``importance``
            for each feature its share in the purity that the divisions have brought.

    Raises
    ------
    NotReadyError
        If there are samples of less than two classes.
    ParameterError, ResultError
        If a parameter, the features or the labels are not as above.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> features = rng.normal(size=(2, 500)).astype("f4")
    >>> forest = train_forest(features, features[1] > 0, class_names=["low", "high"], trees=20)
    >>> forest.predict(np.array([[0, 0], [-1, 1]], "f4")).argmax(axis=0).tolist()
    [0, 1]
    >>> forest.about["out_of_bag_error"] < 0.05, np.argmax(forest.about["importance"]).item()
    (True, 1)

    Source
    ------
    Breiman, "Random forests", Machine Learning 45 (2001).
    """
    columns, classes = _checked(features, labels, class_names, feature_names)
    _check_number("trees", trees, 1, MOST_TREES)
    _check_number("features_per_split", features_per_split, 0, len(columns))
    _check_number("smallest_leaf", smallest_leaf, 1, _MOST_SAMPLES)
    _check_number("bins", bins, 2, MOST_BINS)
    _check_number("seed", seed, 0, 2**64 - 1)
    weights = _checked_weights(class_weights, len(class_names))
    counts = np.bincount(classes, minlength=len(class_names))
    if np.count_nonzero(counts) < 2:
        there = "there are none" if not len(classes) else f"all are {class_names[int(counts.argmax())]!r}"
        raise NotReadyError(f"a forest is trained with samples of two classes or more; {there}.")
    binned = bin_features(columns, bins)
    votes = np.zeros((len(classes), len(class_names)), np.uint16) if bootstrap else None
    samples = CodedSamples(binned.codes, binned.codes_end, classes, len(class_names))
    how = Growing(
        seed,
        features_per_split or max(1, round(len(columns) ** 0.5)),
        smallest_leaf,
        weights,
        bootstrap,
        votes,
    )
    grown = _grow(samples, how, trees)
    importance = sum(
        (tree.importance / (tree.importance.sum() or 1) for tree in grown), np.zeros(len(columns))
    )
    confusion = None if votes is None else _confusion(classes, votes)
    return Forest(
        **_joined(grown, binned.limits, weights),
        class_names=class_names,
        feature_names=feature_names or [f"feature {number}" for number in range(len(columns))],
        about={
            **about,
            "trees": trees,
            "features_per_split": how.features_per_split,
            "bootstrap": bootstrap,
            "smallest_leaf": smallest_leaf,
            "class_weights": weights.tolist(),
            "bins": bins,
            "seed": seed,
            "samples": counts.tolist(),
            "confusion": None if confusion is None else confusion.tolist(),
            "out_of_bag_error": _error(confusion),
            "importance": (importance / (importance.sum() or 1)).tolist(),
        },
    )


def _checked(
    features: npt.ArrayLike, labels: npt.ArrayLike, class_names: Sequence[str], feature_names: Sequence[str]
) -> tuple[Array, Array]:
    columns, classes = np.asarray(features), np.asarray(labels)
    if columns.ndim != 2 or columns.dtype != np.float32 or not 1 <= len(columns) <= MOST_FEATURES:
        raise ResultError(
            f"a forest is trained with float32 of shape (features, samples) with 1 to {MOST_FEATURES} "
            f"features, not {columns.dtype} {columns.shape}."
        )
    if columns.shape[1] > _MOST_SAMPLES:
        raise ResultError(
            f"{columns.shape[1]} samples are more than the {_MOST_SAMPLES} that a forest is trained with; "
            "take every second one, or fewer."
        )
    if classes.shape != columns.shape[1:] or classes.dtype.kind not in "iub":
        raise ResultError(
            f"{columns.shape[1]} samples need as many whole numbers as labels, not {classes.dtype} "
            f"{classes.shape}."
        )
    if not 2 <= len(class_names) <= MOST_CLASSES:
        raise ParameterError(f"a forest is trained for 2 to {MOST_CLASSES} classes, not {len(class_names)}.")
    if classes.size and not 0 <= int(classes.min()) <= int(classes.max()) < len(class_names):
        worst = int(classes.min()) if int(classes.min()) < 0 else int(classes.max())
        raise ResultError(f"the label {worst} is none of {len(class_names)} classes, which count from 0.")
    if feature_names and len(feature_names) != len(columns):
        raise ParameterError(f"{len(columns)} features have {len(feature_names)} names.")
    return columns, classes.astype(np.uint8)


def _check_number(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ParameterError(f"{name}={value!r}: it is a whole number from {low} to {high}.")


def _checked_weights(class_weights: Sequence[float], classes: int) -> Array:
    weights = np.array(class_weights if len(class_weights) else [1.0] * classes, np.float64)
    # Squares of sums of 2³¹ of them are still numbers.
    if weights.shape != (classes,) or not ((weights >= 1e-100) & (weights <= 1e100)).all():
        raise ParameterError(
            f"class_weights={class_weights!r}: they are {classes} positive numbers, one per class."
        )
    return weights


def _grow(samples: CodedSamples, how: Growing, count: int) -> list[Tree]:
    """Return the trees in order, grown beside each other."""
    from lazyflow_ops_learning.native import native_library

    native = native_library()

    def one(number: int) -> tuple[int, Tree]:
        return number, (grow_by_numpy if native is None else native.grow)(samples, how, number)

    with RequestPool[tuple[int, Tree]](name="trees of a forest") as pool:
        grown = dict(pool.map(one, range(count)))
    return [grown[number] for number in range(count)]


def _joined(trees: Sequence[Tree], limits: Sequence[Array], weights: Array) -> dict[str, Array]:
    """Return the arrays of a forest: codes become limits, leaves classes or shares."""
    sizes = np.array([len(tree.child) for tree in trees])
    roots = np.cumsum(sizes) - sizes
    feature = np.concatenate([tree.feature for tree in trees])
    child = np.concatenate([tree.child for tree in trees]).astype(np.int64)
    divides = child != 0
    child[divides] += np.repeat(roots, sizes)[divides]
    starts = np.cumsum([0, *map(len, limits)])
    every = np.concatenate([*limits, np.zeros(1, np.float32)])
    threshold = np.zeros(len(child), np.float32)
    cut = np.concatenate([tree.cut for tree in trees])
    threshold[divides] = every[starts[feature[divides]] + cut[divides]]
    labels = np.concatenate([tree.label for tree in trees])
    leaf = labels[~divides]
    mixed = np.concatenate([tree.mixed_node + root for tree, root in zip(trees, roots, strict=True)])
    if len(mixed):
        rows = (np.cumsum(~divides) - 1)[mixed.astype(np.int64)]
        shares = np.zeros((len(leaf), len(weights)), np.float32)
        shares[np.arange(len(leaf)), leaf] = 1
        drawn = np.concatenate([tree.mixed_drawn for tree in trees]) * weights
        shares[rows] = drawn / drawn.sum(axis=1, keepdims=True)
        leaf = shares
    return {"threshold": threshold, "feature": feature, "child": child, "roots": roots, "leaf": leaf}


def _confusion(classes: Array, votes: Array) -> Array:
    """Return how often samples of each class (rows) were taken for each class, by those who may judge."""
    judged = votes.any(axis=1)
    table = np.zeros((votes.shape[1],) * 2, np.int64)
    np.add.at(table, (classes[judged], votes[judged].argmax(axis=1)), 1)
    return table


def _error(confusion: Array | None) -> float | None:
    if confusion is None or not confusion.any():
        return None
    return float(1 - np.trace(confusion) / confusion.sum())
