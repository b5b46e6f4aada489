"""How exact results are: the one table behind the tests and behind the page about filters.

Errors are the largest difference anywhere, relative to the largest magnitude of all results of a filter, for
float32 images with structure and scales from 0.7 to 10.
"""

from __future__ import annotations

from typing import NamedTuple


class Tolerance(NamedTuple):
    """Largest error of a filter.

    Attributes
    ----------
    ours
        Native and scipy kernels against float64, with any border.
    vigra
        The real vigra against float64; it has only mirrored borders.
    parity
        Native and scipy kernels against the real vigra.
    noise
        How many times larger ``ours`` is where the result is much smaller than the image: for noise without
        structure, around zero or, with all but smoothing, a mean far from it. vigra is not tried there.
    single
        Native kernels with ``precision="single"`` against float64.
    """

    ours: float
    vigra: float
    parity: float
    noise: int = 1
    single: float | None = None


TOLERANCES = {
    "smoothing": Tolerance(5e-7, 5e-7, 1e-5, noise=2),
    "high pass": Tolerance(1e-6, 1e-6, 1e-5),
    "difference": Tolerance(1.5e-5, 1.5e-5, 2e-5, noise=10),
    "derivative": Tolerance(3e-6, 3e-6, 1e-5, noise=10),
    "gradient": Tolerance(3e-6, 3e-6, 1e-5, noise=10),
    "laplacian": Tolerance(3e-6, 3e-6, 1e-5, noise=10),
    "hessian": Tolerance(3e-6, 3e-6, 1e-5, noise=10),
    "hessian eigenvalues": Tolerance(3e-6, 3e-3, 3e-3, noise=10, single=2e-4),
    "structure tensor": Tolerance(3e-6, 3e-6, 1e-5),
    "structure tensor eigenvalues": Tolerance(3e-6, 3e-3, 3e-3, single=2e-4),
}

#: ``compat="ilastik"`` against ilastik's recipe written with vigra's functions, per feature, for the seven
#: scales: what is smoothed by 10 pixels has lost digits before it is derived.
ILASTIK = {
    "gaussian_smoothing": 1e-5,
    "laplacian_of_gaussian": 2e-4,
    "gaussian_gradient_magnitude": 1e-4,
    "difference_of_gaussians": 1e-3,
    "structure_tensor_eigenvalues": 3e-3,
    "hessian_of_gaussian_eigenvalues": 3e-3,
}

#: Of vigra's eigenvalues all but one in a hundred are this near to ours.
MOST_EIGENVALUES = 2e-5

_TITLES = {
    "smoothing": "Gaussian smoothing",
    "high pass": "unsharp mask, background subtraction",
    "difference": "difference of Gaussians",
    "derivative": "Gaussian derivatives",
    "gradient": "gradient magnitude",
    "laplacian": "Laplacian",
    "hessian": "Hessian",
    "hessian eigenvalues": "Hessian eigenvalues",
    "structure tensor": "structure tensor",
    "structure tensor eigenvalues": "structure tensor eigenvalues",
}


def markdown() -> str:
    """Return the table as it stands on the page about filters."""
    lines = [
        '| | native, scipy | on noise | native, `precision="single"` | vigra | ours against vigra |',
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, t in TOLERANCES.items():
        cells = [t.ours, t.ours * t.noise, t.single or t.ours, t.vigra, t.parity]
        lines.append(f"| {_TITLES[name]} | " + " | ".join(f"{c:g}" for c in cells) + " |")
    return "\n".join(lines)
