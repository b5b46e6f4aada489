"""The file under HDF5 when it reads: looks at what HDF5 is about to believe.

HDF5 walks a damaged global heap, where strings of variable length lie, without end; neither Ctrl-C nor a
timeout stops it, and with its one lock it stops every other HDF5 file of the process too. Reading through a
Python file object we see each block before HDF5 does, and refuse such a heap. The same for heaps of links and
attributes that are packed by filters, which HDF5 unpacks to whatever size they have.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct

from lazyflow_core.errors import FormatError, StorageError
from lazyflow_ops_io._reader import PreadFile

__all__ = ["GuardedFile", "find_beginning", "lock_for_reading"]

#: More than any collection has; HDF5 makes them of 4 KiB and grows them to the largest string.
_MOST_HEAP_BYTES = 64 * 2**20

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def find_beginning(path: str, raw: PreadFile) -> int:
    """Return where HDF5 begins in a file: at its start, or after a user block of 512, 1024, 2048, … bytes.

    Raises
    ------
    FormatError
        If it does nowhere.
    """
    place = 0
    while place + len(_SIGNATURE) <= raw.size:
        if raw.read(place, len(_SIGNATURE)) == _SIGNATURE:
            return place
        place = 2 * place or 512
    raise FormatError(f"{path!r} is no HDF5 file: it does not hold {_SIGNATURE!r}.")


class GuardedFile:
    """A file object for h5py, for reading only; used under `HDF5_LOCK`.

    Parameters
    ----------
    raw
        The file.
    beginning
        Where HDF5 begins in it. HDF5 sees nothing before; positions that it gives count from there.
    """

    def __init__(self, raw: PreadFile, beginning: int) -> None:
        self._raw, self._beginning = raw, beginning
        self._size = raw.size - beginning
        self._position = 0
        self._checks_heaps = self._has_usual_sizes()

    def _has_usual_sizes(self) -> bool:
        """Whether addresses and lengths in the file have 8 bytes, as in all files of today's libraries."""
        head = self._at(0, min(self._size, 16))
        at = 13 if head[8:9] in (b"\0", b"\1") else 9  # superblock versions 0 and 1, and later ones
        return head.startswith(_SIGNATURE) and head[at : at + 2] == b"\x08\x08"

    def readinto(self, buffer: memoryview) -> int:
        """Read into a buffer from the position."""
        count = max(0, min(len(buffer), self._size - self._position))
        data = self._at(self._position, count)
        if self._checks_heaps and data.startswith(b"GCOL"):
            self._check_heap(self._position)
        if data.startswith(b"FRHP") and data[7:9] not in (b"\0\0", b""):  # bytes of filters of a fractal heap
            raise OSError("a heap of links or attributes is packed by filters")
        buffer[:count] = data
        self._position += count
        return count

    def _at(self, place: int, count: int) -> bytes:
        return self._raw.read(self._beginning + place, count)

    def _check_heap(self, place: int) -> None:
        """Raise OSError unless the objects of a global heap collection lie one after another inside it."""
        (size,) = struct.unpack_from("<Q", self._at(place + 8, 8))
        if not 16 <= size <= min(_MOST_HEAP_BYTES, self._size - place):
            raise OSError("a global heap reaches beyond the file")
        heap = self._at(place, size)
        at = 16
        while at + 16 <= size:
            index, _, _, length = struct.unpack_from("<HHIQ", heap, at)
            step = 16 + (length + 7) // 8 * 8 if index else length
            if step < 16 or at + step > size:
                raise OSError("a global heap is damaged")
            at += step

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Read from the position; h5py takes an object with this method for a file."""
        buffer = bytearray(self._size - self._position if size < 0 else size)
        count = self.readinto(memoryview(buffer))
        return bytes(buffer[:count])

    def flush(self) -> None:
        """Do nothing: nothing is written."""


def lock_for_reading(path: str, raw: PreadFile) -> None:
    """Take the lock that HDF5 takes on a file it reads, which a file object does not.

    As for HDF5 itself, ``HDF5_USE_FILE_LOCKING=FALSE`` in the environment switches it off, for file systems
    whose locks do not work.

    Raises
    ------
    StorageError
        If another program, or this one, has the file open for writing.
    """
    if os.environ.get("HDF5_USE_FILE_LOCKING", "").upper() in ("FALSE", "0"):
        return
    with contextlib.suppress(ImportError):  # Windows: HDF5 itself does not lock there
        import fcntl

        try:
            fcntl.flock(raw.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise StorageError(f"cannot open {path!r}: it is being written by another program.") from None
