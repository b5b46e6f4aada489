"""A slot that looks like an array, for code that knows arrays only.

What numpy would answer from pixels is answered by computing them; what cannot be answered raises. There is no
third way: a comparison that fell back to identity would be wrong without a word.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from math import prod
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, cast

import numpy as np
import numpy.typing as npt
from numpy.lib.mixins import NDArrayOperatorsMixin

from lazyflow_core.errors import RoiError
from lazyflow_core.graph.versions import MAKING, Snapshot, place_in
from lazyflow_core.roi import Roi

if TYPE_CHECKING:
    from lazyflow_core.graph.arrays import ArraySlot
    from lazyflow_core.meta import ArrayMeta

__all__ = ["SlotArray"]

Array = npt.NDArray[Any]


class SlotArray(NDArrayOperatorsMixin):
    """Looks like a read-only numpy array; indexing it computes the region that is needed, and no more.

    Indexing is numpy's: integers drop their axis, slices may have any step, ``Ellipsis`` and ``newaxis``
    work; index arrays and masks compute the box that spans what they pick.

    Operators, comparisons, numpy's functions and the methods below compute all of it, at once, and give numpy
    arrays. It has no other methods of numpy's: ``numpy.asarray`` of it, or of a region, has them all.

    Each access sees one version of the graph, from the shape to the last pixel; the next one may see another.
    One that is made inside ``graph.snapshot()`` is of that version in every thread and at any time, which is
    what a library needs that reads it piece by piece; it keeps that version as long as it lives itself.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph, InputSlot, Operator
    >>> class OpLook(Operator):
    ...     image = InputSlot()
    >>> image = OpLook(graph=Graph(), image=np.arange(12).reshape(3, 4)).image.as_array()
    >>> image.shape, image[1, ::-2], image[..., None].shape
    ((3, 4), array([7, 5]), (3, 4, 1))
    >>> (image > 9).sum(axis=1).tolist(), image.max(axis=0)
    ([0, 0, 2], array([ 8,  9, 10, 11]))
    """

    __slots__ = ("_slot", "_snapshot")

    def __init__(self, slot: ArraySlot) -> None:
        self._slot = slot
        place = place_in(slot.graph)
        #: What it was made in, if that was a snapshot: it is of that version then, wherever it is used.
        self._snapshot: Snapshot | None = None
        if place is not None and place[1] is None and place[3].state is not MAKING:
            self._snapshot = Snapshot(slot.graph)

    def _seen(self) -> AbstractContextManager[object]:
        """See one version: from shape to pixels nothing changes."""
        return Snapshot(self._slot.graph) if self._snapshot is None else self._snapshot.seen()

    @property
    def _meta(self) -> ArrayMeta:
        if self._snapshot is None:
            return self._slot.meta
        with self._snapshot.seen():
            return self._slot.meta

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels along each axis."""
        return self._meta.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel."""
        return self._meta.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._meta.ndim

    @property
    def size(self) -> int:
        """Number of pixels."""
        return prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of a pixel."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return self._meta.nbytes

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """The block that is best asked for at a time, in pixels; None if any is as good. dask takes it."""
        block = self._meta.preferred_block
        return None if block is None else tuple(map(min, block, self.shape))

    # ---------------------------------------------------------------------------------------------- regions

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        if not self.shape:
            raise TypeError("iteration over a 0-d array")
        return (self[index] for index in range(len(self)))

    def __getitem__(self, key: Any) -> Array:
        with self._seen():
            roi, rest = _split(key, self.shape)
            return cast("Array", self._slot.read(roi)[rest])

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise TypeError(
            f"{self!r} is read-only: an operator computes it. Change numpy.asarray of it, "
            "or push data into an input by slot[key] = data."
        )

    # --------------------------------------------------------------------------------------------- all of it

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError(
                f"{self._slot} has no pixels before they are computed; copy=False is impossible."
            )
        # A fresh array, that nobody else sees, also where the slot would give a view of an assigned one.
        with self._seen():
            computed = self._slot.read(out=np.empty(self.shape, self.dtype))
        return computed if dtype is None else computed.astype(dtype, copy=False)

    def __array_ufunc__(
        self,
        ufunc: np.ufunc,
        method: Literal["__call__", "reduce", "reduceat", "accumulate", "outer", "at"],
        *inputs: Any,
        **keywords: Any,
    ) -> Any:
        for target in (*keywords.get("out", ()), *(inputs[:1] if method == "at" else ())):
            if isinstance(target, SlotArray):
                raise TypeError(f"numpy.{ufunc.__name__} cannot write into {target!r}, which is read-only.")
        return getattr(ufunc, method)(*_computed(inputs), **_computed(keywords))

    def __array_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> Any:
        if function in _NEED_NO_PIXELS and len(arguments) == 1 and not keywords:
            return _NEED_NO_PIXELS[function](arguments[0])
        target = arguments[0] if function in _WRITE_INTO_FIRST and arguments else keywords.get("out")
        if isinstance(target, SlotArray):
            raise TypeError(f"numpy.{function.__name__} cannot write into {target!r}, which is read-only.")
        return function(*_computed(arguments), **_computed(keywords))

    #: As of numpy's arrays: equality is that of pixels, so there is no hash.
    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        if self.size == 1:
            return bool(np.asarray(self))
        raise ValueError(f"The truth value of {self!r} is ambiguous. Use .any() or .all().")

    def __int__(self) -> int:
        return int(self._single())

    def __float__(self) -> float:
        return float(self._single())

    def __complex__(self) -> complex:
        return complex(self._single())

    def __index__(self) -> int:
        return operator.index(self._single())

    def __contains__(self, value: Any) -> bool:
        return bool((np.asarray(self) == value).any())

    def __getattr__(self, name: str) -> NoReturn:
        if hasattr(np.ndarray, name) and not name.startswith("_"):
            raise AttributeError(f"{self!r} has no .{name}; numpy.asarray of it, or of a region, has.")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _single(self) -> Array:
        if self.ndim:
            raise TypeError(f"{self!r}: only an array without axes is a number.")
        return np.asarray(self)

    def __repr__(self) -> str:
        return f"<array of {self._slot}: {self._meta}>"


def _method(name: str) -> Callable[..., Any]:
    """Return a method that computes all pixels and does what numpy's of that name does."""

    def method(self: SlotArray, *arguments: Any, **keywords: Any) -> Any:
        return getattr(np.asarray(self), name)(*_computed(arguments), **_computed(keywords))

    method.__name__, method.__qualname__ = name, f"SlotArray.{name}"
    method.__doc__ = f"Compute all pixels, and of them what ``numpy.ndarray.{name}`` gives."
    return method


# Methods that libraries call on what they take for an array. Properties such as ``T`` are left out, since
# ``hasattr`` would compute them, and ``copy``, which dask calls when it is given an array that has it.
for _names in (
    "all any argmax argmin max mean min prod std sum var cumprod cumsum",
    "astype clip conj dot repeat round searchsorted take argsort nonzero",
    "flatten ravel reshape squeeze swapaxes transpose item tobytes tolist",
):
    for _name in _names.split():
        setattr(SlotArray, _name, _method(_name))

#: What numpy answers from shape and dtype alone.
_NEED_NO_PIXELS: Final[dict[Callable[..., Any], Callable[[Any], Any]]] = {
    np.shape: lambda array: array.shape,
    np.ndim: lambda array: array.ndim,
    np.size: lambda array: array.size,
    np.result_type: lambda array: array.dtype,
}

_WRITE_INTO_FIRST: Final = frozenset(
    {np.copyto, np.put, np.place, np.putmask, np.put_along_axis, np.fill_diagonal}
)


def _computed(value: Any) -> Any:
    """Return arguments with the pixels of each `SlotArray` in them, also inside tuples, lists and dicts."""
    if isinstance(value, SlotArray):
        return np.asarray(value)
    if type(value) in (tuple, list):
        return type(value)(map(_computed, value))
    if type(value) is dict:
        return {key: _computed(item) for key, item in value.items()}
    return value


def _split(key: Any, shape: tuple[int, ...]) -> tuple[Roi, tuple[Any, ...]]:
    """Return the region a key needs, and the key that picks its result out of that region.

    Slices are clipped as numpy's are: whoever indexes an array expects numpy's rules.
    """
    items = _whole_items(key)
    consumed = [0 if item is None or item is Ellipsis else _axes_of(item) for item in items]
    gaps = [i for i, item in enumerate(items) if item is Ellipsis]
    given = sum(consumed)
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
        if isinstance(item, np.ndarray) and item.dtype == bool:
            masked = tuple(next(lengths) for _ in item.shape)
            if item.shape != masked:
                raise IndexError(f"a mask of shape {item.shape} does not fit axes of {masked} pixels")
            picks = item.nonzero()
            for length, pick in zip(masked, picks, strict=True):
                low, high, inside = _indices(pick, length)
                start.append(low)
                stop.append(high)
                rest.append(inside)
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
        elif isinstance(item, np.ndarray):
            low, high, inside = _indices(item, length)
            rest.append(inside)
        else:
            low = _index(item, length)
            high = low + 1
            rest.append(0)
        start.append(low)
        stop.append(high)
    return Roi(start, stop), tuple(rest)


def _whole_items(key: Any) -> list[Any]:
    """Return the items of a key, where lists and index arrays are arrays of integers or bools."""
    items: list[Any] = []
    for item in key if isinstance(key, tuple) else (key,):
        if isinstance(item, (list, np.ndarray, SlotArray)):
            array = np.asarray(item)
            if array.size == 0 and isinstance(item, list):
                array = array.astype(np.intp)
            if array.dtype.kind not in "iub":
                raise _no_index(item)
            items.append(array if array.ndim else array.item())  # without axes it is the integer in it
        else:
            items.append(item)
    return items


def _axes_of(item: Any) -> int:
    """How many axes of the array an item of a key is for."""
    return item.ndim if isinstance(item, np.ndarray) and item.dtype == bool else 1


def _indices(indices: Array, length: int) -> tuple[int, int, Array]:
    """Return the box along one axis that spans some indices, and the indices inside of it."""
    if not indices.size:
        return 0, 0, indices
    outside = (indices < -length) | (indices >= length)
    if outside.any():
        raise IndexError(f"index {indices[outside][0]} is out of bounds for an axis of {length} pixels")
    indices = np.where(indices < 0, indices + length, indices).astype(np.intp)
    low = int(indices.min())
    return low, int(indices.max()) + 1, indices - low


def _index(item: Any, length: int) -> int:
    if isinstance(item, (bool, np.bool_)):
        raise _no_index(item)
    try:
        index = operator.index(item)
    except TypeError:
        raise RoiError(
            f"{item!r}: a slot's array is indexed by integers, slices, and arrays of these or of bools."
        ) from None
    if not -length <= index < length:
        raise IndexError(f"index {item!r} is out of bounds for an axis of {length} pixels")
    return index % length


def _no_index(item: Any) -> RoiError:
    return RoiError(
        f"{item!r} is no index of an array; integers, slices, and arrays of integers or of bools are."
    )
