"""One tree, from samples whose features are codes: what ``native/train.cpp`` does, in numpy.

It draws the same random numbers and adds in the same order, so the trees are equal. Runs where there is no
native library, and is what that is compared with.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from lazyflow_core.request import checkpoint

__all__ = ["Growing", "CodedSamples", "Tree", "grow_by_numpy"]

Array = npt.NDArray[Any]

_WORD: Final = 2**64 - 1


class CodedSamples(NamedTuple):
    """What a tree is grown from.

    Attributes
    ----------
    codes
        uint8 or uint16 of shape (features, samples), with the samples of a feature side by side.
    codes_end
        What all codes are below.
    labels
        uint8, the class of each sample.
    class_count
        Number of classes.
    """

    codes: Array
    codes_end: int
    labels: Array
    class_count: int


class Growing(NamedTuple):
    """How a tree is grown; see `lazyflow_ops_learning.training.train_forest`.

    Attributes
    ----------
    votes
        uint16 of shape (samples, classes), to which the votes for samples that were not drawn are added; any
        number of threads may do so. None: nobody votes.
    """

    seed: int
    features_per_split: int
    smallest_leaf: int
    class_weights: Array
    bootstrap: bool
    votes: Array | None


class Tree(NamedTuple):
    """A tree, as codes.

    Attributes
    ----------
    feature, cut, child, label
        Per node: the feature that is asked for, the largest code that goes to the child, the child's number
        (0 for a leaf), and the class of a leaf.
    mixed_node, mixed_drawn
        The leaves with samples of several classes, and for each how often each class was drawn.
    importance
        float64 per feature: the purity that its splits have brought.
    """

    feature: Array
    cut: Array
    child: Array
    label: Array
    mixed_node: Array
    mixed_drawn: Array
    importance: Array


class _Random:
    """Splitmix64, begun from a seed and the number of a tree."""

    def __init__(self, seed: int, tree: int) -> None:
        self._state = _mixed((_mixed(seed) + tree) & _WORD)

    def below(self, end: int) -> int:
        self._state = (self._state + 0x9E3779B97F4A7C15) & _WORD
        return _mixed(self._state) * end >> 64


def _mixed(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _WORD
    return z ^ (z >> 31)


def grow_by_numpy(samples: CodedSamples, how: Growing, tree: int) -> Tree:
    """Return the tree of that number."""
    random = _Random(how.seed, tree)
    count = samples.codes.shape[1]
    drawn = np.ones(count, np.int64)
    if how.bootstrap:
        drawn[:] = 0
        for number in range(count):
            if number % 65536 == 0:
                checkpoint()
            drawn[random.below(count)] += 1
    order = np.arange(len(samples.codes))
    importance = np.zeros(len(samples.codes))
    feature, cut, child, label = [0], [0], [0], [0]
    mixed_node: list[int] = []
    mixed_drawn: list[Array] = []
    pending = [(0, np.flatnonzero(drawn))]
    while pending:
        checkpoint()
        node, here = pending.pop()
        classes = np.bincount(samples.labels[here], drawn[here], samples.class_count)
        weights = classes * how.class_weights
        purity = _squares(weights) / _sum(weights)
        best, score = None, -1.0
        if np.count_nonzero(classes) > 1 and classes.sum() >= 2 * how.smallest_leaf:
            for tried in range(len(order)):
                if tried >= how.features_per_split and best is not None:
                    break
                other = tried + random.below(len(order) - tried)
                order[tried], order[other] = order[other], order[tried]
                candidate = _best_cut(samples, how, here, drawn, classes, int(order[tried]))
                if candidate is not None and candidate[1] > score:
                    best, score = (int(order[tried]), candidate[0]), candidate[1]
        if best is None:
            label[node] = int(weights.argmax())
            if np.count_nonzero(classes) > 1:
                mixed_node.append(node)
                mixed_drawn.append(classes)
            continue
        importance[best[0]] += score - purity
        is_left = samples.codes[best[0], here] <= best[1]
        feature[node], cut[node], child[node] = best[0], best[1], len(child)
        pending += [(len(child) + 1, here[~is_left]), (len(child), here[is_left])]
        for values in (feature, cut, child, label):
            values += [0, 0]
    grown = Tree(
        np.array(feature, np.uint16),
        np.array(cut, np.uint16),
        np.array(child, np.uint32),
        np.array(label, np.uint8),
        np.array(mixed_node, np.uint32),
        np.array(mixed_drawn, np.uint32).reshape(-1, samples.class_count),
        importance,
    )
    if how.votes is not None:
        _vote(samples, grown, np.flatnonzero(drawn == 0), how.votes)
    return grown


def _best_cut(
    samples: CodedSamples, how: Growing, here: Array, drawn: Array, classes: Array, feature: int
) -> tuple[int, float] | None:
    """Return the first best cut of a feature and its score; None if it parts nothing."""
    places = samples.codes[feature, here].astype(np.int64) * samples.class_count + samples.labels[here]
    counts = np.bincount(places, drawn[here], samples.codes_end * samples.class_count)
    table = counts.reshape(samples.codes_end, samples.class_count)
    cuts = np.flatnonzero(table.any(axis=1))
    left = table[cuts].cumsum(axis=0)
    draws = left.sum(axis=1)
    allowed = (draws >= how.smallest_leaf) & (classes.sum() - draws >= how.smallest_leaf)
    if not allowed.any():
        return None
    cuts, left = cuts[allowed], left[allowed]
    right = (classes - left) * how.class_weights
    left = left * how.class_weights
    scores = _squares(left) / _sum(left) + _squares(right) / _sum(right)
    best = int(scores.argmax())
    return int(cuts[best]), float(scores[best])


# Class by class, as the native trainer adds; numpy's own sum takes another order.


def _sum(weights: Array) -> Any:
    total: Any = 0.0
    for number in range(weights.shape[-1]):
        total = total + weights[..., number]
    return total


def _squares(weights: Array) -> Any:
    total: Any = 0.0
    for number in range(weights.shape[-1]):
        total = total + weights[..., number] * weights[..., number]
    return total


def _vote(samples: CodedSamples, tree: Tree, left_out: Array, votes: Array) -> None:
    node = np.zeros(len(left_out), np.int64)
    on_the_way = np.flatnonzero(tree.child[node])
    while on_the_way.size:
        at = node[on_the_way]
        goes_right = samples.codes[tree.feature[at], left_out[on_the_way]] > tree.cut[at]
        node[on_the_way] = at = tree.child[at].astype(np.int64) + goes_right
        on_the_way = on_the_way[tree.child[at] != 0]
    # Trees that are grown in other threads add to other samples, or at another time: the GIL is held.
    np.add.at(votes, (left_out, tree.label[node]), 1)
