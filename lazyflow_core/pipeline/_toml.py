"""TOML text to plain data and back, and the line at which each part of it stands.

The standard library reads TOML but neither writes it nor tells lines. Our shape is flat (tables, arrays of
tables, keys with values), so a scan for where they begin finds the lines, and a few lines of code write it.
"""

from __future__ import annotations

import json
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from lazyflow_core.errors import PipelineError
from lazyflow_core.words import printable, short

__all__ = ["Keys", "find_lines", "read_table", "read_toml", "write_toml"]

#: Keys from the root to a value; arrays of tables count from 0: ``("export", 1, "path")``.
Keys = tuple[str | int, ...]

_TABLE: Final = re.compile(r"(\[\[?)([^\[\]]+)\]")
_KEY: Final = re.compile(r"""((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART: Final = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
#: What may hide a bracket or the end of a line, and these. Tried from where the last one ended, so the time
#: is linear.
_TOKEN: Final = re.compile(
    r"""\"{3}(?:\\.|[^\\])*?"{3,5}|'{3}.*?'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|\#[^\n]*|[\[{]|[\]}]|\n""",
    re.DOTALL,
)
_QUOTED_BACKSLASH: Final = re.compile(r"\"([^\"'\\]*\\[^\"']*)\"")
#: As many digits as no number of 64 bits has, in a row.
_DIGITS: Final = re.compile(r"[0-9_]{1000,}")
_INTEGERS: Final = range(-(2**63), 2**64)

#: An inline table is no text of its own.
_BEFORE_TABLE: Final = "table = "

#: Longer lines are shown around the mistake.
_MOST_CHARACTERS: Final = 100


def read_toml(text: str, name: str) -> dict[str, Any]:
    """Return the data in a TOML text.

    Raises
    ------
    PipelineError
        Naming the line; a note shows it, with a caret under the mistake.
    """
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _mistake(error, text, name) from None
    keys = _too_large(data, ())
    if keys is not None:
        found = find_lines(text)
        line = next((found[keys[:end]] for end in range(len(keys), 0, -1) if keys[:end] in found), 1)
        raise PipelineError(f"{name}:{line}: {keys[-1]}: a number has no more than 64 bits.")
    return data


def read_table(text: str, where: str) -> dict[str, Any]:
    """Return the data of an inline table, ``{path = "a.h5"}``, of which ``where`` says who wrote it.

    Raises
    ------
    PipelineError
        If it is none; a note shows it, with a caret under the mistake.
    """
    try:
        data: dict[str, Any] = tomllib.loads(f"{_BEFORE_TABLE}{text}")["table"]
    except (ValueError, RecursionError) as error:
        raise _mistake(error, f"{_BEFORE_TABLE}{text}", where, is_table=True) from None
    if _too_large(data, ()) is not None:
        raise PipelineError(f"{where}: a number has no more than 64 bits.")
    return data


def _mistake(error: Exception, text: str, name: str, is_table: bool = False) -> PipelineError:
    """Return the error for a text that tomllib does not read, with its line and a caret as a note."""
    if isinstance(error, RecursionError):
        return PipelineError(f"{name}: not a pipeline: its values are nested too deeply.")
    lines = text.split("\n")
    if isinstance(error, tomllib.TOMLDecodeError):
        what, _, place = str(error).rpartition(" (at ")
        at = re.match(r"line (\d+), column (\d+)\)", place)
        line = int(at[1]) if at else len(text.splitlines())
        column = int(at[2]) if at else len(lines[line - 1]) + 1
        is_at_end, what = not at, what or str(error)
    else:  # Python reads no integer of more than some thousand digits
        digits = _DIGITS.search(text)
        start = digits.start() if digits else 0
        line, column = text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start)
        is_at_end, what = False, "A number has no more than 64 bits"
    source = lines[line - 1]
    path = _QUOTED_BACKSLASH.search(source)
    hint = f"; in double quotes a backslash begins an escape: write a path as '{path[1]}'" if path else ""
    if is_table:
        source, column = source.removeprefix(_BEFORE_TABLE), max(1, column - len(_BEFORE_TABLE))
    where = "end of the file" if is_at_end and not is_table else f"column {column}"
    kind = f"{name}: the table is no TOML" if is_table else f"{name}:{line}: not TOML"
    told = PipelineError(f"{kind}: {what} ({where}){hint}.")
    told.add_note(_with_caret(source.rstrip("\r"), column - 1))
    return told


def _with_caret(source: str, at: int) -> str:
    """Return a line and a second one with a caret under the character at an index."""
    start = max(0, at - _MOST_CHARACTERS // 2)
    shown_part, before = source[start : start + _MOST_CHARACTERS], source[start:at]
    width = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in printable(before))
    return f"  {printable(shown_part)}\n  {' ' * width}^"


def _too_large(value: Any, keys: Keys) -> Keys | None:
    """Return the keys that lead to an integer of more than 64 bits; None if there is none."""
    if isinstance(value, int):
        return None if value in _INTEGERS else keys
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    return next((found for key, v in items if (found := _too_large(v, (*keys, key))) is not None), None)


def find_lines(text: str) -> dict[Keys, int]:
    """Return the line number, from 1, of every table and key of a TOML text that is known to be valid.

    Examples
    --------
    >>> find_lines('[smooth]\\nsigma = 1.5\\n[[export]]\\nslot = "smooth.output"')
    {('smooth',): 1, ('smooth', 'sigma'): 2, ('export', 0): 3, ('export', 0, 'slot'): 4}
    """
    lines: dict[Keys, int] = {}
    table: Keys = ()
    arrays: dict[tuple[str, ...], int] = {}
    for number, line in _statements(text):
        if match := _TABLE.match(line):
            keys = _parts(match[2])
            if match[1] == "[[":
                arrays[keys] = arrays.get(keys, -1) + 1
                table = (*keys, arrays[keys])
            else:
                table = keys
            lines.setdefault(table, number)
            for end in range(1, len(keys)):  # [smooth.extra] begins [smooth], too
                lines.setdefault(keys[:end], number)
        elif match := _KEY.match(line):
            keys = _parts(match[1])
            for end in range(1, len(keys) + 1):
                lines.setdefault((*table, *keys[:end]), number)
    return lines


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Give number and text of the lines with which tables and keys begin: not inside a value."""
    depth, number, begin = 0, 1, 0
    for token in _TOKEN.finditer(text + "\n"):
        what = token[0]
        if what in "[{":
            depth += 1
        elif what in "]}":
            depth -= 1
        elif what == "\n" and depth == 0:
            if line := text[begin : token.start()].strip():
                yield number, line
            number += text.count("\n", begin, token.end())
            begin = token.end()


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part[1:-1] if part[0] in "\"'" else part for part in _PART.findall(dotted))


def write_toml(data: Mapping[str, Any]) -> str:
    """Return TOML text for tables of values and arrays of such tables.

    Raises
    ------
    PipelineError
        For a value that TOML cannot say, such as None.

    Examples
    --------
    >>> print(write_toml({"smooth": {"sigma": 1.5, "image": "volume.output"}}), end="")
    [smooth]
    sigma = 1.5
    image = "volume.output"
    """
    parts = []
    for name, content in data.items():
        tables = [(f"[{_key(name)}]", content)]
        if not isinstance(content, Mapping):
            tables = [(f"[[{_key(name)}]]", table) for table in content]
        for header, table in tables:
            pairs = [f"{_key(key)} = {_value(value)}\n" for key, value in table.items()]
            parts.append("".join([header, "\n", *pairs]))
    return "\n".join(parts)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _string(key)


def _string(text: str) -> str:
    # JSON's escapes are TOML's; JSON alone allows the DEL character to stand for itself.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(int(value))
        case float():
            return repr(float(value))  # "inf" and "nan" are TOML too
        case str():
            return _string(value)
        case list() | tuple():
            return "[" + ", ".join(map(_value, value)) + "]"
        case Mapping():
            return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + "}"
    raise PipelineError(
        f"TOML has no way to write {short(value)}; a pipeline holds numbers, texts, bools and lists."
    )
