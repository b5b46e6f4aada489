"""Units in the spellings of files, and the one each has here: OME-NGFF's name, such as ``"micrometer"``.

A unit that is not in the table is not known: nothing is made of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["is_pixel", "ome_symbol", "unit_name"]

_PREFIXES: Final = {
    "yotta": "Y", "zetta": "Z", "exa": "E", "peta": "P", "tera": "T", "giga": "G", "mega": "M", "kilo": "k",
    "hecto": "h", "deca": "da", "": "", "deci": "d", "centi": "c", "milli": "m", "micro": "µ", "nano": "n",
    "pico": "p", "femto": "f", "atto": "a", "zepto": "z", "yocto": "y",
}  # fmt: skip

#: Symbols of OME by names: UnitsLength and UnitsTime.
_LENGTHS: Final[Mapping[str, str]] = {
    **{f"{prefix}meter": f"{symbol}m" for prefix, symbol in _PREFIXES.items()},
    "angstrom": "Å", "thou": "thou", "line": "li", "inch": "in", "foot": "ft", "yard": "yd", "mile": "mi",
    "astronomical_unit": "ua", "light_year": "ly", "parsec": "pc", "point": "pt",
}  # fmt: skip
_TIMES: Final[Mapping[str, str]] = {
    **{f"{prefix}second": f"{symbol}s" for prefix, symbol in _PREFIXES.items()},
    "minute": "min", "hour": "h", "day": "d",
}  # fmt: skip

#: What else people and programs write. Symbols are told apart by their case, words are not.
_OTHERS: Final[Mapping[str, str]] = {
    "um": "micrometer", "us": "microsecond", "sec": "second", "secs": "second", "msec": "millisecond",
    "msecs": "millisecond", "usec": "microsecond", "µsec": "microsecond", "nsec": "nanosecond",
    "mins": "minute", "hr": "hour", "hrs": "hour", "inches": "inch", "feet": "foot", '"': "inch",
    "micron": "micrometer", "microns": "micrometer", "mu": "micrometer", "ångström": "angstrom",
    "ångströms": "angstrom", "a.u.": "astronomical_unit",
}  # fmt: skip

_OME: Final = {**_LENGTHS, **_TIMES}
_SYMBOLS: Final = {symbol: name for name, symbol in _OME.items()}
_WORDS: Final = {
    **_OTHERS,
    **{spelling: name for name in _OME for spelling in (name, f"{name}s")},
    **{
        spelling: f"{prefix}meter"
        for prefix in _PREFIXES
        for spelling in (f"{prefix}metre", f"{prefix}metres")
    },
}

#: Words for not knowing a size.
_PIXEL: Final = {"", "pixel", "pixels", "px", "voxel", "voxels", "frame", "frames", "slice", "slices"}

#: ImageJ writes what is not ASCII as it stands in Java sources.
_ESCAPE: Final = re.compile(r"\\u([0-9a-fA-F]{4})")


def _plain(text: str) -> str:
    text = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text).strip()
    # The letter mu and the sign micro, the letter A with a ring and the sign angstrom, look the same.
    return text.replace("\u03bc", "\u00b5").replace("\u212b", "\u00c5")


def unit_name(text: object) -> str | None:
    """Return the name of a unit of length or time in any usual spelling; None if it is not known.

    Examples
    --------
    >>> unit_name("\u03bcm"), unit_name("microns"), unit_name("msec"), unit_name("Mm"), unit_name("furlong")
    ('micrometer', 'micrometer', 'millisecond', 'megameter', None)
    """
    if not isinstance(text, str):
        return None
    plain = _plain(text)
    return _SYMBOLS.get(plain) or _WORDS.get(plain.lower())


def is_pixel(text: object) -> bool:
    """Whether a text in the place of a unit says that there is none."""
    return not isinstance(text, str) or _plain(text).lower() in _PIXEL


def ome_symbol(name: str | None, *, of_time: bool) -> str | None:
    """Return OME's symbol for a unit of time, or of length; None if it has none."""
    return (_TIMES if of_time else _LENGTHS).get(name or "")
