"""The one door to a project file: nothing in it is run, followed out of it, or allocated without reason."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt
from lazyflow_core.errors import FormatError, StorageError
from lazyflow_core.foreign import contextmanager
from lazyflow_core.sources import open_source
from lazyflow_core.utility import format_bytes

__all__ = ["ProjectFile"]

Array = npt.NDArray[Any]

#: What deflate can make of a byte, at most (RFC 1951: 258 bytes of two bits).
_MOST_PER_BYTE: Final = 1032
_MOST_BYTES: Final = 2**30
_MOST_MEMBERS: Final = 1_000_000
_MOST_TEXTS: Final = 65536
#: gzip, shuffle and checksum: what ilastik writes.
_FILTERS: Final = {1, 2, 3}


class ProjectFile:
    """An open HDF5 file of which only plain groups, datasets of numbers and texts, and attributes are read.

    Raises
    ------
    StorageError
        If it cannot be opened.
    FormatError
        If it is no HDF5 file; and later, where something in it is a link out of its place, claims more bytes
        than it can hold, or is of a kind that no project has.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        open_source(path).close()  # raises for what is no file, and for one that was not fetched
        self._size = os.path.getsize(path)
        try:
            if not h5py.is_hdf5(path):
                raise FormatError(f"{path!r} is no ilastik project: it is no HDF5 file.")
            self._file = h5py.File(path, "r", locking=False)
        except OSError as error:
            raise StorageError(f"{path!r} cannot be opened: {error}.") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def has(self, name: str) -> bool:
        """Whether there is something of that name, reached by groups alone."""
        with self._telling(name):
            return self._find(name) is not None

    def names(self, group: str) -> list[str]:
        """Return the names in a group, in the order of the numbers in them; empty if there is none."""
        with self._telling(group):
            found = self._find(group)
            if not isinstance(found, h5py.Group):
                return []
            if len(found) > _MOST_MEMBERS:
                raise FormatError(f"{self.path!r}: {group!r} has {len(found)} members.")
            return sorted(found, key=lambda name: (len(name), name))

    def array(self, name: str) -> Array:
        """Return a dataset of numbers or truth values."""
        with self._telling(name):
            dataset = self._dataset(name)
            if dataset.dtype.kind not in "iufb" or dataset.dtype.itemsize > 8:
                raise FormatError(f"{self.path!r}: {name!r} holds {dataset.dtype}, not numbers.")
            return np.asarray(self._read(dataset, name))

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a dataset of texts, which may be one text."""
        with self._telling(name):
            dataset = self._dataset(name)
            is_text = h5py.check_string_dtype(dataset.dtype) is not None or dataset.dtype.kind == "S"
            if not is_text or dataset.size > _MOST_TEXTS:
                raise FormatError(
                    f"{self.path!r}: {name!r} holds {dataset.size} values of {dataset.dtype}, not texts."
                )
            values = self._values(dataset, name)
            return tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values)

    def _values(self, dataset: h5py.Dataset, name: str) -> list[Any]:
        if dataset.dtype.kind == "S":
            return list(np.atleast_1d(self._read(dataset, name)).ravel().tolist())
        # Texts of no fixed length lie elsewhere in the file, and thousands may be the same one.
        self._check(dataset, name)
        values: list[Any] = []
        rest = self._size
        for index in np.ndindex(dataset.shape):
            values.append(dataset[index])
            rest -= len(values[-1])
            if rest < 0:
                raise FormatError(f"{self.path!r}: {name!r} holds more text than the file has bytes.")
        return values

    def text(self, name: str, default: str = "") -> str:
        """Return the one text of a dataset; the default if there is no such dataset."""
        if not self.has(name):
            return default
        values = self.texts(name)
        return values[0] if values else default

    def attribute(self, name: str, key: str) -> Any:
        """Return an attribute as text, number or array; None if there is none."""
        with self._telling(name):
            found = self._find(name)
            value = None if found is None else found.attrs.get(key)
            return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    @contextmanager
    def _telling(self, name: str) -> Iterator[None]:
        """Say which file and place is damaged, whatever the library says of it."""
        try:
            yield
        except FormatError:
            raise
        except Exception as error:
            raise FormatError(f"{self.path!r} is damaged at {name!r}: {error}.") from None

    def _find(self, name: str) -> Any | None:
        found: Any = self._file
        for part in filter(None, name.split("/")):
            if not isinstance(found, h5py.Group):
                return None
            link = found.get(part, getlink=True)
            if link is None:
                return None
            if not isinstance(link, h5py.HardLink):
                raise FormatError(f"{self.path!r}: {name!r} is a link to elsewhere, which is not followed.")
            found = found[part]
        return found

    def _dataset(self, name: str) -> h5py.Dataset:
        found = self._find(name)
        if not isinstance(found, h5py.Dataset):
            raise FormatError(f"{self.path!r} is no whole ilastik project: it has no {name!r}.")
        if found.shape is None:
            raise FormatError(f"{self.path!r} is damaged: {name!r} holds nothing.")
        return found

    def _read(self, dataset: h5py.Dataset, name: str) -> Any:
        self._check(dataset, name)
        return dataset[()]

    def _check(self, dataset: h5py.Dataset, name: str) -> None:
        """Refuse values that are elsewhere, packed as no project is, or too many for the bytes stored."""
        where = f"{self.path!r}: {name!r}"
        properties = dataset.id.get_create_plist()
        if dataset.is_virtual or properties.get_external_count():
            raise FormatError(f"{where} takes its values from elsewhere, which is not followed.")
        filters = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
        if not filters <= _FILTERS:
            raise FormatError(
                f"{where} is packed by filter {min(filters - _FILTERS)}, which projects do not use."
            )
        stored = dataset.id.get_storage_size()
        if dataset.nbytes > min(_MOST_BYTES, 4096 + _MOST_PER_BYTE * min(stored, self._size)):
            raise FormatError(
                f"{where} claims {format_bytes(dataset.nbytes)}, but stores {format_bytes(stored)}."
            )

    def __enter__(self) -> ProjectFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def numbered(file: ProjectFile, group: str) -> Iterator[str]:
    """Give the paths of what is in a group, in the order of its numbers."""
    for name in file.names(group):
        yield f"{group}/{name}"
