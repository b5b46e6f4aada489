"""Reading HDF5.

Three roads lead to the pixels. A dataset that lies in one piece is mapped into memory. Where it is
stored in chunks with filters we know, its chunks are read straight from the file and unpacked in the caller's
thread, so any number of threads work at once. Everything else goes through h5py, one thread at a time, after
a look at what it will unpack. Which one is decided when the file is opened, by looking at how the dataset is
stored.
"""

from __future__ import annotations

from itertools import product
from math import prod
from operator import mul
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from lazyflow_core.blocks import BlockGrid
from lazyflow_core.errors import FormatError
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.request import checkpoint
from lazyflow_core.roi import Roi
from lazyflow_ops_io._border import check_declared, foreign_errors
from lazyflow_ops_io._decode import check_packed
from lazyflow_ops_io._hdf5 import HDF5_LOCK, described, find_dataset, only_dataset, value_range_of
from lazyflow_ops_io._hdf5_filters import Filters
from lazyflow_ops_io._hdf5_guard import GuardedFile, find_beginning, lock_for_reading
from lazyflow_ops_io._reader import (
    ArrayReader,
    MappedReader,
    PreadFile,
    copy_chunks,
    fits_in_place,
    native,
    plain_rows,
    remarks,
)

__all__ = ["Hdf5Reader", "open_hdf5"]

#: Listing where a chunk lies takes 3 µs and 300 bytes each; beyond this HDF5 looks them up, half a
#: millisecond each.
_MOST_INDEXED_CHUNKS = 500_000


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
        other files (external links and storage, virtual datasets), or is packed by a filter we lack.
    StorageError
        If the file is missing or may not be read.
    """
    with foreign_errors(path, "open"):
        raw = PreadFile(path)
        try:
            beginning = find_beginning(path, raw)
            lock_for_reading(path, raw)
            with HDF5_LOCK:
                file = h5py.File(GuardedFile(raw, beginning), "r")
                try:
                    found = find_dataset(file, path, dataset or only_dataset(file, path))
                    meta = _meta_of(path, found)
                    offset = found.id.get_offset() if _is_stored_plainly(found) else None
                    if offset is not None and meta.size:
                        pixels = raw.map(found.dtype, found.shape, beginning + offset)
                        file.close()
                        return MappedReader(path, meta, pixels, raw)
                    return Hdf5Reader(path, meta, file, found, raw, beginning)
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
    axes, guessed, names, kept = described(dataset)
    return ArrayMeta(
        shape,
        native(dtype),
        axes,
        channel_names=names,
        value_range=value_range_of(dataset),
        preferred_block=tuple(map(min, chunks, shape)) if chunks and all(shape) else None,
        extra={"io.path": path, "io.dataset": dataset.name, **kept, **remarks(guessed=guessed)},
    )


def _is_stored_plainly(dataset: h5py.Dataset) -> bool:
    """Whether the bytes in the file are those of the dtype.

    A number stored with padding bits or an unusual float layout is h5py's to convert.
    """
    return bool(dataset.id.get_type().equal(h5py.h5t.py_create(dataset.dtype, logical=True)))


class Hdf5Reader(ArrayReader):
    """One open dataset; use `open_hdf5`. Made and released under `HDF5_LOCK`."""

    def __init__(
        self,
        path: str,
        meta: ArrayMeta,
        file: h5py.File,
        dataset: h5py.Dataset,
        raw: PreadFile,
        beginning: int,
    ) -> None:
        super().__init__(path, meta)
        self._file = file
        self._dataset = dataset
        self._raw = raw
        #: Where HDF5 begins in the file; the positions of chunks count from there.
        self._beginning = beginning
        self._stored_dtype = dataset.dtype
        self._chunks: tuple[int, ...] = dataset.chunks or ()
        self._chunk_bytes = prod(self._chunks) * dataset.dtype.itemsize
        #: How chunks are packed; None if there are none.
        self._filters = Filters(path, dataset) if self._chunks else None
        #: Whether h5py has to read, for filters and values that only HDF5 knows.
        self._by_h5py = self._filters is None or not (self._filters.ours and _is_stored_plainly(dataset))
        #: Where each chunk lies, ``(byte offset, bytes, mask of the filters left out)`` by its first pixel;
        #: None if there are too many to list.
        self._index = self._index_chunks()
        #: Value of pixels in chunks that were never written.
        self._fill: Any = 0
        chunks = prod(BlockGrid(meta.shape, self._chunks).counts) if self._chunks else 0
        plist = dataset.id.get_create_plist()
        # Asked for only where it matters, and checked before: reading a damaged fill value crashes HDF5.
        if len(self._index or ()) < chunks and plist.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED:
            self._fill = dataset.fillvalue

    def _index_chunks(self) -> dict[tuple[int, ...], tuple[int, int, int]] | None:
        dataset = self._dataset
        if not self._chunks or prod(BlockGrid(dataset.shape, self._chunks).counts) > _MOST_INDEXED_CHUNKS:
            return None
        found: list[Any] = []
        dataset.id.chunk_iter(found.append)
        return {first: self._checked(offset, count, left) for first, left, offset, count in found}

    def _checked(self, offset: int, count: int, left_out: int) -> tuple[int, int, int]:
        offset += self._beginning
        if offset + count > self._raw.size:
            raise FormatError(
                f"{self.path!r} is truncated: a chunk of {self._dataset.name!r} lies beyond its end."
            )
        return offset, count, left_out

    def _place(self, index: tuple[int, ...]) -> tuple[int, int, int] | None:
        first = tuple(map(mul, index, self._chunks))
        if self._index is not None:
            return self._index.get(first)
        with HDF5_LOCK:
            found = self._dataset.id.get_chunk_info_by_coord(first)
        if found.byte_offset is None or not found.size:
            return None
        return self._checked(found.byte_offset, found.size, found.filter_mask)

    def _read(self, roi: Roi, out: npt.NDArray[Any]) -> None:
        if not self._by_h5py:
            copy_chunks(self._chunks, self._load, self._fill, roi, out)
            return
        if self._filters:
            self._look(roi)
        dest = (
            out
            if out.flags.c_contiguous and out.dtype == self.meta.dtype
            else np.empty(roi.shape, self.meta.dtype)
        )
        with HDF5_LOCK:
            self._dataset.read_direct(dest, source_sel=roi.slicing)
        if dest is not out:
            out[...] = dest

    def _look(self, roi: Roi) -> None:
        """Unpack as much of the chunks as we can, within bounds, before HDF5 does without."""
        assert self._filters is not None
        for index in product(
            *(range(a // c, -(-b // c)) for a, b, c in zip(roi.start, roi.stop, self._chunks, strict=True))
        ):
            checkpoint()
            place = self._place(index)
            if place is not None:
                offset, count, left_out = place
                packed = self._raw.read(offset, check_packed(count, self._chunk_bytes))
                self._filters.look(packed, left_out)

    def _load(self, index: tuple[int, ...], rows: slice, part: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
        assert self._filters is not None
        chunks, dtype = self._chunks, self._stored_dtype
        place = self._place(index)
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
        data = self._filters.undo(self._raw.read(offset, check_packed(count, size)), left_out)
        # Chunks are stored whole, also where they reach beyond the end of the array.
        return np.frombuffer(data, dtype).reshape(chunks)[rows]

    def _release(self) -> None:
        with HDF5_LOCK:
            self._file.close()
        self._raw.close()
