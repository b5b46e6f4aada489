"""Reading Zarr 2 and 3, with the metadata of OME-Zarr 0.4 and 0.5.

Chunks with the usual codecs are read and unpacked here, in the caller's thread: this is several times as
fast as zarr-python for one region (benchmarks/io.py), and no chunk unpacks to more than it declares. Arrays
that use anything else (sharding, transposed chunks, filters) go through zarr-python. Which one is decided
when the array is opened, from its metadata.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyflow_core.axes import Axes
from lazyflow_core.errors import AxesError, FormatError, StorageError
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.roi import Roi
from lazyflow_ops_io import _ngff
from lazyflow_ops_io._border import check_declared, foreign_errors, listed
from lazyflow_ops_io._decode import DECODERS, Decoder, check_packed
from lazyflow_ops_io._reader import ArrayReader, copy_chunks, fits_in_place, native, plain_rows, usual_axes
from lazyflow_ops_io._zarr_store import Node, ZarrFolder, check_key

__all__ = ["ZarrReader", "open_zarr"]

#: Attribute of arrays whose axes OME-Zarr cannot describe; see `zarr_writer`.
OWN_ATTRIBUTE = "lazyflow"

_V3_TYPES = {
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "complex64", "complex128",
}  # fmt: skip


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
        group, level = _group_of(store, key)
        return ZarrReader(path, store, key, node, group, level)


def _choose_array(store: ZarrFolder, path: str, key: str, group: Node) -> str:
    """Return the path of a group's finest level, or of the only array in it."""
    prefix = f"{key}/" if key else ""
    levels = _ngff.levels(group.attributes)
    if levels:
        return prefix + check_key(path, levels[0])
    arrays = [a for a in store.arrays() if a.startswith(prefix)]
    if len(arrays) != 1:
        holds = f"{len(arrays)} arrays: {listed(arrays)}; give one as dataset" if arrays else "no array"
        raise FormatError(f"{path!r} holds {holds}.")
    return arrays[0]


def _group_of(store: ZarrFolder, key: str) -> tuple[Mapping[str, Any], str]:
    """Return the attributes of the group that lists an array as one of its levels, and its name there."""
    parts = key.split("/") if key else []
    for depth in range(len(parts) - 1, -1, -1):
        group = store.node("/".join(parts[:depth]))
        level = "/".join(parts[depth:])
        if group is not None and level in _ngff.levels(group.attributes):
            return group.attributes, level
    return {}, ""


class ZarrReader(ArrayReader):
    """One open Zarr array; use `open_zarr`."""

    def __init__(
        self, path: str, store: ZarrFolder, key: str, node: Node, group: Mapping[str, Any], level: str
    ) -> None:
        layout = (_layout_2 if node.version == 2 else _layout_3)(path, node.metadata)
        shape, dtype = layout.shape, layout.dtype
        check_declared(path, shape, dtype, layout.chunks)
        axes = _axes(node, group, level, shape)
        meta = ArrayMeta(
            shape,
            native(dtype),
            axes,
            preferred_block=tuple(map(min, layout.chunks, shape)) if all(shape) else None,
            semantics="labels" if _ngff.is_labels(group) else "intensities",
            extra={"io.path": path, "io.dataset": f"/{key}"},
        )
        names = _ngff.channel_names(group)
        if names and len(names) == prod(shape[i] for i in meta.axes.of_kind("channel")):
            meta = meta.replace(channel_names=names)
        super().__init__(path, meta)
        self._store = store
        self._prefix = f"{key}/" if key else ""
        self._layout = layout
        self._chunk_bytes = prod(layout.chunks) * dtype.itemsize
        #: zarr-python's array, where its codecs are needed; None where ours do.
        self._reference = None if layout.decoders is not None else _open_reference(store, key, node)

    def _read(self, roi: Roi, out: npt.NDArray[Any]) -> None:
        if self._reference is not None:
            out[...] = self._reference[roi.slicing]
        else:
            copy_chunks(self._layout.chunks, self._load, self._layout.fill, roi, out)

    def _load(self, index: tuple[int, ...], rows: slice, part: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
        layout, size = self._layout, self._chunk_bytes
        key = layout.key_of(index)
        try:
            with self._store.open(self._prefix + key) as file:
                if not layout.decoders and layout.order == "C" and file.size == size:
                    skipped, needed = plain_rows(layout.chunks, rows, layout.dtype)
                    if fits_in_place(part, layout.chunks, layout.dtype):
                        file.read_into(skipped, part)
                        return part
                    data: Any = file.read(skipped, needed)
                    return np.frombuffer(data, layout.dtype).reshape(-1, *layout.chunks[1:])
                data = file.read(0, check_packed(file.size, size))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise FormatError(f"{self.path!r}: chunk {key!r} is damaged: {error}.") from error
        try:
            for decode in layout.decoders or ():
                data = decode(data, size)
            if len(data) != size:
                raise ValueError(f"it has {len(data)} bytes, expected {size}")
        except Exception as error:
            raise FormatError(f"{self.path!r}: chunk {key!r} is damaged: {error}.") from error
        return np.frombuffer(data, layout.dtype).reshape(layout.chunks, order=layout.order)[rows]


class _Layout:
    """How an array is stored: what its metadata document says, checked."""

    def __init__(
        self,
        shape: tuple[int, ...],
        chunks: tuple[int, ...],
        dtype: np.dtype[Any],
        fill: Any,
        order: Any,
        decoders: tuple[Decoder, ...] | None,
        key_of: Callable[[tuple[int, ...]], str],
    ) -> None:
        self.shape, self.chunks, self.dtype, self.fill, self.order = shape, chunks, dtype, fill, order
        #: What undoes the codecs, in this order; None if one of them is not known here.
        self.decoders = decoders
        self.key_of = key_of


def _layout_2(path: str, document: Mapping[str, Any]) -> _Layout:
    shape = _integers(path, document, "shape")
    dtype = _dtype(path, document.get("dtype"))
    compressor = document.get("compressor")
    decoder = () if compressor is None else _decoder(compressor, "id")
    order = document.get("order", "C")
    separator = document.get("dimension_separator", ".")
    if order not in ("C", "F") or separator not in (".", "/"):
        raise FormatError(f"{path!r}: .zarray has order {order!r} and separator {separator!r}.")
    return _Layout(
        shape,
        _integers(path, document, "chunks"),
        dtype,
        _fill(path, dtype, document.get("fill_value")),
        order,
        None if document.get("filters") else decoder,
        lambda index: separator.join(map(str, index)),
    )


def _layout_3(path: str, document: Mapping[str, Any]) -> _Layout:
    shape = _integers(path, document, "shape")
    name = document.get("data_type")
    if name not in _V3_TYPES:
        raise FormatError(f"{path!r} holds values of type {name!r}; only numbers and bool can be read.")
    dtype = np.dtype(name)
    grid = document.get("chunk_grid")
    if not isinstance(grid, dict) or grid.get("name") != "regular":
        raise FormatError(f"{path!r} has chunks that form no regular grid: {grid!r}.")
    chunks = _integers(path, _configuration(grid), "chunk_shape")
    encoding = document.get("chunk_key_encoding")
    encoding = encoding if isinstance(encoding, dict) else {}
    plain = encoding.get("name") == "v2"
    separator = _configuration(encoding).get("separator", "." if plain else "/")
    if encoding.get("name") not in ("default", "v2") or separator not in (".", "/"):
        raise FormatError(f"{path!r} names its chunks in a way that is not known: {encoding!r}.")

    def key_of(index: tuple[int, ...]) -> str:
        return str(separator).join(map(str, index if plain else ("c", *index)))

    codecs = document.get("codecs")
    if not isinstance(codecs, list) or not codecs:
        raise FormatError(f"{path!r} has no list of codecs.")
    decoders: tuple[Decoder, ...] | None = None
    first = codecs[0]
    if isinstance(first, dict) and first.get("name") == "bytes":
        if _configuration(first).get("endian") == "big":
            dtype = dtype.newbyteorder(">")
        if len(codecs) == 1:
            decoders = ()
        elif len(codecs) == 2:
            decoders = _decoder(codecs[1], "name")
    return _Layout(
        shape, chunks, dtype, _fill(path, dtype, document.get("fill_value")), "C", decoders, key_of
    )


def _configuration(node: Mapping[str, Any]) -> dict[str, Any]:
    found = node.get("configuration")
    return found if isinstance(found, dict) else {}


def _decoder(codec: Any, name: str) -> tuple[Decoder, ...] | None:
    known = codec.get(name) if isinstance(codec, dict) else None
    return (DECODERS[known],) if isinstance(known, str) and known in DECODERS else None


def _integers(path: str, document: Mapping[str, Any], name: str) -> tuple[int, ...]:
    value = document.get(name)
    if not isinstance(value, list) or not all(type(n) is int for n in value):
        raise FormatError(f"{path!r}: {name} is {value!r}, expected a list of integers.")
    return tuple(value)


def _dtype(path: str, text: Any) -> np.dtype[Any]:
    try:
        if isinstance(text, str):
            return np.dtype(text)
    except TypeError:
        pass
    raise FormatError(f"{path!r} holds values of type {text!r}; only numbers and bool can be read.")


def _fill(path: str, dtype: np.dtype[Any], value: Any) -> Any:
    """Return the value of chunks that are not there, of the array's dtype."""
    try:
        if value is None:
            return np.zeros((), dtype)[()]
        if isinstance(value, str) and value.startswith("0x"):
            return np.frombuffer(bytes.fromhex(value[2:]), dtype.newbyteorder(">"))[0]
        if isinstance(value, list) and len(value) == 2 and dtype.kind == "c":
            return dtype.type(complex(float(value[0]), float(value[1])))
        if isinstance(value, str) and dtype.kind in "fc":
            return dtype.type(float(value.lower()))
        if isinstance(value, int | float):
            return np.array(value).astype(dtype)[()]
    except (ValueError, OverflowError, TypeError, IndexError):
        pass
    raise FormatError(f"{path!r}: fill_value {value!r} is none of {dtype}.")


def _axes(node: Node, group: Mapping[str, Any], level: str, shape: tuple[int, ...]) -> Axes:
    """Return the axes that the metadata gives, or the usual ones if it gives none that fit."""
    own = node.attributes.get(OWN_ATTRIBUTE)
    names = node.metadata.get("dimension_names") or node.attributes.get("_ARRAY_DIMENSIONS")
    found = _ngff.axes_of_level(group, level)
    if found is None and isinstance(own, dict):
        found = _ngff.axes_of_level({"multiscales": [own]}, "")
    if found is None and isinstance(names, list):
        try:
            found = Axes(names)
        except (AxesError, TypeError):
            found = None
    return found if found is not None and len(found) == len(shape) else usual_axes(shape)


def _open_reference(store: ZarrFolder, key: str, node: Node) -> Any:
    import zarr
    from zarr.storage import LocalStore

    return zarr.open_array(
        LocalStore(store.root, read_only=True), path=key, mode="r", zarr_format=node.version
    )
