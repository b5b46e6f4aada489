"""Metadata: all that is known of an array before any of it is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lazyflow_core.axes import Axes
from lazyflow_core.errors import MetaError, RoiBoundsError, RoiError
from lazyflow_core.roi import Roi, parse_slicing

__all__ = ["ArrayMeta"]

_PER_AXIS = ("preferred_block", "max_block")


@dataclass(frozen=True, slots=True, init=False, eq=False)
class ArrayMeta:
    """What an array will be: shape, dtype, axes, and hints how to ask for it.

    Frozen and compared by value; a slot's meta is changed by assigning a new one.

    Parameters
    ----------
    shape
        Pixels along each axis, each >= 0.
    dtype
        Anything ``numpy.dtype`` takes, byte order included.
    axes
        `Axes`, or keys such as ``"zyx"``; guessed from the shape when left out.
    value_range
        Lowest and highest value that can occur, for display and normalization; None if unknown.
    preferred_block
        Requests aligned to blocks of this shape are cheapest (chunks of a file, blocks of a cache), in
        pixels per axis; None if it does not matter.
    max_block
        No request should be longer than this per axis, in pixels; None for no limit.
    ram_per_pixel
        Bytes needed at the peak to compute one pixel, the result included; None if unknown.
    channel_names
        One name per pixel of the channel axis; empty if they have none.
    semantics
        ``"labels"`` where values are names of objects that must not be interpolated.
    extra
        Anything a plugin wants to hand downstream; keys start with the plugin's namespace (``"io.uri"``).

    Raises
    ------
    MetaError
        If the parts contradict each other; the text says which.

    Examples
    --------
    >>> meta = ArrayMeta((32, 128, 128), "uint8", axes="zyx", value_range=(0, 255))
    >>> str(meta), meta.nbytes
    ('z=32, y=128, x=128 uint8', 524288)
    >>> meta.replace(dtype="float32", value_range=None).nbytes
    2097152
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: Axes
    value_range: tuple[float, float] | None
    preferred_block: tuple[int, ...] | None
    max_block: tuple[int, ...] | None
    ram_per_pixel: float | None
    channel_names: tuple[str, ...]
    semantics: Literal["intensities", "labels"]
    extra: Mapping[str, Any] = field(hash=False)
    #: The whole array; kept because every request compares with it.
    roi: Roi = field(compare=False, repr=False)

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        axes: Axes | str | None = None,
        *,
        value_range: tuple[float, float] | None = None,
        preferred_block: tuple[int, ...] | None = None,
        max_block: tuple[int, ...] | None = None,
        ram_per_pixel: float | None = None,
        channel_names: tuple[str, ...] = (),
        semantics: Literal["intensities", "labels"] = "intensities",
        extra: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        put = object.__setattr__
        put(self, "roi", Roi.from_shape(shape))
        put(self, "shape", self.roi.stop)
        put(self, "dtype", np.dtype(dtype))
        if axes is None:
            axes = Axes.guess(self.shape)
        put(self, "axes", axes if isinstance(axes, Axes) else Axes(axes))
        put(self, "value_range", None if value_range is None else tuple(value_range))
        put(self, "preferred_block", None if preferred_block is None else tuple(preferred_block))
        put(self, "max_block", None if max_block is None else tuple(max_block))
        put(self, "ram_per_pixel", None if ram_per_pixel is None else float(ram_per_pixel))
        put(self, "channel_names", tuple(channel_names))
        put(self, "semantics", semantics)
        put(self, "extra", MappingProxyType(dict(extra)))
        self._check()

    def _check(self) -> None:
        def refuse(what: str) -> None:
            raise MetaError(f"{self}: {what}")

        if len(self.axes) != len(self.shape):
            refuse(f"axes {self.axes.keys!r} name {len(self.axes)} dimensions, not {len(self.shape)}.")
        for name in _PER_AXIS:
            block = getattr(self, name)
            if block is not None and (len(block) != len(self.shape) or any(b < 1 for b in block)):
                refuse(f"{name} {block} is not one number >= 1 per axis.")
        if self.value_range is not None and not (
            len(self.value_range) == 2 and self.value_range[0] <= self.value_range[1]
        ):
            refuse(f"value_range {self.value_range} is not (lowest, highest).")
        if self.ram_per_pixel is not None and not self.ram_per_pixel > 0:
            refuse(f"ram_per_pixel {self.ram_per_pixel} is not a positive number of bytes.")
        if self.semantics not in ("intensities", "labels"):
            refuse(f"semantics {self.semantics!r} is neither 'intensities' nor 'labels'.")
        if self.channel_names:
            channels = prod(self.shape[i] for i in self.axes.of_kind("channel"))
            if len(self.channel_names) != channels:
                refuse(f"{len(self.channel_names)} channel names for {channels} channels.")

    def __eq__(self, other: object) -> bool:
        # Written out, most telling first: setup compares the meta of every slot a change reaches.
        if self is other:
            return True
        if not isinstance(other, ArrayMeta):
            return NotImplemented
        return (
            self.shape == other.shape
            and self.dtype == other.dtype
            and self.value_range == other.value_range
            and self.axes == other.axes
            and self.preferred_block == other.preferred_block
            and self.max_block == other.max_block
            and self.ram_per_pixel == other.ram_per_pixel
            and self.channel_names == other.channel_names
            and self.semantics == other.semantics
            and self.extra == other.extra
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype, self.axes, self.value_range))

    def replace(self, **changes: Any) -> ArrayMeta:
        """Return this meta with some fields changed.

        A new number of axes drops the hints that are given per axis, and new axes or a new shape drop the
        channel names where they no longer fit, unless they are given as well: what described the old
        array must not silently describe the new one.

        Raises
        ------
        MetaError
            For an unknown field, or if the parts contradict each other.
        """
        fields = {name: getattr(self, name) for name in _FIELDS}
        unknown = sorted(changes.keys() - fields.keys())
        if unknown:
            raise MetaError(f"ArrayMeta has no field {unknown[0]!r}; its fields are {', '.join(_FIELDS)}.")
        if "shape" in changes and len(changes["shape"]) != len(self.shape):
            fields.update(dict.fromkeys(_PER_AXIS))
        fields.update(changes)
        if fields["channel_names"] and "channel_names" not in changes:
            axes = fields["axes"] if isinstance(fields["axes"], Axes) else Axes(fields["axes"])
            channels = prod(
                n for n, axis in zip(fields["shape"], axes, strict=False) if axis.kind == "channel"
            )
            if len(fields["channel_names"]) != channels:
                fields["channel_names"] = ()
        meta = ArrayMeta(**fields)
        if meta.shape == self.shape:
            # Not only equal but the same, which is what a ROI on its way through a graph looks for first.
            object.__setattr__(meta, "shape", self.shape)
        return meta

    def roi_of(self, text: str) -> Roi:
        """Return the box that a slicing as text addresses: in the order of the axes, or by their names.

        A single number keeps its axis, with one pixel; axes that are left out are kept whole; negative
        numbers count from the end; nothing is clipped.

        Examples
        --------
        >>> meta = ArrayMeta((3, 40, 50), "uint8", axes="tyx")
        >>> str(meta.roi_of("t=1, x=:10")), str(meta.roi_of("..., -5:"))
        ('[1:2, 0:40, 0:10]', '[0:3, 0:40, 45:50]')

        Raises
        ------
        RoiError
            If it is no slicing, or names an axis that is not there.
        RoiBoundsError
            If it reaches outside.
        """
        items = parse_slicing(text)
        names = {axis: item for axis, item in items if axis is not None}
        for axis in names:
            if axis not in self.axes:
                raise RoiError(f"there is no axis {axis!r} in {self}.")
        if not names:
            return Roi.from_slicing(tuple(item for _, item in items), self.shape)
        return Roi.from_slicing(tuple(names.get(axis.key, slice(None)) for axis in self.axes), self.shape)

    def cropped(self, roi: Roi) -> ArrayMeta:
        """Return the meta of an array that was cut out of this one: its origin moves along.

        Raises
        ------
        RoiBoundsError
            If ``roi`` is not inside the array.
        """
        if roi not in self.roi:
            raise RoiBoundsError(f"{roi} is not inside an array of {self}.")
        names = self.channel_names
        channel_axes = self.axes.of_kind("channel")
        if names and len(channel_axes) == 1:
            axis = channel_axes[0]
            names = names[roi.start[axis] : roi.stop[axis]]
        return self.replace(shape=roi.shape, axes=self.axes.cropped(roi.start), channel_names=names)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of pixels, all channels counted."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return self.size * self.dtype.itemsize

    def axis_length(self, key: str) -> int:
        """Return the number of pixels along the axis with that key; 1 if there is none."""
        return self.shape[self.axes.index(key)] if key in self.axes else 1

    def __str__(self) -> str:
        if len(self.axes) != len(self.shape):
            return f"shape {self.shape} {self.dtype}"
        sides = ", ".join(f"{axis.key}={n}" for axis, n in zip(self.axes, self.shape, strict=True))
        return f"{sides} {self.dtype}"

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: getattr(self, name) for name in _FIELDS}
        return _rebuild, (state | {"extra": dict(self.extra)},)


_FIELDS = tuple(name for name in ArrayMeta.__dataclass_fields__ if name != "roi")


def _rebuild(state: dict[str, Any]) -> ArrayMeta:
    return ArrayMeta(**state)
