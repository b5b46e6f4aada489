"""What `lazyflow run` tells while it works: for people at a terminal, for logs, for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click
from lazyflow_core.foreign import contextmanager

from lazyflow_cli._failure import one_line
from lazyflow_cli._text import speed_text

if TYPE_CHECKING:
    from lazyflow_core.utility import Progress

__all__ = ["JsonReport", "PlainReport", "QuietReport", "Report", "TerminalReport"]

#: Plain lines come when another tenth is done.
_TENTHS: Final = 10


class QuietReport:
    """Says nothing; the base of the others."""

    def say(self, event: str, text: str, **facts: Any) -> None:
        """Tell one thing: ``text`` to people, ``event`` and ``facts`` to programs."""

    @contextmanager
    def progress(self, label: str) -> Iterator[Any]:
        """Give a function that takes a `Progress`; ``label`` says of what."""
        yield lambda progress: None


Report = QuietReport


class JsonReport(QuietReport):
    """One JSON object per line on the standard output."""

    def say(self, event: str, text: str, **facts: Any) -> None:
        """Write the facts."""
        click.echo(json.dumps({"event": event, **facts}))

    @contextmanager
    def progress(self, label: str) -> Iterator[Any]:
        """Write an object per tenth."""
        yield _per_tenth(
            lambda p: self.say(
                "progress",
                "",
                of=label,
                blocks=p.blocks,
                blocks_total=p.blocks_total,
                seconds=round(p.seconds, 3),
            )
        )


class PlainReport(QuietReport):
    """Lines: plan and progress on the standard error, results on the standard output."""

    def say(self, event: str, text: str, **facts: Any) -> None:
        """Write the text."""
        click.echo(one_line(text), err=event != "written")

    @contextmanager
    def progress(self, label: str) -> Iterator[Any]:
        """Write a line per tenth."""
        yield _per_tenth(
            lambda p: self.say("progress", f"{label}: {_percent(p)} %, block {p.blocks} of {p.blocks_total}")
        )


class TerminalReport(PlainReport):
    """The same lines, and a bar that moves."""

    @contextmanager
    def progress(self, label: str) -> Iterator[Any]:
        """Show a bar with speed and remaining time, and remove it at the end."""
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        with Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[speed]}", markup=False),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            transient=True,
        ) as bar:
            task = bar.add_task(one_line(label), total=None, speed="")

            def update(p: Progress) -> None:
                speed = speed_text(p.pixels, p.seconds) if p.pixels else ""
                bar.update(task, completed=p.pixels, total=p.pixels_total, speed=speed)

            yield update


def _percent(p: Progress) -> int:
    return 100 * p.blocks // max(1, p.blocks_total)


def _per_tenth(tell: Any) -> Any:
    """Return a function that passes a progress on where it enters another tenth."""
    last = 0

    def update(p: Progress) -> None:
        nonlocal last
        tenth = _TENTHS * p.blocks // max(1, p.blocks_total)
        if tenth > last:
            last = tenth
            tell(p)

    return update
