"""Words for sentences about mistakes: near misses, lists of what is possible, safe names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["near_miss", "possible", "printable"]


def near_miss(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for a word that is almost a known one, else ``"."``.

    Examples
    --------
    >>> near_miss("sgima", ["image", "sigma"])
    "; did you mean 'sigma'?"
    >>> near_miss("tau", ["image", "sigma"])
    '.'
    """
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else "."


def possible(kind: str, names: Iterable[str]) -> str:
    """Return ``" Its parameters: a, b."``, the list of what could have been written instead.

    Examples
    --------
    >>> possible("Its outputs", ["output"]), possible("Its outputs", [])
    (' Its outputs: output.', ' Its outputs: none.')
    """
    return f" {kind}: {', '.join(names) or 'none'}."


def printable(text: str) -> str:
    r"""Return a text with its control characters escaped, so that a file name cannot rule the terminal.

    Examples
    --------
    >>> printable("a\x1b[31m\nb")
    'a\\x1b[31m\\nb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
