"""Writing Zarr with zarr-python: format 3 with OME-Zarr 0.5 metadata, or format 2 with 0.4."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Literal

import numpy as np

from lazyflow_core.errors import StorageError
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.roi import Roi
from lazyflow_ops_io import _ngff
from lazyflow_ops_io._border import foreign_errors
from lazyflow_ops_io._reader import native
from lazyflow_ops_io._target import Target
from lazyflow_ops_io._writer import ArrayWriter, check_writable, choose_chunks
from lazyflow_ops_io._zarr_store import check_key
from lazyflow_ops_io.zarr_reader import OWN_ATTRIBUTE

__all__ = ["ZarrWriter", "create_zarr"]

_MARKS = ("zarr.json", ".zarray", ".zgroup")


def create_zarr(
    path: str,
    meta: ArrayMeta,
    *,
    dataset: str | None = None,
    overwrite: bool = False,
    chunks: Sequence[int] | int | None = None,
    compression: str | None = "zstd",
    zarr_format: Literal[2, 3] = 3,
) -> ZarrWriter:
    """Begin a Zarr folder with one array.

    The group around the array gets OME-Zarr metadata with axes, units, pixel sizes and translations. Where
    OME-Zarr cannot describe the axes (it wants time, channel, then space), the same is kept in the
    attribute ``lazyflow`` of the array, and the axis keys in ``dimension_names``.

    Parameters
    ----------
    path, meta
        The folder, and what the array is.
    dataset
        Path of the array inside it, ``"0"`` by default; ``"/"`` makes the folder itself the array.
    overwrite
        Whether an existing Zarr folder of that name is replaced, as a whole and at the end.
    chunks
        Pixels per axis, or one number for all; about a mebibyte by default.
    compression
        ``"zstd"`` (small), ``"blosc"`` (LZ4, fast), ``"gzip"`` or None.
    zarr_format
        3, or 2 for programs that do not know 3 yet.

    Raises
    ------
    TargetExistsError
        If the folder exists and ``overwrite`` is false.
    StorageError
        If it cannot be written there, or an option does not fit.
    """
    if zarr_format not in (2, 3):
        raise StorageError(f"{path!r}: Zarr is written in format 2 or 3, not {zarr_format!r}.")
    if compression not in ("zstd", "blosc", "gzip", None, "none"):
        raise StorageError(
            f"{path!r}: the compression of Zarr is 'zstd', 'blosc', 'gzip' or None, not {compression!r}."
        )
    key = check_key(path, "0" if dataset is None or dataset == "" else dataset)
    check_writable(path, meta)
    shape = choose_chunks(path, meta, chunks)
    target = Target(path, overwrite=overwrite, folder_marks=_MARKS)
    try:
        with foreign_errors(path, "write"):
            return ZarrWriter(target, meta, key, shape, compression, zarr_format)
    except BaseException:
        target.abort()
        raise


class ZarrWriter(ArrayWriter):
    """A new Zarr folder; use `create_zarr`."""

    def __init__(
        self,
        target: Target,
        meta: ArrayMeta,
        key: str,
        chunks: tuple[int, ...],
        compression: str | None,
        zarr_format: Literal[2, 3],
    ) -> None:
        super().__init__(target, meta, chunks)
        import zarr
        from zarr.storage import LocalStore

        store = LocalStore(target.temporary)
        parent, _, name = key.rpartition("/")
        in_ome = bool(key) and _ngff.fits(meta.axes)
        groups = ["", *accumulate(parent.split("/"), "{}/{}".format)] if parent else [""]
        for group in groups if key else []:
            attributes: dict[str, Any] = {}
            if in_ome and group == parent:
                version = "0.4" if zarr_format == 2 else "0.5"
                stem = os.path.basename(os.path.abspath(target.path))
                labels = meta.semantics == "labels"
                attributes = _ngff.group_attributes(meta.axes, name, version, stem, labels=labels)
            zarr.create_group(store, path=group, attributes=attributes, zarr_format=zarr_format)
        listed, transformations = meta.axes.to_ngff()
        level = {"path": "", "coordinateTransformations": transformations}
        own: dict[str, Any] = {} if in_ome else {OWN_ATTRIBUTE: {"axes": listed, "datasets": [level]}}
        self._array: Any = zarr.create_array(
            store,
            name=key or None,
            shape=meta.shape,
            dtype=native(meta.dtype),  # older releases of zarr-python know no other for format 3
            chunks=chunks,
            compressors=_compressors(compression, zarr_format, meta.dtype),
            fill_value=0,
            zarr_format=zarr_format,
            attributes=own,
            dimension_names=[a.key for a in meta.axes] if zarr_format == 3 else None,
            chunk_key_encoding={"name": "default" if zarr_format == 3 else "v2", "separator": "/"},
        )

    def _write(self, roi: Roi, data: np.ndarray[Any, Any]) -> None:
        self._array[roi.slicing] = data

    def _finish(self) -> None:
        """Nothing: every chunk is in its file already."""

    def _discard(self) -> None:
        """Nothing is open."""


def _compressors(name: str | None, zarr_format: Literal[2, 3], dtype: np.dtype[Any]) -> Any:
    """Return what ``zarr.create_array`` takes: codecs of numcodecs for format 2, of zarr itself for 3."""
    if name in (None, "none"):
        return None
    if zarr_format == 2:
        import numcodecs  # type: ignore[import-untyped]  # has no py.typed

        if name == "zstd":
            return numcodecs.Zstd(level=3)
        if name == "gzip":
            return numcodecs.GZip(level=1)
        return numcodecs.Blosc("lz4", clevel=5, shuffle=numcodecs.Blosc.SHUFFLE)
    from zarr import codecs

    if name == "zstd":
        return codecs.ZstdCodec(level=3)
    if name == "gzip":
        return codecs.GzipCodec(level=1)
    return codecs.BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=dtype.itemsize)
