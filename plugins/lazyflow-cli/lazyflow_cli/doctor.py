"""``lazyflow doctor``: one look at an installation, short enough to paste into a report."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from lazyflow_cli._failure import ExitCode
from lazyflow_cli._text import columns, echo_json
from lazyflow_cli.main import traceback_option

if TYPE_CHECKING:
    from lazyflow_core.plugins import Check

__all__ = ["command"]


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Write JSON for programs.")
@click.pass_context
@traceback_option
def command(ctx: click.Context, as_json: bool) -> None:
    """Look at this installation and say what is missing or broken; exit code 1 if anything is."""
    from lazyflow_core import plugins

    of_plugins = plugins.default().doctor()  # first: it says how long their modules took to import
    checks = [*_ground(), *of_plugins]
    if as_json:
        entries = [{"name": c.name, "ok": c.ok, "detail": c.detail, "hint": c.hint} for c in checks]
        echo_json({"version": 1, "checks": entries})
    else:
        click.echo(columns([_row(check) for check in checks]))
        broken = sum(check.ok is False for check in checks)
        click.echo("All is well." if not broken else f"{broken} of {len(checks)} checks failed.")
    if any(check.ok is False for check in checks):
        ctx.exit(ExitCode.FAILED)


def _ground() -> Iterator[Check]:
    """Check what everything else stands on."""
    from lazyflow_core.plugins import Check, version_of

    yield Check("python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Check("processors", True, f"{cpus} usable")
    for name in ("lazyflow-core", "numpy", "greenlet", "pluggy"):
        version = version_of(name)
        if version is None:
            yield Check(
                name, False, "its version is not known: no metadata of it can be read", f"pip install {name}"
            )
        else:
            yield Check(name, True, version)
    yield from _operator_checks()


def _operator_checks() -> Iterator[Check]:
    """Check that ids are unambiguous and every operator can be imported."""
    from lazyflow_core import plugins
    from lazyflow_core.errors import OperatorConflictError, PluginError
    from lazyflow_core.plugins import Check

    manager = plugins.default()
    ids = sorted({spec.id for spec in manager.operators()})
    broken = 0
    for operator_id in ids:
        try:
            manager.get_operator(operator_id)
        except OperatorConflictError:
            broken += 1  # told by the core's own checks
        except PluginError as error:
            broken += 1
            yield Check(f"operator {operator_id}", False, " ".join(str(error).split()))
    yield Check("operators", not broken, f"{len(ids) - broken} of {len(ids)} can be imported")


def _row(check: Check) -> list[str]:
    mark = {
        True: click.style("ok", fg="green"),
        False: click.style("BROKEN", fg="red"),
        None: click.style("note", fg="yellow"),
    }[check.ok]
    hint = f"  ({check.hint})" if check.hint else ""
    return [mark, check.name, check.detail + hint]
