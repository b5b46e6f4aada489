"""dask and xarray take a slot for an array; run by the tox environment ``peers``."""

import dask.array
import numpy as np
import xarray

from lazyflow_core.graph import Graph

from .conftest import IMAGE, OpNegate


def test_dask_computes_block_by_block(op):
    lazy = dask.array.from_array(op.output.as_array(), chunks=(2, 6, 8))
    assert op.executed == []
    assert np.array_equal((lazy + 1).compute(scheduler="threads"), 1001 - IMAGE)
    assert sorted(roi.start[0] for roi in op.executed) == [0, 2]


def test_dask_computes_only_the_blocks_that_are_needed(op):
    lazy = dask.array.from_array(op.output.as_array(), chunks=(1, 6, 8))
    assert np.array_equal(lazy[2, ::2].compute(), 1000 - IMAGE[2, ::2])
    assert [roi.start[0] for roi in op.executed] == [2]


def test_xarray_takes_it_with_names_of_axes(op):
    variable = xarray.Variable(tuple(op.output.meta.axes.keys), op.output.as_array())
    assert variable.dims == ("z", "y", "x")
    assert np.array_equal(variable.isel(z=1).values, 1000 - IMAGE[1])


def test_xarray_computes_nothing_before_it_is_indexed_and_then_what_numpy_would_give(op):
    lazy = xarray.DataArray(op.output.as_array(), dims=("z", "y", "x"))
    plain = xarray.DataArray(1000 - IMAGE, dims=("z", "y", "x"))
    assert op.executed == []
    assert np.array_equal(
        lazy.isel(z=1, y=slice(None, None, -2)).values, plain.isel(z=1, y=slice(None, None, -2))
    )
    assert [roi.shape[0] for roi in op.executed] == [1]
    for question in (
        lambda a: a.isel(y=[0, 5, 2]),
        lambda a: a.isel(y=[0, 5], x=[1, 2, 3]),
        lambda a: a.isel(y=xarray.DataArray([0, 5], dims="p"), x=xarray.DataArray([1, 2], dims="p")),
        lambda a: a.isel(z=np.array([True, False, True, False])),
        lambda a: a.mean("z"),
        lambda a: a + 1,
        lambda a: a == 990,
        lambda a: a.transpose("x", "y", "z"),
        lambda a: a.where(a > 900),
    ):
        xarray.testing.assert_equal(question(lazy), question(plain))


def test_dask_takes_the_preferred_block():
    class OpBlocks(OpNegate):
        def setup_outputs(self):
            self.output.meta = self.image.meta.replace(preferred_block=(2, 3, 8))

    array = OpBlocks(graph=Graph(), image=IMAGE).output.as_array()
    assert (
        dask.array.from_array(array, chunks="auto").chunksize == IMAGE.shape
    )  # small: several blocks at once
    with dask.config.set({"array.chunk-size": IMAGE[:2, :3].nbytes}):
        assert dask.array.from_array(array).chunksize == (2, 3, 8)


def test_xarray_over_dask_stays_lazy(op):
    lazy = dask.array.from_array(op.output.as_array(), chunks=(1, 6, 8))
    array = xarray.DataArray(lazy, dims=("z", "y", "x"))
    assert op.executed == []
    assert int(array.sel(z=3).max()) == 1000 - IMAGE[3].min()
    assert [roi.start[0] for roi in op.executed] == [3]


def test_numpy_functions_compute_all_of_it(op):
    assert np.mean(op.output.as_array()) == (1000 - IMAGE).mean()
    assert np.array_equal(np.asarray(op.output.as_array()[1]), 1000 - IMAGE[1])
