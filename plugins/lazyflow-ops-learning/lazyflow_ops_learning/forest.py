"""Random forests as values: frozen, compared by content, whatever they were trained with.

All trees stand in one table of nodes. A node that divides asks whether a feature is below its threshold: if
so the way goes on at its left child, else at the right one, which stands behind the left one. NaN is below
nothing. What has no child is a leaf, which votes with a share for each class; the probability of a class is
the mean of its shares over all trees.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from lazyflow_core.errors import FormatError

__all__ = ["MOST_CLASSES", "MOST_FEATURES", "Forest"]

Array = npt.NDArray[Any]

_DTYPES: Final = {"threshold": "f4", "feature": "u2", "child": "u4", "roots": "u4"}
MOST_CLASSES: Final = 255
MOST_FEATURES: Final = 65535
#: Shares of a leaf are rounded to float32, so they add up to about one.
_SHARE_TOLERANCE: Final = 1e-4


class Forest:
    """A random forest for classification.

    Parameters
    ----------
    threshold
        float32, one per node; 0 for leaves.
    feature
        uint16, which feature is compared, from 0; 0 for leaves.
    child
        uint32, number of the left child; 0 for leaves. Children stand behind their parent and in its tree.
    roots
        uint32, number of the first node of each tree, in order; the first is 0.
    leaf
        One entry per leaf in the order of the nodes: uint8, the class that has all the votes; or float32 of
        shape (leaves, classes), shares that are not negative and add up to one.
    class_names
        One per class. A class that no leaf votes for is possible.
    feature_names
        One per feature, as an image of features has them as its channel names.
    about
        What else is known, such as where it came from: texts, numbers, truth values and lists of these.

    Raises
    ------
    FormatError
        If these make no forest: the sentence says which part, and what it should be.

    Examples
    --------
    One tree that divides once, at 0.5:

    >>> import numpy as np
    >>> leaf = np.array([1, 0], "u1")
    >>> forest = Forest([0.5, 0, 0], [0, 0, 0], [1, 0, 0], [0], leaf, ["dark", "bright"], ["grey"])
    >>> forest
    <Forest of 1 tree, 3 nodes, 1 feature: dark, bright>
    >>> forest.predict(np.array([[0.2, 0.5, np.nan]], "f4"))
    array([[0., 1., 1.],
           [1., 0., 0.]], dtype=float32)
    """

    def __init__(
        self,
        threshold: npt.ArrayLike,
        feature: npt.ArrayLike,
        child: npt.ArrayLike,
        roots: npt.ArrayLike,
        leaf: npt.ArrayLike,
        class_names: Iterable[str],
        feature_names: Iterable[str],
        about: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.threshold = _frozen("threshold", threshold)
        self.feature = _frozen("feature", feature)
        self.child = _frozen("child", child)
        self.roots = _frozen("roots", roots)
        self.class_names = tuple(map(str, class_names))
        self.feature_names = tuple(map(str, feature_names))
        self.about: Mapping[str, Any] = MappingProxyType(dict(about))
        leaf = np.array(leaf)
        leaf = leaf if leaf.dtype == np.uint8 and leaf.ndim == 1 else leaf.astype(np.float32)
        leaf.flags.writeable = False
        self.leaf: Array = leaf
        self._check()

    def _check(self) -> None:
        nodes = len(self.threshold)
        if not nodes or len(self.feature) != nodes or len(self.child) != nodes:
            raise FormatError(
                f"a forest has one threshold, feature and child per node, not {nodes}, "
                f"{len(self.feature)} and {len(self.child)}."
            )
        if not 1 <= len(self.class_names) <= MOST_CLASSES:
            raise FormatError(f"a forest has 1 to {MOST_CLASSES} classes, not {len(self.class_names)}.")
        if not 1 <= len(self.feature_names) <= MOST_FEATURES:
            raise FormatError(f"a forest has 1 to {MOST_FEATURES} features, not {len(self.feature_names)}.")
        roots = self.roots.astype(np.int64)
        if not len(roots) or roots[0] != 0 or (np.diff(roots) <= 0).any() or roots[-1] >= nodes:
            raise FormatError("the roots of a forest are node 0 and larger numbers of nodes, in order.")
        if not np.isfinite(self.threshold).all():
            raise FormatError("a forest has a threshold that is not finite.")
        index = np.arange(nodes)
        divides = self.child != 0
        ends = np.append(roots[1:], nodes)[np.searchsorted(roots, index, side="right") - 1]
        left = self.child.astype(np.int64)
        wrong = divides & ((left <= index) | (left + 1 >= ends))
        if wrong.any():
            raise FormatError(
                f"node {int(wrong.argmax())} of a forest has children at {int(left[wrong.argmax()])}, "
                "which is not behind it in its tree."
            )
        if (self.feature[divides] >= len(self.feature_names)).any():
            raise FormatError(f"a forest asks for more than its {len(self.feature_names)} features.")
        leaves, classes = int(nodes - divides.sum()), len(self.class_names)
        if self.is_pure:
            if len(self.leaf) != leaves or (self.leaf >= classes).any():
                raise FormatError(f"{leaves} leaves of a forest need a class below {classes} each.")
        elif (
            self.leaf.shape != (leaves, classes)
            or not (self.leaf >= 0).all()
            or not (np.abs(self.leaf.sum(axis=1, dtype=np.float64) - 1) <= _SHARE_TOLERANCE).all()
        ):
            raise FormatError(
                f"{leaves} leaves of a forest need {classes} shares each, none negative, which add up to one."
            )

    # ----------------------------------------------------------------------------------------- what it is

    @property
    def tree_count(self) -> int:
        """Number of trees."""
        return len(self.roots)

    @property
    def class_count(self) -> int:
        """Number of classes, those that nothing votes for included."""
        return len(self.class_names)

    @property
    def feature_count(self) -> int:
        """Number of features it was trained with."""
        return len(self.feature_names)

    @property
    def is_pure(self) -> bool:
        """Whether every leaf votes for one class only."""
        return self.leaf.dtype == np.uint8

    @cached_property
    def used_features(self) -> tuple[int, ...]:
        """The features that some node asks for, in order."""
        return tuple(np.unique(self.feature[self.child != 0]).tolist())

    @cached_property
    def leaf_rows(self) -> Array:
        """For each node the row of `leaf` that is its own, int64; of no meaning for nodes that divide."""
        rows = np.cumsum(self.child == 0, dtype=np.int64) - 1
        rows.flags.writeable = False
        return rows

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the trees, names and classes, as hexadecimal digits; `about` is left out."""
        hashed = hashlib.sha256()
        for array in self._arrays():
            hashed.update(f"{array.dtype.str}{array.shape}".encode())
            hashed.update(np.ascontiguousarray(array).data)
        hashed.update("\0".join((*self.class_names, "\1", *self.feature_names)).encode())
        return hashed.hexdigest()

    def _arrays(self) -> tuple[Array, ...]:
        return self.threshold, self.feature, self.child, self.roots, self.leaf

    # ------------------------------------------------------------------------------------- what can be done

    def predict(self, features: Array, out: Array | None = None) -> Array:
        """Return the probability of each class for each sample.

        Parameters
        ----------
        features
            float32 of shape (features, samples).
        out
            float32 of shape (classes, samples) to write into; made if left out.

        Returns
        -------
        numpy.ndarray
            float32 of shape (classes, samples); the classes of a sample add up to one.
        """
        from lazyflow_ops_learning.predictor import predict

        return predict(self, features, out)

    def with_features(self, names: Sequence[str], order: Sequence[int]) -> Forest:
        """Return the same forest for features in another order.

        Parameters
        ----------
        names
            The features in the new order.
        order
            For each of the old features its number in the new order.
        """
        numbers = np.asarray(order)
        if len(numbers) != self.feature_count or sorted(numbers.tolist()) != list(range(len(names))):
            raise FormatError(
                f"{self.feature_count} features cannot be put into the order of {len(names)} others."
            )
        feature = np.where(self.child != 0, numbers[self.feature], 0)
        return Forest(
            self.threshold, feature, self.child, self.roots, self.leaf, self.class_names, names, self.about
        )

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Forest) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[Any, ...]:
        return Forest, (*self._arrays(), self.class_names, self.feature_names, dict(self.about))

    def __repr__(self) -> str:
        def count(number: int, word: str) -> str:
            return f"{number} {word}{'' if number == 1 else 's'}"

        return (
            f"<Forest of {count(self.tree_count, 'tree')}, {count(len(self.child), 'node')}, "
            f"{count(self.feature_count, 'feature')}: {', '.join(self.class_names)}>"
        )


def _frozen(name: str, values: npt.ArrayLike) -> Array:
    """Return values as a read-only array of the type that the part of that name has, if it can hold them."""
    dtype = np.dtype(_DTYPES[name])
    given = np.asarray(values)
    if given.ndim != 1 or given.dtype.kind not in "iuf":
        raise FormatError(f"the {name} of a forest is a list of numbers, not {given.dtype} {given.shape}.")
    if (
        dtype.kind == "u"
        and given.size
        and (given.dtype.kind == "f" or int(given.min()) < 0 or int(given.max()) > np.iinfo(dtype).max)
    ):
        raise FormatError(f"the {name} of a forest holds whole numbers from 0 to {np.iinfo(dtype).max}.")
    with np.errstate(over="ignore"):
        array = np.array(given, dtype)
    array.flags.writeable = False
    return array
