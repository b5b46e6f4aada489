"""Reading Zarr 2 and 3, with the metadata of OME-Zarr 0.1 to 0.5.

Chunks are read and unpacked here, in the caller's thread: this is several times as fast as zarr-python for
one region (benchmarks/io.py), no chunk unpacks to more than it declares, and no name in a file chooses code.
Which codecs an array needs is checked when it is opened; nothing is handed to zarr-python.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyflow_core.axes import Axes
from lazyflow_core.errors import FormatError, StorageError
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.roi import Roi
from lazyflow_ops_io import _ngff
from lazyflow_ops_io._about import read_about
from lazyflow_ops_io._border import check_declared, checked_dtype, foreign_errors, listed, one_line
from lazyflow_ops_io._decode import check_packed
from lazyflow_ops_io._reader import (
    ArrayReader,
    PreadFile,
    copy_chunks,
    fits_in_place,
    named_axes,
    native,
    plain_rows,
    remarks,
    usual_axes,
)
from lazyflow_ops_io._zarr_codecs import Chain, Shard, parse_2, parse_3
from lazyflow_ops_io._zarr_store import ArrayFolder, Node, ZarrFolder, check_key

__all__ = ["ZarrReader", "open_zarr"]

#: Attribute of arrays whose axes OME-Zarr cannot describe; see `zarr_writer`.
OWN_ATTRIBUTE = "lazyflow"

_V3_TYPES = {
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "complex64", "complex128",
}  # fmt: skip

_V3_FIELDS = {
    "zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value",
    "codecs", "attributes", "dimension_names", "storage_transformers",
}  # fmt: skip

#: So many folders above the one that was opened are looked into: a level's name may have parts.
_MOST_OUTER = 3

#: For lists of where chunks lie in their shards.
_MOST_KEPT_BYTES = 32 * 2**20


def open_zarr(path: str, *, dataset: str | None = None) -> ZarrReader:
    """Open one array of a Zarr folder.

    Parameters
    ----------
    path
        The folder.
    dataset
        Path of an array inside it, or of a group with an OME image; by default the finest level of the
        image at the root, or the only array there is. ``"/"`` is the root itself.

    Raises
    ------
    FormatError
        If it is no Zarr store or damaged, if there is no such array, or if a key leads out of the folder.
    StorageError
        If it is missing or may not be read.
    """
    with foreign_errors(path, "open"):
        store = ZarrFolder(path)
        key = check_key(path, dataset) if dataset else ""
        node = store.node(key)
        if node is None:
            if not os.path.lexists(path):
                raise StorageError(f"cannot open {path!r}: there is no such folder.")
            if not dataset:
                raise FormatError(f"{path!r} is no Zarr store: zarr.json, .zarray and .zgroup are missing.")
            raise FormatError(f"{path!r} has no array {dataset!r}; it holds {listed(store.arrays())}.")
        if node.kind == "group":
            key = _choose_array(store, path, key, node)
            node = store.node(key)
            if node is None or node.kind != "array":
                raise FormatError(f"{path!r} lists the array {key!r}, but there is none.")
        folder = ArrayFolder(path, os.path.join(store.root, key))
        node = store.node(key)  # once more: from now on it would be noticed if another one had its place
        if node is None or node.kind != "array":
            raise StorageError(f"cannot open {path!r}: it was replaced meanwhile; open it again.")
        group, level = _group_of(store, key)
        reader = ZarrReader(path, store, key, node, group, level, folder)
        folder.check()
        return reader


def _choose_array(store: ZarrFolder, path: str, key: str, group: Node) -> str:
    """Return the path of a group's finest level, or of the only array in it."""
    prefix = f"{key}/" if key else ""
    levels = _ngff.levels(group.attributes)
    if levels:
        return prefix + check_key(path, levels[0])
    arrays = [a for a in store.arrays() if a.startswith(prefix)]
    if len(arrays) > 1:
        arrays = [a for a in arrays if not _is_scale(store, a)] or arrays
    if len(arrays) != 1:
        holds = f"{len(arrays)} arrays: {listed(arrays)}; give one as dataset" if arrays else "no array"
        raise FormatError(f"{path!r} holds {holds}.")
    return arrays[0]


def _is_scale(store: ZarrFolder, key: str) -> bool:
    """Whether an array says where the pixels along the axis of its name lie, as coordinates of xarray do."""
    node = store.node(key)
    return node is not None and _dimension_names(node) == [key.rpartition("/")[2]]


def _dimension_names(node: Node) -> Any:
    return node.metadata.get("dimension_names") or node.attributes.get("_ARRAY_DIMENSIONS")


def _group_of(store: ZarrFolder, key: str) -> tuple[Mapping[str, Any], str]:
    """Return the attributes of the group that lists an array as one of its levels, and its name there."""
    parts = key.split("/") if key else []
    for depth in range(len(parts) - 1, -1, -1):
        group = store.node("/".join(parts[:depth]))
        level = "/".join(parts[depth:])
        if group is not None and _ngff.lists(group.attributes, level):
            return group.attributes, level
    return _outer_group(store.root, key)


def _outer_group(root: str, key: str) -> tuple[Mapping[str, Any], str]:
    """Return the same of a group around the folder that was opened, which is itself a part of a store."""
    folder, level = os.path.split(root)
    for _ in range(_MOST_OUTER):
        with contextlib.suppress(FormatError, OSError):
            group = ZarrFolder(folder).node("")
            name = f"{level}/{key}".rstrip("/")
            if group is not None and _ngff.lists(group.attributes, name):
                return group.attributes, name
        folder, outer = os.path.split(folder)
        level = f"{outer}/{level}"
    return {}, ""


class ZarrReader(ArrayReader):
    """One open Zarr array; use `open_zarr`."""

    def __init__(
        self,
        path: str,
        store: ZarrFolder,
        key: str,
        node: Node,
        group: Mapping[str, Any],
        level: str,
        folder: ArrayFolder,
    ) -> None:
        layout = (_layout_2 if node.version == 2 else _layout_3)(path, node.metadata)
        shape, dtype = layout.shape, layout.chain.dtype
        #: The pixels of what is unpacked at once: a chunk, or one of the chunks in a shard.
        self._chunks = layout.chain.shard.inner.shape if layout.chain.shard else layout.chain.shape
        check_declared(path, shape, dtype, self._chunks)
        axes = _axes(node, group, level, len(shape))
        own = node.attributes.get(OWN_ATTRIBUTE)
        own = own if isinstance(own, dict) else {}
        is_labels = _ngff.is_labels(group, level) or own.get("semantics") == "labels"
        meta = ArrayMeta(
            shape,
            native(dtype),
            axes if axes is not None else usual_axes(shape),
            preferred_block=tuple(map(min, self._chunks, shape)) if all(shape) else None,
            semantics="labels" if is_labels else "intensities",
            extra={
                "io.path": path,
                "io.dataset": f"/{key}",
                **read_about(own.get("about")),
                **remarks(guessed=axes is None),
            },
        )
        names = _ngff.channel_names(group, level)
        listed = own.get("channel_names")
        if not names and isinstance(listed, list) and all(isinstance(name, str) for name in listed):
            names = tuple(listed)
        if names and len(names) == prod(shape[i] for i in meta.axes.of_kind("channel")):
            meta = meta.replace(channel_names=names)
        super().__init__(path, meta)
        self._store = store
        self._folder = folder
        self._prefix = f"{key}/" if key else ""
        self._layout = layout
        self._chain = layout.chain
        #: Where the chunks in the shards read last lie, by the key of the shard, the latest last. Guarded by
        #: `_places_lock`.
        self._places: dict[str, npt.NDArray[np.uint64]] = {}
        self._places_lock = threading.Lock()

    def _read(self, roi: Roi, out: npt.NDArray[Any]) -> None:
        copy_chunks(self._chunks, self._load, self._layout.fill, roi, out)

    def _load(self, index: tuple[int, ...], rows: slice, part: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
        shard = self._chain.shard
        if shard is not None:
            outer = tuple(i // n for i, n in zip(index, shard.counts, strict=True))
            index = tuple(i % n for i, n in zip(index, shard.counts, strict=True))
        key = self._layout.key_of(outer if shard is not None else index)
        try:
            with self._store.open(self._prefix + key) as file:
                self._folder.check()
                if shard is not None:
                    found = shard.chunk(self._places_in(key, shard, file), index, file.read, file.size)
                    return None if found is None else found[rows]
                if self._chain.plain and file.size == self._chain.size:
                    return self._load_plain(file, rows, part)
                return self._chain.decode(file.read(0, check_packed(file.size, self._chain.size)))[rows]
        except FileNotFoundError:
            self._folder.check()
            return None
        except (FormatError, StorageError, OSError, MemoryError):
            raise
        except Exception as error:
            with self._store.open(self._prefix + key) as file:
                file.check_is_here(os.path.join(self.path, self._prefix + key))
            raise FormatError(f"{self.path!r}: chunk {key!r} is damaged: {one_line(error)}") from error

    def _load_plain(self, file: PreadFile, rows: slice, part: npt.NDArray[Any]) -> npt.NDArray[Any]:
        chunks, dtype = self._chunks, self._chain.dtype
        skipped, needed = plain_rows(chunks, rows, dtype)
        if fits_in_place(part, chunks, dtype):
            file.read_into(skipped, part)
            return part
        return np.frombuffer(file.read(skipped, needed), dtype).reshape(-1, *chunks[1:])

    def _release(self) -> None:
        self._folder.close()

    def _places_in(self, key: str, shard: Shard, file: PreadFile) -> npt.NDArray[np.uint64]:
        with self._places_lock:
            places = self._places.pop(key, None)
            if places is not None:
                self._places[key] = places
                return places
        places = shard.places(file.read, file.size)  # twice by two threads, rather than one waiting
        with self._places_lock:
            self._places[key] = places
            while len(self._places) > 1 and sum(p.nbytes for p in self._places.values()) > _MOST_KEPT_BYTES:
                del self._places[next(iter(self._places))]
        return places


class _ArrayLayout:
    """How an array is stored: what its metadata document says, checked."""

    def __init__(
        self, shape: tuple[int, ...], fill: Any, chain: Chain, key_of: Callable[[tuple[int, ...]], str]
    ) -> None:
        self.shape, self.fill, self.chain, self.key_of = shape, fill, chain, key_of


def _layout_2(path: str, document: Mapping[str, Any]) -> _ArrayLayout:
    shape, chunks = _integers(path, document, "shape"), _integers(path, document, "chunks")
    dtype = checked_dtype(path, document.get("dtype"))
    check_declared(path, shape, dtype, chunks)
    order = document.get("order", "C")
    separator = document.get("dimension_separator", ".")
    if order not in ("C", "F") or separator not in (".", "/"):
        raise FormatError(f"{path!r}: .zarray has order {order!r:.80} and separator {separator!r:.80}.")
    return _ArrayLayout(
        shape,
        _fill(path, dtype, document.get("fill_value")),
        parse_2(path, document.get("compressor"), document.get("filters"), chunks, dtype, order),
        lambda index: separator.join(map(str, index)),
    )


def _layout_3(path: str, document: Mapping[str, Any]) -> _ArrayLayout:
    _refuse_extensions(path, document)
    shape = _integers(path, document, "shape")
    name = document.get("data_type")
    if not isinstance(name, str) or name not in _V3_TYPES:
        raise FormatError(f"{path!r} holds values of type {name!r:.80}; only numbers and bool can be read.")
    dtype = np.dtype(name)
    grid = document.get("chunk_grid")
    if not isinstance(grid, dict) or grid.get("name") != "regular":
        raise FormatError(f"{path!r} has chunks that form no regular grid: {grid!r:.80}.")
    chunks = _integers(path, _configuration(grid), "chunk_shape")
    check_declared(path, shape, dtype, chunks, most_bytes=None)
    encoding = document.get("chunk_key_encoding")
    encoding = {"name": encoding} if isinstance(encoding, str) else encoding
    encoding = encoding if isinstance(encoding, dict) else {}
    plain = encoding.get("name") == "v2"
    separator = _configuration(encoding).get("separator", "." if plain else "/")
    if encoding.get("name") not in ("default", "v2") or separator not in (".", "/"):
        raise FormatError(f"{path!r} names its chunks in a way that is not known: {encoding!r:.80}.")

    def key_of(index: tuple[int, ...]) -> str:
        return str(separator).join(map(str, index if plain else ("c", *index)))

    fill = _fill(path, dtype, document.get("fill_value"))
    return _ArrayLayout(shape, fill, parse_3(path, document.get("codecs"), chunks, dtype, fill), key_of)


def _refuse_extensions(path: str, document: Mapping[str, Any]) -> None:
    """Refuse what changes the meaning of an array in a way that is not known here (Zarr 3, extensions)."""
    transformers = document.get("storage_transformers")
    if transformers:
        raise FormatError(
            f"{path!r} has the storage transformers {transformers!r:.80}; an array with such an extension "
            "cannot be read here."
        )
    for name, value in document.items():
        if name not in _V3_FIELDS and not (isinstance(value, dict) and value.get("must_understand") is False):
            raise FormatError(f"{path!r} has an extension {name!r:.80} that has to be understood and is not.")


def _configuration(node: Mapping[str, Any]) -> dict[str, Any]:
    found = node.get("configuration")
    return found if isinstance(found, dict) else {}


def _integers(path: str, document: Mapping[str, Any], name: str) -> tuple[int, ...]:
    value = document.get(name)
    if not isinstance(value, list) or not all(type(n) is int for n in value):
        raise FormatError(f"{path!r}: {name} is {value!r}, expected a list of integers.")
    return tuple(value)


def _fill(path: str, dtype: np.dtype[Any], value: Any) -> Any:
    """Return the value of chunks that are not there, of the array's dtype."""
    try:
        if value is None:
            return np.zeros((), dtype)[()]
        if isinstance(value, str) and value.startswith("0x"):
            return np.frombuffer(bytes.fromhex(value[2:]), dtype.newbyteorder(">"))[0]
        if isinstance(value, list) and len(value) == 2 and dtype.kind == "c":
            return dtype.type(complex(float(value[0]), float(value[1])))
        if isinstance(value, str) and dtype.kind == "b":
            return np.bool_({"0": False, "false": False, "1": True, "true": True}[value.lower()])
        if isinstance(value, str):  # some programs write all of them as text
            value = float(value.lower()) if dtype.kind in "fc" else int(value)
        if isinstance(value, int | float):
            # Through an array, which refuses an integer that the dtype does not have.
            return np.array(int(value) if dtype.kind in "iu" else value, native(dtype))[()]
    except (ValueError, OverflowError, TypeError, IndexError, KeyError):
        pass
    raise FormatError(f"{path!r}: fill_value {value!r:.80} is none of {dtype}.")


def _axes(node: Node, group: Mapping[str, Any], level: str, ndim: int) -> Axes | None:
    """Return the axes that the metadata gives; None if it gives none that fit."""
    own = node.attributes.get(OWN_ATTRIBUTE)
    names = _dimension_names(node)
    for found in (
        _ngff.axes_of_level(group, level, ndim),
        _ngff.axes_of_level({"multiscales": [own]}, "", ndim) if isinstance(own, dict) else None,
        named_axes(names) if isinstance(names, list) else None,
    ):
        if found is not None and len(found) == ndim:
            return found
    return None
