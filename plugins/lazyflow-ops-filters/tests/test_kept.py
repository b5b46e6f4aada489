"""What is kept from one request to the next is never old: plans of operators, steps of the native backend."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from filter_cases import FILTERS, speckled
from lazyflow_core import ArrayMeta, Axis, Graph, Operator, OutputSlot, ParameterSlot
from lazyflow_core.errors import SetupError
from operator_cases import OPERATORS

from lazyflow_ops_filters import kernels as k
from lazyflow_ops_filters.kernels import filters as f
from lazyflow_ops_filters.kernels.composite import FilterSet

SHAPE = (12, 13, 14)


@pytest.mark.parametrize(
    ("name", "before", "change"),
    [
        ("OpGaussianSmoothing", {}, {"sigma": 2.0}),
        ("OpGaussianSmoothing", {}, {"sigma": (1.0, 2.0, 1.0)}),
        ("OpGaussianSmoothing", {}, {"window": 1.0}),
        ("OpGaussianSmoothing", {}, {"border": "zero"}),
        ("OpGaussianSmoothing", {}, {"in_2d": True}),
        ("OpGaussianSmoothing", {}, {"backend": "scipy"}),
        ("OpUnsharpMask", {}, {"amount": 3.0}),
        ("OpGaussianDerivative", {"order": (0, 1, 0)}, {"order": (0, 0, 1)}),
        ("OpPixelFeatures", {"selection": (("gaussian_smoothing", 1.0),)}, {"compat": "ilastik"}),
        (
            "OpPixelFeatures",
            {"selection": (("gaussian_smoothing", 1.0),)},
            {"selection": (("laplacian_of_gaussian", 1.0), ("gaussian_smoothing", 0.7))},
        ),
        ("OpMedian", {}, {"radius": 2.0}),
        ("OpMedian", {"radius": 2.0}, {"shape": "ball"}),
    ],
)
def test_a_changed_parameter_holds_from_the_next_request_on_and_so_does_the_old_value_put_back(
    name, before, change
):
    image = speckled(SHAPE)
    with Graph() as graph:
        operator = OPERATORS[name](graph=graph, image=image, **before)
        expected = OPERATORS[name](graph=graph, image=image, **before | change).output.read()
        first = operator.output.read()
        ((parameter, value),) = change.items()
        with operator.slots[parameter].temporarily(value):
            assert np.array_equal(operator.output.read(), expected)
        assert np.array_equal(operator.output.read(), first)
        assert not np.array_equal(first, expected) or parameter == "backend"


def test_another_image_is_seen_at_once_with_its_own_axes_and_pixel_size():
    image = speckled(SHAPE)
    metas = [
        ArrayMeta(SHAPE, image.dtype, [Axis(key, unit="um", resolution=size) for key in keys])
        for keys, size in (("zyx", 0.5), ("xyz", 0.5), ("zyx", 0.25), ("tyx", 0.5), ("zyx", 0.5))
    ]
    parameters = {"sigma": (0.3, 0.5), "unit": "um", "in_2d": True}
    with Graph() as graph:
        cls = OPERATORS["OpGaussianSmoothing"]
        smooth, seen = cls(graph=graph, **parameters), []
        for meta in metas:
            smooth.image.assign(image, meta)
            fresh = cls(graph=graph, **parameters)
            fresh.image.assign(image, meta)
            seen.append(fresh.output.read())
            assert np.array_equal(smooth.output.read(), seen[-1])
            assert smooth.output.meta == fresh.output.meta
    assert not any(np.array_equal(seen[0], other) for other in seen[1:3])


def test_a_refused_change_leaves_plan_and_pixels_as_they_were():
    with Graph() as graph:
        smooth = OPERATORS["OpGaussianSmoothing"](graph=graph, image=speckled(SHAPE), sigma=1.0)
        before = smooth.output.read()
        with pytest.raises(SetupError, match="too few"):
            smooth.sigma.value = 50.0
        assert np.array_equal(smooth.output.read(), before)
        assert smooth.plan.filter.sigma == (1.0, 1.0, 1.0)


def test_a_plan_is_made_once_however_many_regions_are_asked_for(monkeypatch):
    cls = OPERATORS["OpGaussianSmoothing"]
    made, make = [], cls.make_filter
    monkeypatch.setattr(cls, "make_filter", lambda self, axes: made.append(axes) or make(self, axes))
    with Graph() as graph:
        smooth = cls(graph=graph, image=speckled(SHAPE), sigma=1.0)
        for z in range(SHAPE[0]):
            smooth.output[z].wait()
        smooth.image.mark_dirty()
        assert len(made) == 1
        smooth.sigma.value = 1.5
        smooth.output.read()
        assert len(made) == 2


class OpMean(Operator):
    """Computes a value."""

    mean = OutputSlot(value=float)

    def setup_outputs(self):
        pass

    def compute_value(self, slot):
        return 2.0


def test_a_parameter_that_only_execute_needs_may_still_be_computed():
    class OpScaledSmoothing(OPERATORS["OpGaussianSmoothing"]):
        factor = ParameterSlot(float, default=1.0)

        def execute(self, slot, roi, out):
            super().execute(slot, roi, out)
            out *= self.factor.value

    image = speckled(SHAPE)
    with Graph() as graph:
        scaled = OpScaledSmoothing(graph=graph, image=image)
        expected = 2 * scaled.output.read()
        scaled.factor.connect(OpMean(graph=graph).mean)
        assert np.array_equal(scaled.output.read(), expected)


def test_requests_of_other_threads_during_a_change_get_the_old_or_the_new_values_never_a_mixture():
    image = speckled(SHAPE)
    sigmas = (0.7, 1.5)
    with Graph() as graph:
        cls = OPERATORS["OpGaussianSmoothing"]
        expected = [cls(graph=graph, image=image, sigma=s).output.read() for s in sigmas]
        smooth = cls(graph=graph, image=image, sigma=sigmas[0])
        begin = Barrier(3)

        def read():
            begin.wait()
            return [smooth.output.read() for _ in range(40)]

        with ThreadPoolExecutor(2) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            begin.wait()
            for i in range(20):
                smooth.sigma.value = sigmas[(i + 1) % 2]
                assert np.array_equal(smooth.output.read(), expected[(i + 1) % 2])
            for reader in readers:
                assert all(any(np.array_equal(r, e) for e in expected) for r in reader.result())


@pytest.fixture
def steps():
    native = pytest.importorskip("lazyflow_ops_filters.kernels.native_backend")
    if not any(name == "native" and not problem for name, problem, _ in k.describe_backends()):
        pytest.skip("there are no native kernels")
    native._steps.cache_clear()
    return native._steps


def test_the_native_backend_keeps_the_steps_of_a_bounded_number_of_filters(steps):
    image = speckled((9, 9))
    largest = steps.cache_info().maxsize
    first = k.run(f.GaussianSmoothing((0.5, 0.5)), image, backend="native")[0]
    for i in range(largest + 5):
        k.run(f.GaussianSmoothing((0.6 + i / 1000,) * 2), image, backend="native")
    assert steps.cache_info().currsize == largest
    again = k.run(f.GaussianSmoothing((0.5, 0.5)), image, backend="native")[0]
    assert np.array_equal(again, first)


@pytest.mark.parametrize("name", ["all in one", *(name for name in FILTERS if name != "orientation")])
def test_kept_steps_serve_other_regions_axes_of_one_pixel_and_other_destinations(steps, name, monkeypatch):
    sigma = (0.8, 0.9)
    filter = FilterSet(tuple(make(sigma) for make in FILTERS.values())) if name not in FILTERS else None
    filter = filter or FILTERS[name](sigma)
    images = [speckled(shape) for shape in ((11, 12), (1, 12), (11, 1), (11, 12))]
    with monkeypatch.context() as nothing_is_kept:
        nothing_is_kept.setattr("lazyflow_ops_filters.kernels.native_backend._steps", steps.__wrapped__)
        expected = [k.run(filter, image, backend="native") for image in images]
    for image, whole in zip(images, expected, strict=True):
        assert all(map(np.array_equal, k.run(filter, image, backend="native"), whole))
        region = tuple(slice(n // 2, n) for n in image.shape)
        for i in range(filter.results):
            outs = [None] * filter.results
            outs[i] = np.empty([s.stop - s.start for s in region], np.float32)
            k.run(filter, image, region=region, outs=outs, backend="native")
            assert np.array_equal(outs[i], whole[i][region])
    assert steps.cache_info().hits > filter.results  # the last image is of the shape of the first


def test_two_threads_fill_and_empty_what_the_native_backend_keeps(steps):
    image = speckled((9, 9, 9))
    filters = [f.HessianOfGaussianEigenvalues((0.5 + i / 100,) * 3) for i in range(30)]
    expected = [k.run(filter, image, backend="native") for filter in filters]
    begin = Barrier(2)

    def run(order):
        begin.wait()
        results = {}
        for i in order:
            results[i] = k.run(filters[i], image, backend="native")
            if i % 7 == 0:
                steps.cache_clear()
        return results

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(run, range(30)), pool.submit(run, range(29, -1, -1))]:
            for i, result in future.result().items():
                assert all(map(np.array_equal, result, expected[i]))
