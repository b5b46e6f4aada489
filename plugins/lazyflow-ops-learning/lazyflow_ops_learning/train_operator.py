"""`OpTrainForest`: a forest as a value of the graph, trained when it is asked for."""

from __future__ import annotations

import threading
from typing import Any, Final, cast

from lazyflow_core import Operator, OutputSlot, ParameterSlot
from lazyflow_core.errors import ResultError
from lazyflow_core.graph import MultiParameter

from lazyflow_ops_learning.binning import MOST_BINS
from lazyflow_ops_learning.forest import MOST_FEATURES, Forest
from lazyflow_ops_learning.prediction import check_classes
from lazyflow_ops_learning.samples import Samples, join_samples
from lazyflow_ops_learning.training import MOST_TREES, train_forest

__all__ = ["OpTrainForest"]

#: Forests that are remembered: the one before a stroke that is taken back, and some more.
_REMEMBERED: Final = 4


class OpTrainForest(Operator):
    """Train a random forest with the samples of one or several images.

    Inputs
    ------
    samples : list of ParameterSlot[Samples]
        One per image, as ``learning.samples`` gives them.
    classes : ParameterSlot
        Names of the classes, or their number; default as many as the largest label says.
    trees, features_per_split, bootstrap, smallest_leaf, class_weights, bins, seed
        As for `lazyflow_ops_learning.train_forest`.

    Outputs
    -------
    classifier : OutputSlot, a `Forest`
        Its ``about`` tells how it was trained.
    out_of_bag : OutputSlot[float]
        The share of samples that trees which have not seen them take for another class; NaN if there are
        none.
    importance : OutputSlot[dict]
        For each feature by name its share in what the forest knows, the largest first.

    Regions
    -------
    pull   none; trees are grown beside each other, with the priority of who asks.
    push   whatever changes makes the values stale. Where the samples are the same again, as after a stroke
           that was undone, the forest of then is given without training.

    Memory
    ------
    A byte per feature and sample, 20 bytes per sample and worker, and the forest.

    Raises
    ------
    ExecuteError
        When a value is asked for, if there are no samples, or of one class only; the cause says so.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> from lazyflow_ops_learning.samples import OpSamples
    >>> with Graph() as graph:
    ...     samples = OpSamples(graph=graph)
    ...     samples.features.assign(np.arange(8, dtype="f4").reshape(1, 8), axes="cx")
    ...     samples.labels.assign(np.array([1, 1, 0, 0, 0, 0, 2, 2]), axes="x")
    ...     train = OpTrainForest(graph=graph, samples=[samples.samples], classes=["low", "high"])
    ...     train.classifier.value.predict(np.array([[0, 7]], "f4")).argmax(axis=0).tolist()
    [0, 1]
    """

    samples: ParameterSlot[Samples] = ParameterSlot(Samples, level=1, doc="samples of each image")
    classes = ParameterSlot(
        int | tuple | None,
        default=None,
        check=check_classes,
        doc="names or number of the classes; default by the largest label",
    )
    trees = ParameterSlot(int, default=100, range=(1, MOST_TREES), usual=(1, 500), doc="how many")
    features_per_split = ParameterSlot(
        int,
        default=0,
        range=(0, MOST_FEATURES),
        usual=(0, 50),
        doc="features looked at per division; 0 for the square root",
    )
    bootstrap = ParameterSlot(bool, default=True, doc="whether each tree draws samples of its own")
    smallest_leaf = ParameterSlot(
        int, default=1, range=(1, 2**31 - 1), usual=(1, 100), doc="draws on each side at least"
    )
    class_weights = ParameterSlot(tuple, default=(), doc="how much a sample of each class counts; default 1")
    bins = ParameterSlot(int, default=256, range=(2, MOST_BINS), doc="intervals of a feature at most")
    seed = ParameterSlot(
        int, default=0, range=(0, 2**63 - 1), usual=(0, 100), doc="another one gives another forest"
    )
    classifier = OutputSlot(value=Forest, doc="the forest")
    out_of_bag = OutputSlot(value=float, doc="share of wrong votes out of the bag")
    importance = OutputSlot(value=dict, doc="share of each feature in what the forest knows")

    def __init__(self, **slots: Any) -> None:
        self._lock = threading.Lock()
        #: Forests by all that they depend on, so it does not matter which version asks; the latest last.
        #: Guarded by the lock.
        self._remembered: dict[tuple[Any, ...], Forest] = {}
        super().__init__(**slots)

    def compute_value(self, slot: Any) -> Any:
        if slot is self.classifier:
            return self._forest()
        about = self.classifier.value.about
        if slot is self.out_of_bag:
            error = about["out_of_bag_error"]
            return float("nan") if error is None else error
        names = self.classifier.value.feature_names
        pairs = zip(names, about["importance"], strict=True)
        return dict(sorted(pairs, key=lambda pair: -pair[1]))

    def _forest(self) -> Forest:
        samples = join_samples([each.value for each in cast(MultiParameter, self.samples)])
        names = self._class_names(samples)
        how: dict[str, Any] = {
            slot.name: slot.value
            for slot in (
                self.trees,
                self.features_per_split,
                self.bootstrap,
                self.smallest_leaf,
                self.class_weights,
                self.bins,
                self.seed,
            )
        }
        key = (samples.digest, names, *how.values())
        with self._lock:
            forest = self._remembered.pop(key, None)
        if forest is None:
            forest = train_forest(
                samples.features,
                samples.labels - 1,
                class_names=names,
                feature_names=samples.feature_names,
                **how,
            )
        with self._lock:
            self._remembered[key] = forest
            for old in list(self._remembered)[:-_REMEMBERED]:
                del self._remembered[old]
        return forest

    def _class_names(self, samples: Samples) -> tuple[str, ...]:
        given, largest = self.classes.value, max(samples.counts, default=0)
        if isinstance(given, tuple):
            names = given
        else:
            names = tuple(
                f"class {number + 1}" for number in range(max(2, largest if given is None else given))
            )
        if largest > len(names):
            raise ResultError(f"{self.name}: there are labels of class {largest}, but {len(names)} classes.")
        return names
