"""Many files as one command's work: patterns, targets with ``{stem}``, and failures that stop nothing."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from lazyflow_core.foreign import contextmanager

from lazyflow_cli._failure import CommandError, ExitCode, one_line
from lazyflow_cli._report import Report
from lazyflow_cli._signals import Stopped

__all__ = ["CONVERT", "Counted", "each", "files_of", "source_table", "stem_of"]

#: What stands for the file in sentences about a pipeline that ``lazyflow convert`` has made.
CONVERT: Final = "lazyflow convert"

T = TypeVar("T")


def files_of(texts: Sequence[str]) -> list[str]:
    """Return paths as they were typed, and for each pattern what it finds, in alphabetical order.

    What exists under its name is no pattern, whatever is in it; nor is a table of the parameters of a reader.
    """
    found = []
    for text in texts:
        if text.lstrip().startswith("{") or os.path.lexists(text) or not glob.has_magic(text):
            found.append(text)
            continue
        matches = sorted(glob.glob(text, recursive=True))
        if not matches:
            raise CommandError(f"no file fits {text!r}.", ExitCode.MISTAKE)
        found += matches
    return list(dict.fromkeys(found))


def source_table(text: str) -> dict[str, Any]:
    """Return the parameters of a reader: a table as it is for ``--in``, or of the path alone."""
    from lazyflow_core.pipeline import read_table

    if not text.lstrip().startswith("{"):
        return {"path": text}
    table = read_table(text, repr(text))
    if not isinstance(table.get("path"), str):
        raise CommandError(f"{text!r}: the table has no path.", ExitCode.MISTAKE)
    return table


def stem_of(path: str) -> str:
    """Return the name of a file without its ending.

    Examples
    --------
    >>> stem_of("raw/a.b.tif"), stem_of("cells.ome.zarr/"), stem_of("x.nii.gz")
    ('a.b', 'cells', 'x')
    """
    name = Path(path.rstrip("/")).name
    stem, ending = os.path.splitext(name)
    if ending in (".gz", ".bz2", ".xz") or stem.endswith(".ome"):
        stem = os.path.splitext(stem)[0]
    return stem or name


def each(
    items: Sequence[T], name: Callable[[T], str], work: Callable[[int, T], None], fail_fast: bool
) -> None:
    """Do something for each of several; name those that fail at the end.

    Raises
    ------
    CommandError
        Of the one that failed, if it is the only one or failing is to stop at once; else what says how many
        did, with a line for each, and with their exit code if it is the same.
    """
    from lazyflow_cli.main import judge

    failed: list[tuple[str, str, int]] = []
    for number, item in enumerate(items):
        try:
            work(number, item)
        except (Stopped, KeyboardInterrupt, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if len(items) == 1 or fail_fast:
                raise
            message, code = judge(error)
            failed.append((name(item), one_line(message), code))
            click.echo(f"lazyflow: {name(item)} failed, going on: {one_line(message)}", err=True)
    if failed:
        codes = {code for *_, code in failed}
        code = codes.pop() if len(codes) == 1 else int(ExitCode.FAILED)
        failure = CommandError(f"{len(failed)} of {len(items)} files failed:", code)
        for path, message, _ in failed:
            failure.add_note(f"  {one_line(path)}: {message}")
        raise failure


class Counted(Report):
    """A report that says with everything which of how many files it is about."""

    def __init__(self, report: Report, number: int, total: int) -> None:
        self._report = report
        self._number, self._total = number, total
        self._prefix = f"[{number} of {total}] " if total > 1 else ""

    def say(self, event: str, text: str, **facts: Any) -> None:
        """Tell one thing."""
        self._report.say(event, self._prefix + text, **facts, file=self._number, files=self._total)

    @contextmanager
    def progress(self, label: str) -> Iterator[Any]:
        """Give a function that takes a `Progress`."""
        with self._report.progress(self._prefix + label) as update:
            yield update
