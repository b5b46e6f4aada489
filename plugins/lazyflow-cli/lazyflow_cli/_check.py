"""``lazyflow operators check``: the conformance kit, on operators that are installed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

import click

from lazyflow_cli._failure import CommandError, ExitCode
from lazyflow_cli._text import columns, echo_json
from lazyflow_cli.main import traceback_option

if TYPE_CHECKING:
    from lazyflow_core.testing import Case, CheckResult

__all__ = ["check_command"]

_COLORS = {"passed": "green", "failed": "red", "skipped": "yellow"}


@click.command("check")
@click.argument("pattern", metavar="PATTERN")
@click.option("--check", "checks", multiple=True, metavar="CHECK", help="Only this check and what it needs.")
@click.option("--seed", default=0, show_default=True, help="Decides all that is random.")
@click.option("--examples", default=25, show_default=True, help="How many regions each check tries.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON for programs.")
@traceback_option
def check_command(pattern: str, checks: tuple[str, ...], seed: int, examples: int, as_json: bool) -> None:
    """Try operators against the laws of operators, e.g. 'filters.*'.

    They are tried on the cases that their authors ship, else on usual images with default parameters.
    """
    from lazyflow_core import plugins
    from lazyflow_core.testing import check_operator

    ids = sorted({s.id for s in plugins.default().operators(dynamic=True) if fnmatch(s.id, pattern)})
    if not ids:
        raise CommandError(
            f"no operator is called like {pattern!r}; see 'lazyflow operators list'.", ExitCode.MISTAKE
        )
    report: list[dict[str, Any]] = []
    failed = 0
    for id in ids:
        cases = list(_cases(id))
        if not cases and not as_json:
            click.echo(f"{id}: not tried; its authors ship no cases, and it wants more than usual images.")
        for case in cases:
            try:
                results = check_operator(case, checks=checks or None, seed=seed, examples=examples)
            except ValueError as error:
                raise CommandError(str(error), ExitCode.MISTAKE) from error
            failed += sum(not result.ok for result in results)
            report.append(
                {"operator": id, "case": case.name, "seed": seed, "checks": [_entry(r) for r in results]}
            )
            if not as_json:
                click.echo(click.style(case.name, bold=True))
                click.echo(columns([_row(result) for result in results]))
    if as_json:
        echo_json({"version": 1, "cases": report})
    if failed:
        again = "" if as_json else f"; try again with --seed {seed}"
        raise CommandError(
            f"{failed} {'law is' if failed == 1 else 'laws are'} broken{again}.", ExitCode.FAILED
        )
    if report and not as_json:
        click.echo(f"All laws hold in {len(report)} cases.")


def _cases(id: str) -> Iterator[Case]:
    """Give the cases that its authors ship; else two images with its default parameters, if it has them."""
    from lazyflow_core import plugins
    from lazyflow_core.errors import GraphError
    from lazyflow_core.graph import InputSlot, ParameterSlot
    from lazyflow_core.testing import Case, array
    from lazyflow_core.testing.trial import Trial

    manager = plugins.default()
    shipped = manager.conformance_cases(id)
    if shipped:
        yield from shipped
        return
    slots = manager.get_operator(id).declarations
    if any(isinstance(slot, ParameterSlot) and not slot.has_default for slot in slots.values()):
        return
    inputs = {name: slot for name, slot in slots.items() if isinstance(slot, InputSlot)}
    for sides, axes in (((30, 26), "yx"), ((13, 2, 12, 14), "xczy")):
        fitting = {
            name: array(sides, axes, slot.dtypes[0] if slot.dtypes else "float32", value_range=(0, 100))
            for name, slot in inputs.items()
            if slot.axes in (None, axes) and slot.ndim in (None, len(axes))
        }
        case = Case(id, fitting, tol=1e-5, name=f"{id} on {axes}")
        with contextlib.suppress(GraphError), Trial(case).bench() as bench:
            if len(fitting) == len(inputs) and bench.outputs:
                yield case


def _entry(result: CheckResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "status": result.status,
        "detail": result.detail,
        "seconds": round(result.seconds, 4),
    }


def _row(result: CheckResult) -> list[str]:
    status = click.style(result.status, fg=_COLORS.get(result.status))
    return [f"  {result.name}", status, " ".join(result.detail.split())]
