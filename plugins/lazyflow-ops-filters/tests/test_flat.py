"""A stack of one slice is that slice: no filter makes more of it, and none makes it 3-D."""

from __future__ import annotations

import numpy as np
import pytest
from filter_cases import speckled
from lazyflow_core import Graph
from operator_cases import OPERATORS, make


@pytest.fixture
def graph():
    with Graph() as graph:
        yield graph


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("OpHessianOfGaussian", {"sigma": (3.0, 1.0, 1.5)}),
        ("OpHessianOfGaussianEigenvalues", {"sigma": (3.0, 1.0, 1.5)}),
        ("OpStructureTensorEigenvalues", {"inner_sigma": (3.0, 1.0, 1.5)}),
        ("OpStructureTensorOrientation", {"inner_sigma": (3.0, 1.0, 1.5)}),
        ("OpGaussianGradientMagnitude", {"sigma": (3.0, 1.0, 1.5)}),
    ],
)
def test_a_stack_of_one_slice_gives_what_the_slice_gives_and_no_more_channels(name, parameters, graph):
    image = speckled((20, 21))
    stack = make(OPERATORS[name], parameters, graph, image[None], "zyx")
    plane = make(OPERATORS[name], {k: v[1:] for k, v in parameters.items()}, graph, image, "yx")
    assert stack.output.meta.channel_names == plane.output.meta.channel_names
    assert np.array_equal(stack.output.read().squeeze(), plane.output.read())


def test_where_every_axis_has_one_pixel_all_count(graph):
    tensor = make(OPERATORS["OpHessianOfGaussian"], {"sigma": 1.0}, graph, np.ones((1, 1, 1)), "zyx")
    assert tensor.output.read().tolist() == np.zeros((6, 1, 1, 1)).tolist()


def test_a_derivative_along_an_axis_of_one_pixel_is_zero(graph):
    flat = make(
        OPERATORS["OpGaussianDerivative"],
        {"order": (1, 0, 0), "sigma": 1.0},
        graph,
        speckled((1, 20, 21)),
        "zyx",
    )
    assert not flat.output.read().any()
