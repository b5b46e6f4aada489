"""Tensors of derivatives and what they say about shapes: Hessian, structure tensor, any derivative."""

from __future__ import annotations

from collections.abc import Sequence

from lazyflow_core import Axis, ParameterSlot
from lazyflow_core.errors import SetupError

from lazyflow_ops_filters.base import OpGaussianFilter, precision_slot, sigma_slot
from lazyflow_ops_filters.kernels.filters import (
    Filter,
    GaussianDerivative,
    HessianOfGaussian,
    HessianOfGaussianEigenvalues,
    StructureTensorEigenvalues,
    StructureTensorOrientation,
)
from lazyflow_ops_filters.kernels.gaussian import MAX_ORDER

__all__ = [
    "OpGaussianDerivative",
    "OpHessianOfGaussian",
    "OpHessianOfGaussianEigenvalues",
    "OpStructureTensorEigenvalues",
    "OpStructureTensorOrientation",
]


def _check_order(value: tuple[int, ...]) -> str | None:
    for order in value:
        if isinstance(order, bool) or not isinstance(order, int) or not 0 <= order <= MAX_ORDER:
            return f"holds {order!r}, which is not an integer between 0 and {MAX_ORDER}"
    return None


class OpGaussianDerivative(OpGaussianFilter):
    """Derive the smoothed image, any number of times along each axis.

    Inputs
    ------
    sigma : ParameterSlot[float | tuple]
        Standard deviation, > 0; one for all spatial axes or one per axis in the order z, y, x.
    order : ParameterSlot[tuple]
        How often to derive along each filtered axis, in the order z, y, x; required.

    All else as in `OpGaussianFilter`. Derivatives are per pixel, whatever the unit of ``sigma``.
    """

    scratch = 3

    sigma = sigma_slot(1.0, "standard deviation")
    order = ParameterSlot(tuple, check=_check_order, doc="how often to derive along z, y, x")

    def make_filter(self, axes: Sequence[Axis]) -> Filter:
        numbers = iter(self.per_axis(self.order, axes))
        order = tuple(int(next(numbers)) if self.filters(axis) else 0 for axis in axes)
        # Along an axis of one pixel a derivative is zero, whatever the sigma.
        sigma = tuple(
            1.0 if s is None and n else s for s, n in zip(self.sigmas(self.sigma, axes), order, strict=True)
        )
        return GaussianDerivative(sigma, self.window.value, order=order)


class OpHessianOfGaussian(OpGaussianFilter):
    """Compute all second derivatives of the smoothed image.

    Inputs
    ------
    sigma : ParameterSlot[float | tuple]
        Standard deviation, > 0; one for all spatial axes or one per axis in the order z, y, x.

    Outputs
    -------
    output : OutputSlot
        The upper triangle of the Hessian as channels: ``zz zy zx yy yx xx``, or ``yy yx xx`` of a
        plane.

    All else as in `OpGaussianFilter`.
    """

    scratch = 3

    sigma = sigma_slot(1.0, "standard deviation")

    def make_filter(self, axes: Sequence[Axis]) -> Filter:
        return HessianOfGaussian(self.sigmas(self.sigma, axes), self.window.value)


class OpHessianOfGaussianEigenvalues(OpGaussianFilter):
    """Compute how the smoothed image curves: the eigenvalues of its Hessian, largest first.

    A bright line has one eigenvalue near 0 and the others below it, a bright blob has all below 0.

    Inputs
    ------
    sigma : ParameterSlot[float | tuple]
        Standard deviation, > 0; one for all spatial axes or one per axis in the order z, y, x.
    only_largest : ParameterSlot[bool]
        Give the largest eigenvalue alone.
    precision : ParameterSlot[str]
        How exact eigenvalues of 3×3 matrices are at least: ``"double"``, to 3e-6 of the largest magnitude, or
        ``"single"``, to 2e-4 and faster with the native kernels. The other kernels, and planes, make no
        difference.

    Outputs
    -------
    output : OutputSlot
        One channel per filtered axis of more than one pixel, or a single one.

    All else as in `OpGaussianFilter`.
    """

    scratch = 14

    sigma = sigma_slot(1.0, "standard deviation")
    only_largest = ParameterSlot(bool, default=False, doc="give the largest eigenvalue alone")
    precision = precision_slot()

    def make_filter(self, axes: Sequence[Axis]) -> Filter:
        return HessianOfGaussianEigenvalues(
            self.sigmas(self.sigma, axes),
            self.window.value,
            only_largest=self.only_largest.value,
            precision=self.precision.value,
        )


class _OpStructureTensor(OpGaussianFilter):
    """What the filters of the structure tensor share."""

    scratch = 14

    inner_sigma = sigma_slot(1.0, "scale of the gradient")
    outer_sigma = sigma_slot(0.5, "scale of the averaging")


class OpStructureTensorEigenvalues(_OpStructureTensor):
    """Compute how strongly the image changes around a pixel, along the directions in which it does.

    Inputs
    ------
    inner_sigma : ParameterSlot[float | tuple]
        Scale of the gradient, > 0; one for all spatial axes or one per axis in the order z, y, x.
    outer_sigma : ParameterSlot[float | tuple]
        Scale at which products of the gradient's components are averaged.
    precision : ParameterSlot[str]
        How exact eigenvalues of 3×3 matrices are at least: ``"double"``, to 3e-6 of the largest magnitude, or
        ``"single"``, to 2e-4 and faster with the native kernels. The other kernels, and planes, make no
        difference.

    Outputs
    -------
    output : OutputSlot
        The eigenvalues as channels, largest first, one per filtered axis of more than one pixel.

    All else as in `OpGaussianFilter`.
    """

    precision = precision_slot()

    def make_filter(self, axes: Sequence[Axis]) -> Filter:
        return StructureTensorEigenvalues(
            self.sigmas(self.inner_sigma, axes),
            self.window.value,
            outer=self.sigmas(self.outer_sigma, axes),
            precision=self.precision.value,
        )


class OpStructureTensorOrientation(_OpStructureTensor):
    """Compute in which direction the image changes most in a plane, and how consistently.

    Inputs
    ------
    inner_sigma, outer_sigma : ParameterSlot[float | tuple]
        As in `OpStructureTensorEigenvalues`. A volume needs ``in_2d=True``: slice by slice.

    Outputs
    -------
    output : OutputSlot
        Channel ``coherence``: 0 (no direction prevails) to 1 (all gradients parallel). Channel
        ``orientation``: radians from x towards y, in (-π/2, π/2].

    All else as in `OpGaussianFilter`.
    """

    scratch = 17

    def make_filter(self, axes: Sequence[Axis]) -> Filter:
        used = self.extended(axes)
        if sum(used) < 2:  # a plane of one row
            used = [self.filters(axis) for axis in axes]
        if sum(used) != 2:
            raise SetupError(
                "an orientation is an angle in a plane; use in_2d=True to go through z slice by slice."
            )
        # Along an axis of one pixel nothing changes, whatever the sigma.
        inner, outer = (
            tuple(1.0 if u and s is None else s for u, s in zip(used, self.sigmas(slot, axes), strict=True))
            for slot in (self.inner_sigma, self.outer_sigma)
        )
        return StructureTensorOrientation(inner, self.window.value, outer=outer)
