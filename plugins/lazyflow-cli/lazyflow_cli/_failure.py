"""How commands end when something is wrong: one sentence and an exit code that says whose turn it is."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from lazyflow_core.foreign import contextmanager
from lazyflow_core.words import printable

__all__ = ["ExitCode", "CommandError", "failing", "one_line", "table"]


class ExitCode(IntEnum):
    """What the process answers to whoever started it."""

    OK = 0
    FAILED = 1
    MISTAKE = 2  #: in the pipeline or on the command line, a missing input file included
    PLUGIN = 3
    INPUT = 4  #: cannot be read: truncated, of the wrong kind
    OUTPUT = 5  #: cannot be written: exists, read-only, disk full
    INTERRUPTED = 130
    TERMINATED = 143


class CommandError(Exception):
    """A command ends; ``str()`` is the sentence for the user."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def failing(code: ExitCode, *errors: type[Exception]) -> Iterator[None]:
    """Turn errors of these classes into a `CommandError` with that code."""
    try:
        yield
    except errors as error:
        raise CommandError(str(error), code) from error


def one_line(text: str) -> str:
    r"""Return a message as one line without control characters.

    Examples
    --------
    >>> one_line("no file 'a\x1b[2J'.\n  Look elsewhere.")
    "no file 'a\\x1b[2J'. Look elsewhere."
    """
    return printable(" ".join(part.strip() for part in text.splitlines()))


def table(text: str) -> str:
    """Return a message whose lines say who offers what, as lines, without other control characters."""
    return "\n".join(map(printable, text.split("\n")))
