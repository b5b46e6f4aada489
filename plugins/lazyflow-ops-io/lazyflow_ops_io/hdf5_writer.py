"""Writing HDF5: chunks are packed in the callers' threads and handed to HDF5 ready-made."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import h5py
import numpy as np

from lazyflow_core.blocks import BlockGrid
from lazyflow_core.errors import StorageError
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.request import checkpoint
from lazyflow_core.roi import Roi
from lazyflow_ops_io._border import foreign_errors
from lazyflow_ops_io._decode import deflate
from lazyflow_ops_io._hdf5 import HDF5_LOCK, keeps_names, write_meta
from lazyflow_ops_io._hdf5_neighbours import Neighbours
from lazyflow_ops_io._target import DiskFile, Target
from lazyflow_ops_io._writer import ArrayWriter, check_writable, choose_chunks

__all__ = ["Hdf5Writer", "create_hdf5"]


def create_hdf5(
    path: str,
    meta: ArrayMeta,
    *,
    dataset: str | None = None,
    overwrite: bool = False,
    chunks: Sequence[int] | int | None = None,
    compression: str | None = "gzip",
) -> Hdf5Writer:
    """Begin a dataset of an HDF5 file, which may have others.

    Parameters
    ----------
    path, meta
        The file, and what the array is. Axes, units, pixel sizes and translations are kept in attributes
        that ilastik, vigra and PlantSeg read.
    dataset
        Path of the dataset inside the file, ``"data"`` by default. One that is named is added to a file that
        is there already.
    overwrite
        Whether an existing dataset of that name is replaced, at the end; or a file that is no HDF5 file,
        where no dataset is named. What else is in the file stays: the file is copied with it.
    chunks
        Pixels per axis, or one number for all; about a mebibyte by default.
    compression
        ``"gzip"``, which every HDF5 program reads, or None.

    Raises
    ------
    TargetExistsError
        If the dataset exists, or no dataset is named and the file exists, and ``overwrite`` is false.
    StorageError
        If it cannot be written there, or an option does not fit.
    """
    if compression not in ("gzip", None, "none"):
        raise StorageError(f"{path!r}: HDF5 is written with compression 'gzip' or None, not {compression!r}.")
    name = (dataset or "data").strip("/")
    if not name or any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
        raise StorageError(f"{path!r}: {dataset!r} is no name for a dataset.")
    check_writable(path, meta)
    shape = choose_chunks(path, meta, chunks)
    path = os.fspath(path)
    neighbours = Neighbours(path, name, named=bool(dataset), overwrite=overwrite)
    target = Target(
        path,
        overwrite=overwrite or neighbours.are_there,
        final=neighbours.file,
        part=name if dataset else "",
        finish=neighbours.add,
    )
    neighbours.another = target.another
    try:
        with foreign_errors(path, "write"):
            return Hdf5Writer(target, meta, name, shape, packed=compression == "gzip")
    except BaseException:
        target.abort()
        raise


class Hdf5Writer(ArrayWriter):
    """A new HDF5 file; use `create_hdf5`."""

    def __init__(
        self, target: Target, meta: ArrayMeta, name: str, chunks: tuple[int, ...], *, packed: bool
    ) -> None:
        super().__init__(target, meta, chunks)
        if meta.channel_names and not keeps_names(meta):
            self.notes = ("the names of the channels are too long for HDF5; write Zarr to keep them",)
        self._packed = packed
        self._grid = BlockGrid(meta.shape, chunks)
        self._disk = DiskFile(target.temporary)
        try:
            with HDF5_LOCK:
                self._file = h5py.File(self._disk, "w")
                try:
                    self._dataset = self._file.create_dataset(
                        name,
                        meta.shape,
                        meta.dtype,
                        chunks=chunks if all(meta.shape) else None,
                        compression="gzip" if packed and all(meta.shape) else None,
                        compression_opts=1 if packed and all(meta.shape) else None,
                    )
                    write_meta(self._dataset, meta)
                    self._file.flush()
                    self._disk.check()
                except BaseException:
                    self._close_file()
                    raise
        except BaseException:
            self._disk.close()
            raise

    def _write(self, roi: Roi, data: np.ndarray[Any, Any]) -> None:
        for part in self._grid.touching(roi):
            checkpoint()
            chunk = data[part.relative_to(roi).slicing]
            if chunk.shape != self.step:
                whole = np.zeros(self.step, chunk.dtype)  # HDF5 stores chunks at the end of the array whole
                whole[tuple(map(slice, chunk.shape))] = chunk
                chunk = whole
            plain = np.ascontiguousarray(chunk).data.cast("B")
            stored = deflate(plain) if self._packed else plain
            write = partial(self._dataset.id.write_direct_chunk, part.start, stored)
            with HDF5_LOCK:
                place = self._disk.find_place(stored, write)
            if place is not None:
                self._disk.write_at(place, stored)
            self._disk.check()

    def _finish(self) -> None:
        with HDF5_LOCK:
            self._file.close()
        self._disk.check()
        self._disk.close()

    def _discard(self) -> None:
        with HDF5_LOCK:
            self._close_file()
        self._disk.close()

    def _close_file(self) -> None:
        # After an error HDF5 may miss what was dropped; whatever it says, the file is thrown away.
        with contextlib.suppress(Exception):
            self._file.close()
