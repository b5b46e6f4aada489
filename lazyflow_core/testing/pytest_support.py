"""The checks as parametrized tests of pytest, and an option for its command line.

Imports pytest when it is used, and only then. The option is there for who names this module in
``pyproject.toml``::

    [tool.pytest.ini_options]
    addopts = ["-p", "lazyflow_core.testing.pytest_support"]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from lazyflow_core.testing.case import Case
from lazyflow_core.testing.kit import Session
from lazyflow_core.testing.registry import LEVEL
from lazyflow_core.testing.trial import CheckFailed

if TYPE_CHECKING:
    import pytest

__all__ = ["chosen_option", "parametrize_with_checks"]

#: The runs of pytest under way that know our options, the innermost last.
_runs: Final[list[pytest.Config]] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--lazyflow-examples``."""
    parser.getgroup("lazyflow").addoption(
        "--lazyflow-examples",
        type=int,
        metavar="N",
        help="how many regions each check of an operator tries; default what the tests say",
    )


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Remember what was chosen: a ``conftest.py`` may ask while it is imported."""
    _runs.append(early_config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Forget it."""
    _runs.remove(config)


def chosen_option(name: str) -> Any:
    """Return what the command line of pytest says, as soon as a ``conftest.py`` is imported.

    Parameters
    ----------
    name
        Of an option that a plugin adds, as pytest knows it: ``"lazyflow_examples"``. None where there is no
        such option, or no run of pytest that names this module.
    """
    return getattr(_runs[-1].known_args_namespace, name, None) if _runs else None


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
        As for `check_operator`. ``pytest --lazyflow-examples=N`` counts more than ``examples``.

    Examples
    --------
    ::

        @parametrize_with_checks([Case("acme.denoise", {"image": array((40, 31), "yx")})])
        def test_operators_obey_the_laws(case, check):
            check(case)
    """
    import pytest

    chosen = chosen_option("lazyflow_examples")
    examples = examples if chosen is None else chosen
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
