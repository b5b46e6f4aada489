"""Filters by the real vigra library, for those who want its very numbers.

vigra is not on PyPI; it comes as Debian's ``python3-vigra`` or from conda-forge, and needs a numpy of the
generation it was built for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import vigra

from lazyflow_ops_filters.kernels.backend import Backend, Job, Region
from lazyflow_ops_filters.kernels.filters import (
    DifferenceOfGaussians,
    Filter,
    GaussianFilter,
    GaussianGradientMagnitude,
    GaussianSmoothing,
    HessianOfGaussian,
    HessianOfGaussianEigenvalues,
    LaplacianOfGaussian,
    StructureTensor,
    StructureTensorEigenvalues,
)

__all__ = ["VigraBackend"]

#: exp(-1 / (2 * 0.0693 ** 2)) is half of the smallest number of float32.
_SMALLEST_SIGMA = 0.07

Array = npt.NDArray[Any]


class VigraBackend(Backend):
    """vigra: each filter by the function of that name; only mirrored borders, 2-D and 3-D."""

    name = "vigra"

    def convolve(
        self, image: Array, kernels: Sequence[Array | None], border: str, region: Region, out: Array
    ) -> None:
        reach = [0 if k is None else len(k) // 2 for k in kernels]
        part = Job(image, border, region, ()).grown(reach).region
        data = _tagged(image[part])
        for axis, weights in enumerate(kernels):
            if weights is not None:
                line = vigra.filters.Kernel1D()
                # vigra convolves, that is, runs through a kernel backwards,
                line.initExplicitly(-(len(weights) // 2), len(weights) // 2, weights[::-1].copy())
                line.setBorderTreatment(vigra.filters.BorderTreatmentMode.BORDER_TREATMENT_REFLECT)
                # and counts its axes from x.
                data = vigra.filters.convolveOneDimension(data, image.ndim - 1 - axis, line)
        out[...] = np.asarray(data)[_within(region, part)]

    def apply(self, filter: Filter, job: Job) -> None:
        function = _FUNCTIONS.get(type(filter))
        # vigra takes an axis of one pixel for one that is too thin, for us it is constant; its filters leave
        # out no axis; and it refuses a scale at which a neighbour's weight is too small for float32. In these
        # cases the filter runs as it is defined, by vigra's convolutions.
        if (
            function is None
            or not isinstance(filter, GaussianFilter)
            or any(sigma is None or sigma < _SMALLEST_SIGMA for sigma in filter.sigma)
            or 1 in job.image.shape
        ):
            filter.compute(self, job)
            return
        # Not by vigra's own roi: it would order the axes by what is cheapest for that region, and blocks
        # would differ from the whole in the last bit.
        part = job.grown(filter.halo(job.image.shape)).region
        window = _within(job.region, part)
        results = function(filter, _tagged(job.image[part]), window_size=filter.window)
        for out, result in zip(job.outs, results, strict=True):
            if out is not None:
                out[...] = np.asarray(result)[window]

    def refuses(self, filter: Filter, border: str) -> str:
        if border != "mirror":
            return f"knows no border {border!r}, only 'mirror'"
        if filter.ndim not in (2, 3):
            return f"filters 2-D and 3-D images, not {filter.ndim}-D ones"
        return ""

    def describe(self) -> str:
        """Return the version of vigra."""
        return f"vigra {vigra.version}"


def _tagged(image: Array) -> Any:
    return vigra.taggedView(np.ascontiguousarray(image, dtype=np.float32), "zyx"[-image.ndim :])


def _within(region: Region, part: Region) -> Region:
    return tuple(slice(r.start - p.start, r.stop - p.start) for r, p in zip(region, part, strict=True))


def _triangle(tensor: Any) -> list[Array]:
    """Return the upper triangle in our order; vigra counts its axes from x: ``xx xy xz yy yz zz``."""
    channels = np.moveaxis(np.asarray(tensor), -1, 0)
    return [channels[i] for i in ((2, 1, 0) if len(channels) == 3 else (5, 4, 2, 3, 1, 0))]


def _eigenvalues(tensor: Any) -> list[Array]:
    return list(np.moveaxis(np.asarray(vigra.filters.tensorEigenvalues(tensor)), -1, 0))


_Function = Callable[..., Sequence[Array]]
_v = vigra.filters

#: The vigra functions behind each filter. What is missing here runs by vigra's convolutions.
_FUNCTIONS: dict[type[Filter], _Function] = {
    GaussianSmoothing: lambda f, image, **kw: [_v.gaussianSmoothing(image, f.sigma, **kw)],
    LaplacianOfGaussian: lambda f, image, **kw: [_v.laplacianOfGaussian(image, f.sigma, **kw)],
    GaussianGradientMagnitude: lambda f, image, **kw: [_v.gaussianGradientMagnitude(image, f.sigma, **kw)],
    DifferenceOfGaussians: lambda f, image, **kw: [
        _v.gaussianSmoothing(image, f.sigma, **kw) - _v.gaussianSmoothing(image, f.minus, **kw)
    ],
    HessianOfGaussian: lambda f, image, **kw: _triangle(_v.hessianOfGaussian(image, f.sigma, **kw)),
    HessianOfGaussianEigenvalues: lambda f, image, **kw: _eigenvalues(
        _v.hessianOfGaussian(image, f.sigma, **kw)
    )[: f.results],
    StructureTensor: lambda f, image, **kw: _triangle(_v.structureTensor(image, f.sigma, f.outer, **kw)),
    StructureTensorEigenvalues: lambda f, image, **kw: _eigenvalues(
        _v.structureTensor(image, f.sigma, f.outer, **kw)
    ),
}
