"""A cache obeys the laws of operators, also where it has no memory."""

import pytest
from lazyflow_core.testing import parametrize_with_checks

from lazyflow_ops_cache.conformance import CASES


@parametrize_with_checks(CASES)
@pytest.mark.parametrize("budget_bytes", [10**9, 200, 0])
def test_a_cache_obeys_the_laws(case, check, budget, budget_bytes):
    budget(budget_bytes)
    check(case)
