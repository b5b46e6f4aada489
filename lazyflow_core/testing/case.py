"""What an operator is tried with: its inputs, its parameters, and what it promises beyond the laws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lazyflow_core.meta import ArrayMeta
from lazyflow_core.roi import Roi

if TYPE_CHECKING:
    from lazyflow_core.graph import Operator

__all__ = ["TAGS", "Case", "InputArray", "array"]

#: What a case may say of its operator.
TAGS: Final = {
    "global": "a pixel of the result may depend on every pixel of an input",
    "stochastic": "the same request may give another result",
}


@dataclass(frozen=True)
class InputArray:
    """Pixels for an input, and what is known of them.

    Parameters
    ----------
    pixels
        The array.
    meta
        Its meta; shape and dtype are those of ``pixels``.
    """

    pixels: npt.NDArray[Any]
    meta: ArrayMeta


def array(
    shape: Sequence[int],
    axes: str | None = None,
    dtype: npt.DTypeLike = "float32",
    *,
    low: float = 0,
    high: float = 100,
    seed: int = 0,
    **meta: Any,
) -> InputArray:
    """Return pixels that show faults: noise, a step, and a few far values near corners and borders.

    Uniform noise alone hides a normalization by region, because all regions look alike.

    Parameters
    ----------
    shape, axes, dtype
        What they are for `ArrayMeta`.
    low, high
        All values lie between them; both occur.
    seed
        Another one gives other pixels.
    **meta
        More fields of the meta, e.g. ``channel_names``.

    Examples
    --------
    >>> image = array((20, 30), "yx", "uint8", high=255)
    >>> str(image.meta), int(image.pixels.min()), int(image.pixels.max())
    ('y=20, x=30 uint8', 0, 255)
    """
    chance = np.random.default_rng(seed)
    values = chance.uniform(0, 0.4, shape)
    if values.size:
        values[tuple(slice(n // 2, None) for n in shape)] += 0.3
        flat = values.reshape(-1)
        far = chance.choice(flat.size, size=min(flat.size, 1 + flat.size // 50), replace=False)
        flat[far] = chance.uniform(0.8, 1, far.size)
        flat[far[0]] = 1.0
        flat[-1 if far[0] != flat.size - 1 else 0] = 0.0
    kind = np.dtype(dtype)
    scaled = values > 0.35 if kind.kind == "b" else low + values * (high - low)
    pixels = np.ascontiguousarray(np.rint(scaled) if kind.kind in "iu" else scaled, dtype=kind)
    return InputArray(pixels, ArrayMeta(tuple(shape), kind, axes, **meta))


#: Pixels for one input.
Given = InputArray | npt.NDArray[Any]


@dataclass(frozen=True)
class Case:
    """One operator with inputs and parameters, to be tried against the laws.

    Nothing is guessed: what the kit feeds and changes is what stands here.

    Parameters
    ----------
    operator
        Its id, or its class.
    inputs
        For each array input a numpy array, or what `array` returns; a list of them for a list of slots.
    params
        A value for each parameter that has no default, or for which another one is wanted.
    change
        Parameters with other values than in ``params``: after the change the result must be that of a new
        operator, and what differs must have been announced. Left out, no parameter is changed.
    tol
        How far a region may differ from the same part of the whole, relative to the largest value.
        0, the default, means bit by bit.
    halo
        How many pixels around a region the operator may read, one number for all spatial axes or a mapping
        from axis key; checked on inputs that have the axes and shape of the output.
    read_factor
        How many times the pixels of a region the operator may read at most, all inputs together, for
        regions of a quarter of each axis. None: not checked.
    tags
        Any of `TAGS`.
    skip
        Checks not to run, with a reason each: ``{"halo_bound": "reads whole chunks of a file"}``.
    name
        What it is called in reports; default the operator with its parameters.
    timeout_s
        Seconds after which a request counts as hanging.

    Examples
    --------
    >>> Case("filters.gaussian_smoothing", {"image": array((40, 31), "yx")}, {"sigma": 1.5}, tol=1e-5).name
    'filters.gaussian_smoothing(sigma=1.5)'
    """

    operator: str | type[Operator]
    inputs: Mapping[str, Given | Sequence[Given]] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    change: Mapping[str, Any] = field(default_factory=dict)
    tol: float = 0.0
    halo: int | Mapping[str, int] | None = None
    read_factor: float | None = None
    tags: frozenset[str] | set[str] = frozenset()
    skip: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.tags) - TAGS.keys())
        if unknown:
            raise ValueError(f"no tag {unknown[0]!r}; possible are {', '.join(sorted(TAGS))}.")
        if not self.name:
            label = self.operator if isinstance(self.operator, str) else self.operator.__name__
            shown = ", ".join(f"{key}={value!r}" for key, value in self.params.items())
            object.__setattr__(self, "name", f"{label}({shown})")

    def load(self) -> type[Operator]:
        """Return the operator's class, importing it if its id was given."""
        if isinstance(self.operator, str):
            from lazyflow_core.plugins import get_operator

            return get_operator(self.operator)
        return self.operator

    def arrays(self) -> dict[str, InputArray]:
        """Return what its inputs get, each with a meta; elements of a list as ``"images[0]"``."""
        found = {}
        for name, given in self.inputs.items():
            if isinstance(given, (list, tuple)):
                found.update({f"{name}[{i}]": _input_array(one) for i, one in enumerate(given)})
            else:
                found[name] = _input_array(given)
        return found


def _input_array(given: Any) -> InputArray:
    if isinstance(given, InputArray):
        return given
    pixels = np.asarray(given)
    return InputArray(pixels, ArrayMeta(pixels.shape, pixels.dtype))


def rois_in(shape: Sequence[int], chance: np.random.Generator, count: int) -> list[Roi]:
    """Return regions to ask for: the corners' pixels, all of it, borders, none, and some random ones."""
    ndim = len(shape)
    zero = (0,) * ndim
    last = tuple(n - 1 for n in shape)
    whole = Roi(zero, shape)
    if not prod(shape):
        return [whole]
    middle = tuple(n // 2 for n in shape)
    rois = [
        Roi(last, shape),
        Roi(zero, (1,) * ndim),
        Roi(middle, tuple(m + 1 for m in middle)),
        whole,
        Roi(middle, middle),
    ]
    for axis in range(ndim):
        rois.append(whole.with_axis(axis, shape[axis] - 1, shape[axis]))
    while len(rois) < count:
        corners = np.sort(chance.integers(0, np.add(shape, 1), (2, ndim)), axis=0)
        stop = np.maximum(corners[1], corners[0])
        if (stop > corners[0]).all():
            rois.append(Roi(corners[0].tolist(), stop.tolist()))
    return rois
