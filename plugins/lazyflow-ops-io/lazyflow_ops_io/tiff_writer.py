"""Writing TIFF: uncompressed OME-TIFF with all pixels in one piece, so every block has its place."""

from __future__ import annotations

import json
from typing import Any, Literal

import tifffile

from lazyflow_core.errors import StorageError
from lazyflow_core.meta import ArrayMeta
from lazyflow_ops_io._about import about
from lazyflow_ops_io._border import foreign_errors
from lazyflow_ops_io._target import DiskFile, Target
from lazyflow_ops_io._tiff_meta import ABOUT_ANNOTATION, AXES_ANNOTATION, NAMES_ANNOTATION, SIZE_ANNOTATION
from lazyflow_ops_io._units import ome_symbol
from lazyflow_ops_io._writer import PlainWriter, check_writable

__all__ = ["TiffWriter", "create_tiff"]

#: What OME-XML has names for; bool would be packed to bits.
_TYPES = (
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "float32",
    "float64",
    "complex64",
    "complex128",
)

#: A classic TIFF addresses 4 GiB; some of that is needed for its directories.
_MOST_CLASSIC_BYTES = 2**32 - 2**25


def create_tiff(
    path: str, meta: ArrayMeta, *, dataset: str | None = None, overwrite: bool = False
) -> TiffWriter:
    """Begin an OME-TIFF file, BigTIFF where it has to be.

    Parameters
    ----------
    path, meta
        The file, and what the array is. Its axes are some of t, c and z in any order, then y and x, then c
        if it has not come before. Pixel sizes of x, y, z and t and names of channels are kept, translations
        are not.
    dataset
        Must be left out.
    overwrite
        Whether an existing file of that name is replaced, at the end.

    Raises
    ------
    TargetExistsError
        If the file exists and ``overwrite`` is false.
    StorageError
        If TIFF has no place for such an array, it cannot be written there, or the disk has not enough room
        for all of it.
    """
    if dataset:
        raise StorageError(
            f"{path!r}: a TIFF file is written with one image without a name, not {dataset!r}."
        )
    check_writable(path, meta)
    letters = _letters(path, meta)
    if meta.dtype.name not in _TYPES:
        raise StorageError(
            f"{path!r}: OME-TIFF has no {meta.dtype.name}; cast it to one of {', '.join(_TYPES)}."
        )
    target = Target(path, overwrite=overwrite)
    try:
        with foreign_errors(path, "write"):
            return TiffWriter(target, meta, letters)
    except BaseException:
        target.abort()
        raise


def _letters(path: str, meta: ArrayMeta) -> str:
    """Return tifffile's letters for the axes."""
    keys = meta.axes.keys
    leading = keys.removesuffix("yxc") if keys.endswith("yxc") else keys.removesuffix("yx")
    if leading == keys or not set(leading) <= set("tcz") or not all(meta.shape):
        raise StorageError(
            f"{path!r}: TIFF holds axes t, c, z in any order, then y, x, then perhaps c, none of them empty; "
            f"not {meta}. Reorder the axes first, or write HDF5 or Zarr."
        )
    return leading.upper() + ("YXS" if keys.endswith("yxc") else "YX")


class TiffWriter(PlainWriter):
    """A new OME-TIFF file; use `create_tiff`."""

    def __init__(self, target: Target, meta: ArrayMeta, letters: str) -> None:
        shape = meta.shape
        if letters.endswith("S") and shape[-1] == 1:  # a single sample is no axis for tifffile
            letters, shape = letters[:-1], shape[:-1]
        big = meta.nbytes > _MOST_CLASSIC_BYTES
        order: Literal[">", "<"] = ">" if meta.dtype.str.startswith(">") else "<"
        with tifffile.TiffWriter(target.temporary, bigtiff=big, byteorder=order, ome=True) as tif:
            tif.write(
                None,
                shape=shape,
                dtype=meta.dtype,
                photometric="minisblack",
                planarconfig="contig" if letters.endswith("S") else None,
                metadata=_ome(meta, letters),
                software="lazyflow-ops-io",
            )
        with tifffile.TiffFile(target.temporary) as tif:
            offset = tif.series[0].dataoffset
            if offset is None:
                raise StorageError(f"{target.path!r}: TIFF cannot hold {meta} in one piece.")
            size = tif.filehandle.size
        disk = DiskFile(target.temporary)
        try:
            disk.reserve(size)
        except BaseException:
            disk.close()
            raise
        super().__init__(target, meta, disk, offset)
        if any(a.translation for a in meta.axes):
            self.notes = ("TIFF has no place for where the first pixel lies; write Zarr or HDF5 to keep it",)


def _ome(meta: ArrayMeta, letters: str) -> dict[str, Any]:
    """Return what tifffile makes OME-XML of."""
    notes = {AXES_ANNOTATION: meta.axes.keys}
    found: dict[str, Any] = {"axes": letters, "MapAnnotation": notes}
    for axis in meta.axes:
        if axis.key == "c" or (axis.resolution is None and axis.unit is None):
            continue
        name = {"t": "TimeIncrement"}.get(axis.key, f"PhysicalSize{axis.key.upper()}")
        symbol = ome_symbol(axis.unit, of_time=axis.key == "t")
        if symbol is None or axis.resolution is None:
            notes[f"{SIZE_ANNOTATION}{axis.key}"] = json.dumps([axis.resolution, axis.unit])
            if axis.resolution is None or axis.key == "t":
                continue
            symbol = "pixel"  # OME takes micrometers where no unit is given; this is its word for not knowing
        found[name] = axis.resolution
        found[f"{name}Unit"] = symbol
    if about(meta.extra):
        notes[ABOUT_ANNOTATION] = json.dumps(about(meta.extra))
    if meta.channel_names:
        if letters.endswith("S"):
            notes[NAMES_ANNOTATION] = json.dumps(meta.channel_names)
        else:
            found["Channel"] = {"Name": list(meta.channel_names)}
    return found
