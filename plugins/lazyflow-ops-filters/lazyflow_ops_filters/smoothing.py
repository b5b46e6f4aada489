"""Smoothing and its complements: one Gaussian, the difference of two, sharpening, background."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from lazyflow_core import Axis, ParameterSlot

from lazyflow_ops_filters.base import OpGaussianFilter, sigma_slot
from lazyflow_ops_filters.kernels.filters import (
    DifferenceOfGaussians,
    Filter,
    GaussianSmoothing,
    HighPass,
)

__all__ = ["OpBackgroundSubtraction", "OpDifferenceOfGaussians", "OpGaussianSmoothing", "OpUnsharpMask"]


class OpGaussianSmoothing(OpGaussianFilter):
    """Convolve with a Gaussian along the spatial axes.

    Inputs
    ------
    sigma : ParameterSlot[float | tuple]
        Standard deviation, > 0; one for all spatial axes or one per axis in the order z, y, x.

    All else as in `OpGaussianFilter`.

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

    sigma = sigma_slot(1.0, "standard deviation")

    def make_filter(self, axes: Sequence[Axis]) -> Filter:
        return GaussianSmoothing(self.sigmas(self.sigma, axes), self.window.value)


class OpDifferenceOfGaussians(OpGaussianFilter):
    """Smooth at two scales and subtract: structures between the two sizes remain.

    Inputs
    ------
    sigma0, sigma1 : ParameterSlot[float | tuple]
        The result is smoothing at ``sigma0`` minus smoothing at ``sigma1``. Bright blobs are positive if
        ``sigma0`` is the smaller one.

    All else as in `OpGaussianFilter`.
    """

    scratch = 5

    sigma0 = sigma_slot(1.0, "standard deviation")
    sigma1 = sigma_slot(1.6, "what is subtracted")

    def make_filter(self, axes: Sequence[Axis]) -> Filter:
        return DifferenceOfGaussians(
            self.sigmas(self.sigma0, axes), self.window.value, minus=self.sigmas(self.sigma1, axes)
        )


def _check_amount(value: float) -> str | None:
    return None if abs(value) <= float(np.finfo(np.float32).max) else "is no finite number in float32"


class OpUnsharpMask(OpGaussianFilter):
    """Sharpen: add to the image what smoothing takes away from it.

    Inputs
    ------
    sigma : ParameterSlot[float | tuple]
        Standard deviation, > 0; one for all spatial axes or one per axis in the order z, y, x.
    amount : ParameterSlot[float]
        The result is ``image + amount * (image - smoothed)``. It is not clipped to the range of the image.

    All else as in `OpGaussianFilter`.
    """

    sigma = sigma_slot(1.0, "standard deviation")
    amount = ParameterSlot(
        float, default=1.0, usual=(0, 5), step=0.1, check=_check_amount, doc="how much is added"
    )

    def make_filter(self, axes: Sequence[Axis]) -> Filter:
        sigma, amount = self.sigmas(self.sigma, axes), self.amount.value
        return HighPass(sigma, self.window.value, keep=1 + amount, factor=amount)


class OpBackgroundSubtraction(OpGaussianFilter):
    """Subtract the background: the image smoothed at a scale larger than the objects in it.

    For bright objects on a dark, uneven background the operation ``white_top_hat`` of `OpMorphology` is an
    alternative that leaves no dark rims.

    Inputs
    ------
    sigma : ParameterSlot[float | tuple]
        Standard deviation, > 0; one for all spatial axes or one per axis in the order z, y, x.

    All else as in `OpGaussianFilter`.
    """

    sigma = sigma_slot(10.0, "standard deviation")

    def make_filter(self, axes: Sequence[Axis]) -> Filter:
        return HighPass(self.sigmas(self.sigma, axes), self.window.value)
