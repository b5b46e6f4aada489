"""Regions of interest: frozen half-open boxes of pixels.

A `Roi` is absolute in the array it is asked of and is never clipped silently: an empty one is legal, a
negative or reversed one is not, and one that reaches outside is refused by whoever is asked. Slicings,
with their negative numbers, ``None`` and ``Ellipsis``, exist only at the border: `Roi.from_slicing`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import Any, NoReturn

from lazyflow_core.errors import RoiBoundsError, RoiError

__all__ = ["Boxes", "Roi", "hull", "parse_slicing"]


class Roi:
    """A half-open box ``[start, stop)`` of pixels, one pair of integers per axis.

    Parameters
    ----------
    start, stop
        First pixel, and first pixel beyond the end, per axis; ``0 <= start <= stop``.

    Raises
    ------
    RoiError
        If the lengths differ or a number is no integer.
    RoiBoundsError
        If a start is negative or lies after its stop.

    Examples
    --------
    >>> roi = Roi((2, 0), (4, 5))
    >>> roi.shape, roi.size, str(roi)
    ((2, 5), 10, '[2:4, 0:5]')
    >>> Roi((0, 3), (2, 8)) & roi
    Roi(start=(2, 3), stop=(2, 5))
    """

    __slots__ = ("_within", "shape", "start", "stop")
    start: tuple[int, ...]
    stop: tuple[int, ...]
    #: Number of pixels along each axis; kept, because every hop of a request asks for it.
    shape: tuple[int, ...]
    #: Shape of an array it is known to lie in, the last one it was found to fit: on its way through a graph a
    #: ROI mostly meets arrays of one shape.
    _within: tuple[int, ...]

    def __init__(self, start: Iterable[int], stop: Iterable[int]) -> None:
        try:
            begin, end = tuple(map(operator.index, start)), tuple(map(operator.index, stop))
        except TypeError:
            raise RoiError(f"Roi({start!r}, {stop!r}): start and stop are sequences of integers.") from None
        if len(begin) != len(end):
            raise RoiError(f"Roi({begin}, {end}): start has {len(begin)} numbers and stop {len(end)}.")
        for a, b in zip(begin, end, strict=True):
            if not 0 <= a <= b:
                raise RoiBoundsError(
                    f"Roi({begin}, {end}): every axis needs 0 <= start <= stop. "
                    "Negative numbers count from the end only in slicings, see Roi.from_slicing."
                )
        _set_start(self, begin)
        _set_stop(self, end)
        _set_within(self, end)
        _set_shape(self, tuple(map(operator.sub, end, begin)))

    @classmethod
    def _unchecked(cls, start: tuple[int, ...], stop: tuple[int, ...]) -> Roi:
        """Make a ROI of tuples of ints that are known to be one."""
        roi = object.__new__(cls)
        _set_start(roi, start)
        _set_stop(roi, stop)
        _set_within(roi, stop)
        _set_shape(roi, tuple(map(operator.sub, stop, start)))
        return roi

    @classmethod
    def from_shape(cls, shape: Iterable[int]) -> Roi:
        """Return the ROI of a whole array."""
        stop = tuple(shape)
        return cls((0,) * len(stop), stop)

    @classmethod
    def from_slicing(cls, key: Any, shape: Sequence[int]) -> Roi:
        """Return the ROI that numpy slicing addresses in an array of that shape.

        Integers keep their axis as a singleton; ``Ellipsis`` and missing axes mean all of it. As for numpy,
        negative numbers count from the end. Unlike numpy, nothing is clipped.

        Raises
        ------
        RoiError
            For strides, too many axes, more than one ``Ellipsis``, or what is neither integer nor slice.
        RoiBoundsError
            If the key reaches outside the shape, or starts after it stops.

        Examples
        --------
        >>> Roi.from_slicing((..., slice(-10, None)), (5, 100))
        Roi(start=(0, 90), stop=(5, 100))
        >>> Roi.from_slicing(3, (5, 100))
        Roi(start=(3, 0), stop=(4, 100))
        """
        items = list(key) if isinstance(key, tuple) else [key]
        gaps = [i for i, item in enumerate(items) if item is Ellipsis]
        missing = len(shape) - (len(items) - len(gaps))
        if len(gaps) > 1 or missing < 0:
            raise RoiError(f"[{_key_text(items)}] does not fit an array of {len(shape)} axes.")
        at = gaps[0] if gaps else len(items)
        items[at : at + len(gaps)] = [slice(None)] * missing

        start, stop = [], []
        for item, length in zip(items, shape, strict=True):
            if isinstance(item, slice):
                if item.step not in (None, 1):
                    raise RoiError(f"[{_key_text(items)}]: a ROI has no strides; slice the result instead.")
                a = 0 if item.start is None else _pixel(item.start, length, items)
                b = length if item.stop is None else _pixel(item.stop, length, items)
            else:
                a = _pixel(item, length, items)
                b = a + 1
            if not 0 <= a <= b <= length:
                raise RoiBoundsError(
                    f"[{_key_text(items)}] reaches outside an array of shape {tuple(shape)}, or is reversed. "
                    "ROIs are absolute and never clipped."
                )
            start.append(a)
            stop.append(b)
        return cls._unchecked(tuple(start), tuple(stop))

    # ------------------------------------------------------------------------------------- being a value

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Roi is frozen; make a new one instead of setting {name!r}.")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a Roi is frozen.")

    def __eq__(self, other: object) -> bool:
        return (
            self.start == other.start and self.stop == other.stop
            if isinstance(other, Roi)
            else NotImplemented
        )

    def __hash__(self) -> int:
        return hash((self.start, self.stop))

    def __reduce__(self) -> tuple[Any, ...]:
        return Roi, (self.start, self.stop)

    def __repr__(self) -> str:
        return f"Roi(start={self.start}, stop={self.stop})"

    def __str__(self) -> str:
        return "[" + ", ".join(f"{a}:{b}" for a, b in zip(self.start, self.stop, strict=True)) + "]"

    # -------------------------------------------------------------------------------------------- questions

    @property
    def boxes(self) -> tuple[Roi, ...]:
        """The boxes it stands for: itself, unless it is the hull of several, see `Boxes`."""
        return (self,)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.start)

    @property
    def size(self) -> int:
        """Number of pixels, a Python int that cannot overflow."""
        return prod(self.shape)

    @property
    def is_empty(self) -> bool:
        """Whether it holds no pixel."""
        return 0 in self.shape

    def __contains__(self, other: Roi) -> bool:
        """Whether another ROI lies inside this one (an empty one is judged by its corners too)."""
        self._check_same_ndim(other)
        return all(map(operator.le, self.start, other.start)) and all(map(operator.ge, self.stop, other.stop))

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether it lies inside an array of that shape, and has as many axes; cheap enough for every hop."""
        stop = self.stop
        if stop != shape and not (len(stop) == len(shape) and all(map(operator.le, stop, shape))):
            return False
        _set_within(self, shape)
        return True

    def intersects(self, other: Roi) -> bool:
        """Whether the two share a pixel."""
        return not (self & other).is_empty

    @property
    def slicing(self) -> tuple[slice, ...]:
        """The slices that cut this ROI out of its array."""
        return tuple(map(slice, self.start, self.stop))

    # ----------------------------------------------------------------------------------------- ROIs from ROIs

    def __and__(self, other: Roi) -> Roi:
        """Return the pixels both have; empty (never None) where they share none."""
        self._check_same_ndim(other)
        start = tuple(map(max, self.start, other.start))
        stop = tuple(map(max, start, map(min, self.stop, other.stop)))
        return Roi._unchecked(start, stop)

    def clip(self, within: Roi) -> Roi:
        """Return the part that lies inside another ROI; the same as ``self & within``."""
        return self & within

    def shift(self, offset: Sequence[int]) -> Roi:
        """Return this ROI moved by ``offset`` pixels; raises `RoiBoundsError` if that makes it negative."""
        if len(offset) != self.ndim:
            raise RoiError(f"{self} cannot be shifted by {tuple(offset)}: one number per axis is needed.")
        return Roi(map(operator.add, self.start, offset), map(operator.add, self.stop, offset))

    def relative_to(self, origin: Roi) -> Roi:
        """Return this ROI in the coordinates of an array that was cut out at ``origin``."""
        return self.shift([-s for s in origin.start])

    def with_halo(self, halo_px: Sequence[int], within: Roi) -> Roi:
        """Return this ROI grown by a halo on both sides and clipped to an outer ROI.

        Parameters
        ----------
        halo_px
            Pixels to add before and after, one number >= 0 per axis.
        within
            The ROI the result must stay inside, usually the whole array.

        Raises
        ------
        RoiError
            If ``halo_px`` has another length than the ROI, or a negative number.

        Examples
        --------
        >>> Roi((2, 0), (4, 5)).with_halo((3, 1), within=Roi((0, 0), (10, 5)))
        Roi(start=(0, 0), stop=(7, 5))
        """
        try:
            halo = tuple(map(operator.index, halo_px))
        except TypeError:
            halo = ()
        if len(halo) != self.ndim or min(halo, default=0) < 0:
            raise RoiError(f"{self}: halo {halo_px!r} is not one integer >= 0 per axis.")
        self._check_same_ndim(within)
        start = tuple(map(max, within.start, map(operator.sub, self.start, halo)))
        stop = tuple(map(min, within.stop, map(operator.add, self.stop, halo)))
        return Roi._unchecked(start, tuple(map(max, start, stop)))

    def difference(self, other: Roi) -> list[Roi]:
        """Return boxes that do not overlap and together are this ROI without the other one.

        At most two per axis; the empty list if nothing is left.

        Examples
        --------
        >>> Roi((0, 0), (4, 4)).difference(Roi((1, 1), (2, 4)))
        [Roi(start=(0, 0), stop=(1, 4)), Roi(start=(2, 0), stop=(4, 4)), Roi(start=(1, 0), stop=(2, 1))]
        """
        if self.is_empty:
            return []
        shared = self & other
        if shared.is_empty:
            return [self]
        parts = []
        start, stop = list(self.start), list(self.stop)
        for axis in range(self.ndim):
            if start[axis] < shared.start[axis]:
                before = stop.copy()
                before[axis] = shared.start[axis]
                parts.append(Roi._unchecked(tuple(start), tuple(before)))
            if shared.stop[axis] < stop[axis]:
                after = start.copy()
                after[axis] = shared.stop[axis]
                parts.append(Roi._unchecked(tuple(after), tuple(stop)))
            start[axis], stop[axis] = shared.start[axis], shared.stop[axis]
        return parts

    def rescaled(self, shape: Sequence[int], to_shape: Sequence[int]) -> Roi:
        """Return what this ROI covers in another resolution of the same image.

        Parameters
        ----------
        shape
            Of the array this ROI is in.
        to_shape
            Of the array at the other resolution, e.g. another level of a pyramid.

        Returns
        -------
        Roi
            The smallest ROI there that holds every pixel this one touches; inside that array if this one is
            inside its own, and empty if this one is.

        Raises
        ------
        RoiError
            If the lengths differ, or an axis of ``shape`` has no pixel.

        Examples
        --------
        >>> Roi((3, 10), (5, 20)).rescaled((100, 100), (50, 200))
        Roi(start=(1, 20), stop=(3, 40))
        """
        if not len(shape) == len(to_shape) == self.ndim or any(n < 1 for n in shape):
            raise RoiError(f"{self} cannot be rescaled from shape {tuple(shape)} to {tuple(to_shape)}.")
        start = [a * t // n for a, n, t in zip(self.start, shape, to_shape, strict=True)]
        stop = [
            low if a == b else -(-b * t // n)
            for a, b, low, n, t in zip(self.start, self.stop, start, shape, to_shape, strict=True)
        ]
        return Roi(start, stop)

    def transposed(self, order: Sequence[int]) -> Roi:
        """Return this ROI with its axes in another order, as ``numpy.transpose`` takes it."""
        if sorted(order) != list(range(self.ndim)):
            raise RoiError(f"{self}: {tuple(order)} is no order of its {self.ndim} axes.")
        return Roi._unchecked(tuple(self.start[i] for i in order), tuple(self.stop[i] for i in order))

    def with_axis(self, axis: int, start: int, stop: int) -> Roi:
        """Return this ROI with another range along one axis."""
        if not -self.ndim <= axis < self.ndim:
            raise RoiError(f"{self} has {self.ndim} axes; there is no axis {axis}.")
        starts, stops = list(self.start), list(self.stop)
        starts[axis], stops[axis] = start, stop
        return Roi(starts, stops)

    def _check_same_ndim(self, other: Roi) -> None:
        if not isinstance(other, Roi):
            raise TypeError(f"{other!r} is no Roi; make one, for example by Roi.from_slicing.")
        if len(self.start) != len(other.start):
            raise RoiError(f"{self} has {self.ndim} axes and {other} has {other.ndim}.")


# The only doors through the frozen wall.
_set_start = Roi.__dict__["start"].__set__
_set_stop = Roi.__dict__["stop"].__set__
_set_shape = Roi.__dict__["shape"].__set__
_set_within = Roi.__dict__["_within"].__set__


class Boxes(Roi):
    """Several boxes and, as a ROI, their hull: what a change made stale.

    Whoever is content with a box that holds it all takes it for a `Roi`; whoever wants no pixel more looks at
    `boxes`, which every ROI has. Equal if the boxes are, in whatever order.

    Parameters
    ----------
    boxes
        At least one, all with the same number of axes; they may overlap.

    Raises
    ------
    RoiError
        If there is none, or their numbers of axes differ.

    Examples
    --------
    >>> stale = Boxes([Roi((0, 0), (1, 2)), Roi((7, 6), (8, 8))])
    >>> stale.start, stale.stop, sum(box.size for box in stale.boxes)
    ((0, 0), (8, 8), 4)
    >>> print(stale)
    [0:1, 0:2] + [7:8, 6:8]
    """

    __slots__ = ("_boxes",)
    _boxes: tuple[Roi, ...]

    def __init__(self, boxes: Iterable[Roi]) -> None:
        given = tuple(boxes)
        whole = hull(given)
        super().__init__(whole.start, whole.stop)
        object.__setattr__(self, "_boxes", given)

    @property
    def boxes(self) -> tuple[Roi, ...]:
        """The boxes, in no particular order."""
        return self._boxes

    def __eq__(self, other: object) -> bool:
        return set(self._boxes) == set(other._boxes) if isinstance(other, Boxes) else False

    def __hash__(self) -> int:
        return hash(frozenset(self._boxes))

    def __reduce__(self) -> tuple[Any, ...]:
        return Boxes, (self._boxes,)

    def __repr__(self) -> str:
        return f"Boxes({list(self._boxes)})"

    def __str__(self) -> str:
        return " + ".join(map(str, self._boxes))


def hull(rois: Iterable[Roi]) -> Roi:
    """Return the smallest ROI that holds all of the given ones.

    Raises
    ------
    RoiError
        If none is given or their numbers of axes differ.

    Examples
    --------
    >>> hull([Roi((0, 3), (1, 4)), Roi((5, 0), (6, 1))])
    Roi(start=(0, 0), stop=(6, 4))
    """
    given: Iterator[Roi] = iter(rois)
    try:
        result = next(given)
    except StopIteration:
        raise RoiError("the hull of no ROIs is undefined.") from None
    for roi in given:
        result._check_same_ndim(roi)
        result = Roi._unchecked(
            tuple(map(min, result.start, roi.start)), tuple(map(max, result.stop, roi.stop))
        )
    return result


_ITEM = re.compile(
    r"(?:(?P<axis>[^\W\d]\w*)\s*=)?\s*(?P<start>-?\d{1,18})?\s*(?P<colon>:)?\s*(?P<stop>-?\d{1,18})?"
)


def parse_slicing(text: str) -> tuple[tuple[str | None, Any], ...]:
    """Return the axis key or None, and the index, slice or Ellipsis, of each item of a slicing as text.

    Examples
    --------
    >>> parse_slicing("10:20, ..., -5:")
    ((None, slice(10, 20, None)), (None, Ellipsis), (None, slice(-5, None, None)))
    >>> parse_slicing("t=5, x=:100")
    (('t', 5), ('x', slice(None, 100, None)))

    Raises
    ------
    RoiError
        With a sentence that does not repeat the whole text, if it is something else.
    """
    parsed: list[tuple[str | None, Any]] = []
    for item in map(str.strip, text.strip().removeprefix("[").removesuffix("]").split(",")):
        if item == "...":
            parsed.append((None, Ellipsis))
            continue
        match = _ITEM.fullmatch(item)
        if match is None or not (match["colon"] or match["start"]):
            raise RoiError(
                f"{item!r} is not a range of pixels; write one for each axis, such as '10:20,:,:', or name "
                "axes, such as 't=5, x=:100'."
            )
        start, stop = (None if match[name] is None else int(match[name]) for name in ("start", "stop"))
        parsed.append((match["axis"], slice(start, stop) if match["colon"] else start))
    named = [axis for axis, _ in parsed if axis is not None]
    if len(set(named)) != len(named):
        raise RoiError("it names an axis twice.")
    if named and any(axis is None and item is not Ellipsis for axis, item in parsed):
        raise RoiError("it mixes ranges with and without the name of their axis.")
    return tuple(parsed)


def _pixel(value: Any, length: int, items: list[Any]) -> int:
    """Return an index of a slicing counted from the start."""
    if isinstance(value, bool):
        raise RoiError(f"[{_key_text(items)}]: {value!r} is a bool; a ROI is made of integers and slices.")
    try:
        index = operator.index(value)
    except TypeError:
        raise RoiError(f"[{_key_text(items)}]: {value!r} is neither an integer nor a slice.") from None
    return index + length if index < 0 else index


def _key_text(items: Iterable[Any]) -> str:
    def text(item: Any) -> str:
        if isinstance(item, slice):
            parts = [item.start, item.stop] + ([item.step] if item.step is not None else [])
            return ":".join("" if p is None else str(p) for p in parts)
        return "..." if item is Ellipsis else repr(item)

    return ", ".join(map(text, items))
