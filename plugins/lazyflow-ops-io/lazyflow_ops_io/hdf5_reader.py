"""Reading HDF5.

Three roads lead to the pixels. A dataset that lies in one piece is mapped into memory. Where it is
stored in chunks with filters we know, its chunks are read straight from the file and unpacked in the caller's
thread, so any number of threads work at once. Everything else goes through h5py, one thread at a time. Which
one is decided when the file is opened, by looking at how the dataset is stored.
"""

from __future__ import annotations

from math import prod
from operator import mul
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from lazyflow_core.blocks import BlockGrid
from lazyflow_core.errors import FormatError
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.roi import Roi
from lazyflow_ops_io._border import check_declared, foreign_errors
from lazyflow_ops_io._decode import check_fletcher32, check_packed, inflate, unshuffle
from lazyflow_ops_io._hdf5 import HDF5_LOCK, axes_of, find_dataset, only_dataset, value_range_of
from lazyflow_ops_io._hdf5_guard import GuardedFile, lock_for_reading
from lazyflow_ops_io._reader import (
    ArrayReader,
    MappedReader,
    PreadFile,
    copy_chunks,
    fits_in_place,
    native,
    plain_rows,
)

__all__ = ["Hdf5Reader", "open_hdf5"]

#: Listing where a chunk lies takes 3 µs and 300 bytes each; beyond this h5py looks them up one by one.
_MOST_INDEXED_CHUNKS = 500_000

#: Filters that are undone here, in the only order that is.
_KNOWN_FILTERS = (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_FLETCHER32)


def open_hdf5(path: str, *, dataset: str | None = None) -> ArrayReader:
    """Open one dataset of an HDF5 file.

    Parameters
    ----------
    path
        The file.
    dataset
        Path of the dataset inside it, e.g. ``"/raw"``; may be left out if the file has only one.

    Raises
    ------
    FormatError
        If it is no HDF5 file or damaged; if the dataset does not exist, is not numeric, or has its pixels in
        other files (external links and storage, virtual datasets).
    StorageError
        If the file is missing or may not be read.
    """
    with foreign_errors(path, "open"):
        raw = PreadFile(path)
        try:
            lock_for_reading(path, raw)
            with HDF5_LOCK:
                file = h5py.File(GuardedFile(raw), "r")
                try:
                    found = find_dataset(file, path, dataset or only_dataset(file, path))
                    meta = _meta_of(path, found)
                    offset = found.id.get_offset() if _is_stored_plainly(file, found) else None
                    if offset is not None and meta.size:
                        pixels = np.memmap(path, found.dtype, "r", offset, found.shape)
                        file.close()
                        return MappedReader(path, meta, pixels, raw)
                    return Hdf5Reader(path, meta, file, found, raw)
                except BaseException:
                    file.close()
                    raise
        except BaseException:
            raw.close()
            raise


def _meta_of(path: str, dataset: h5py.Dataset) -> ArrayMeta:
    dtype, shape, chunks = dataset.dtype, dataset.shape, dataset.chunks
    if shape is None:
        raise FormatError(f"{path!r}: dataset {dataset.name!r} is empty, without a shape.")
    check_declared(path, shape, dtype, chunks)
    return ArrayMeta(
        shape,
        native(dtype),
        axes_of(dataset),
        value_range=value_range_of(dataset),
        preferred_block=tuple(map(min, chunks, shape)) if chunks and all(shape) else None,
        extra={"io.path": path, "io.dataset": dataset.name},
    )


def _is_stored_plainly(file: h5py.File, dataset: h5py.Dataset) -> bool:
    """Whether the bytes in the file are those of the dtype, and positions count from the file's beginning.

    A number stored with padding bits or an unusual float layout is h5py's to convert.
    """
    as_numpy = h5py.h5t.py_create(dataset.dtype, logical=True)
    return file.userblock_size == 0 and bool(dataset.id.get_type().equal(as_numpy))


class Hdf5Reader(ArrayReader):
    """One open dataset; use `open_hdf5`. Made and released under `HDF5_LOCK`."""

    def __init__(
        self, path: str, meta: ArrayMeta, file: h5py.File, dataset: h5py.Dataset, raw: PreadFile
    ) -> None:
        super().__init__(path, meta)
        self._file = file
        self._dataset = dataset
        self._raw = raw
        self._stored_dtype = dataset.dtype
        self._chunks: tuple[int, ...] = dataset.chunks or ()
        self._chunk_bytes = prod(self._chunks) * dataset.dtype.itemsize
        plist = dataset.id.get_create_plist()
        #: The filters that pack a chunk, in their order.
        self._filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
        #: Where each chunk lies, ``(byte offset, bytes, mask of the filters left out)`` by its first pixel;
        #: None if h5py has to read.
        self._index = self._index_chunks()
        #: Value of pixels in chunks that were never written.
        self._fill: Any = 0
        chunks = prod(BlockGrid(meta.shape, self._chunks).counts) if self._index is not None else 0
        # Asked for only where it matters, and checked before: reading a damaged fill value crashes HDF5.
        if len(self._index or ()) < chunks and plist.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED:
            self._fill = dataset.fillvalue

    def _index_chunks(self) -> dict[tuple[int, ...], tuple[int, int, int]] | None:
        dataset = self._dataset
        if (
            not self._chunks
            or prod(BlockGrid(dataset.shape, self._chunks).counts) > _MOST_INDEXED_CHUNKS
            or [f for f in _KNOWN_FILTERS if f in self._filters] != self._filters
            or not _is_stored_plainly(self._file, dataset)
        ):
            return None
        found: list[Any] = []
        dataset.id.chunk_iter(found.append)
        index = {}
        for first_pixel, left_out, offset, count in found:
            if offset + count > self._raw.size:
                raise FormatError(
                    f"{self.path!r} is truncated: a chunk of {dataset.name!r} lies beyond its end."
                )
            index[first_pixel] = (offset, count, left_out)
        return index

    def _read(self, roi: Roi, out: npt.NDArray[Any]) -> None:
        if self._index is not None:
            copy_chunks(self._chunks, self._load, self._fill, roi, out)
            return
        dest = (
            out
            if out.flags.c_contiguous and out.dtype == self.meta.dtype
            else np.empty(roi.shape, self.meta.dtype)
        )
        with HDF5_LOCK:
            self._dataset.read_direct(dest, source_sel=roi.slicing)
        if dest is not out:
            out[...] = dest

    def _load(self, index: tuple[int, ...], rows: slice, part: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
        assert self._index is not None
        chunks, dtype = self._chunks, self._stored_dtype
        place = self._index.get(tuple(map(mul, index, chunks)))
        if place is None:
            return None
        offset, count, left_out = place
        size = self._chunk_bytes
        if not self._filters and count == size:
            skipped, needed = plain_rows(chunks, rows, dtype)
            if fits_in_place(part, chunks, dtype):
                self._raw.read_into(offset + skipped, part)
                return part
            return np.frombuffer(self._raw.read(offset + skipped, needed), dtype).reshape(-1, *chunks[1:])
        data: Any = self._raw.read(offset, check_packed(count, size))
        for i, known in reversed(list(enumerate(self._filters))):
            if left_out >> i & 1:
                continue
            if known == h5py.h5z.FILTER_DEFLATE:
                data = inflate(data, size)
            elif known == h5py.h5z.FILTER_SHUFFLE:
                data = unshuffle(data, dtype.itemsize)
            else:
                data = check_fletcher32(data)
        # Chunks are stored whole, also where they reach beyond the end of the array.
        return np.frombuffer(data, dtype).reshape(chunks)[rows]

    def _release(self) -> None:
        with HDF5_LOCK:
            self._file.close()
        self._raw.close()
