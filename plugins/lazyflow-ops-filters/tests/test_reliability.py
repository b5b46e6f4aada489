"""Odd numbers, shapes and arrays, and any schedule: one test for each thing that goes wrong elsewhere.

`DESIGN.md` says which test answers for which row.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
from filter_cases import speckled
from lazyflow_core import BlockGrid, Graph, Roi
from lazyflow_core.errors import LazyflowError, SetupError
from lazyflow_core.request import InlineScheduler, ThreadedScheduler
from operator_cases import cases, cases_and_otsu, make, thresholded


@pytest.mark.parametrize("odd", [np.inf, -np.inf, -0.0, 1e-42], ids=["inf", "-inf", "-0.0", "subnormal"])
@cases
def test_n1_odd_numbers_do_not_reach_beyond_the_halo(cls, parameters, odd):
    image = thresholded(speckled((13, 14, 15)), cls).astype(np.float32)
    spot = Roi((6, 6, 6), (7, 7, 7))
    changed = image.copy()
    changed[spot.slicing] = odd
    with Graph() as graph, np.errstate(all="ignore"):
        operator = make(cls, parameters, graph, changed, "zyx")
        reached = operator.plan.output_roi(spot)
        result, expected = operator.output.read(), make(cls, parameters, graph, image, "zyx").output.read()
        part = Roi(tuple(n // 3 for n in result.shape), result.shape)
        assert np.array_equal(operator.output.read(part), result[part.slicing], equal_nan=True)
        result[reached.slicing] = expected[reached.slicing] = 0
        assert np.array_equal(result, expected)


@pytest.mark.parametrize(("axes", "shape"), [("", ()), ("x", (40,)), ("t", (5,)), ("tzyxc", (1, 9, 9, 9, 0))])
@cases
def test_n5_few_axes_and_none_give_a_result_or_one_refusal_at_setup(cls, parameters, axes, shape):
    with Graph() as graph:
        image = thresholded(np.ones(shape, np.float32), cls)
        filtered = [key for key in axes if key in "zyx" and not (key == "z" and parameters.get("in_2d"))]
        numbers = {"order": 2, "inner_sigma": 2 if "Orientation" in cls.__name__ else len(filtered)}
        if filtered and all(numbers.get(name, len(filtered)) == len(filtered) for name in parameters):
            operator = make(cls, parameters, graph, image, axes)
            assert operator.output.read().shape == operator.output.meta.shape
        else:
            with pytest.raises(SetupError):
                make(cls, parameters, graph, image, axes)


@cases
def test_n7_any_blocking_has_the_bits_of_the_whole(cls, parameters):
    image = thresholded(speckled((11, 14, 13)), cls)
    with Graph() as graph:
        operator = make(cls, parameters, graph, image, "zyx")
        whole = operator.output.read()
        rng = random.Random(7)
        for _ in range(2):
            pieces = np.empty_like(whole)
            for roi in BlockGrid(whole.shape, tuple(rng.randint(2, max(n, 2)) for n in whole.shape)):
                pieces[roi.slicing] = operator.output.read(roi)
            assert np.array_equal(pieces, whole)


@cases
def test_n9_memory_may_lie_in_any_way_and_is_never_changed(cls, parameters):
    image = thresholded(speckled((10, 11, 12)), cls).astype(np.float32)
    padded = np.zeros((20, 11, 24), np.float32)
    padded[::2, :, ::-2] = image
    forms = {
        "Fortran": np.asfortranarray(image),
        "strided": padded[::2, :, ::-2],
        "other byte order": image.astype(image.dtype.newbyteorder()),
        "read-only": image.copy(),
    }
    with Graph() as graph:
        expected = make(cls, parameters, graph, image, "zyx").output.read()
        for name, form in forms.items():
            before = form.copy()
            form.flags.writeable = False
            result = make(cls, parameters, graph, form, "zyx").output.read()
            assert np.array_equal(result, expected), name
            assert np.array_equal(form, before), name


@pytest.mark.parametrize("dtype", ["c8", "O", "U3", "M8[s]", [("a", "f4"), ("b", "i2")]], ids=str)
@cases_and_otsu
def test_n9_what_is_no_real_number_is_refused_in_one_sentence(cls, parameters, dtype):
    with Graph() as graph, pytest.raises(LazyflowError) as caught:
        make(cls, parameters, graph, np.zeros((20, 20, 20), dtype), "zyx")
    assert "dtype" in str(caught.value)


@cases_and_otsu
def test_n10_the_bits_do_not_depend_on_workers_or_on_the_order_of_blocks(cls, parameters):
    image = thresholded(speckled((2, 13, 14, 15)), cls)
    with Graph(scheduler=InlineScheduler()) as graph:
        expected = make(cls, parameters, graph, image, "tzyx").output.read()
    rng = random.Random(3)
    for workers in (1, 2, 8):
        with ThreadedScheduler(workers) as scheduler, Graph(scheduler=scheduler) as graph:
            output = make(cls, parameters, graph, image, "tzyx").output
            for _ in range(3):
                blocks = list(BlockGrid(expected.shape, (1, 7, 7, 7, 4)[: expected.ndim]))
                rng.shuffle(blocks)
                result = np.empty_like(expected)
                requests = [output.request(roi).write_into(result[roi.slicing]).submit() for roi in blocks]
                for request in requests:
                    request.wait()
                assert result.tobytes() == expected.tobytes()
