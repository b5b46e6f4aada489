"""Words for sentences about mistakes: near misses, what is possible, names of others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["near_miss", "possible", "printable"]

#: Longer values are cut.
_MOST_CHARACTERS: Final = 200


def near_miss(
    word: str,
    known: Iterable[str],
    *,
    most: int = 1,
    shown: Mapping[str, str] | None = None,
    otherwise: str = ".",
) -> str:
    """Return ``"; did you mean 'x'?"`` for a word that is almost a known one, else ``"."``.

    Parameters
    ----------
    word
        What was given.
    known
        What could have been given.
    most
        How many suggestions there may be.
    shown
        How known words are written where they were compared in another spelling.
    otherwise
        What is returned where nothing is near.

    Examples
    --------
    >>> near_miss("sgima", ["image", "sigma"])
    "; did you mean 'sigma'?"
    >>> near_miss("tau", ["image", "sigma"])
    '.'
    >>> near_miss("acme-ops", ["acme-op"], shown={"acme-op": "Acme_Op"})
    "; did you mean 'Acme_Op'?"
    """
    from difflib import get_close_matches  # here: only mistakes need it

    close = [(shown or {}).get(one, one) for one in get_close_matches(word, list(known), n=most)]
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else otherwise


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
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def short(value: object) -> str:
    """Return how a value is written, cut where it is long; of one that cannot be written, its class.

    Examples
    --------
    >>> short([1, "a"]), len(short("x" * 1000))
    ("[1, 'a']", 200)
    >>> short(10**5000)  # Python refuses to write so many digits
    '<int>'
    """
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"
