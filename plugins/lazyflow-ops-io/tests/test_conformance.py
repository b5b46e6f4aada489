"""Reading a file obeys the laws of operators."""

from lazyflow_ops_io.conformance import CASES

from lazyflow_core.testing import parametrize_with_checks


@parametrize_with_checks(CASES)
def test_reading_obeys_the_laws_of_operators(case, check):
    check(case)
