from __future__ import annotations

import numpy as np
import pytest
from filter_cases import relative_error, speckled
from lazyflow_core import ArrayMeta, Graph, Roi
from lazyflow_core.errors import ParameterError, SetupError

from lazyflow_ops_filters import kernels as k
from lazyflow_ops_filters.features import OpPixelFeatures, feature_grid


@pytest.fixture
def graph():
    with Graph() as graph:
        yield graph


def make(graph, array, axes, **parameters):
    operator = OpPixelFeatures(graph=graph, **parameters)
    operator.image.assign(array, ArrayMeta(array.shape, array.dtype, axes))
    return operator


SMALL = feature_grid(scales=(0.3, 0.7, 1.0, 1.6))


def test_the_default_is_ilastiks_37_features_61_channels_in_3d_49_in_2d(graph):
    assert make(graph, np.zeros((80, 80, 80), np.uint8), "zyx").output.meta.shape == (61, 80, 80, 80)
    assert make(graph, np.zeros((80, 80), np.uint8), "yx").output.meta.shape == (49, 80, 80)


def expected(image, selection):
    channels = []
    for feature, s, *dimensions in selection:
        function = getattr(k, feature)
        second = {"difference_of_gaussians": [0.66 * s], "structure_tensor_eigenvalues": [0.5 * s]}
        arguments = [s, *second.get(feature, [])]
        if "2d" in dimensions:
            result = np.stack([function(plane, *arguments) for plane in image])
        else:
            result = function(image, *arguments)
        channels += list(np.moveaxis(result, -1, 0)) if result.ndim > image.ndim else [result]
    return np.stack(channels)


def test_each_channel_is_its_filter_at_that_sigma(graph):
    image = speckled((18, 20, 22))
    selection = (*SMALL, *feature_grid(scales=(1.0, 2.5), in_2d=True))
    result = make(graph, image, "zyx", selection=selection).output.read()
    # Alone and together the kernels are the same; 2-D results may differ by the order of the passes.
    assert relative_error([result], [expected(image, selection)]) <= 1e-6
    assert np.array_equal(result[:1], expected(image, selection[:1]))


def test_channels_are_named_and_follow_the_channels_of_the_image(graph):
    image = speckled((2, 30, 31))
    selection = (("laplacian_of_gaussian", 1.6), ("hessian_of_gaussian_eigenvalues", 1.0))
    operator = OpPixelFeatures(graph=graph, selection=selection)
    operator.image.assign(image, ArrayMeta(image.shape, image.dtype, "cyx", channel_names=("dapi", "gfp")))
    assert operator.output.meta.channel_names == (
        "dapi Laplacian of Gaussian (σ=1.6)",
        "dapi Hessian of Gaussian Eigenvalues (σ=1)[0]",
        "dapi Hessian of Gaussian Eigenvalues (σ=1)[1]",
        "gfp Laplacian of Gaussian (σ=1.6)",
        "gfp Hessian of Gaussian Eigenvalues (σ=1)[0]",
        "gfp Hessian of Gaussian Eigenvalues (σ=1)[1]",
    )
    result = operator.output.read()
    for c in range(2):
        assert np.array_equal(result[3 * c : 3 * c + 3], expected(image[c], selection))


def test_features_of_channels_without_names_are_told_apart_by_number(graph):
    image = speckled((2, 30, 31))
    selection = (("laplacian_of_gaussian", 1.6), ("gaussian_gradient_magnitude", 1.0))
    operator = OpPixelFeatures(graph=graph, selection=selection)
    operator.image.assign(image, ArrayMeta(image.shape, image.dtype, "cyx"))
    assert operator.output.meta.channel_names == (
        "0 Laplacian of Gaussian (σ=1.6)",
        "0 Gaussian Gradient Magnitude (σ=1)",
        "1 Laplacian of Gaussian (σ=1.6)",
        "1 Gaussian Gradient Magnitude (σ=1)",
    )


@pytest.mark.parametrize("axes", ["zyx", "zyxc"])
def test_any_region_and_any_channels_have_the_bits_of_the_whole(axes, graph):
    image = speckled((17, 18, 19, 2)[: len(axes)])
    operator = make(graph, image, axes, selection=SMALL)
    whole = operator.output.read()
    rng = np.random.default_rng(1)
    for _ in range(15):
        start = [int(rng.integers(0, n)) for n in whole.shape]
        stop = [int(rng.integers(a + 1, n + 1)) for a, n in zip(start, whole.shape, strict=True)]
        roi = Roi(start, stop)
        assert np.array_equal(operator.output.read(roi), whole[roi.slicing])


def test_a_request_for_few_channels_runs_only_their_filters(graph, monkeypatch):
    ran = []

    class Counting(type(k.get_backend("scipy"))):
        def apply(self, filter, job):
            ran.append(type(filter).__name__)
            super().apply(filter, job)

    monkeypatch.setattr("lazyflow_ops_filters.base.get_backend", lambda name: Counting())
    operator = make(graph, speckled((30, 30)), "yx", selection=SMALL)
    index = [name.startswith("Laplacian") for name in operator.output.meta.channel_names].index(True)
    operator.output[index].wait()
    assert ran == ["FilterSet", "LaplacianOfGaussian"]


def test_each_feature_is_an_output_of_its_own_with_its_own_halo(graph):
    image = speckled((30, 31))
    selection = (
        ("gaussian_smoothing", 0.7),
        ("structure_tensor_eigenvalues", 2.0),
        ("gaussian_smoothing", 1.6),
    )
    operator = make(graph, image, "yx", selection=selection)
    whole = operator.output.read()
    first = 0
    for feature, count in zip(operator.features, (1, 2, 1), strict=True):
        channels = slice(first, first + count)
        result = feature.read()
        assert np.array_equal(result, whole[channels] if count > 1 else whole[first])
        if count > 1:
            assert feature.meta.channel_names == operator.output.meta.channel_names[channels]
        first += count
    assert np.array_equal(operator.features[1][:, 3:9, 20:].wait(), whole[1:3, 3:9, 20:])

    told = []
    operator.features[0].dirty.subscribe(lambda slot, roi: told.append(roi))
    operator.image.mark_dirty(Roi((10, 10), (11, 11)))
    assert told == [Roi((8, 8), (13, 13))]
    operator.selection.value = selection[:2]
    assert len(operator.features) == 2


def test_a_selection_can_be_lists_as_in_a_pipeline_file(graph):
    image = speckled((30, 30))
    operator = make(graph, image, "yx", selection=[["gaussian_smoothing", 1], ["laplacian_of_gaussian", 1.6]])
    expected_channels = expected(image, (("gaussian_smoothing", 1.0), ("laplacian_of_gaussian", 1.6)))
    assert np.array_equal(operator.output.read(), expected_channels)


def test_all_that_does_not_fit_is_named_at_once_with_axis_size_and_what_would_fit(graph):
    with pytest.raises(SetupError) as refused:
        make(graph, np.zeros((9, 80, 30)), "zyx")
    text = str(refused.value)
    assert "axis z has 9 pixels" in text
    assert "axis x has 30 pixels" in text
    assert "axis y" not in text
    assert "Gaussian Smoothing (at most 2.833 pixels) at 3.5, 5, 10; Laplacian of" in text
    assert "Hessian of Gaussian Eigenvalues (at most 7.374 pixels) at 10." in text
    # What is left when all of it is taken out fits.
    kept = [(f, s) for f, s in feature_grid() if s < 3.5]
    make(graph, np.zeros((9, 80, 30)), "zyx", selection=tuple(kept))
    flat = tuple((f, s, "2d") for f, s in feature_grid(scales=[3.5, 5.0]))
    make(graph, np.zeros((9, 80, 30)), "zyx", selection=(*kept, *flat))
    with pytest.raises(SetupError, match=r"border='mirror' for Gaussian Smoothing at 3\.5, 5, 10; Lap.*'2d'"):
        make(graph, np.zeros((9, 80, 80)), "zyx", compat="ilastik")


@pytest.mark.parametrize("compat", ["none", "ilastik", "ilastik-vigra"])
@pytest.mark.parametrize(
    ("axes", "shape"), [("zyx", (1, 80, 90)), ("tzyxc", (1, 1, 80, 90, 1)), ("xyz", (80, 90, 1))]
)
def test_a_stack_of_one_slice_has_the_49_channels_of_the_slice(axes, shape, compat, graph):
    image = speckled(shape)
    stack = make(graph, image, axes, compat=compat)
    plane = make(graph, image.squeeze(), axes.replace("z", "").strip("tc"), compat=compat)
    assert stack.output.meta.axis_length("c") == 49
    assert stack.output.meta.channel_names == plane.output.meta.channel_names
    result = np.moveaxis(stack.output.read(), stack.output.meta.axes.index("c"), 0).squeeze()
    assert np.array_equal(result, plane.output.read())


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        ((), "selects nothing"),
        ((("gausian_smoothing", 1.0),), "unknown feature 'gausian_smoothing'"),
        ((("gaussian_smoothing", 0),), "scale 0, which is not a positive number"),
        ((("gaussian_smoothing", 1.0, "4d"),), "'4d'"),
        (("gaussian_smoothing", 1.0), "holds 'gaussian_smoothing'; an entry is"),
    ],
)
def test_a_selection_that_makes_no_sense_is_refused(selection, words, graph):
    with pytest.raises(ParameterError, match=words):
        OpPixelFeatures(graph=graph, selection=selection)


def ilastik(image, scale, window=2.0):
    """Return ilastik's features of one scale, by the recipe: one presmoothing, then all at sigma <= 1."""
    before = np.sqrt(scale**2 - 1) if scale > 1 else scale
    s = min(scale, 1.0)
    smooth = k.gaussian_smoothing(image, before, window=3.5)
    return np.stack(
        [
            k.gaussian_smoothing(smooth, s, window=window),
            k.laplacian_of_gaussian(smooth, s, window=window),
            k.gaussian_gradient_magnitude(smooth, s, window=window),
            k.difference_of_gaussians(smooth, s, 0.66 * s, window=window),
            *np.moveaxis(k.structure_tensor_eigenvalues(smooth, 0.5 * s, s, window=window), -1, 0),
            *np.moveaxis(k.hessian_of_gaussian_eigenvalues(smooth, s, window=window), -1, 0),
        ]
    )


@pytest.mark.parametrize("scale", [0.7, 1.0, 1.6, 3.5])
def test_ilastiks_values_are_reproduced_including_swapped_tensor_scales(scale, graph):
    image = speckled((24, 25, 26))
    operator = make(graph, image, "zyx", selection=feature_grid(scales=[scale]), compat="ilastik")
    assert np.array_equal(operator.output.read(), ilastik(image, scale))
    block = Roi((2, 3, 0, 20), (10, 9, 7, 26))
    assert np.array_equal(operator.output.read(block), ilastik(image, scale)[block.slicing])
