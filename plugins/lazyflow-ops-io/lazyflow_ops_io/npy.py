"""NPY files: one plain array, mapped into memory for reading, written in place at reserved positions.

The format has no room for axes or pixel sizes; what is read has the usual axes of its shape.
"""

from __future__ import annotations

import io

import numpy as np

from lazyflow_core.errors import FormatError, StorageError
from lazyflow_core.meta import ArrayMeta
from lazyflow_ops_io._border import check_declared, foreign_errors
from lazyflow_ops_io._reader import MappedReader, native, remarks, usual_axes
from lazyflow_ops_io._target import DiskFile, Target
from lazyflow_ops_io._writer import PlainWriter, check_writable

__all__ = ["NpyWriter", "create_npy", "open_npy"]

_MAGIC = b"\x93NUMPY"


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
        with open(path, "rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise FormatError(f"{path!r} is no NPY file: it does not begin with {_MAGIC!r}.")
        pixels = np.load(path, mmap_mode="r", allow_pickle=False)
        check_declared(path, pixels.shape, pixels.dtype)
        meta = ArrayMeta(
            pixels.shape,
            native(pixels.dtype),
            usual_axes(pixels.shape),
            extra={"io.path": path, **remarks(guessed=True)},
        )
        return MappedReader(path, meta, pixels)


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
