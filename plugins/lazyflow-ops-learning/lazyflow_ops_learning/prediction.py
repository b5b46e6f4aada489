"""Operators that predict: from an image of features and a forest to probabilities, classes and doubt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from lazyflow_core import (
    ArrayMeta,
    Axes,
    Axis,
    InputSlot,
    Operator,
    OutputSlot,
    ParameterSlot,
    Roi,
)
from lazyflow_core.errors import ConnectError, SetupError
from lazyflow_core.request import checkpoint

from lazyflow_ops_learning.forest import Forest
from lazyflow_ops_learning.forest_file import load_forest

__all__ = ["OpForestFile", "OpPredict", "as_bytes", "labels_of", "uncertainty_of"]

Array = npt.NDArray[Any]

#: Bytes of features that are looked at in one go; larger regions are done part by part.
_MOST_BYTES: Final = 64 * 2**20


class OpForestFile(Operator):
    """Read a forest from a file, when it is first needed.

    Inputs
    ------
    path : ParameterSlot[str]
        A file that `save_forest` wrote.

    Outputs
    -------
    classifier : OutputSlot, a `Forest`

    Regions
    -------
    pull   none; the file is read once, when the value is first asked for.
    push   a new path makes the value stale.

    Memory
    ------
    The forest: some 16 bytes a node.

    Raises
    ------
    ExecuteError
        When the value is asked for, if the file cannot be read or holds no forest; the cause says why.
    """

    path: ParameterSlot[str] = ParameterSlot(str, doc="A forest file, such as cells.forest.npz.")
    classifier = OutputSlot(value=Forest, doc="The forest in it.")

    def compute_value(self, slot: Any) -> Forest:
        return load_forest(self.path.value)


def check_classes(value: Any) -> str | None:
    """Say what is wrong with the classes of a parameter: names or a number of them; None if nothing is."""
    if isinstance(value, int):
        return None if 1 <= value <= 255 else "is no number of classes from 1 to 255"
    if isinstance(value, tuple):
        are_names = all(isinstance(name, str) for name in value) and 1 <= len(value) <= 255
        return None if are_names else "is no list of 1 to 255 names"
    return None


@dataclass(frozen=True)
class _Plan:
    #: Position of the channel axis of the features.
    channel: int
    #: Number of classes.
    classes: int


class OpPredict(Operator):
    """Ask a forest about each pixel of an image of features.

    Inputs
    ------
    features : InputSlot
        An image with one channel axis, a feature per channel, in the order the forest was trained with. It is
        compared as float32.
    classifier : ParameterSlot[Forest]
        Who is asked: a value, or a slot that computes one.
    classes : ParameterSlot
        Names of the classes, or their number, where the classifier is computed: so nothing has to be
        trained to know what the result looks like.
    mask : InputSlot, optional
        An image without channel axis; where it is 0 nothing is computed and all results are 0.
    dtype : ParameterSlot[str]
        Of the probabilities: ``"float32"`` from 0 to 1, or ``"uint8"``, which is 255 times that, rounded.

    Outputs
    -------
    probabilities : OutputSlot, float32 or uint8
        As ``features``, with a channel per class.
    labels : OutputSlot, uint8
        Without channel axis: the most probable class, from 1; of equals the first.
    uncertainty : OutputSlot, float32
        Without channel axis: 1 minus what the most probable class is ahead of the next; 0 is certain.

    Regions
    -------
    pull   a ROI needs the same ROI of the features, of the channels that the forest asks for.
    push   the same ROI, all classes.

    Memory
    ------
    The features of the region, up to 64 MiB, and its probabilities, besides what the features need.

    Raises
    ------
    SetupError
        If the classifier was trained with other features: names the first one that differs.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import ArrayMeta, Graph
    >>> leaf = np.array([1, 0], "u1")
    >>> forest = Forest([0.5, 0, 0], [0, 0, 0], [1, 0, 0], [0], leaf, ["dark", "bright"], ["grey"])
    >>> with Graph() as graph:
    ...     predict = OpPredict(graph=graph, classifier=forest)
    ...     predict.features.assign(np.array([[0.2, 0.7]], "f4"), axes="cx")
    ...     predict.labels.read().tolist(), predict.probabilities.meta.channel_names
    ([2, 1], ('dark', 'bright'))
    """

    features = InputSlot(doc="one feature per channel")
    mask = InputSlot(optional=True, doc="where it is 0 nothing is computed")
    classifier: ParameterSlot[Forest] = ParameterSlot(Forest, doc="the forest to ask")
    classes = ParameterSlot(
        int | tuple | None,
        default=None,
        check=check_classes,
        doc="names or number of the classes, for a classifier that is computed",
    )
    dtype = ParameterSlot(str, default="float32", choices=("float32", "uint8"), doc="of the probabilities")
    probabilities = OutputSlot(doc="a channel per class")
    labels = OutputSlot(doc="the most probable class, from 1")
    uncertainty = OutputSlot(doc="1 minus the lead of the most probable class")

    def setup_outputs(self) -> _Plan:
        meta = self.features.meta
        channels = meta.axes.of_kind("channel")
        if len(channels) != 1:
            raise SetupError(f"features ({meta}) need one channel axis, of which each channel is a feature.")
        channel = channels[0]
        names = self._class_names()
        if not self.classifier.is_computed:
            _check_fit(self.classifier.value, meta, len(names))
        shape = _without(meta.shape, channel)
        axes = Axes(_without(tuple(meta.axes), channel))
        if self.mask.ready:
            _check_mask(self.mask.meta, shape, axes)
        # What computing the features of a pixel takes at its peak, and its probabilities twice.
        features = (meta.ram_per_pixel or 2 * meta.dtype.itemsize + 8) * meta.shape[channel]
        ram = min(features, _MOST_BYTES) + 8.0 * len(names)
        block, largest = (
            None if b is None else _without(b, channel) for b in (meta.preferred_block, meta.max_block)
        )
        flat = ArrayMeta(
            shape,
            np.float32,
            axes,
            value_range=(0, 1),
            preferred_block=block,
            max_block=largest,
            ram_per_pixel=ram,
            extra=meta.extra,
        )
        is_bytes = self.dtype.value == "uint8"
        self.probabilities.meta = flat.replace(
            shape=_with(shape, channel, len(names)),
            axes=Axes(_with(tuple(axes), channel, Axis("c"))),
            dtype=self.dtype.value,
            value_range=(0, 255 if is_bytes else 1),
            preferred_block=None if block is None else _with(block, channel, len(names)),
            max_block=None if largest is None else _with(largest, channel, len(names)),
            ram_per_pixel=ram / len(names),
            channel_names=names,
        )
        self.uncertainty.meta = flat
        lowest = 0 if self.mask.ready else 1
        self.labels.meta = flat.replace(dtype=np.uint8, value_range=(lowest, len(names)), semantics="labels")
        return _Plan(channel, len(names))

    def _class_names(self) -> tuple[str, ...]:
        given = self.classes.value
        if given is None:
            if self.classifier.is_computed:
                raise SetupError(
                    "the classifier is computed when it is needed; say by classes=, names or a number, "
                    "how many classes it knows."
                )
            return self.classifier.value.class_names
        if isinstance(given, int):
            return tuple(f"class {n + 1}" for n in range(given))
        return tuple(map(str, given))

    def execute(self, slot: Any, roi: Roi, out: Array) -> None:
        plan = self.plan
        forest = self.classifier.value
        if self.classifier.is_computed:
            _check_fit(forest, self.features.meta, plan.classes)
        is_flat = slot is not self.probabilities
        box = roi if is_flat else _flat(roi, plan.channel)
        target = out[np.newaxis] if is_flat else np.moveaxis(out, plan.channel, 0)
        for part in _parts(box, max(1, _MOST_BYTES // (4 * forest.feature_count))):
            checkpoint()
            into = target[(slice(None), *part.relative_to(box).slicing)]
            self._predict(slot, forest, part, roi, into[0] if is_flat else into, plan)

    def _predict(self, slot: Any, forest: Forest, box: Roi, roi: Roi, out: Array, plan: _Plan) -> None:
        mask = None
        if self.mask.ready:
            mask = self.mask.read(box) != 0
            if not mask.any():
                out[...] = 0
                return
        votes = self._votes(forest, box, plan)
        if mask is not None:
            votes *= mask
        if slot is self.probabilities:
            votes = votes[roi.start[plan.channel] : roi.stop[plan.channel]]
            out[...] = as_bytes(votes) if out.dtype == np.uint8 else votes
        else:
            found = labels_of(votes) if slot is self.labels else uncertainty_of(votes)
            out[...] = found if mask is None else found * mask

    def _votes(self, forest: Forest, box: Roi, plan: _Plan) -> Array:
        """Return the probabilities of a box, classes first."""
        features = np.empty((forest.feature_count, *box.shape), np.float32)
        for start, stop in _runs(forest.used_features):
            region = Roi(_with(box.start, plan.channel, start), _with(box.stop, plan.channel, stop))
            if self.features.meta.dtype == np.float32:
                self.features.read(region, out=np.moveaxis(features[start:stop], 0, plan.channel))
            else:
                features[start:stop] = np.moveaxis(self.features.read(region), plan.channel, 0)
        votes = forest.predict(features.reshape(forest.feature_count, -1))
        return votes.reshape(plan.classes, *box.shape)

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        plan = self.plan
        box = _flat(roi, plan.channel) if slot is self.features else roi
        self.probabilities.mark_dirty(
            Roi(_with(box.start, plan.channel, 0), _with(box.stop, plan.channel, plan.classes))
        )
        self.labels.mark_dirty(box)
        self.uncertainty.mark_dirty(box)

    def propagate_change(self, slot: Any) -> None:
        if slot is self.dtype:
            self.probabilities.mark_dirty()
        else:
            super().propagate_change(slot)


def as_bytes(votes: Array) -> Array:
    """Return probabilities as numbers from 0 to 255."""
    return np.asarray(np.rint(votes * np.float32(255)), np.uint8)


def labels_of(votes: Array) -> Array:
    """Return the most probable class, from 1, of probabilities, classes first; of equals the first."""
    return np.asarray(votes.argmax(axis=0) + 1, np.uint8)


def uncertainty_of(votes: Array) -> Array:
    """Return 1 minus what the most probable class is ahead of the next; 0 where there is no other."""
    if len(votes) < 2:
        return np.zeros(votes.shape[1:], np.float32)
    second, first = np.partition(votes, -2, axis=0)[-2:]
    return np.asarray(1 - (first - second))


def _check_fit(forest: Forest, meta: ArrayMeta, classes: int) -> None:
    """Refuse a forest that was trained with other features, or knows another number of classes."""
    if forest.class_count != classes:
        raise SetupError(f"the classifier knows {forest.class_count} classes, not {classes}.")
    channels = meta.axis_length("c") if "c" in meta.axes else meta.shape[meta.axes.of_kind("channel")[0]]
    names = meta.channel_names or ("",) * channels
    for number, (trained, given) in enumerate(zip(forest.feature_names, names, strict=False)):
        if given and trained != given:
            raise SetupError(
                f"the classifier was trained with other features: number {number} is {trained!r} there and "
                f"{given!r} here."
            )
    if forest.feature_count != channels:
        raise SetupError(f"the classifier was trained with {forest.feature_count} features, not {channels}.")


def _check_mask(mask: ArrayMeta, shape: tuple[int, ...], axes: Axes) -> None:
    if mask.shape != shape or mask.axes.keys != axes.keys:
        raise ConnectError(f"the mask ({mask}) is no image of {dict(zip(axes.keys, shape, strict=True))}.")


def _flat(roi: Roi, channel: int) -> Roi:
    return Roi(_without(roi.start, channel), _without(roi.stop, channel))


def _without(values: Sequence[Any], position: int) -> tuple[Any, ...]:
    return (*values[:position], *values[position + 1 :])


def _with(values: Sequence[Any], position: int, value: Any) -> tuple[Any, ...]:
    return (*values[:position], value, *values[position:])


def _parts(roi: Roi, most: int) -> Iterator[Roi]:
    """Give boxes of at most so many pixels that fill a region: halves, along its longest axis."""
    if roi.size <= most or max(roi.shape, default=1) == 1:
        yield roi
        return
    axis = max(range(len(roi.shape)), key=roi.shape.__getitem__)
    middle = (roi.start[axis] + roi.stop[axis]) // 2
    for start, stop in ((roi.start[axis], middle), (middle, roi.stop[axis])):
        yield from _parts(
            Roi(
                (*roi.start[:axis], start, *roi.start[axis + 1 :]),
                (*roi.stop[:axis], stop, *roi.stop[axis + 1 :]),
            ),
            most,
        )


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Give ``(start, stop)`` of numbers that follow each other.

    Examples
    --------
    >>> list(_runs((0, 1, 4, 6, 7)))
    [(0, 2), (4, 5), (6, 8)]
    """
    start = 0
    for i in range(1, len(numbers) + 1):
        if i == len(numbers) or numbers[i] != numbers[i - 1] + 1:
            yield numbers[start], numbers[i - 1] + 1
            start = i
