"""Expressions: what they mean, which dtype comes out, and texts that are none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lazyflow_core import Graph, Roi
from lazyflow_core.errors import ParameterError, SetupError
from lazyflow_core.testing import OpRecorder

from lazyflow_ops_array.expression import OpExpression
from lazyflow_ops_array.expression_text import FUNCTIONS, ExpressionError, parse

CHANCE = np.random.default_rng(3)
A = CHANCE.integers(0, 256, (6, 7)).astype(np.uint8)
B = CHANCE.integers(0, 256, (6, 7)).astype(np.uint8)
C = CHANCE.normal(size=(6, 7)).astype(np.float32)


def computed(text, *images, **parameters):
    return OpExpression(graph=Graph(), images=images, expression=text, **parameters).output.read()


@pytest.mark.parametrize(
    ("text", "oracle"),
    [
        ("a - b", lambda a, b, c: a - b),
        ("(a - b) / (a + b)", lambda a, b, c: (a - b) / (a + b)),
        ("where(c > 0.5, b, 0)", lambda a, b, c: np.where(c > 0.5, b, 0)),
        ("b if c > 0.5 else -a", lambda a, b, c: np.where(c > 0.5, b, -a)),
        ("max(a, 3, b, c) ** 2", lambda a, b, c: np.maximum(np.maximum(a, 3), np.maximum(b, c)) ** 2),
        ("clip(a, b, 200) + (a > b)", lambda a, b, c: np.minimum(np.maximum(a, b), 200) + (a > b)),
        ("a // 7 + b % 7 - -c", lambda a, b, c: a // 7 + b % 7 + c),
        ("2 ** 3 ** 2 * a", lambda a, b, c: 512 * a),
        ("sqrt(abs(c)) + sin(pi * c)", lambda a, b, c: np.sqrt(abs(c)) + np.sin(np.pi * c)),
        ("min(a, b) + round(c)", lambda a, b, c: np.minimum(a, b) + np.rint(c)),
        ("hypot(a, b) - arctan2(a, c)", lambda a, b, c: np.hypot(a, b) - np.arctan2(a, c)),
        ("a + " * 700 + "a", lambda a, b, c: 701 * a),
    ],
)
def test_an_expression_is_what_numpy_computes_in_float64(text, oracle):
    with np.errstate(all="ignore"):
        expected = oracle(*(image.astype(np.float64) for image in (A, B, C)))
    result = computed(text, A, B, C)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "oracle"),
    [
        ("a > b", lambda a, b, c: a > b),
        ("10 < a <= b < 200", lambda a, b, c: (a > 10) & (a <= b) & (b < 200)),
        ("not a > b or a == 3", lambda a, b, c: (a <= b) | (a == 3)),
        ("(a > 9) & ~(b > 9) ^ (c > 0)", lambda a, b, c: (a > 9) & (b <= 9) ^ (c > 0)),
        ("a and not isnan(c)", lambda a, b, c: a != 0),
    ],
)
def test_a_condition_gives_ones_and_zeros(text, oracle):
    result = computed(text, A, B, C)
    assert result.dtype == np.uint8
    assert np.array_equal(result, oracle(A, B, C))


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (["u1"], "f4"),
        (["?", "i2"], "f4"),
        (["f2"], "f4"),
        (["u1", "u4"], "f8"),
        (["i8"], "f8"),
        ([">f4", "u2"], "f4"),
        (["f4", "f8"], "f8"),
    ],
)
def test_it_is_computed_in_the_smallest_float_that_holds_the_dtypes(dtypes, expected):
    images = [np.ones((2, 2), dtype) for dtype in dtypes]
    assert computed(" + ".join("ab"[: len(images)]), *images).dtype == np.dtype(expected)


def test_integers_do_not_wrap_around_and_a_dtype_is_converted_to_by_clipping():
    assert computed("a - b", A[:1], B[:1]).min() < 0
    small, large = np.array([[1, 2]], np.uint8), np.array([[3, 300]], np.uint16)
    assert computed("a - b", small, large, dtype="uint8").tolist() == [[0, 0]]
    assert computed("a * b", small, large, dtype="uint8").tolist() == [[3, 255]]
    assert computed("a / 2", np.array([[1, 3, np.nan]]), dtype="int16").tolist() == [[0, 2, 0]]
    assert computed("a > 1", small, dtype="float64").tolist() == [[0.0, 1.0]]


def test_what_has_no_result_is_nan_or_infinite_without_a_word():
    result = computed("a / (a - a)", np.array([[0.0, 1.0, -1.0]]))
    assert np.isnan(result[0, 0])
    assert result[0, 1:].tolist() == [np.inf, -np.inf]
    assert computed("a ** 9 ** 9 ** 9", np.array([[2.0, 0.5]])).tolist() == [[np.inf, 0.0]]


def test_every_function_of_the_list_works_on_pixels():
    for name, function in FUNCTIONS.items():
        text = f"{name}({', '.join(['a'] * function.least)})"
        assert computed(text, C).shape == C.shape, name


def test_an_image_that_is_not_used_is_neither_asked_nor_a_reason_for_dirt():
    graph = Graph()
    sources = [OpRecorder(graph=graph, image=image) for image in (A, B)]
    op = OpExpression(graph=graph, images=[source.output for source in sources], expression="b * 2")
    heard = []
    op.output.dirty.subscribe(lambda slot, roi: heard.append(roi))
    op.output.read(Roi((0, 0), (2, 3)))
    sources[0].output.mark_dirty()
    assert not heard
    sources[1].output.mark_dirty(Roi((1, 1), (2, 2)))
    assert heard == [Roi((1, 1), (2, 2))]
    op.expression.value = "a"
    assert heard[1] == op.output.meta.roi


def test_regions_of_any_size_agree_with_the_whole():
    image = CHANCE.normal(size=(70, 900)).astype(np.float32)
    op = OpExpression(graph=Graph(), images=[image, image], expression="exp(-a ** 2) + b")
    whole = op.output.read()
    for roi in (Roi((3, 5), (4, 6)), Roi((0, 7), (70, 890)), Roi((5, 5), (5, 9))):
        assert np.array_equal(op.output.read(roi), whole[roi.slicing])


HOSTILE = [
    *("", " ", "()", "a.__class__", "a.b", "(a).real", "__import__('os')", "a[0]", "[a]", "{a}", "{a: b}"),
    *("lambda: a", "a := b", "a = b", "a; b", "a b", "f(a)", "eval(a)", "abs", "abs(a)(b)", "abs(*a)"),
    *("abs(x=a)", "where(a)", "abs()", "True", "a is b", "a in b", "not", "a,", "(a, b)", "1", "pi + 2"),
    *("0x10 * a", "1_0 * a", "1j * a", "1if a else b", "a\x00", "a # b", "a\\\nb", "ａ", "é", "'a' * 9"),
    *("1e999 * a", "a + " + "9" * 5000, "(" * 3000 + "a" + ")" * 3000, "-" * 9000 + "a", "not " * 2000 + "a"),
    *("abs(" * 500 + "a" + ")" * 500, "a < " * 2000, "a ** " * 900 + "a", "a" * 20_000, "await a", "yield a"),
    *("a & b", "a > 1 & b", "~a", "a if b", "f'{a}'", "a @ b", "a << 1", "*a", "**a", "a..", "..."),
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_text_that_is_no_expression_is_refused_with_a_short_sentence(text):
    with pytest.raises(ExpressionError) as refused:
        parse(text)
    assert len(str(refused.value)) < 400


def test_ten_megabytes_of_text_are_refused_at_once_and_not_repeated():
    op = OpExpression(graph=Graph(), images=[A], expression="a")
    with pytest.raises(ParameterError, match="more than 10000") as refused:
        op.expression.value = "a+" * 5_000_000
    assert len(str(refused.value)) < 400
    assert np.array_equal(op.output.read(), A)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="abxe019 .+-*/%<>=!&|^~(),\n_", max_size=40))
def test_any_text_is_an_expression_or_refused(text):
    try:
        expression = parse(text)
    except ExpressionError:
        return
    images = {index: np.ones((2, 2), np.float32) for index in expression.indices}
    assert expression.evaluate(images, np.dtype(np.float32)).shape == (2, 2)


def test_images_that_do_not_fit_are_named():
    with pytest.raises(SetupError, match=r"uses 'c', but there are 2 images"):
        computed("a + c", A, B)
    with pytest.raises(SetupError, match=r"images\[1\].*another shape"):
        computed("a + b", A, B[:2])
    with pytest.raises(SetupError, match="complex"):
        computed("a + b", A, np.ones((6, 7), complex))
    assert computed("a", A, B[:2]).shape == A.shape  # which it does not use
