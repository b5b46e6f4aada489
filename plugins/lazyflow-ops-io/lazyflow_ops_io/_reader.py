"""What all readers share: counting who reads, checking what is asked, assembling regions from chunks."""

from __future__ import annotations

import errno
import io
import mmap
import os
import stat
import threading
from collections.abc import Callable, Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyflow_core.axes import Axes
from lazyflow_core.blocks import pieces
from lazyflow_core.errors import AxesError, ResultError, RoiBoundsError, StorageError
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.plugins.files import AXES_GUESSED, NOTES
from lazyflow_core.request import checkpoint
from lazyflow_core.roi import Roi
from lazyflow_core.sources import check_is_here
from lazyflow_ops_io._border import foreign_errors
from lazyflow_ops_io._in_use import note_closed, note_open

__all__ = [
    "ArrayReader",
    "MappedReader",
    "PreadFile",
    "PreadStream",
    "copy_chunks",
    "fits_in_place",
    "named_axes",
    "native",
    "plain_rows",
    "remarks",
    "usual_axes",
]


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
        note_open(self, path)

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
        with self._lock:
            if self._closed:
                raise StorageError(f"cannot read {self.path!r}: it was closed.")
            self._reading += 1
        try:
            with foreign_errors(self.path, "read {} of", roi):
                if not roi.is_empty:
                    self._read(roi, out)
        finally:
            with self._lock:
                self._reading -= 1
                release = self._closed and self._reading == 0
            if release:
                self._let_go()

    def close(self) -> None:
        """Release the file once no read is under way. Closing twice is fine."""
        with self._lock:
            release = not self._closed and self._reading == 0
            self._closed = True
        if release:
            self._let_go()

    def _let_go(self) -> None:
        self._release()
        note_closed(self)

    def __enter__(self) -> ArrayReader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _read(self, roi: Roi, out: npt.NDArray[Any]) -> None:
        """Read a region that is not empty and lies inside the array."""
        raise NotImplementedError

    def _release(self) -> None:
        """Let go of the file; called exactly once."""


class MappedReader(ArrayReader):
    """An array that lies in a file as one piece and is mapped into memory.

    Parameters
    ----------
    path, meta
        As for all readers.
    pixels
        The mapped array.
    file
        The file, if it is to stay open, and locked, as long as the reader is.
    """

    def __init__(
        self, path: str, meta: ArrayMeta, pixels: npt.NDArray[Any], file: PreadFile | None = None
    ) -> None:
        super().__init__(path, meta)
        self._pixels: npt.NDArray[Any] | None = pixels
        self._file = file

    def _read(self, roi: Roi, out: npt.NDArray[Any]) -> None:
        assert self._pixels is not None
        pixels = self._pixels[roi.slicing]
        for key in pieces(out.shape):
            out[key] = pixels[key]

    def _release(self) -> None:
        self._pixels = None  # the mapping ends with its last reference
        if self._file is not None:
            self._file.close()


#: Flags of every file that is opened: what is not there, such as the writer of a pipe, is not waited for.
_AT_ONCE = sum(getattr(os, name, 0) for name in ("O_BINARY", "O_NONBLOCK", "O_NOCTTY"))


#: More than a file has that stands in for another one.
_MOST_POINTER_BYTES = 4096


class PreadFile:
    """An ordinary file, read at absolute positions from any number of threads.

    Parameters
    ----------
    path
        The file.
    flags
        More flags for ``os.open``. It never waits: what is opened may be a pipe.

    Raises
    ------
    OSError
        If it cannot be opened.
    ValueError
        If it is no ordinary file.
    """

    __slots__ = ("_fd", "_lock", "size")

    def __init__(self, path: str | os.PathLike[str], flags: int = 0) -> None:
        self._fd = -1
        self._fd = os.open(path, os.O_RDONLY | flags | _AT_ONCE)
        status = os.fstat(self._fd)
        self.size = status.st_size
        self._lock = threading.Lock()
        if not stat.S_ISREG(status.st_mode):
            self.close()
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            raise ValueError("it is no ordinary file")

    def read(self, offset: int, count: int) -> bytes:
        """Return ``count`` bytes from ``offset``; raises EOFError if there are fewer."""
        if hasattr(os, "pread"):
            data = os.pread(self._fd, count, offset)
        else:  # Windows has one position per file
            with self._lock:
                os.lseek(self._fd, offset, os.SEEK_SET)
                data = os.read(self._fd, count)
        if len(data) != count:
            raise EOFError(f"it ends at byte {offset + len(data)}, expected {count} bytes from {offset}")
        return data

    def read_into(self, offset: int, out: npt.NDArray[Any]) -> None:
        """Fill a contiguous array from ``offset``; raises EOFError if there are fewer bytes."""
        if hasattr(os, "preadv"):
            count = os.preadv(self._fd, [out.data], offset)
            if count != out.nbytes:
                raise EOFError(f"it ends at byte {offset + count}, expected {out.nbytes} bytes from {offset}")
        else:
            out.data.cast("B")[:] = self.read(offset, out.nbytes)

    def map(self, dtype: np.dtype[Any], shape: Sequence[int], offset: int, order: Any = "C") -> Any:
        """Return an array in the file, mapped into memory; raises EOFError if it is not all there."""
        end = offset + prod(shape) * dtype.itemsize
        if end > self.size:
            raise EOFError(f"it has {self.size} bytes, expected {end}")
        if not prod(shape):
            return np.empty(shape, dtype, order)
        mapped = mmap.mmap(self._fd, end, access=mmap.ACCESS_READ)
        return np.ndarray(shape, dtype, mapped, offset, order=order)

    def check_is_here(self, path: str) -> None:
        """Raise `StorageError` if there is only what stands in for a file that was not fetched."""
        check_is_here(path, self.read(0, min(self.size, _MOST_POINTER_BYTES)))

    def fileno(self) -> int:
        """Return its descriptor."""
        return self._fd

    def close(self) -> None:
        """Close the file; twice is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close  # of a reader that was dropped without being closed

    def __enter__(self) -> PreadFile:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class PreadStream(io.RawIOBase):
    """A file as a stream for libraries, which see neither its name nor its descriptor.

    Parameters
    ----------
    raw
        The file.
    beginning
        Where the stream begins in it.
    """

    def __init__(self, raw: PreadFile, beginning: int = 0) -> None:
        self._raw, self._beginning = raw, beginning
        self._size = raw.size - beginning
        self._position = 0

    def read_at(self, place: int, count: int) -> bytes:
        """Return bytes from a place in the stream."""
        return self._raw.read(self._beginning + place, count)

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer from the position."""
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._size - self._position))
        view[:count] = self.read_at(self._position, count)
        self._position += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"there is nothing at {base + offset}")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True


def copy_chunks(
    chunks: Sequence[int],
    load: Callable[[tuple[int, ...], slice, npt.NDArray[Any]], npt.NDArray[Any] | None],
    fill: Any,
    roi: Roi,
    out: npt.NDArray[Any],
) -> None:
    """Assemble a region from the chunks it touches.

    Parameters
    ----------
    chunks
        Shape of a chunk.
    load
        Called with the grid position of a chunk, the rows of it that are needed (along the first axis), and
        the part of ``out`` they are for. Returns those rows, whole along the other axes; or that part
        itself, after filling it; or None for a chunk that was never written.
    fill
        Value of pixels in chunks that were never written.
    roi, out
        The region, and the array of its shape to write it to.
    """
    # Per axis: positions in the grid, places in the region, places in the chunk.
    numbers, targets, sources = [], [], []
    for a, b, c in zip(roi.start, roi.stop, chunks, strict=True):
        along = range(a // c, -(-b // c))
        ends = [(max(a, i * c), min(b, i * c + c)) for i in along]
        numbers.append(along)
        targets.append([slice(first - a, last - a) for first, last in ends])
        sources.append(
            [slice(first - i * c, last - i * c) for i, (first, last) in zip(along, ends, strict=True)]
        )
    every = slice(None)
    for index, there, here in zip(product(*numbers), product(*targets), product(*sources), strict=True):
        checkpoint()
        part = out[there]
        rows = load(index, here[0], part)
        if rows is None:
            part[...] = fill
        elif rows is not part:
            part[...] = rows[(every, *here[1:])]


def plain_rows(chunks: Sequence[int], rows: slice, dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return where some rows of an unpacked chunk lie in it: first byte and number of bytes."""
    row = prod(chunks[1:]) * dtype.itemsize
    return rows.start * row, (rows.stop - rows.start) * row


def fits_in_place(part: npt.NDArray[Any], chunks: Sequence[int], dtype: np.dtype[Any]) -> bool:
    """Whether rows of an unpacked chunk can be read straight into a part of the result."""
    return part.flags.c_contiguous and part.dtype == dtype and part.shape[1:] == tuple(chunks[1:])


def usual_axes(shape: Sequence[int]) -> Axes:
    """Return the axes of an array of which nothing is known: the usual ones, or ``axis_0``, ``axis_1``, …"""
    return Axes.guess(shape) if 1 <= len(shape) <= 5 else Axes(f"axis_{i}" for i in range(len(shape)))


def named_axes(labels: Sequence[Any]) -> Axes | None:
    """Return axes of the names a file gives its dimensions, None if these are no names of axes."""
    texts = [label.decode("utf-8", "replace") if isinstance(label, bytes) else label for label in labels]
    try:
        return Axes(t.lower() if isinstance(t, str) and t in ("T", "Z", "Y", "X", "C") else t for t in texts)
    except (AxesError, TypeError):
        return None


def remarks(*, guessed: bool, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Return what ``meta.extra`` says of what a file does not say, or says so that nothing is made of it."""
    found: dict[str, Any] = {AXES_GUESSED: True} if guessed else {}
    return {**found, NOTES: tuple(notes)} if notes else found


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in this machine's byte order, which is what readers deliver.

    By its name: NumPy has two types of 64 bits on some machines, ``long`` and ``long long``, which are equal
    but not the same to other libraries.
    """
    return np.dtype(dtype.newbyteorder("=").str)
