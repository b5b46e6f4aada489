"""The checks there are, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

__all__ = ["LEVEL", "LawCheck", "all_checks", "check"]

#: The level of this release. A check carries the level it arrived with, so that whoever states one is not
#: surprised by new checks when the core is upgraded.
LEVEL: Final = "0.1"


@dataclass(frozen=True)
class LawCheck:
    """One law, and how it is tried.

    Parameters
    ----------
    name
        What reports and `skip` call it.
    law
        One sentence that holds for every operator.
    function
        Called with a `Trial`; raises `CheckFailed` or `CheckSkipped`.
    needs
        Checks without which this one would report somebody else's fault.
    level
        The release it arrived with.
    reports_fail
        Whether an error that the graph reports instead of raising it breaks this law.
    """

    name: str
    law: str
    function: Callable[[Any], None]
    needs: tuple[str, ...]
    level: str
    reports_fail: bool = False


_MODULES: Final = ("setup", "pull", "push", "concurrency", "stopping", "lifetime")

_checks: dict[str, LawCheck] = {}


def check(
    *, needs: tuple[str, ...] = (), level: str = "0.1", reports_fail: bool = False
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register a function as a check; its name and the first line of its docstring are shown to authors."""

    def register(function: Callable[[Any], None]) -> Callable[[Any], None]:
        name = function.__name__
        law = (function.__doc__ or "").strip().splitlines()[0]
        _checks[name] = LawCheck(name, law, function, needs, level, reports_fail)
        return function

    return register


def all_checks(level: str = LEVEL) -> tuple[LawCheck, ...]:
    """Return the checks up to a level, those that others need first."""
    modules = [f"lazyflow_core.testing.checks.{name}" for name in _MODULES]
    for module in modules:
        import_module(module)  # registers its checks
    wanted = _numbers(level)
    in_order = sorted(_checks.values(), key=lambda c: modules.index(c.function.__module__))
    return tuple(c for c in in_order if _numbers(c.level) <= wanted)


def _numbers(level: str) -> tuple[int, ...]:
    return tuple(int(part) for part in level.split("."))
