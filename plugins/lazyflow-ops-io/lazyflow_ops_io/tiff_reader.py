"""Reading TIFF: plain, tiled, compressed, OME, ImageJ.

tifffile says what is in a file. The positions of all strips and tiles are taken over when it is opened,
since its pages must not be touched by two threads; afterwards each thread reads and unpacks its own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import prod
from operator import mul
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from lazyflow_core.blocks import BlockGrid
from lazyflow_core.errors import FormatError
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.roi import Roi
from lazyflow_ops_io._border import check_declared, foreign_errors
from lazyflow_ops_io._decode import check_packed, inflate
from lazyflow_ops_io._reader import ArrayReader, MappedReader, PreadFile, copy_chunks, native, remarks
from lazyflow_ops_io._tiff_guard import check_directories
from lazyflow_ops_io._tiff_meta import check_ome, describe, kept_dimensions, ome_axes_keys

__all__ = ["TiffReader", "open_tiff"]

# tifffile logs each oddity of a damaged file; unless the application listens, one sentence is enough.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_DEFLATE = (8, 32946)  # both numbers mean zlib data
_PLAIN = 1
_HORIZONTAL = 2


def open_tiff(path: str, *, dataset: str | None = None) -> ArrayReader:
    """Open one series of pages of a TIFF file.

    Parameters
    ----------
    path
        The file. Pages of an OME image that are in other files are not looked for.
    dataset
        Number of the series; may be left out if there is only one. Levels of a pyramid are no series.

    Raises
    ------
    FormatError
        If it is no TIFF file or damaged, there is no such series, or its compression is not supported.
    StorageError
        If it is missing or may not be read.
    """
    with foreign_errors(path, "open"):
        with open(path, "rb") as file:
            pages = check_directories(path, file)
        with tifffile.TiffFile(path, _multifile=False) as tif:
            ome = tif.ome_metadata if tif.is_ome else None
            if ome:
                check_ome(path, ome, pages)
            number = _choose_series(path, tif.series, dataset)
            return _open_series(path, tif, number, ome)


def _choose_series(path: str, series: list[Any], dataset: str | None) -> int:
    if not series:
        raise FormatError(f"{path!r} holds no image.")
    listed = ", ".join(f"{i} ({' x '.join(map(str, s.shape))})" for i, s in enumerate(series[:20]))
    if not dataset:
        if len(series) > 1:
            raise FormatError(f"{path!r} holds {len(series)} series: {listed}; give its number as dataset.")
        return 0
    text = dataset.strip("/")
    if not (text.isascii() and text.isdigit() and int(text) < len(series)):
        raise FormatError(f"{path!r} has no series {dataset!r}; it holds {listed}.")
    return int(text)


def _open_series(path: str, tif: tifffile.TiffFile, number: int, ome: str | None) -> ArrayReader:
    series = tif.series[number]
    key = series.keyframe
    if series.dtype is None or key.dtype is None:
        raise FormatError(f"{path!r}: its pixels have {key.bitspersample} bits of format {key.sampleformat}.")
    letters, shape = series.get_axes(False), tuple(map(int, series.get_shape(False)))
    check_declared(path, shape, series.dtype)
    kept = kept_dimensions(letters, shape, ome_axes_keys(ome) if ome else "")
    kept_shape = tuple(shape[i] for i in kept)
    said = describe("".join(letters[i] for i in kept), kept_shape, ome, number, tif.imagej_metadata, key.tags)
    meta = ArrayMeta(
        kept_shape,
        native(series.dtype),
        said.axes,
        channel_names=said.channel_names,
        extra={
            "io.path": path,
            "io.dataset": str(number),
            **remarks(guessed=said.guessed, notes=said.notes),
        },
    )
    stored = series.dtype.newbyteorder(tif.byteorder)
    if series.dataoffset is not None:
        end = series.dataoffset + meta.nbytes
        if end > tif.filehandle.size:
            raise FormatError(f"{path!r} is truncated: it has {tif.filehandle.size} bytes, expected {end}.")
        pixels = np.memmap(path, stored, "r", series.dataoffset, kept_shape)
        return MappedReader(path, meta, pixels)
    return TiffReader(path, meta, series, stored, kept)


class TiffReader(ArrayReader):
    """An open series of strips or tiles; use `open_tiff`."""

    def __init__(
        self, path: str, meta: ArrayMeta, series: Any, stored: np.dtype[Any], kept: list[int]
    ) -> None:
        shape = tuple(map(int, series.get_shape(False)))
        page = series.keyframe
        leading = _leading(path, shape, len(series.pages), page.size)
        if page.is_tiled:
            tile = (1, page.tiledepth, page.tilelength, page.tilewidth)
        else:
            tile = (1, 1, min(page.rowsperstrip, page.imagelength), page.imagewidth)
        segment = (*tile, page.shaped[4])
        #: The grid of strips or tiles in one page: separate samples, depth, length, width, samples.
        self._page_grid = BlockGrid(page.shaped, segment)
        #: Which of those five each page dimension of the array is.
        self._five = _match(path, shape[leading:], page.shaped)
        per_segment = _strides(self._page_grid.counts)
        #: How far in `_places` two neighbours along each dimension of the array lie apart.
        self._strides = [
            *(n * len(self._page_grid) for n in _strides(shape[:leading])),
            *(per_segment[i] for i in self._five),
        ]
        chunks = (1,) * leading + tuple(segment[i] for i in self._five)
        check_declared(path, shape, stored, chunks)
        chunk = tuple(min(chunks[i], shape[i]) for i in kept)
        super().__init__(path, meta.replace(preferred_block=chunk) if all(meta.shape) else meta)
        self._shape, self._kept, self._leading = shape, kept, leading
        self._chunks = chunks
        self._segment_bytes = prod(segment) * stored.itemsize
        #: Stored shape of a segment and its shape in the array; the last strip of a page is shorter.
        self._usual = self._last = (segment[1:], self._chunk_shape(segment[1:]))
        self._row_axis, self._last_row = 0, -1
        if not page.is_tiled and 2 in self._five:
            self._row_axis = leading + self._five.index(2)
            self._last_row = self._page_grid.counts[2] - 1
            last = (1, page.imagelength - self._last_row * segment[2], *segment[3:])
            self._last = (last, self._chunk_shape(last))
        self._own = _own_decoder(page, stored)
        self._decode = page.decode
        self._jpeg = {}
        if page.compression in (6, 7, 34892, 33007):
            self._jpeg = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
        self._nodata = page.nodata
        self._file = PreadFile(path)
        #: Offset and bytes of every strip or tile, page after page.
        self._places = self._list_places(series)

    def _list_places(self, series: Any) -> list[tuple[int, int]]:
        places: list[tuple[int, int]] = []
        expected = len(self._page_grid)
        try:
            for number, page in enumerate(series.pages):
                if page is None:
                    raise FormatError(f"{self.path!r}: page {number} is in another file or missing.")
                offsets, counts = page.dataoffsets, page.databytecounts
                if len(offsets) < expected or len(counts) < expected:
                    raise FormatError(
                        f"{self.path!r} is damaged: page {number} has {len(offsets)} strips or tiles, "
                        f"expected {expected}."
                    )
                for offset, count in zip(offsets[:expected], counts[:expected], strict=True):
                    if offset + count > self._file.size:
                        raise FormatError(
                            f"{self.path!r} is truncated: pixels of page {number} lie beyond its end."
                        )
                    places.append((offset, count))
        except BaseException:
            self._file.close()
            raise
        return places

    def _read(self, roi: Roi, out: npt.NDArray[Any]) -> None:
        start, stop = [0] * len(self._shape), [1] * len(self._shape)
        for i, a, b in zip(self._kept, roi.start, roi.stop, strict=True):
            start[i], stop[i] = a, b
        dropped = tuple(i for i in range(len(self._shape)) if i not in self._kept)
        copy_chunks(self._chunks, self._load, self._nodata, Roi(start, stop), np.expand_dims(out, dropped))

    def _load(self, index: tuple[int, ...], rows: slice, part: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
        place = sum(map(mul, index, self._strides))
        offset, count = self._places[place]
        if not count:
            return None
        data = self._file.read(offset, check_packed(count, self._segment_bytes))
        pixels: npt.NDArray[Any]
        if self._own is not None:
            pixels = self._own(data, self._last if index[self._row_axis] == self._last_row else self._usual)
        else:
            found, _, _ = self._decode(data, place % len(self._page_grid), **self._jpeg)
            if found is None:
                return None
            pixels = np.asarray(found).reshape(self._chunk_shape(found.shape))
        return pixels[rows]

    def _chunk_shape(self, segment: tuple[int, ...]) -> tuple[int, ...]:
        """Return a segment's depth, length, width and samples as a shape with the dimensions of the array.

        Separate samples are one segment each; what a page does not have as a dimension is one pixel.
        """
        five = (1, *segment)
        return (*[1] * self._leading, *(five[i] for i in self._five))

    def _release(self) -> None:
        self._file.close()


def _leading(path: str, shape: tuple[int, ...], pages: int, page_size: int) -> int:
    """Return how many dimensions count pages; the others lie within each page."""
    for leading in range(len(shape) + 1):
        if prod(shape[:leading]) == pages and prod(shape[leading:]) == page_size:
            return leading
    raise FormatError(f"{path!r} has {pages} pages of {page_size} pixels for an image of {shape}.")


def _match(path: str, page: tuple[int, ...], shaped: tuple[int, ...]) -> list[int]:
    """Return which of the five dimensions each dimension of a page is; the others have one pixel."""
    found: list[int] = []
    for n in page:
        at = next((i for i in range(found[-1] + 1 if found else 0, len(shaped)) if shaped[i] == n), None)
        if at is None:
            raise FormatError(f"{path!r} has pages of {shaped} for an image with {page} in each.")
        found.append(at)
    return found


def _strides(counts: Sequence[int]) -> list[int]:
    """Return how far apart neighbours along each dimension lie in C order."""
    return [prod(counts[i + 1 :]) for i in range(len(counts))]


def _own_decoder(page: Any, stored: np.dtype[Any]) -> Any:
    """Return a decoder for what needs no tifffile, None otherwise.

    tifffile without imagecodecs unpacks deflate without a bound; with it, it is not faster.
    """
    simple = (
        page.compression in (_PLAIN, *_DEFLATE)
        and page.predictor in (_PLAIN, _HORIZONTAL)
        and page.fillorder == 1
        and page.bitspersample == stored.itemsize * 8
        and (page.predictor == _PLAIN or stored.kind in "iu")
        and not page.is_subsampled
    )
    if not simple:
        return None

    def decode(data: bytes, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> npt.NDArray[Any]:
        shape, in_array = shapes
        size = prod(shape) * stored.itemsize
        plain = inflate(data, size) if page_deflated else data[:size]
        pixels = np.frombuffer(plain, stored)
        if summed:
            pixels = np.cumsum(pixels.reshape(shape), axis=-2, dtype=native(stored))
        return pixels.reshape(in_array)

    page_deflated = page.compression in _DEFLATE
    summed = page.predictor == _HORIZONTAL
    return decode
