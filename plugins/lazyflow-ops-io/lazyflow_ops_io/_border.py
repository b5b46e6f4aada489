"""The border to the libraries underneath: whatever they raise leaves as `FormatError` or `StorageError`."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from lazyflow_core.errors import FormatError, StorageError
from lazyflow_core.foreign import class_name, text_of

__all__ = ["MAX_CHUNK_BYTES", "check_declared", "checked_dtype", "foreign_errors", "listed", "one_line"]

#: The largest chunk we read: as much as Linux reads in one call. Blosc and most other codecs end there too,
#: and a file that declares more asks for that much memory for its first pixel.
MAX_CHUNK_BYTES = 2**31 - 4096

#: Causes that lie in what is around a file. Everything else is blamed on its contents.
_AROUND_NAMES = (
    "ENOENT", "EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EFBIG", "EIO", "ENAMETOOLONG", "EMFILE",
    "ENFILE", "EISDIR", "ENOTDIR", "EEXIST", "ENOTEMPTY", "ELOOP", "ESTALE", "ETIMEDOUT", "EBUSY", "ETXTBSY",
    "EAGAIN", "ENODEV", "ENXIO",
)  # fmt: skip
_AROUND = {getattr(errno, name) for name in _AROUND_NAMES if hasattr(errno, name)}

#: HDF5 puts the number into its text instead of the exception.
_ERRNO_IN_TEXT = re.compile(r"errno = (\d+)")


_DTYPE = re.compile(r"[<>|=]?(?:b1|i[1248]|u[1248]|f[248]|c8|c16)")

#: The same as in NumPy, as codecs of Zarr 3 name them.
_NAMES = {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
          "float16", "float32", "float64", "complex64", "complex128"}  # fmt: skip


# A class in lower case, since it is used as a function is; no generator, since every region passes it.
class foreign_errors:
    """Turn every exception raised inside into one of ours that names the path and the reason.

    Parameters
    ----------
    path
        The file, as the user wrote it.
    doing
        What is being done, as in ``"cannot {doing} …"``; may hold ``{}`` for ``what``.
    what
        What it is done to; formatted only if there is an error.

    Raises
    ------
    StorageError
        For causes around the file: it is missing, may not be read, the disk is full or broken.
    FormatError
        For everything else: the contents are not what the format says.
    """

    __slots__ = ("_doing", "_path", "_what")

    def __init__(self, path: str, doing: str, what: object = None) -> None:
        self._path, self._doing, self._what = path, doing, what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, (FormatError, StorageError)):
            return
        where = f"cannot {self._doing.format(self._what)} {self._path!r}"
        if isinstance(error, MemoryError):
            raise StorageError(f"{where}: not enough memory.") from error
        code = _errno(error)
        if code in _AROUND:
            raise StorageError(f"{where}: {os.strerror(code)}.") from error
        raise FormatError(f"{where}: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """Return the text of an exception as one short printable sentence."""
    text = " ".join(text_of(error).split()) or class_name(error)
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    if len(text) > 300:
        text = text[:297] + "..."
    return text if text.endswith((".", "!", "?")) else text + "."


def listed(names: Sequence[str]) -> str:
    """Return names as a short list for a sentence."""
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "") if names else "none"


def checked_dtype(path: str, text: Any) -> np.dtype[Any]:
    """Return the dtype that a text in a file names; only numbers and bool."""
    if isinstance(text, str) and (_DTYPE.fullmatch(text) or text in _NAMES):
        return np.dtype(text)
    raise FormatError(f"{path!r} holds values of type {text!r}; only numbers and bool can be read.")


def check_declared(
    path: str,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    chunks: Sequence[int] | None = None,
    most_bytes: int | None = MAX_CHUNK_BYTES,
) -> None:
    """Refuse what no array here can have; a huge shape alone is fine, nothing is allocated for it.

    Parameters
    ----------
    path, shape, dtype, chunks
        The file, and what it declares.
    most_bytes
        Of a chunk; None for chunks that are not unpacked as a whole.

    Raises
    ------
    FormatError
        For values that are no numbers, more than 32 axes, and chunks that have no extent or are larger
        than ``most_bytes``.
    """
    if dtype.kind not in "biufc":
        raise FormatError(f"{path!r} holds values of type {dtype}; only numbers and bool can be read.")
    if not 1 <= len(shape) <= 32:
        raise FormatError(f"{path!r} holds an array of {len(shape)} axes; 1 to 32 can be read.")
    if any(n < 0 for n in shape):
        raise FormatError(f"{path!r} declares the shape {tuple(shape)}; no side can be negative.")
    if chunks is None:
        return
    if len(chunks) != len(shape) or any(c < 1 for c in chunks):
        raise FormatError(f"{path!r} declares chunks {tuple(chunks)} for the shape {tuple(shape)}.")
    if most_bytes is not None and prod(chunks) * dtype.itemsize > most_bytes:
        raise FormatError(
            f"{path!r} declares chunks {tuple(chunks)} of {dtype}, "
            f"{prod(chunks) * dtype.itemsize} bytes each; at most {most_bytes} bytes can be read."
        )


def _errno(error: BaseException) -> int:
    """Return the error number behind an exception, 0 if there is none."""
    if not isinstance(error, OSError):
        return 0
    found = _ERRNO_IN_TEXT.search(text_of(error))
    return error.errno or (int(found[1]) if found else 0)
