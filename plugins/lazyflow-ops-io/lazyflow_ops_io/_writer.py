"""What all writers share: checking blocks, counting what is there, finishing or undoing."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from lazyflow_core.blocks import choose_block_shape
from lazyflow_core.errors import ResultError, RoiBoundsError, RoiError, StorageError
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.roi import Roi
from lazyflow_ops_io._border import MAX_CHUNK_BYTES, foreign_errors
from lazyflow_ops_io._target import DiskFile, Target

__all__ = ["ArrayWriter", "PlainWriter", "check_writable", "choose_chunks"]

#: Chunks of about a mebibyte: 64 pixels cubed of float32, 101 cubed of uint8.
_CHUNK_BYTES = 2**20


class ArrayWriter:
    """A new array on its way to its target; the base of all writers.

    Subclasses implement `_write`, `_finish` and `_discard`.

    Parameters
    ----------
    target
        Where it goes.
    meta
        What it is.
    step
        Shape of the storage's unit of writing.
    """

    def __init__(self, target: Target, meta: ArrayMeta, step: Sequence[int]) -> None:
        #: What is known of the array that the format has no place for, as short sentences.
        self.notes: tuple[str, ...] = ()
        self.path = target.path
        self.meta = meta
        self.step = tuple(step)
        self._target = target
        self._lock = threading.Lock()
        #: Pixels of the blocks written so far, by their first pixel. Guarded by `_lock`.
        self._written: dict[tuple[int, ...], int] = {}
        #: Once committed or aborted, nothing is written any more. Guarded by `_lock`.
        self._ended = False
        #: Writes under way, and whether the last of them has to clean up. Guarded by `_lock`.
        self._writing = 0
        self._undo_later = False

    def write(self, roi: Roi, data: np.ndarray[Any, Any]) -> None:
        """Write one block, an array of ``roi.shape`` and the dtype of the meta.

        Raises
        ------
        RoiError
            If the block reaches outside the array or does not begin and end at multiples of `step`.
        ResultError
            If the data has another shape or dtype.
        StorageError
            If it cannot be stored; names the path and the reason.
        """
        self._check_block(roi, data)
        if roi.is_empty:
            return
        with self._lock:
            if self._ended:
                raise StorageError(f"cannot write to {self.path!r}: it was committed or aborted before.")
            self._writing += 1
        try:
            with foreign_errors(self.path, "write {} of", roi):
                self._write(roi, data)
            with self._lock:
                self._written[roi.start] = roi.size
        finally:
            with self._lock:
                self._writing -= 1
                undo = self._undo_later and self._writing == 0
            if undo:
                self._undo()

    def commit(self) -> int:
        """Finish, make the array visible under its name, and return the bytes it takes in storage.

        Raises
        ------
        StorageError
            If blocks are missing or the disk is full; what was written is removed then.
        """
        with self._lock:
            written = sum(self._written.values())
            if self._ended or self._writing:
                why = (
                    "it was committed or aborted before" if self._ended else "a block is still being written"
                )
                raise StorageError(f"cannot commit {self.path!r}: {why}.")
            self._ended = True
        try:
            if written != self.meta.size:
                raise StorageError(
                    f"cannot commit {self.path!r}: {written} of {self.meta.size} pixels were written."
                )
            with foreign_errors(self.path, "finish"):
                self._finish()
            return self._target.commit()
        except BaseException:
            self._undo()
            raise

    def abort(self) -> None:
        """Remove what was written so far. Never raises; twice or after `commit` it does nothing."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            # A file closed under a write could by then be another one; the last write cleans up.
            self._undo_later = self._writing > 0
        if not self._undo_later:
            self._undo()

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.abort()

    def _undo(self) -> None:
        try:
            self._discard()
        finally:
            self._target.abort()

    def _check_block(self, roi: Roi, data: np.ndarray[Any, Any]) -> None:
        if roi not in self.meta.roi:
            raise RoiBoundsError(f"{self.path!r}: block {roi} lies outside the array, {self.meta}.")
        if data.shape != roi.shape or data.dtype != self.meta.dtype:
            raise ResultError(
                f"{self.path!r}: got {data.dtype} data of shape {data.shape} for block {roi} "
                f"of an array of {self.meta.dtype}."
            )
        for a, b, unit, length in zip(roi.start, roi.stop, self.step, self.meta.shape, strict=True):
            if a % unit or (b % unit and b != length):
                raise RoiError(
                    f"{self.path!r}: block {roi} does not begin and end at multiples of {self.step}."
                )

    def _write(self, roi: Roi, data: np.ndarray[Any, Any]) -> None:
        """Store one block that is not empty; called from several threads at once."""
        raise NotImplementedError

    def _finish(self) -> None:
        """Bring everything to the temporary file and close it."""
        raise NotImplementedError

    def _discard(self) -> None:
        """Close everything; nothing of it is needed any more. Never raises."""
        raise NotImplementedError


class PlainWriter(ArrayWriter):
    """An array stored as one piece in C order, somewhere in a file whose room is reserved before."""

    def __init__(self, target: Target, meta: ArrayMeta, disk: DiskFile, offset: int) -> None:
        super().__init__(target, meta, (1,) * len(meta.shape))
        self._disk = disk
        self._offset = offset

    def _write(self, roi: Roi, data: np.ndarray[Any, Any]) -> None:
        # Pixels that lie together in the file are written together: whole trailing axes join.
        shape = self.meta.shape
        joined = len(shape) - 1
        while joined and roi.shape[joined] == shape[joined]:
            joined -= 1
        stride = self.meta.dtype.itemsize
        places = np.array([self._offset], np.int64)
        for axis in range(len(shape) - 1, -1, -1):
            steps = roi.start[axis] + np.arange(roi.shape[axis] if axis < joined else 1)
            places = (steps[:, None] * stride + places).ravel()
            stride *= shape[axis]
        self._disk.write_runs(places.tolist(), np.ascontiguousarray(data).data.cast("B"))
        self._disk.check()

    def _finish(self) -> None:
        self._disk.check()
        self._disk.close()

    def _discard(self) -> None:
        self._disk.close()


def check_writable(path: str, meta: ArrayMeta) -> None:
    """Refuse what could not be read again: the same that readers refuse.

    Raises
    ------
    StorageError
        If the array holds other values than numbers and bool, or has no axes.
    """
    if meta.dtype.kind not in "biufc":
        raise StorageError(
            f"{path!r}: values of type {meta.dtype} cannot be written; cast them to numbers or bool."
        )
    if not meta.shape:
        raise StorageError(f"{path!r}: an array without axes cannot be written; give it one of length 1.")


def choose_chunks(path: str, meta: ArrayMeta, given: Sequence[int] | int | None) -> tuple[int, ...]:
    """Return the chunks a user asked for, or good ones: about a mebibyte, cubes in space, single in time.

    One number stands for all axes.

    Raises
    ------
    StorageError
        If the given ones do not fit the array.
    """
    longest = tuple(max(1, n) for n in meta.shape)
    if given is not None:
        sides = (given,) * len(longest) if isinstance(given, int) else tuple(given)
        if len(sides) != len(longest) or any(type(c) is not int or c < 1 for c in sides):
            raise StorageError(f"{path!r}: chunks {given!r} are not one integer >= 1 per axis of {meta}.")
        chunks = tuple(map(min, sides, longest))
        if prod(chunks) * meta.dtype.itemsize > MAX_CHUNK_BYTES:
            raise StorageError(f"{path!r}: chunks {chunks} have more than {MAX_CHUNK_BYTES} bytes each.")
        return chunks
    last = len(longest) - 1
    most = tuple(
        1 if axis.kind == "time" or (axis.kind == "channel" and i != last) else n
        for i, (axis, n) in enumerate(zip(meta.axes, longest, strict=True))
    )
    return choose_block_shape(longest, most_pixels=max(1, _CHUNK_BYTES // meta.dtype.itemsize), most=most)
