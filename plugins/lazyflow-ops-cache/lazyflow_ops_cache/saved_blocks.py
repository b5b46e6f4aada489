"""Blocks of a cache in a file: a ZIP archive with a header and a member for each block."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from lazyflow_core import ArrayMeta, BlockGrid
from lazyflow_core.errors import FormatError, StorageError
from lazyflow_core.request import checkpoint

from lazyflow_ops_cache.whole_file import replacing, telling

__all__ = ["read_blocks", "write_blocks"]

_HEADER: Final = "lazyflow-blocks.json"
_MOST_HEADER_BYTES: Final = 2**20
_NAME: Final = re.compile(r"\d{1,18}(\.\d{1,18}){0,31}")

Array = npt.NDArray[Any]
Key = tuple[int, ...]


def write_blocks(
    path: str | os.PathLike[str],
    meta: ArrayMeta,
    grid: BlockGrid,
    fingerprint: str,
    blocks: Iterable[tuple[Key, Array]],
) -> int:
    """Write blocks, and return how many there were; the file is whole, or as it was before."""
    if meta.dtype.hasobject:
        raise StorageError(f"{os.fspath(path)!r} cannot be written: blocks of {meta.dtype} are not saved.")
    count = 0
    with (
        telling(path, "written"),
        replacing(path) as temporary,
        zipfile.ZipFile(temporary, "x", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        archive.writestr(_HEADER, json.dumps(_header(meta, grid, fingerprint), indent=1))
        for key, data in blocks:
            checkpoint()
            archive.writestr(".".join(map(str, key)), np.ascontiguousarray(data).tobytes())
            count += 1
    return count


def read_blocks(
    path: str | os.PathLike[str], meta: ArrayMeta, grid: BlockGrid, fingerprint: str
) -> Iterator[tuple[Key, Array]]:
    """Give the blocks in a file that was written for the same array, grid and fingerprint."""
    where = repr(os.fspath(path))
    with telling(path, "read"), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        header = next((member for member in members if member.filename == _HEADER), None)
        if header is None or header.file_size > _MOST_HEADER_BYTES:
            raise FormatError(f"{where} has no blocks of a cache.")
        found, wanted = json.loads(archive.read(header)), _header(meta, grid, fingerprint)
        if not isinstance(found, dict):
            raise FormatError(f"{where} has no blocks of a cache.")
        for what, value in wanted.items():
            if found.get(what) != value:
                raise FormatError(
                    f"{where} has blocks of {what} {str(found.get(what))[:80]!r}; this cache has {value!r}."
                )
        for member in members:
            if member is header:
                continue
            key = tuple(map(int, member.filename.split("."))) if _NAME.fullmatch(member.filename) else ()
            if len(key) != meta.ndim or any(k >= n for k, n in zip(key, grid.counts, strict=True)):
                raise FormatError(f"{where} is damaged: it has a member {member.filename[:80]!r}.")
            shape = grid.roi_of(key).shape
            nbytes = prod(shape) * meta.dtype.itemsize
            # Not more than it may be: a few bytes can be packed that are very many.
            with archive.open(member) as stream:
                packed = stream.read(nbytes + 1)
            if len(packed) != nbytes or member.file_size != nbytes:
                raise FormatError(f"{where} is damaged: block {member.filename} is not {nbytes} bytes.")
            yield key, np.frombuffer(packed, meta.dtype).reshape(shape)


def _header(meta: ArrayMeta, grid: BlockGrid, fingerprint: str) -> dict[str, Any]:
    return {
        "version": 1,
        "shape": list(meta.shape),
        "axes": [axis.key for axis in meta.axes],
        "dtype": np.lib.format.dtype_to_descr(meta.dtype),
        "block": list(grid.block),
        "fingerprint": fingerprint,
    }
