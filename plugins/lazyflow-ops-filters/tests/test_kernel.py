from __future__ import annotations

from math import factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyflow_ops_filters.kernels import kernel, largest_sigma, radius
from lazyflow_ops_filters.kernels.gaussian import MAX_ORDER

sigmas = st.floats(1e-12, 40)
orders = st.integers(0, MAX_ORDER)
windows = st.just(0.0) | st.floats(1, 6)


@given(sigmas, orders, windows)
def test_a_kernel_ignores_constants_and_measures_its_monomial_exactly(sigma, order, window):
    weights = kernel(sigma, order, window)
    x = np.arange(len(weights)) - len(weights) // 2
    size = np.abs(weights).sum()
    assert weights.sum() == pytest.approx(0 if order else 1, abs=1e-13 * size)
    assert weights @ x.astype(float) ** order == pytest.approx(factorial(order), rel=1e-9)


@given(sigmas, orders, windows)
def test_even_kernels_are_symmetric_and_odd_ones_antisymmetric(sigma, order, window):
    weights = kernel(sigma, order, window)
    assert np.array_equal(weights, weights[::-1] * (-1) ** order)


@given(st.floats(0.3, 20), st.integers(0, 2))
def test_the_radius_is_vigras(sigma, order):
    assert radius(sigma, order) == max(1, int((3 + 0.5 * order) * sigma + 0.5))
    assert radius(sigma, order, 2.0) == max(1, int(2.0 * sigma + 0.5))


@given(st.integers(1, 200), orders, windows)
def test_the_largest_sigma_fits_and_a_larger_one_does_not(reach, order, window):
    sigma = largest_sigma(reach, order, window)
    if sigma:
        assert radius(sigma, order, window) <= reach < radius(sigma + 0.002, order, window)
    else:
        assert radius(1e-9, order, window) > reach


@given(st.integers(1, 10**6), st.integers(0, 2), windows | st.sampled_from([1e-9, 40.0, 1e3, 1e300]))
def test_the_largest_sigma_as_messages_show_it_fits_and_one_a_hundredth_larger_does_not(reach, order, window):
    shown = float(f"{largest_sigma(reach, order, window):g}")
    assert radius(shown, order, window) <= reach < radius(1.01 * shown + 0.001, order, window)


def test_a_sigma_too_large_for_floats_has_a_radius_beyond_any_image():
    assert radius(1e308) > 1e18
    assert radius(1e308, 2, 1e308) > 1e18


@pytest.mark.parametrize("sigma", [0, -1.0, float("nan"), float("inf")])
def test_what_is_no_sigma_is_refused(sigma):
    with pytest.raises(ValueError, match="not a positive number"):
        kernel(sigma)


def test_nobody_can_change_a_kernel_for_everybody():
    with pytest.raises(ValueError, match="read-only"):
        kernel(1.0)[0] = 3


def test_second_derivative_of_a_parabola_is_exact():
    x = np.arange(40.0)
    result = np.correlate(3 * x**2 + 5 * x + 7, kernel(1.7, 2), mode="valid")
    assert result == pytest.approx(6.0)
