"""Samples: pixels with a label and their features, which is what a classifier is trained with."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from lazyflow_core import (
    BlockGrid,
    InputSlot,
    Operator,
    OutputSlot,
    ParameterSlot,
    Roi,
    StaleBoxes,
)
from lazyflow_core.blocks import choose_block_shape
from lazyflow_core.errors import ResultError, SetupError
from lazyflow_core.request import RequestPool, checkpoint

__all__ = ["MOST_LABEL", "OpSamples", "Samples", "join_samples"]

Array = npt.NDArray[Any]
Key = tuple[int, ...]

#: Labels are bytes; 0 is none.
MOST_LABEL: Final = 255
#: Pixels of a block whose samples are kept together: a cube of 64, or a square of 512.
_BLOCK_PIXELS: Final = 64**3


@dataclass(frozen=True, eq=False, repr=False)
class Samples:
    """Pixels with a label and their features: a value, compared by content.

    Parameters
    ----------
    features
        float32 of shape (features, samples).
    labels
        uint8 of shape (samples,): the number of the class, from 1.
    image
        int32 of shape (samples,): which of several images a sample comes from.
    position
        int64 of shape (samples,): its place there, counted in the order of the axes without channels; see
        `numpy.unravel_index`.
    feature_names
        One per feature.
    """

    features: Array
    labels: Array
    image: Array
    position: Array
    feature_names: tuple[str, ...]

    def __post_init__(self) -> None:
        for array in (self.features, self.labels, self.image, self.position):
            array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def counts(self) -> Mapping[int, int]:
        """How many samples each class has that has any."""
        numbers, counts = np.unique(self.labels, return_counts=True)
        return dict(zip(numbers.tolist(), counts.tolist(), strict=True))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of features, labels and names, as hexadecimal digits: what a training depends on."""
        hashed = hashlib.sha256("\0".join(self.feature_names).encode())
        for array in (self.features, self.labels):
            hashed.update(f"{array.shape}".encode())
            hashed.update(np.ascontiguousarray(array).data)
        return hashed.hexdigest()

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Samples) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} of class {number}" for number, count in self.counts.items())
        return f"<Samples with {len(self.features)} features: {counts or 'none'}>"


def join_samples(parts: Sequence[Samples]) -> Samples:
    """Return the samples of several images, numbered in this order.

    Raises
    ------
    ResultError
        If they have other features: names the first one that differs.
    """
    first = parts[0]
    for number, part in enumerate(parts):
        pairs = enumerate(zip(first.feature_names, part.feature_names, strict=False))
        differs = next((f"number {n} is {a!r} and {b!r}" for n, (a, b) in pairs if a != b), None)
        if differs is None and len(part.features) != len(first.features):
            differs = f"{len(first.features)} are not {len(part.features)}"
        if differs is not None:
            raise ResultError(f"images 0 and {number} have other features: {differs}.")
    return Samples(
        np.concatenate([part.features for part in parts], axis=1),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([np.full(len(part), number, np.int32) for number, part in enumerate(parts)]),
        np.concatenate([part.position for part in parts]),
        first.feature_names,
    )


@dataclass(frozen=True)
class _Plan:
    #: Position of the channel axis of the features.
    channel: int
    #: Positions of channel axes of the labels, of one channel each.
    label_channels: tuple[int, ...]
    #: The blocks whose samples are kept together, of the image without channels.
    grid: BlockGrid
    feature_names: tuple[str, ...]


@dataclass(frozen=True)
class _Gathered:
    """The samples of a block, and since which version they hold."""

    plan: _Plan
    #: Where labels were looked for; None if they went stale since.
    region: Roi | None
    #: Ascending.
    position: Array
    features: Array
    labels: Array
    features_since: int = field(default=0)
    labels_since: int = field(default=0)


class OpSamples(Operator):
    """Gather the labelled pixels of an image with their features.

    Features are asked for where there are labels only, and what was gathered is kept block by block: a
    stroke costs the features of the pixels that it has touched anew.

    Inputs
    ------
    features : InputSlot
        An image with one channel axis, a feature per channel; taken as float32.
    labels : InputSlot, whole numbers
        The same axes without the channel axis, or with one channel: 0 is no label, else the number of the
        class up to 255. Any image, or what somebody paints (``cache.labels``).
    boxes : ParameterSlot[tuple]
        Regions outside of which there are no labels, as ``cache.labels`` knows them; None for everywhere:
        then all labels are read once.

    Outputs
    -------
    samples : OutputSlot, a `Samples`
        In an order that depends on the labels only, not on how they came.

    Regions
    -------
    pull   labels in the boxes; features in the smallest boxes around labels, one per block of about 64³ (or
           512²) pixels, several at a time.
    push   what is stale in an input makes the value stale; only blocks that it touches are gathered again.

    Memory
    ------
    The samples, twice; while they are gathered, the features of as many boxes as there are workers.

    Threading
    ---------
    What is kept says since which version it holds, and is taken by who sees that one or a later one.

    Raises
    ------
    SetupError
        If features and labels do not fit, or the labels are no whole numbers.
    ResultError
        When the value is asked for, if there is a label that is negative or larger than 255.

    Examples
    --------
    >>> from lazyflow_core import Graph
    >>> with Graph() as graph:
    ...     op = OpSamples(graph=graph)
    ...     op.features.assign(np.arange(12, dtype="f4").reshape(2, 2, 3), axes="cyx")
    ...     op.labels.assign(np.array([[0, 2, 0], [1, 0, 0]]), axes="yx")
    ...     op.samples.value, op.samples.value.features.tolist()
    (<Samples with 2 features: 1 of class 1, 1 of class 2>, [[1.0, 3.0], [7.0, 9.0]])
    """

    features = InputSlot(doc="one feature per channel")
    labels = InputSlot(doc="the number of the class, 0 for none")
    boxes = ParameterSlot(tuple | None, default=None, doc="regions that hold all labels; None for everywhere")
    samples = OutputSlot(value=Samples, doc="labelled pixels with their features")

    def __init__(self, **slots: Any) -> None:
        self._lock = threading.Lock()
        self._stale_features = StaleBoxes(self.graph)
        self._stale_labels = StaleBoxes(self.graph)
        #: What was gathered, by the position of the block in the grid. Guarded by the lock.
        self._kept: dict[Key, _Gathered] = {}
        super().__init__(**slots)

    def setup_outputs(self) -> _Plan:
        meta, labels = self.features.meta, self.labels.meta
        channels = meta.axes.of_kind("channel")
        if len(channels) != 1:
            raise SetupError(f"features ({meta}) need one channel axis, of which each channel is a feature.")
        if labels.dtype.kind not in "iub":
            raise SetupError(f"labels ({labels}) are whole numbers.")
        flat = [axis for axis in range(meta.ndim) if axis != channels[0]]
        shape, keys = tuple(meta.shape[axis] for axis in flat), [meta.axes[axis].key for axis in flat]
        singles = labels.axes.of_kind("channel")
        rest = [axis for axis in range(labels.ndim) if axis not in singles]
        if (
            tuple(labels.shape[axis] for axis in rest) != shape
            or [labels.axes[axis].key for axis in rest] != keys
            or any(labels.shape[axis] != 1 for axis in singles)
        ):
            raise SetupError(f"labels ({labels}) are no image of {dict(zip(keys, shape, strict=True))}.")
        most = [
            1 if meta.axes[axis].kind == "time" else max(1, length)
            for axis, length in zip(flat, shape, strict=True)
        ]
        block = choose_block_shape(tuple(max(1, n) for n in shape), most_pixels=_BLOCK_PIXELS, most=most)
        count = meta.shape[channels[0]]
        names = meta.channel_names or tuple(f"feature {number}" for number in range(count))
        return _Plan(channels[0], tuple(singles), BlockGrid(shape, block), tuple(names))

    def compute_value(self, slot: Any) -> Samples:
        plan: _Plan = self.plan
        regions = self._regions(plan)
        with RequestPool[tuple[Key, _Gathered]](name="samples of blocks") as pool:
            found = dict(pool.map(lambda key: (key, self._gathered(plan, key, regions[key])), regions))
        with self._lock:
            self._kept = {key: block for key, block in self._kept.items() if key in regions}
        blocks = [found[key] for key in sorted(found)]
        count = len(plan.feature_names)
        labels = np.concatenate([np.zeros(0, np.uint8), *(block.labels for block in blocks)])
        return Samples(
            np.concatenate([np.zeros((count, 0), np.float32), *(block.features for block in blocks)], axis=1),
            labels,
            np.zeros(len(labels), np.int32),
            np.concatenate([np.zeros(0, np.int64), *(block.position for block in blocks)]),
            plan.feature_names,
        )

    def _regions(self, plan: _Plan) -> dict[Key, Roi]:
        """Return for each block that may have labels the smallest box that has them all."""
        given: tuple[Roi, ...] | None = self.boxes.value
        whole = Roi.from_shape(plan.grid.shape)
        regions: dict[Key, Roi] = {}
        for box in (whole,) if given is None else given:
            if box not in whole:
                raise ResultError(f"{self.name}: the box {box} of labels is outside of {plan.grid.shape}.")
            for key in plan.grid.indices(box):
                part = box & plan.grid.roi_of(key)
                regions[key] = part if key not in regions else _hull(regions[key], part)
        return regions

    def _gathered(self, plan: _Plan, key: Key, region: Roi) -> _Gathered:
        checkpoint()
        version = self.graph.version
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None and (kept.plan != plan or kept.features_since > version):
            kept = None
        if kept is not None and kept.region == region and kept.labels_since <= version:
            return kept
        position, labels = self._read_labels(plan, region)
        features = self._read_features(plan, position, kept)
        block = _Gathered(plan, region, position, features, labels)
        place = plan.grid.roi_of(key)
        # Under the lock of `propagate_dirty`: what went stale meanwhile is not kept.
        with self._lock:
            if self._stale_features.until(place) is None:
                self._kept[key] = replace(
                    block,
                    region=region if self._stale_labels.until(place) is None else None,
                    features_since=self._stale_features.since(place),
                    labels_since=self._stale_labels.since(place),
                )
        return block

    def _read_labels(self, plan: _Plan, region: Roi) -> tuple[Array, Array]:
        """Return the positions of the labels in a region, ascending, and the labels."""
        start, stop = list(region.start), list(region.stop)
        for axis in plan.label_channels:
            start.insert(axis, 0)
            stop.insert(axis, 1)
        labels = self.labels.read(Roi(start, stop)).reshape(region.shape)
        where = np.nonzero(labels)
        found = labels[where]
        if found.size and not 0 <= int(found.min()) <= int(found.max()) <= MOST_LABEL:
            worst = int(found.min()) if int(found.min()) < 0 else int(found.max())
            raise ResultError(
                f"{self.labels} has the label {worst} in {region}; classes are 1 to {MOST_LABEL}."
            )
        absolute = [index + first for index, first in zip(where, region.start, strict=True)]
        position = np.ravel_multi_index(absolute, plan.grid.shape).astype(np.int64)
        return position, found.astype(np.uint8)

    def _read_features(self, plan: _Plan, position: Array, kept: _Gathered | None) -> Array:
        """Return the features at positions: what is kept, and the others from the smallest box around."""
        features = np.empty((len(plan.feature_names), len(position)), np.float32)
        is_new = np.ones(len(position), bool)
        if kept is not None and len(kept.position):
            place = np.searchsorted(kept.position, position).clip(max=len(kept.position) - 1)
            is_new = kept.position[place] != position
            features[:, ~is_new] = kept.features[:, place[~is_new]]
        if is_new.any():
            where = np.unravel_index(position[is_new], plan.grid.shape)
            start = [int(index.min()) for index in where]
            stop = [int(index.max()) + 1 for index in where]
            inside: tuple[Any, ...] = tuple(a - first for a, first in zip(where, start, strict=True))
            start.insert(plan.channel, 0)
            stop.insert(plan.channel, len(features))
            read = np.moveaxis(self.features.read(Roi(start, stop)), plan.channel, 0)
            features[:, is_new] = read[(slice(None), *inside)]
        return features

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        plan: _Plan = self.plan
        channels = (plan.channel,) if slot is self.features else plan.label_channels
        flat = [axis for axis in range(roi.ndim) if axis not in channels]
        box = Roi([roi.start[axis] for axis in flat], [roi.stop[axis] for axis in flat])
        with self._lock:
            (self._stale_features if slot is self.features else self._stale_labels).add(box)
            for key, block in list(self._kept.items()):
                if block.plan != plan or block.plan.grid.roi_of(key).intersects(box):
                    if slot is self.features:
                        del self._kept[key]
                    else:
                        self._kept[key] = replace(block, region=None)
        self.samples.mark_dirty()


def _hull(one: Roi, other: Roi) -> Roi:
    return Roi(
        [min(a, b) for a, b in zip(one.start, other.start, strict=True)],
        [max(a, b) for a, b in zip(one.stop, other.stop, strict=True)],
    )
