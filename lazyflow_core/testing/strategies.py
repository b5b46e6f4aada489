"""Strategies for hypothesis: shapes, regions, axes and images. Needs ``lazyflow-core[testing]``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from hypothesis import strategies as st

from lazyflow_core.axes import Axes, Axis
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.roi import Roi
from lazyflow_core.testing.case import InputArray, array

__all__ = ["axes", "block_shapes", "dtypes", "images", "metas", "rois", "shapes"]

DTYPES: Final = ("bool", "uint8", "int16", "uint32", "int64", "float32", "float64")


def shapes(min_ndim: int = 1, max_ndim: int = 4, max_side: int = 12) -> st.SearchStrategy[tuple[int, ...]]:
    """Return shapes without empty axes."""
    sides = st.integers(1, max_side)
    return st.lists(sides, min_size=min_ndim, max_size=max_ndim).map(tuple)


def dtypes() -> st.SearchStrategy[np.dtype[Any]]:
    """Return dtypes that images have."""
    return st.sampled_from(DTYPES).map(np.dtype)


@st.composite
def rois(draw: st.DrawFn, shape: Sequence[int], *, allow_empty: bool = False) -> Roi:
    """Return regions inside an array; small ones and whole ones are likely."""
    start, stop = [], []
    for side in shape:
        a = draw(st.integers(0, side if allow_empty else side - 1))
        b = draw(st.integers(a if allow_empty else a + 1, side))
        start.append(a)
        stop.append(b)
    return Roi(start, stop)


@st.composite
def block_shapes(draw: st.DrawFn, shape: Sequence[int]) -> tuple[int, ...]:
    """Return blocks that divide an array, evenly or not; some are larger than it."""
    return tuple(draw(st.integers(1, side + 2)) for side in shape)


@st.composite
def axes(draw: st.DrawFn, ndim: int, *, keys: str = "tzyxc") -> Axes:
    """Return axes in any order, with pixel sizes or without."""
    order = draw(st.permutations(list(keys)))[:ndim]
    sizes = draw(st.lists(st.none() | st.floats(0.01, 100), min_size=ndim, max_size=ndim))
    return Axes(Axis(key, resolution=size) for key, size in zip(order, sizes, strict=True))


@st.composite
def metas(draw: st.DrawFn, max_ndim: int = 4, max_side: int = 12) -> ArrayMeta:
    """Return what can be known of an array."""
    shape = draw(shapes(max_ndim=max_ndim, max_side=max_side))
    block = draw(st.none() | block_shapes(shape))
    return ArrayMeta(shape, draw(dtypes()), draw(axes(len(shape))), preferred_block=block)


@st.composite
def images(draw: st.DrawFn, max_ndim: int = 4, max_side: int = 12) -> InputArray:
    """Return images to try an operator on: steps and far values besides noise; see `array`."""
    meta = draw(metas(max_ndim, max_side))
    pixels = array(meta.shape, dtype=meta.dtype, seed=draw(st.integers(0, 2**16))).pixels
    return InputArray(pixels, meta)
