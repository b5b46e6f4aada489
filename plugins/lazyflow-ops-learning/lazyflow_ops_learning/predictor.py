"""Probabilities of a forest for many samples: by the native library where it was built, else by numpy.

Both walk the same trees and add the same numbers in the same order, so their results are equal bit for bit:
whole votes are counted; shares are added in double precision, tree by tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from lazyflow_core.errors import ResultError
from lazyflow_core.request import checkpoint

if TYPE_CHECKING:
    from lazyflow_ops_learning.forest import Forest

__all__ = ["predict", "predict_by_numpy"]

Array = npt.NDArray[Any]

#: Samples that go through a tree together in numpy: enough to hide the price of a call, few enough for
#: caches.
_SAMPLES: Final = 16_384


def predict(forest: Forest, features: Array, out: Array | None = None) -> Array:
    """Return the probability of each class for each sample; see `Forest.predict`."""
    features = np.asarray(features)
    if features.ndim != 2 or features.shape[0] != forest.feature_count or features.dtype != np.float32:
        raise ResultError(
            f"a forest of {forest.feature_count} features takes float32 of shape "
            f"({forest.feature_count}, samples), not {features.dtype} {features.shape}."
        )
    shape = (forest.class_count, features.shape[1])
    if out is None:
        out = np.empty(shape, np.float32)
    elif out.shape != shape or out.dtype != np.float32:
        raise ResultError(f"the probabilities are float32 of shape {shape}, not {out.dtype} {out.shape}.")
    from lazyflow_ops_learning.native import native_library

    native = native_library()
    if native is None:
        predict_by_numpy(forest, features, out)
    else:
        native.predict(forest, features, out)
    return out


def predict_by_numpy(forest: Forest, features: Array, out: Array) -> None:
    """Write the probabilities, level by level of each tree for many samples at a time."""
    votes = np.empty((forest.class_count, _SAMPLES))
    for start in range(0, features.shape[1], _SAMPLES):
        part = features[:, start : start + _SAMPLES]
        count = part.shape[1]
        votes[:, :count] = 0
        columns = np.arange(count)
        for root in forest.roots:
            checkpoint()
            leaves = _leaves(forest, int(root), part)
            if forest.is_pure:
                votes[forest.leaf[leaves], columns] += 1
            else:
                votes[:, :count] += forest.leaf[leaves].T
        np.divide(votes[:, :count], forest.tree_count, out=out[:, start : start + count], casting="same_kind")


def _leaves(forest: Forest, root: int, features: Array) -> Array:
    """Return for each sample the row of the leaf that it comes to in the tree of that root."""
    node = np.full(features.shape[1], root, np.int64)
    on_the_way = np.flatnonzero(forest.child[node])
    while on_the_way.size:
        at = node[on_the_way]
        below = features[forest.feature[at], on_the_way] < forest.threshold[at]
        at = forest.child[at] + ~below
        node[on_the_way] = at
        on_the_way = on_the_way[forest.child[at] != 0]
    return forest.leaf_rows[node]
