"""Smoothing: one Gaussian, or the difference of two."""

from __future__ import annotations

from collections.abc import Sequence

from lazyflow_core import Axis, ParameterSlot

from lazyflow_ops_filters.base import OpFilter, check_sigma
from lazyflow_ops_filters.kernels.filters import DifferenceOfGaussians, Filter, GaussianSmoothing

__all__ = ["OpDifferenceOfGaussians", "OpGaussianSmoothing"]


class OpGaussianSmoothing(OpFilter):
    """Convolve with a Gaussian along the spatial axes.

    Inputs
    ------
    sigma : ParameterSlot[float | tuple]
        Standard deviation, > 0; one for all spatial axes or one per axis in the order z, y, x.

    All else as in `OpFilter`.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> with Graph() as graph:
    ...     image = np.zeros((5, 9), np.uint8)
    ...     image[2, 4] = 100
    ...     smooth = OpGaussianSmoothing(graph=graph, image=image, sigma=(0.5, 1.0))
    ...     smooth.output.read()[2].round().tolist()
    [0.0, 0.0, 4.0, 19.0, 31.0, 19.0, 4.0, 0.0, 0.0]
    """

    scratch = 3

    sigma = ParameterSlot(float | tuple, default=1.0, check=check_sigma, doc="standard deviation")

    def make_filter(self, axes: Sequence[Axis]) -> Filter:
        return GaussianSmoothing(self.sigmas(self.sigma, axes), self.window.value)


class OpDifferenceOfGaussians(OpFilter):
    """Smooth at two scales and subtract: structures between the two sizes remain.

    Inputs
    ------
    sigma0, sigma1 : ParameterSlot[float | tuple]
        The result is smoothing at ``sigma0`` minus smoothing at ``sigma1``. Bright blobs are positive if
        ``sigma0`` is the smaller one.

    All else as in `OpFilter`.
    """

    scratch = 5

    sigma0 = ParameterSlot(float | tuple, default=1.0, check=check_sigma, doc="standard deviation")
    sigma1 = ParameterSlot(float | tuple, default=1.6, check=check_sigma, doc="what is subtracted")

    def make_filter(self, axes: Sequence[Axis]) -> Filter:
        return DifferenceOfGaussians(
            self.sigmas(self.sigma0, axes), self.window.value, minus=self.sigmas(self.sigma1, axes)
        )
