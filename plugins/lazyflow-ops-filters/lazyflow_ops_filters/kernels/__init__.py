"""Filters as plain functions: numpy in, numpy out, no operator in sight."""

from lazyflow_ops_filters.kernels.backend import Backend, Job, Region
from lazyflow_ops_filters.kernels.border import BORDERS
from lazyflow_ops_filters.kernels.filters import Filter
from lazyflow_ops_filters.kernels.functions import (
    difference_of_gaussians,
    gaussian_derivative,
    gaussian_gradient_magnitude,
    gaussian_smoothing,
    hessian_of_gaussian,
    hessian_of_gaussian_eigenvalues,
    laplacian_of_gaussian,
    run,
    structure_tensor,
    structure_tensor_eigenvalues,
)
from lazyflow_ops_filters.kernels.gaussian import kernel, largest_sigma, radius
from lazyflow_ops_filters.kernels.selection import describe_backends, get_backend

__all__ = [
    "BORDERS",
    "Backend",
    "Filter",
    "Job",
    "Region",
    "describe_backends",
    "difference_of_gaussians",
    "gaussian_derivative",
    "gaussian_gradient_magnitude",
    "gaussian_smoothing",
    "get_backend",
    "hessian_of_gaussian",
    "hessian_of_gaussian_eigenvalues",
    "kernel",
    "laplacian_of_gaussian",
    "largest_sigma",
    "radius",
    "run",
    "structure_tensor",
    "structure_tensor_eigenvalues",
]
