"""``lazyflow readers``: which plugin opens a file, and why no other."""

from __future__ import annotations

import click

from lazyflow_cli._failure import ExitCode, Failure
from lazyflow_cli._text import columns, echo_json
from lazyflow_cli.main import traceback_option

__all__ = ["command"]


@click.group("readers")
def command() -> None:
    """Say which plugin opens a file, and why."""


@command.command("explain")
@click.argument("path", metavar="PATH")
@click.option("--json", "as_json", is_flag=True, help="Write JSON for programs.")
@traceback_option
def explain_command(path: str, as_json: bool) -> None:
    """Show each reader and how well it fits a file, the one that would be taken first."""
    from lazyflow_core import plugins
    from lazyflow_core.errors import StorageError

    try:
        verdicts = plugins.default().explain_reader(path)
    except StorageError as error:
        raise Failure(str(error), ExitCode.INPUT) from error
    if as_json:
        entries = [
            {"id": v.spec.id, "fits": bool(v.rank), "reason": v.reason, "target": v.spec.target}
            for v in verdicts
        ]
        echo_json({"version": 1, "path": path, "readers": entries})
    elif verdicts:
        taken = [bool(verdict.rank) and verdict is verdicts[0] for verdict in verdicts]
        rows = [
            [("→ " if first else "  ") + v.spec.id, "yes" if v.rank else "no", v.reason]
            for first, v in zip(taken, verdicts, strict=True)
        ]
        click.echo(columns(rows))
    if not verdicts or not verdicts[0].rank:
        raise Failure(f"nothing installed opens {path}.", ExitCode.INPUT)
