"""Every operator of this distribution obeys the laws of operators."""

from lazyflow_core.testing import parametrize_with_checks

from lazyflow_ops_learning.conformance import CASES


@parametrize_with_checks(CASES, examples=8)
def test_operators_obey_the_laws(case, check):
    check(case)
