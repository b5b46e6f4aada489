"""A look at a TIFF file's directories before tifffile believes them.

A few bytes can claim a billion pages, or a directory that comes after itself; tifffile follows such claims
for minutes and gigabytes. This walks the chain of image file directories and compares what they claim with
the size of the file.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from lazyflow_core.errors import FormatError

__all__ = ["check_directories"]

_MOST_PAGES = 1_000_000

#: Bytes per value of the tag types of TIFF 6.0 and BigTIFF.
_TYPE_BYTES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8,
}  # fmt: skip


def check_directories(path: str, file: BinaryIO) -> int:
    """Return how many pages a TIFF file has.

    Raises
    ------
    FormatError
        If it is no TIFF file, its directories lie outside of it or form a loop, or a tag claims more bytes
        than the file has.
    """
    file.seek(0, 2)
    size = file.tell()
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    version = struct.unpack(f"{order}H", head[2:4])[0] if order and len(head) >= 8 else 0
    if version == 42:
        entry, number, offset_format, offset = f"{order}HHI4s", f"{order}H", f"{order}I", 4
    elif version == 43 and len(head) == 16:
        entry, number, offset_format, offset = f"{order}HHQ8s", f"{order}Q", f"{order}Q", 8
    else:
        raise FormatError(f"{path!r} is no TIFF file: it begins with {head[:4]!r}.")
    (place,) = struct.unpack_from(offset_format, head, offset)
    entry_bytes, number_bytes, offset_bytes = map(struct.calcsize, (entry, number, offset_format))
    seen: set[int] = set()
    while place:
        if place in seen:
            raise FormatError(f"{path!r} is damaged: its page directories form a loop.")
        seen.add(place)
        if len(seen) > _MOST_PAGES:
            raise FormatError(f"{path!r} has more than {_MOST_PAGES} pages.")
        file.seek(place)
        counted = file.read(number_bytes)
        entries = struct.unpack(number, counted)[0] if len(counted) == number_bytes else 0
        end = place + number_bytes + entries * entry_bytes + offset_bytes
        if not entries or end > size:
            raise FormatError(f"{path!r} is truncated: page {len(seen)} is described beyond its end.")
        directory = file.read(entries * entry_bytes + offset_bytes)
        for tag, kind, count, _ in struct.iter_unpack(entry, directory[: entries * entry_bytes]):
            if count * _TYPE_BYTES.get(kind, 1) > size:
                raise FormatError(
                    f"{path!r} is damaged: tag {tag} of page {len(seen)} claims {count} values, "
                    "more than the file has."
                )
        (place,) = struct.unpack(offset_format, directory[-offset_bytes:])
    if not seen:
        raise FormatError(f"{path!r} is a TIFF file without pages.")
    return len(seen)
