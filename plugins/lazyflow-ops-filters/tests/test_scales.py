"""N6: every scale of every operator, at zero, nearly zero, too large, infinite, NaN, negative.

Either a result by the agreed rule, or one error when the graph is set up that names what is wrong.
"""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from filter_cases import speckled
from lazyflow_core import Axes, Axis, Graph, ParameterSlot
from lazyflow_core.errors import NotReadyError, ParameterError, SetupError
from operator_cases import OPERATORS, make, thresholded

from lazyflow_ops_filters.features import FEATURES

SHAPE = (9, 14, 15)
INF, NAN = math.inf, math.nan

#: Parameters that must be there, or that make results differ from the image.
REQUIRED = {
    "OpGaussianDerivative": {"order": (1, 1, 1)},
    "OpStructureTensorOrientation": {"in_2d": True},
    "OpPixelFeatures": {"selection": (("gaussian_smoothing", 0.7),)},
    "OpMorphology": {"operation": "opening"},
    "OpDistanceTransform": {"largest": 3.0},
    "OpHysteresisThreshold": {"low": 0.4, "high": 1.5, "reach": 3},
    "OpBackgroundSubtraction": {"sigma": 1.0},
}

#: Parameters that are neither a scale nor a number, so that row N6 has nothing to ask of them.
NO_SCALES = {
    *("in_2d", "unit", "border", "backend", "precision", "only_largest", "compat", "shape", "operation"),
    "order",  # of derivatives, an integer: test_what_is_no_order_is_refused
}

#: Per parameter: values that are refused as such; that are too large for the image; that have a result.
SCALES = {
    **dict.fromkeys(
        ["sigma", "sigma0", "sigma1", "inner_sigma", "outer_sigma"],
        ((0.0, -1.0, INF, NAN), (50.0, 1e308), (1e-9, 5e-324)),
    ),
    "window": ((-1.0, INF, NAN), (1e3, 1e308), (0.0, 1e-9)),
    "radius": ((-1.0, INF, NAN), (20.0, 1e308), (0.0, 1e-9)),
    "percentile": ((-1.0, 100.1, INF, NAN), (), (0.0, 1e-9, 100.0)),
    "largest": ((0.0, -1.0, -INF, NAN, 1e39), (), (1e-9, 1e6, 1e38, INF)),
    "reach": ((-1.0, 1e-9, -INF, NAN), (), (0.0, 1e6, 1e308, INF)),
    "low": ((NAN, INF), (), (0.0, 1e-9, -INF, -1e308)),
    "high": ((NAN, -INF, -1.0), (), (1e308, INF)),
    "amount": ((INF, NAN, -INF, 1e39), (), (0.0, 1e-9, -1.0)),
    "selection": ((0.0, -1.0, INF, NAN), (50.0, 1e308), (1e-9, 5e-324)),
}


def scales_of(cls):
    return [n for n, d in cls.declarations.items() if isinstance(d, ParameterSlot) and n not in NO_SCALES]


def trials(which):
    """Return operator, parameter and value for every scale of every operator; features one by one."""
    return [
        pytest.param(cls, name, value, id=f"{title}-{name}-{number:g}")
        for cls in OPERATORS.values()
        for name in scales_of(cls)
        for number in SCALES.get(name, ((), (), ()))[which]
        for title, value in (
            [(feature, ((feature, number),)) for feature in FEATURES]
            if name == "selection"
            else [(cls.__name__, number)]
        )
    ]


def build(cls, graph, **parameters):
    image = thresholded(speckled(SHAPE), cls)
    return make(cls, {**REQUIRED.get(cls.__name__, {}), **parameters}, graph, image, "zyx")


@pytest.mark.parametrize("cls", OPERATORS.values())
def test_n6_every_parameter_of_every_operator_has_values_to_try(cls):
    unknown = set(scales_of(cls)) - set(SCALES)
    assert not unknown, f"{cls.__name__} needs cases for {unknown}, in SCALES or NO_SCALES"


@pytest.mark.parametrize(("cls", "name", "value"), trials(0))
def test_n6_what_is_no_scale_is_refused_once_at_setup_naming_it(cls, name, value):
    with Graph() as graph, pytest.raises((ParameterError, SetupError)) as caught:
        build(cls, graph, **{name: value})
    number = value[0][1] if name == "selection" else value
    words = str(caught.value).splitlines()[0]
    assert cls.__name__ in words
    assert name in words or "scale" in words
    assert repr(number) in words or f"{name}={number:g}" in words


@pytest.mark.parametrize("border", ["mirror", "reflect"])
@pytest.mark.parametrize(("cls", "name", "value"), trials(1))
def test_n6_a_scale_too_large_is_refused_naming_axis_size_and_the_largest_which_then_fits(
    cls, name, value, border
):
    with Graph() as graph:
        with pytest.raises(SetupError) as caught:
            build(cls, graph, **{name: value, "border": border})
        found = re.search(
            r"axis (\w) has (\d+) pixels, .*?(?:possible is |at most )([\d.e+-]+)(?:\. | pixels\))",
            str(caught.value),
        )
        axis, size, largest = found[1], int(found[2]), float(found[3])
        assert size == SHAPE["zyx".index(axis)]
        assert repr(border) in found[0]
        if name == "window":
            return  # what is named is the sigma that this window allows
        shortest = min(SHAPE[1:] if REQUIRED.get(cls.__name__, {}).get("in_2d") else SHAPE)
        assert size == shortest
        for factor, fits in ((1, True), (1.01 + 1 / size, False)):
            fitting = (
                ((value[0][0], largest * factor),)
                if name == "selection"
                else largest * factor
                if name != "radius"
                else largest + (not fits)
            )
            # Second scales that depend on none of this stay small.
            others = {n: 0.5 for n in scales_of(cls) if n.endswith("sigma") or n in ("sigma0", "sigma1")}
            parameters = {**others, name: fitting, "border": border}
            if fits:
                result = build(cls, graph, **parameters).output.read()
                assert np.isfinite(result).all()
            else:
                with pytest.raises(SetupError, match="too few"):
                    build(cls, graph, **parameters)


@pytest.mark.parametrize("border", ["nearest", "zero"])
@pytest.mark.parametrize(
    ("cls", "name", "value"), [p for p in trials(1) if "1e+308" in p.id or p.values[1] == "radius"]
)
def test_n6_borders_without_end_have_an_end_too(cls, name, value, border):
    with Graph() as graph, pytest.raises(SetupError, match=r"axis z has 9 pixels|axis y has 14") as caught:
        build(cls, graph, **{name: value, "border": border})
    assert re.search(r"the largest possible is [\d.e+-]+\.|at most [\d.e+-]+ pixels\)", str(caught.value))


@pytest.mark.parametrize("border", ["nearest", "zero"])
@pytest.mark.parametrize(
    ("cls", "name", "value"), [p for p in trials(1) if "-50" in p.id or p.id.endswith("-1000")]
)
def test_n6_at_borders_without_end_a_kernel_may_be_larger_than_the_image(cls, name, value, border):
    with Graph() as graph:
        output = build(cls, graph, **{name: value, "border": border}).output
        whole = output.read()
        assert np.isfinite(whole).all()
        assert np.array_equal(output[..., 2:5, 3:9, 7:].wait(), whole[..., 2:5, 3:9, 7:])


@pytest.mark.parametrize(("cls", "name", "value"), trials(2))
def test_n6_extreme_scales_that_mean_something_have_a_result_the_same_in_blocks(cls, name, value):
    with Graph() as graph:
        output = build(cls, graph, **{name: value}).output
        whole = output.read()
        assert whole.shape == output.meta.shape
        assert np.isfinite(whole).all()
        assert np.array_equal(output[..., 2:5, 3:9, 7:].wait(), whole[..., 2:5, 3:9, 7:])


IMAGE = speckled(SHAPE)


def central(image, order):
    """Return differences of neighbours, the derivative by the smallest kernel, away from the border."""
    for axis, n in enumerate(order):
        ahead, behind = np.roll(image, -1, axis), np.roll(image, 1, axis)
        image = [image, (ahead - behind) / 2, ahead + behind - 2 * image][n]
    return image[1:-1, 1:-1, 1:-1]


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("OpGaussianSmoothing", {"sigma": 1e-9}, [IMAGE]),
        ("OpUnsharpMask", {"sigma": 1e-9}, [IMAGE]),
        ("OpUnsharpMask", {"amount": 0.0}, [IMAGE]),
        ("OpBackgroundSubtraction", {"sigma": 1e-9}, [0 * IMAGE]),
        ("OpDifferenceOfGaussians", {"sigma0": 1e-9, "sigma1": 5e-324}, [0 * IMAGE]),
        ("OpMedian", {"radius": 0}, [IMAGE]),
        ("OpMaximum", {"radius": 0.999}, [IMAGE]),
        ("OpMorphology", {"radius": 1e-9, "operation": "closing"}, [IMAGE]),
        ("OpMorphology", {"radius": 1e-9, "operation": "white_top_hat"}, [0 * IMAGE]),
        ("OpHysteresisThreshold", {"reach": 0}, [IMAGE >= 1.5]),
        ("OpHysteresisThreshold", {"low": -INF, "high": -INF}, [IMAGE == IMAGE]),
        ("OpHysteresisThreshold", {"high": INF}, [IMAGE == INF]),
        ("OpHysteresisThreshold", {"high": 1e308}, [IMAGE == INF]),
    ],
    ids=str,
)
def test_n6_at_scale_zero_nothing_happens(name, parameters, expected):
    with Graph() as graph:
        assert np.array_equal(build(OPERATORS[name], graph, **parameters).output.read(), expected[0])


@pytest.mark.parametrize("order", [(1, 0, 0), (0, 2, 0), (1, 1, 2)], ids=str)
def test_n6_derivatives_at_a_tiny_scale_are_differences_of_neighbours(order):
    with Graph() as graph:
        operator = build(OPERATORS["OpGaussianDerivative"], graph, sigma=1e-9, order=order)
        result = operator.output[1:-1, 1:-1, 1:-1].wait()
    assert np.allclose(result, central(IMAGE.astype(float), order), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "order", [(1.5, 0, 0), (-1, 0, 0), (7, 0, 0), (NAN, 0, 0), (True, 0, 0), (1, 1)], ids=str
)
def test_what_is_no_order_is_refused(order):
    with Graph() as graph, pytest.raises((ParameterError, SetupError), match="order"):
        build(OPERATORS["OpGaussianDerivative"], graph, order=order)


@pytest.mark.parametrize(
    ("pixel", "length"), [(1e3, 5e-324), (1e-3, 1e307)], ids=["as no pixels", "as infinitely many"]
)
@pytest.mark.parametrize("name", ["OpGaussianSmoothing", "OpMedian", "OpPixelFeatures"])
def test_n6_lengths_that_come_out_as_no_number_of_pixels_are_refused_naming_the_axis(name, pixel, length):
    scale = {
        "OpGaussianSmoothing": {"sigma": length},
        "OpMedian": {"radius": length},
        "OpPixelFeatures": {"selection": (("gaussian_smoothing", length),)},
    }[name]
    axes = Axes([Axis(key, unit="um", resolution=pixel) for key in "yx"])
    with Graph() as graph, pytest.raises(SetupError, match="pixels of axis y, which are"):
        make(OPERATORS[name], {**scale, "unit": "um"}, graph, speckled((20, 20)), axes)


@pytest.mark.parametrize(("cls", "name", "value"), [p for p in trials(1) if "308" not in p.id])
def test_n6_a_change_to_a_scale_too_large_is_one_error_computes_nothing_and_changes_nothing(
    cls, name, value, monkeypatch
):
    with Graph() as graph:
        operator = build(cls, graph)
        before, meta = operator.output.read(), operator.output.meta
        computed = []
        monkeypatch.setattr(cls, "execute", lambda *arguments: computed.append(arguments))
        with pytest.raises(SetupError, match="too few"):
            getattr(operator, name).value = value
        assert operator.output.meta == meta
        assert not computed
        monkeypatch.undo()
        assert np.array_equal(operator.output.read(), before)


@pytest.mark.parametrize(("cls", "name", "value"), [p for p in trials(1) if "308" not in p.id])
def test_n6_where_the_image_comes_later_it_is_what_fails_and_no_block_can_be_asked_for(
    cls, name, value, monkeypatch
):
    computed = []
    monkeypatch.setattr(cls, "execute", lambda *arguments: computed.append(arguments))
    with Graph() as graph:
        operator = cls(graph=graph, **{**REQUIRED.get(cls.__name__, {}), name: value})
        with pytest.raises(SetupError, match="too few"):
            operator.image.assign(thresholded(IMAGE, cls))
        with pytest.raises(NotReadyError):
            operator.output.read()
    assert not computed
