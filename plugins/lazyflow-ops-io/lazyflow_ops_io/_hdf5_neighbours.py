"""What else is in an HDF5 file that gets one more dataset: it stays.

HDF5 cannot add to a file so that the end of the process leaves it as it was. So the file is copied at the
end, the new dataset put into the copy, as packed as it is, and the copy takes its place in one step.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py

from lazyflow_core.errors import StorageError, TargetExistsError
from lazyflow_ops_io._border import one_line
from lazyflow_ops_io._hdf5 import HDF5_LOCK
from lazyflow_ops_io._hdf5_guard import GuardedFile, find_beginning, lock_for_reading
from lazyflow_ops_io._reader import PreadFile
from lazyflow_ops_io._target import DiskFile

__all__ = ["Neighbours"]


class Neighbours:
    """The rest of a file in which a dataset is written.

    Parameters
    ----------
    path
        The file, as the user wrote it.
    name
        The dataset, without outer slashes.
    named
        Whether the user named it. Otherwise it is the file that is written: one that exists is a target
        that exists, and one that is damaged can be replaced.
    overwrite
        Whether the dataset may be there already.

    Raises
    ------
    TargetExistsError
        If it is and may not.
    StorageError
        If it cannot be added to the file: something else has its name, the file is damaged, being written,
        or there is no room for a copy of it.
    """

    #: Makes a file beside the target; given by whoever makes that.
    another: Callable[[], Path]

    def __init__(self, path: str, name: str, *, named: bool, overwrite: bool) -> None:
        self._path, self._name, self._named, self._overwrite = path, name, named, overwrite
        #: The file; whoever names a dataset means the file behind a link, otherwise the link is replaced.
        self.file = Path(os.path.realpath(path) if named and "\0" not in path else os.path.abspath(path))
        #: Whether there is something that stays.
        self.are_there = self._look(self.file)
        if self.are_there:
            size, free = self.file.stat().st_size, shutil.disk_usage(self.file.parent).free
            if free < size:
                raise StorageError(
                    f"cannot add {name!r} to {path!r}: its disk has {free} bytes left, and the file of "
                    f"{size} bytes is copied so that it is never half there; make room or write another file."
                )

    def _look(self, file: Path) -> bool:
        """Return whether something in a file stays; raise if the dataset cannot be added to it."""
        # What is no file is refused by the target.
        if not (self._named or self._overwrite) or not self._path or not file.is_file():
            return False
        if file.is_symlink():
            return False
        raw = PreadFile(file)
        try:
            lock_for_reading(self._path, raw)
            with HDF5_LOCK, h5py.File(GuardedFile(raw, find_beginning(self._path, raw)), "r") as found:
                return self._check_place(found)
        except StorageError:
            raise
        except Exception as error:  # whatever HDF5 makes of a damaged file
            if not self._named:
                return False
            raise StorageError(
                f"cannot add {self._name!r} to {self._path!r}: it is no HDF5 file, or damaged "
                f"({one_line(error)}) Write another file, or overwrite it without naming a dataset."
            ) from error
        finally:
            raw.close()

    def _check_place(self, file: h5py.File) -> bool:
        """Return whether a file holds more than the dataset; raise if that cannot be put there."""
        group: Any = file["/"]
        *parents, last = self._name.split("/")
        others = False
        for part in parents:
            others = others or len(group) > 1 or len(group.attrs) > 0
            if not group.id.links.exists(part.encode()):
                return others or len(group) > 0
            inner = group[part] if _is_hard(group, part) else None
            if not isinstance(inner, h5py.Group):
                raise StorageError(
                    f"cannot add {self._name!r} to {self._path!r}: {part!r} in it is no group; "
                    "choose another dataset."
                )
            group = inner
        others = others or len(group.attrs) > 0
        if not group.id.links.exists(last.encode()):
            return others or len(group) > 0
        if _is_hard(group, last) and not isinstance(group[last], h5py.Dataset):
            raise StorageError(
                f"cannot write {self._name!r} in {self._path!r}: it is a group; choose another dataset."
            )
        if not self._overwrite:
            raise TargetExistsError(
                f"{self._path!r} holds {self._name!r} already; choose another dataset or overwrite it."
            )
        return others or len(group) > 1

    def add(self, file: Path, new: Path) -> Path:
        """Return a copy of the file with the dataset of the new one in it; the new one if nothing stays."""
        if not self._look(file):
            return new
        both = self.another()
        shutil.copyfile(file, both)
        shutil.copymode(file, both)
        name = self._name.encode()
        parent, _, last = self._name.rpartition("/")
        raw, disk = PreadFile(new), DiskFile(both)
        try:
            with HDF5_LOCK, h5py.File(GuardedFile(raw), "r") as source:
                target = h5py.File(disk, "r+")
                try:
                    group = target[parent or "/"] if not parent or parent in target else None
                    if group is not None and group.id.links.exists(last.encode()):
                        group.id.unlink(last.encode())
                    groups = h5py.h5p.create(h5py.h5p.LINK_CREATE)
                    groups.set_create_intermediate_group(True)
                    h5py.h5o.copy(source.id, name, target.id, name, lcpl=groups)
                finally:
                    target.close()
            disk.check()
        except Exception:
            disk.check()  # what a full disk left out is the cause of whatever HDF5 says
            raise
        finally:
            disk.close()
            raw.close()
        return both


def _is_hard(group: h5py.Group, name: str) -> bool:
    """Whether a name leads to something in this very file and not by way of another name."""
    return bool(group.id.links.get_info(name.encode()).type == h5py.h5l.TYPE_HARD)
