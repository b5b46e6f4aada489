"""Files that are read: ordinary ones, opened without waiting for anybody, whose content is really here.

A name may lead to a pipe that nobody writes to, to a device without end, or to a file of a few bytes by which
Git LFS or git-annex stands in for one that was not fetched. Whoever reads a file of a user opens it here, or
asks `check_is_here` before telling that it is damaged.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import BinaryIO, Final

from lazyflow_core.errors import StorageError

__all__ = ["check_is_here", "is_address", "open_source", "why_missing"]

#: ``https://…`` and its like; a drive of Windows has one letter.
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")

#: How a pointer of Git LFS begins (its specification, and the names it had before).
_LFS: Final = re.compile(
    rb"version https?://(?:git-lfs\.github\.com/spec|hawser\.github\.com/spec|git-media\.io)/"
)

#: What stands in an unlocked file of git-annex, or in one of its links where a system has no links.
_ANNEX: Final = re.compile(rb"(?:(?:\.\.?/)*\.git)?/annex/objects/[^\s\0]+\s*\Z")

#: No pointer is longer.
_MOST_BYTES: Final = 32 * 1024


def open_source(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading.

    Raises
    ------
    StorageError
        If it is missing, a folder, no path or not to be read; a pipe, a device or a socket; or if its content
        was not fetched by Git LFS or git-annex.
    """
    path = os.fspath(path)
    if is_address(path):
        raise StorageError(f"{path} {why_missing(path)}.")
    try:
        file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115  # whoever asked closes it
    except FileNotFoundError:
        raise StorageError(f"{path} {why_missing(path)}.") from None
    except OSError as error:
        if os.path.isdir(path):
            raise StorageError(f"{path} is a folder, not a file.") from None
        if error.errno == errno.ENXIO:  # a socket, or a pipe that nobody writes to
            raise StorageError(f"{path} is no ordinary file but a pipe or a device.") from None
        raise StorageError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:  # a NUL in the name
        raise StorageError(f"{path!r} is no path: {error}.") from error
    try:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise StorageError(f"{path} is no ordinary file but a pipe or a device.")
        if status.st_size <= _MOST_BYTES:
            check_is_here(path, file.read())
            file.seek(0)
    except BaseException as error:
        file.close()
        if isinstance(error, OSError) and not isinstance(error, StorageError):  # of the disk
            raise StorageError(f"{path} cannot be read: {error.strerror or error}.") from error
        raise
    return file


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))


def check_is_here(path: str, content: bytes) -> None:
    """Raise if a file holds nothing but a pointer to a file that was not fetched.

    Parameters
    ----------
    path
        The file, for the sentence.
    content
        All of it, or its first kilobytes.

    Raises
    ------
    StorageError
        Naming the command that fetches it.

    Examples
    --------
    >>> check_is_here("a.tif", b"/annex/objects/SHA256E-s12345--4d7a2146.tif\\n")
    Traceback (most recent call last):
    lazyflow_core.errors.StorageError: a.tif is a pointer of git-annex to a file that is not here yet; ...
    """
    if len(content) > _MOST_BYTES:
        return
    if _LFS.match(content):
        raise StorageError(
            f"{path} is a pointer of Git LFS to a file that is not here yet; 'git lfs pull' fetches it."
        )
    if _ANNEX.match(content):
        raise StorageError(
            f"{path} is a pointer of git-annex to a file that is not here yet; 'git annex get' fetches it."
        )


def is_address(path: str) -> bool:
    """Whether a path is a URL such as ``https://host/name`` or ``file:///name``."""
    return _ADDRESS.match(path) is not None


def why_missing(path: str) -> str:
    """Return what to say of a path that leads nowhere, after its name."""
    if is_address(path):
        return "is an address, not a file of this machine; download it and give its path"
    if not os.path.islink(path):
        return "does not exist"
    target = os.readlink(path)
    if "/annex/objects/" in target.replace(os.sep, "/"):
        return "is a link of git-annex whose content is not here yet; 'git annex get' fetches it"
    return f"is a link to {target!r}, which does not exist"
