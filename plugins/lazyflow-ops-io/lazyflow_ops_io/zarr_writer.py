"""Writing Zarr: format 3 with OME-Zarr 0.5 metadata, or format 2 with 0.4.

zarr-python writes what describes the arrays. Chunks are packed and written here, in the callers' threads:
it would hand each through one event loop (benchmarks/io.py).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Literal

import numpy as np

from lazyflow_core.blocks import BlockGrid
from lazyflow_core.errors import StorageError
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.request import checkpoint
from lazyflow_core.roi import Roi
from lazyflow_ops_io import _ngff
from lazyflow_ops_io._about import about
from lazyflow_ops_io._border import foreign_errors
from lazyflow_ops_io._decode import gzip
from lazyflow_ops_io._reader import native
from lazyflow_ops_io._target import Target, write_file
from lazyflow_ops_io._writer import ArrayWriter, check_writable, choose_chunks
from lazyflow_ops_io._zarr_place import MARKS, Place, find_place
from lazyflow_ops_io._zarr_store import check_key
from lazyflow_ops_io.zarr_reader import OWN_ATTRIBUTE

__all__ = ["ZarrWriter", "create_zarr"]


def create_zarr(
    path: str,
    meta: ArrayMeta,
    *,
    dataset: str | None = None,
    overwrite: bool = False,
    chunks: Sequence[int] | int | None = None,
    compression: str | None = "zstd",
    zarr_format: Literal[2, 3] | None = None,
) -> ZarrWriter:
    """Begin an array of a Zarr folder, which may have others.

    The group around the array gets OME-Zarr metadata with axes, units, pixel sizes and translations. Where
    OME-Zarr cannot describe the axes (it wants time, channel, then space), the same is kept in the
    attribute ``lazyflow`` of the array, and the axis keys in ``dimension_names``.

    Parameters
    ----------
    path, meta
        The folder, and what the array is.
    dataset
        Path of the array inside it, ``"0"`` by default; ``"/"`` makes the folder itself the array. One that
        is named is added to a Zarr folder that is there already.
    overwrite
        Whether an existing array of that name is replaced, at the end, with all levels of the image it is
        a level of; where no dataset is named, the image of the folder. What else is in the folder stays.
    chunks
        Pixels per axis, or one number for all; about a mebibyte by default.
    compression
        ``"zstd"`` (small), ``"blosc"`` (LZ4, fast), ``"gzip"`` or None.
    zarr_format
        3, or 2 for programs that do not know 3 yet; by default that of the folder, if it is there.

    Raises
    ------
    TargetExistsError
        If the array exists, or no dataset is named and the folder exists, and ``overwrite`` is false.
    StorageError
        If it cannot be written there, or an option does not fit.
    """
    path = os.fspath(path)
    if zarr_format not in (None, 2, 3):
        raise StorageError(f"{path!r}: Zarr is written in format 2 or 3, not {zarr_format!r}.")
    if compression not in ("zstd", "blosc", "gzip", None, "none"):
        raise StorageError(
            f"{path!r}: the compression of Zarr is 'zstd', 'blosc', 'gzip' or None, not {compression!r}."
        )
    key = check_key(path, "0" if dataset is None or dataset == "" else dataset)
    check_writable(path, meta)
    shape = choose_chunks(path, meta, chunks)
    with foreign_errors(path, "write"):
        place = find_place(path, key, named=bool(dataset), overwrite=overwrite, version=zarr_format)
    is_label = place.label is not None and _ngff.fits(meta.axes) and meta.dtype.kind in "iu"
    target = Target(
        path,
        overwrite=place.overwrite or place.adds,
        folder_marks=MARKS,
        final=place.final,
        part=key if dataset else "",
        finish=place.finish,
        afterwards=place.list_label if is_label else None,
    )
    try:
        with foreign_errors(path, "write"):
            return ZarrWriter(target, meta, place, shape, compression, is_label=is_label)
    except BaseException:
        target.abort()
        raise


class ZarrWriter(ArrayWriter):
    """A new array in a folder of its own or with others; use `create_zarr`."""

    def __init__(
        self,
        target: Target,
        meta: ArrayMeta,
        place: Place,
        chunks: tuple[int, ...],
        compression: str | None,
        *,
        is_label: bool,
    ) -> None:
        super().__init__(target, meta, chunks)
        key, zarr_format = place.inner, place.version or 3
        import zarr
        from zarr.storage import LocalStore

        store = LocalStore(target.temporary)
        parent, _, name = key.rpartition("/")
        in_ome = bool(key) and _ngff.fits(meta.axes)
        groups = ["", *accumulate(parent.split("/"), "{}/{}".format)] if parent else [""]
        for group in groups if key else []:
            attributes: dict[str, Any] = {}
            version = _ngff.version_in(zarr_format)
            if (
                is_label
                and place.label is not None
                and f"{place.folder}/{group}".strip("/") == place.label[0]
            ):
                attributes = _ngff.with_label({}, place.label[1], version)
            if in_ome and group == parent:
                stem = os.path.basename(os.path.abspath(target.path))
                attributes = _ngff.group_attributes(meta, name, version, stem)
            zarr.create_group(store, path=group, attributes=attributes, zarr_format=zarr_format)
        listed, transformations = meta.axes.to_ngff()
        level = {"path": "", "coordinateTransformations": transformations}
        own: dict[str, Any] = {"axes": listed, "datasets": [level]}
        if meta.channel_names:
            own["channel_names"] = list(meta.channel_names)
        if meta.semantics == "labels":
            own["semantics"] = meta.semantics
        if in_ome:
            own = {}
        if about(meta.extra):
            own["about"] = about(meta.extra)
        zarr.create_array(
            store,
            name=key or None,
            shape=meta.shape,
            dtype=native(meta.dtype),  # older releases of zarr-python know no other for format 3
            chunks=chunks,
            compressors=_compressors(compression, zarr_format, meta.dtype),
            fill_value=0,
            zarr_format=zarr_format,
            attributes={OWN_ATTRIBUTE: own} if own else {},
            dimension_names=[a.key for a in meta.axes] if zarr_format == 3 else None,
            chunk_key_encoding={"name": "default" if zarr_format == 3 else "v2", "separator": "/"},
        )
        self._grid = BlockGrid(meta.shape, chunks)
        self._encode = _encoder(compression)
        #: As stored: zarr-python says "little" of both formats on every machine in use.
        self._stored = native(meta.dtype)
        self._folder = (
            os.path.join(target.temporary, key, "c")
            if zarr_format == 3
            else os.path.join(target.temporary, key)
        )
        #: Folders that were made. Only grows; twice made is fine.
        self._made: set[str] = set()

    def _write(self, roi: Roi, data: np.ndarray[Any, Any]) -> None:
        for part in self._grid.touching(roi):
            checkpoint()
            chunk = data[part.relative_to(roi).slicing]
            if chunk.shape != self.step:
                whole = np.zeros(self.step, self._stored)  # chunks at the end of the array are stored whole
                whole[tuple(map(slice, chunk.shape))] = chunk
                chunk = whole
            chunk = np.ascontiguousarray(chunk, self._stored)
            names = [str(a // n) for a, n in zip(part.start, self.step, strict=True)]
            folder = os.path.join(self._folder, *names[:-1])
            path = os.path.join(folder, names[-1])
            # What is zero in every bit is what a chunk that is not there holds.
            if _is_zero(chunk):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                continue
            if folder not in self._made:
                os.makedirs(folder, exist_ok=True)
                self._made.add(folder)
            write_file(path, self._encode(chunk))

    def _finish(self) -> None:
        """Nothing: every chunk is in its file already."""

    def _discard(self) -> None:
        """Nothing is open."""


def _is_zero(chunk: np.ndarray[Any, Any]) -> bool:
    """Whether all bits of a chunk are 0; one that is not shows it soon, which numpy would not look for."""
    flat = chunk.reshape(-1).view(np.uint8)
    return not (flat[:4096].any() or flat.any())


def _encoder(compression: str | None) -> Callable[[np.ndarray[Any, Any]], Any]:
    """Return what packs a chunk as `_compressors` declares it."""
    if compression in (None, "none"):
        return lambda chunk: chunk.reshape(-1).view(np.uint8).data
    if compression == "gzip":
        return lambda chunk: gzip(chunk.reshape(-1).view(np.uint8).data)
    import numcodecs

    if compression == "zstd":
        return numcodecs.Zstd(level=3).encode  # type: ignore[no-any-return]
    return numcodecs.Blosc("lz4", clevel=5, shuffle=numcodecs.Blosc.SHUFFLE).encode  # type: ignore[no-any-return]


def _compressors(name: str | None, zarr_format: Literal[2, 3], dtype: np.dtype[Any]) -> Any:
    """Return what ``zarr.create_array`` takes: codecs of numcodecs for format 2, of zarr itself for 3."""
    if name in (None, "none"):
        return None
    if zarr_format == 2:
        import numcodecs

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
