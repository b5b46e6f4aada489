"""Strips and tiles of TIFF as arrays: which compressions there are, each unpacked within bounds.

What packs bytes is undone here, with the predictors and bits per sample that libtiff writes. What packs
images (JPEG and its kin) is undone by imagecodecs, if it is installed, after a look at the size that the
image declares.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import cache
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lazyflow_core.errors import FormatError
from lazyflow_ops_io._decode import Decoder, inflate, most_packed, packbits, unlzma, zstd
from lazyflow_ops_io._reader import native

__all__ = ["Decode", "decoder_of"]

#: Stored bytes, shape of the segment and of the largest one there is (depth, length, width, samples), its
#: number in the page.
Decode = Callable[[bytes, tuple[int, ...], tuple[int, ...], int], npt.NDArray[Any] | None]

_PLAIN, _HORIZONTAL, _FLOATING = 1, 2, 3


def _lzw(data: Any, size: int, _: bool) -> Any:
    return _imagecodecs().lzw_decode(data, out=size)  # ends there


#: What unpacks bytes, to at most the size given, by the number of the compression.
_BYTES: Final[Mapping[int, Decoder]] = {
    _PLAIN: lambda data, size, _: data[:size],
    5: _lzw,
    8: inflate,
    32946: inflate,
    50013: inflate,
    32773: packbits,
    34925: unlzma,
    34926: zstd,
    50000: zstd,
}

#: What packs images, by its name in imagecodecs.
_IMAGES: Final[Mapping[int, str]] = {
    2: "ccittrle", 3: "ccittfax3", 4: "ccittfax4", 6: "jpeg", 7: "jpeg", 33007: "jpeg", 34892: "jpeg",
    33003: "jpeg2k", 33004: "jpeg2k", 33005: "jpeg2k", 34712: "jpeg2k", 22610: "jpegxr", 34934: "jpegxr",
    34887: "lerc", 34927: "webp", 50001: "webp", 34933: "png", 50002: "jpegxl", 52546: "jpegxl",
}  # fmt: skip

_NAMES: Final[Mapping[int, str]] = {5: "LZW", **{k: n.upper() for k, n in _IMAGES.items()}}

#: Bits of each byte the other way round.
_MIRRORED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)), bitorder="little")


@cache
def _imagecodecs() -> Any:
    """Return imagecodecs, None if it is not installed."""
    try:
        import imagecodecs
    except ImportError:
        return None
    return imagecodecs


def decoder_of(path: str, page: Any, stored: np.dtype[Any]) -> Decode:
    """Return what decodes the segments of a page.

    Parameters
    ----------
    path
        The file, for errors.
    page
        tifffile's page.
    stored
        The dtype of its pixels, in the byte order of the file.

    Raises
    ------
    FormatError
        If its compression is not known here or needs what is not installed; or if its pixels have a number of
        bits, or a predictor, that cannot be read.
    """
    number = int(page.compression)
    if number not in _BYTES and number not in _IMAGES:
        raise FormatError(f"{path!r} is compressed by method {number}, which is not read here.")
    if number in _NAMES and _imagecodecs() is None:
        raise FormatError(
            f"{path!r} is compressed with {_NAMES[number]}, which needs imagecodecs: "
            "`pip install lazyflow-ops-io[codecs]`."
        )
    if number in _IMAGES:
        return _of_images(page, _IMAGES[number], stored)
    unpack = _BYTES[number]
    values, bits = _values_of(path, page, stored)
    if page.is_subsampled:
        raise FormatError(f"{path!r} has fewer pixels of colour than of brightness, which is not read here.")
    mirrored = page.fillorder == 2

    @cache  # there are two shapes, of whole segments and of the last of a page
    def bytes_of(shape: tuple[int, ...]) -> int:
        depth, length, width, samples = shape
        return depth * length * (-(-width * samples * bits // 8))

    def decode(
        data: bytes, shape: tuple[int, ...], largest: tuple[int, ...], number: int
    ) -> npt.NDArray[Any]:
        if mirrored:
            data = _MIRRORED[np.frombuffer(data, np.uint8)].tobytes()
        # The last strip of a page may be shorter than the others, or as long.
        needed = bytes_of(shape)
        most = bytes_of(largest)
        try:
            found = unpack(data, most, True)
        except RuntimeError:  # of Zstandard that does not say its size, which has to be right
            found = unpack(data, needed, True)
        if len(found) < needed:
            raise ValueError(f"a strip or tile has {len(found)} bytes, expected {needed}")
        return values(np.frombuffer(found, np.uint8)[:needed], shape)

    return decode


def _values_of(
    path: str, page: Any, stored: np.dtype[Any]
) -> tuple[Callable[[npt.NDArray[np.uint8], tuple[int, ...]], npt.NDArray[Any]], int]:
    """Return what makes pixels of unpacked bytes, and the bits per sample."""
    bits, predictor, kind = page.bitspersample, int(page.predictor), stored.kind
    if bits == 8 * stored.itemsize and page.sampleformat != 5:
        if predictor == _PLAIN:
            return lambda data, shape: data.view(stored).reshape(shape), bits
        if predictor == _HORIZONTAL and kind in "iu":
            return lambda data, shape: np.cumsum(
                data.view(stored).reshape(shape), axis=-2, dtype=native(stored)
            ), bits
        if predictor == _FLOATING and kind == "f":
            return lambda data, shape: _unpredict_floats(data, shape, stored), bits
    elif isinstance(bits, int) and 1 <= bits < 32 and kind in "ub" and predictor == _PLAIN:
        return lambda data, shape: _unpack_bits(data, shape, bits, stored), bits
    with_predictor = "" if predictor == _PLAIN else f" with predictor {predictor}"
    raise FormatError(
        f"{path!r} has pixels of {bits} bits of format {page.sampleformat}{with_predictor}, "
        "which are not read here."
    )


def _unpredict_floats(
    data: npt.NDArray[np.uint8], shape: tuple[int, ...], stored: np.dtype[Any]
) -> npt.NDArray[Any]:
    """Undo the floating point predictor: differences of bytes, the first bytes of all values of a row first.

    Source
    ------
    Adobe Photoshop TIFF Technical Note 3.
    """
    width, samples = shape[-2:]
    rows = data.reshape(-1, stored.itemsize * width, samples)
    planes = np.cumsum(rows, axis=1, dtype=np.uint8).reshape(-1, stored.itemsize, width * samples)
    return np.ascontiguousarray(planes.transpose(0, 2, 1)).view(stored.newbyteorder(">")).reshape(shape)


def _unpack_bits(
    data: npt.NDArray[np.uint8], shape: tuple[int, ...], bits: int, stored: np.dtype[Any]
) -> npt.NDArray[Any]:
    """Return values of a number of bits each, the highest first; every row begins with a new byte."""
    count = shape[-2] * shape[-1]
    rows = data.reshape(prod(shape[:-2]), -1)
    single = np.unpackbits(rows, axis=1, count=count * bits).reshape(-1, bits)
    out = np.zeros(len(single), np.uint32)
    for i in range(bits):
        out <<= 1
        out |= single[:, i]
    return out.astype(native(stored)).reshape(shape)


# --------------------------------------------------------------------------------------------------- images


def _of_images(page: Any, codec: str, stored: np.dtype[Any]) -> Decode:
    tables: dict[str, Any] = {}
    if codec == "jpeg":
        tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
    by_tifffile = page.decode
    itemsize = stored.itemsize

    def decode(
        data: bytes, shape: tuple[int, ...], largest: tuple[int, ...], number: int
    ) -> npt.NDArray[Any] | None:
        most = most_packed(prod(largest) * itemsize)
        look = {"jpeg": _look_at_jpeg, "jpeg2k": _look_at_jpeg2k}.get(codec)
        if look is not None:
            look(data, most)
        elif not codec.startswith("ccitt"):  # which gets the number of rows and columns
            return _into(codec, data, shape, native(stored))
        found, _, _ = by_tifffile(data, number, **tables)
        return None if found is None else np.asarray(found)

    return decode


def _into(codec: str, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Decode an image into an array of ours, whose shape these codecs compare with the image's before."""
    out = np.empty(shape, dtype)
    image = out[0, ..., 0] if shape[-1] == 1 else out[0]
    getattr(_imagecodecs(), f"{codec}_decode")(data, out=image)
    return out


def _look_at_jpeg(data: bytes, most: int) -> None:
    """Raise ValueError if a frame header of JPEG (ITU T.81, B.2.2) declares more than some bytes."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at += 1
            continue
        marker = data[at + 1]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD9:
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 10 <= len(data):
            precision, height, width, samples = struct.unpack_from(">BHHB", data, at + 4)
            _check_declared(height * width * samples * (1 if precision <= 8 else 2), most)
        if marker == 0xDA:  # the picture itself, in which no marker of a frame comes
            return
        at += 2 + length


def _look_at_jpeg2k(data: bytes, most: int) -> None:
    """Raise ValueError if a codestream of JPEG 2000 (ITU T.800, A.5.1) declares more than some bytes."""
    at = data.find(b"\xff\x4f\xff\x51")
    if at < 0 or at + 42 > len(data):
        raise ValueError("an image of JPEG 2000 has no header")
    width, height, left, top = struct.unpack_from(">IIII", data, at + 8)
    tile_width, tile_height = struct.unpack_from(">II", data, at + 24)
    (samples,) = struct.unpack_from(">H", data, at + 40)
    _check_declared(max(0, width - left) * max(0, height - top) * samples, most)
    tiles = -(-width // max(1, tile_width)) * -(-height // max(1, tile_height))
    _check_declared(tiles * 16, most)


def _check_declared(size: int, most: int) -> None:
    if size > most:
        raise ValueError(f"an image in a strip or tile declares {size} bytes, at most {most} can be")
