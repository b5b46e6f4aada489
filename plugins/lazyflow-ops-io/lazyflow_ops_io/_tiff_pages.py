"""Directories of TIFF pages: how they are written, and a list of pages that are all alike.

tifffile takes 60 µs for each page of a file, a quarter of a minute for a movie of 200 000, and looks at three
pages to find out whether all are alike. Here they are compared byte by byte, and where they differ in nothing
but where their pixels lie, these are listed and tifffile is shown the first page only.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from lazyflow_core.errors import FormatError
from lazyflow_ops_io._reader import PreadFile, PreadStream

__all__ = [
    "DESCRIPTION",
    "OTHERS",
    "STRIP_OFFSETS",
    "SUBIFDS",
    "TILE_OFFSETS",
    "Entry",
    "FirstPage",
    "Layout",
    "PageList",
    "long_of",
    "read_at",
]

DESCRIPTION, SUBIFDS = 270, 330

#: Tags that lead to directories which are no pages: EXIF, GPS, interoperability.
OTHERS: Final = (34665, 34853, 40965)
STRIP_OFFSETS, TILE_OFFSETS = 273, 324
_BYTE_COUNTS: Final = {STRIP_OFFSETS: 279, TILE_OFFSETS: 325}

#: Bytes per value of the tag types of TIFF 6.0 and BigTIFF.
_TYPE_BYTES: Final = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8,
}  # fmt: skip
_NUMBERS: Final = {3: "u2", 4: "u4", 16: "u8"}

#: Tags that decide how the pixels of a page are read. All others may differ from page to page: names, texts,
#: resolutions, extremes, page numbers, what programs keep for themselves.
_DECIDES: Final = frozenset(
    {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 332, 338,
     339, 347, *range(512, 533), 32995, 32996, 32997, 32998, 42113, 50674}
)  # fmt: skip

#: Longer values are not compared.
_MOST_COMPARED: Final = 2**16

#: For fewer pages it is not worth it, and tifffile has rules of its own for less than eight.
_LEAST_PAGES: Final = 16

#: An entry of a directory: tag, type, number of values, and these or where they are.
Entry = tuple[int, int, int, bytes]


class Layout:
    """How numbers are written in a file: classic or BigTIFF, in one of two orders.

    Parameters
    ----------
    path
        The file, for errors.
    head
        Its first 16 bytes.

    Raises
    ------
    FormatError
        If it is no TIFF file.
    """

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

    def place(self, value: bytes) -> int:
        """Return the offset that an entry holds, or the end of a directory."""
        return int(struct.unpack(self.offset, value)[0])


def long_of(entry: Entry) -> int:
    """Return how many bytes the values of an entry take."""
    return entry[2] * _TYPE_BYTES.get(entry[1], 1)


def read_at(raw: PreadFile, place: int, count: int) -> bytes:
    """Return bytes at a place, fewer or none where the file ends before."""
    if place >= raw.size:  # it may be larger than any file can be
        return b""
    return raw.read(place, min(count, raw.size - place))


class Known(NamedTuple):
    """What is known of a directory that is like one that was looked at."""

    directory: bytes
    #: Bytes that its tags claim outside of it.
    claims: int
    #: Its descriptions that are not in the directory itself.
    texts: list[Entry]


class PageList:
    """The pages of a file, and whether they are all alike.

    Parameters
    ----------
    raw
        The file.
    layout
        How it is written.
    """

    def __init__(self, raw: PreadFile, layout: Layout) -> None:
        self._raw, self._layout = raw, layout
        #: Whether all that is in `_DECIDES` is the same so far, except where pixels lie.
        self.are_alike = True
        self._pages = 0
        #: What all pages have in common.
        self._common: tuple[tuple[Any, ...], ...] = ()
        #: Type and number of the entries that say where pixels lie and how many bytes they take; and the
        #: values of these, page after page.
        self._kinds: list[tuple[int, int]] = []
        self._values = (bytearray(), bytearray())
        #: Where the first directory says where the second one is.
        self._first_end = 0
        #: The last directory that was looked at, as a number, as far as one that is like it has the same
        #: bytes; None if none can be.
        self._template: int | None = None
        self._mask = self._long = self._claims = 0
        #: Where in it are the values of the entries that say where pixels lie; of those whose values lie
        #: outside and have to be the same; and of descriptions that lie outside.
        self._places: list[int] = []
        self._outside: list[tuple[int, bytes]] = []
        self._texts: list[tuple[int, Entry]] = []

    def known(self, place: int) -> Known | None:
        """Return what is known of the next directory if it is like the last one, and note its pixels."""
        if self._template is None:
            return None
        data = read_at(self._raw, place, self._long)
        if len(data) != self._long or int.from_bytes(data, "little") & self._mask != self._template:
            return None
        width = self._layout.offset_bytes
        for at, expected in self._outside:
            if read_at(self._raw, self._layout.place(data[at : at + width]), len(expected)) != expected:
                return None
        self._pages += 1
        if self.are_alike:
            for values, at in zip(self._values, self._places, strict=True):
                values += data[at : at + width]
        texts = [(*entry[:3], data[at : at + width]) for at, entry in self._texts]
        return Known(data[self._layout.number_bytes :], self._claims, texts)

    def add(self, place: int, entries: list[Entry], directory: bytes, claims: int) -> None:
        """Note a directory that was looked at.

        Parameters
        ----------
        place
            Where it is.
        entries, directory
            What is in it, and as bytes, without the number of entries before.
        claims
            Bytes that its tags claim outside of it.
        """
        layout, width = self._layout, self._layout.offset_bytes
        tags = {entry[0]: i for i, entry in enumerate(entries)}
        pixels = STRIP_OFFSETS if STRIP_OFFSETS in tags else TILE_OFFSETS
        lists = (pixels, _BYTE_COUNTS[pixels])
        self._template, self._pages = None, self._pages + 1
        long_directory = layout.number_bytes + len(directory)
        if self._pages == 1:
            self._first_end = place + long_directory - width
        if (
            len(tags) != len(entries)
            or not tags.keys() >= set(lists)
            or not tags.keys().isdisjoint((SUBIFDS, STRIP_OFFSETS + TILE_OFFSETS - pixels))
            or any(entries[tags[tag]][1] not in _NUMBERS for tag in lists)
        ):
            self.are_alike = False
            return
        value_at = [layout.number_bytes + (i + 1) * layout.entry_bytes - width for i in range(len(entries))]
        same = bytearray(b"\xff" * long_directory)
        same[-width:] = bytes(width)  # where the next one is
        common: list[tuple[Any, ...]] = []
        self._outside = []
        for entry, at in zip(entries, value_at, strict=True):
            decides = entry[0] in _DECIDES
            long, content = long_of(entry), entry[3]
            if not decides or entry[0] in lists or long > width:
                same[at : at + width] = bytes(width)
            if not decides:
                continue
            if entry[0] in lists:
                content = b""
            elif long > width:
                content = read_at(self._raw, layout.place(content), min(long, _MOST_COMPARED + 1))
                if len(content) > _MOST_COMPARED:
                    self.are_alike = False
                    return
                self._outside.append((at, content))
            common.append((*entry[:3], content))
        kinds = [entries[tags[tag]][1:3] for tag in lists]
        if self._pages == 1:
            self._common, self._kinds = tuple(common), kinds
        self.are_alike = self.are_alike and self._common == tuple(common)
        self._places = [value_at[tags[tag]] for tag in lists]
        for values, tag in zip(self._values, lists, strict=True):
            values += entries[tags[tag]][3]
        if not tags.keys().isdisjoint(OTHERS):
            return  # what these lead to is looked at for each page
        self._mask = int.from_bytes(same, "little")
        whole = struct.pack(layout.number, len(entries)) + directory
        self._template = int.from_bytes(whole, "little") & self._mask
        self._long, self._claims = len(same), claims
        self._texts = [
            (at, entry)
            for at, entry in zip(value_at, entries, strict=True)
            if entry[0] == DESCRIPTION and long_of(entry) > width
        ]

    def first_page(self) -> FirstPage | None:
        """Return the file as if it had the first page only; None if it has few."""
        if self._pages < _LEAST_PAGES:
            return None
        return FirstPage(self._raw, self._first_end, self._layout.offset_bytes, self._pages)

    def pixels(self) -> npt.NDArray[np.uint64]:
        """Return offset and bytes of each strip or tile, an array of pages, strips or tiles, and these two.

        Raises
        ------
        EOFError
            If a list of them lies beyond the end of the file.
        ValueError
            If there are more places than numbers of bytes, or fewer.
        """
        if self._kinds[0][1] != self._kinds[1][1]:
            raise ValueError("the numbers of strips or tiles in its tags differ")
        lists = [
            self._numbers(kind, count, bytes(values))
            for (kind, count), values in zip(self._kinds, self._values, strict=True)
        ]
        return np.stack(lists, axis=-1)

    def _numbers(self, kind: int, count: int, values: bytes) -> npt.NDArray[np.uint64]:
        dtype = np.dtype(f"{self._layout.order}{_NUMBERS[kind]}")
        width = self._layout.offset_bytes
        long = count * dtype.itemsize
        if long <= width:
            inside = np.frombuffer(values, np.uint8).reshape(self._pages, width)[:, :long]
            return np.ascontiguousarray(inside).view(dtype).astype(np.uint64)
        out = np.empty((self._pages, count), np.uint64)
        for row, place in zip(
            out, np.frombuffer(values, f"{self._layout.order}u{width}").tolist(), strict=True
        ):
            row[:] = np.frombuffer(self._raw.read(place, long), dtype)
        return out


class FirstPage(PreadStream):
    """A file in which the first directory seems to be the last one.

    Parameters
    ----------
    raw
        The file.
    hidden, width
        Where the first directory says where the next one is, and the bytes of that.
    pages
        How many pages there are.
    """

    def __init__(self, raw: PreadFile, hidden: int, width: int, pages: int) -> None:
        super().__init__(raw)
        self._hidden, self._width, self.pages = hidden, width, pages

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer from the position."""
        place = self._position
        count = super().readinto(buffer)
        first, last = max(place, self._hidden), min(place + count, self._hidden + self._width)
        if first < last:
            memoryview(buffer).cast("B")[first - place : last - place] = bytes(last - first)
        return count
