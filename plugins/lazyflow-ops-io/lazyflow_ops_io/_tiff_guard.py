"""A look at a TIFF file's directories and texts before tifffile believes them.

A few bytes can claim a billion pages, or a directory that comes after itself; tifffile follows such claims
for minutes and gigabytes. This walks the chains of image file directories, those of smaller levels and of
EXIF data included, and compares what they claim with the size of the file.
"""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass
from typing import BinaryIO
from xml.parsers import expat

from lazyflow_core.errors import FormatError

__all__ = ["Directories", "check_directories", "check_xml"]

_MOST_PAGES = 1_000_000

#: Deeper than any metadata is nested, and more than any has.
_MOST_DEEP, _MOST_ELEMENTS = 100, 5_000_000

#: Bytes per value of the tag types of TIFF 6.0 and BigTIFF.
_TYPE_BYTES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8,
}  # fmt: skip

_WIDTH, _LENGTH, _DESCRIPTION, _SUBIFDS = 256, 257, 270, 330
_STRIP_OFFSETS, _TILE_OFFSETS = 273, 324

#: Tags that lead to directories which are no pages: EXIF, GPS, interoperability.
_OTHERS = (34665, 34853, 40965)

#: How many times the bytes of the file all values of tags may have: some programs let pages share them.
_MOST_SHARED = 16


@dataclass(frozen=True, slots=True)
class Directories:
    """What a walk found: the number of pages, and the descriptions that are XML."""

    pages: int
    descriptions: tuple[bytes, ...]


class _Layout:
    """How numbers are written: classic or BigTIFF, in one of two orders."""

    def __init__(self, path: str, head: bytes) -> None:
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        version = struct.unpack(f"{order}H", head[2:4])[0] if order and len(head) >= 8 else 0
        self.order = order
        if version == 42:
            self.entry, self.number, self.offset, first = f"{order}HHI4s", f"{order}H", f"{order}I", 4
        elif version == 43 and len(head) == 16:
            self.entry, self.number, self.offset, first = f"{order}HHQ8s", f"{order}Q", f"{order}Q", 8
        else:
            raise FormatError(f"{path!r} is no TIFF file: it begins with {head[:4]!r}.")
        (self.first,) = struct.unpack_from(self.offset, head, first)
        self.entry_bytes, self.number_bytes, self.offset_bytes = map(
            struct.calcsize, (self.entry, self.number, self.offset)
        )


def check_directories(path: str, file: BinaryIO) -> Directories:
    """Look at all directories of a TIFF file.

    Raises
    ------
    FormatError
        If it is no TIFF file, its directories lie outside of it, form a loop or are no images, or tags claim
        more bytes than the file has.
    """
    file.seek(0, 2)
    size = file.tell()
    file.seek(0)
    layout = _Layout(path, file.read(16))
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
        counted = _read(file, size, place, layout.number_bytes)
        entries = struct.unpack(layout.number, counted)[0] if len(counted) == layout.number_bytes else 0
        end = place + layout.number_bytes + entries * layout.entry_bytes + layout.offset_bytes
        if not entries or end > size:
            raise FormatError(f"{path!r} is truncated: page {len(seen)} is described beyond its end.")
        directory = file.read(entries * layout.entry_bytes + layout.offset_bytes)
        tags = set()
        for tag, kind, count, value in struct.iter_unpack(
            layout.entry, directory[: entries * layout.entry_bytes]
        ):
            tags.add(tag)
            long = count * _TYPE_BYTES.get(kind, 1)
            if long <= len(value) and tag not in (_SUBIFDS, *_OTHERS):
                continue
            claimed += long
            if long > size or claimed > _MOST_SHARED * size + 2**20:
                raise FormatError(
                    f"{path!r} is damaged: tag {tag} of page {len(seen)} claims {count} values, "
                    "more than the file has."
                )
            if tag == _SUBIFDS:
                todo += [(offset, True) for offset in _offsets(file, size, layout, kind, count, value)]
            elif tag in _OTHERS:
                todo += [(offset, False) for offset in _offsets(file, size, layout, kind, 1, value)]
            elif tag == _DESCRIPTION:
                text = _read(file, size, struct.unpack(layout.offset, value)[0], long)
                if b"<?xml" in text[:100] or b"<OME" in text[:1000]:
                    descriptions.append(text)
        if image and not ({_WIDTH, _LENGTH} <= tags and (_STRIP_OFFSETS in tags or _TILE_OFFSETS in tags)):
            raise FormatError(f"{path!r} is damaged: page {len(seen)} is no image, without width or pixels.")
        pages += main
        (place,) = struct.unpack(layout.offset, directory[-layout.offset_bytes :]) if main else (0,)
    if not pages:
        raise FormatError(f"{path!r} is a TIFF file without pages.")
    return Directories(pages, tuple(descriptions))


def _read(file: BinaryIO, size: int, place: int, count: int) -> bytes:
    """Return bytes at a place, fewer or none where the file ends before."""
    if place >= size:  # it may be larger than any file can be
        return b""
    file.seek(place)
    return file.read(count)


def _offsets(file: BinaryIO, size: int, layout: _Layout, kind: int, count: int, value: bytes) -> list[int]:
    """Return the offsets that a tag holds, those that are 0 left out."""
    letter = {4: "I", 13: "I", 16: "Q", 18: "Q"}.get(kind)
    if letter is None:
        return []
    form = f"{layout.order}{count}{letter}"
    if struct.calcsize(form) > len(value):
        value = _read(file, size, struct.unpack(layout.offset, value)[0], struct.calcsize(form))
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
