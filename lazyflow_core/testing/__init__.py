"""What operator authors test with: the laws of the framework as checks, and operators to test with.

A test file of a plugin::

    from lazyflow_core.testing import Case, array, check_plugin, parametrize_with_checks

    CASES = [Case("acme.denoise", {"image": array((40, 31), "yx")}, {"sigma": 1.5}, tol=1e-5)]

    @parametrize_with_checks(CASES)
    def test_operators_obey_the_laws(case, check):
        check(case)

    def test_the_plugin_is_well_formed():
        check_plugin("acme")

Needs nothing but numpy; pytest is imported by `parametrize_with_checks` and `lazyflow_core.testing.fixtures`,
hypothesis by `lazyflow_core.testing.strategies`. ``pip install lazyflow-core[testing]`` brings both.
"""

from lazyflow_core.testing.case import TAGS, Case, InputArray, array
from lazyflow_core.testing.kit import CheckResult, check_operator
from lazyflow_core.testing.operators import (
    OpArraySource,
    OpDistinctPixels,
    OpFailOnce,
    OpGate,
    OpPassThrough,
    OpRecorder,
)
from lazyflow_core.testing.plugin import check_plugin
from lazyflow_core.testing.pytest_support import parametrize_with_checks
from lazyflow_core.testing.registry import LEVEL, LawCheck, all_checks
from lazyflow_core.testing.trial import CheckFailed

__all__ = [
    "LEVEL",
    "TAGS",
    "Case",
    "LawCheck",
    "CheckFailed",
    "CheckResult",
    "InputArray",
    "OpArraySource",
    "OpDistinctPixels",
    "OpFailOnce",
    "OpGate",
    "OpPassThrough",
    "OpRecorder",
    "all_checks",
    "array",
    "check_operator",
    "check_plugin",
    "parametrize_with_checks",
]
