"""dask and xarray take a slot for an array; run by the tox environment ``peers``."""

import dask.array
import numpy as np
import xarray

from .conftest import IMAGE


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


def test_xarray_over_dask_stays_lazy(op):
    lazy = dask.array.from_array(op.output.as_array(), chunks=(1, 6, 8))
    array = xarray.DataArray(lazy, dims=("z", "y", "x"))
    assert op.executed == []
    assert int(array.sel(z=3).max()) == 1000 - IMAGE[3].min()
    assert [roi.start[0] for roi in op.executed] == [3]


def test_numpy_functions_compute_all_of_it(op):
    assert np.mean(op.output.as_array()) == (1000 - IMAGE).mean()
    assert np.array_equal(np.asarray(op.output.as_array()[1]), 1000 - IMAGE[1])
