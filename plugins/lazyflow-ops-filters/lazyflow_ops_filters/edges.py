"""Edges and blobs: first and second derivatives of the smoothed image."""

from __future__ import annotations

from collections.abc import Sequence

from lazyflow_core import Axis

from lazyflow_ops_filters.base import OpGaussianFilter, sigma_slot
from lazyflow_ops_filters.kernels.filters import Filter, GaussianGradientMagnitude, LaplacianOfGaussian

__all__ = ["OpGaussianGradientMagnitude", "OpLaplacianOfGaussian"]


class OpGaussianGradientMagnitude(OpGaussianFilter):
    """Compute how steep the smoothed image is: the length of its gradient, per pixel.

    Inputs
    ------
    sigma : ParameterSlot[float | tuple]
        Standard deviation, > 0; one for all spatial axes or one per axis in the order z, y, x.

    All else as in `OpGaussianFilter`. Derivatives are per pixel, whatever the unit of ``sigma``.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph
    >>> with Graph() as graph:
    ...     ramp = np.outer(3 * np.arange(20), np.ones(20))
    ...     edges = OpGaussianGradientMagnitude(graph=graph, image=ramp, sigma=1.0)
    ...     float(edges.output[10, 10].wait()[0, 0].round(3))
    3.0
    """

    scratch = 5

    sigma = sigma_slot(1.0, "standard deviation")

    def make_filter(self, axes: Sequence[Axis]) -> Filter:
        return GaussianGradientMagnitude(self.sigmas(self.sigma, axes), self.window.value)


class OpLaplacianOfGaussian(OpGaussianFilter):
    """Sum the second derivatives of the smoothed image: negative on bright blobs, positive on dark ones.

    Inputs
    ------
    sigma : ParameterSlot[float | tuple]
        Standard deviation, > 0; one for all spatial axes or one per axis in the order z, y, x.

    All else as in `OpGaussianFilter`. Derivatives are per pixel, whatever the unit of ``sigma``.
    """

    scratch = 5

    sigma = sigma_slot(1.0, "standard deviation")

    def make_filter(self, axes: Sequence[Axis]) -> Filter:
        return LaplacianOfGaussian(self.sigmas(self.sigma, axes), self.window.value)
