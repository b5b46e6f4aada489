"""Nothing is computed, read or rounded that need not be: convolutions counted, halos tried, integers kept."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from filter_cases import FILTERS, error, speckled
from lazyflow_core import ArrayMeta, Graph, InputSlot, Operator, OutputSlot, Roi
from operator_cases import CASES, OPERATORS, cases, make, parametrized, thresholded

from lazyflow_ops_filters import kernels as k
from lazyflow_ops_filters.features import FEATURES, feature_grid
from lazyflow_ops_filters.kernels.scipy_backend import ScipyBackend

GAUSSIAN = [case for case in CASES if "window" in case[0].declarations]


class Counting(ScipyBackend):
    """Counts convolutions, each by the kernels it runs."""

    def __init__(self):
        super().__init__()
        self.ran = Counter()

    def convolve(self, image, kernels, border, region, out):
        self.ran[tuple(None if w is None else w.tobytes() for w in kernels)] += 1
        super().convolve(image, kernels, border, region, out)


#: Convolutions per filter for planes and volumes: one per Gaussian derivative in its definition.
CONVOLUTIONS = {
    "smoothing": (1, 1),
    "high pass": (1, 1),
    "difference": (2, 2),
    "derivative": (1, 1),
    "gradient": (2, 3),
    "laplacian": (2, 3),
    "hessian": (3, 6),
    "hessian eigenvalues": (3, 6),
    "structure tensor": (2 + 3, 3 + 6),
    "structure tensor eigenvalues": (2 + 3, 3 + 6),
    "orientation": (2 + 3, 2 + 3),
}


@pytest.mark.parametrize("shape", [(20, 21), (12, 13, 14)], ids=str)
@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_takes_one_convolution_per_derivative_in_its_definition(name, shape):
    backend = Counting()
    k.run(FILTERS[name]((0.8,) * len(shape)), speckled(shape), backend=backend)
    assert backend.ran.total() == CONVOLUTIONS[name][len(shape) - 2]


@pytest.mark.parametrize(
    ("name", "wanted", "count"), [("hessian", [0], 1), ("hessian", [1, 4], 2), ("structure tensor", [5], 4)]
)
def test_elements_of_a_tensor_that_nobody_asked_for_are_not_computed(name, wanted, count):
    backend, image = Counting(), speckled((12, 13, 14))
    outs = [np.empty(image.shape, np.float32) if i in wanted else None for i in range(6)]
    k.run(FILTERS[name]((0.8,) * 3), image, outs=outs, backend=backend)
    assert backend.ran.total() == count


def features(graph, image, backend, monkeypatch, **parameters):
    monkeypatch.setattr("lazyflow_ops_filters.base.get_backend", lambda name: backend)
    return make(OPERATORS["OpPixelFeatures"], parameters, graph, image, "zyx"[-image.ndim :])


ALONE = dict(zip(FEATURES, (1, 3, 3, 2, 9, 6), strict=True))


@pytest.mark.parametrize("feature", FEATURES)
def test_a_request_for_the_channels_of_a_feature_convolves_for_it_alone(feature, monkeypatch):
    selection = feature_grid(scales=[0.7, 1.0])
    with Graph() as graph:
        backend = Counting()
        operator = features(graph, speckled((14, 15, 16)), backend, monkeypatch, selection=selection)
        index = selection.index((feature, 1.0))
        first = sum(
            slot.meta.axis_length("c") if slot.meta.ndim == 4 else 1 for slot in operator.features[:index]
        )
        channel = operator.output[first : first + 1].wait()[0]
        assert backend.ran.total() == ALONE[feature]
        backend.ran.clear()
        alone = operator.features[index].read()
        assert backend.ran.total() == ALONE[feature]
        assert np.array_equal(channel, alone[0] if alone.ndim == 4 else alone)


@pytest.mark.parametrize("compat", ["ilastik", "ilastik-vigra"])
def test_ilastiks_features_of_one_scale_share_their_smoothing(compat, monkeypatch):
    with Graph() as graph:
        backend = Counting()
        operator = features(
            graph,
            speckled((20, 21, 22)),
            backend,
            monkeypatch,
            compat=compat,
            selection=feature_grid(scales=[1.6, 2.5]),
        )
        operator.output.read()
    # Two scales: each smooths once, and then computes all features of it.
    assert backend.ran.total() == 2 * (1 + sum(ALONE.values()))
    before = {k.kernel((s * s - 1) ** 0.5, 0, 3.5).tobytes() for s in (1.6, 2.5)}
    assert [n for kernels, n in backend.ran.items() if set(kernels) <= before] == [1, 1]


def test_native_features_of_one_scale_share_their_derivatives(monkeypatch):
    native = pytest.importorskip("lazyflow_ops_filters.kernels.native_backend")
    try:
        backend = native.NativeBackend()
    except OSError as error:
        pytest.skip(str(error))
    terms, single = [], np.dtype(np.float32)
    run, tensor = backend._functions[single]
    monkeypatch.setitem(backend._functions, single, (lambda *a: terms.append(a[1]) or run(*a), tensor))
    others = [f for f in FEATURES if f != "structure_tensor_eigenvalues"]
    with Graph() as graph:
        operator = features(
            graph, speckled((14, 15, 16)), backend, monkeypatch, selection=feature_grid(others, scales=[1.0])
        )
        operator.output.read()
        # Smoothing twice, three first derivatives, and six second ones, of which three are the Laplacian.
        assert terms == [2 + 3 + 6]
        terms.clear()
        operator.output[1:2].wait()
        assert terms == [3]


class OpWatched(Operator):
    """Passes an image on and remembers what was asked for."""

    image = InputSlot()
    output = OutputSlot()

    def setup_outputs(self):
        self.output.meta = self.image.meta
        self.asked = []

    def execute(self, slot, roi, out):
        self.asked.append(roi)
        self.image.read(roi, out=out)


def watched(graph, image, axes="zyx"):
    operator = OpWatched(graph=graph)
    operator.image.assign(image, ArrayMeta(image.shape, image.dtype, axes))
    return operator


@pytest.mark.parametrize("i", range(3))
def test_a_channel_reads_the_halo_of_its_feature_not_that_of_the_largest(i):
    selection = (
        ("gaussian_smoothing", 0.7),
        ("hessian_of_gaussian_eigenvalues", 1.0),
        ("gaussian_smoothing", 2.0),
    )
    channel, halo = ((0, 2), (2, 4), (3, 6))[i]
    image = speckled((40, 41, 2))
    with Graph() as graph:
        source = watched(graph, image, "yxc")
        operator = OPERATORS["OpPixelFeatures"](graph=graph, image=source.output, selection=selection)
        whole = operator.output.read()
        source.asked.clear()
        for first in (0, 4):  # of the second channel of the image, too
            roi = Roi((20, 21, first + channel), (22, 24, first + channel + 1))
            assert np.array_equal(operator.output.read(roi), whole[roi.slicing])
        expected = [Roi((20 - halo, 21 - halo, c), (22 + halo, 24 + halo, c + 1)) for c in (0, 1)]
        assert source.asked == expected
        source.asked.clear()
        both = operator.output[20:22, 21:24, 3:5].wait()  # the last of one channel, the first of the other
        assert np.array_equal(both, whole[20:22, 21:24, 3:5])
        assert source.asked == [Roi((14, 15, 0), (28, 30, 2))]


def changes(cls, image, places):
    """Yield images that differ only in some places, in ways of which each filter should see one."""
    rng = np.random.default_rng(5)
    for value in (0, 1000, -1000):
        other = image.copy()
        other[places] = (
            value if cls.__name__ == "OpDistanceTransform" else value + rng.random(other[places].shape)
        )
        yield other


@cases
def test_a_region_reads_its_halo_and_every_pixel_plane_of_it_matters(cls, parameters):
    image = thresholded(speckled((27, 28, 29)), cls).astype(np.float32)
    if cls.__name__ == "OpDistanceTransform":
        image[:] = 1
    elif cls.__name__ == "OpHysteresisThreshold":
        image = image.clip(0.5, 1.0)  # all may be reached, and is not yet
    region = Roi((11, 11, 11), (16, 17, 18))
    with Graph() as graph:
        source = watched(graph, image)
        operator = cls(graph=graph, image=source.output, **parameters)
        meta = operator.output.meta
        channels = meta.shape[:-3]
        roi = Roi((*(0 for _ in channels), *region.start), (*channels, *region.stop))
        before = operator.output.read(roi)
        (asked,) = source.asked
        halo = tuple(a - b for a, b in zip(region.start, asked.start, strict=True))
        assert halo == tuple(b - a for a, b in zip(region.stop, asked.stop, strict=True))
        assert any(halo)
        for axis, h in enumerate(halo):
            for place in (region.start[axis] - h, region.stop[axis] + h - 1) if h else ():
                seen = (
                    make(cls, parameters, graph, other, "zyx").output.read(roi)
                    for other in changes(cls, image, (slice(None),) * axis + (place,))
                )
                assert any(not np.array_equal(result, before) for result in seen), (axis, place)


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", ">u2", "u4", "i8"])
@parametrized(GAUSSIAN)
def test_integers_have_the_very_results_of_the_same_numbers_as_floats(cls, parameters, dtype):
    image = speckled((12, 13, 14))
    image = image > 0.5 if dtype == "?" else (image * 10).astype(dtype)
    with Graph() as graph:
        result = make(cls, parameters, graph, image, "zyx").output.read()
        expected = make(cls, parameters, graph, image.astype(np.float32), "zyx").output.read()
    assert result.dtype == np.float32
    assert np.array_equal(result, expected)
    assert not np.array_equal(result, np.rint(result))


@pytest.mark.parametrize("dtype", ["u1", "i2", ">u2", "i8"])
@pytest.mark.parametrize("name", FILTERS)
def test_no_backend_rounds_integers_on_the_way(name, dtype, backend, oracle):
    image = (speckled((20, 24)) * 10).astype(dtype)
    filter = FILTERS[name]((1.2, 0.9))
    result = k.run(filter, image, backend=backend)
    expected = k.run(filter, image.astype(np.float32), backend=backend)
    assert all(np.array_equal(a, b) for a, b in zip(result, expected, strict=True))
    exact = k.run(filter, image.astype(np.float64), backend=oracle)
    assert error(name, result, exact) <= 1e-4


@pytest.mark.parametrize("compat", ["none", "ilastik", "ilastik-vigra"])
@pytest.mark.parametrize("axes", ["yx", "zyx", "cyx"])
def test_every_feature_is_a_slot_of_its_own_with_the_bits_of_its_channels(axes, compat):
    selection = feature_grid(scales=[0.7, 1.6])
    image = speckled((2, 24, 25) if axes == "cyx" else (20, 21, 22)[-len(axes) :])
    with Graph() as graph:
        operator = make(
            OPERATORS["OpPixelFeatures"], {"selection": selection, "compat": compat}, graph, image, axes
        )
        assert len(operator.features) == len(selection)
        whole = operator.output.read()
        if axes == "cyx":
            whole = whole.reshape(2, -1, *image.shape[1:])
        first = 0
        for feature in operator.features:
            alone = feature.read()
            if axes == "cyx":
                alone = alone.reshape(2, -1, *image.shape[1:])
                expected = whole[:, first : first + alone.shape[1]]
                first += alone.shape[1]
            else:
                alone = alone if alone.ndim > image.ndim else alone[np.newaxis]
                expected = whole[first : first + len(alone)]
                first += len(alone)
            assert np.array_equal(alone, expected)
        assert first == (whole.shape[1] if axes == "cyx" else len(whole))


@pytest.mark.parametrize("odd", [np.nan, np.inf])
@parametrized([c for c in CASES if c[0].__module__ == "lazyflow_ops_filters.mask"])
def test_nan_in_what_is_compared_stays_within_the_halo(cls, parameters, odd):
    image = thresholded(speckled((13, 14, 15)), cls).astype(np.float32)
    spot = Roi((6, 6, 6), (7, 7, 7))
    image[spot.slicing] = 0
    changed = image.copy()
    changed[spot.slicing] = odd
    with Graph() as graph:
        operator = make(cls, parameters, graph, changed, "zyx")
        reached = operator.plan.output_roi(spot)
        result, expected = operator.output.read(), make(cls, parameters, graph, image, "zyx").output.read()
        result[reached.slicing] = expected[reached.slicing]
        assert np.array_equal(result, expected)
