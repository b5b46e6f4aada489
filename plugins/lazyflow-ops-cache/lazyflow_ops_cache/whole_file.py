"""Files that are there as a whole or not at all, and errors that name them."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import secrets
import shutil
import stat
import zlib
from collections.abc import Iterator

from lazyflow_core.errors import FormatError, PluginError, StorageError
from lazyflow_core.foreign import contextmanager, sentence

__all__ = ["replacing", "telling"]


@contextmanager
def replacing(path: str | os.PathLike[str], *, copy: bool = False) -> Iterator[str]:
    """Give the name of a file to write; at the end it takes the place of ``path``, in one step.

    Whatever happens before, the end of the process included, ``path`` stays as it was. What a process that
    was killed has left behind is removed by the next one.

    Parameters
    ----------
    path
        The file, which need not exist.
    copy
        Whether the file to write is a copy of it; otherwise there is none yet.

    Raises
    ------
    OSError
        If it cannot be written, or is no ordinary file.
    """
    final = os.path.realpath(path)  # of a link, what it leads to is replaced
    folder, name = os.path.split(final)
    exists = os.path.lexists(final)
    if exists and not stat.S_ISREG(os.stat(final).st_mode):
        raise OSError(f"{final!r} is no ordinary file")
    here = f"{zlib.crc32(platform.node().encode()):08x}"
    stem = f".{name[:40]}.{zlib.crc32(os.fsencode(name)):08x}.{here}."
    _clear_away(folder, stem)
    temporary = os.path.join(folder, f"{stem}{os.getpid()}.{secrets.token_hex(4)}.partial")
    try:
        if exists and copy:
            shutil.copy2(final, temporary)
        yield temporary
        if exists:
            shutil.copymode(final, temporary)
        _sync(temporary)
        os.replace(temporary, final)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync(folder)


@contextmanager
def telling(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Tell in our words which file could not be ``what``, read or written, whatever a library says of it."""
    try:
        yield
    except (FormatError, StorageError, PluginError, MemoryError):
        raise
    except OSError as error:
        raise StorageError(f"{os.fspath(path)!r} cannot be {what}: {sentence(error)}.") from error
    except Exception as error:
        raise FormatError(f"{os.fspath(path)!r} is damaged: {sentence(error)}.") from error


def _clear_away(folder: str, stem: str) -> None:
    """Remove what processes of this machine have left that are not alive any more."""
    for name in os.listdir(folder):
        found = re.fullmatch(re.escape(stem) + r"(\d+)\.[0-9a-f]{8}\.partial", name)
        if found and not _is_alive(int(found[1])):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, name))


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # there a signal of 0 would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _sync(path: str) -> None:
    """Force a file, or the list of those in a folder, to the disk, where the system can."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # folders of Windows
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
