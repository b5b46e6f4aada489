"""Running the checks: all of one case, or one at a time, those first that others need."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lazyflow_core.foreign import contextmanager, sentence
from lazyflow_core.testing.case import Case
from lazyflow_core.testing.registry import LEVEL, LawCheck, all_checks
from lazyflow_core.testing.trial import NO_ARRAYS, CheckFailed, CheckSkipped, Trial

__all__ = ["CheckResult", "Session", "check_operator"]


@contextmanager
def _reports() -> Iterator[list[str]]:
    """Collect what the graph reports instead of raising, such as a propagate_dirty that failed."""
    found: list[str] = []

    def collect(record: logging.LogRecord) -> bool:
        if record.levelno < logging.ERROR:
            return True
        error = record.exc_info[1] if record.exc_info else None
        found.append(record.getMessage() + (f" {sentence(error)}" if error else ""))
        return False

    logger = logging.getLogger("lazyflow_core")
    logger.addFilter(collect)
    try:
        yield found
    finally:
        logger.removeFilter(collect)


@dataclass(frozen=True)
class CheckResult:
    """How one check of one case ended.

    Parameters
    ----------
    name
        The check.
    status
        ``"passed"``, ``"failed"``, ``"skipped"``; ``"expected"`` for a failure that was announced, and
        ``"unexpected"`` for a success of one that was to fail.
    detail
        What is wrong, or why it was skipped; if it passed, what else there is to say, usually nothing.
    seconds
        How long it took.
    seed
        With this seed it ends the same way.
    """

    name: str
    status: Literal["passed", "failed", "skipped", "expected", "unexpected"]
    detail: str
    seconds: float
    seed: int

    @property
    def ok(self) -> bool:
        """Whether nothing needs to be done."""
        return self.status in ("passed", "skipped", "expected")


class Session:
    """The results for one case so far: each check runs at most once, those it needs before it."""

    def __init__(self, case: Case, *, seed: int = 0, examples: int = 25, level: str = LEVEL) -> None:
        self.case = case
        self.checks = {c.name: c for c in all_checks(level)}
        unknown = sorted(case.skip.keys() - {c.name for c in all_checks()})
        if unknown:
            raise ValueError(f"no check {unknown[0]!r}; there are {', '.join(self.checks)}.")
        self._seed, self.examples = seed, examples
        self._trial: Trial | None = None
        self._results: dict[str, CheckResult] = {}

    def result(self, name: str) -> CheckResult:
        """Return how a check ended, running it and what it needs if that was not done yet."""
        if name not in self._results:
            self._results[name] = self._run(self.checks[name])
        return self._results[name]

    def _run(self, check: LawCheck) -> CheckResult:
        if check.name in self.case.skip:
            return self._ended(check, "skipped", self.case.skip[check.name])
        for needed in check.needs:
            before = self.result(needed)
            if before.status == "failed":
                return self._ended(check, "skipped", f"{needed} failed")
            if before.status == "skipped" and before.detail.endswith((" failed", NO_ARRAYS)):
                return self._ended(check, "skipped", before.detail)
        begin = time.perf_counter()
        wholes = None if self._trial is None else self._trial.__dict__.get("wholes")
        # A trial per check: its random numbers must not depend on which checks ran before.
        trial = self._trial = Trial(self.case, self._seed, self.examples)
        if wholes is not None:
            trial.__dict__["wholes"] = wholes
        try:
            with _reports() as reports:
                check.function(trial)
            if reports and check.reports_fail:
                return self._ended(check, "failed", reports[0], begin)
        except CheckSkipped as skipped:
            return self._ended(check, "skipped", str(skipped), begin)
        except CheckFailed as failed:
            return self._ended(check, "failed", str(failed), begin)
        except Exception as error:
            return self._ended(check, "failed", f"{sentence(error)}", begin)
        return self._ended(check, "passed", trial.remark, begin)

    def _ended(
        self,
        check: LawCheck,
        status: Literal["passed", "failed", "skipped"],
        detail: str,
        begin: float | None = None,
    ) -> CheckResult:
        seconds = 0.0 if begin is None else time.perf_counter() - begin
        return CheckResult(check.name, status, detail, seconds, self._seed)


def check_operator(
    case: Case,
    *,
    checks: Iterable[str] | None = None,
    expected_failed_checks: Mapping[str, str] | None = None,
    seed: int = 0,
    examples: int = 25,
    level: str = LEVEL,
) -> list[CheckResult]:
    """Try an operator against the laws; return how each check ended. Raises nothing for a broken law.

    Parameters
    ----------
    case
        The operator with inputs and parameters.
    checks
        Names of the checks wanted; default all.
    expected_failed_checks
        Checks that are known to fail, with the reason. One that passes nevertheless is reported.
    seed
        Decides all that is random.
    examples
        How many regions each check tries.
    level
        Only checks that came with this release of the core or an earlier one.

    Raises
    ------
    ValueError
        For a check that does not exist.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core.testing import Case, OpPassThrough, check_operator
    >>> results = check_operator(Case(OpPassThrough, {"image": np.eye(12)}))
    >>> {result.status for result in results}
    {'passed'}
    """
    session = Session(case, seed=seed, examples=examples, level=level)
    names: Sequence[str] = list(session.checks) if checks is None else list(checks)
    expected = dict(expected_failed_checks or {})
    for name in (*names, *expected):
        if name not in session.checks:
            raise ValueError(f"no check {name!r}; there are {', '.join(session.checks)}.")
    return [_judged(session.result(name), expected.get(name)) for name in names]


def _judged(result: CheckResult, expected: str | None) -> CheckResult:
    if expected is None or result.status == "skipped":
        return result
    if result.status == "failed":
        return CheckResult(result.name, "expected", expected, result.seconds, result.seed)
    detail = f"it passes, but was expected to fail: {expected}"
    return CheckResult(result.name, "unexpected", detail, result.seconds, result.seed)
