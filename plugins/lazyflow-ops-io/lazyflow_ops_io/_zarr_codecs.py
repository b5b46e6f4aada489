"""The codecs of Zarr chunks: which there are, and undoing a chain of them within bounds.

The list of codecs is an allow-list. Names and numbers come out of a file, and a codec chosen by a file is
code chosen by a file: `pickle`, which Zarr 2 knows as a codec, runs whatever its chunks say. Everything that
a document says of its codecs is checked here, when the array is opened, and the size of what each of them
must give follows from the shape of the chunk.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyflow_core.errors import FormatError
from lazyflow_ops_io._border import check_declared, checked_dtype
from lazyflow_ops_io._decode import DECODERS, Decoder, check_fletcher32, check_packed, most_packed, unshuffle

__all__ = ["Chain", "Shard", "parse_2", "parse_3"]

_MOST_CODECS = 16
_MOST_SHARDS_IN_SHARDS = 4

#: Bytes of the list of chunks in one shard; 16 per chunk.
_MOST_INDEX_BYTES = 2**28

_MISSING = 2**64 - 1

#: It rounds when it packs and leaves nothing to undo.
_BITROUND = "numcodecs.bitround"

Undo = Callable[[Any], Any]


class Chain:
    """What undoes the codecs of one chunk.

    Parameters
    ----------
    shape, dtype
        The chunk, and its values as they are stored.
    undo
        In the order of decoding; the first takes the stored bytes, the last gives an array of ``shape``.
    shard
        The shard, if the chunk is nothing but one.
    plain
        Whether the stored bytes are the array itself, in C order.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        undo: Sequence[Undo],
        shard: Shard | None = None,
        plain: bool = False,
    ) -> None:
        self.shape, self.dtype, self.shard, self.plain = shape, dtype, shard, plain
        self._undo = tuple(undo)
        self.size = prod(shape) * dtype.itemsize

    def decode(self, data: Any) -> npt.NDArray[Any]:
        """Return the chunk; raises ValueError if it is not what it should be."""
        for undo in self._undo:
            data = undo(data)
        return data  # type: ignore[no-any-return]  # the last step makes it an array


class Shard:
    """A chunk of chunks with a list of where each lies (the codec ``sharding_indexed``)."""

    def __init__(
        self, shape: tuple[int, ...], inner: Chain, fill: Any, index: Undo, index_bytes: int, at_end: bool
    ) -> None:
        self.shape, self.inner, self.fill = shape, inner, fill
        self.counts = tuple(n // c for n, c in zip(shape, inner.shape, strict=True))
        self._index, self._at_end, self.index_bytes = index, at_end, index_bytes

    def places(self, read: Callable[[int, int], Any], size: int) -> npt.NDArray[np.uint64]:
        """Return offset and length of every chunk, an array of shape ``(*counts, 2)``.

        Parameters
        ----------
        read
            Gives bytes of the shard, by offset and count.
        size
            How many bytes the shard has.
        """
        if self.index_bytes > size:
            raise ValueError(f"a shard of {size} bytes has no room for the list of its chunks")
        stored = read(size - self.index_bytes if self._at_end else 0, self.index_bytes)
        return self._index(stored).reshape(*self.counts, 2)  # type: ignore[no-any-return]

    def chunk(
        self,
        places: npt.NDArray[np.uint64],
        index: tuple[int, ...],
        read: Callable[[int, int], Any],
        size: int,
    ) -> npt.NDArray[Any] | None:
        """Return one chunk of the shard, None if it was never written."""
        offset, count = map(int, places[index])
        if offset == _MISSING and count == _MISSING:
            return None
        if offset + count > size:
            raise ValueError(f"its chunk {index} lies beyond its end")
        return self.inner.decode(read(offset, check_packed(count, self.inner.size)))

    def decode(self, data: Any) -> npt.NDArray[Any]:
        """Return all of it."""
        view = memoryview(data)
        places = self.places(lambda offset, count: view[offset : offset + count], len(view))
        out = np.empty(self.shape, self.inner.dtype)
        for index in product(*map(range, self.counts)):
            found = self.chunk(places, index, lambda offset, count: view[offset : offset + count], len(view))
            there = tuple(slice(i * c, i * c + c) for i, c in zip(index, self.inner.shape, strict=True))
            out[there] = self.fill if found is None else found
        return out


# --------------------------------------------------------------------------------------------------- reading


def parse_2(
    path: str, compressor: Any, filters: Any, shape: tuple[int, ...], dtype: np.dtype[Any], order: str
) -> Chain:
    """Return the chain of a Zarr 2 array: filters in the order of encoding, then the compressor."""
    filters = [] if filters is None else filters
    if not isinstance(filters, list):
        raise FormatError(f"{path!r}: filters is {filters!r:.80}, expected a list.")
    codecs = [*filters, *([] if compressor is None else [compressor])]
    size = prod(shape) * dtype.itemsize
    steps = _BytesSteps(path, prod(shape), size, most_packed(size))
    for codec in _checked_list(path, codecs):
        name = codec.get("id")
        steps.add(name, codec)

    def to_array(data: Any) -> npt.NDArray[Any]:
        return _frombuffer(data, dtype, shape, order)

    return Chain(shape, dtype, [*steps.undo(), to_array], plain=not codecs and order == "C")


def parse_3(
    path: str, codecs: Any, shape: tuple[int, ...], dtype: np.dtype[Any], fill: Any, depth: int = 0
) -> Chain:
    """Return the chain of a Zarr 3 array, or of the chunks in a shard."""
    if not isinstance(codecs, list) or not codecs:
        raise FormatError(f"{path!r} has no list of codecs.")
    named = [
        (_name(path, c), _configuration(c)) for c in _checked_list(path, [_as_object(c) for c in codecs])
    ]
    undo: list[Undo] = []
    stored_shape, stored = shape, dtype
    while named and (name := named[0][0]) not in ("bytes", "sharding_indexed"):
        configuration = named.pop(0)[1]
        if name == "transpose":
            permutation = _permutation(path, configuration.get("order"), len(stored_shape))
            back = tuple(np.argsort(permutation).tolist())
            stored_shape = tuple(stored_shape[i] for i in permutation)
            undo.append(partial(np.transpose, axes=back))
        elif name != _BITROUND:
            elementwise = _elementwise(path, name, configuration)
            if elementwise is None:
                raise _unknown(path, name)
            decoded, stored_after, function = elementwise
            if decoded.itemsize != stored.itemsize:
                raise FormatError(f"{path!r}: the codec {name!r} gives {decoded}, expected {stored}.")
            undo.append(partial(_flat, function, stored_shape))
            stored = stored_after
    if not named:
        raise FormatError(f"{path!r} has no codec that makes bytes.")
    name, configuration = named.pop(0)
    shard = None
    if name == "bytes":
        stored = _in_order(path, stored, configuration.get("endian", "little"))
        if not undo:
            dtype = stored
        size = prod(stored_shape) * stored.itemsize
        steps = _BytesSteps(path, prod(stored_shape), size, most_packed(size))
        undo.append(lambda data: _frombuffer(data, stored, stored_shape, "C"))
    else:
        shard = _shard(path, configuration, stored_shape, stored, fill, depth)
        most = most_packed(prod(stored_shape) * stored.itemsize) + shard.index_bytes
        steps = _BytesSteps(path, prod(stored_shape), None, most)
        undo.append(shard.decode)
        if not undo[1:]:
            dtype = shard.inner.dtype
    alone = len(undo) == 1 and not named
    for name, configuration in named:
        steps.add(name, configuration)
    return Chain(
        shape, dtype, [*steps.undo(), *reversed(undo)], shard if alone else None, alone and not shard
    )


def _shard(
    path: str,
    configuration: Mapping[str, Any],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    fill: Any,
    depth: int,
) -> Shard:
    if depth >= _MOST_SHARDS_IN_SHARDS:
        raise FormatError(f"{path!r} has shards in shards, more than {_MOST_SHARDS_IN_SHARDS} deep.")
    chunks = configuration.get("chunk_shape")
    if (
        not isinstance(chunks, list)
        or len(chunks) != len(shape)
        or not all(type(c) is int and c > 0 and n % c == 0 for n, c in zip(shape, chunks, strict=True))
    ):
        raise FormatError(f"{path!r} declares shards of {shape} with chunks of {chunks!r:.80} in them.")
    check_declared(path, shape, dtype, chunks)
    at_end = configuration.get("index_location", "end")
    if at_end not in ("start", "end"):
        raise FormatError(f"{path!r}: the list of a shard is at {at_end!r}, expected 'start' or 'end'.")
    count = 2 * prod(n // c for n, c in zip(shape, chunks, strict=True))
    if 8 * count > _MOST_INDEX_BYTES:
        raise FormatError(f"{path!r} declares shards of {count // 2} chunks, more than can be read.")
    listed = configuration.get("index_codecs")
    names = [_name(path, c) for c in _checked_list(path, [_as_object(c) for c in listed])] if listed else []
    if names[:1] != ["bytes"] or names[1:] not in ([], ["crc32c"]):  # the only ones of one size for all
        raise FormatError(f"{path!r}: the list of a shard has the codecs {names!r:.80}.")
    index = parse_3(path, listed, (count,), np.dtype("uint64"), 0)
    inner = parse_3(path, configuration.get("codecs"), tuple(chunks), dtype, fill, depth + 1)
    return Shard(shape, inner, fill, index.decode, 8 * count + 4 * (len(names) - 1), at_end == "end")


class _BytesSteps:
    """Codecs from bytes to bytes, in the order of encoding, with the size before each.

    Parameters
    ----------
    path
        The file, for errors.
    count
        Values in a chunk.
    size, most
        Bytes of what the first codec takes, None where it depends on the chunk; and the most of any of them.
    """

    def __init__(self, path: str, count: int, size: int | None, most: int) -> None:
        self._path, self._count, self._size, self._most = path, count, size, most
        self._undo: list[Undo] = []

    def undo(self) -> list[Undo]:
        """Return what undoes them, in the order of decoding."""
        return self._undo[::-1]

    def add(self, name: Any, configuration: Mapping[str, Any]) -> None:
        """Add the next one.

        Raises
        ------
        FormatError
            If it is not on the list, or what it says does not fit.
        """
        short = name.removeprefix("numcodecs.") if isinstance(name, str) else ""
        size = self._size
        if short in DECODERS:
            self._undo.append(_unpacking(DECODERS[short], size, self._most))
            self._size = None
        elif short in _CHECKSUMS:
            at_start = configuration.get("location", "start" if short in ("crc32", "adler32") else "end")
            self._undo.append(partial(_taken_off, _CHECKSUMS[short], at_start == "start"))
            self._size = None if size is None else size + 4
        elif short == "shuffle":
            itemsize = configuration.get("elementsize", 4)
            if type(itemsize) is not int or not 1 <= itemsize <= 256:
                raise FormatError(f"{self._path!r}: shuffle has elementsize {itemsize!r:.80}.")
            self._undo.append(lambda data: unshuffle(data, itemsize))
        elif short == "packbits" and size == self._count:
            self._undo.append(partial(_unpackbits, count=size))
            self._size = 1 + -(-size // 8)
        elif short != _BITROUND.removeprefix("numcodecs."):
            found = _elementwise(self._path, name, configuration)
            if found is None:
                raise _unknown(self._path, name)
            decoded, stored, function = found
            if size != self._count * decoded.itemsize:
                raise FormatError(f"{self._path!r}: the codec {name!r} gives {decoded}, which does not fit.")
            expected = self._size = self._count * stored.itemsize
            self._undo.append(partial(_of_buffer, function, stored, expected))


def _unpacking(decode: Decoder, size: int | None, most: int) -> Undo:
    return lambda data: decode(data, most if size is None else size, size is None)


def _elementwise(
    path: str, name: Any, configuration: Mapping[str, Any]
) -> tuple[np.dtype[Any], np.dtype[Any], Undo] | None:
    """Return dtypes before and after one of numcodecs' codecs of values, and what undoes it; None if none."""
    short = name.removeprefix("numcodecs.") if isinstance(name, str) else ""
    if short == "astype":
        decoded = checked_dtype(path, configuration.get("decode_dtype"))
        stored = checked_dtype(path, configuration.get("encode_dtype"))
        return decoded, stored, lambda a: _contiguous(a, decoded)
    if short not in ("delta", "fixedscaleoffset", "quantize"):
        return None
    decoded = checked_dtype(path, configuration.get("dtype"))
    stored = checked_dtype(path, configuration.get("astype", configuration.get("dtype")))
    if short == "delta":
        return decoded, stored, lambda a: np.cumsum(a, dtype=decoded.newbyteorder("=")).astype(decoded)
    if short == "fixedscaleoffset":
        scale, offset = (configuration.get(key) for key in ("scale", "offset"))
        if not all(isinstance(n, int | float) for n in (scale, offset)) or not scale:
            raise FormatError(f"{path!r}: fixedscaleoffset has scale {scale!r:.80}, offset {offset!r:.80}.")
        return decoded, stored, lambda a: _contiguous(a / scale + offset, decoded)
    return decoded, stored, lambda a: _contiguous(a, decoded)


def _contiguous(a: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    with np.errstate(all="ignore"):  # a damaged number too large for the dtype is that of its file
        return np.ascontiguousarray(a.astype(dtype))


def _frombuffer(data: Any, dtype: np.dtype[Any], shape: tuple[int, ...], order: Any) -> npt.NDArray[Any]:
    view = memoryview(data)
    size = prod(shape) * dtype.itemsize
    if view.nbytes != size:
        raise ValueError(f"it has {view.nbytes} bytes, expected {size}")
    return np.frombuffer(view, dtype).reshape(shape, order=order)


def _flat(function: Undo, shape: tuple[int, ...], array: npt.NDArray[Any]) -> Any:
    """Undo a codec of values, which does not know shapes."""
    return function(array.reshape(-1)).reshape(shape)


def _of_buffer(function: Undo, dtype: np.dtype[Any], size: int, data: Any) -> Any:
    """Undo a codec of values on bytes, which are to be so many."""
    return function(_frombuffer(data, dtype, (size // dtype.itemsize,), "C"))


def _taken_off(checksum: Callable[[Any, bool], Any], at_start: bool, data: Any) -> Any:
    return checksum(data, at_start)


def _unpackbits(data: Any, count: int) -> npt.NDArray[np.uint8]:
    packed = np.frombuffer(data, np.uint8)
    if len(packed) != 1 + -(-count // 8):
        raise ValueError(f"it has {len(packed)} bytes, expected {count} bits")
    return np.unpackbits(packed[1:], count=count)


def _crc32c(data: Any) -> int:
    import google_crc32c

    return int(google_crc32c.value(bytes(data)))


def _checked(compute: Callable[[Any], int]) -> Callable[[Any, bool], Any]:
    def undo(data: Any, at_start: bool) -> Any:
        view = memoryview(data).cast("B")
        if len(view) < 4:
            raise ValueError(f"it has {len(view)} bytes, no checksum")
        stored, rest = (view[:4], view[4:]) if at_start else (view[-4:], view[:-4])
        if compute(rest) != int.from_bytes(stored, "little"):
            raise ValueError("its checksum is wrong")
        return rest

    return undo


#: What takes a checksum off, by name; the second argument says whether it comes first.
_CHECKSUMS: Mapping[str, Callable[[Any, bool], Any]] = {
    "crc32c": _checked(_crc32c),
    "crc32": _checked(zlib.crc32),
    "adler32": _checked(zlib.adler32),
    "fletcher32": lambda data, _: check_fletcher32(data),
}


# ----------------------------------------------------------------------------------------- what documents say


def _unknown(path: str, name: Any) -> FormatError:
    known = [*DECODERS, *_CHECKSUMS, "shuffle", "delta", "fixedscaleoffset", "astype", "quantize", "bitround",
             "packbits", "transpose", "sharding_indexed"]  # fmt: skip
    return FormatError(
        f"{path!r} is packed with the codec {name!r:.80}, which is not read here; "
        f"read are {', '.join(known)}."
    )


def _checked_list(path: str, codecs: Any) -> list[Mapping[str, Any]]:
    if (
        not isinstance(codecs, list)
        or len(codecs) > _MOST_CODECS
        or not all(isinstance(c, dict) for c in codecs)
    ):
        raise FormatError(f"{path!r} has the codecs {codecs!r:.80}, expected a list of objects.")
    return codecs


def _as_object(codec: Any) -> Any:
    return {"name": codec} if isinstance(codec, str) else codec


def _name(path: str, codec: Mapping[str, Any]) -> str:
    name = codec.get("name")
    if not isinstance(name, str):
        raise FormatError(f"{path!r} has a codec without a name.")
    return name


def _configuration(codec: Mapping[str, Any]) -> dict[str, Any]:
    found = codec.get("configuration")
    return found if isinstance(found, dict) else {}


def _in_order(path: str, dtype: np.dtype[Any], endian: Any) -> np.dtype[Any]:
    if endian not in ("little", "big"):
        raise FormatError(f"{path!r} has bytes in the order {endian!r:.80}, expected 'little' or 'big'.")
    return dtype.newbyteorder("<" if endian == "little" else ">")


def _permutation(path: str, order: Any, ndim: int) -> tuple[int, ...]:
    order = (
        {"C": [*range(ndim)], "F": [*range(ndim)][::-1]}.get(order, order)
        if isinstance(order, str)
        else order
    )
    if isinstance(order, list) and all(type(i) is int for i in order) and sorted(order) == [*range(ndim)]:
        return tuple(order)
    raise FormatError(f"{path!r} transposes {ndim} axes by {order!r:.80}.")
