"""What all Gaussian filter operators share: axes, regions, dirtiness, metadata.

A subclass declares its scales and says, in `OpFilter.make_filter`, which `Filter` they make.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import isfinite, prod
from typing import Any, cast

import numpy as np
from lazyflow_core import ArrayMeta, Axes, Axis, InputSlot, Operator, OutputSlot, ParameterSlot, Roi
from lazyflow_core.errors import SetupError

from lazyflow_ops_filters.kernels.backend import Backend, Job
from lazyflow_ops_filters.kernels.border import BORDERS
from lazyflow_ops_filters.kernels.composite import FilterSet
from lazyflow_ops_filters.kernels.filters import PRECISIONS, Filter
from lazyflow_ops_filters.kernels.selection import AUTO, get_backend
from lazyflow_ops_filters.units import PIXEL, in_pixels

__all__ = [
    "COMPUTED_BY",
    "OpFilter",
    "OpGaussianFilter",
    "Plan",
    "backend_slot",
    "check_sigma",
    "precision_slot",
]

Sigma = float | tuple[float, ...]

#: Key of ``meta.extra`` for which kernels computed the pixels: builds round differently.
COMPUTED_BY = "filters.computed_by"


def check_sigma(value: Sigma) -> str | None:
    """Return why a value is no sigma, or None; what was given stands before it already."""
    for s in value if isinstance(value, tuple) else (value,):
        if isinstance(s, bool) or not isinstance(s, (int, float)) or not (isfinite(s) and s > 0):
            wrong = "is not a positive number"
            return f"holds {s!r}, which {wrong}" if isinstance(value, tuple) else wrong
    return None


def sigma_slot(default: float, doc: str) -> ParameterSlot[Sigma]:
    """Return the declaration of a scale."""
    return ParameterSlot(
        float | tuple, default=default, usual=(0.3, 10), step=0.1, check=check_sigma, doc=doc
    )


def precision_slot() -> ParameterSlot[str]:
    """Return the declaration of how exact eigenvalues are."""
    return ParameterSlot(str, default="double", choices=PRECISIONS, doc="how exact eigenvalues are at least")


def backend_slot() -> ParameterSlot[str]:
    """Return the declaration of whose kernels run."""
    return ParameterSlot(str, default=AUTO, doc="whose kernels run: 'auto', 'native', 'scipy', 'vigra', …")


def _check_window(value: float) -> str | None:
    return None if isfinite(value) else "is no number of sigmas; 0 is the usual window"


@dataclass(frozen=True, eq=False)
class Plan:
    """A filter, where its axes are in the image, and who runs it: all that a request needs but the region."""

    filter: Filter
    meta: ArrayMeta
    #: Spatial axes, as positions in the image, in the order z, y, x.
    spatial: tuple[int, ...]
    #: Position of the channel axis in the image, None if it has none.
    channel: int | None
    #: What lies beyond the border of the image.
    border: str
    #: Whose kernels run.
    backend: Backend

    @cached_property
    def results(self) -> int:
        """Number of output channels per input channel."""
        return self.filter.results

    @cached_property
    def halo(self) -> tuple[int, ...]:
        """Pixels around a region that its result depends on, per axis of the image."""
        return self._of_image(self.filter.halo(self.spatial_shape))

    @cached_property
    def halos(self) -> tuple[tuple[int, ...], ...]:
        """The same for each of the results alone."""
        return tuple(map(self._of_image, self.filter.halos(self.spatial_shape)))

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        return tuple(self.meta.shape[i] for i in self.spatial)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The axes of the output in the order in which they are worked on: others, channel, spatial."""
        spatial = self.spatial
        if self.channel is None:
            spatial = tuple(i + (i >= self.channel_axis) for i in spatial)
        others = set(range(self.meta.ndim + (self.channel is None))) - {*spatial, self.channel_axis}
        return (*sorted(others), self.channel_axis, *spatial)

    @cached_property
    def channel_axis(self) -> int:
        """Position of the channel axis in an output of several results.

        A new one stands in front of the spatial axes, so that each channel is one piece of memory: among
        each other, 61 channels took kernels three times as long to write.
        """
        return min(self.spatial) if self.channel is None else self.channel

    def with_channel(self, array: Any) -> Any:
        """Return a view of an array with the axes of the image that has a channel axis."""
        if self.channel is not None:
            return array
        return array[(*[slice(None)] * self.channel_axis, None)]

    def without_channel(self, roi: Roi) -> Roi:
        """Return a region of the output in the axes of the image."""
        if self.channel is not None or self.results == 1:
            return roi
        c = self.channel_axis
        return Roi((*roi.start[:c], *roi.start[c + 1 :]), (*roi.stop[:c], *roi.stop[c + 1 :]))

    @cached_property
    def parts(self) -> tuple[Plan, ...]:
        """A plan for each member of a set of filters alone."""
        whole = cast(FilterSet, self.filter)
        return tuple(
            replace(self, filter=FilterSet((filter,), (title,)))
            for filter, title in zip(whole.filters, whole.titles, strict=True)
        )

    def input_roi(self, roi: Roi) -> Roi:
        """Return what a region of the output depends on."""
        first, last = 0, self.results
        if self.channel is not None or self.results > 1:
            first, last = roi.start[self.channel_axis], roi.stop[self.channel_axis]
        if self.channel is not None:
            roi = roi.with_axis(self.channel, first // self.results, -(-last // self.results))
        roi = self.without_channel(roi)
        halo = self.halo
        if last - first < self.results:
            wanted = {self.halos[i % self.results] for i in range(first, last)}
            halo = tuple(map(max, zip(*wanted, strict=True)))
        return roi.with_halo(halo, within=self.meta.roi)

    def output_roi(self, roi: Roi) -> Roi:
        """Return what depends on a region of the input."""
        roi = roi.with_halo(self.halo, within=self.meta.roi)
        if self.channel is not None:
            start, stop = roi.start[self.channel], roi.stop[self.channel]
            return roi.with_axis(self.channel, start * self.results, stop * self.results)
        if self.results == 1:
            return roi
        c = self.channel_axis
        return Roi((*roi.start[:c], 0, *roi.start[c:]), (*roi.stop[:c], self.results, *roi.stop[c:]))

    def _of_image(self, halo: tuple[int, ...]) -> tuple[int, ...]:
        """Return a halo per spatial axis as one per axis of the image."""
        result = [0] * self.meta.ndim
        for axis, h in zip(self.spatial, halo, strict=True):
            result[axis] = h
        return tuple(result)


def _with(before: str, backend: Backend) -> str:
    """Return whose kernels computed an image, after those that computed what it is made from."""
    here = backend.describe()
    here = here if here.startswith(backend.name) else f"{backend.name} ({here})"
    return here if before in ("", here) else f"{before}, {here}"


def _longer(shape: tuple[int, ...], axis: int, factor: int) -> tuple[int, ...]:
    return (*shape[:axis], shape[axis] * factor, *shape[axis + 1 :])


class OpFilter(Operator):
    """A filter along the spatial axes of an image of any axis order; time and channels are looped over.

    Inputs
    ------
    image : InputSlot, any axes of which at least one is spatial, any real dtype
        An axis of one pixel is constant: it is not filtered, and a stack of one slice gives what the slice
        gives, with as many results.
    in_2d : ParameterSlot[bool]
        Filter each slice along z on its own. A tuple of numbers per axis then has none for z.

    Outputs
    -------
    output : OutputSlot, shape and axes of ``image``
        With several results per pixel the channel axis is that much longer, or a new one in front of the
        spatial axes. ``meta.extra["filters.computed_by"]`` names the kernels and their build, which decide
        how results are rounded.

    Regions
    -------
    pull   ``roi`` needs ``roi`` with the halo of the filter on filtered axes; none on others.
    push   a dirty ROI of ``image`` becomes the same ROI with the same halo.

    Memory
    ------
    The input region with its halo in its own dtype, and per pixel of one channel `scratch` copies of four
    bytes in between; ``ram_per_pixel`` states it for blocks of 64 pixels with all their channels.

    Threading
    ---------
    ``execute`` keeps no state; any number may run at once. All kernels release the GIL.

    Raises
    ------
    SetupError
        If nothing is spatial, an axis is too thin, or the backend cannot do it.
    """

    #: Arrays of four bytes per pixel that one channel of a region needs besides input and output.
    scratch = 4

    image = InputSlot(doc="what to filter")
    in_2d = ParameterSlot(bool, default=False, doc="filter each z slice on its own")
    output = OutputSlot()

    def make_filter(self, axes: Sequence[Axis]) -> Filter:
        """Return the filter that the parameters describe, for the axes it runs along.

        It follows from the values of the parameters and the meta of the image, and from nothing else.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define make_filter.")

    def filters(self, axis: Axis) -> bool:
        """Return whether a spatial axis is filtered."""
        return not (self.in_2d.value and axis.key == "z")

    def get_backend(self) -> Backend:
        """Return whose kernels run."""
        return get_backend("scipy")

    def border_name(self) -> str:
        """Return what lies beyond the border of the image."""
        return "mirror"

    def output_dtype(self, meta: ArrayMeta) -> np.dtype[Any]:
        """Return the dtype of the output for an image."""
        return np.dtype(np.float32)

    def output_range(self, meta: ArrayMeta) -> tuple[float, float] | None:
        """Return the lowest and highest value the output can have, None if unknown."""
        return None

    def per_axis(self, slot: Any, axes: Sequence[Axis]) -> list[float]:
        """Return the value of a parameter, a number or a tuple, as one number per filtered axis."""
        filtered = [axis.key for axis in axes if self.filters(axis)]
        value = slot.value
        numbers = list(value) if isinstance(value, tuple) else [value] * len(filtered)
        if len(numbers) != len(filtered):
            raise SetupError(
                f"{slot.name}={value!r} has {len(numbers)} numbers, but {len(filtered)} axes are filtered, "
                f"in this order: {''.join(filtered)}."
            )
        return numbers

    def setup_outputs(self) -> Plan:
        """Return the filter, where its axes are, and who runs it."""
        plan = self._make_plan()
        if reason := self.too_thin(plan):
            raise SetupError(reason)
        if reason := plan.backend.refuses(plan.filter, plan.border):
            raise SetupError(f"backend {plan.backend.name!r} {reason}.")
        self.output.meta = self._output_meta(plan)
        return plan

    def too_thin(self, plan: Plan) -> str:
        """Return why the image has too few pixels along an axis, and what to do; empty if it has enough."""
        thin = plan.filter.too_thin(plan.spatial_shape, plan.border)
        if thin is None:
            return ""
        axis = plan.meta.axes[plan.spatial[thin.axis]].key
        return (
            f"{thin.sentence(axis, plan.border)}. "
            f"Choose a smaller {thin.what}, another border, or in_2d=True to leave out z."
        )

    def extended(self, axes: Sequence[Axis], in_2d: bool = False) -> list[bool]:
        """Return of each axis whether it is filtered and the image can change along it: has not one pixel.

        Where all filtered axes have one pixel, all count: there is nothing else to see.

        Parameters
        ----------
        axes
            As in `make_filter`.
        in_2d
            Leave out z, whatever the parameter says.
        """
        filtered = [self.filters(axis) and not (in_2d and axis.key == "z") for axis in axes]
        meta = self.image.meta
        longer = [f and meta.axis_length(axis.key) != 1 for f, axis in zip(filtered, axes, strict=True)]
        return longer if any(longer) else filtered

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        self._compute(self.plan, roi, out)

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        self.output.mark_dirty(self.plan.output_roi(roi))

    def _compute(self, plan: Plan, roi: Roi, out: Any) -> None:
        if roi.is_empty:
            return
        input_roi = plan.input_roi(roi)
        image = self.image.read(input_roi)

        # Give both a channel axis, and bring them into the order: others, channel, spatial axes.
        results, channel, first = plan.results, plan.channel, 0
        if channel is not None:
            first = input_roi.start[channel] * results - roi.start[channel]
        elif results > 1:
            first = -roi.start[plan.channel_axis]
        else:
            out = plan.with_channel(out)
        image, out = plan.with_channel(image).transpose(plan.order), out.transpose(plan.order)

        roi = plan.without_channel(roi)
        starts = [(roi.start[i], roi.stop[i], input_roi.start[i]) for i in plan.spatial]
        region = tuple([slice(start - origin, stop - origin) for start, stop, origin in starts])
        backend, border, loops = plan.backend, plan.border, image.ndim - len(region)
        channels = out.shape[loops - 1]
        for index in product(*map(range, image.shape[:loops])):
            begin = first + index[-1] * results
            outs = [
                out[(*index[:-1], i)] if 0 <= i < channels else None for i in range(begin, begin + results)
            ]
            backend.run(plan.filter, Job(image[index], border, region, outs))

    def _make_plan(self) -> Plan:
        meta = self.image.meta
        if meta.dtype.kind not in "buif":
            raise SetupError(
                f"image has dtype {meta.dtype}, which is not one of real numbers; cast it first."
            )
        spatial = list(meta.axes.spatial)
        if not any(self.filters(meta.axes[i]) for i in spatial):
            raise SetupError(
                f"image has axes {meta.axes.keys!r}, none of which is a spatial one to filter along."
            )
        spatial.sort(key=lambda i: "zyx".find(meta.axes[i].key))
        channels = meta.axes.of_kind("channel")
        filter = self.make_filter([meta.axes[i] for i in spatial])
        return Plan(
            filter,
            meta,
            tuple(spatial),
            channels[-1] if channels else None,
            self.border_name(),
            self.get_backend(),
        )

    def _output_meta(self, plan: Plan) -> ArrayMeta:
        keys = [plan.meta.axes[i].key for i in plan.spatial]
        meta, n = plan.meta, plan.results
        shape, new_axes = meta.shape, meta.axes
        block, largest = meta.preferred_block, meta.max_block
        names = meta.channel_names
        if n > 1:
            c = plan.channel_axis
            count = 1 if plan.channel is None else meta.shape[c]
            # Channels without names are told apart by their numbers.
            prefixes = [f"{name} " for name in names or (range(count) if count > 1 else ())] or [""]
            names = tuple(p + name for p in prefixes for name in plan.filter.names(keys))
            if plan.channel is None:
                shape = (*shape[:c], n, *shape[c:])
                new_axes = Axes([*meta.axes[:c], Axis("c"), *meta.axes[c:]])
                block, largest = ((*b[:c], n, *b[c:]) if b else None for b in (block, largest))
            else:
                shape = _longer(shape, c, n)
                block, largest = (_longer(b, c, n) if b else None for b in (block, largest))
                if len(prefixes) != meta.shape[c]:
                    names = ()
        return meta.replace(
            shape=shape,
            dtype=self.output_dtype(meta),
            axes=new_axes,
            value_range=self.output_range(meta),
            semantics="intensities",
            preferred_block=block,
            max_block=largest,
            channel_names=names,
            ram_per_pixel=self._ram_per_pixel(plan),
            extra={**meta.extra, COMPUTED_BY: _with(meta.extra.get(COMPUTED_BY, ""), plan.backend)},
        )

    def _ram_per_pixel(self, plan: Plan) -> float:
        """Return bytes per output pixel of a block of 64 pixels along each filtered axis."""
        sides = [(min(n, 64), min(n, 64 + 2 * plan.halo[i])) for i, n in enumerate(plan.meta.shape)]
        grown = prod(sides[i][1] / max(sides[i][0], 1) for i in plan.spatial)
        item = self.output_dtype(plan.meta).itemsize
        return item + (plan.meta.dtype.itemsize + 4 * self.scratch) * max(grown, 1) / plan.results


class OpGaussianFilter(OpFilter):
    """A filter made of Gaussians and their derivatives; its output is float32.

    Numbers that float32 cannot hold are filtered in float64 by the kernels that can, native and scipy.
    Derivatives along an axis of one pixel are zero.

    Inputs
    ------
    unit : ParameterSlot[str]
        What sigmas are given in: ``"pixel"``, or a length such as ``"micrometer"`` if the axes have pixel
        sizes.
    window : ParameterSlot[float]
        Reach of the kernels in sigmas; 0 for the usual 3 + half the order of the derivative.
    border : ParameterSlot[str]
        What lies beyond the border: ``"mirror"``, ``"reflect"``, ``"nearest"`` or ``"zero"``.
    backend : ParameterSlot[str]
        Whose kernels run: ``"auto"``, ``"native"``, ``"scipy"``, ``"vigra"``, or what a plugin offers.

    All else as in `OpFilter`; the halo is the sum of the radii of the kernels that follow each other.
    """

    unit = ParameterSlot(str, default=PIXEL, doc="unit of sigma: 'pixel', or a length such as 'micrometer'")
    window = ParameterSlot(
        float,
        default=0.0,
        range=(0, None),
        usual=(0, 8),
        step=0.5,
        check=_check_window,
        doc="kernel reach in sigmas; 0: usual",
    )
    border = ParameterSlot(str, default="mirror", choices=BORDERS, doc="what lies beyond the border")
    backend = backend_slot()

    def _ram_per_pixel(self, plan: Plan) -> float:
        bytes_in_float32 = super()._ram_per_pixel(plan)
        if np.can_cast(plan.meta.dtype, np.float32):
            return bytes_in_float32
        # At worst all in between is twice as wide, beside the image in both precisions and a second result.
        item = self.output_dtype(plan.meta).itemsize
        scale = (bytes_in_float32 - item) / (plan.meta.dtype.itemsize + 4 * self.scratch)
        return 2 * item + scale * (plan.meta.dtype.itemsize + 12 + 8 * self.scratch)

    def get_backend(self) -> Backend:
        return get_backend(self.backend.value)

    def border_name(self) -> str:
        return self.border.value

    def sigmas(self, slot: Any, axes: Sequence[Axis]) -> tuple[float | None, ...]:
        """Return the value of a sigma parameter in pixels per axis, None for one that is not `extended`."""
        filtered = [axis for axis in axes if self.filters(axis)]
        pixels = iter(in_pixels(self.per_axis(slot, axes), self.unit.value, filtered))
        sigmas = [next(pixels) if self.filters(axis) else None for axis in axes]
        return tuple(s if used else None for s, used in zip(sigmas, self.extended(axes), strict=True))
