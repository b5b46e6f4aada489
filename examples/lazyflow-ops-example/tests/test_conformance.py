"""What this distribution offers obeys the laws of lazyflow-core."""

from lazyflow_core.testing import check_plugin, parametrize_with_checks

from lazyflow_ops_example.conformance import CASES


@parametrize_with_checks(CASES)
def test_operators_obey_the_laws(case, check):
    check(case)


def test_the_plugin_is_light_and_what_it_names_exists():
    check_plugin("example")
