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
from typing import Any

from lazyflow_core.errors import FormatError, StorageError
from lazyflow_ops_io._reader import PreadFile, PreadStream

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
    StorageError
        If the file was not fetched.
    """
    place = 0
    while place + len(_SIGNATURE) <= raw.size:
        if raw.read(place, len(_SIGNATURE)) == _SIGNATURE:
            return place
        place = 2 * place or 512
    raw.check_is_here(path)
    raise FormatError(f"{path!r} is no HDF5 file: it does not hold {_SIGNATURE!r}.")


class GuardedFile(PreadStream):
    """A file object for h5py, for reading only; used under `HDF5_LOCK`.

    Parameters
    ----------
    raw
        The file.
    beginning
        Where HDF5 begins in it. HDF5 sees nothing before; positions that it gives count from there.
    """

    def __init__(self, raw: PreadFile, beginning: int = 0) -> None:
        super().__init__(raw, beginning)
        self._checks_heaps = self._has_usual_sizes()

    def _has_usual_sizes(self) -> bool:
        """Whether addresses and lengths in the file have 8 bytes, as in all files of today's libraries."""
        head = self.read_at(0, min(self._size, 16))
        at = 13 if head[8:9] in (b"\0", b"\1") else 9  # superblock versions 0 and 1, and later ones
        return head.startswith(_SIGNATURE) and head[at : at + 2] == b"\x08\x08"

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer from the position."""
        place = self._position
        count = super().readinto(buffer)
        head = bytes(memoryview(buffer)[: min(count, 9)])
        if self._checks_heaps and head.startswith(b"GCOL"):
            self._check_heap(place)
        if head.startswith(b"FRHP") and head[7:] != b"\0\0":  # bytes of the filters of a fractal heap
            raise OSError("a heap of links or attributes is packed by filters")
        return count

    def _check_heap(self, place: int) -> None:
        """Raise OSError unless the objects of a global heap collection lie one after another inside it."""
        (size,) = struct.unpack_from("<Q", self.read_at(place + 8, 8))
        if not 16 <= size <= min(_MOST_HEAP_BYTES, self._size - place):
            raise OSError("a global heap reaches beyond the file")
        heap = self.read_at(place, size)
        at = 16
        while at + 16 <= size:
            index, _, _, length = struct.unpack_from("<HHIQ", heap, at)
            step = 16 + (length + 7) // 8 * 8 if index else length
            if step < 16 or at + step > size:
                raise OSError("a global heap is damaged")
            at += step


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
