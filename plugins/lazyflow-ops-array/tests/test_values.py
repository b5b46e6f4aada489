"""Cast, rescale and functions: every conversion has one stated result."""

import math
from fractions import Fraction
from math import isinf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lazyflow_core import ArrayMeta, Graph
from lazyflow_core.errors import ExecuteError, ParameterError, SetupError

from lazyflow_ops_array.cast import OpCast
from lazyflow_ops_array.conversion import convert
from lazyflow_ops_array.pixel_function import FUNCTIONS, OpPixelFunction
from lazyflow_ops_array.rescale_range import OpRescaleRange

INTEGERS = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">u2", ">i4"]
FLOATS = ["f2", "f4", "f8", ">f4"]


def samples(dtype):
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind in "ui":
        b = np.iinfo(dtype)
        values = [
            b.min,
            b.min + 1,
            0,
            1,
            100,
            127,
            128,
            255,
            256,
            65535,
            65536,
            2**31,
            2**53 + 1,
            b.max - 1,
            b.max,
        ]
        return np.array([v for v in values if b.min <= v <= b.max], dtype)
    values = [0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 44.7, 127.5, 255.4, 255.5, 300.7, -129.0]
    values += [s * 2.0**e for s in (1, -1) for e in (15, 16, 31, 32, 53, 62, 63, 64, 70, 100)]
    values += [np.inf, -np.inf, np.nan]
    with np.errstate(over="ignore"):
        return np.array(values).astype(dtype)


def expected(value, dtype, overflow):
    """One pixel by Python's exact arithmetic; None where 'raise' fails."""
    bounds = np.iinfo(dtype)
    if isinstance(value, float) and not math.isfinite(value):
        if overflow == "raise":
            return None
        if overflow == "wrap" or math.isnan(value):
            return 0
        return bounds.max if value > 0 else bounds.min
    whole = round(value)
    if bounds.min <= whole <= bounds.max:
        return whole
    if overflow == "raise":
        return None
    if overflow == "wrap":
        return (whole - bounds.min) % (bounds.max - bounds.min + 1) + bounds.min
    return min(max(whole, bounds.min), bounds.max)


@pytest.mark.parametrize("overflow", ["clip", "wrap", "raise"])
@pytest.mark.parametrize("target", INTEGERS)
@pytest.mark.parametrize("source", ["?", *INTEGERS, *FLOATS])
def test_every_value_becomes_the_integer_that_the_policy_says(source, target, overflow):
    for value in samples(source):
        pixels = np.array([value], source)
        out = np.full(3, 77, target)[::2][:1]
        wanted = expected(pixels[0].item(), np.dtype(target), overflow)
        if wanted is None:
            with pytest.raises(OverflowError, match="does not fit"):
                convert(pixels, out, overflow)
        else:
            convert(pixels, out, overflow)
            assert out[0].item() == wanted, value
    # all at once, so that no value depends on its neighbours
    if overflow != "raise":
        many = samples(source)
        out = np.empty(many.shape, target)
        convert(many, out, overflow)
        assert out.tolist() == [expected(v, np.dtype(target), overflow) for v in many.tolist()]


def test_floats_that_are_too_large_for_a_narrower_one_are_clipped_and_infinities_stay():
    pixels = np.array([1e300, -1e300, np.inf, -np.inf, np.nan, 1.5])
    out = np.empty(6, np.float32)
    convert(pixels, out, "clip")
    largest = np.finfo(np.float32).max
    assert out[:4].tolist() == [largest, -largest, np.inf, -np.inf]
    assert np.isnan(out[4])
    convert(pixels, out, "wrap")
    assert out[0] == np.inf
    with pytest.raises(OverflowError, match="1e\\+300"):
        convert(pixels, out, "raise")
    half = np.empty(2, np.float16)
    convert(np.array([70000, 3]), half, "clip")
    assert half.tolist() == [65504, 3]


def test_bool_is_what_is_neither_zero_nor_nan():
    out = np.empty(4, bool)
    convert(np.array([0.0, 0.2, np.nan, -3]), out, "clip")
    assert out.tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    ("value_range", "dtype", "overflow", "after"),
    [
        ((-5.0, 300.0), "uint8", "clip", (0, 255)),
        ((0.4, 99.6), "uint8", "clip", (0, 100)),
        ((300.0, 400.0), "uint8", "clip", (255, 255)),
        ((-5.0, 3.0), "uint8", "wrap", (0, 255)),
        ((0.0, 1e300), "float32", "clip", (0.0, float(np.finfo("f4").max))),
        ((0.0, 1e300), "float32", "wrap", None),
        ((0.0, 5.0), "bool", "clip", (0, 1)),
        (None, "uint8", "clip", None),
    ],
)
def test_the_value_range_follows(value_range, dtype, overflow, after):
    cast = OpCast(graph=Graph(), dtype=dtype, overflow=overflow)
    cast.image.assign(np.zeros((2, 2)), ArrayMeta((2, 2), "f8", value_range=value_range))
    assert cast.output.meta.value_range == after


def test_raising_names_the_operator_the_region_and_the_value():
    cast = OpCast(graph=Graph(), image=np.array([[1, 999]]), dtype="uint8", overflow="raise")
    assert cast.output[:, :1].wait().tolist() == [[1]]
    with pytest.raises(ExecuteError, match=r"OpCast.output \[0:1, 0:2\].*999 does not fit uint8"):
        cast.output.read()


def test_a_dtype_that_is_none_is_refused():
    for dtype in ("uint7", "complex64", "datetime64[s]", "S5", "object"):
        with pytest.raises(ParameterError, match="dtype"):
            OpCast(graph=Graph(), dtype=dtype)
    with pytest.raises(SetupError, match="complex128"):
        OpCast(graph=Graph(), image=np.zeros((2, 2), complex), dtype="uint8")


# ---------------------------------------------------------------------------------------- rescale


@pytest.mark.parametrize("source", ["u1", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("target", ["u1", "i2", "u4", "f4"])
def test_the_ends_of_a_range_become_the_ends_of_the_other(source, target):
    image = np.array([[0, 10, 100, 110]]).astype(source)
    rescale = OpRescaleRange(graph=Graph(), image=image, from_range=(10, 100), dtype=target)
    low, high = (0, 1) if target == "f4" else (np.iinfo(target).min, np.iinfo(target).max)
    assert rescale.output.read().tolist() == [[low, low, high, high]]
    assert rescale.output.meta.value_range == (low, high)


def test_the_usual_range_is_that_of_the_meta_then_that_of_the_dtype():
    rescale = OpRescaleRange(graph=Graph(), image=np.array([[0, 255]], "u1"), dtype="float32")
    assert rescale.output.read().tolist() == [[0, 1]]
    rescale.image.assign(np.array([[0, 4]], "u1"), ArrayMeta((1, 2), "u1", value_range=(0, 8)))
    assert rescale.output.read().tolist() == [[0, 0.5]]
    with pytest.raises(SetupError, match="give from_range"):
        rescale.image.assign(np.zeros((2, 2)))


@pytest.mark.parametrize("value", [(1, 0), (0,), (0, math.inf), (0, "1"), (1, 1)])
def test_a_range_that_is_none_is_refused(value):
    with pytest.raises(ParameterError):
        OpRescaleRange(graph=Graph(), from_range=value)


def test_a_range_beyond_the_dtype_is_refused():
    with pytest.raises(SetupError, match="does not fit"):
        OpRescaleRange(graph=Graph(), image=np.zeros((2, 2), "u1"), to_range=(0, 300))


# -------------------------------------------------------------------------------------- functions


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_named_function_never_wraps_and_never_warns(name):
    image = np.array([[0, 1, 20, 80]], "u1")
    function = OpPixelFunction(graph=Graph(), image=image, function=name)
    with np.errstate(all="ignore"):
        wanted = FUNCTIONS[name](image.astype("f8"))
    assert np.allclose(function.output.read(), wanted, equal_nan=True)


def test_the_range_is_known_for_functions_that_only_rise_or_fall():
    function = OpPixelFunction(graph=Graph(), function="sqrt")
    function.image.assign(np.zeros((2, 2), "u1"), ArrayMeta((2, 2), "u1", value_range=(4, 9)))
    assert function.output.meta.value_range == (2, 3)
    function.function.value = "negative"
    assert function.output.meta.value_range == (-9, -4)
    function.function.value = "abs"
    assert function.output.meta.value_range is None
    function.function.value = "log"
    function.image.assign(np.zeros((2, 2), "u1"), ArrayMeta((2, 2), "u1", value_range=(0, 9)))
    assert function.output.meta.value_range is None


def test_a_name_that_is_none_and_a_callable_that_does_not_fit_are_refused():
    with pytest.raises(ParameterError, match="is none of abs, cos"):
        OpPixelFunction(graph=Graph(), function="__import__('os')")
    image = np.zeros((3, 3))
    with pytest.raises(SetupError, match="failed on one pixel"):
        OpPixelFunction(graph=Graph(), image=image, function=lambda pixels: pixels.nonsense)
    with pytest.raises(SetupError, match="not such an array"):
        OpPixelFunction(graph=Graph(), image=image, function=lambda pixels: 3)


RANGES = {
    "u1": (0, 255),
    "i1": (-128, 127),
    "u2": (0, 65535),
    "i4": (-90, 90),
    "u8": (0, 2**64 - 1),
    "f2": (-10.0, 10.0),
    "f4": (-3.0, 88.0),
    "f8": (0.1, 700.0),
}


@pytest.mark.parametrize("dtype", RANGES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_promised_range_holds_to_the_last_digit_in_the_dtype_of_the_pixels(name, dtype):
    low, high = RANGES[dtype]
    image = np.concatenate([np.array([low, high], dtype), np.linspace(low, high, 501)[1:-1].astype(dtype)])[
        None
    ]
    function = OpPixelFunction(graph=Graph(), function=name)
    function.image.assign(image, ArrayMeta(image.shape, image.dtype, value_range=(low, high)))
    promised = function.output.meta.value_range
    pixels = function.output.read().astype(float)
    if promised is not None:
        assert np.all(np.isfinite(promised))
        assert np.all((promised[0] <= pixels) & (pixels <= promised[1]))


def test_what_grows_beyond_float32_and_not_beyond_float64_is_float64_so_that_it_can_be_rescaled():
    image = np.array([[0, 50, 100, 255]], np.uint8)
    grown = OpPixelFunction(graph=Graph(), image=image, function="exp")
    assert grown.output.meta.dtype == np.float64
    assert np.allclose(grown.output.read(), np.exp(image.astype(float)))
    grown.image.assign(image, ArrayMeta(image.shape, image.dtype, value_range=(0, 50)))
    assert grown.output.meta.dtype == np.float32
    grown.image.assign(image, ArrayMeta(image.shape, image.dtype, value_range=(0, 255)))
    rescale = OpRescaleRange(graph=grown.graph, image=grown.output)
    assert rescale.output.read().tolist() == [[0, 0, 0, 255]]


@given(
    st.data(),
    st.sampled_from(["u1", "i2", "i8", "u8", "f4", "f8"]),
    st.sampled_from(["u1", "i8", "f4", "f8"]),
)
@settings(max_examples=300, deadline=None)
def test_rescaled_pixels_are_where_fractions_say(data, source, target):
    draw = data.draw
    number = st.floats(allow_nan=False, allow_infinity=False, width=64)
    if source[0] != "f":
        bounds = np.iinfo(source)
        number = st.one_of(
            st.integers(bounds.min, bounds.max),
            st.integers(0, 1000).map(lambda d: min(bounds.max, max(bounds.min, 2**60 + d))),
        )
    low, high = sorted(draw(st.lists(number, min_size=2, max_size=2, unique=True)))
    pixels = [low, high, *draw(st.lists(number, max_size=4))]
    with np.errstate(over="ignore"):
        image = np.array(pixels, source)[None]
    rescale = OpRescaleRange(graph=Graph(), from_range=(low, high), dtype=target)
    rescale.image.assign(image, axes="yx")
    result, (new_low, new_high) = rescale.output.read(), rescale.output.meta.value_range
    for pixel, new in zip(image[0].tolist(), result[0].tolist(), strict=True):
        if isinf(pixel):
            pixel = low if pixel < 0 else high
        part = (Fraction(pixel) - Fraction(low)) / (Fraction(high) - Fraction(low))
        part = min(max(part, Fraction(0)), Fraction(1))
        expected = new_low + part * (Fraction(new_high) - Fraction(new_low))
        error = abs(Fraction(new) - expected) / (Fraction(new_high) - Fraction(new_low))
        assert new_low <= new <= new_high
        # Half a step of an integer, or what float32 leaves.
        assert error <= (Fraction(51, 100 * 255) if target == "u1" else Fraction(1, 10**6))


@pytest.mark.parametrize("target", ["f2", "f4"])
def test_the_range_of_a_cast_is_that_of_the_rounded_pixels(target):
    image = np.array([[0.1, 0.7]])
    cast = OpCast(graph=Graph(), dtype=target)
    cast.image.assign(image, ArrayMeta((1, 2), "f8", value_range=(0.1, 0.7)))
    assert cast.output.read()[0].tolist() == list(cast.output.meta.value_range)


def test_a_range_that_a_float_dtype_cannot_hold_is_refused():
    with pytest.raises(SetupError, match="does not fit dtype float32"):
        OpRescaleRange(graph=Graph(), image=np.zeros((2, 2), "u1"), to_range=(0, 1e300), dtype="float32")
