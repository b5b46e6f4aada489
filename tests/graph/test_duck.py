import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyflow_core.errors import RoiError
from lazyflow_core.graph import Graph
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


@pytest.mark.parametrize("key", [[0, 1], np.array([True, False]), 1.5, "x"])
def test_fancy_indexing_is_refused_rather_than_computing_everything(graph, key):
    op = OpAdd(graph=graph, image=IMAGE)
    with pytest.raises(RoiError, match="indexed by integers and slices"):
        op.output.as_array()[key]
    assert op.executed == []


@pytest.mark.parametrize("key", [2, -3, (0, 0, 0, 0), (0, 5), (..., ...)])
def test_an_index_that_is_out_of_bounds_is_an_index_error(graph, key):
    with pytest.raises(IndexError):
        OpAdd(graph=graph, image=IMAGE).output.as_array()[key]


def test_a_copy_cannot_be_avoided(graph):
    with pytest.raises(ValueError, match="copy=False is impossible"):
        OpAdd(graph=graph, image=IMAGE).output.as_array().__array__(copy=False)
