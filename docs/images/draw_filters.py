"""Draw the pictures of ``docs/filters.md``: a plane of the ovule volume under each filter.

    python docs/images/draw_filters.py

Needs h5py and Pillow besides core, filters and io. Each picture is the middle plane of a result that was
computed in 3-D by the operator, twice enlarged.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from lazyflow_core import Graph, get_operator

HERE = Path(__file__).parent
VOLUME = HERE.parents[1] / "examples" / "data" / "sample_ovule.h5"

#: File name, operator, parameters, which channel, how it is shown.
PICTURES = [
    ("gaussian_smoothing", "gaussian_smoothing", {"sigma": 2.0}, 0, "grey"),
    ("difference_of_gaussians", "difference_of_gaussians", {"sigma0": 1.0, "sigma1": 2.0}, 0, "signed"),
    ("unsharp_mask", "unsharp_mask", {"sigma": 1.5, "amount": 1.5}, 0, "grey"),
    ("background_subtraction", "background_subtraction", {"sigma": 8.0, "in_2d": True}, 0, "signed"),
    ("gaussian_gradient_magnitude", "gaussian_gradient_magnitude", {"sigma": 1.0}, 0, "grey"),
    ("laplacian_of_gaussian", "laplacian_of_gaussian", {"sigma": 2.0}, 0, "signed"),
    ("gaussian_derivative", "gaussian_derivative", {"sigma": 1.0, "order": (0, 0, 1)}, 0, "signed"),
    ("hessian_of_gaussian", "hessian_of_gaussian", {"sigma": 1.5}, 5, "signed"),
    ("hessian_of_gaussian_eigenvalues", "hessian_of_gaussian_eigenvalues", {"sigma": 1.5}, 2, "signed"),
    (
        "structure_tensor_eigenvalues",
        "structure_tensor_eigenvalues",
        {"inner_sigma": 1.0, "outer_sigma": 2.0},
        0,
        "root",
    ),
    (
        "structure_tensor_orientation",
        "structure_tensor_orientation",
        {"inner_sigma": 1.0, "outer_sigma": 2.0, "in_2d": True},
        None,
        "angle",
    ),
    ("median", "median", {"radius": 2, "shape": "ball"}, 0, "grey"),
    ("minimum", "minimum", {"radius": 2, "in_2d": True}, 0, "grey"),
    ("maximum", "maximum", {"radius": 2, "in_2d": True}, 0, "grey"),
    ("percentile", "percentile", {"radius": 3, "percentile": 25, "in_2d": True}, 0, "grey"),
    ("morphology", "morphology", {"radius": 4, "operation": "white_top_hat", "in_2d": True}, 0, "grey"),
    ("hysteresis_threshold", "hysteresis_threshold", {"low": 110, "high": 160, "reach": 20}, 0, "grey"),
    ("otsu_threshold", "otsu_threshold", {}, 0, "grey"),
    ("distance_transform", "distance_transform", {"largest": 8.0}, 0, "grey"),
    (
        "pixel_features",
        "pixel_features",
        {"selection": (("hessian_of_gaussian_eigenvalues", 3.0),)},
        2,
        "signed",
    ),
]


def shown(plane: np.ndarray, how: str) -> Image.Image:
    """Return a plane as a picture: dark to bright, grey for zero, or hue for an angle."""
    if how == "angle":
        coherence, angle = plane
        hue = (angle / np.pi % 1) * 255
        channels = [hue, np.full_like(hue, 200), np.sqrt(coherence) * 255]
        picture = Image.fromarray(np.stack(channels, -1).astype(np.uint8), "HSV").convert("RGB")
    else:
        plane = plane.astype(float)
        if how == "root":
            plane = np.sqrt(np.maximum(plane, 0))
        low, high = np.quantile(plane, [0.005, 0.995])
        if how == "signed":
            high = max(abs(low), abs(high))
            low = -high
        values = np.clip((plane - low) / max(high - low, 1e-9), 0, 1) * 255
        picture = Image.fromarray(values.round().astype(np.uint8))
    return picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.BICUBIC)


def main() -> None:
    with Graph() as graph:
        raw = get_operator("io.read")(graph=graph, path=str(VOLUME), dataset="raw").output
        middle = raw.meta.shape[0] // 2
        shown(raw[middle].wait()[0], "grey").save(HERE / "filters_image.png", optimize=True)
        for name, operator, parameters, channel, how in PICTURES:
            image = raw
            if name == "distance_transform":
                smooth = get_operator("filters.gaussian_smoothing")(graph=graph, image=raw, sigma=1.5)
                level = {"low": 110.0, "high": 110.0, "reach": 0}
                image = get_operator("filters.hysteresis_threshold")(
                    graph=graph, image=smooth.output, **level
                )
                image = image.output
            result = get_operator(f"filters.{operator}")(graph=graph, image=image, **parameters)
            plane = result.output[..., middle, :, :].wait()[..., 0, :, :]
            if plane.ndim == 3 and channel is not None:
                plane = plane[channel]
            shown(plane, how).save(HERE / f"filters_{name}.png", optimize=True)


if __name__ == "__main__":
    main()
