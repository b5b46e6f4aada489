"""The filters of HDF5 chunks: which there are, undoing them within bounds, and looking before HDF5 does.

What can be undone here is undone here. The rest is HDF5's, which believes what a chunk says of itself: its
filters unpack gzip without end, and read and allocate by numbers in the file. So whatever goes to HDF5 is
unpacked here as far as that is possible, and what is left is compared with what the dataset declares.
HDF5 looks for filters it does not have in folders that an environment variable names; none is ever
handed to it, so that nothing is loaded from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import h5py

from lazyflow_core.errors import FormatError
from lazyflow_ops_io._decode import (
    Decoder,
    blosc,
    bunzip2,
    check_fletcher32,
    hdf5_bitshuffle,
    hdf5_lz4,
    inflate,
    most_packed,
    unshuffle,
    zstd,
)

__all__ = ["Filters"]

_MOST_FILTERS = 16

_DEFLATE, _SHUFFLE, _FLETCHER32, _SZIP, _NBIT, _SCALEOFFSET = 1, 2, 3, 4, 5, 6
_BZIP2, _LZF, _BLOSC, _LZ4, _BITSHUFFLE, _ZSTD = 307, 32000, 32001, 32004, 32008, 32015

#: What to call filters whose names files do not always give (the HDF Group's list of registered filters).
_NAMES: Final[Mapping[int, str]] = {
    _SZIP: "szip", 305: "lzo", _BZIP2: "bzip2", _LZF: "lzf", _BLOSC: "blosc", _LZ4: "lz4", 32013: "zfp",
    32017: "sz", 32018: "fcidecomp", 32019: "jpeg", 32024: "sz3", 32026: "blosc2", 32028: "sperr",
}  # fmt: skip

Values = tuple[int, ...]


def _bitshuffle(data: Any, size: int, less: bool, values: Values) -> Any:
    itemsize, block, packing = (*values, 0, 0, 0)[2:5]
    if not 1 <= itemsize <= 1024 or packing not in (0, 2, 3):
        raise ValueError(f"bitshuffle of elements of {itemsize} bytes with packing {packing}")
    return hdf5_bitshuffle(data, size, less, itemsize, block, packing)


def _plain(decode: Decoder) -> Callable[[Any, int, bool, Values], Any]:
    return lambda data, size, less, values: decode(data, size, less)


#: What undoes a filter that packs: a decoder that takes the filter's values besides.
_UNPACK: Final[Mapping[int, Callable[[Any, int, bool, Values], Any]]] = {
    _DEFLATE: _plain(inflate),
    _BZIP2: _plain(bunzip2),
    _BLOSC: _plain(blosc),
    _LZ4: _plain(hdf5_lz4),
    _BITSHUFFLE: _bitshuffle,
    _ZSTD: _plain(zstd),
}

_OURS = {*_UNPACK, _SHUFFLE, _FLETCHER32}


class Filters:
    """How the chunks of one dataset are packed.

    Parameters
    ----------
    path, dataset
        The file, and its chunked dataset.

    Raises
    ------
    FormatError
        If a filter is not known here, with what to install; or if what it says of its chunks cannot be.
    """

    def __init__(self, path: str, dataset: h5py.Dataset) -> None:
        plist = dataset.id.get_create_plist()
        count = plist.get_nfilters()
        if count > _MOST_FILTERS:
            raise FormatError(f"{path!r}: dataset {dataset.name!r} is packed by {count} filters.")
        found = [plist.get_filter(i) for i in range(count)]
        self._filters = [(code, tuple(values)) for code, _, values, _ in found]
        self._size = dataset.dtype.itemsize
        for n in dataset.chunks:
            self._size *= n
        for code, _, values, name in found:
            if code in (_SZIP, _LZF, _NBIT, _SCALEOFFSET):
                self._check_values(path, dataset, code, tuple(values))
            elif code not in _OURS and code not in _of_hdf5plugin():
                text = name.decode("ascii", "replace").partition(";")[0].strip()[:40]
                raise FormatError(
                    f"{path!r}: dataset {dataset.name!r} is packed with the HDF5 filter {code} "
                    f"({_NAMES.get(code, text) or 'without a name'}); try `pip install hdf5plugin`."
                )
        #: Whether HDF5 is not needed to undo them.
        self.ours = all(code in _OURS for code, _ in self._filters)

    def __bool__(self) -> bool:
        return bool(self._filters)

    def _check_values(self, path: str, dataset: h5py.Dataset, code: int, values: Values) -> None:
        """Refuse what would make HDF5 allocate or write another size than that of a chunk."""
        says = self._size
        if code == _LZF:
            says = (*values, 0, 0, 0)[2] or says
        elif code == _NBIT:
            # Values: 2 elements, 3 class (1 is a number), 4 bytes, 6 precision, 7 offset.
            v = (*values, *[0] * 8)
            says = v[2] * v[4] if v[3] == 1 and v[6] + v[7] <= 8 * v[4] else -1
        elif code == _SCALEOFFSET:
            v = (*values, *[0] * 8)
            says = v[2] * v[4]
        if says != self._size:
            raise FormatError(
                f"{path!r} is damaged: a filter of {dataset.name!r} is for chunks of {says} bytes, "
                f"the dataset has chunks of {self._size}."
            )

    def undo(self, data: Any, left_out: int) -> Any:
        """Unpack a chunk; raises ValueError if it is damaged.

        Parameters
        ----------
        data
            The stored bytes.
        left_out
            Mask of the filters that were not applied.
        """
        sizes = self._sizes(left_out)
        for i in range(len(self._filters) - 1, -1, -1):
            if not left_out >> i & 1:
                data = self._undo(i, data, sizes[i])
        return data

    def look(self, data: Any, left_out: int) -> None:
        """Raise ValueError if HDF5 must not see a chunk: it would unpack more than the dataset declares."""
        sizes = self._sizes(left_out)
        for i in range(len(self._filters) - 1, -1, -1):
            if left_out >> i & 1:
                continue
            code, values = self._filters[i]
            if code in _OURS:
                data = self._undo(i, data, sizes[i])
                continue
            _look(code, values, data, sizes[i])
            return  # what it gives cannot be seen, but has the declared size

    def _undo(self, i: int, data: Any, size: int | None) -> Any:
        code, values = self._filters[i]
        if code == _SHUFFLE:
            return unshuffle(data, values[0] if values and values[0] else 1)
        if code == _FLETCHER32:
            return check_fletcher32(data)
        return _UNPACK[code](data, most_packed(self._size) if size is None else size, size is None, values)

    def _sizes(self, left_out: int) -> Sequence[int | None]:
        """Return how many bytes undoing each filter gives; None where it depends on the chunk."""
        sizes: list[int | None] = []
        size: int | None = self._size
        for i, (code, _) in enumerate(self._filters):
            sizes.append(size)
            if not left_out >> i & 1 and code != _SHUFFLE:
                size = size + 4 if size is not None and code == _FLETCHER32 else None
        return sizes


def _look(code: int, values: Values, data: Any, size: int | None) -> None:
    """Compare what a chunk says of itself with its size, for filters that only HDF5 undoes."""
    if size is None:
        raise ValueError("what is packed by one filter is packed again by one that only HDF5 knows")
    count = len(data)
    needed = 0
    if code == _LZF:  # it is left out where it does not shrink; from there on it grows 88 times at most
        needed = 0 if count <= size else count + 1
    elif code == _SZIP:
        says = int.from_bytes(bytes(data[:4]), "little")
        if says != size:
            raise ValueError(f"a chunk of szip says it holds {says} bytes, expected {size}")
    elif code == _NBIT:
        needed = -(-values[2] * values[6] // 8)
    elif code == _SCALEOFFSET:
        bits = int.from_bytes(bytes(data[:4]), "little")
        if bits > 8 * values[4]:
            raise ValueError(f"a chunk of scale-offset has {bits} bits for {values[4]} bytes")
        needed = 21 + -(-values[2] * bits // 8) if bits else 21
    if needed > count:
        raise ValueError(f"a packed chunk has {count} bytes, which cannot be")


@cache
def _of_hdf5plugin() -> frozenset[int]:
    """Return the filters that the package hdf5plugin brings to HDF5; importing it registers them."""
    try:
        import hdf5plugin
    except ImportError:
        return frozenset()
    return frozenset(hdf5plugin.FILTERS[name] for name in hdf5plugin.get_config().registered_filters)
