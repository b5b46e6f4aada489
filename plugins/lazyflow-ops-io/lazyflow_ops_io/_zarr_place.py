"""Where in a Zarr folder a new array goes, and what is there and stays.

Only one folder is made anew, and gets its name in one step:

- the whole store, where there is none;
- the first folder on the way to the array that does not exist: the array is *added*;
- the array itself, where it exists and no image lists it;
- the group around it, where an image lists it, since what that says of it changes too. What else is in the
  group is brought over by hard links, which cost no room: other arrays, other images and files of any kind.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from lazyflow_core.errors import FormatError, StorageError, TargetExistsError
from lazyflow_ops_io import _ngff
from lazyflow_ops_io._zarr_store import ZarrFolder

__all__ = ["MARKS", "Place", "find_place"]

#: A folder with one of these in it is a Zarr folder.
MARKS: Final = ("zarr.json", ".zarray", ".zgroup")

#: What describes a group or array: written anew.
_DOCUMENTS: Final = {*MARKS, ".zattrs", ".zmetadata"}

#: What else an array consists of: the folder of chunks of format 3; chunks of format 2 in both spellings.
_CHUNKS: Final = re.compile(r"c|\d+(\.\d+)*")


class Place:
    """The folder that is made anew.

    Parameters
    ----------
    root
        The store.
    folder
        Path of the folder inside it, ``""`` for the store itself.
    inner
        Path of the array inside that folder, ``""`` if it is the folder.
    overwrite
        Whether the array may be there already.
    adds
        Whether it is one more array. What appears around it meanwhile is no reason to refuse it then.
    version
        The Zarr format of what is around it; None if nothing is.
    """

    def __init__(
        self,
        root: Path,
        folder: str,
        inner: str,
        *,
        overwrite: bool,
        adds: bool = False,
        version: Literal[2, 3] | None = None,
    ) -> None:
        self.root, self.folder, self.inner = root, folder, inner
        self.overwrite, self.adds, self.version = overwrite, adds, version

    @property
    def final(self) -> Path:
        """The folder in the file system."""
        return self.root / self.folder if self.folder else self.root

    @property
    def label(self) -> tuple[str, str] | None:
        """The group of label images that the array belongs to, and the name of its image there; None if none.

        Source
        ------
        OME-NGFF, "labels": the group lists the images in it, below an image.
        """
        *image, _ = f"{self.folder}/{self.inner}".strip("/").split("/")
        if "labels" not in image[:-1]:
            return None
        at = len(image) - 2 - image[-2::-1].index("labels")
        return "/".join(image[: at + 1]), "/".join(image[at + 1 :])

    def list_label(self) -> None:
        """Add the image of the array to the list of label images around it, if that is there."""
        if self.label is None:
            return
        group, name = self.label
        node = ZarrFolder(os.fspath(self.root)).node(group)
        if node is not None and node.kind == "group":
            change = partial(_ngff.with_label, name=name, version=_ngff.version_in(node.version))
            _change_attributes(self.root / group, change)

    def finish(self, final: Path, new: Path) -> Path:
        """Bring over what stays, and drop lists of the store's contents that become wrong."""
        above = self.folder.split("/")[:-1]
        for depth in range(len(above) + 1 if self.folder else 0):
            _drop_consolidated(self.root.joinpath(*above[:depth]))
        if not final.is_dir():
            return new
        if self.adds and not self.overwrite and os.path.lexists(final / self.inner):
            raise TargetExistsError(
                f"{os.fspath(final / self.inner)!r} was made by somebody else meanwhile; it was left alone."
            )
        if self.inner or not self.folder:
            self._bring_over(final, new)
        return new

    def _bring_over(self, old: Path, new: Path) -> None:
        going, was_array = {self.inner}, False
        with contextlib.suppress(FormatError):  # what is damaged says nothing
            store = ZarrFolder(os.fspath(old))
            node = store.node("")
            was_array = node is not None and node.kind == "array"
            if node is not None and not was_array and self.inner:
                going.update(self._merge_groups(store, new))
        for name in os.listdir(old):
            # Chunks that stayed would be pixels of the new array.
            is_chunk = _CHUNKS.fullmatch(name) is not None and (was_array or not self.inner)
            if name not in _DOCUMENTS and not is_chunk:
                _link(old / name, new / name, name, going)

    def _merge_groups(self, store: ZarrFolder, new: Path) -> Iterator[str]:
        """Keep what the groups on the way to the array say besides; give levels of the image that goes."""
        parts = self.inner.split("/")
        for depth in range(len(parts)):
            above, level = "/".join(parts[:depth]), "/".join(parts[depth:])
            node = store.node(above)
            if node is None or node.kind != "group":
                return
            if node.version != (self.version or 3):
                raise StorageError(
                    f"cannot write {self.inner!r} in Zarr format {self.version or 3}: what is in "
                    f"{os.fspath(self.root)!r} has format {node.version}."
                )
            prefix = f"{above}/" if above else ""
            yield from (prefix + name for name in _ngff.levels_beside(node.attributes, level))
            change = partial(_ngff.merged, node.attributes, path=level, in_front=not self.adds)
            _change_attributes(new / above, change)


def find_place(path: str, key: str, *, named: bool, overwrite: bool, version: Literal[2, 3] | None) -> Place:
    """Return where an array goes.

    Parameters
    ----------
    path
        The store, as the user wrote it.
    key
        Path of the array inside it.
    named
        Whether the user named it. Otherwise it is the store that is written: one that exists is a target
        that exists, and its image is replaced.
    overwrite
        Whether the array may be there already.
    version
        The Zarr format it is to have, if that was said.

    Raises
    ------
    TargetExistsError
        If the array is there and may not.
    StorageError
        If it cannot be there: something else has its name or is in its way, or what is around it is of
        another format.
    """
    root = Path(os.path.abspath(path))
    whole = Place(root, "", key, overwrite=overwrite, adds=named, version=version)
    if "\0" in path or root.is_symlink() or not root.is_dir() or not (named or overwrite):
        return whole  # new, or refused by the target
    if set(os.listdir(root)).isdisjoint(MARKS):
        return whole  # likewise
    store = ZarrFolder(path)
    try:
        found = _find(store, root, path, key, named=named, overwrite=overwrite)
    except FormatError as error:
        if named:
            raise StorageError(
                f"cannot write {key!r} in {path!r}: what is there is damaged ({error}) Write another folder, "
                "or overwrite it without naming a dataset."
            ) from error
        found = Place(root, "", key, overwrite=True, version=version)
    stays = bool(found.folder) or _has_nodes_beside(store, found)
    if stays and None not in (version, found.version) and version != found.version:
        raise StorageError(
            f"cannot write {key or '/'!r} in {path!r} in Zarr format {version}: the store has format "
            f"{found.version}; leave zarr_format out or give that."
        )
    if stays and not key:
        raise StorageError(f"cannot make {path!r} one array: it holds others; remove it first.")
    found.version = version or (found.version if stays else None)
    return found


def _find(store: ZarrFolder, root: Path, path: str, key: str, *, named: bool, overwrite: bool) -> Place:
    parts = key.split("/") if key else []
    around: Literal[2, 3] | None = None
    for depth in range(len(parts)):
        above, this = "/".join(parts[:depth]), "/".join(parts[: depth + 1])
        node = store.node(above)
        around = node.version if node is not None else around
        if node is not None and node.kind == "array":
            if not named:
                return Place(root, "", key, overwrite=True, version=around)
            raise _in_the_way(path, key, f"{above or '/'!r} is an array")
        if not os.path.lexists(root / this):
            if not named:
                return Place(root, "", key, overwrite=True, version=around)
            return Place(
                root, this, "/".join(parts[depth + 1 :]), overwrite=overwrite, adds=True, version=around
            )
        if not (root / this).is_dir():
            raise _in_the_way(path, key, f"{this!r} is no folder")
    if not overwrite:
        raise TargetExistsError(
            f"{path!r} holds {key or '/'!r} already; choose another dataset or overwrite it."
        )
    node = store.node(key)
    if not key:
        return Place(root, "", "", overwrite=True, version=node.version if node is not None else None)
    if node is None or node.kind == "group":
        raise _in_the_way(path, key, f"{key!r} is {'no array' if node is None else 'a group'}")
    parent, _, name = key.rpartition("/")
    group = store.node(parent)
    if named and (group is None or not _ngff.lists(group.attributes, name)):
        return Place(root, key, "", overwrite=True, version=around)
    return Place(root, parent, name, overwrite=True, version=around)


def _in_the_way(path: str, key: str, what: str) -> StorageError:
    return StorageError(f"cannot write {key or '/'!r} in {path!r}: {what}; choose another dataset.")


def _has_nodes_beside(store: ZarrFolder, place: Place) -> bool:
    """Whether a folder that is made anew has other arrays or groups than the ones that go."""
    going = {place.inner}
    with contextlib.suppress(FormatError):
        node = store.node(place.folder)
        if node is not None:
            going.update(
                _ngff.levels_beside(
                    node.attributes, place.inner or next(iter(_ngff.levels(node.attributes)), "")
                )
            )
    with os.scandir(place.final) as entries:
        return any(
            entry.name not in going and not set(os.listdir(entry.path)).isdisjoint(MARKS)
            for entry in entries
            if entry.is_dir(follow_symlinks=False)
        )


def _link(old: Path, new: Path, key: str, going: set[str]) -> None:
    """Give a file, or all files in a folder, a second name; leave out what goes and what is there."""
    if key in going:
        return
    if old.is_symlink():
        if not os.path.lexists(new):
            os.symlink(os.readlink(old), new)
    elif old.is_dir():
        new.mkdir(exist_ok=True)
        for name in os.listdir(old):
            _link(old / name, new / name, f"{key}/{name}", going)
        shutil.copystat(old, new)
    elif not os.path.lexists(new):
        try:
            os.link(old, new)
        except OSError:  # a file system without hard links
            shutil.copy2(old, new)


def _drop_consolidated(group: Path) -> None:
    """Remove what zarr-python keeps of the metadata of all that is in a group: it would be out of date."""
    (group / ".zmetadata").unlink(missing_ok=True)
    with contextlib.suppress(OSError, ValueError):
        document = json.loads((group / "zarr.json").read_text(encoding="utf-8"))
        if document.pop("consolidated_metadata", None) is not None:
            _replace_document(group / "zarr.json", document)


def _change_attributes(group: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change the attributes of a new group."""
    path = group / "zarr.json"
    if path.exists():
        document = json.loads(path.read_text(encoding="utf-8"))
        document["attributes"] = change(document.get("attributes") or {})
    else:
        path = group / ".zattrs"
        document = change(json.loads(path.read_text(encoding="utf-8")) if path.exists() else {})
    _replace_document(path, document)


def _replace_document(path: Path, document: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("x", encoding="utf-8") as file:
            json.dump(document, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
