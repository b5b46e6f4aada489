"""A Zarr folder: its metadata documents, read within bounds and never from outside of it."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from typing import Any, Literal

from lazyflow_core.errors import FormatError, StorageError
from lazyflow_core.sources import check_is_here
from lazyflow_ops_io._reader import PreadFile

__all__ = ["ArrayFolder", "Node", "ZarrFolder", "check_key"]

#: More than any metadata document needs; OME-Zarr with thousands of wells stays under a mebibyte.
_MOST_METADATA_BYTES = 16 * 2**20

_MOST_LISTED = 1000
_MOST_DEEP = 20

#: What appears between looking for a link and opening is not followed either.
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)


@dataclass(frozen=True, slots=True)
class Node:
    """One array or group."""

    kind: Literal["array", "group"]
    version: Literal[2, 3]
    metadata: dict[str, Any]
    attributes: dict[str, Any]


def check_key(path: str, key: str) -> str:
    """Return a path inside a store without its outer slashes; refuse one that could lead out of it.

    Raises
    ------
    FormatError
        For ``..``, ``.``, empty parts, NUL and backslashes.
    """
    inner = key.strip("/")
    parts = inner.split("/") if inner else []
    if any(p in ("", ".", "..") or "\0" in p or "\\" in p or ":" in p for p in parts):
        raise FormatError(f"{path!r}: {key!r} is no path inside a Zarr store.")
    return inner


class ArrayFolder:
    """The folder of an array, by which one that was replaced while it is read is known.

    Its chunks are opened by their names: those of another array could be under them meanwhile, or none,
    which would be pixels too.

    Raises
    ------
    StorageError
        If there is no such folder any more.
    """

    def __init__(self, path: str, place: str) -> None:
        self._path, self._place = path, place
        # Held open so that no other folder gets its number.
        self._fd = -1
        with contextlib.suppress(OSError):  # Windows opens no folders
            self._fd = os.open(place, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        self._number = self._look()

    def _look(self) -> tuple[int, int]:
        try:
            status = os.stat(self._place)
        except OSError:
            raise StorageError(
                f"cannot read {self._path!r}: it was removed or renamed; open it again."
            ) from None
        return status.st_dev, status.st_ino

    def check(self) -> None:
        """Raise `StorageError` if another folder has the name now: what was opened before is of this one."""
        if self._look() != self._number:
            raise StorageError(f"cannot read {self._path!r}: it was replaced meanwhile; open it again.")

    def close(self) -> None:
        """Let go of it; twice is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close  # of a reader that was dropped


class ZarrFolder:
    """The root folder of a store.

    Parameters
    ----------
    path
        The folder, as the user wrote it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.root = os.path.realpath(path)
        #: Folders that were found to lie inside, so that each is looked at once. Only grows; setting an
        #: item is atomic, and two threads that look at the same folder find the same.
        self._inside: dict[str, bool] = {}

    def open(self, key: str) -> PreadFile:
        """Open the file of a key.

        Raises
        ------
        FormatError
            If a symbolic link leads out of the store, or to nothing: what is not there has a value, which
            would be read instead.
        FileNotFoundError
            If there is none.
        """
        return PreadFile(self._locate(key), flags=_NO_LINKS)

    def _locate(self, key: str) -> str:
        """Return the file of a key, which may not be a link unless it stays in the store."""
        place = f"{self.root}{os.sep}{key}"
        folder = os.path.dirname(place)
        if folder not in self._inside:
            self._inside[folder] = self._is_inside(key, folder)
        if self._inside[folder]:
            if not os.path.islink(place):
                return place
            real = os.path.realpath(place)
            if real.startswith(self.root + os.sep):
                if not os.path.exists(real):
                    raise FormatError(
                        f"{self.path!r}: {key!r} is a link to {os.readlink(place)!r}, which is not there."
                    )
                return real
        hint = ""
        if os.path.islink(place) and "/annex/objects/" in os.readlink(place).replace(os.sep, "/"):
            hint = (
                " It is one of git-annex: 'git annex get' fetches its content, if that is not here, and "
                "'git annex unlock' puts the file itself in its place."
            )
        raise FormatError(f"{self.path!r}: {key!r} is a link that leads out of the store.{hint}")

    def _is_inside(self, key: str, folder: str) -> bool:
        real = os.path.realpath(folder)
        if not os.path.isdir(real):
            while len(folder) > len(self.root):
                if os.path.islink(folder):
                    raise self._link_to_nothing(key, folder)
                folder = os.path.dirname(folder)
        return real == self.root or real.startswith(self.root + os.sep)

    def _link_to_nothing(self, key: str, link: str) -> FormatError:
        return FormatError(
            f"{self.path!r}: {key!r} is, or lies in, a link to {os.readlink(link)!r}, which is not there."
        )

    def node(self, key: str) -> Node | None:
        """Return the array or group at a path in the store, ``""`` for its root; None if there is none."""
        prefix = f"{key}/" if key else ""
        document = self._document(prefix + "zarr.json")
        if document is not None:
            kind = document.get("node_type")
            if kind not in ("array", "group") or document.get("zarr_format") != 3:
                raise FormatError(f"{self.path!r}: {prefix}zarr.json describes neither an array nor a group.")
            attributes = document.get("attributes")
            return Node(kind, 3, document, attributes if isinstance(attributes, dict) else {})
        for name, kind in ((".zarray", "array"), (".zgroup", "group")):
            document = self._document(prefix + name)
            if document is not None:
                if document.get("zarr_format") != 2:
                    raise FormatError(f"{self.path!r}: {prefix}{name} is not of Zarr format 2.")
                return Node(kind, 2, document, self._document(prefix + ".zattrs") or {})  # type: ignore[arg-type]
        return None

    def arrays(self) -> list[str]:
        """Return the paths of the arrays in the store, at most 1000."""
        found: list[str] = []
        todo = [""]
        looked = 0
        while todo and len(found) < _MOST_LISTED and looked < 10 * _MOST_LISTED:
            key = todo.pop()
            looked += 1
            try:
                node = self.node(key)
            except FormatError:
                continue  # a damaged one hides only itself
            if node is not None and node.kind == "array":
                found.append(key or "/")
                continue
            # Rows of a plate need no document, so folders without one are looked into too.
            if key.count("/") >= _MOST_DEEP:
                continue
            with os.scandir(os.path.join(self.root, key)) as entries:
                todo += [
                    f"{key}/{e.name}" if key else e.name for e in entries if e.is_dir(follow_symlinks=False)
                ]
        return sorted(found)

    def _document(self, key: str) -> dict[str, Any] | None:
        """Return a JSON document of the store; None if there is none."""
        try:
            with self.open(key) as file:
                text = file.read(0, min(file.size, _MOST_METADATA_BYTES + 1))
        except (FileNotFoundError, NotADirectoryError):
            return None
        if len(text) > _MOST_METADATA_BYTES:
            raise FormatError(f"{self.path!r}: {key} has more than {_MOST_METADATA_BYTES} bytes.")
        check_is_here(os.path.join(self.path, key), text)
        try:
            document = json.loads(text.decode())
        except RecursionError:
            raise FormatError(f"{self.path!r}: {key} is nested too deeply.") from None
        except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are ones
            raise FormatError(f"{self.path!r}: {key} is no JSON: {error}.") from error
        if not isinstance(document, dict):
            raise FormatError(f"{self.path!r}: {key} holds {type(document).__name__}, expected an object.")
        return document
