"""Plain text for terminals and pipes: aligned columns, quantities, paths."""

from __future__ import annotations

import json
import os
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import click

__all__ = [
    "columns",
    "echo_json",
    "hanging",
    "pixel_text",
    "shown_path",
    "speed_text",
    "time_text",
    "unit_symbol",
]

_SYMBOLS: Final = {
    "nanometer": "nm",
    "micrometer": "µm",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
    "second": "s",
}


def columns(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as lines with aligned columns; styled text counts by what is seen.

    Examples
    --------
    >>> print(columns([("io.read", "1.0"), ("a.b", "2.0")]))
    io.read  1.0
    a.b      2.0
    """
    table = [list(map(str, row)) for row in rows]
    widths = [max(len(click.unstyle(cell)) for cell in column) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [
            cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def hanging(rows: Iterable[Sequence[str]], width: int | None = None) -> str:
    """Return rows as lines with aligned columns, of which the last one is wrapped.

    Parameters
    ----------
    rows
        Unstyled texts.
    width
        Characters per line; default those of the terminal, or 100 where there is none.

    Examples
    --------
    >>> print(hanging([("sigma", "one for all axes, or one per axis"), ("in_2d", "no")], 30))
    sigma  one for all axes, or
           one per axis
    in_2d  no
    """
    width = width or shutil.get_terminal_size((100, 24)).columns
    table = [list(map(str, row)) for row in rows]
    heads = columns([row[:-1] for row in table]).split("\n") if table else []
    indent = max((len(head) for head in heads), default=0) + 2
    lines = []
    for head, row in zip(heads, table, strict=True):
        parts = textwrap.wrap(row[-1], max(20, width - indent), break_on_hyphens=False) or [""]
        lines += [f"{head:{indent}}{parts[0]}".rstrip(), *(" " * indent + part for part in parts[1:])]
    return "\n".join(lines)


def echo_json(data: Any) -> None:
    """Write data as JSON to the standard output."""
    click.echo(json.dumps(data, indent=2))


def time_text(seconds: float) -> str:
    """Return a duration as people read it.

    Examples
    --------
    >>> time_text(0.0312), time_text(7.26), time_text(3725)
    ('31 ms', '7.3 s', '1 h 02 min')
    """
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def speed_text(pixels: int, seconds: float) -> str:
    """Return how fast that is.

    Examples
    --------
    >>> speed_text(3_000_000, 2.0)
    '1.5 Mpixel/s'
    """
    return f"{pixels / max(seconds, 1e-9) / 1e6:.1f} Mpixel/s"


def unit_symbol(unit: str) -> str:
    """Return the symbol of a unit that OME-NGFF names; other units stay as they are.

    Examples
    --------
    >>> unit_symbol("micrometer"), unit_symbol("furlong")
    ('µm', 'furlong')
    """
    return _SYMBOLS.get(unit, unit)


def pixel_text(axes: Iterable[Any]) -> str:
    """Return the pixel size in words, with a unit each where they differ; empty where nobody knows it."""
    sizes = [axis for axis in axes if axis.kind == "space" and axis.resolution is not None]
    units = {axis.unit or "" for axis in sizes}
    if len(units) > 1:
        return " × ".join(f"{axis.resolution:g} {unit_symbol(axis.unit or '?')}" for axis in sizes)
    return f"{' × '.join(f'{axis.resolution:g}' for axis in sizes)} {unit_symbol(''.join(units))}".rstrip()


def shown_path(path: Path) -> str:
    """Return a path as short as it can be said from here."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # on another drive
        return str(path)
    return str(path) if relative.startswith("..") else relative
