"""Decoding chunks, never to more bytes than they declare.

Each decoder takes the stored bytes and the number of bytes they must give. A chunk that would give another
number is refused without being unpacked: a few kilobytes of gzip can hold gigabytes of zeros.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

_zlib: Any = zlib
with contextlib.suppress(ImportError):  # a platform without its wheels
    # ISA-L unpacks gzip nearly twice as fast as zlib and packs it 10 to 20 times as fast, to the same format.
    from isal import isal_zlib

    _zlib = isal_zlib

__all__ = ["DECODERS", "Decoder", "check_fletcher32", "check_packed", "deflate", "inflate", "unshuffle"]

Decoder = Callable[[Any, int], Any]


def _bounded(size: int, data: Any) -> Any:
    if len(data) != size:
        more = "more than " if len(data) > size else ""
        raise ValueError(f"a chunk unpacks to {more}{min(len(data), size)} bytes, expected {size}")
    return data


def check_packed(count: int, size: int) -> int:
    """Return the bytes a packed chunk takes; raises ValueError if no codec could have needed so many."""
    if count > 2 * size + 65536:
        raise ValueError(f"a chunk of {size} bytes takes {count} bytes")
    return count


def inflate(data: Any, size: int) -> Any:
    """Unpack zlib data."""
    return _bounded(size, _zlib.decompressobj().decompress(data, size + 1))


def gunzip(data: Any, size: int) -> Any:
    """Unpack gzip data."""
    return _bounded(size, _zlib.decompressobj(wbits=31).decompress(data, size + 1))


def _zstd(data: Any, size: int) -> Any:
    from numcodecs import zstd  # type: ignore[import-untyped]  # has no py.typed

    out = np.empty(size, np.uint8)
    zstd.decompress(data, out)  # refuses a frame of another size than out
    return out


def _blosc(data: Any, size: int) -> Any:
    from numcodecs import blosc

    # Bytes 4 to 8 of the header are the unpacked size (c-blosc README_HEADER).
    if len(data) < 16 or int.from_bytes(data[4:8], "little") != size:
        raise ValueError(f"a Blosc chunk does not declare the expected {size} bytes")
    out = np.empty(size, np.uint8)
    blosc.decompress(data, out)
    return out


#: Decoders by the name that both Zarr versions give them.
DECODERS: Final[Mapping[str, Decoder]] = {
    "zlib": inflate,
    "gzip": gunzip,
    "zstd": _zstd,
    "blosc": _blosc,
}


def unshuffle(data: Any, itemsize: int) -> Any:
    """Undo HDF5's shuffle filter, which stores all first bytes, then all second bytes, and so on."""
    if itemsize == 1:
        return data
    planes = np.frombuffer(data, np.uint8)
    whole = len(planes) // itemsize
    if whole * itemsize != len(planes):
        raise ValueError(f"a shuffled chunk of {len(planes)} bytes is no multiple of {itemsize}")
    return np.ascontiguousarray(planes.reshape(itemsize, whole).T).reshape(-1)


def check_fletcher32(data: Any) -> Any:
    """Return the data before the checksum that HDF5's fletcher32 filter appends, if it is right."""
    from numcodecs.fletcher32 import Fletcher32  # type: ignore[import-untyped]  # has no py.typed

    return Fletcher32().decode(data)


def deflate(data: Any) -> bytes:
    """Pack bytes as zlib data, fast rather than small."""
    result: bytes = _zlib.compress(data, 1)
    return result
