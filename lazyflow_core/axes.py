"""Axes: what the dimensions of an array mean, how large a pixel is along them and where the first one lies.

A position along an axis is ``translation + resolution * index``, in ``unit``. Whatever crops, transposes
or scales an array changes its axes by one of the methods here, so pixel size and origin survive.

Two exchange formats are understood without importing their libraries: OME-NGFF ``axes`` with their
coordinate transformations, and the JSON that vigra writes for its axistags.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, overload

from lazyflow_core.errors import AxesError

__all__ = ["Axes", "Axis", "AxisKind"]

AxisKind = Literal["space", "time", "channel", "other"]

_KIND_OF_KEY: Final[Mapping[str, AxisKind]] = {
    "t": "time",
    "z": "space",
    "y": "space",
    "x": "space",
    "c": "channel",
}

#: Flags of vigra's ``AxisType`` (vigra/axistags.hxx).
_VIGRA_FLAGS: Final[Mapping[AxisKind, int]] = {"channel": 1, "space": 2, "time": 8, "other": 32}

#: The longest last axis of 3-D data that is taken for channels when nothing says what it is.
_MOST_GUESSED_CHANNELS: Final = 4


@dataclass(frozen=True, slots=True)
class Axis:
    """One dimension of an array.

    Parameters
    ----------
    key
        Its name: one of ``t z y x c``, or any other identifier.
    kind
        What it counts; ``None`` means the usual kind of the key (``other`` for unusual keys).
    unit
        Unit of ``resolution`` and ``translation``, an OME-NGFF name such as ``"micrometer"``, or None.
    resolution
        Distance of neighbouring pixels in ``unit``, > 0; None where nobody said.
    translation
        Position of pixel 0 in ``unit``.

    Raises
    ------
    AxesError
        If the key is no identifier, the kind is unknown, or the resolution is not positive.

    Examples
    --------
    >>> Axis("z", unit="micrometer", resolution=0.235).kind
    'space'
    """

    key: str
    kind: AxisKind = None  # type: ignore[assignment]  # filled from the key below, never None afterwards
    unit: str | None = None
    resolution: float | None = None
    translation: float = 0.0

    def __post_init__(self) -> None:
        if not (isinstance(self.key, str) and self.key.isidentifier()):
            raise AxesError(f"{self.key!r} is no axis key; a key is an identifier such as 'z' or 'angle'.")
        if self.kind is None:
            object.__setattr__(self, "kind", _KIND_OF_KEY.get(self.key, "other"))
        if self.kind not in _VIGRA_FLAGS:
            raise AxesError(
                f"axis {self.key!r}: kind {self.kind!r} is unknown; it is one of {sorted(_VIGRA_FLAGS)}."
            )
        if self.resolution is not None:
            object.__setattr__(self, "resolution", float(self.resolution))
            if not 0 < self.resolution < float("inf"):
                raise AxesError(
                    f"axis {self.key!r}: resolution {self.resolution!r} is not a positive number; "
                    "use None if it is unknown."
                )
        object.__setattr__(self, "translation", float(self.translation))

    def cropped(self, start: int) -> Axis:
        """Return the axis of an array that begins at pixel ``start`` of this one."""
        if self.resolution is None or start == 0:
            return self
        return replace(self, translation=self.translation + self.resolution * start)

    def __str__(self) -> str:
        if self.resolution is None:
            return self.key
        return f"{self.key}={self.resolution:g}{' ' + self.unit if self.unit else ''}"


def _known_size(value: Any) -> float | None:
    """Return a resolution of a file, None for what is none: that must not hide the names of the axes."""
    size = float(value or 0)
    return size if 0 < size < float("inf") else None


class Axes:
    """The axes of an array, in array order: a frozen sequence of `Axis` with different keys.

    Parameters
    ----------
    axes
        Keys as one string (``"zyx"``), or a sequence of keys and `Axis` objects.

    Raises
    ------
    AxesError
        If a key occurs twice.

    Examples
    --------
    >>> axes = Axes("tzyxc")
    >>> axes.keys, axes.index("y"), axes.spatial
    ('tzyxc', 2, (1, 2, 3))
    >>> axes.transposed("xyzct").keys
    'xyzct'
    """

    __slots__ = ("_axes", "_keys")
    _axes: tuple[Axis, ...]

    def __init__(self, axes: str | Iterable[str | Axis]) -> None:
        self._axes = tuple(a if isinstance(a, Axis) else Axis(a) for a in axes)
        self._keys = tuple(a.key for a in self._axes)
        if len(set(self._keys)) != len(self._keys):
            double = next(k for k in self._keys if self._keys.count(k) > 1)
            raise AxesError(
                f"axes {self.keys!r}: {double!r} occurs twice; every axis needs a key of its own."
            )

    # ------------------------------------------------------------------------------------ being a sequence

    @overload
    def __getitem__(self, index: int) -> Axis: ...
    @overload
    def __getitem__(self, index: slice) -> Axes: ...
    def __getitem__(self, index: int | slice) -> Axis | Axes:
        return Axes(self._axes[index]) if isinstance(index, slice) else self._axes[index]

    def __len__(self) -> int:
        return len(self._axes)

    def __iter__(self) -> Iterator[Axis]:
        return iter(self._axes)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return self._axes == other._axes if isinstance(other, Axes) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._axes)

    def __contains__(self, key: str) -> bool:
        """Whether one of them has that key."""
        return key in self._keys

    def __repr__(self) -> str:
        return f"Axes({self.keys!r})" if self == Axes(self._keys) else f"Axes({list(self._axes)!r})"

    def __str__(self) -> str:
        return ", ".join(map(str, self._axes))

    # -------------------------------------------------------------------------------------------- questions

    @property
    def keys(self) -> str:
        """The keys in array order, as one string; joined by ``,`` where one is longer than a letter."""
        return ("" if all(len(k) == 1 for k in self._keys) else ",").join(self._keys)

    def index(self, key: str) -> int:
        """Return the position of the axis with that key."""
        try:
            return self._keys.index(key)
        except ValueError:
            raise AxesError(f"no axis {key!r} among axes {self.keys!r}.") from None

    def of_kind(self, kind: AxisKind) -> tuple[int, ...]:
        """Return the positions of the axes of a kind."""
        return tuple(i for i, axis in enumerate(self._axes) if axis.kind == kind)

    @property
    def spatial(self) -> tuple[int, ...]:
        """Positions of the axes that are space."""
        return self.of_kind("space")

    # ------------------------------------------------------------------------------------- axes from axes

    def transposed(self, keys: Iterable[str]) -> Axes:
        """Return these axes in another order; raises `AxesError` unless ``keys`` is a permutation."""
        keys = tuple(map(str, keys))
        if sorted(keys) != sorted(self._keys):
            raise AxesError(f"axes {self.keys!r} cannot be reordered to {''.join(keys)!r}: other keys.")
        return Axes(self._axes[self._keys.index(k)] for k in keys)

    def cropped(self, start: Sequence[int]) -> Axes:
        """Return the axes of an array that begins at pixel ``start``: each translation moves along."""
        if len(start) != len(self):
            raise AxesError(f"axes {self.keys!r}: {len(start)} starts were given for {len(self)} axes.")
        return Axes(axis.cropped(s) for axis, s in zip(self._axes, start, strict=True))

    def downsampled(self, factors: Sequence[float], *, by_mean: bool) -> Axes:
        """Return the axes of an array with fewer, larger pixels.

        Parameters
        ----------
        factors
            How many old pixels make a new one, per axis.
        by_mean
            Whether a new pixel is the mean of the old ones, whose centre lies ``(factor - 1) / 2`` old pixels
            further; False where it is the first of them.

        Examples
        --------
        >>> str(Axes([Axis("x", resolution=0.5)]).downsampled([4], by_mean=True)[0].translation)
        '0.75'
        """
        if len(factors) != len(self) or any(not f > 0 for f in factors):
            raise AxesError(f"axes {self.keys!r}: factors {tuple(factors)} are not one number > 0 per axis.")
        result = []
        for axis, factor in zip(self._axes, factors, strict=True):
            if axis.resolution is not None and factor != 1:
                moved = axis.resolution * (factor - 1) / 2 if by_mean else 0.0
                axis = replace(
                    axis, resolution=axis.resolution * factor, translation=axis.translation + moved
                )
            result.append(axis)
        return Axes(result)

    # --------------------------------------------------------------------------------- where they come from

    @classmethod
    def guess(cls, shape: Sequence[int]) -> Axes:
        """Return the axes that an array of that shape has when nothing else is known.

        2-D ``yx``; 3-D ``zyx``, or ``yxc`` where the last axis has at most four pixels; 4-D ``zyxc``;
        5-D ``tzyxc``. These are upstream lazyflow's defaults (``get_default_axisordering``); 1-D is ``x``.

        Raises
        ------
        AxesError
            For 0 or more than 5 dimensions.

        Examples
        --------
        >>> Axes.guess((32, 128, 128)).keys, Axes.guess((480, 640, 3)).keys
        ('zyx', 'yxc')
        """
        keys = {1: "x", 2: "yx", 3: "zyx", 4: "zyxc", 5: "tzyxc"}.get(len(shape))
        if keys is None:
            raise AxesError(f"no usual axes for {len(shape)} dimensions (shape {tuple(shape)}); name them.")
        if len(shape) == 3 and shape[-1] <= _MOST_GUESSED_CHANNELS:
            keys = "yxc"
        return cls(keys)

    @classmethod
    def from_ngff(
        cls, axes: Sequence[Mapping[str, Any]], transformations: Sequence[Mapping[str, Any]] = ()
    ) -> Axes:
        """Return the axes that OME-NGFF multiscales metadata describes.

        A scale of 1 without unit and translation is what has to be written where nothing is known, so it is
        read as an unknown resolution.

        Parameters
        ----------
        axes
            The ``axes`` list of a multiscale: mappings with ``name``, ``type`` and ``unit``.
        transformations
            The ``scale`` and ``translation`` transformations that apply, in order (first those of the
            data set, then those of the whole multiscale).

        Raises
        ------
        AxesError
            If it is no such metadata, or a transformation has another length than the axes.

        Source
        ------
        OME-NGFF 0.4 and 0.5, sections "axes" and "coordinateTransformations".
        """
        if not all(isinstance(axis, Mapping) and "name" in axis for axis in axes):
            raise AxesError(f"not the axes of OME-NGFF: {axes!r:.80}; each is a mapping with a name.")
        scale: list[float] = [1.0] * len(axes)
        translation = [0.0] * len(axes)
        for step in transformations:
            values = step.get(step.get("type", ""))
            if values is None:
                continue  # identity, or a path to an array: nothing that one number per axis can say
            if len(values) != len(axes):
                raise AxesError(f"a {step['type']} has {len(values)} numbers for {len(axes)} axes.")
            if step["type"] == "scale":
                scale = [s * float(v) for s, v in zip(scale, values, strict=True)]
                translation = [t * float(v) for t, v in zip(translation, values, strict=True)]
            elif step["type"] == "translation":
                translation = [t + float(v) for t, v in zip(translation, values, strict=True)]

        def axis_of(axis: Mapping[str, Any], scale: float, translation: float) -> Axis:
            kind, unit = axis.get("type"), axis.get("unit")
            is_known = scale != 1 or unit is not None or translation != 0
            return Axis(
                key=str(axis["name"]),
                kind=kind if kind in _VIGRA_FLAGS else None,  # type: ignore[arg-type]
                unit=unit,
                resolution=_known_size(scale) if is_scaled and is_known and kind != "channel" else None,
                translation=translation,
            )

        is_scaled = any(step.get("type") == "scale" and "scale" in step for step in transformations)
        return cls(map(axis_of, axes, scale, translation))

    def to_ngff(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return ``(axes, transformations)`` as OME-NGFF 0.4 and 0.5 write them.

        Examples
        --------
        >>> axes, transformations = Axes([Axis("z", unit="micrometer", resolution=2.0), "y", "x"]).to_ngff()
        >>> axes[0]
        {'name': 'z', 'type': 'space', 'unit': 'micrometer'}
        >>> transformations
        [{'type': 'scale', 'scale': [2.0, 1.0, 1.0]}]
        """
        axes = []
        for axis in self._axes:
            entry: dict[str, Any] = {"name": axis.key}
            if axis.kind != "other":
                entry["type"] = axis.kind
            if axis.unit is not None:
                entry["unit"] = axis.unit
            axes.append(entry)
        transformations: list[dict[str, Any]] = [
            {"type": "scale", "scale": [1.0 if a.resolution is None else a.resolution for a in self._axes]}
        ]
        if any(a.translation for a in self._axes):
            transformations.append(
                {"type": "translation", "translation": [a.translation for a in self._axes]}
            )
        return axes, transformations

    @classmethod
    def from_axistags(cls, text: str, units: Mapping[str, str] | None = None) -> Axes:
        """Return the axes in the JSON text that vigra stores for axistags, in its array order.

        Parameters
        ----------
        text
            ``{"axes": [{"key": "z", "typeFlags": 2, "resolution": 0.2, "description": ""}, …]}``; a
            resolution of 0 means unknown.
        units
            Unit of the resolution by axis key; vigra itself knows none.

        Raises
        ------
        AxesError
            If the text is not such JSON.
        """
        kinds = {flag: kind for kind, flag in _VIGRA_FLAGS.items()}
        try:
            entries = json.loads(text)["axes"]
            return cls(
                Axis(
                    key=entry["key"],
                    kind=kinds.get(int(entry.get("typeFlags", 0))),  # type: ignore[arg-type]
                    unit=(units or {}).get(entry["key"]),
                    resolution=_known_size(entry.get("resolution")),
                )
                for entry in entries
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            if isinstance(error, AxesError):
                raise
            raise AxesError(f"not the JSON of vigra axistags: {text[:80]!r} ({error}).") from error

    def to_axistags(self) -> str:
        """Return the JSON that ``vigra.AxisTags.fromJSON`` reads; it knows no units or translations."""
        return json.dumps(
            {
                "axes": [
                    {
                        "key": axis.key,
                        "typeFlags": _VIGRA_FLAGS[axis.kind],
                        "resolution": axis.resolution or 0,
                        "description": "",
                    }
                    for axis in self._axes
                ]
            }
        )
