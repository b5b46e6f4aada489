"""What all readers share: counting who reads, checking what is asked, assembling regions from chunks."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyflow_core.blocks import BlockGrid
from lazyflow_core.errors import ResultError, RoiBoundsError, StorageError
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.roi import Roi
from lazyflow_ops_io._border import foreign_errors

__all__ = ["ArrayReader", "MappedReader", "PreadFile", "copy_chunks", "native"]


class ArrayReader:
    """An open array; the base of all readers.

    Subclasses implement `_read` and `_release`. A file is released when `close` was called *and* the last
    read has left: a descriptor closed under a read could by then be another file.

    Parameters
    ----------
    path
        The file as the user wrote it, for error messages.
    meta
        What the array is.
    """

    def __init__(self, path: str, meta: ArrayMeta) -> None:
        self.path = path
        self.meta = meta
        self._lock = threading.Lock()
        #: Reads under way, and whether `close` was called. Both guarded by `_lock`.
        self._reading = 0
        self._closed = False

    def read(self, roi: Roi, out: npt.NDArray[Any]) -> None:
        """Read one region into ``out``, an array of ``roi.shape`` that need not be contiguous.

        Raises
        ------
        RoiBoundsError
            If the region reaches outside the array.
        ResultError
            If ``out`` has another shape than ``roi``.
        FormatError, StorageError
            If the file turns out to be broken, or was closed.
        """
        if roi not in self.meta.roi:
            raise RoiBoundsError(f"{self.path!r}: asked for {roi} but the array is {self.meta}.")
        if out.shape != roi.shape:
            raise ResultError(f"{self.path!r}: out has shape {out.shape}, expected {roi.shape} for {roi}.")
        with self._open(), foreign_errors(self.path, f"read {roi} of"):
            if not roi.is_empty:
                self._read(roi, out)

    def close(self) -> None:
        """Release the file once no read is under way. Closing twice is fine."""
        with self._lock:
            release = not self._closed and self._reading == 0
            self._closed = True
        if release:
            self._release()

    def __enter__(self) -> ArrayReader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @contextmanager
    def _open(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise StorageError(f"cannot read {self.path!r}: it was closed.")
            self._reading += 1
        try:
            yield
        finally:
            with self._lock:
                self._reading -= 1
                release = self._closed and self._reading == 0
            if release:
                self._release()

    def _read(self, roi: Roi, out: npt.NDArray[Any]) -> None:
        """Read a region that is not empty and lies inside the array."""
        raise NotImplementedError

    def _release(self) -> None:
        """Let go of the file; called exactly once."""


class MappedReader(ArrayReader):
    """An array that lies in a file as one piece and is mapped into memory."""

    def __init__(self, path: str, meta: ArrayMeta, pixels: npt.NDArray[Any]) -> None:
        super().__init__(path, meta)
        self._pixels: npt.NDArray[Any] | None = pixels

    def _read(self, roi: Roi, out: npt.NDArray[Any]) -> None:
        assert self._pixels is not None
        out[...] = self._pixels[roi.slicing]

    def _release(self) -> None:
        self._pixels = None  # the mapping ends with its last reference


class PreadFile:
    """A file read at absolute positions from any number of threads."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115  # lives as long as its reader
        self.size = os.fstat(self._file.fileno()).st_size
        self._lock = threading.Lock()

    def read(self, offset: int, count: int) -> bytes:
        """Return ``count`` bytes from ``offset``; raises EOFError if there are fewer."""
        if hasattr(os, "pread"):
            data = os.pread(self._file.fileno(), count, offset)
        else:  # Windows has one position per file
            with self._lock:
                self._file.seek(offset)
                data = self._file.read(count)
        if len(data) != count:
            raise EOFError(f"it ends at byte {offset + len(data)}, expected {count} bytes from {offset}")
        return data

    def fileno(self) -> int:
        """Return its descriptor."""
        return self._file.fileno()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def copy_chunks(
    grid: BlockGrid,
    load: Callable[[tuple[int, ...]], npt.NDArray[Any] | None],
    fill: Any,
    roi: Roi,
    out: npt.NDArray[Any],
) -> None:
    """Assemble a region from the chunks it touches.

    Parameters
    ----------
    grid
        The array's shape and its chunks.
    load
        Gives the chunk at a grid position as an array of at least the chunk's part inside the array;
        None for one that was never written.
    fill
        Value of pixels in chunks that were never written.
    roi, out
        The region, and the array of its shape to write it to.
    """
    for index in grid.indices(roi):
        chunk_roi = grid.roi_of(index)
        part = chunk_roi & roi
        there = out[part.relative_to(roi).slicing]
        chunk = load(index)
        if chunk is None:
            there[...] = fill
        else:
            there[...] = chunk[part.relative_to(chunk_roi).slicing]


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in this machine's byte order, which is what readers deliver."""
    return dtype.newbyteorder("=")
