import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyflow_core.axes import Axes
from lazyflow_core.errors import RoiError
from lazyflow_core.graph import Graph
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.roi import Roi

from .operators import OpAdd

IMAGE = np.arange(2 * 3 * 4.0).reshape(2, 3, 4)


def item(length):
    integers = st.integers(-length, length - 1)
    anything = st.one_of(st.none(), st.integers(-length - 2, length + 2))
    steps = st.one_of(st.none(), st.integers(1, 3), st.integers(-3, -1))
    return st.one_of(integers, st.builds(slice, anything, anything, steps))


keys = st.one_of(
    st.tuples(item(2), item(3), item(4)),
    st.tuples(item(2)),
    st.tuples(st.just(Ellipsis), item(4)),
    st.tuples(item(2), st.none(), st.just(Ellipsis)),
    item(2),
)


@given(keys)
def test_indexing_gives_what_numpy_gives(key):
    with Graph() as graph:
        array = OpAdd(graph=graph, image=IMAGE).output.as_array()
        expected = (IMAGE + 1)[key]
        assert np.array_equal(array[key], expected)
        assert np.shape(array[key]) == expected.shape


def test_indexing_computes_the_region_that_is_needed_and_no_more(graph):
    op = OpAdd(graph=graph, image=IMAGE)
    array = op.output.as_array()
    assert (array.shape, array.dtype, array.ndim, array.size, array.nbytes, len(array)) == (
        (2, 3, 4),
        np.dtype("float64"),
        3,
        24,
        192,
        2,
    )
    assert op.executed == []
    array[1, ::2, -1]
    assert op.executed == [Roi((1, 0, 3), (2, 3, 4))]


def test_numpy_takes_it_for_an_array_and_gets_one_of_its_own(graph):
    op = OpAdd(graph=graph, image=IMAGE)
    assert np.array_equal(np.asarray(op.output.as_array()), IMAGE + 1)
    assert np.asarray(op.output.as_array(), dtype="uint8").dtype == np.uint8
    assert np.mean(op.output.as_array()) == (IMAGE + 1).mean()
    assigned = np.asarray(op.image.as_array())
    assigned[...] = 0
    assert op.image.read().any()


def picks(length):
    return st.lists(st.integers(-length, length - 1), max_size=4)


fancy_keys = st.one_of(
    st.tuples(picks(2)),
    st.tuples(st.just(Ellipsis), picks(4)),
    st.tuples(item(2), picks(3), item(4)),
    st.tuples(item(2), item(3), picks(4)),
    st.tuples(st.none(), picks(2), st.just(Ellipsis), item(4)),
    st.lists(st.booleans(), min_size=2, max_size=2),
    st.tuples(item(2), st.lists(st.booleans(), min_size=3, max_size=3)),
    st.tuples(picks(2).map(lambda some: np.array(some, np.intp)[:, None]), picks(3), item(4)),
    st.tuples(*[st.lists(st.booleans(), min_size=n, max_size=n).map(np.array) for n in (6, 4)]).map(
        lambda pair: (pair[0].reshape(2, 3), 2)
    ),
)


@given(fancy_keys)
def test_index_arrays_and_masks_give_what_numpy_gives_or_refuse_with_it(key):
    with Graph() as graph:
        array = OpAdd(graph=graph, image=IMAGE).output.as_array()
        usual = tuple(np.array(k, np.intp) if isinstance(k, list) and not k else k for k in key)
        try:
            expected = (IMAGE + 1)[usual if isinstance(key, tuple) else key]
        except IndexError:
            with pytest.raises(IndexError):
                array[key]
            return
        assert np.array_equal(array[key], expected)
        assert np.shape(array[key]) == expected.shape


def test_index_arrays_compute_the_box_that_spans_what_they_pick(graph):
    op = OpAdd(graph=graph, image=IMAGE)
    op.output.as_array()[:, [2, 1], np.array([3, 2])]
    assert op.executed == [Roi((0, 1, 2), (2, 3, 4))]


@pytest.mark.parametrize(
    "key", [1.5, "x", True, np.True_, np.array(True), [0.5], np.array(["a"]), (0, None, 1.5)]
)
def test_what_is_no_index_is_refused(graph, key):
    op = OpAdd(graph=graph, image=IMAGE)
    with pytest.raises(RoiError, match="index"):
        op.output.as_array()[key]
    assert op.executed == []


@pytest.mark.parametrize("key", [2, -3, (0, 0, 0, 0), (0, 5), (..., ...)])
def test_an_index_that_is_out_of_bounds_is_an_index_error(graph, key):
    with pytest.raises(IndexError):
        OpAdd(graph=graph, image=IMAGE).output.as_array()[key]


def test_a_copy_cannot_be_avoided(graph):
    with pytest.raises(ValueError, match="copy=False is impossible"):
        OpAdd(graph=graph, image=IMAGE).output.as_array().__array__(copy=False)


EXPRESSIONS = {
    "comparison": lambda a: a == 3,
    "comparison, reflected": lambda a: a != 3.0,
    "two of them": lambda a: a == a[...],
    "ordering": lambda a: a > np.float64(5),
    "where": lambda a: np.where(a == 3, 1, 0),
    "count": lambda a: np.count_nonzero(a != 0),
    "arithmetic": lambda a: (1 - a) * a / (a + 1) ** 2,
    "unary": lambda a: -abs(a),
    "matrix product": lambda a: a @ np.ones((4, 2)),
    "array on the left": lambda a: np.ones((2, 3, 4)) + a,
    "ufunc": np.sqrt,
    "ufunc method": lambda a: np.add.reduce(a, axis=1),
    "reduction": lambda a: a.max(axis=(0, 2)),
    "reduction of a comparison": lambda a: (a > 5).any(axis=0),
    "function": lambda a: np.percentile(a, [1, 99], axis=0),
    "list of arrays": lambda a: np.concatenate([a, a]),
    "nested lists of arrays": lambda a: np.block([[a, a], [a, a]]),
    "keyword": lambda a: np.clip(a=IMAGE, a_min=a, a_max=9),
    "transposed": lambda a: a.transpose(2, 0, 1),
    "cast": lambda a: a.astype(np.uint8),
    "like": lambda a: np.zeros_like(a),
    "iterated": lambda a: np.stack(list(a)),
    "reversed": lambda a: next(reversed(a)),
    "in": lambda a: 7.0 in a,
    "not in": lambda a: 7.5 in a,
    "bool": lambda a: bool(a[:1, :1, 1:2]),
    "number": lambda a: float(a[1, 1, 1]),
    "list": lambda a: a.tolist(),
}


@pytest.mark.parametrize("what", EXPRESSIONS)
def test_expressions_are_those_of_pixels(graph, what):
    array = OpAdd(graph=graph, image=IMAGE).output.as_array()
    got, expected = EXPRESSIONS[what](array), EXPRESSIONS[what](IMAGE + 1)
    assert type(got) is type(expected)
    assert np.array_equal(got, expected)


@pytest.mark.parametrize(
    "question",
    [bool, hash, int, float, np.frombuffer, lambda a: a.T, lambda a: a.flags, lambda a: a.no_such_thing],
    ids=["bool", "hash", "int", "float", "buffer", "T", "flags", "nothing"],
)
def test_what_it_cannot_answer_raises(graph, question):
    op = OpAdd(graph=graph, image=IMAGE)
    with pytest.raises((TypeError, ValueError, AttributeError)):
        question(op.output.as_array())
    assert op.executed == []


def _add_in_place(array):
    array += 1


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.__setitem__(0, 1),
        _add_in_place,
        lambda a: np.add(IMAGE, 1, out=a),
        lambda a: np.add.at(a, 0, 1),
        lambda a: np.copyto(a, IMAGE),
        lambda a: np.sum(IMAGE, axis=0, out=a),
    ],
    ids=["item", "in place", "out", "at", "copyto", "out of a function"],
)
def test_it_is_read_only_and_says_so(graph, change):
    op = OpAdd(graph=graph, image=IMAGE)
    with pytest.raises(TypeError, match="read-only"):
        change(op.output.as_array())
    assert op.executed == []


def test_what_shape_and_dtype_answer_computes_nothing(graph):
    op = OpAdd(graph=graph, image=IMAGE)
    array = op.output.as_array()
    assert (np.shape(array), np.ndim(array), np.size(array), np.result_type(array)) == (
        (2, 3, 4),
        3,
        24,
        np.dtype(float),
    )
    assert array.itemsize == 8
    assert not hasattr(array, "T")
    assert op.executed == []


def test_chunks_are_the_preferred_block_within_the_array(graph):
    op = OpAdd(graph=graph)
    op.image.assign(IMAGE, ArrayMeta((2, 3, 4), "float64", preferred_block=(1, 64, 2)))
    assert op.image.as_array().chunks == (1, 3, 2)
    assert OpAdd(graph=graph, image=IMAGE).image.as_array().chunks is None


def test_an_array_without_axes_is_a_number(graph):
    op = OpAdd(graph=graph)
    op.image.assign(np.array(4.0), ArrayMeta((), "float64", Axes(())))
    array = op.image.as_array()
    assert (float(array), int(array), complex(array), array[()]) == (4.0, 4, 4 + 0j, 4.0)
    with pytest.raises(TypeError, match="0-d"):
        iter(array)


def test_a_slot_is_not_taken_for_an_array_or_a_number(graph):
    op = OpAdd(graph=graph, image=IMAGE)
    for slot in (op.output, op.image):
        for question in (
            np.asarray,
            np.sqrt,
            lambda s: s == 3,
            lambda s: s != 3,
            lambda s: np.where(s == 3, 1, 0),
            lambda s: s == IMAGE,
            lambda s: s == IMAGE,
            lambda s: s > 3,
            lambda s: s + 1,
        ):
            with pytest.raises(TypeError):
                question(slot)
    with pytest.raises(TypeError, match=r"compared with a int; slot.value"):
        op.amount == 3  # noqa: B015
    assert op.output == op.output
    assert op.output != op.image
    assert op.output != None  # noqa: E711
    assert {op.output: 1}[op.output] == 1
    assert op.executed == []


@pytest.mark.parametrize(
    ("word", "instead"),
    [
        ("shape", "meta"),
        ("dtype", "meta"),
        ("wait", "read"),
        ("result", "read"),
        ("mean", "as_array"),
        ("value", "read"),
    ],
)
def test_what_a_slot_does_not_have_leads_to_the_right_word(graph, word, instead):
    op = OpAdd(graph=graph, image=IMAGE)
    with pytest.raises(AttributeError, match=f"{word!r}; use slot.*{instead}"):
        getattr(op.output, word)
    with pytest.raises(AttributeError, match=r"'colour'$"):
        op.output.colour  # noqa: B018
    with pytest.raises(AttributeError, match=r"slot\.value"):
        op.amount.read  # noqa: B018
