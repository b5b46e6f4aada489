"""The real vigra: same numbers as ours, and nobody uses it unasked."""

from __future__ import annotations

import numpy as np
import pytest
from filter_cases import FILTERS, relative_error, speckled
from tolerances import MOST_EIGENVALUES, TOLERANCES

from lazyflow_ops_filters import kernels as k

vigra = pytest.importorskip("vigra", exc_type=Exception)


@pytest.mark.parametrize("window", [0.0, 2.0, 3.5])
@pytest.mark.parametrize("sigma", [0.3, 0.7, 1.0, 1.6, 3.5])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_our_1d_kernels_are_vigras(sigma, order, window):
    theirs = vigra.filters.Kernel1D()
    # Without a window vigra's class takes that of smoothing; its filters take 3 + order / 2, as we do.
    theirs.initGaussianDerivative(sigma, order, 1.0, window or 3 + 0.5 * order)
    reach = theirs.right()
    ours = k.kernel(sigma, order, window)
    assert reach == len(ours) // 2
    assert np.allclose(ours, [theirs[i] for i in range(reach, -reach - 1, -1)], atol=1e-12)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("sigma", [0.7, 1.0, 1.6])
@pytest.mark.parametrize("shape", [(40, 43), (22, 25, 27)], ids=str)
def test_our_results_are_vigras(name, sigma, shape):
    image = speckled(shape)
    filter = FILTERS[name]((sigma,) * len(shape))
    theirs = k.run(filter, image, backend="vigra")
    for other, _, _ in (b for b in k.describe_backends() if not b[1] and b[0] != "vigra"):
        ours = k.run(filter, image, backend=other)
        assert relative_error(ours, theirs) <= TOLERANCES[name].parity
        scale = max(float(np.abs(r).max()) for r in theirs)
        far = [np.abs(a - b) > MOST_EIGENVALUES * scale for a, b in zip(ours, theirs, strict=True)]
        assert np.mean(far) <= 0.01


def test_the_vigra_backend_really_runs_vigra(monkeypatch):
    def refuse(*arguments, **keywords):
        raise RuntimeError("vigra was called")

    monkeypatch.setattr(vigra.filters, "gaussianSmoothing", refuse)
    image = speckled((20, 20))
    with pytest.raises(RuntimeError, match="vigra was called"):
        k.gaussian_smoothing(image, 1.0, backend="vigra")
    k.gaussian_smoothing(image, 1.0)  # and no other does
