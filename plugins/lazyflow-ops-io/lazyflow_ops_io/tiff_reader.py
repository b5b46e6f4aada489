"""Reading TIFF: plain, tiled, compressed, OME, ImageJ.

tifffile says what is in a file. The positions of all strips and tiles are taken over when it is opened,
since its pages must not be touched by two threads; afterwards each thread reads and unpacks its own.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Sequence
from math import prod
from operator import mul
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tifffile

from lazyflow_core.blocks import BlockGrid
from lazyflow_core.errors import FormatError
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.roi import Roi
from lazyflow_ops_io._about import read_about
from lazyflow_ops_io._border import check_declared, foreign_errors
from lazyflow_ops_io._decode import check_packed
from lazyflow_ops_io._reader import (
    ArrayReader,
    MappedReader,
    PreadFile,
    PreadStream,
    copy_chunks,
    native,
    remarks,
)
from lazyflow_ops_io._tiff_decode import decoder_of
from lazyflow_ops_io._tiff_guard import Directories, check_directories, check_xml
from lazyflow_ops_io._tiff_meta import ABOUT_ANNOTATION, Ome, describe, kept_dimensions, parse_ome

__all__ = ["TiffReader", "open_tiff"]

#: So many pages are told apart by tifffile, which takes 10 kB and a fifth of a millisecond for each.
_MOST_UNLIKE = 20_000

# tifffile logs each oddity of a damaged file; unless the application listens, one sentence is enough.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


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
        raw = PreadFile(path)
        try:
            directories = check_directories(path, raw)
            for text in directories.descriptions:
                check_xml(path, text)
            first = directories.alike.first_page()
            if first is not None:
                with _parsed(first) as tif:
                    series = _series_of_all(path, tif, directories)
                    if series is not None:
                        _choose_series(path, [series], dataset)
                        return _open_series(path, raw, tif, series, 0, None)
            with _parsed(PreadStream(raw)) as tif:
                if not directories.alike.are_alike:
                    tif.is_uniform = False  # for which it looks at three pages
                xml = tif.ome_metadata if tif.is_ome else None
                ome = parse_ome(path, xml, directories.pages) if xml else None
                listed = tif.series  # made anew whenever it is asked for
                number = _choose_series(path, listed, dataset)
                return _open_series(path, raw, tif, _series_of(path, listed[number]), number, ome)
        except BaseException:
            raw.close()
            raise


def _parsed(stream: PreadStream) -> tifffile.TiffFile:
    """Return what tifffile makes of a file; it looks for none beside this one, whose name it does not see."""
    return tifffile.TiffFile(io.BufferedReader(stream), _multifile=False)


class _Series(NamedTuple):
    """Pages of equal shape and dtype.

    Attributes
    ----------
    letters, shape
        The dimensions of all of them together, in tifffile's letters, and how long each is.
    dtype
        Of their pixels, in this machine's byte order.
    page
        tifffile's page that describes all.
    pages
        How many there are.
    places
        Returns offset and bytes of the strips or tiles of all pages, so many of each page.
    plain_at
        Where all pixels lie as one piece; None if they do not.
    """

    letters: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    page: Any
    pages: int
    places: Callable[[int], npt.NDArray[np.uint64]]
    plain_at: int | None


def _series_of(path: str, series: Any) -> _Series:
    """Return a series as tifffile tells it."""
    page = series.keyframe
    if series.dtype is None or page.dtype is None:
        raise FormatError(
            f"{path!r}: its pixels have {page.bitspersample} bits of format {page.sampleformat}."
        )

    def places(count: int) -> npt.NDArray[np.uint64]:
        out = []
        for number, each in enumerate(series.pages):
            if each is None:
                raise FormatError(f"{path!r}: page {number} is in another file or missing.")
            found = each.dataoffsets, each.databytecounts
            if min(map(len, found)) < count:
                raise FormatError(
                    f"{path!r} is damaged: page {number} has {len(found[0])} strips or tiles, "
                    f"expected {count}."
                )
            out.append([numbers[:count] for numbers in found])
        return np.array(out, np.uint64).transpose(0, 2, 1)

    return _Series(
        series.get_axes(False),
        tuple(map(int, series.get_shape(False))),
        series.dtype,
        page,
        len(series.pages),
        places,
        series.dataoffset,
    )


def _series_of_all(path: str, tif: tifffile.TiffFile, directories: Directories) -> _Series | None:
    """Return all pages of a file as a series, given the first; None if tifffile knows more of it."""
    listed, alike = tif.series, directories.alike
    if [series.kind for series in listed] != ["uniform"]:
        return None
    if not alike.are_alike:
        if directories.pages > _MOST_UNLIKE:
            raise FormatError(
                f"{path!r} has {directories.pages} pages that are not all alike; of more than {_MOST_UNLIKE} "
                "all have to be."
            )
        return None
    one = _series_of(path, listed[0])
    found = alike.pixels()
    page, count = one.page, found.shape[1]
    if len(page.dataoffsets) != count or not np.array_equal(one.places(count)[0], found[0]):
        return None  # it knows better where the pixels of that page lie
    if page.is_contiguous:
        found[..., 1] = found[0, :, 1]

    def places(expected: int) -> npt.NDArray[np.uint64]:
        if count < expected:
            raise FormatError(
                f"{path!r} is damaged: its pages have {count} strips or tiles, expected {expected}."
            )
        return found[:, :expected]

    plain_at = one.plain_at
    steps = np.diff(found[:, 0, 0].astype(np.int64))
    if (steps != page.nbytes).any():
        plain_at = None
    pages = len(found)
    return _Series(f"I{one.letters}", (pages, *one.shape), one.dtype, page, pages, places, plain_at)


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


def _open_series(
    path: str, raw: PreadFile, tif: tifffile.TiffFile, series: _Series, number: int, ome: Ome | None
) -> ArrayReader:
    letters, shape = series.letters, series.shape
    check_declared(path, shape, series.dtype)
    kept = kept_dimensions(letters, shape, ome.axes_keys if ome else "")
    kept_shape = tuple(shape[i] for i in kept)
    tags = series.page.tags
    said = describe("".join(letters[i] for i in kept), kept_shape, ome, number, tif.imagej_metadata, tags)
    meta = ArrayMeta(
        kept_shape,
        native(series.dtype),
        said.axes,
        channel_names=said.channel_names,
        extra={
            "io.path": path,
            "io.dataset": str(number),
            **read_about(ome.notes.get(ABOUT_ANNOTATION, "") if ome else None),
            **remarks(guessed=said.guessed, notes=said.notes),
        },
    )
    stored = series.dtype.newbyteorder(tif.byteorder)
    if series.plain_at is not None:
        return MappedReader(path, meta, raw.map(stored, kept_shape, series.plain_at), raw)
    return TiffReader(path, raw, meta, series, stored, kept)


class TiffReader(ArrayReader):
    """An open series of strips or tiles; use `open_tiff`."""

    def __init__(
        self,
        path: str,
        raw: PreadFile,
        meta: ArrayMeta,
        series: _Series,
        stored: np.dtype[Any],
        kept: list[int],
    ) -> None:
        shape, page = series.shape, series.page
        if page.is_tiled:
            tile = (1, page.tiledepth, page.tilelength, page.tilewidth)
        else:
            tile = (1, 1, min(page.rowsperstrip, page.imagelength), page.imagewidth)
        #: Separate samples, depth, length, width and samples of a strip or tile.
        segment = (*tile, page.shaped[4])
        check_declared(path, page.shaped, stored, segment)
        #: The grid of strips or tiles in one page.
        self._page_grid = BlockGrid(page.shaped, segment)
        self._per_page = len(self._page_grid)
        leading, self._five = _dimensions(path, shape, series.pages, page.shaped)
        per_segment = _strides(self._page_grid.counts)
        #: How far in `_places` two neighbours along each dimension of the array lie apart; and its chunks.
        self._strides = [0] * len(shape)
        chunks = [1] * len(shape)
        for i, n in zip(leading, _strides([shape[i] for i in leading]), strict=True):
            self._strides[i] = n * self._per_page
        for i, which in self._five.items():
            self._strides[i], chunks[i] = per_segment[which], segment[which]
        self._chunks = tuple(chunks)
        chunk = tuple(min(chunks[i], shape[i]) for i in kept)
        super().__init__(path, meta.replace(preferred_block=chunk) if all(meta.shape) else meta)
        self._shape, self._kept = shape, kept
        self._segment_bytes = prod(segment) * stored.itemsize
        #: Stored shape of a segment; the last strip of a page may be shorter.
        self._segment = segment[1:]
        self._rows = None if page.is_tiled else page.imagelength
        here = set(self._five.values())
        #: The part of a segment that is in the array; None for all of it.
        self._lacks: tuple[slice, ...] | None = tuple(
            slice(None) if i in here or segment[i] == 1 else slice(1) for i in range(1, 5)
        )
        if self._lacks == (slice(None),) * 4:
            self._lacks = None
        self._decode = decoder_of(path, page, stored)
        self._nodata = page.nodata
        self._file = raw
        #: Offset and bytes of every strip or tile, page after page.
        self._places = series.places(self._per_page).reshape(-1, 2)
        offsets, counts = self._places.T
        beyond = (offsets > raw.size) | (counts > raw.size - np.minimum(offsets, raw.size))
        if beyond.any():
            number = int(beyond.argmax()) // self._per_page
            raise FormatError(f"{path!r} is truncated: pixels of page {number} lie beyond its end.")

    def _read(self, roi: Roi, out: npt.NDArray[Any]) -> None:
        start, stop = [0] * len(self._shape), [1] * len(self._shape)
        for i, a, b in zip(self._kept, roi.start, roi.stop, strict=True):
            start[i], stop[i] = a, b
        dropped = tuple(i for i in range(len(self._shape)) if i not in self._kept)
        copy_chunks(self._chunks, self._load, self._nodata, Roi(start, stop), np.expand_dims(out, dropped))

    def _load(self, index: tuple[int, ...], rows: slice, part: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
        place = sum(map(mul, index, self._strides))
        offset, count = self._places[place].tolist()
        if not count:
            return None
        data = self._file.read(offset, check_packed(count, self._segment_bytes))
        number = place % self._per_page
        shape = self._segment
        if self._rows is not None:
            first = number % self._page_grid.counts[2] * shape[1]
            shape = (shape[0], min(shape[1], self._rows - first), *shape[2:])
        pixels = self._decode(data, shape, self._segment, number)
        return None if pixels is None else self._as_chunk(pixels)[rows]

    def _as_chunk(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a segment with the dimensions of the array; of a dimension it lacks, the first pixel.

        A page of one row can have tiles of 16, of which one is meant.
        """
        if pixels.shape == self._segment and self._lacks is None:
            return pixels.reshape(self._chunks)
        if self._lacks is not None:
            pixels = pixels[self._lacks]
        shape = [1] * len(self._shape)
        for i, which in self._five.items():
            shape[i] = pixels.shape[which - 1] if which else 1
        return pixels.reshape(shape)

    def _release(self) -> None:
        self._file.close()


def _dimensions(
    path: str, shape: tuple[int, ...], pages: int, shaped: tuple[int, ...]
) -> tuple[list[int], dict[int, int]]:
    """Return which dimensions of an array count pages, and which of a page's five each of the others is.

    Dimensions of one pixel are neither: formats differ in how many of them they list, and where.
    """
    longer = [i for i, n in enumerate(shape) if n != 1]
    within = [k for k, n in enumerate(shaped) if n != 1]
    leading = longer[: max(0, len(longer) - len(within))]
    rest = longer[len(leading) :]
    if prod(shape[i] for i in leading) != pages or [shape[i] for i in rest] != [shaped[k] for k in within]:
        raise FormatError(f"{path!r} has {pages} pages of {shaped} pixels for an image of {shape}.")
    return leading, dict(zip(rest, within, strict=True))


def _strides(counts: Sequence[int]) -> list[int]:
    """Return how far apart neighbours along each dimension lie in C order."""
    return [prod(counts[i + 1 :]) for i in range(len(counts))]
