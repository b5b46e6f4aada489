"""Decoding chunks, never to more bytes than they declare.

Each decoder takes the stored bytes and the number of bytes they must give, or at most give where what comes
out is packed once more. A chunk that would give another number is refused without being unpacked: a few
kilobytes of gzip can hold gigabytes of zeros. What a chunk says of itself is compared with what is expected
before a library sees it, since not all of them do.
"""

from __future__ import annotations

import bz2
import contextlib
import lzma
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_zlib: Any = zlib
with contextlib.suppress(ImportError):  # a platform without its wheels
    # ISA-L unpacks gzip nearly twice as fast as zlib and packs it 10 to 20 times as fast, to the same format.
    from isal import isal_zlib

    _zlib = isal_zlib

__all__ = [
    "DECODERS",
    "Decoder",
    "blosc",
    "bunzip2",
    "check_fletcher32",
    "check_packed",
    "deflate",
    "gzip",
    "hdf5_bitshuffle",
    "hdf5_lz4",
    "inflate",
    "most_packed",
    "packbits",
    "unlzma",
    "unshuffle",
    "zstd",
]

#: Stored bytes, size of what they give, whether it may be less.
Decoder = Callable[[Any, int, bool], Any]

#: LZMA says in its head how much memory it takes to unpack; 65 MiB is the most that its presets make.
_LZMA_MEMORY = 96 * 2**20

#: What is handed to a stream at once where several may follow each other.
_PIECE = 2**16


def _bounded(size: int, data: Any, less: bool = False) -> Any:
    if len(data) != size and not (less and len(data) < size):
        more = "more than " if len(data) > size else ""
        raise ValueError(f"a chunk unpacks to {more}{min(len(data), size)} bytes, expected {size}")
    return data


def _says(codec: str, says: int, size: int, less: bool = False) -> int:
    """Return how many bytes a chunk says it holds, if it may."""
    if says != size and not (less and says < size):
        raise ValueError(f"a chunk of {codec} says it holds {says} bytes, expected {size}")
    return says


def most_packed(size: int) -> int:
    """Return how many bytes a chunk takes at most when it is packed, by whatever codec."""
    return 2 * size + 65536


def check_packed(count: int, size: int) -> int:
    """Return the bytes a packed chunk takes; raises ValueError if no codec could have needed so many."""
    if count > most_packed(size):
        raise ValueError(f"a chunk of {size} bytes takes {count} bytes")
    return count


def _streams(begin: Callable[[], Any], data: Any, size: int, less: bool) -> Any:
    """Unpack one stream after another, at most one byte more than expected."""
    stream: Any = begin()
    found = stream.decompress(data, size + 1)
    if len(found) < size and getattr(stream, "unused_data", None):
        # Several streams in a row, which gzip and bzip2 allow: in pieces, so that what is left over of one
        # stream is copied once, not once for each stream.
        whole, parts = 0, []
        stream, rest, view = begin(), b"", memoryview(data)
        while whole <= size and (rest or len(view)):
            if not rest:
                rest, view = bytes(view[:_PIECE]), view[_PIECE:]
            if stream.eof:
                stream = begin()
            found = stream.decompress(rest, size + 1 - whole)
            whole += len(found)
            parts.append(found)
            rest = stream.unused_data if stream.eof else getattr(stream, "unconsumed_tail", b"")
        found = b"".join(parts)
    _bounded(size, found, less)
    if not stream.eof:
        raise ValueError("a chunk ends before its checksum")
    return found


def inflate(data: Any, size: int, less: bool = False) -> Any:
    """Unpack zlib data."""
    return _bounded(size, _zlib.decompressobj().decompress(data, size + 1), less)


def gunzip(data: Any, size: int, less: bool = False) -> Any:
    """Unpack gzip data."""
    return _streams(lambda: _zlib.decompressobj(wbits=31), data, size, less)


def bunzip2(data: Any, size: int, less: bool = False) -> Any:
    """Unpack bzip2 data."""
    return _streams(bz2.BZ2Decompressor, data, size, less)


def unlzma(data: Any, size: int, less: bool = False) -> Any:
    """Unpack data of LZMA or xz."""
    return _streams(lambda: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY), data, size, less)


def zstd(data: Any, size: int, less: bool = False) -> Any:
    """Unpack one frame of Zstandard; one that does not say its size must have ``size`` exactly."""
    from numcodecs import zstd as codec

    says = _zstd_content(data)
    out = np.empty(size if says is None else _says("Zstandard", says, size, less), np.uint8)
    codec.decompress(data, out)  # refuses a frame without a size that does not fill `out`
    return out


def _zstd_content(data: Any) -> int | None:
    """Return how many bytes a frame says it holds, None if it does not (RFC 8878, 3.1.1.1)."""
    head = bytes(data[:18])
    if len(head) < 6 or head[:4] != b"\x28\xb5\x2f\xfd":
        raise ValueError("a chunk does not begin with a frame of Zstandard")
    single = head[4] >> 5 & 1
    count = (single, 2, 4, 8)[head[4] >> 6]
    at = 5 + (not single) + (0, 1, 2, 4)[head[4] & 3]
    if not count:
        return None
    return int.from_bytes(head[at : at + count], "little") + (256 if count == 2 else 0)


def blosc(data: Any, size: int, less: bool = False) -> Any:
    """Unpack a Blosc buffer."""
    from numcodecs import blosc as codec

    # Header: type size at 3, unpacked, block and packed bytes from 4, 8 and 12 (c-blosc README_HEADER).
    if len(data) < 16:
        raise ValueError(f"a chunk of Blosc has {len(data)} bytes, no whole header")
    says, _, packed = struct.unpack_from("<III", data, 4)
    out = np.empty(_says("Blosc", says, size, less), np.uint8)
    if packed > len(data) or not data[3]:
        raise ValueError(f"a chunk of Blosc says it takes {packed} bytes, it has {len(data)}")
    codec.decompress(data, out)
    return out


def _lz4(data: Any, size: int, less: bool = False) -> Any:
    """Unpack one block with its size before it, as numcodecs writes it."""
    from numcodecs import lz4

    if len(data) < 5:
        raise ValueError(f"a chunk of LZ4 has {len(data)} bytes")
    out = np.empty(_says("LZ4", int.from_bytes(data[:4], "little"), size, less), np.uint8)
    lz4.decompress(data, out)
    return out


#: Decoders of bytes to bytes by the name that both Zarr versions give them.
DECODERS: Final[Mapping[str, Decoder]] = {
    "zlib": inflate,
    "gzip": gunzip,
    "zstd": zstd,
    "blosc": blosc,
    "lz4": _lz4,
    "bz2": bunzip2,
    "lzma": unlzma,
}


# ------------------------------------------------------------------------------------------ filters of HDF5


def unshuffle(data: Any, itemsize: int) -> Any:
    """Undo HDF5's shuffle filter, which stores all first bytes, then all second bytes, and so on.

    Bytes at the end that are no whole element stay where they are.
    """
    if itemsize == 1:
        return data
    planes = np.frombuffer(data, np.uint8)
    whole = len(planes) // itemsize
    out = np.empty(len(planes), np.uint8)
    out[: whole * itemsize].reshape(whole, itemsize)[...] = (
        planes[: whole * itemsize].reshape(itemsize, whole).T
    )
    out[whole * itemsize :] = planes[whole * itemsize :]
    return out


def check_fletcher32(data: Any) -> Any:
    """Return the data before the checksum that HDF5's fletcher32 filter appends, if it is right."""
    from numcodecs.fletcher32 import Fletcher32

    if len(data) < 4:
        raise ValueError(f"a chunk of {len(data)} bytes has no checksum")
    return Fletcher32().decode(data)


def hdf5_lz4(data: Any, size: int, less: bool = False) -> Any:
    """Unpack HDF5's registered filter 32004: blocks of LZ4, each after its length, big-endian."""
    data = memoryview(data)
    says, block = _two(data, ">QI")
    size = _says("LZ4", says, size, less)
    return b"".join(_lz4_blocks(data[12:], size, max(1, min(block, size))))


def _lz4_blocks(data: memoryview, size: int, block: int) -> list[Any]:
    parts, at = [], 0
    for first in range(0, size, block):
        expected = min(block, size - first)
        packed, at = _next_block(data, at)
        if len(packed) == expected:  # a block that did not shrink is stored as it is
            parts.append(packed)
        else:
            parts.append(_lz4(struct.pack("<I", expected) + packed, expected))
    return parts


def _two(data: Any, layout: str) -> tuple[int, int]:
    if len(data) < struct.calcsize(layout):
        raise ValueError(f"a chunk has {len(data)} bytes, no whole header")
    first, second = struct.unpack_from(layout, data)
    return first, second


def _next_block(data: memoryview, at: int) -> tuple[memoryview, int]:
    """Return a block behind its length in four bytes, and where the next one is."""
    count = int.from_bytes(data[at : at + 4], "big")
    packed = data[at + 4 : at + 4 + count]
    if len(packed) != count or not count:
        raise ValueError(f"a block of {count} bytes lies beyond the end of its chunk")
    return packed, at + 4 + count


def hdf5_bitshuffle(data: Any, size: int, less: bool, itemsize: int, block: int, packing: int) -> Any:
    """Undo HDF5's registered filter 32008, which sorts bits by their place in an element, block by block.

    Parameters
    ----------
    data, size, less
        As for all.
    itemsize
        Bytes per element.
    block
        Elements per block, a multiple of 8; 0 for the filter's own choice.
    packing
        How each block is packed: 0 not at all, 2 LZ4, 3 Zstandard.

    Source
    ------
    The storage format in the README of github.com/kiyo-masui/bitshuffle.
    """
    data = memoryview(data)
    if packing:
        says, block_bytes = _two(data, ">QI")
        size = _says("bitshuffle", says, size, less)
        block, data = block_bytes // itemsize, data[12:]
    block = block or max(128, 8192 // itemsize // 8 * 8)
    if size % itemsize or block < 8 or block % 8:
        raise ValueError(f"bitshuffle of {size} bytes in blocks of {block} elements of {itemsize} bytes")
    unpack = {0: None, 2: lambda d, n: _lz4(struct.pack("<I", n) + d, n), 3: zstd}[packing]
    out = np.empty((size // itemsize, itemsize), np.uint8)
    whole = len(out) // 8 * 8  # up to seven elements at the end are stored as they are
    at = 0
    for first in range(0, whole, block):
        count = min(block, whole - first)
        if unpack is None:
            packed, at = data[at : at + count * itemsize], at + count * itemsize
        else:
            packed, at = _next_block(data, at)
            packed = unpack(packed, count * itemsize)
        planes = np.frombuffer(packed, np.uint8).reshape(itemsize * 8, count // 8)
        bits = np.unpackbits(planes, axis=1, bitorder="little")
        out[first : first + count] = np.packbits(bits.T, axis=1, bitorder="little")
    out[whole:].reshape(-1)[...] = np.frombuffer(data[at:], np.uint8)[: (len(out) - whole) * itemsize]
    return out.reshape(-1)


# ------------------------------------------------------------------------------------------------- and TIFF


def packbits(data: Any, size: int, less: bool = False) -> npt.NDArray[np.uint8]:
    """Unpack PackBits up to the size: runs of equal or different bytes (TIFF 6.0, section 9)."""
    out = np.empty(size, np.uint8)
    packed = np.frombuffer(data, np.uint8)
    at = done = 0
    while done < size and at < len(packed):
        n = int(packed[at])
        at += 1
        if n < 128:
            run = packed[at : at + n + 1][: size - done]
            at += n + 1
        elif n > 128:
            run = packed[at : at + 1].repeat(257 - n)[: size - done]
            at += 1
        else:
            continue
        out[done : done + len(run)] = run
        done += len(run)
    return _bounded(size, out[:done], less)  # type: ignore[no-any-return]  # it is what comes in


def deflate(data: Any) -> bytes:
    """Pack bytes as zlib data, fast rather than small."""
    result: bytes = _zlib.compress(data, 1)
    return result


def gzip(data: Any) -> bytes:
    """Pack bytes as gzip data, fast rather than small."""
    packer = _zlib.compressobj(1, _zlib.DEFLATED, 31)
    result: bytes = packer.compress(data) + packer.flush()
    return result
