"""NPY files: one plain array, mapped into memory for reading, written in place at reserved positions.

The format has no room for axes or pixel sizes; what is read has the usual axes of its shape.
"""

from __future__ import annotations

import ast
import io
import struct
from typing import Any

import numpy as np

from lazyflow_core.errors import FormatError, StorageError
from lazyflow_core.meta import ArrayMeta
from lazyflow_ops_io._border import check_declared, checked_dtype, foreign_errors, one_line
from lazyflow_ops_io._reader import MappedReader, PreadFile, native, remarks, usual_axes
from lazyflow_ops_io._target import DiskFile, Target
from lazyflow_ops_io._writer import PlainWriter, check_writable

__all__ = ["NpyWriter", "create_npy", "open_npy"]

_MAGIC = b"\x93NUMPY"

#: As much as NumPy itself reads.
_MOST_HEADER_BYTES = 10_000


def open_npy(path: str, *, dataset: str | None = None) -> MappedReader:
    """Open an NPY file.

    Raises
    ------
    FormatError
        If it is no NPY file, truncated, holds Python objects, or a dataset is asked for.
    StorageError
        If it is missing or may not be read.
    """
    if dataset:
        raise FormatError(f"{path!r} is an NPY file, which has no datasets; {dataset!r} was asked for.")
    with foreign_errors(path, "open"):
        raw = PreadFile(path)
        try:
            shape, dtype, order, offset = _read_header(path, raw)
            check_declared(path, shape, dtype)
            meta = ArrayMeta(
                shape, native(dtype), usual_axes(shape), extra={"io.path": path, **remarks(guessed=True)}
            )
            return MappedReader(path, meta, raw.map(dtype, shape, offset, order), raw)
        except BaseException:
            raw.close()
            raise


def _read_header(path: str, raw: PreadFile) -> tuple[tuple[int, ...], np.dtype[Any], str, int]:
    """Return shape, dtype, order and where the pixels begin.

    NumPy makes a dtype of whatever a header says; here it may only say what can be read.
    """
    head = raw.read(0, min(raw.size, 12))
    if not head.startswith(_MAGIC) or len(head) < 12:
        raise FormatError(f"{path!r} is no NPY file: it does not begin with {_MAGIC!r}.")
    count, begin = struct.unpack_from("<H", head, 8)[0], 10
    if head[6] > 1:
        count, begin = struct.unpack_from("<I", head, 8)[0], 12
    if head[6] not in (1, 2, 3) or count > _MOST_HEADER_BYTES:
        raise FormatError(f"{path!r} has an NPY header of version {head[6]} and {count} bytes.")
    try:
        header = ast.literal_eval(raw.read(begin, count).decode("utf-8"))
        descr, fortran, shape = (header[key] for key in ("descr", "fortran_order", "shape"))
    except (EOFError, KeyError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError) as error:
        raise FormatError(f"{path!r} has a damaged NPY header: {one_line(error)}") from error
    if not isinstance(shape, tuple) or not all(type(n) is int for n in shape):
        raise FormatError(f"{path!r} declares the shape {shape!r:.80}, expected integers.")
    dtype = checked_dtype(path, descr)
    return shape, dtype, "F" if fortran else "C", begin + count


def create_npy(
    path: str, meta: ArrayMeta, *, dataset: str | None = None, overwrite: bool = False
) -> NpyWriter:
    """Begin an NPY file. It keeps shape and dtype; axes, pixel sizes and units are lost.

    Raises
    ------
    TargetExistsError
        If the file exists and ``overwrite`` is false.
    StorageError
        If it cannot be written there or the disk has not enough room for all of it.
    """
    if dataset:
        raise StorageError(f"{path!r}: an NPY file has no datasets; {dataset!r} was asked for.")
    check_writable(path, meta)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header,
        {"descr": np.lib.format.dtype_to_descr(meta.dtype), "fortran_order": False, "shape": meta.shape},
    )
    target = Target(path, overwrite=overwrite)
    try:
        with foreign_errors(path, "write"):
            return NpyWriter(target, meta, header.getvalue())
    except BaseException:
        target.abort()
        raise


class NpyWriter(PlainWriter):
    """A new NPY file; use `create_npy`."""

    def __init__(self, target: Target, meta: ArrayMeta, header: bytes) -> None:
        disk = DiskFile(target.temporary)
        try:
            disk.reserve(len(header) + meta.nbytes)
            disk.write_at(0, header)
            disk.check()
        except BaseException:
            disk.close()
            raise
        super().__init__(target, meta, disk, len(header))
        lost = ["axes"] if meta.axes.keys != usual_axes(meta.shape).keys else []
        lost += ["pixel sizes"] if any(a.resolution is not None for a in meta.axes) else []
        lost += ["names of channels"] if meta.channel_names else []
        if lost:
            self.notes = (f"NPY has no place for {', '.join(lost)}; write Zarr, HDF5 or TIFF to keep them",)
