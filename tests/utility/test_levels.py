"""Pixels are compared with a level as Python compares numbers."""

from fractions import Fraction
from math import inf, isinf, isnan, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn

from lazyflow_core.utility import is_above

DTYPES = ["?", "u1", "i1", ">u2", "i4", "u8", "i8", ">i8", "f2", "f4", ">f4", "f8"]


def above(pixel, level, or_equal):
    """Compare as numbers: a `Fraction` is exact, and infinities are the ends."""
    if isnan(level) or pixel != pixel:
        return False
    if isinf(level) or isinf(pixel):
        a, b = float(pixel), float(level)
        if isinf(b) and not isinf(a):
            return b < 0
        return a >= b if or_equal else a > b
    a, b = Fraction(pixel), Fraction(level)
    return a >= b if or_equal else a > b


LEVELS = st.one_of(
    st.floats(allow_nan=True),
    st.floats(-300, 300),
    st.integers(-3, 3).map(float),
    st.sampled_from([2.0**k + d for k in (7, 8, 15, 16, 31, 32, 53, 63, 64) for d in (-1, 0, 1)]),
    st.sampled_from([65504.0, 65519.0, 65520.0, 7e4, 1e300, -1e300, 3.4028235677973366e38, inf, -inf, nan]),
)


@given(st.data(), st.sampled_from(DTYPES), LEVELS, st.booleans())
@settings(max_examples=400, deadline=None)
def test_every_dtype_is_compared_as_numbers_are(data, dtype, level, or_equal):
    image = data.draw(hn.arrays(np.dtype(dtype), st.integers(0, 6)))
    if image.dtype.kind in "iu" and np.isfinite(level) and image.size:
        # Its neighbours are where it goes wrong.
        bounds = np.iinfo(image.dtype)
        image[0] = min(max(int(level) + data.draw(st.integers(-1, 1)), bounds.min), bounds.max)
    if image.dtype.kind == "f" and not isnan(level):
        with np.errstate(over="ignore"):
            nearest = float(image.dtype.type(level))
        if not isinf(nearest):
            level = nearest  # what a level between two numbers means
    result = is_above(image, level, or_equal=or_equal)
    assert result.tolist() == [above(pixel, level, or_equal) for pixel in image.tolist()]
    out = np.full((image.size, 2), 7, np.uint8)
    is_above(image, level, or_equal=or_equal, out=out[:, 0])
    assert np.array_equal(out[:, 0], result)
    assert (out[:, 1] == 7).all()


@pytest.mark.parametrize("level", [0.1, 0.7])
def test_a_pixel_that_shows_as_the_level_is_equal_to_it(level):
    image = np.array([level], np.float32)
    assert not is_above(image, level)[0]
    assert is_above(image, level, or_equal=True)[0]
