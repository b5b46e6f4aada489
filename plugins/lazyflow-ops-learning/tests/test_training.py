import json
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lazyflow_core.errors import NotReadyError, ParameterError, ResultError
from lazyflow_core.request import Request, RequestState, ThreadedScheduler

from lazyflow_ops_learning import load_forest, native, save_forest, train_forest
from lazyflow_ops_learning.binning import bin_features, bin_limits
from lazyflow_ops_learning.native import NativeLibrary
from lazyflow_ops_learning.numpy_trainer import CodedSamples, Growing, grow_by_numpy

LARGEST = float(np.finfo("f4").max)
SPECIAL = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45, 0.5, 1.0, 1.0000001, 7, LARGEST, -LARGEST], "f4"
)
BUILDS = [] if native.native_library() is None else sorted({"generic", native.native_library().isa})


def blobs(samples, *, features=6, classes=3, seed=0, apart=1.5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    columns = rng.normal(size=(features, samples)).astype("f4")
    columns[0] += apart * labels
    columns[1] -= apart * labels
    return columns, labels


# ------------------------------------------------------------------------------------------------ intervals


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.floats(width=32) | st.sampled_from(SPECIAL.tolist()), min_size=1, max_size=60),
    st.integers(2, 70),
)
def test_codes_tell_what_limits_tell(values, bins):
    column = np.array(values, "f4")
    binned = bin_features(column[np.newaxis], bins)
    limits, codes = binned.limits[0], binned.codes[0]
    assert len(limits) < bins
    assert np.isfinite(limits).all()
    assert (np.diff(limits) > 0).all()
    for number, limit in enumerate(limits):
        assert np.array_equal(column < limit, codes <= number)
    if len(np.unique(column)) <= bins:
        # What a forest can tell apart at all: it compares with finite numbers, and NaN as infinity.
        told_apart = {float(v) for v in np.where(np.isnan(column), np.inf, column)}
        assert len(set(codes.tolist())) == len(told_apart) - ({LARGEST, np.inf} <= told_apart)


def test_intervals_hold_about_as_many_values_each():
    rng = np.random.default_rng(1)
    codes = bin_features(rng.normal(size=(1, 50_000)).astype("f4"), 256).codes[0]
    counts = np.bincount(codes, minlength=256)
    assert counts.min() > 100
    assert counts.max() < 350


def test_a_frequent_value_does_not_use_up_the_intervals():
    rng = np.random.default_rng(2)
    values = np.concatenate([np.zeros(9_000), rng.uniform(1, 2, 1_000)]).astype("f4")
    assert len(bin_limits(values, 64)) > 58


# ---------------------------------------------------------------------------------------------------- trees


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    tree=st.integers(0, 2**20),
    samples=st.integers(2, 70),
    features=st.integers(1, 5),
    classes=st.integers(2, 5),
    bins=st.sampled_from([2, 7, 256, 300, 65536]),
    smallest_leaf=st.integers(1, 4),
    bootstrap=st.booleans(),
    is_weighted=st.booleans(),
    is_special=st.booleans(),
)
def test_every_trainer_grows_the_same_tree(
    seed, tree, samples, features, classes, bins, smallest_leaf, bootstrap, is_weighted, is_special
):
    rng = np.random.default_rng(seed)
    pool = SPECIAL if is_special else rng.normal(size=40).astype("f4")
    binned = bin_features(rng.choice(pool, (features, samples)), bins)
    labels = rng.integers(0, classes, samples).astype(np.uint8)
    weights = rng.uniform(0.1, 3, classes) if is_weighted else np.ones(classes)
    votes = np.zeros((samples, classes), np.uint16)
    data = CodedSamples(binned.codes, binned.codes_end, labels, classes)
    how = Growing(seed, int(rng.integers(1, features + 1)), smallest_leaf, weights, bootstrap, votes)
    expected = grow_by_numpy(data, how, tree)
    assert votes.sum() <= (samples - 1 if bootstrap else 0)
    for isa in BUILDS:
        others = np.zeros_like(votes)
        grown = NativeLibrary(isa).grow(data, how._replace(votes=others), tree)
        for name, one, two in zip(expected._fields, expected, grown, strict=True):
            assert one.dtype == two.dtype, name
            assert np.array_equal(one, two), name
        assert np.array_equal(votes, others)


def test_more_codes_than_a_word_of_words_has():
    columns, labels = blobs(9_000, features=2)
    binned = bin_features(columns, 65536)
    assert binned.codes_end > 4096
    data = CodedSamples(binned.codes, binned.codes_end, labels.astype(np.uint8), 3)
    how = Growing(5, 1, 40, np.ones(3), True, None)
    expected = grow_by_numpy(data, how, 0)
    assert len(expected.child) > 50
    for isa in BUILDS:
        assert all(map(np.array_equal, expected, NativeLibrary(isa).grow(data, how, 0)))


def gini_of_best_split(columns, labels):
    """Try every limit of every feature; the definition."""
    best = -1.0
    for column in columns:
        for limit in np.unique(column)[1:]:
            score = 0.0
            for side in (labels[column < limit], labels[column >= limit]):
                score += (np.bincount(side).astype(float) ** 2).sum() / len(side)
            best = max(best, score)
    return best


def test_every_division_is_the_purest_there_is():
    rng = np.random.default_rng(4)
    columns = rng.integers(0, 9, (4, 120)).astype("f4")
    labels = rng.integers(0, 3, 120)
    forest = train_forest(columns, labels, class_names="abc", trees=1, features_per_split=4, bootstrap=False)
    pending = [(0, np.arange(120))]
    divided = 0
    while pending:
        node, here = pending.pop()
        child = int(forest.child[node])
        if not child:
            continue
        goes_left = columns[forest.feature[node], here] < forest.threshold[node]
        score = sum(
            (np.bincount(labels[side]).astype(float) ** 2).sum() / len(side)
            for side in (here[goes_left], here[~goes_left])
        )
        assert score == pytest.approx(gini_of_best_split(columns[:, here], labels[here]), rel=1e-12)
        pending += [(child, here[goes_left]), (child + 1, here[~goes_left])]
        divided += 1
    assert divided > 20


def test_without_drawing_samples_all_of_them_are_learned():
    rng = np.random.default_rng(3)
    columns = rng.choice(np.append(SPECIAL, rng.normal(size=30).astype("f4")), (3, 400)).astype("f4")
    told_apart = np.where(np.isnan(columns) | (columns == np.float32(LARGEST)), np.inf, columns)
    _, labels = np.unique(told_apart, axis=1, return_inverse=True)
    labels = labels.reshape(-1) % 5
    forest = train_forest(columns, labels, class_names="abcde", trees=3, bootstrap=False)
    assert forest.is_pure
    assert np.array_equal(forest.predict(columns).argmax(axis=0), labels)
    assert forest.about["out_of_bag_error"] is None


# --------------------------------------------------------------------------------------------------- forests


@pytest.mark.parametrize("workers", range(1, 9))
def test_any_number_of_threads_trains_the_same_forest(workers):
    columns, labels = blobs(300)
    expected = train_forest(columns, labels, class_names="abc", trees=24, seed=7)
    with ThreadedScheduler(workers) as scheduler:
        request = Request(
            lambda: train_forest(columns, labels, class_names="abc", trees=24, seed=7), scheduler=scheduler
        )
        forest = request.wait()
    assert forest == expected
    assert dict(forest.about) == dict(expected.about)


def test_without_the_native_library_the_forest_is_the_same(monkeypatch):
    columns, labels = blobs(150)
    expected = train_forest(columns, labels, class_names="abc", trees=5, smallest_leaf=3)
    monkeypatch.setattr(native, "native_library", lambda: None)
    forest = train_forest(columns, labels, class_names="abc", trees=5, smallest_leaf=3)
    assert forest == expected
    assert dict(forest.about) == dict(expected.about)


def test_another_seed_is_another_forest_and_fewer_trees_are_its_beginning():
    columns, labels = blobs(200)
    one, two = (train_forest(columns, labels, class_names="abc", trees=9, seed=seed) for seed in (0, 1))
    assert one != two
    few = train_forest(columns, labels, class_names="abc", trees=4)
    assert np.array_equal(few.threshold, one.threshold[: len(few.threshold)])


def test_errors_out_of_the_bag_are_those_on_other_samples():
    columns, labels = blobs(2_000, apart=1.0)
    forest = train_forest(columns, labels, class_names="abc", seed=1)
    others, truth = blobs(20_000, apart=1.0, seed=1)
    on_others = (forest.predict(others).argmax(axis=0) != truth).mean()
    assert (forest.predict(columns).argmax(axis=0) != labels).mean() < 0.01
    assert forest.about["out_of_bag_error"] == pytest.approx(on_others, abs=0.03)
    confusion = np.array(forest.about["confusion"])
    assert np.array_equal(confusion.sum(axis=1), np.bincount(labels))
    assert forest.about["out_of_bag_error"] == pytest.approx(1 - np.trace(confusion) / 2_000)


def test_of_labels_by_chance_nothing_is_known():
    rng = np.random.default_rng(5)
    forest = train_forest(
        rng.normal(size=(4, 3_000)).astype("f4"), rng.integers(0, 2, 3_000), class_names="ab"
    )
    assert forest.about["out_of_bag_error"] == pytest.approx(0.5, abs=0.04)


def test_importance_is_where_the_classes_differ():
    columns, labels = blobs(500)
    importance = train_forest(columns, labels, class_names="abc").about["importance"]
    assert sum(importance) == pytest.approx(1)
    assert set(np.argsort(importance)[-2:].tolist()) == {0, 1}


def test_a_class_that_was_never_painted_keeps_its_name_and_gets_nothing():
    columns, labels = blobs(200, classes=2)
    forest = train_forest(columns, labels * 2, class_names=["a", "never", "b", "nor this"])
    votes = forest.predict(columns)
    assert forest.class_names == ("a", "never", "b", "nor this")
    assert not votes[[1, 3]].any()
    assert forest.about["samples"] == [int((labels == 0).sum()), 0, int((labels == 1).sum()), 0]


def test_255_classes_fit():
    labels = np.arange(510) % 255
    forest = train_forest(
        labels[np.newaxis].astype("f4"), labels, class_names=[str(n) for n in range(255)], trees=3, bins=300
    )
    assert forest.class_count == 255


def test_samples_that_nothing_tells_apart_share_a_leaf_by_their_weight():
    labels = np.array([0, 0, 0, 1])
    for columns in (np.ones((2, 4), "f4"), np.full((2, 4), np.nan, "f4"), np.full((2, 4), np.inf, "f4")):
        forest = train_forest(columns, labels, class_names="ab", trees=3, bootstrap=False)
        assert forest.predict(columns).T.tolist() == [[0.75, 0.25]] * 4
        assert forest.about["importance"] == [0, 0]
        weighted = train_forest(
            columns, labels, class_names="ab", trees=3, bootstrap=False, class_weights=[1, 5]
        )
        assert weighted.predict(columns)[1].tolist() == [0.625] * 4


def test_small_leaves_are_avoided_if_asked():
    columns, labels = blobs(300, apart=0.3)
    sizes = [
        len(train_forest(columns, labels, class_names="abc", trees=10, smallest_leaf=leaf).child)
        for leaf in (1, 5, 50, 300)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 10


def test_a_trained_forest_goes_through_a_file(tmp_path):
    columns, labels = blobs(100)
    forest = train_forest(columns, labels, class_names="abc", trees=3, about={"from": "a test"})
    save_forest(forest, tmp_path / "a.forest.npz")
    again = load_forest(tmp_path / "a.forest.npz")
    assert again == forest
    assert dict(again.about) == dict(forest.about)
    assert json.loads(json.dumps(dict(forest.about)))["from"] == "a test"


def test_any_layout_of_the_features_gives_the_same_forest():
    columns, labels = blobs(100)
    expected = train_forest(columns, labels, class_names="abc", trees=3)
    wide = np.zeros((12, 200), "f4")
    wide[::2, ::2] = columns
    for same in (np.asfortranarray(columns), wide[::2, ::2]):
        assert train_forest(same, labels[::1], class_names="abc", trees=3) == expected


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"labels": [0, 0, 0, 0]}, NotReadyError, "two classes or more; all are 'a'"),
        ({"features": np.zeros((2, 0), "f4"), "labels": np.zeros(0, int)}, NotReadyError, "there are none"),
        ({"features": np.zeros((2, 4))}, ResultError, r"float32 of shape .* not float64 \(2, 4\)"),
        ({"features": np.zeros(4, "f4")}, ResultError, "float32 of shape"),
        ({"features": np.zeros((0, 4), "f4")}, ResultError, "1 to 65535 features"),
        ({"labels": [0, 1, 0]}, ResultError, "4 samples need as many"),
        ({"labels": [0.0, 1, 0, 1]}, ResultError, "whole numbers"),
        ({"labels": [0, 1, 0, 2]}, ResultError, "label 2 is none of 2 classes"),
        ({"labels": [0, 1, 0, -1]}, ResultError, "label -1"),
        ({"labels": [0, 1, 0, 256]}, ResultError, "label 256"),
        ({"class_names": ["a"]}, ParameterError, "2 to 255 classes, not 1"),
        ({"feature_names": ["x"]}, ParameterError, "2 features have 1 names"),
        ({"trees": 0}, ParameterError, "trees=0"),
        ({"trees": 65536}, ParameterError, "trees=65536"),
        ({"trees": True}, ParameterError, "trees=True"),
        ({"features_per_split": 3}, ParameterError, "from 0 to 2"),
        ({"smallest_leaf": 0}, ParameterError, "smallest_leaf=0"),
        ({"bins": 1}, ParameterError, "bins=1"),
        ({"bins": 65537}, ParameterError, "bins=65537"),
        ({"seed": -1}, ParameterError, "seed=-1"),
        ({"seed": 2**64}, ParameterError, "seed="),
        ({"class_weights": [1]}, ParameterError, "2 positive numbers"),
        ({"class_weights": [1, 0]}, ParameterError, "2 positive numbers"),
        ({"class_weights": [1, float("nan")]}, ParameterError, "2 positive numbers"),
    ],
)
def test_what_cannot_be_trained_is_told(changes, error, sentence):
    given = {
        "features": np.array([[1, 2, 3, 4], [4, 3, 2, 1]], "f4"),
        "labels": [0, 1, 0, 1],
        "class_names": "ab",
    } | changes
    with pytest.raises(error, match=sentence):
        train_forest(given.pop("features"), given.pop("labels"), **given)


def test_more_samples_than_numbers_of_samples_are_refused_before_anything_is_made():
    columns = np.broadcast_to(np.zeros((1, 1), "f4"), (1, 2**31))
    with pytest.raises(ResultError, match="2147483648 samples are more than"):
        train_forest(columns, np.broadcast_to(np.zeros(1, "u1"), 2**31), class_names="ab")


def test_a_cancelled_training_stops():
    columns, labels = blobs(20_000)
    begun, cancelled, over = threading.Event(), threading.Event(), threading.Event()
    results = []

    def work():
        begun.set()
        cancelled.wait()
        results.append(train_forest(columns, labels, class_names="abc", trees=2_000))

    request = Request(work)
    request.on_done(lambda _: over.set())
    request.submit()
    begun.wait()
    assert request.cancel()
    cancelled.set()
    over.wait()
    assert request.state is RequestState.CANCELLED
    assert not results
