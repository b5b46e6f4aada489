"""Metadata: stated for files that say nothing, taken from another image, or read as values."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import Any, Final

from lazyflow_core import ArrayMeta, Axes, Axis, InputSlot, Operator, OutputSlot, ParameterSlot, Roi
from lazyflow_core.errors import AxesError, MetaError, SetupError

from lazyflow_ops_array.base import OpSingle

__all__ = ["OpCopyMeta", "OpReadMeta", "OpSetMeta"]

#: What `OpCopyMeta` can take.
_FIELDS: Final = ("axes", "value_range", "channel_names", "semantics", "preferred_block")


def _check_numbers(value: tuple[Any, ...]) -> str | None:
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) and isfinite(v) for v in value):
        return None
    return "is not one number for each axis"


def _check_sizes(value: tuple[Any, ...]) -> str | None:
    return _check_numbers(value) or (None if all(v >= 0 for v in value) else "has a negative size in it")


class _OpOtherMeta(OpSingle):
    """Base of operators that pass pixels through under another meta."""

    pixelwise = True

    def set_other(self, meta: ArrayMeta) -> None:
        """Let the output have that meta, or be the image where it is the same."""
        self.set_output(None if meta == self.image.meta else meta)

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        self.image.read(roi, out=out)

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        if slot is self.image:
            self.output.mark_dirty(roi)


class OpSetMeta(_OpOtherMeta):
    """State what a file does not say: names of axes, pixel sizes, channels; the pixels stay as they are.

    Inputs
    ------
    image : InputSlot, any array
    axes : ParameterSlot[str]
        Keys of the axes in the order they have, separated by commas where one is longer than a letter. Empty:
        as they are. `array.reorder_axes` is what changes their order.
    pixel_size : ParameterSlot[tuple]
        One number per axis in ``unit``, 0 for unknown. Empty: as they are.
    unit : ParameterSlot[str]
        Of the spatial axes that have a size, such as ``"micrometer"``; empty: as it is.
    origin : ParameterSlot[tuple]
        Where the first pixel lies, one number per axis. Empty: as it is.
    channel_names : ParameterSlot[tuple]
        One for each channel; empty: as they are.
    value_range : ParameterSlot[tuple]
        Lowest and highest value that can occur; empty: as it is. A promise that nobody checks.
    semantics : ParameterSlot[str]
        ``"labels"``, ``"intensities"``, or empty: as it is.

    Outputs
    -------
    output : OutputSlot, pixels of ``image``
        The input itself if nothing is other than it is.

    Regions
    -------
    pull, push   a ROI stays as it is.

    Memory
    ------
    None of its own: the input writes into ``out``.

    Raises
    ------
    SetupError
        If there are too few or too many names or numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> movie = OpSetMeta(graph=Graph(), image=np.zeros((9, 40, 60)), axes="tyx", pixel_size=(0, 0.5, 0.5))
    >>> movie.output.meta.axes.keys, str(movie.output.meta.axes)
    ('tyx', 't, y=0.5, x=0.5')
    """

    axes = ParameterSlot(str, default="", doc="keys of the axes as they are, e.g. 'tyx'")
    pixel_size = ParameterSlot(tuple, default=(), check=_check_sizes, doc="one per axis, 0 for unknown")
    unit = ParameterSlot(str, default="", doc="of pixel sizes, e.g. 'micrometer'")
    origin = ParameterSlot(tuple, default=(), check=_check_numbers, doc="place of the first pixel, per axis")
    channel_names = ParameterSlot(tuple, default=(), doc="one for each channel")
    value_range = ParameterSlot(
        tuple,
        default=(),
        check=lambda v: (
            None
            if not v or (len(v) == 2 and not _check_numbers(v) and v[0] <= v[1])
            else "is not (lowest, highest)"
        ),
        doc="lowest and highest value",
    )
    semantics = ParameterSlot(str, default="", choices=("", "labels", "intensities"), doc="what values are")

    def setup_outputs(self) -> None:
        meta = self.image.meta
        changes: dict[str, Any] = {}
        for name in ("channel_names", "value_range", "semantics"):
            value = self.slots[name].value  # type: ignore[attr-defined]
            if value:
                changes[name] = value
        try:
            self.set_other(meta.replace(axes=self._axes(meta), **changes))
        except (AxesError, MetaError) as error:
            raise SetupError(str(error)) from error

    def _axes(self, meta: ArrayMeta) -> Axes:
        axes = list(meta.axes)
        if self.axes.value:
            text = self.axes.value
            keys = [key.strip() for key in text.split(",")] if "," in text else list(text)
            if len(keys) != meta.ndim:
                raise SetupError(f"axes={text!r} are {len(keys)} names for {meta.ndim} axes ({meta}).")
            axes = [
                axis
                if axis.key == key
                else Axis(key, unit=axis.unit, resolution=axis.resolution, translation=axis.translation)
                for axis, key in zip(axes, keys, strict=True)
            ]
        for name, field in (("pixel_size", "resolution"), ("origin", "translation")):
            numbers = self.slots[name].value  # type: ignore[attr-defined]
            if numbers and len(numbers) != meta.ndim:
                raise SetupError(
                    f"{name}={numbers} are {len(numbers)} numbers for {meta.ndim} axes ({meta})."
                )
            if numbers and field == "resolution":
                axes = [replace(a, resolution=v or None) for a, v in zip(axes, numbers, strict=True)]
            elif numbers:
                axes = [replace(a, translation=v) for a, v in zip(axes, numbers, strict=True)]
        if self.unit.value:
            axes = [
                replace(a, unit=self.unit.value) if a.kind == "space" and a.resolution is not None else a
                for a in axes
            ]
        return Axes(axes)


class OpCopyMeta(_OpOtherMeta):
    """Take some of the metadata of another image: pixel sizes that a computation by others has lost.

    Inputs
    ------
    image : InputSlot, any array
    like : InputSlot, any array
        Whose metadata are taken; its pixels are not asked for.
    fields : ParameterSlot[tuple]
        Any of ``axes``, ``value_range``, ``channel_names``, ``semantics``, ``preferred_block``.

    Outputs
    -------
    output : OutputSlot, pixels of ``image``

    Regions
    -------
    pull, push   a ROI stays as it is; pixels of ``like`` make nothing dirty.

    Memory
    ------
    None of its own: the input writes into ``out``.

    Raises
    ------
    SetupError
        If they do not fit the shape of the image.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import ArrayMeta, Axes, Axis, Graph
    >>> copy = OpCopyMeta(graph=Graph(), image=np.zeros((2, 3)))
    >>> copy.like.assign(np.zeros((2, 3)), ArrayMeta((2, 3), "f8", Axes(["y", Axis("x", resolution=0.5)])))
    >>> str(copy.output.meta.axes)
    'y, x=0.5'
    """

    like = InputSlot(doc="whose metadata to take")
    fields = ParameterSlot(
        tuple,
        default=("axes", "channel_names"),
        check=lambda names: next(
            (f"has {n!r} in it, none of {_FIELDS}" for n in names if n not in _FIELDS), None
        ),
        doc="which metadata",
    )

    def setup_outputs(self) -> None:
        meta, like = self.image.meta, self.like.meta
        try:
            self.set_other(meta.replace(**{name: getattr(like, name) for name in self.fields.value}))
        except (AxesError, MetaError) as error:
            raise SetupError(f"the metadata of the other image ({like}) do not fit: {error}") from error


class OpReadMeta(Operator):
    """Give metadata as values, for parameters of other operators.

    Inputs
    ------
    image : InputSlot, any array
        Its pixels are not asked for.

    Outputs
    -------
    shape : OutputSlot[tuple]
    axes, dtype, semantics : OutputSlot[str]
    pixel_size : OutputSlot[tuple]
        One number per axis, 0 for unknown.
    origin : OutputSlot[tuple]
    channel_names : OutputSlot[tuple]
    value_range : OutputSlot[tuple]
        Empty where it is unknown.

    Regions
    -------
    push   other metadata make all values dirty, pixels do not.

    Memory
    ------
    None.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> meta = OpReadMeta(graph=Graph(), image=np.zeros((2, 3), np.uint8))
    >>> meta.shape.value, meta.axes.value, meta.dtype.value
    ((2, 3), 'yx', 'uint8')
    """

    image = InputSlot(doc="whose metadata to read")
    shape = OutputSlot(value=tuple, doc="pixels along each axis")
    axes = OutputSlot(value=str, doc="keys of the axes")
    dtype = OutputSlot(value=str, doc="name of the dtype")
    semantics = OutputSlot(value=str, doc="labels or intensities")
    pixel_size = OutputSlot(value=tuple, doc="one per axis, 0 for unknown")
    origin = OutputSlot(value=tuple, doc="place of the first pixel, per axis")
    channel_names = OutputSlot(value=tuple, doc="one for each channel, or none")
    value_range = OutputSlot(value=tuple, doc="lowest and highest value, or empty")

    def setup_outputs(self) -> ArrayMeta:
        """Return the meta."""
        return self.image.meta

    def compute_value(self, slot: Any) -> Any:
        meta: ArrayMeta = self.plan
        if slot is self.axes:
            return meta.axes.keys
        if slot is self.dtype:
            return str(meta.dtype)
        if slot is self.pixel_size:
            return tuple(axis.resolution or 0.0 for axis in meta.axes)
        if slot is self.origin:
            return tuple(axis.translation for axis in meta.axes)
        if slot is self.value_range:
            return meta.value_range or ()
        return getattr(meta, slot.name)

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        """Say nothing: no pixel is in the metadata."""
