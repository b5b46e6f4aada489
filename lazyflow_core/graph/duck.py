"""A slot that looks like an array, for code that knows arrays only."""

from __future__ import annotations

import operator
from math import prod
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from lazyflow_core.errors import RoiError
from lazyflow_core.roi import Roi

if TYPE_CHECKING:
    from lazyflow_core.graph.arrays import ArraySlot

__all__ = ["SlotArray"]


class SlotArray:
    """Looks like a read-only numpy array; indexing it computes the region that is needed, and no more.

    Indexing is numpy's basic indexing: integers drop their axis, slices may have any step, ``Ellipsis``
    and ``newaxis`` work. Lists, masks and index arrays are refused rather than computing everything.
    ``numpy.asarray`` computes all of it, and so does any numpy function it is given to.

    Shape and dtype are those of the slot at each access, so keep one only as long as the slot keeps its meta.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph, InputSlot, Operator
    >>> class OpLook(Operator):
    ...     image = InputSlot()
    >>> image = OpLook(graph=Graph(), image=np.arange(12).reshape(3, 4)).image.as_array()
    >>> image.shape, image[1, ::-2], image[..., None].shape
    ((3, 4), array([7, 5]), (3, 4, 1))
    """

    __slots__ = ("_slot",)

    def __init__(self, slot: ArraySlot) -> None:
        self._slot = slot

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels along each axis."""
        return self._slot.meta.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel."""
        return self._slot.meta.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._slot.meta.ndim

    @property
    def size(self) -> int:
        """Number of pixels."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return self._slot.meta.nbytes

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        roi, rest = _split(key, self.shape)
        return cast("npt.NDArray[Any]", self._slot.read(roi)[rest])

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError(
                f"{self._slot} has no pixels before they are computed; copy=False is impossible."
            )
        # A fresh array, that nobody else sees, also where the slot would give a view of an assigned one.
        computed = self._slot.read(out=np.empty(self.shape, self.dtype))
        return computed if dtype is None else computed.astype(dtype, copy=False)

    def __repr__(self) -> str:
        return f"<array of {self._slot}: {self._slot.meta}>"


def _split(key: Any, shape: tuple[int, ...]) -> tuple[Roi, tuple[Any, ...]]:
    """Return the region a key needs, and the key that picks its result out of that region.

    Slices are clipped as numpy's are: whoever indexes an array expects numpy's rules.
    """
    items = list(key) if isinstance(key, tuple) else [key]
    given = sum(item is not None and item is not Ellipsis for item in items)
    gaps = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(gaps) > 1 or given > len(shape):
        raise IndexError(f"too many indices: {key!r} for an array of {len(shape)} axes")
    at = gaps[0] if gaps else len(items)
    items[at : at + len(gaps)] = [slice(None)] * (len(shape) - given)

    start: list[int] = []
    stop: list[int] = []
    rest: list[Any] = []
    lengths = iter(shape)
    for item in items:
        if item is None:
            rest.append(None)
            continue
        length = next(lengths)
        if isinstance(item, slice):
            picked = range(length)[item]
            if len(picked) == 0:
                low = high = 0
                rest.append(slice(0, 0))
            else:
                low, high = min(picked[0], picked[-1]), max(picked[0], picked[-1]) + 1
                rest.append(slice(None, None, picked.step))
        else:
            low = _index(item, length)
            high = low + 1
            rest.append(0)
        start.append(low)
        stop.append(high)
    return Roi(start, stop), tuple(rest)


def _index(item: Any, length: int) -> int:
    try:
        index = operator.index(item)
    except TypeError:
        raise RoiError(
            f"{item!r}: a slot is indexed by integers and slices; for more, take numpy.asarray of a region."
        ) from None
    if not -length <= index < length or isinstance(item, bool):
        raise IndexError(f"index {item!r} is out of bounds for an axis of {length} pixels")
    return index % length
