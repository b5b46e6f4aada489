"""A cache obeys the laws of operators, also where it has no memory."""

import pytest
from lazyflow_core.testing import Case, array, parametrize_with_checks

from lazyflow_ops_cache.block_cache import OpBlockCache

IMAGE = {"image": array((3, 13, 17), "zyx", "uint16", high=1000)}
CASES = [
    Case(OpBlockCache, IMAGE, {"block": (2, 5, 8)}, {"block": (1, 0, 3)}),
    Case(OpBlockCache, IMAGE, {}, {"block": (3, 4, 5)}, name="usual blocks"),
]


@parametrize_with_checks(CASES)
@pytest.mark.parametrize("budget_bytes", [10**9, 200, 0])
def test_a_cache_obeys_the_laws(case, check, budget, budget_bytes):
    budget(budget_bytes)
    check(case)
