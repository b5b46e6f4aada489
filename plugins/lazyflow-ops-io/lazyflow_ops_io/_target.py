"""Where a writer writes: next to its target under another name, until everything is there."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import os
import secrets
import shutil
import stat
import sys
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lazyflow_core.errors import StorageError, TargetExistsError
from lazyflow_ops_io._border import foreign_errors

__all__ = ["DiskFile", "Target"]

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)

_MANY_FILES = 1000

#: So many bytes are worth telling the system to begin writing them to the disk.
_BEGIN_BYTES = 16 * 2**20


class Target:
    """A file or folder that appears under its name only when it is complete.

    All that can be refused is refused here, before anything is computed.

    Parameters
    ----------
    path
        The name it will have.
    overwrite
        Whether something that has the name may be replaced, at the end.
    folder_marks
        For folders: names of files by which a folder of this kind is known. Only such a folder, or an
        empty one, is ever replaced. Empty for files.

    Raises
    ------
    TargetExistsError
        If something has the name and ``overwrite`` is false.
    StorageError
        If it cannot be written there: the parent is missing or read-only, the name is too long, something
        of another kind has the name.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, overwrite: bool = False, folder_marks: tuple[str, ...] = ()
    ) -> None:
        self.path = path = os.fspath(path)
        self._final = Path(os.path.abspath(path))
        self._overwrite = overwrite
        self._marks = folder_marks
        if not path or not self._final.name or "\0" in path:
            raise StorageError(f"cannot write {path!r}: this is no file name.")
        with foreign_errors(path, "write"):
            self._check()
            # The whole name would become too long with what is added to it.
            name = os.fsencode(self._final.name)
            stem = f".{self._final.name[:40]}.{zlib.crc32(name):08x}"
            self._clear_away(stem)
            self.temporary = self._final.with_name(f"{stem}.{secrets.token_hex(4)}.partial")
            # Made at once: it shows whether the folder can be written to.
            if folder_marks:
                self.temporary.mkdir()
            else:
                self.temporary.touch(exist_ok=False)
            try:
                #: Shows others that somebody is at work.
                self._lock = _Lock(self.temporary)
            except BaseException:
                _remove(self.temporary)
                raise

    def _check(self) -> None:
        parent = self._final.parent
        if not parent.is_dir():
            what = "is not a folder" if parent.exists() else "does not exist; create it first"
            raise StorageError(f"cannot write {self.path!r}: the folder {str(parent)!r} {what}.")
        try:
            there = os.lstat(self._final)
        except FileNotFoundError:
            return
        if not self._overwrite:
            raise TargetExistsError(f"{self.path!r} exists already; choose another name or overwrite it.")
        if not there.st_mode & 0o222 and not stat.S_ISLNK(there.st_mode):
            raise StorageError(f"cannot overwrite {self.path!r}: it is read-only.")
        is_folder = stat.S_ISDIR(there.st_mode)
        if not self._marks and not (stat.S_ISREG(there.st_mode) or stat.S_ISLNK(there.st_mode)):
            kind = "a folder" if is_folder else "no ordinary file"
            raise StorageError(f"cannot overwrite {self.path!r}: it is {kind}; remove it first.")
        if self._marks and not self._replaceable_folder(is_folder):
            raise StorageError(
                f"cannot overwrite {self.path!r}: it is not a folder of this format "
                f"(none of {', '.join(self._marks)} is in it); remove it first."
            )

    def _clear_away(self, stem: str) -> None:
        """Remove what processes that were killed have left of this target; refuse if one is alive."""
        try:
            names = os.listdir(self._final.parent)
        except PermissionError:  # a folder to put things into, not to look into
            return
        for name in names:
            if not (name.startswith(f"{stem}.") and name.endswith(".partial")):
                continue
            found = self._final.with_name(name)
            try:
                lock = _Lock(found)
            except (FileNotFoundError, PermissionError):  # ended this moment, or of another user
                continue
            if lock.is_held_by_others:
                raise StorageError(f"cannot write {self.path!r}: it is being written already, to {name!r}.")
            if lock.is_held:
                _remove(found)
                _log.info("removed %s, left behind by a process that was killed", found)
            lock.release()

    def _replaceable_folder(self, is_folder: bool) -> bool:
        if not is_folder:
            return False
        names = set(os.listdir(self._final))
        return not names or not names.isdisjoint(self._marks)

    def commit(self) -> int:
        """Give it its name, in one step where the system can, and return its bytes.

        The contents are forced to the disk first, so that a crash leaves the old or the new, whole.
        """
        with foreign_errors(self.path, "write"):
            size = _sync(self.temporary)
            self._lock.share()  # whoever reads the file under its name takes a shared one
            if self._marks:
                self._commit_folder()
            elif self._overwrite:
                os.replace(self.temporary, self._final)
            else:
                self._commit_new_file()
            _sync_folder(self._final.parent)
            self._lock.release()
            return size

    def _commit_new_file(self) -> None:
        # Another process may have made the target meanwhile; a rename would replace it, a link does not.
        try:
            os.link(self.temporary, self._final)
        except FileExistsError:
            raise self._appeared() from None
        except OSError:  # a file system without hard links
            if os.path.lexists(self._final):
                raise self._appeared() from None
            os.rename(self.temporary, self._final)
        else:
            os.unlink(self.temporary)

    def _commit_folder(self) -> None:
        if not os.path.lexists(self._final):
            os.rename(self.temporary, self._final)
            return
        if not self._overwrite:
            raise self._appeared()
        self._check()
        if _exchange(self.temporary, self._final):
            shutil.rmtree(self.temporary, ignore_errors=True)
            return
        # Two steps; between them the old one is there under another name only.
        old = self.temporary.with_suffix(".old")
        os.rename(self._final, old)
        try:
            os.rename(self.temporary, self._final)
        except BaseException:
            os.rename(old, self._final)
            raise
        shutil.rmtree(old, ignore_errors=True)

    def _appeared(self) -> TargetExistsError:
        return TargetExistsError(f"{self.path!r} was made by somebody else meanwhile; it was left alone.")

    def abort(self) -> None:
        """Remove what was written. Never raises."""
        self._lock.release()  # first: its descriptor may be the only one there is
        _remove(self.temporary)


class _Lock:
    """A lock on a file or folder that the system lets go when the process ends, however it ends.

    Where there is none (Windows, some network disks) it is neither held here nor by others.
    """

    def __init__(self, path: Path) -> None:
        self.is_held = self.is_held_by_others = False
        self._fd = -1
        if fcntl is None:
            return
        self._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.is_held = True
        except OSError as error:
            self.is_held_by_others = error.errno in (errno.EAGAIN, errno.EACCES)
            self.release()

    def share(self) -> None:
        """Let others read what is locked, but not lock it for themselves."""
        if self.is_held and fcntl is not None:
            fcntl.flock(self._fd, fcntl.LOCK_SH)

    def release(self) -> None:
        """Let go; twice is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = release  # of a writer that was dropped


def _remove(path: Path) -> None:
    """Remove what a writer made, a file or a folder. Never raises.

    Unlike `shutil.rmtree` it has one file open at a time: there may be no room for more.
    """
    for folder, folders, files in os.walk(path, topdown=False):
        for remove, names in ((os.unlink, files), (os.rmdir, folders)):
            for name in names:
                with contextlib.suppress(OSError):
                    remove(os.path.join(folder, name))
    with contextlib.suppress(OSError):
        (os.rmdir if path.is_dir() else os.unlink)(path)


class DiskFile:
    """A new file written at absolute positions, by any number of threads.

    It never fails in the middle of something: the first error is kept, later writes are dropped, and
    `check` raises it. HDF5 needs that; a write that fails under it leaves it in a state in which it
    crashes when the interpreter ends (h5py#914). It sees this object as a Python file.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        self._lock = threading.Lock()
        self._position = 0
        #: What `find_place` waits to see, as `_identity` has it, and where it was to be written.
        self._awaited: tuple[int, int] | None = None
        self._found: int | None = None
        #: Bytes written since the system was last told to begin with the disk. As good as right is enough.
        self._held_back = 0
        self.error: OSError | None = None

    def check(self) -> None:
        """Raise the first error that a write met."""
        if self.error is not None:
            raise OSError(self.error.errno, self.error.strerror)

    def reserve(self, size: int) -> None:
        """Make the file ``size`` bytes long, on the disk where the system can promise it."""
        if hasattr(os, "posix_fallocate") and size:
            try:
                os.posix_fallocate(self._fd, 0, size)
                return
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                    raise
        os.ftruncate(self._fd, size)

    def write_runs(self, places: Sequence[int], data: memoryview) -> None:
        """Write equally long runs of bytes, each at its place."""
        run = len(data) // len(places)
        for i, place in enumerate(places):
            self.write_at(place, data[i * run : (i + 1) * run])

    def write_at(self, place: int, data: memoryview | bytes) -> None:
        """Write bytes at a place."""
        if self.error is not None:
            return
        try:
            count = self._pwrite(data, place)
            while count < len(data):  # a signal, or a disk that is nearly full
                data = memoryview(data)[count:]
                place += count
                count = self._pwrite(data, place)
        except OSError as error:
            self.error = error
        self._held_back += len(data)
        if self._held_back >= _BEGIN_BYTES:
            self._held_back = 0
            _begin_writeback(self._fd)

    def _pwrite(self, data: memoryview | bytes, place: int) -> int:
        if hasattr(os, "pwrite"):
            return os.pwrite(self._fd, data, place)
        with self._lock:  # Windows has one position per file
            os.lseek(self._fd, place, os.SEEK_SET)
            return os.write(self._fd, data)

    # What h5py's file-object driver calls; it holds HDF5_LOCK meanwhile, so one position is enough.

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: os.fstat(self._fd).st_size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Read from the position."""
        if size < 0:
            size = os.fstat(self._fd).st_size - self._position
        with self._lock:
            os.lseek(self._fd, self._position, os.SEEK_SET)
            data = os.read(self._fd, size)
        self._position += len(data)
        return data

    def readinto(self, buffer: memoryview) -> int:
        """Read into a buffer from the position."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: memoryview | bytes) -> int:
        """Write at the position; says it did even if it failed, see the class."""
        data = memoryview(data).cast("B")
        if self._awaited is not None and len(data) == self._awaited[1] and _identity(data) == self._awaited:
            self._found = self._position
        else:
            self.write_at(self._position, data)
        self._position += len(data)
        return len(data)

    def find_place(self, data: memoryview | bytes, write: Callable[[], object]) -> int | None:
        """Call what writes ``data`` through this file, and return where it goes instead of writing it.

        HDF5 only has to say where a chunk lies; the bytes can then be written without its lock. None if they
        were written after all, since HDF5 handed on a copy of them.
        """
        self._awaited, self._found = _identity(data), None
        try:
            write()
        finally:
            self._awaited = None
        return self._found

    def truncate(self, size: int) -> int:
        """Change the size of the file."""
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            self.error = self.error or error
        return size

    def flush(self) -> None:
        """Do nothing: nothing is held back here."""

    def close(self) -> None:
        """Close the file; twice is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _identity(data: memoryview | bytes) -> tuple[int, int]:
    """Return where bytes lie in memory, and how many: no other bytes lie there while these do."""
    array = np.frombuffer(data, np.uint8)
    return array.ctypes.data, array.size


def _begin_writeback(fd: int) -> None:
    """Let the system begin to bring a file to the disk, so that the end has little left to wait for."""
    sync_file_range = _system_call("sync_file_range")
    if sync_file_range is not None:
        whole, write = ctypes.c_int64(0), ctypes.c_uint(2)  # SYNC_FILE_RANGE_WRITE
        sync_file_range(fd, whole, whole, write)  # what cannot be begun is left to `_sync`


def _sync(path: Path) -> int:
    """Force a file, or all files in a folder, to the disk and return their bytes."""
    if path.is_dir():
        files = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
        if len(files) > _MANY_FILES and _sync_file_system(path):
            return sum(file.stat().st_size for file in files)
        return sum(map(_sync, files))
    fd = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(fd)
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


def _sync_file_system(path: Path) -> bool:
    """Force everything on the file system of a folder to the disk; whether the system has a call for it.

    A Zarr folder has a file per chunk. For many of them one call is minutes faster; for few it is slower,
    since it also waits for what other programs wrote.
    """
    syncfs = _system_call("syncfs")
    if syncfs is None:
        return False
    fd = os.open(path, os.O_RDONLY)
    try:
        if syncfs(fd):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return True
    finally:
        os.close(fd)


def _exchange(one: Path, other: Path) -> bool:
    """Let two files or folders swap their names in one step; whether the system could."""
    renameat2 = _system_call("renameat2")
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2 is not None and (
        renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0
    )


def _system_call(name: str) -> Any:
    """Return a function of the C library that Python has no name for; None where there is none."""
    return getattr(ctypes.CDLL(None, use_errno=True), name, None) if sys.platform == "linux" else None


def _sync_folder(path: Path) -> None:
    """Force a folder's entries to the disk, where that exists."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
