"""Several exports of one image, whose features are computed once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from lazyflow_core import Roi
from lazyflow_core.request import checkpoint

from lazyflow_ops_learning.forest import Forest
from lazyflow_ops_learning.prediction import as_bytes, labels_of, uncertainty_of

if TYPE_CHECKING:
    from lazyflow_core.storage import Writer

__all__ = ["Together", "sharing"]

Array = npt.NDArray[Any]

#: What follows from the probabilities of the classes, or is them.
_FROM_VOTES = ("probabilities", "segmentation", "uncertainty")


def sharing(exports: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return which exports are written in one go: the one that is computed, and those that follow from it.

    Examples
    --------
    >>> sharing(["segmentation", "labels", "probabilities", "uncertainty_1", "features_1"])
    [('probabilities', ['segmentation', 'probabilities']), ('labels', ['labels']), ('features_1', \
['uncertainty_1', 'features_1'])]
    """
    groups: dict[str, list[str]] = {}
    for name in exports:
        kind, _, stage = name.partition("_")
        shares = kind in (*_FROM_VOTES, "features") and stage in ("", "1")
        groups.setdefault(f"stage {stage}" if shares else name, []).append(name)
    return [(names[0] if len(names) == 1 else _computed(names), names) for names in groups.values()]


def _computed(names: Sequence[str]) -> str:
    _, line, stage = names[0].partition("_")
    is_wanted = any(name.startswith("features") for name in names)
    return ("features" if is_wanted else "probabilities") + line + stage


class Together:
    """A writer that makes several exports of blocks of one.

    Parameters
    ----------
    writers
        Of the exports, by their names.
    computed
        Name of the export whose blocks come in, the channel axis last and whole.
    channels
        How many channels it has.
    forest
        What is asked where these are features.
    """

    def __init__(self, writers: Mapping[str, Writer], computed: str, channels: int, forest: Forest) -> None:
        self._writers = writers
        self._forest = forest if computed.startswith("features") else None
        steps = zip(*(writer.step[:-1] for writer in writers.values()), strict=True)
        self.step = (*(math.lcm(*sides) for sides in steps), channels)

    def write(self, roi: Roi, data: Array) -> None:
        """Write what follows from one block."""
        votes = np.moveaxis(data, -1, 0) if self._forest is None else _votes(self._forest, data)
        for name, writer in self._writers.items():
            made = _made(name.partition("_")[0], votes, data, writer.meta.dtype)  # type: ignore[attr-defined]
            writer.write(Roi((*roi.start[:-1], 0), (*roi.stop[:-1], made.shape[-1])), made)

    def commit(self) -> int:
        """Commit each, and return the sum of their bytes."""
        return sum(writer.commit() for writer in self._writers.values())

    def abort(self) -> None:
        """Abort each that is not committed."""
        for writer in self._writers.values():
            writer.abort()


def _votes(forest: Forest, features: Array) -> Array:
    """Return the probabilities of a block, classes first; plane by plane, so that no second block is made."""
    votes = np.empty((forest.class_count, *features.shape[:-1]), np.float32)
    for plane, out in zip(features, np.moveaxis(votes, 1, 0), strict=True):
        checkpoint()
        columns = np.ascontiguousarray(np.moveaxis(plane, -1, 0), np.float32)
        out[...] = forest.predict(columns.reshape(len(columns), -1)).reshape(out.shape)
    return votes


def _made(kind: str, votes: Array, data: Array, dtype: np.dtype[Any]) -> Array:
    if kind == "features":
        return data
    if kind == "probabilities":
        return np.moveaxis(as_bytes(votes) if dtype == np.uint8 else votes, 0, -1)
    return (labels_of(votes) if kind == "segmentation" else uncertainty_of(votes))[..., np.newaxis]
