"""TOML text to plain data and back, and the line at which each part of it stands.

The standard library reads TOML but neither writes it nor tells lines. Our shape is flat (tables, arrays of
tables, keys with values), so a scan of line beginnings finds the lines, and a few lines of code write it.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any, Final

from lazyflow_core.errors import PipelineError

__all__ = ["Keys", "find_lines", "read_toml", "write_toml"]

#: Keys from the root to a value; arrays of tables count from 0: ``("export", 1, "path")``.
Keys = tuple[str | int, ...]

_TABLE: Final = re.compile(r"\s*(\[{1,2})\s*([^\[\]]+?)\s*\]{1,2}\s*(#.*)?$")
_KEY: Final = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART: Final = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def read_toml(text: str, name: str) -> dict[str, Any]:
    """Return the data in a TOML text; raises `PipelineError` naming the line of a syntax error."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, _, place = str(error).rpartition(" (at ")
        at = re.match(r"line (\d+), column (\d+)\)", place)
        line = at[1] if at else len(text.splitlines())
        column = f"column {at[2]}" if at else "end of the file"
        raise PipelineError(f"{name}:{line}: not TOML: {what or error} ({column}).") from None
    except RecursionError:
        raise PipelineError(f"{name}: not a pipeline: its values are nested too deeply.") from None


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
    inside = ""  # the quotes of the multi-line string we are in
    for number, line in enumerate(text.splitlines(), start=1):
        if inside:
            inside = "" if inside in line else inside
            continue
        if match := _TABLE.match(line):
            keys = _parts(match[2])
            if match[1] == "[[":
                arrays[keys] = arrays.get(keys, -1) + 1
                table = (*keys, arrays[keys])
            else:
                table = keys
            lines.setdefault(table, number)
        elif match := _KEY.match(line):
            keys = _parts(match[1])
            for end in range(1, len(keys) + 1):
                lines.setdefault((*table, *keys[:end]), number)
            value = line[match.end() :]
            for quotes in ('"""', "'''"):
                if value.count(quotes) % 2:
                    inside = quotes
    return lines


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


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
        f"TOML has no way to write {value!r}; a pipeline holds numbers, texts, bools and lists."
    )
