"""How far float32 may be from float64, at all scales that people use: the table in docs/filters.md."""

from __future__ import annotations

import numpy as np
import pytest
from filter_cases import FILTERS, relative_error, speckled

from lazyflow_ops_filters import kernels as k

SHAPE = (60, 64, 66)
NOISE = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
# A region is enough, and keeps the reference affordable; its halo is the whole image.
REGION = tuple(slice(n // 2 - 10, n // 2 + 10) for n in SHAPE)


@pytest.mark.parametrize("sigma", [0.7, 1.0, 1.6, 3.5, 5.0, 10.0])
@pytest.mark.parametrize("name", [name for name in FILTERS if name != "derivative"])
@pytest.mark.parametrize(
    ("image", "factor"),
    # Noise around a mean far from zero: at large scales its derivatives are thousands of times smaller than
    # the image, whose rounding between the passes then shows.
    [(speckled(SHAPE), 1), (NOISE - np.float32(0.5), 2), (NOISE, 10)],
    ids=["structure", "noise", "noise on a constant"],
)
def test_the_error_stays_within_the_contract(name, sigma, image, factor, oracle):
    make, allowed = FILTERS[name]
    filter = make((sigma,) * 3)
    expected = k.run(filter, image, region=REGION, backend=oracle)
    for backend, problem, _ in k.describe_backends():
        if not problem and backend != "vigra":
            error = relative_error(k.run(filter, image, region=REGION, backend=backend), expected)
            assert error <= allowed * factor, backend
