"""The file under HDF5 when it reads: looks at what HDF5 is about to believe.

HDF5 walks a damaged global heap, where strings of variable length lie, without end; neither Ctrl-C nor a
timeout stops it, and with its one lock it stops every other HDF5 file of the process too. Reading through a
Python file object we see each block before HDF5 does, and refuse such a heap.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct

from lazyflow_core.errors import StorageError
from lazyflow_ops_io._reader import PreadFile

__all__ = ["GuardedFile", "lock_for_reading"]

#: More than any collection has; HDF5 makes them of 4 KiB and grows them to the largest string.
_MOST_HEAP_BYTES = 64 * 2**20

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class GuardedFile:
    """A file object for h5py, for reading only; used under `HDF5_LOCK`."""

    def __init__(self, raw: PreadFile) -> None:
        self._raw = raw
        self._position = 0
        self._checks_heaps = self._has_usual_sizes()

    def _has_usual_sizes(self) -> bool:
        """Whether addresses and lengths in the file have 8 bytes, as in all files of today's libraries."""
        head = self._raw.read(0, min(self._raw.size, 16))
        at = 13 if head[8:9] in (b"\0", b"\1") else 9  # superblock versions 0 and 1, and later ones
        return head.startswith(_SIGNATURE) and head[at : at + 2] == b"\x08\x08"

    def readinto(self, buffer: memoryview) -> int:
        """Read into a buffer from the position."""
        count = max(0, min(len(buffer), self._raw.size - self._position))
        data = self._raw.read(self._position, count)
        if self._checks_heaps and data.startswith(b"GCOL"):
            self._check_heap(self._position)
        buffer[:count] = data
        self._position += count
        return count

    def _check_heap(self, place: int) -> None:
        """Raise OSError unless the objects of a global heap collection lie one after another inside it."""
        (size,) = struct.unpack_from("<Q", self._raw.read(place + 8, 8))
        if not 16 <= size <= min(_MOST_HEAP_BYTES, self._raw.size - place):
            raise OSError("a global heap reaches beyond the file")
        heap = self._raw.read(place, size)
        at = 16
        while at + 16 <= size:
            index, _, _, length = struct.unpack_from("<HHIQ", heap, at)
            step = 16 + (length + 7) // 8 * 8 if index else length
            if step < 16 or at + step > size:
                raise OSError("a global heap is damaged")
            at += step

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._raw.size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Read from the position; h5py takes an object with this method for a file."""
        buffer = bytearray(self._raw.size - self._position if size < 0 else size)
        count = self.readinto(memoryview(buffer))
        return bytes(buffer[:count])

    def flush(self) -> None:
        """Do nothing: nothing is written."""


def lock_for_reading(path: str, raw: PreadFile) -> None:
    """Take the lock that HDF5 takes on a file it reads, which a file object does not.

    Raises
    ------
    StorageError
        If another program, or this one, has the file open for writing.
    """
    with contextlib.suppress(ImportError):  # Windows: HDF5 itself does not lock there
        import fcntl

        try:
            fcntl.flock(raw.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise StorageError(f"cannot open {path!r}: it is being written by another program.") from None
