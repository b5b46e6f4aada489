import threading

import numpy as np
import pytest
from forests import one_by_one, random_forest
from hypothesis import given, settings
from hypothesis import strategies as st
from lazyflow_core.errors import ResultError
from lazyflow_core.request import Request, RequestState

from lazyflow_ops_learning import native
from lazyflow_ops_learning.native import NativeLibrary
from lazyflow_ops_learning.predictor import predict, predict_by_numpy

SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-42, -1e-42, 0.5, 1.0, 3.4e38], "f4")


def builds():
    library = native.native_library()
    return [] if library is None else sorted({"generic", library.isa})


BUILDS = builds()


def test_the_native_library_is_tested_where_there_is_a_compiler():
    import shutil

    assert BUILDS or shutil.which("c++") is None or "not built" in native.why_not_native()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(1, 5), st.booleans(), st.integers(0, 7))
def test_every_predictor_walks_each_sample_through_each_tree(seed, samples, classes, pure, depth):
    rng = np.random.default_rng(seed)
    forest = random_forest(rng, trees=3, classes=classes, pure=pure, depth=depth)
    features = rng.choice(np.concatenate([SPECIAL, np.arange(-3, 4, 0.5, "f4")]), (4, samples)).astype("f4")
    expected = one_by_one(forest, features)
    out = np.full_like(expected, -1)
    predict_by_numpy(forest, features, out)
    assert np.array_equal(out, expected)
    for isa in BUILDS:
        out[...] = -1
        NativeLibrary(isa).predict(forest, features, out)
        assert np.array_equal(out, expected), isa


@pytest.mark.parametrize("pure", [True, False])
@pytest.mark.parametrize("trees", [1, 255, 256, 700])
def test_more_trees_and_samples_than_one_tile_or_byte_holds(pure, trees):
    rng = np.random.default_rng(trees)
    forest = random_forest(rng, trees=trees, features=7, classes=4, pure=pure, depth=4)
    features = rng.normal(size=(7, 9_003)).astype("f4")
    expected = np.empty((4, 9_003), "f4")
    predict_by_numpy(forest, features, expected)
    assert np.allclose(expected.sum(axis=0), 1, atol=1e-5)
    for isa in BUILDS:
        out = np.empty_like(expected)
        NativeLibrary(isa).predict(forest, features, out)
        assert np.array_equal(out, expected), isa


def test_a_deep_and_narrow_tree_works_too():
    from lazyflow_ops_learning import Forest

    depth = 5_000
    child = np.zeros(2 * depth + 1, int)
    child[0] = 1
    child[2 : 2 * depth : 2] = np.arange(3, 2 * depth + 1, 2)
    threshold = np.zeros(2 * depth + 1)
    threshold[0 : 2 * depth : 2] = np.arange(depth)
    leaf = (np.arange(depth + 1) % 2).astype("u1")
    forest = Forest(threshold, np.zeros_like(child), child, [0], leaf, "ab", ["x"])
    features = (np.arange(0, depth, 7, dtype="f4") + 0.5)[np.newaxis]
    for isa in BUILDS:
        out = np.empty((2, features.shape[1]), "f4")
        NativeLibrary(isa).predict(forest, features, out)
        assert np.array_equal(out.argmax(axis=0), (features[0].astype(int) + 1) % 2), isa


def test_any_strides_give_the_same_bits():
    rng = np.random.default_rng(3)
    forest = random_forest(rng, features=6)
    features = rng.normal(size=(6, 999)).astype("f4")
    expected = predict(forest, features)
    wide = np.zeros((12, 2_000), "f4")
    wide[::2, ::2][:, :999] = features
    wide[1::2, 500:1_499] = features
    out = np.zeros((6, 2_000), "f4")
    for view in (
        features[:, ::-1][:, ::-1],
        wide[::2, ::2][:, :999],
        wide[1::2, 500:1_499],
        np.asfortranarray(features),
    ):
        for target in (out[::2, :999], out[:3, ::2][:, :999], out[2::-1, :999]):
            predict(forest, view, target)
            assert np.array_equal(target, expected)


def test_features_of_another_shape_or_type_are_refused():
    forest = random_forest(np.random.default_rng(0), features=4)
    for features in (np.zeros((3, 5), "f4"), np.zeros(4, "f4"), np.zeros((4, 5)), np.zeros((4, 5), "i4")):
        with pytest.raises(ResultError, match=r"takes float32 of shape \(4, samples\)"):
            forest.predict(features)
    with pytest.raises(ResultError, match="the probabilities are float32"):
        forest.predict(np.zeros((4, 5), "f4"), np.zeros((3, 5)))


def test_a_cancelled_prediction_stops():
    forest = random_forest(np.random.default_rng(0), trees=50)
    features = np.zeros((4, 200_000), "f4")
    begun, cancelled, over = threading.Event(), threading.Event(), threading.Event()
    results = []

    def work():
        begun.set()
        cancelled.wait()
        results.append(forest.predict(features))

    request = Request(work)
    request.on_done(lambda _: over.set())
    request.submit()
    begun.wait()
    assert request.cancel()
    cancelled.set()
    over.wait()
    assert request.state is RequestState.CANCELLED
    assert not results
