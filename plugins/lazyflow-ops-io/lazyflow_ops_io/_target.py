"""Where a writer writes: next to its target under another name, until everything is there."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import os
import secrets
import stat
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lazyflow_core.errors import StorageError, TargetExistsError
from lazyflow_core.foreign import contextmanager
from lazyflow_core.request import checkpoint
from lazyflow_ops_io._border import foreign_errors
from lazyflow_ops_io._in_use import check_unread

__all__ = ["DiskFile", "Finish", "Target", "write_file"]

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)

_MANY_FILES = 1000

#: More names than anybody removes before they are locked.
_ATTEMPTS = 100

#: How long others are waited for that begin or name a target in the same folder.
_PATIENCE_S = 10.0
_LOOK_AGAIN_S = 0.002

#: What brings over what is to stay: given what has the name and what is to get it, returns what gets it.
Finish = Callable[[Path, Path], Path]

#: Held while a target is begun or named; nothing else is acquired meanwhile but the system's locks.
_one_here = threading.Lock()

#: So many bytes are worth telling the system to begin writing them to the disk.
_BEGIN_BYTES = 16 * 2**20


class Target:
    """A file or folder that appears under its name only when it is complete.

    All that can be refused is refused here, before anything is computed.

    Parameters
    ----------
    path
        The file or folder, as the user wrote it.
    overwrite
        Whether something that has the name may be replaced, at the end.
    folder_marks
        For folders: names of files by which a folder of this kind is known. Only such a folder, or an
        empty one, is ever replaced. Empty for files.
    final
        What gets the name, if not ``path`` itself: a folder inside it.
    part
        Which part of ``path`` is written. Writers of different parts may be at work at once; one of the
        whole, which has no part, is alone.
    finish
        Called at the end with what has the name (which need not exist) and what is to get it; returns what
        gets it instead, for which it may ask `another`. It brings over what is to stay, and may be called
        again if others have changed that meanwhile.
    afterwards
        Called when it has its name, before another target in the same folder gets its own.

    Raises
    ------
    TargetExistsError
        If something has the name and ``overwrite`` is false.
    StorageError
        If it cannot be written there: the parent is missing or read-only, the name is too long, something
        of another kind has the name, or it is being read or written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        folder_marks: tuple[str, ...] = (),
        final: Path | None = None,
        part: str = "",
        finish: Finish | None = None,
        afterwards: Callable[[], None] | None = None,
    ) -> None:
        self.path = path = os.fspath(path)
        whole = Path(os.path.abspath(path))
        if not path or not whole.name or "\0" in path:
            raise StorageError(f"cannot write {path!r}: this is no file name.")
        self._final = final or whole
        self._overwrite = overwrite
        self._marks = folder_marks
        self._finish = finish
        self._afterwards = afterwards
        #: What `another` made; removed at the end.
        self._others: list[tuple[Path, _Lock]] = []
        # Beside the whole, where no program takes it for a part; but only within one file system can it be
        # given its name in one step.
        beside = whole if folder_marks else self._final
        if final is not None and _device(whole.parent) != _device(final.parent):
            beside = final
        self._folder = beside.parent
        # The whole name would become too long with what is added to it.
        self._stem = f".{beside.name[:40]}.{zlib.crc32(os.fsencode(beside.name)):08x}"
        #: Where the old one is while the new one gets its name, on systems that cannot swap them.
        self._aside = self._final.with_name(
            f".{self._final.name[:40]}.{zlib.crc32(os.fsencode(self._final.name)):08x}.old"
        )
        self._part = f"{zlib.crc32(part.encode()):08x}." if part else ""
        with foreign_errors(path, "write"):
            check_unread(path)
            with _only_one_in(self._folder):
                self._check()
                self._clear_away()
                # Made at once: it shows whether the folder can be written to.
                #: The lock shows others that somebody is at work.
                self.temporary, self._lock = self._new()

    def _check(self) -> None:
        parent = self._final.parent
        if not parent.is_dir():
            what = "is not a folder" if parent.exists() else "does not exist; create it first"
            raise StorageError(f"cannot write {self.path!r}: the folder {str(parent)!r} {what}.")
        if os.path.lexists(self._aside):
            if os.path.lexists(self._final):
                _remove(self._aside)
            else:
                os.rename(self._aside, self._final)
                _log.info("gave %s its name back; a process was killed that replaced it", self._final)
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

    def _replaceable_folder(self, is_folder: bool) -> bool:
        if not is_folder:
            return False
        names = set(os.listdir(self._final))
        return not names or not names.isdisjoint(self._marks)

    def _clear_away(self) -> None:
        """Remove what processes that were killed have left of this target; refuse if one is alive."""
        try:
            names = os.listdir(self._folder)
        except PermissionError:  # a folder to put things into, not to look into
            return
        for name in names:
            if not (name.startswith(f"{self._stem}.") and name.endswith(".partial")):
                continue
            found = self._folder / name
            try:
                lock = _Lock(found)
            except (FileNotFoundError, PermissionError):  # ended this moment, or of another user
                continue
            part = name[len(self._stem) + 1 : -len("partial")].rpartition(".")[0].partition(".")[0]
            of_all = "." not in name[len(self._stem) + 1 : -len(".partial")]
            if lock.is_held_by_others and (of_all or self._part in ("", f"{part}.")):
                raise StorageError(f"cannot write {self.path!r}: it is being written already, to {name!r}.")
            if lock.is_held:
                _remove(found)
                _log.info("removed %s, left behind by a process that was killed", found)
            lock.release()

    def _new(self) -> tuple[Path, _Lock]:
        """Make a file or folder under a name of its own, and lock it."""
        for _ in range(_ATTEMPTS):
            path = self._folder / f"{self._stem}.{self._part}{secrets.token_hex(4)}.partial"
            try:
                if self._marks:
                    path.mkdir()
                else:
                    path.touch(exist_ok=False)
                lock = _Lock(path)
            except FileNotFoundError:
                continue  # somebody took it for left behind, before it was locked
            except BaseException:
                _remove(path)
                raise
            if not lock.is_held_by_others:
                return path, lock
            lock.release()  # and this one is about to
        raise StorageError(f"cannot write {self.path!r}: what is begun is removed by another program.")

    def another(self) -> Path:
        """Return one more new file or folder beside the target, which is gone at the end."""
        path, lock = self._new()
        self._others.append((path, lock))
        return path

    def commit(self) -> int:
        """Give it its name, in one step where the system can, and return its bytes.

        The contents are forced to the disk first, so that a crash leaves the old or the new, whole.
        """
        with foreign_errors(self.path, "write"):
            size = _sync(self.temporary)
            while not self._give_name():
                self._remove_others()
            self.abort()  # what is left of the old, and of what was brought together
            return size

    def _give_name(self) -> bool:
        """Give what was written its name; return whether what it took along is still what is there."""
        seen = _state(self._final)
        new, lock = self.temporary, self._lock
        if self._finish is not None:
            new = self._finish(self._final, self.temporary)
            if new != self.temporary:
                lock = next(other for path, other in self._others if path == new)
                _sync(new)
        with _only_one_in(self._folder):
            if self._finish is not None and _state(self._final) != seen:
                return False
            lock.share()  # whoever reads the file under its name takes a shared one
            if self._marks:
                self._commit_folder()
            elif self._overwrite or new != self.temporary:
                os.replace(new, self._final)
            else:
                self._commit_new_file()
            if self._afterwards is not None:
                self._afterwards()
        _sync_folder(self._final.parent)
        return True

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

    def _commit_folder(self) -> None:
        if not os.path.lexists(self._final):
            os.rename(self.temporary, self._final)
            return
        if not self._overwrite:
            raise self._appeared()
        self._check()
        if _exchange(self.temporary, self._final):
            return
        # Two steps; between them the old one is there under another name only, where `_check` looks for it.
        os.rename(self._final, self._aside)
        try:
            os.rename(self.temporary, self._final)
        except BaseException:
            os.rename(self._aside, self._final)
            raise
        _remove(self._aside)

    def _appeared(self) -> TargetExistsError:
        return TargetExistsError(f"{self.path!r} was made by somebody else meanwhile; it was left alone.")

    def _remove_others(self) -> None:
        while self._others:
            path, lock = self._others.pop()
            lock.release()
            _remove(path)

    def abort(self) -> None:
        """Remove what was written, if it has no name yet. Never raises."""
        self._lock.release()  # first: its descriptor may be the only one there is
        _remove(self.temporary)
        self._remove_others()


class _Lock:
    """A lock on a file or folder that the system lets go when the process ends, however it ends.

    Where there is none (Windows, some network disks) it is neither held here nor by others.

    Raises
    ------
    FileNotFoundError
        If there is nothing, or nothing any more.
    """

    def __init__(self, path: Path) -> None:
        self.is_held = self.is_held_by_others = False
        self._fd = -1
        if fcntl is None:
            return
        self._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.is_held = True
        except OSError as error:
            self.is_held_by_others = error.errno in (errno.EAGAIN, errno.EACCES)
            self.release()
            return
        try:
            # Whoever held it a moment ago may have removed what it is a lock on.
            if not os.path.samestat(os.fstat(self._fd), os.lstat(path)):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
        except BaseException:
            self.release()
            raise

    def share(self) -> None:
        """Let others read what is locked, but not lock it for themselves."""
        if self.is_held and fcntl is not None:
            fcntl.flock(self._fd, fcntl.LOCK_SH)

    def release(self) -> None:
        """Let go; twice is fine."""
        self.is_held = False
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = release  # of a writer that was dropped


@contextmanager
def _only_one_in(folder: Path) -> Iterator[None]:
    """Let one thread of one process at a time begin or name targets in a folder, where locks allow it.

    Held for moments: what takes long is done before. Whoever holds it for longer has been stopped, or is the
    child of a process that did, and is not waited for: without it two that begin the same target at once may
    both be refused, and nothing worse.
    """
    fd = -1
    with _one_here:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a folder that cannot be looked into, or not be locked
                fd = os.open(folder, os.O_RDONLY)
                _wait_for_lock(fd)
        try:
            yield
        finally:
            if fd >= 0:
                os.close(fd)


def _wait_for_lock(fd: int) -> None:
    """Lock a folder, or give up after a while; raises OSError where there are no such locks."""
    until = time.monotonic() + _PATIENCE_S
    while fcntl is not None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return
            time.sleep(_LOOK_AGAIN_S)
        else:
            return


def _state(path: Path) -> tuple[int, ...] | None:
    """Return what changes when a file, or the list of what is in a folder, does; None if it is not there."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _device(folder: Path) -> int:
    """Return the number of a folder's file system, -1 if there is no such folder."""
    try:
        return os.stat(folder).st_dev
    except OSError:
        return -1


def _remove(path: Path) -> None:
    """Remove what a writer made, a file or a folder. Never raises.

    Unlike `shutil.rmtree` it has one file open at a time: there may be no room for more.
    """
    for folder, folders, files in os.walk(path, topdown=False):
        for name in (*files, *folders):  # a link to a folder is listed as one
            place = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                (os.rmdir if name in folders and not os.path.islink(place) else os.unlink)(place)
    with contextlib.suppress(OSError):
        (os.rmdir if path.is_dir() and not path.is_symlink() else os.unlink)(path)


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
            checkpoint()
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


def write_file(path: str, data: memoryview | bytes) -> None:
    """Write a whole file that nobody else sees yet."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)
    try:
        rest = memoryview(data)
        while len(rest):  # a signal, or a disk that is nearly full
            rest = rest[os.write(fd, rest) :]
    finally:
        os.close(fd)


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
