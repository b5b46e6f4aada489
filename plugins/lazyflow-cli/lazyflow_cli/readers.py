"""``lazyflow readers``: which plugin opens a file, why no other, and what is in it."""

from __future__ import annotations

from collections.abc import Sequence

import click

from lazyflow_cli._failure import CommandError, ExitCode, failing
from lazyflow_cli._text import columns, echo_json, pixel_text
from lazyflow_cli.main import traceback_option

__all__ = ["command"]


@click.group("readers")
def command() -> None:
    """Say which plugin opens a file and why, and what is in it."""


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
        raise CommandError(str(error), ExitCode.INPUT) from error
    if as_json:
        entries = [
            {
                "id": v.spec.id,
                "fits": bool(v.rank),
                "reason": v.reason,
                "target": v.spec.target,
                "origin": v.origin,
            }
            for v in verdicts
        ]
        echo_json({"version": 1, "path": path, "readers": entries})
    elif verdicts:
        taken = [bool(verdict.rank) and verdict is verdicts[0] for verdict in verdicts]
        rows = [
            [("→ " if first else "  ") + v.spec.id, "yes" if v.rank else "no", v.reason, v.origin]
            for first, v in zip(taken, verdicts, strict=True)
        ]
        click.echo(columns(rows))
    if not verdicts or not verdicts[0].rank:
        raise CommandError(f"nothing installed opens {path!r}.", ExitCode.INPUT)


@command.command("show")
@click.argument("path", metavar="PATH")
@click.option("--dataset", metavar="NAME", help="Which array in it, where there are several.")
@click.option(
    "--format", "format_", metavar="FORMAT", help="Which reader to take; default the one that fits best."
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON for programs.")
@traceback_option
def show_command(path: str, dataset: str | None, format_: str | None, as_json: bool) -> None:
    """Open a file and show what is known of its array, and which reader of which version opened it."""
    from lazyflow_core import plugins
    from lazyflow_core.errors import FormatError, StorageError
    from lazyflow_core.plugins.files import AXES_GUESSED, NOTES, READ_BY

    with failing(ExitCode.INPUT, FormatError, StorageError):
        reader = plugins.default().open_reader(path, dataset=dataset, format=format_)
    meta = reader.meta
    reader.close()
    facts = {
        "shape": list(meta.shape),
        "dtype": str(meta.dtype),
        "axes": [
            {"key": axis.key, "length": length, "resolution": axis.resolution, "unit": axis.unit}
            for axis, length in zip(meta.axes, meta.shape, strict=True)
        ],
        "value_range": meta.value_range,
        "preferred_block": meta.preferred_block,
        "channel_names": list(meta.channel_names),
        "read_by": meta.extra[READ_BY],
        "axes_guessed": bool(meta.extra.get(AXES_GUESSED)),
        "notes": list(meta.extra.get(NOTES, ())),
    }
    if as_json:
        echo_json({"version": 1, "path": path, **facts})
        return
    rows = [("array", str(meta)), ("pixels", pixel_text(meta.axes)), ("chunks", _sides(meta.preferred_block))]
    rows += [("values", _from_to(meta.value_range)), ("channels", ", ".join(meta.channel_names))]
    rows += [("read by", meta.extra[READ_BY])]
    if meta.extra.get(AXES_GUESSED):
        example = f'axes = "{meta.axes.keys}"'
        rows += [
            ("note", f"axes guessed: the file does not name them; a pipeline states them with {example}")
        ]
    rows += [("note", text) for text in meta.extra.get(NOTES, ())]
    click.echo(columns([row for row in rows if row[1]]))


def _sides(block: Sequence[int] | None) -> str:
    return " × ".join(map(str, block or ()))


def _from_to(values: Sequence[float] | None) -> str:
    return "" if values is None else f"{values[0]:g} to {values[1]:g}"
