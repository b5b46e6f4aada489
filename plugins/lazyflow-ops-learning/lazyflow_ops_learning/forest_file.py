"""Forests in files: ``lazyflow.forest`` 1, an npz archive without pickles, checked before it is used."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
from lazyflow_core.errors import FormatError, StorageError, TargetExistsError
from lazyflow_core.foreign import contextmanager
from lazyflow_core.sources import open_source
from lazyflow_core.utility import format_bytes

from lazyflow_ops_learning.forest import Forest

__all__ = ["load_forest", "save_forest", "whole_file"]

_FORMAT: Final = "lazyflow.forest"
_VERSION: Final = 1
_ARRAYS: Final = ("threshold", "feature", "child", "roots", "leaf")
#: More than forests have: 10 000 trees of 4 000 nodes are 600 MB.
_MOST_BYTES: Final = 2**30
#: What deflate can make of a byte, at most (its format, RFC 1951: 258 bytes of two bits).
_MOST_PER_BYTE: Final = 1032
_MOST_HEADER: Final = 16 * 2**20


def save_forest(forest: Forest, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a forest to a file, which appears when it is complete, or not at all.

    Parameters
    ----------
    forest
        What to write.
    path
        Where; ``.forest.npz`` is the usual ending.
    overwrite
        Whether a file that is there is replaced.

    Raises
    ------
    TargetExistsError
        If the file exists and is not to be replaced.
    StorageError
        If it cannot be written.
    """
    target = Path(path)
    if target.exists() and not overwrite:
        raise TargetExistsError(f"{str(target)!r} exists; it is replaced with overwrite=True only.")
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "classes": forest.class_names,
        "features": forest.feature_names,
        "trees": forest.tree_count,
        "digest": forest.digest,
        "about": dict(forest.about),
    }
    arrays: dict[str, Any] = {name: getattr(forest, name) for name in _ARRAYS}
    with whole_file(target, overwrite=overwrite) as file:
        text = json.dumps(header, ensure_ascii=False, allow_nan=False).encode()
        np.savez_compressed(file, header=np.frombuffer(text, np.uint8), **arrays)


@contextmanager
def whole_file(target: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Give a file to write to, which gets its name when all is in it, or is gone.

    Raises
    ------
    TargetExistsError
        If something has the name and ``overwrite`` is false.
    StorageError
        If it cannot be written.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with open(partial, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            os.replace(partial, target)
        else:
            os.link(partial, target)  # unlike a rename, this replaces nothing that came meanwhile
            os.unlink(partial)
    except FileExistsError:
        partial.unlink(missing_ok=True)
        raise TargetExistsError(f"{str(target)!r} exists; it is replaced with overwrite=True only.") from None
    except (OSError, TypeError, ValueError) as error:
        partial.unlink(missing_ok=True)
        raise StorageError(f"{str(target)!r} cannot be written: {error}.") from error
    except BaseException:  # Ctrl-C too leaves nothing behind
        partial.unlink(missing_ok=True)
        raise


def load_forest(path: str | os.PathLike[str]) -> Forest:
    """Return the forest in a file.

    Nothing in the file is run, and nothing is allocated that the file does not justify by its size.

    Raises
    ------
    StorageError
        If the file cannot be read.
    FormatError
        If it is no forest, damaged, or of a later version: the sentence says what is wrong.
    """
    where = repr(os.fspath(path))
    try:
        with open_source(path) as file, zipfile.ZipFile(file) as archive:
            arrays = _read_arrays(archive, where)
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"{where} cannot be read: {error.strerror or error}.") from error
    except FormatError:
        raise
    except Exception as error:  # whatever zipfile and numpy say of damaged archives
        raise FormatError(f"{where} is no forest file, or damaged: {error}.") from error
    header = _header(arrays.pop("header"), where)
    try:
        forest = Forest(
            **arrays,
            class_names=header["classes"],
            feature_names=header["features"],
            about=header.get("about", {}),
        )
    except FormatError as error:
        raise FormatError(f"{where}: {error}") from None
    if forest.digest != header.get("digest"):
        raise FormatError(f"{where} is damaged: its trees are not those it was written with.")
    return forest


def _read_arrays(archive: zipfile.ZipFile, where: str) -> dict[str, npt.NDArray[Any]]:
    entries = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    missing = [name for name in ("header", *_ARRAYS) if name not in entries]
    if missing:
        raise FormatError(f"{where} is no forest file: it has no {missing[0]!r}.")
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name in ("header", *_ARRAYS):
        info = entries[name]
        most = _MOST_HEADER if name == "header" else _MOST_BYTES
        if info.file_size > min(most, 64 + _MOST_PER_BYTE * info.compress_size):
            raise FormatError(
                f"{where}: {name!r} claims {format_bytes(info.file_size)}, more than it can hold or may."
            )
        with archive.open(info) as file:
            data = file.read(info.file_size)
        arrays[name] = _array(data, name, where)
    return arrays


def _array(data: bytes, name: str, where: str) -> npt.NDArray[Any]:
    """Return the array in the bytes of an npy file, whose header has to fit their number."""
    import io

    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise FormatError(f"{where}: {name!r} is an array of version {version}, which is unknown.")
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject or dtype.kind not in "uf" or fortran or len(shape) > 2:
        raise FormatError(f"{where}: {name!r} is an array of {dtype} {shape}, which no forest has.")
    rest = data[file.tell() :]
    count = 1
    for length in shape:
        count *= length
    if count * dtype.itemsize != len(rest):
        raise FormatError(f"{where} is damaged: {name!r} has {len(rest)} bytes for {dtype} {shape}.")
    return np.frombuffer(rest, dtype).reshape(shape)


def _header(data: npt.NDArray[Any], where: str) -> dict[str, Any]:
    try:
        header = json.loads(data.tobytes().decode())
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where} is damaged: its header is no JSON ({error}).") from None
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise FormatError(f"{where} is no forest file.")
    if header.get("version") != _VERSION:
        raise FormatError(
            f"{where} is of version {header.get('version')!r} of the format; this program knows {_VERSION}."
        )
    for key in ("classes", "features"):
        names = header.get(key)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise FormatError(f"{where}: its {key} are no list of texts.")
    if not isinstance(header.get("about", {}), dict):
        raise FormatError(f"{where}: what it says about itself is no table.")
    return header
