"""The operators of this distribution with inputs on which they are tried against the laws of operators.

Here and not in the tests, so that users can try them where they are installed: ``lazyflow operators check``.
"""

from __future__ import annotations

import numpy as np
from lazyflow_core import Graph
from lazyflow_core.testing import Case, array

from lazyflow_ops_cache.block_cache import OpBlockCache
from lazyflow_ops_cache.labels import OpLabels
from lazyflow_ops_cache.painted import Painted


def _painted(*strokes: tuple[slice, int]) -> Painted:
    labels = OpLabels(graph=Graph(), image=np.zeros(IMAGE["image"].pixels.shape))
    for rows, number in strokes:
        labels.image[:, rows, 2:11] = number
    return labels.painted.value


IMAGE = {"image": array((3, 13, 17), "zyx", "uint16", high=1000)}
CASES = [
    Case(OpBlockCache, IMAGE, {"block": (2, 5, 8)}, {"block": (1, 0, 3)}),
    Case(OpBlockCache, IMAGE, {}, {"block": (3, 4, 5)}, name="usual blocks"),
    Case(
        OpLabels,
        IMAGE,
        {"painted": _painted((slice(2, 5), 1), (slice(4, 9), 3))},
        {"painted": _painted((slice(3, 5), 2))},
        name="labels",
    ),
    Case(OpLabels, IMAGE, {}, {"eraser": 9}, name="no labels"),
]
