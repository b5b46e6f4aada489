"""The Gaussian filters as values: what each one computes, how far it looks, and how by convolutions.

A filter knows nothing of axes keys, operators or libraries. `Filter.compute` is its definition, in terms
of one separable convolution that every backend has; a backend may know a faster way to the same result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lazyflow_ops_filters.kernels.border import largest_reach
from lazyflow_ops_filters.kernels.eigen import symmetric_eigenvalues
from lazyflow_ops_filters.kernels.gaussian import kernel, largest_sigma, radius

if TYPE_CHECKING:
    from lazyflow_ops_filters.kernels.backend import Backend, Job

__all__ = [
    "PRECISIONS",
    "DifferenceOfGaussians",
    "Filter",
    "GaussianDerivative",
    "GaussianFilter",
    "GaussianGradientMagnitude",
    "GaussianSmoothing",
    "HessianOfGaussian",
    "HessianOfGaussianEigenvalues",
    "HighPass",
    "LaplacianOfGaussian",
    "StructureTensor",
    "StructureTensorEigenvalues",
    "StructureTensorOrientation",
    "TooThin",
    "kernels_of",
    "orders_of",
    "pairs",
]

Array = npt.NDArray[Any]
#: One standard deviation per axis, in pixels; None for an axis that is not filtered.
Sigmas = tuple[float | None, ...]


class Pass(NamedTuple):
    """The widest kernel of each axis in one round of convolutions."""

    sigma: Sigmas
    order: tuple[int, ...]


class TooThin(NamedTuple):
    """An axis with fewer pixels than a kernel needs: its length, what was asked for, and what would fit."""

    axis: int
    length: int
    what: str
    value: float
    largest: float

    def sentence(self, axis: str, border: str) -> str:
        """Return what is wrong, given the name of the axis."""
        return (
            f"axis {axis} has {self.length} pixels, too few for a {self.what} of {self.value:g} pixels with "
            f"border={border!r}; the largest possible is {self.largest:g}"
        )


class Filter(ABC):
    """What can be computed of a region of an image: some results per pixel.

    A value: it never changes, and can be a key of a dictionary.
    """

    #: Whether it is computed in floating point, and not in the dtype of the image.
    in_floats = True

    @property
    @abstractmethod
    def ndim(self) -> int:
        """Number of axes of the images it takes."""

    @abstractmethod
    def names(self, keys: Sequence[str]) -> tuple[str, ...]:
        """Return what distinguishes its results, given a key per axis; one empty string for a single one."""

    @abstractmethod
    def halo(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return how many pixels around a region matter for it, per axis of an image of that shape."""

    def halos(self, shape: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """Return the same for each of its results alone."""
        return (self.halo(shape),) * self.results

    @abstractmethod
    def too_thin(self, shape: Sequence[int], border: str) -> TooThin | None:
        """Return the first axis of such an image that is thinner than a kernel needs, or None."""

    @abstractmethod
    def compute(self, backend: Backend, job: Job) -> None:
        """Write the results that are asked for into ``job.outs``, by convolutions of the backend."""

    @property
    def results(self) -> int:
        """Number of results per pixel."""
        return len(self.names("?" * self.ndim))


@dataclass(frozen=True)
class GaussianFilter(Filter):
    """A filter made of convolutions with Gaussians and their derivatives.

    Attributes
    ----------
    sigma
        Standard deviation per axis in pixels; along axes with None nothing happens.
    window
        Reach of the kernels in sigmas; 0 for the usual 3 + order / 2.
    """

    sigma: Sigmas
    window: float = 0.0

    @property
    def ndim(self) -> int:
        return len(self.sigma)

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes that are filtered."""
        return tuple(i for i, s in enumerate(self.sigma) if s is not None)

    @abstractmethod
    def passes(self) -> Iterator[Pass]:
        """Yield the rounds of convolutions that follow each other."""

    def names(self, keys: Sequence[str]) -> tuple[str, ...]:
        return ("",)

    def halo(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return how many pixels around a region its result depends on, per axis of an image of that shape.

        Examples
        --------
        >>> GaussianSmoothing((1.0, 2.0)).halo((100, 100)), GaussianSmoothing((None, 2.0)).halo((9, 100))
        ((3, 6), (0, 6))
        """
        halo = [0] * self.ndim
        for step in self.passes():
            for axis, (s, order) in enumerate(zip(step.sigma, step.order, strict=True)):
                if shape[axis] > 1 and s is not None:
                    halo[axis] += radius(s, order, self.window)
        return tuple(halo)

    def too_thin(self, shape: Sequence[int], border: str) -> TooThin | None:
        for step in self.passes():
            for axis, (s, order) in enumerate(zip(step.sigma, step.order, strict=True)):
                reach = largest_reach(shape[axis], border)
                if s is not None and reach is not None and radius(s, order, self.window) > reach:
                    return TooThin(axis, shape[axis], "sigma", s, largest_sigma(reach, order, self.window))
        return None

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.type == "Sigmas":
                value = tuple(None if s is None else float(s) for s in getattr(self, field.name))
                object.__setattr__(self, field.name, value)
                if [s is None for s in value] != [s is None for s in self.sigma]:
                    raise ValueError(f"{field.name}={value} has not the axes of sigma={self.sigma}.")
                for s in value:
                    if s is not None:
                        radius(s, 0, self.window)  # refuses what is no sigma or window

    def _derivative(
        self, backend: Backend, job: Job, out: Array, sigma: Sigmas, orders: Sequence[int]
    ) -> None:
        """Write one derivative; along an axis of one pixel it is zero."""
        kernels = kernels_of(sigma, self.window, orders, job.image.shape)
        if kernels is None:
            out[...] = 0
        else:
            backend.convolve(job.image, kernels, job.border, job.region, out)


def kernels_of(
    sigma: Sigmas, window: float, orders: Sequence[int], shape: Sequence[int]
) -> list[Array | None] | None:
    """Return the weights per axis of a Gaussian derivative of such an image, None for an axis left alone.

    None instead of the list if the derivative is zero everywhere: along an axis of one pixel.
    """
    if any(order and n == 1 for order, n in zip(orders, shape, strict=True)):
        return None
    return [
        None if s is None or n == 1 else kernel(s, order, window)
        for s, order, n in zip(sigma, orders, shape, strict=True)
    ]


def orders_of(ndim: int, *axes: int) -> tuple[int, ...]:
    """Return the order of the derivative per axis that derives once along each of the axes given."""
    return tuple(axes.count(axis) for axis in range(ndim))


def pairs(axes: Sequence[int]) -> list[tuple[int, int]]:
    """Return the upper triangle of a matrix over some axes, row by row."""
    return list(combinations_with_replacement(axes, 2))


def _largest(first: Sigmas, second: Sigmas) -> Sigmas:
    return tuple(a if a is None or b is None else max(a, b) for a, b in zip(first, second, strict=True))


@dataclass(frozen=True)
class GaussianSmoothing(GaussianFilter):
    """Convolution with a Gaussian."""

    def passes(self) -> Iterator[Pass]:
        yield Pass(self.sigma, orders_of(self.ndim))

    def compute(self, backend: Backend, job: Job) -> None:
        self._derivative(backend, job, job.out, self.sigma, orders_of(self.ndim))


@dataclass(frozen=True)
class HighPass(GaussianSmoothing):
    """``keep`` times the image minus ``factor`` times the smoothed image."""

    keep: float = 1.0
    factor: float = 1.0

    def compute(self, backend: Backend, job: Job) -> None:
        smooth = job.scratch(backend)
        backend.apply(GaussianSmoothing(self.sigma, self.window), job.with_outs([smooth]))
        smooth *= self.factor
        result = job.image[job.region].astype(smooth.dtype)
        result *= self.keep
        result -= smooth
        job.out[...] = result


@dataclass(frozen=True)
class GaussianDerivative(GaussianFilter):
    """Convolution with a derivative of a Gaussian, ``order[i]`` times along axis ``i``."""

    order: tuple[int, ...] = ()

    def passes(self) -> Iterator[Pass]:
        yield Pass(self.sigma, self.order)

    def compute(self, backend: Backend, job: Job) -> None:
        self._derivative(backend, job, job.out, self.sigma, self.order)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.order) != self.ndim:
            raise ValueError(f"order={self.order} is not one integer for each of {self.ndim} axes.")
        for s, order in zip(self.sigma, self.order, strict=True):
            radius(s or 1.0, order)
            if s is None and order:
                raise ValueError(f"order={self.order} derives along an axis without a sigma.")


@dataclass(frozen=True)
class DifferenceOfGaussians(GaussianFilter):
    """Smoothing at ``sigma`` minus smoothing at ``minus``: a band of structure sizes."""

    minus: Sigmas = ()

    def passes(self) -> Iterator[Pass]:
        yield Pass(_largest(self.sigma, self.minus), orders_of(self.ndim))

    def compute(self, backend: Backend, job: Job) -> None:
        second = job.scratch(backend)
        self._derivative(backend, job, second, self.minus, orders_of(self.ndim))
        first = job.scratch(backend)
        self._derivative(backend, job, first, self.sigma, orders_of(self.ndim))
        np.subtract(first, second, out=job.out, casting="same_kind")


@dataclass(frozen=True)
class GaussianGradientMagnitude(GaussianFilter):
    """Length of the gradient of the smoothed image, per pixel."""

    def passes(self) -> Iterator[Pass]:
        yield Pass(self.sigma, tuple(int(s is not None) for s in self.sigma))

    def compute(self, backend: Backend, job: Job) -> None:
        # In float64 squares of floats neither overflow nor vanish.
        total, part = np.zeros(job.shape), job.scratch(backend)
        for axis in self.axes:
            self._derivative(backend, job, part, self.sigma, orders_of(self.ndim, axis))
            total += np.square(part, dtype=np.float64)
        np.sqrt(total, out=job.out, casting="same_kind")


@dataclass(frozen=True)
class LaplacianOfGaussian(GaussianFilter):
    """Sum of the second derivatives of the smoothed image: negative on bright blobs."""

    def passes(self) -> Iterator[Pass]:
        yield Pass(self.sigma, tuple(2 * (s is not None) for s in self.sigma))

    def compute(self, backend: Backend, job: Job) -> None:
        total, part = job.scratch(backend), job.scratch(backend)
        total[...] = 0
        for axis in self.axes:
            self._derivative(backend, job, part, self.sigma, orders_of(self.ndim, axis, axis))
            total += part
        job.out[...] = total


@dataclass(frozen=True)
class HessianOfGaussian(GaussianFilter):
    """All second derivatives of the smoothed image: the upper triangle of the Hessian, row by row."""

    def passes(self) -> Iterator[Pass]:
        yield Pass(self.sigma, tuple(2 * (s is not None) for s in self.sigma))

    def names(self, keys: Sequence[str]) -> tuple[str, ...]:
        return tuple(f"{keys[i]}{keys[j]}" for i, j in pairs(self.axes))

    def compute(self, backend: Backend, job: Job) -> None:
        for out, (i, j) in zip(job.outs, pairs(self.axes), strict=True):
            if out is not None:
                self._derivative(backend, job, out, self.sigma, orders_of(self.ndim, i, j))


#: How exactly eigenvalues are computed, at least: with the error that a float32 result has anyway, or faster.
PRECISIONS = ("double", "single")


@dataclass(frozen=True)
class HessianOfGaussianEigenvalues(GaussianFilter):
    """Eigenvalues of the Hessian, largest first; or the largest alone."""

    only_largest: bool = False
    precision: str = "double"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_precision(self.precision)

    def passes(self) -> Iterator[Pass]:
        yield Pass(self.sigma, tuple(2 * (s is not None) for s in self.sigma))

    def names(self, keys: Sequence[str]) -> tuple[str, ...]:
        return ("",) if self.only_largest else _eigenvalue_names(self.axes)

    def compute(self, backend: Backend, job: Job) -> None:
        tensor = [job.scratch(backend) for _ in pairs(self.axes)]
        backend.apply(HessianOfGaussian(self.sigma, self.window), job.with_outs(tensor))
        symmetric_eigenvalues(tensor, job.outs)


@dataclass(frozen=True)
class StructureTensor(GaussianFilter):
    """Products of the gradient's components at ``sigma``, smoothed at ``outer``: the upper triangle."""

    outer: Sigmas = ()

    def passes(self) -> Iterator[Pass]:
        yield Pass(self.sigma, tuple(int(s is not None) for s in self.sigma))
        yield Pass(self.outer, orders_of(self.ndim))

    def names(self, keys: Sequence[str]) -> tuple[str, ...]:
        return tuple(f"{keys[i]}{keys[j]}" for i, j in pairs(self.axes))

    def compute(self, backend: Backend, job: Job) -> None:
        # The products are needed as far around the region as the outer smoothing looks.
        smoothing = GaussianSmoothing(self.outer, self.window)
        inner = job.grown(smoothing.halo(job.image.shape))
        gradient = {}
        for axis in self.axes:
            gradient[axis] = inner.scratch(backend)
            self._derivative(backend, inner, gradient[axis], self.sigma, orders_of(self.ndim, axis))
        product = inner.scratch(backend)
        for out, (i, j) in zip(job.outs, pairs(self.axes), strict=True):
            if out is not None:
                np.multiply(gradient[i], gradient[j], out=product)
                backend.apply(smoothing, job.inside(inner, product, [out]))


@dataclass(frozen=True)
class StructureTensorEigenvalues(StructureTensor):
    """Eigenvalues of the structure tensor, largest first."""

    precision: str = "double"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_precision(self.precision)

    def names(self, keys: Sequence[str]) -> tuple[str, ...]:
        return _eigenvalue_names(self.axes)

    def compute(self, backend: Backend, job: Job) -> None:
        tensor = [job.scratch(backend) for _ in pairs(self.axes)]
        backend.apply(StructureTensor(self.sigma, self.window, self.outer), job.with_outs(tensor))
        symmetric_eigenvalues(tensor, job.outs)


@dataclass(frozen=True)
class StructureTensorOrientation(StructureTensor):
    """How much the gradients around a pixel agree, and their common direction; in a plane.

    The first result is the coherence ``(l1 - l2) / (l1 + l2)`` of the eigenvalues: 1 where all gradients are
    parallel, 0 where no direction prevails or nothing changes. The second is the direction in which the
    image changes most, in radians from the last axis towards the one before it, in (-π/2, π/2], and 0 where
    nothing changes.
    """

    def names(self, keys: Sequence[str]) -> tuple[str, ...]:
        return ("coherence", "orientation")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.axes) != 2:
            raise ValueError(
                f"an orientation is an angle in a plane, and {len(self.axes)} axes are filtered."
            )

    def compute(self, backend: Backend, job: Job) -> None:
        tensor = [job.scratch(backend) for _ in range(3)]
        backend.apply(StructureTensor(self.sigma, self.window, self.outer), job.with_outs(tensor))
        yy, yx, xx = (element.astype(np.float64) for element in tensor)
        coherence, orientation = job.outs
        trace = xx + yy
        # A gradient of less than the last digit of the pixel is what rounding left of none.
        precision = backend.precision(job.image.dtype)
        changes = trace > (np.finfo(precision).eps * job.image[job.region].astype(np.float64)) ** 2
        changes |= np.isnan(trace)
        if coherence is not None:
            difference = np.sqrt((xx - yy) ** 2 + 4 * yx * yx)
            np.divide(difference, trace, out=difference, where=changes)
            coherence[...] = np.where(changes, difference, 0)
        if orientation is not None:
            orientation[...] = np.where(changes, 0.5 * np.arctan2(2 * yx, xx - yy), 0)


def _check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r} is none of {', '.join(map(repr, PRECISIONS))}.")


def _eigenvalue_names(axes: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"eigenvalue {i}" for i in range(len(axes)))
