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
    "DifferenceOfGaussians",
    "Filter",
    "GaussianDerivative",
    "GaussianGradientMagnitude",
    "GaussianSmoothing",
    "HessianOfGaussian",
    "HessianOfGaussianEigenvalues",
    "LaplacianOfGaussian",
    "StructureTensor",
    "StructureTensorEigenvalues",
    "TooThin",
    "pairs",
]

Array = npt.NDArray[Any]
#: One standard deviation per filtered axis, in pixels.
Sigmas = tuple[float, ...]


class Pass(NamedTuple):
    """The widest kernel of each axis in one round of convolutions."""

    sigma: Sigmas
    order: tuple[int, ...]


class TooThin(NamedTuple):
    """An axis with fewer pixels than a kernel needs."""

    axis: int
    length: int
    sigma: float
    largest_sigma: float


@dataclass(frozen=True)
class Filter(ABC):
    """A filter with its scales; sigmas are in pixels, one per filtered axis.

    Attributes
    ----------
    window
        Reach of the kernels in sigmas; 0 for the usual 3 + order / 2.
    """

    sigma: Sigmas
    window: float = 0.0

    @property
    def ndim(self) -> int:
        """Number of filtered axes."""
        return len(self.sigma)

    @abstractmethod
    def passes(self) -> Iterator[Pass]:
        """Yield the rounds of convolutions that follow each other."""

    @abstractmethod
    def compute(self, backend: Backend, job: Job) -> None:
        """Write the result into ``job.outs``, by convolutions of the backend."""

    @property
    def output_names(self) -> tuple[str, ...]:
        """What distinguishes the results, by axis number; one empty string for a single result."""
        return ("",)

    def halo(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return how many pixels around a region its result depends on, per axis of an image of that shape.

        Examples
        --------
        >>> GaussianSmoothing((1.0, 2.0)).halo((100, 100)), GaussianSmoothing((1.0, 2.0)).halo((1, 100))
        ((3, 6), (0, 6))
        """
        halo = [0] * self.ndim
        for step in self.passes():
            for axis, (s, order) in enumerate(zip(step.sigma, step.order, strict=True)):
                if shape[axis] > 1:
                    halo[axis] += radius(s, order, self.window)
        return tuple(halo)

    def too_thin(self, shape: Sequence[int], border: str) -> TooThin | None:
        """Return the first axis of such an image that is thinner than a kernel needs, or None."""
        for step in self.passes():
            for axis, (s, order) in enumerate(zip(step.sigma, step.order, strict=True)):
                reach = largest_reach(shape[axis], border)
                if reach is not None and radius(s, order, self.window) > reach:
                    return TooThin(axis, shape[axis], s, largest_sigma(reach, order, self.window))
        return None

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.type in ("Sigmas", Sigmas):
                value = tuple(map(float, getattr(self, field.name)))
                object.__setattr__(self, field.name, value)
                if len(value) != self.ndim:
                    raise ValueError(f"{field.name}={value} is not one number for each of {self.ndim} axes.")
                for s in value:
                    radius(s, 0, self.window)  # refuses what is no sigma or window

    def _kernels(self, sigma: Sigmas, orders: Sequence[int]) -> list[Array]:
        return [kernel(s, order, self.window) for s, order in zip(sigma, orders, strict=True)]

    def _derivative(
        self, backend: Backend, job: Job, out: Array, sigma: Sigmas, orders: Sequence[int]
    ) -> None:
        """Write one derivative; along an axis of one pixel it is zero."""
        if any(order and n == 1 for order, n in zip(orders, job.image.shape, strict=True)):
            out[...] = 0
            return
        kernels = [
            None if n == 1 else k for k, n in zip(self._kernels(sigma, orders), job.image.shape, strict=True)
        ]
        backend.convolve(job.image, kernels, job.border, job.region, out)


def _orders(ndim: int, *axes: int) -> tuple[int, ...]:
    return tuple(axes.count(axis) for axis in range(ndim))


def pairs(ndim: int) -> list[tuple[int, int]]:
    """Return the upper triangle of a matrix, row by row."""
    return list(combinations_with_replacement(range(ndim), 2))


@dataclass(frozen=True)
class GaussianSmoothing(Filter):
    """Convolution with a Gaussian."""

    def passes(self) -> Iterator[Pass]:
        yield Pass(self.sigma, _orders(self.ndim))

    def compute(self, backend: Backend, job: Job) -> None:
        self._derivative(backend, job, job.outs[0], self.sigma, _orders(self.ndim))


@dataclass(frozen=True)
class GaussianDerivative(Filter):
    """Convolution with a derivative of a Gaussian, ``order[i]`` times along axis ``i``."""

    order: tuple[int, ...] = ()

    def passes(self) -> Iterator[Pass]:
        yield Pass(self.sigma, self.order)

    def compute(self, backend: Backend, job: Job) -> None:
        self._derivative(backend, job, job.outs[0], self.sigma, self.order)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.order) != self.ndim:
            raise ValueError(f"order={self.order} is not one integer for each of {self.ndim} axes.")
        for s, order in zip(self.sigma, self.order, strict=True):
            radius(s, order)


@dataclass(frozen=True)
class DifferenceOfGaussians(Filter):
    """Smoothing at ``sigma`` minus smoothing at ``minus``: a band of structure sizes."""

    minus: Sigmas = ()

    def passes(self) -> Iterator[Pass]:
        yield Pass(tuple(map(max, self.sigma, self.minus)), _orders(self.ndim))

    def compute(self, backend: Backend, job: Job) -> None:
        second = job.scratch(backend)
        self._derivative(backend, job, second, self.minus, _orders(self.ndim))
        first = job.scratch(backend)
        self._derivative(backend, job, first, self.sigma, _orders(self.ndim))
        np.subtract(first, second, out=job.outs[0], casting="same_kind")


@dataclass(frozen=True)
class GaussianGradientMagnitude(Filter):
    """Length of the gradient of the smoothed image, per pixel."""

    def passes(self) -> Iterator[Pass]:
        yield Pass(self.sigma, (1,) * self.ndim)

    def compute(self, backend: Backend, job: Job) -> None:
        total, part = job.scratch(backend), job.scratch(backend)
        total[...] = 0
        for axis in range(self.ndim):
            self._derivative(backend, job, part, self.sigma, _orders(self.ndim, axis))
            part *= part
            total += part
        np.sqrt(total, out=job.outs[0], casting="same_kind")


@dataclass(frozen=True)
class LaplacianOfGaussian(Filter):
    """Sum of the second derivatives of the smoothed image: negative on bright blobs."""

    def passes(self) -> Iterator[Pass]:
        yield Pass(self.sigma, (2,) * self.ndim)

    def compute(self, backend: Backend, job: Job) -> None:
        total, part = job.scratch(backend), job.scratch(backend)
        total[...] = 0
        for axis in range(self.ndim):
            self._derivative(backend, job, part, self.sigma, _orders(self.ndim, axis, axis))
            total += part
        job.outs[0][...] = total


@dataclass(frozen=True)
class HessianOfGaussian(Filter):
    """All second derivatives of the smoothed image: the upper triangle of the Hessian, row by row."""

    def passes(self) -> Iterator[Pass]:
        yield Pass(self.sigma, (2,) * self.ndim)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(f"{i}{j}" for i, j in pairs(self.ndim))

    def compute(self, backend: Backend, job: Job) -> None:
        for out, (i, j) in zip(job.outs, pairs(self.ndim), strict=True):
            if out is not None:
                self._derivative(backend, job, out, self.sigma, _orders(self.ndim, i, j))


@dataclass(frozen=True)
class HessianOfGaussianEigenvalues(Filter):
    """Eigenvalues of the Hessian, largest first."""

    def passes(self) -> Iterator[Pass]:
        yield Pass(self.sigma, (2,) * self.ndim)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(map(str, range(self.ndim)))

    def compute(self, backend: Backend, job: Job) -> None:
        tensor = [job.scratch(backend) for _ in pairs(self.ndim)]
        HessianOfGaussian(self.sigma, self.window).compute(backend, job.with_outs(tensor))
        symmetric_eigenvalues(tensor, job.outs)


@dataclass(frozen=True)
class StructureTensor(Filter):
    """Products of the gradient's components at ``sigma``, smoothed at ``outer``: the upper triangle."""

    outer: Sigmas = ()

    def passes(self) -> Iterator[Pass]:
        yield Pass(self.sigma, (1,) * self.ndim)
        yield Pass(self.outer, _orders(self.ndim))

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(f"{i}{j}" for i, j in pairs(self.ndim))

    def compute(self, backend: Backend, job: Job) -> None:
        # The products are needed as far around the region as the outer smoothing looks.
        smoothing = GaussianSmoothing(self.outer, self.window)
        inner = job.grown(smoothing.halo(job.image.shape))
        gradient = []
        for axis in range(self.ndim):
            part = inner.scratch(backend)
            self._derivative(backend, inner, part, self.sigma, _orders(self.ndim, axis))
            gradient.append(part)
        product = inner.scratch(backend)
        for out, (i, j) in zip(job.outs, pairs(self.ndim), strict=True):
            if out is not None:
                np.multiply(gradient[i], gradient[j], out=product)
                smoothing.compute(backend, job.inside(inner, product, [out]))


@dataclass(frozen=True)
class StructureTensorEigenvalues(StructureTensor):
    """Eigenvalues of the structure tensor, largest first."""

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(map(str, range(self.ndim)))

    def compute(self, backend: Backend, job: Job) -> None:
        tensor = [job.scratch(backend) for _ in pairs(self.ndim)]
        super().compute(backend, job.with_outs(tensor))
        symmetric_eigenvalues(tensor, job.outs)
