"""The checks as parametrized tests of pytest. Imports pytest when it is used, and only then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lazyflow_core.testing.case import Case
from lazyflow_core.testing.kit import Session
from lazyflow_core.testing.registry import LEVEL
from lazyflow_core.testing.trial import CheckFailed

__all__ = ["parametrize_with_checks"]


class _BoundCheck:
    """One check of one session, to be called with the case it belongs to."""

    def __init__(self, session: Session, name: str) -> None:
        self.session = session
        self.name = name

    def __call__(self, case: Case) -> None:
        """Run it; fail or skip the test that called."""
        import pytest

        session = self.session if case is self.session.case else Session(case)
        result = session.result(self.name)
        if result.status == "skipped":
            pytest.skip(result.detail)
        if result.status == "failed":
            law = session.checks[self.name].law
            raise CheckFailed(
                f"{case.name} breaks the law {self.name!r} (seed {result.seed}): {law}\n  {result.detail}"
            )

    def __repr__(self) -> str:
        return self.name


def parametrize_with_checks(
    cases: Iterable[Case],
    *,
    checks: Sequence[str] | None = None,
    expected_failed_checks: Callable[[Case], Mapping[str, str]] | None = None,
    seed: int = 0,
    examples: int = 25,
    level: str = LEVEL,
) -> Any:
    """Return a decorator that makes one test per case and check; the test calls ``check(case)``.

    Parameters
    ----------
    cases
        What to try.
    checks
        Names of the checks wanted; default all.
    expected_failed_checks
        Called with a case; returns which checks are known to fail on it, and why. These tests are marked
        as expected failures, strictly: one that passes is an error.
    seed, examples, level
        As for `check_operator`.

    Examples
    --------
    ::

        @parametrize_with_checks([Case("acme.denoise", {"image": array((40, 31), "yx")})])
        def test_operators_obey_the_laws(case, check):
            check(case)
    """
    import pytest

    parameters = []
    for case in cases:
        session = Session(case, seed=seed, examples=examples, level=level)
        known = dict(expected_failed_checks(case)) if expected_failed_checks else {}
        for name in checks if checks is not None else session.checks:
            marks = (
                [pytest.mark.xfail(reason=known[name], strict=True, raises=CheckFailed)]
                if name in known
                else []
            )
            parameters.append(
                pytest.param(case, _BoundCheck(session, name), id=f"{case.name}-{name}", marks=marks)
            )
    return pytest.mark.parametrize(("case", "check"), parameters)
