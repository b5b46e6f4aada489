"""NPY files: one plain array, mapped into memory for reading, written in place at reserved positions.

The format has no room for axes or pixel sizes; what is read has the usual axes of its shape.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyflow_core.errors import FormatError, StorageError
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.roi import Roi
from lazyflow_ops_io._border import check_declared, foreign_errors
from lazyflow_ops_io._reader import ArrayReader, native
from lazyflow_ops_io._target import DiskFile, Target
from lazyflow_ops_io._writer import ArrayWriter

__all__ = ["NpyReader", "NpyWriter", "create_npy", "open_npy"]

_MAGIC = b"\x93NUMPY"


def open_npy(path: str, *, dataset: str | None = None) -> NpyReader:
    """Open an NPY file.

    Raises
    ------
    FormatError
        If it is no NPY file, truncated, holds Python objects, or a dataset is asked for.
    StorageError
        If it is missing or may not be read.
    """
    if dataset:
        raise FormatError(
            f"{path!r} is an NPY file, one array without a name; it has no dataset {dataset!r}."
        )
    with foreign_errors(path, "open"):
        with open(path, "rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise FormatError(f"{path!r} is no NPY file: it does not begin with {_MAGIC!r}.")
        pixels = np.load(path, mmap_mode="r", allow_pickle=False)
        check_declared(path, pixels.shape, pixels.dtype)
        return NpyReader(path, pixels)


class NpyReader(ArrayReader):
    """An open NPY file; use `open_npy`."""

    def __init__(self, path: str, pixels: npt.NDArray[Any]) -> None:
        super().__init__(path, ArrayMeta(pixels.shape, native(pixels.dtype), extra={"io.path": path}))
        self._pixels: npt.NDArray[Any] | None = pixels

    def _read(self, roi: Roi, out: npt.NDArray[Any]) -> None:
        assert self._pixels is not None
        out[...] = self._pixels[roi.slicing]

    def _release(self) -> None:
        self._pixels = None  # the mapping ends with its last reference


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
        raise StorageError(
            f"{path!r}: an NPY file holds one array without a name, not a dataset {dataset!r}."
        )
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


class PlainWriter(ArrayWriter):
    """An array stored as one piece in C order, somewhere in a file whose room is reserved before."""

    def __init__(self, target: Target, meta: ArrayMeta, disk: DiskFile, offset: int) -> None:
        super().__init__(target, meta, (1,) * len(meta.shape))
        self._disk = disk
        self._offset = offset

    def _write(self, roi: Roi, data: np.ndarray[Any, Any]) -> None:
        # Runs that lie together in the file are written together: whole trailing axes join.
        shape, itemsize = self.meta.shape, self.meta.dtype.itemsize
        joined = len(shape) - 1
        while joined and roi.shape[joined] == shape[joined]:
            joined -= 1
        data = np.ascontiguousarray(data)
        strides = np.cumprod((itemsize, *shape[:0:-1]))[::-1].tolist() if shape else []
        first = sum(a * s for a, s in zip(roi.start, strides, strict=True))
        for index in np.ndindex(*roi.shape[:joined]):
            at = first + sum(i * s for i, s in zip(index, strides, strict=False))
            self._disk.write_at(self._offset + at, memoryview(data[index]).cast("B"))
        self._disk.check()

    def _finish(self) -> None:
        self._disk.check()
        self._disk.close()

    def _discard(self) -> None:
        self._disk.close()


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
