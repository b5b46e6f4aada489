"""A look at a TIFF file's directories and texts before tifffile believes them.

A few bytes can claim a billion pages, or a directory that comes after itself; tifffile follows such claims
for minutes and gigabytes. This walks the chains of image file directories, those of smaller levels and of
EXIF data included, and compares what they claim with the size of the file.
"""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass
from xml.parsers import expat

from lazyflow_core.errors import FormatError
from lazyflow_ops_io._reader import PreadFile
from lazyflow_ops_io._tiff_pages import (
    DESCRIPTION,
    OTHERS,
    STRIP_OFFSETS,
    SUBIFDS,
    TILE_OFFSETS,
    Entry,
    Layout,
    PageList,
    long_of,
    read_at,
)

__all__ = ["Directories", "check_directories", "check_xml"]

_MOST_PAGES = 1_000_000

#: Deeper than any metadata is nested, and more than any has.
_MOST_DEEP, _MOST_ELEMENTS = 100, 5_000_000

_WIDTH, _LENGTH = 256, 257

#: How many times the bytes of the file all values of tags may have: some programs let pages share them.
_MOST_SHARED = 16


@dataclass(frozen=True, slots=True)
class Directories:
    """What a walk found: how many pages, these as far as they are alike, and descriptions that are XML."""

    pages: int
    alike: PageList
    descriptions: tuple[bytes, ...]


def check_directories(path: str, raw: PreadFile) -> Directories:
    """Look at all directories of a TIFF file.

    Raises
    ------
    FormatError
        If it is no TIFF file, its directories lie outside of it, form a loop or are no images, or tags claim
        more bytes than the file has.
    """
    size = raw.size
    layout = Layout(path, read_at(raw, 0, 16))
    alike = PageList(raw, layout)
    seen: set[int] = set()
    claimed = pages = 0
    descriptions: list[bytes] = []
    #: Places of directories that other directories name, and whether each is an image.
    todo: list[tuple[int, bool]] = []
    place, image, main = layout.first, True, True
    while place or todo:
        if not place:
            place, image = todo.pop()
            main = False
            continue
        if place in seen and not main:  # directories may share a smaller level
            place = 0
            continue
        if place in seen:
            raise FormatError(f"{path!r} is damaged: its page directories form a loop.")
        seen.add(place)
        if len(seen) > _MOST_PAGES:
            raise FormatError(f"{path!r} has more than {_MOST_PAGES} pages.")
        known = alike.known(place) if main else None
        if known is not None:
            directory, claims, texts = known
        else:
            directory = _directory(path, raw, layout, place, len(seen))
            entries = list(struct.iter_unpack(layout.entry, directory[: -layout.offset_bytes]))
            claims = _claims_of(path, size, layout, entries, len(seen))
            for entry in entries:
                if entry[0] == SUBIFDS:
                    todo += [(offset, True) for offset in _offsets(raw, layout, entry)]
                elif entry[0] in OTHERS:
                    todo += [(offset, False) for offset in _offsets(raw, layout, (*entry[:2], 1, entry[3]))]
            tags = {entry[0] for entry in entries}
            if image and not ({_WIDTH, _LENGTH} <= tags and (STRIP_OFFSETS in tags or TILE_OFFSETS in tags)):
                raise FormatError(
                    f"{path!r} is damaged: page {len(seen)} is no image, without width or pixels."
                )
            texts = [e for e in entries if e[0] == DESCRIPTION and long_of(e) > len(e[3])]
            if main:
                alike.add(place, entries, directory, claims)
        claimed += claims
        if claimed > _MOST_SHARED * size + 2**20:
            raise FormatError(
                f"{path!r} is damaged: tags up to page {len(seen)} claim {claimed} bytes, "
                "more than the file has."
            )
        for text in texts:
            description = read_at(raw, layout.place(text[3]), long_of(text))
            if b"<?xml" in description[:100] or b"<OME" in description[:1000]:
                descriptions.append(description)
        pages += main
        place = layout.place(directory[-layout.offset_bytes :]) if main else 0
    if not pages:
        raise FormatError(f"{path!r} is a TIFF file without pages.")
    return Directories(pages, alike, tuple(descriptions))


def _directory(path: str, raw: PreadFile, layout: Layout, place: int, number: int) -> bytes:
    """Return the entries of a directory, and where the next one is, as bytes."""
    counted = read_at(raw, place, layout.number_bytes)
    entries = struct.unpack(layout.number, counted)[0] if len(counted) == layout.number_bytes else 0
    begin, long = place + layout.number_bytes, entries * layout.entry_bytes + layout.offset_bytes
    if not entries or begin + long > raw.size:
        raise FormatError(f"{path!r} is truncated: page {number} is described beyond its end.")
    return raw.read(begin, long)


def _claims_of(path: str, size: int, layout: Layout, entries: list[Entry], number: int) -> int:
    """Return how many bytes the entries of a directory claim outside of it."""
    claims = 0
    for entry in entries:
        long = long_of(entry)
        if long <= layout.offset_bytes and entry[0] not in (SUBIFDS, *OTHERS):
            continue
        claims += long
        if long > size:
            raise FormatError(
                f"{path!r} is damaged: tag {entry[0]} of page {number} claims {entry[2]} values, "
                "more than the file has."
            )
    return claims


def _offsets(raw: PreadFile, layout: Layout, entry: Entry) -> list[int]:
    """Return the offsets that an entry holds, those that are 0 left out."""
    _, kind, count, value = entry
    letter = {4: "I", 13: "I", 16: "Q", 18: "Q"}.get(kind)
    if letter is None:
        return []
    form = f"{layout.order}{count}{letter}"
    if struct.calcsize(form) > len(value):
        value = read_at(raw, layout.place(value), struct.calcsize(form))
    if len(value) < struct.calcsize(form):
        return []
    return [n for n in struct.unpack_from(form, value) if n]


def check_xml(path: str, text: str | bytes) -> None:
    """Refuse XML that defines entities, which grow without bound or name files, and XML without end.

    Raises
    ------
    FormatError
        If it does, or is nested too deeply. XML that is merely wrong is left to who reads it.
    """
    deep = many = 0

    def begin(name: str, attributes: object) -> None:
        nonlocal deep, many
        deep, many = deep + 1, many + 1
        if deep > _MOST_DEEP or many > _MOST_ELEMENTS:
            raise FormatError(
                f"{path!r}: its XML is nested deeper than {_MOST_DEEP} or has too many elements."
            )

    def end(name: str) -> None:
        nonlocal deep
        deep -= 1

    def doctype(*declared: object) -> None:
        raise FormatError(f"{path!r}: its XML has a document type; such metadata is not read.")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.StartDoctypeDeclHandler = doctype
    with contextlib.suppress(expat.ExpatError):
        parser.Parse(text.rstrip(b"\0") if isinstance(text, bytes) else text, True)
