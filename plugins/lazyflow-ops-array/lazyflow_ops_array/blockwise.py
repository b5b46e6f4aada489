"""What is known of a whole image only after all of it was read: block by block, in any order, one result.

Blocks do not depend on how many workers there are or how much memory is free, and what they give is put
together in their order, so the last digit of a sum is the same on every machine and in every run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
from lazyflow_core import Roi
from lazyflow_core.blocks import choose_block_shape
from lazyflow_core.graph import Input
from lazyflow_core.utility import plan_blocks, process_blocks

__all__ = ["Summary", "map_blocks", "map_boxes", "percentiles_of", "summary_of"]

T = TypeVar("T")
Array = npt.NDArray[Any]

#: Pixels of a block.
_BLOCK: Final = 1 << 20

#: So many values are sorted rather than counted.
_FEW: Final = 1 << 21

#: Bits by which values are told apart in one pass: a histogram of half a megabyte.
_DIGIT: Final = 16


def map_blocks(slot: Input, function: Callable[[Array], T], roi: Roi | None = None) -> list[T]:
    """Return what a function says of each block of a region, in their order; several are computed at once."""
    return [result for _, result in map_boxes(slot, function, roi)]


def map_boxes(slot: Input, function: Callable[[Array], T], roi: Roi | None = None) -> list[tuple[Roi, T]]:
    """Return the same with where each block is."""
    meta = slot.meta
    region = meta.roi if roi is None else roi
    if region.is_empty:
        return []
    block = choose_block_shape(
        region.shape, most_pixels=_BLOCK, step=meta.preferred_block, most=meta.max_block
    )
    plan = plan_blocks(meta, region, block_shape=block, workers=slot.graph.scheduler.worker_count)
    results: dict[Roi, T] = {}

    def consume(box: Roi, pixels: Array) -> None:
        results[box] = function(pixels)

    process_blocks(slot, consume, plan)
    return [(box, results[box]) for box in plan.grid]


# ------------------------------------------------------------------------------------------------ moments


@dataclass(frozen=True)
class Summary:
    """What one pass over an image tells; NaN counts nowhere.

    Parameters
    ----------
    count
        Pixels that are numbers.
    minimum, maximum
        NaN if there is no number.
    mean, std
        Of all of them; the standard deviation divides by ``count``.
    lowest, highest
        Smallest and largest finite number; NaN if there is none.
    """

    count: int
    minimum: float
    maximum: float
    mean: float
    std: float
    lowest: float
    highest: float


_NOTHING: Final = Summary(0, np.nan, np.nan, np.nan, np.nan, np.nan, np.nan)


def summary_of(slot: Input, roi: Roi | None = None) -> Summary:
    """Return the summary of a region.

    Source
    ------
    T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for computing the sample variance", The American
    Statistician 37 (1983): how means and squares of parts are put together without losing digits.
    """
    total, squares = _NOTHING, 0.0
    for part, part_squares in map_blocks(slot, _summary, roi):
        if not part.count:
            continue
        if not total.count:
            total, squares = part, part_squares
            continue
        count = total.count + part.count
        with np.errstate(invalid="ignore", over="ignore"):
            apart = np.float64(part.mean) - total.mean
            squares += part_squares + apart * apart * total.count * part.count / count
            mean: Any = total.mean + apart * part.count / count
            if not np.isfinite(mean):  # infinite pixels, or the way between two means is beyond float64
                mean = total.mean * (total.count / count) + part.mean * (part.count / count)
        total = Summary(
            count,
            min(total.minimum, part.minimum),
            max(total.maximum, part.maximum),
            float(mean),
            0.0,
            float(np.fmin(total.lowest, part.lowest)),
            float(np.fmax(total.highest, part.highest)),
        )
    if not total.count:
        return total
    return replace(total, std=float(np.sqrt(squares / total.count)))


def _summary(pixels: Array) -> tuple[Summary, float]:
    """Return the summary of one block, and the sum of its squared distances from its mean."""
    values = _numbers(pixels)
    if not values.size:
        return _NOTHING, 0.0
    low, high = values.min(), values.max()
    lowest, highest = low, high
    if not (np.isfinite(low) and np.isfinite(high)):
        finite = values[np.isfinite(values)]
        lowest, highest = (finite.min(), finite.max()) if finite.size else (np.nan, np.nan)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = values.mean(dtype=np.float64)
        apart = values.astype(np.float64)
        apart -= mean
        squares = np.dot(apart, apart)
    summary = Summary(values.size, float(low), float(high), float(mean), 0.0, float(lowest), float(highest))
    return summary, float(squares)


def _numbers(pixels: Array) -> Array:
    """Return the pixels in a row, without NaN."""
    flat = pixels.reshape(-1)
    if flat.dtype.kind == "b":
        return flat.view(np.uint8) if flat.flags.c_contiguous else flat.astype(np.uint8)
    if flat.dtype.kind == "f":
        if flat.dtype.itemsize < 4:
            flat = flat.astype(np.float32)  # numpy computes with it by this anyway, slowly
        absent = np.isnan(flat)
        if absent.any():
            return flat[~absent]
    return flat


# ---------------------------------------------------------------------------------------------- percentiles


def percentiles_of(slot: Input, percentiles: Sequence[float], roi: Roi | None = None) -> tuple[float, ...]:
    """Return exact percentiles of the numbers of a region, as ``numpy.nanpercentile`` does of a whole array.

    NaN for all of them if there is no number. Numbers are found by their rank without having all of them: 16
    bits of their order in each pass.

    One pass tells integers of up to 16 bits, further ones only what is left of those candidates; so many as
    fit into memory are sorted.

    Source
    ------
    Selection by radix, D. E. Knuth, The Art of Computer Programming 3, 5.2.5; floating point is ordered as
    its bits are once those of negative numbers are inverted.
    """
    dtype = slot.meta.dtype
    bits = 8 * _key_dtype(dtype).itemsize
    shift = max(0, bits - _DIGIT)
    counts = _counted(slot, roi, dtype, shift, ())[()]
    count = int(counts.sum())
    if not count:
        return tuple(np.nan for _ in percentiles)
    places = [percent / 100 * (count - 1) for percent in percentiles]
    ranks = sorted({rank for place in places for rank in (int(place), min(int(place) + 1, count - 1))})
    # For each rank the first bits that are known, and its rank among the numbers that begin with them.
    begins = {rank: _descend(0, counts, rank) for rank in ranks}
    inside = {begin: int(counts[begin]) for begin, _ in begins.values()}
    while shift and sum(inside.values()) > _FEW:
        lower = max(0, shift - _DIGIT)
        tables = _counted(slot, roi, dtype, lower, tuple(inside), shift)
        width = shift - lower
        begins = {
            rank: _descend(begin << width, tables[begin], left) for rank, (begin, left) in begins.items()
        }
        inside = {
            begin: int(tables[begin >> width][begin & ((1 << width) - 1)]) for begin, _ in begins.values()
        }
        shift = lower
    if shift:
        wanted = np.array(sorted(inside), np.uint64)
        sorted_keys = np.sort(
            np.concatenate(
                map_blocks(
                    slot,
                    lambda pixels: (keys := _keys(pixels, dtype))[np.isin(_begin(keys, shift), wanted)],
                    roi,
                )
            )
        )
        firsts = np.searchsorted(_begin(sorted_keys, shift), wanted)
        first = dict(zip(wanted.tolist(), firsts.tolist(), strict=True))
        if not sorted_keys.size:  # see `_descend`
            return tuple(np.nan for _ in percentiles)
        keys = {
            rank: int(sorted_keys[min(first[begin] + left, sorted_keys.size - 1)])
            for rank, (begin, left) in begins.items()
        }
    else:
        keys = {rank: begin for rank, (begin, _) in begins.items()}
    found = {rank: _value(key, dtype) for rank, key in keys.items()}
    return tuple(
        _between(found[int(place)], found[min(int(place) + 1, count - 1)], place - int(place))
        for place in places
    )


def _descend(begin: int, counts: Array, rank: int) -> tuple[int, int]:
    """Return in which bin of a histogram a rank lies, counted from ``begin``, and its rank in there.

    There may be fewer numbers than in the pass before: an assigned array can be written to while it is read,
    and is declared dirty only afterwards. What comes of that is nobody's result, but it is no failure.
    """
    ends = np.cumsum(counts)
    bin = min(int(np.searchsorted(ends, rank, side="right")), len(counts) - 1)
    return begin + bin, rank - int(ends[bin] - counts[bin])


def _counted(
    slot: Input,
    roi: Roi | None,
    dtype: np.dtype[Any],
    shift: int,
    begins: tuple[int, ...],
    known: int = 0,
) -> dict[Any, Array]:
    """Return histograms of the bits of all keys from ``shift`` on; one for each known beginning."""

    def count(pixels: Array) -> dict[Any, Array]:
        keys = _keys(pixels, dtype)
        if not begins:
            bins = 1 << (8 * keys.dtype.itemsize - shift)
            return {(): np.bincount(_begin(keys, shift).astype(np.int64), minlength=bins)}
        width = known - shift
        parts = {}
        own = _begin(keys, known)
        for begin in begins:
            digits = _begin(keys[own == begin], shift) & np.uint64((1 << width) - 1)
            parts[begin] = np.bincount(digits.astype(np.int64), minlength=1 << width)
        return parts

    total: dict[Any, Array] = {}
    for part in map_blocks(slot, count, roi):
        for begin, counts in part.items():
            total[begin] = total[begin] + counts if begin in total else counts
    return total or dict.fromkeys(
        begins or ((),), np.zeros(1 << min(_DIGIT, 8 * _key_dtype(dtype).itemsize), np.int64)
    )


def _begin(keys: Array, shift: int) -> Array:
    begins: Array = (keys >> keys.dtype.type(shift)).astype(np.uint64, copy=False)
    return begins


def _key_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the unsigned integers in which values are ordered."""
    return np.dtype(f"u{min(dtype.itemsize, 8)}")


def _keys(pixels: Array, dtype: np.dtype[Any]) -> Array:
    """Return integers in the order of the numbers of an array, which has no order of bytes of its own."""
    flat = pixels.reshape(-1)
    unsigned = _key_dtype(dtype)
    top = unsigned.type(1 << (8 * unsigned.itemsize - 1))
    if dtype.kind in "bu":
        return flat.astype(unsigned)
    if dtype.kind == "i":
        signed: Array = flat.astype(f"i{unsigned.itemsize}").view(unsigned)
        signed ^= top
        return signed
    values = flat.astype(f"f{unsigned.itemsize}")
    values = values[~np.isnan(values)]
    bits = values.view(unsigned)
    keys: Array = np.where(bits & top, ~bits, bits | top)
    return keys


def _value(key: int, dtype: np.dtype[Any]) -> float:
    unsigned = _key_dtype(dtype)
    top = 1 << (8 * unsigned.itemsize - 1)
    if dtype.kind in "bu":
        return key
    if dtype.kind == "i":
        return int(np.array([key ^ top], unsigned).view(f"i{unsigned.itemsize}")[0])
    bits = key ^ top if key & top else ~key & (2 * top - 1)
    return float(np.array([bits], unsigned).view(f"f{unsigned.itemsize}")[0])


def _between(low: float, high: float, fraction: float) -> float:
    """Return the number at a fraction of the way; infinite ends stay as they are."""
    if low == high or not fraction:
        return float(low)
    return float(low + (high - low) * fraction)
