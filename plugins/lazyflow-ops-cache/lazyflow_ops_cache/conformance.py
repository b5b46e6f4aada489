"""The operators of this distribution with inputs on which they are tried against the laws of operators.

Here and not in the tests, so that users can try them where they are installed: ``lazyflow operators check``.
"""

from __future__ import annotations

from lazyflow_core.testing import Case, array

from lazyflow_ops_cache.block_cache import OpBlockCache

IMAGE = {"image": array((3, 13, 17), "zyx", "uint16", high=1000)}
CASES = [
    Case(OpBlockCache, IMAGE, {"block": (2, 5, 8)}, {"block": (1, 0, 3)}),
    Case(OpBlockCache, IMAGE, {}, {"block": (3, 4, 5)}, name="usual blocks"),
]
