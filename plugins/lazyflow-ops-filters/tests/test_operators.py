"""The operators in a graph: axes, regions, dirtiness, metadata, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from filter_cases import relative_error, speckled
from hypothesis import given, settings
from hypothesis import strategies as st
from lazyflow_core import ArrayMeta, Axes, Axis, Graph, Roi
from lazyflow_core.errors import ParameterError, SetupError

from lazyflow_ops_filters import kernels as k
from lazyflow_ops_filters.edges import OpGaussianGradientMagnitude, OpLaplacianOfGaussian
from lazyflow_ops_filters.smoothing import OpDifferenceOfGaussians, OpGaussianSmoothing
from lazyflow_ops_filters.tensor import OpHessianOfGaussianEigenvalues, OpStructureTensorEigenvalues

OPERATORS = {
    OpGaussianSmoothing: lambda a: k.gaussian_smoothing(a, 1.0),
    OpDifferenceOfGaussians: lambda a: k.difference_of_gaussians(a, 1.0, 1.6),
    OpGaussianGradientMagnitude: lambda a: k.gaussian_gradient_magnitude(a, 1.0),
    OpLaplacianOfGaussian: lambda a: k.laplacian_of_gaussian(a, 1.0),
}


@pytest.fixture
def graph():
    with Graph() as graph:
        yield graph


def make(cls, graph, array, axes=None, parameters=None, **meta):
    operator = cls(graph=graph, **(parameters or {}))
    operator.image.assign(array, ArrayMeta(array.shape, array.dtype, axes, **meta))
    return operator


@pytest.mark.parametrize("cls", OPERATORS)
def test_a_whole_volume_is_what_the_function_gives(cls, graph):
    image = speckled((18, 20, 22))
    operator = make(cls, graph, image, "zyx")
    assert np.array_equal(operator.output.read(), OPERATORS[cls](image))


@pytest.mark.parametrize("axes", ["tzyxc", "xyzct", "ctxzy", "cyxtz"])
@pytest.mark.parametrize("cls", OPERATORS)
def test_axes_stand_in_any_order_and_time_and_channels_are_looped_over(cls, axes, graph):
    image = speckled((2, 11, 12, 13, 3))
    expected = np.empty_like(image)
    for t in range(2):
        for c in range(3):
            expected[t, ..., c] = OPERATORS[cls](np.ascontiguousarray(image[t, ..., c]))
    order = ["tzyxc".index(key) for key in axes]
    operator = make(cls, graph, image.transpose(order), axes)
    assert operator.output.meta.axes.keys == axes
    assert np.array_equal(operator.output.read(), expected.transpose(order))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_region_equals_the_crop_of_the_whole(data):
    cls = data.draw(st.sampled_from(list(OPERATORS)))
    axes = data.draw(st.sampled_from(["yx", "xyc", "zyx", "tyxc", "czyx"]))
    shape = tuple(
        data.draw(st.integers(1, 3) if key in "tc" else st.sampled_from([1, *range(8, 20)])) for key in axes
    )
    image = speckled(shape)
    start = [data.draw(st.integers(0, n)) for n in shape]
    roi = Roi(start, [data.draw(st.integers(a, n)) for a, n in zip(start, shape, strict=True)])
    with Graph() as graph:
        operator = make(cls, graph, image, axes)
        whole = operator.output.read()
        assert np.array_equal(operator.output.read(roi), whole[roi.slicing])


@pytest.mark.parametrize("cls", OPERATORS)
def test_every_changed_pixel_is_in_the_dirty_region_and_no_more_is_asked_for(cls, graph):
    before = speckled((30, 30))
    after = before.copy()
    changed = Roi((12, 14), (14, 15))
    after[changed.slicing] += 5
    operator = make(cls, graph, before, "yx")
    told = []
    operator.output.dirty.subscribe(lambda slot, roi: told.append(roi))
    first = operator.output.read()
    operator.image.mark_dirty(changed)
    second = make(cls, graph, after, "yx").output.read()
    (roi,) = told
    outside = first != second
    outside[roi.slicing] = False
    assert not outside.any()
    assert roi == changed.with_halo(
        operator.make_filter([*Axes("yx")]).halo((30, 30)), Roi.from_shape((30, 30))
    )


def test_a_new_sigma_makes_everything_dirty(graph):
    operator = make(OpGaussianSmoothing, graph, speckled((30, 30)), "yx")
    told = []
    operator.output.dirty.subscribe(lambda slot, roi: told.append(roi))
    operator.sigma.value = 2.0
    assert told == [Roi((0, 0), (30, 30))]


def test_slices_are_filtered_one_by_one_in_2d(graph):
    image = speckled((5, 30, 31))
    operator = make(OpGaussianSmoothing, graph, image, "zyx", {"in_2d": True, "sigma": 2.0})
    expected = np.stack([k.gaussian_smoothing(plane, 2.0) for plane in image])
    assert np.array_equal(operator.output.read(), expected)


def test_each_axis_has_its_sigma_in_the_order_z_y_x(graph):
    image = speckled((20, 21, 22))
    operator = make(OpGaussianSmoothing, graph, image.transpose(), "xyz", {"sigma": (0.5, 1.0, 2.0)})
    assert np.array_equal(operator.output.read().transpose(), k.gaussian_smoothing(image, (0.5, 1.0, 2.0)))


def test_sigma_in_micrometers_follows_the_pixel_size(graph):
    image = speckled((20, 30, 30))
    axes = Axes(
        [
            Axis("z", unit="micrometer", resolution=0.5),
            *(Axis(key, unit="nm", resolution=250) for key in "yx"),
        ]
    )
    operator = make(OpGaussianSmoothing, graph, image, axes, {"sigma": 0.75, "unit": "micrometer"})
    assert np.array_equal(operator.output.read(), k.gaussian_smoothing(image, (1.5, 3.0, 3.0)))
    assert operator.output.meta.axes == axes


def test_integers_are_not_rounded_on_the_way(graph, oracle):
    image = (speckled((30, 30)) * 10).astype(np.uint8)
    operator = make(OpGaussianSmoothing, graph, image, "yx", value_range=(0, 255))
    assert operator.output.meta.dtype == np.float32
    expected = k.gaussian_smoothing(image.astype(float), 1.0, backend=oracle)
    assert relative_error([operator.output.read()], [expected]) <= 5e-7


@pytest.mark.parametrize("cls", [OpHessianOfGaussianEigenvalues, OpStructureTensorEigenvalues])
def test_eigenvalues_can_be_had_in_single_precision_in_any_region(cls, graph):
    image = speckled((18, 20, 37))
    exact = make(cls, graph, image, "zyx").output.read()
    operator = make(cls, graph, image, "zyx", {"precision": "single"})
    whole = operator.output.read()
    assert relative_error([whole], [exact]) <= 2e-4
    native = k.get_backend().name == "native"
    assert np.array_equal(whole, exact) != native  # other kernels compute them the same way
    roi = Roi((1, 3, 0, 9), (3, 9, 7, 22))
    assert np.array_equal(operator.output.read(roi), whole[roi.slicing])
    with pytest.raises(ParameterError, match="'half'"):
        operator.precision.value = "half"


def test_metadata_that_still_fits_is_kept(graph):
    image = speckled((30, 30, 2))
    meta = {"preferred_block": (10, 10, 1), "channel_names": ("dapi", "gfp")}
    operator = make(OpLaplacianOfGaussian, graph, image, "yxc", **meta)
    result = operator.output.meta
    assert (result.shape, result.preferred_block, result.channel_names) == (
        image.shape,
        (10, 10, 1),
        ("dapi", "gfp"),
    )
    assert result.ram_per_pixel > 8


@pytest.mark.parametrize(
    ("shape", "axes", "parameters", "words"),
    [
        ((5, 40, 40), "zyx", {"sigma": 2.0}, r"axis z has 5 pixels.*the largest possible is 1\.499"),
        (
            (40, 40),
            "yx",
            {"sigma": (1.0, 2.0, 3.0)},
            "sigma=.* has 3 numbers, but 2 axes are filtered, in this order: yx",
        ),
        ((40, 40), "tc", {}, "axes 'tc', none of which is a spatial one"),
        ((40, 40), "yx", {"unit": "micrometer"}, "axis y has no pixel size"),
        ((40, 40), "yx", {"backend": "cuda"}, "'cuda' cannot be used: no such backend"),
    ],
)
def test_what_cannot_be_is_said_when_setting_up(shape, axes, parameters, words, graph):
    with pytest.raises((SetupError, ParameterError), match=words) as caught:
        make(OpGaussianSmoothing, graph, np.zeros(shape, np.uint8), axes, parameters)
    assert "OpGaussianSmoothing" in str(caught.value)


def test_images_of_no_real_numbers_are_refused(graph):
    with pytest.raises(SetupError, match="complex64"):
        make(OpGaussianSmoothing, graph, np.zeros((9, 9), np.complex64), "yx")


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf"), (1.0, 0.0), ("a", 1.0)])
def test_what_is_no_sigma_is_refused(sigma, graph):
    with pytest.raises(ParameterError) as caught:
        OpGaussianSmoothing(graph=graph, sigma=sigma)
    assert str(caught.value).count(repr(sigma)) == 1
    assert "sigma: " in str(caught.value)
    assert str(caught.value).endswith("is not a positive number.")


def test_a_refused_change_leaves_the_graph_as_it_was(graph):
    image = speckled((9, 30))
    operator = make(OpGaussianSmoothing, graph, image, "yx")
    with pytest.raises(SetupError, match="too few"):
        operator.sigma.value = 5.0
    assert operator.sigma.value == 1.0
    assert np.array_equal(operator.output.read(), k.gaussian_smoothing(image, 1.0))
