"""Results for whole images count in the ledger of the process, and are given back when it asks."""

from __future__ import annotations

import gc
from math import inf

import numpy as np
import pytest
from lazyflow_core import Graph
from lazyflow_core.utility import Holding, memory_ledger

from lazyflow_ops_filters import mask
from lazyflow_ops_filters.mask import OpDistanceTransform, OpHysteresisThreshold

CASES = [
    (OpDistanceTransform, {"largest": inf}, 4),
    (OpHysteresisThreshold, {"low": 0.2, "high": 0.9, "reach": inf}, 1),
]


@pytest.fixture
def ledger():
    ledger = memory_ledger()
    before = ledger.budget_bytes
    yield ledger
    ledger.budget_bytes = before


def account_of(ledger, cls):
    return ledger.account(f"filters.{cls.__name__}")


@pytest.fixture
def image():
    return np.random.default_rng(3).random((40, 50))


@pytest.mark.parametrize(("cls", "parameters", "itemsize"), CASES)
def test_a_whole_result_counts_as_long_as_it_is_kept(cls, parameters, itemsize, image, ledger):
    account = account_of(ledger, cls)
    gc.collect()
    assert account.used_bytes == 0
    with Graph() as graph:
        operator = cls(graph=graph, image=image, **parameters)
        assert account.used_bytes == 0
        operator.output[:5].wait()
        assert (account.used_bytes, account.holdings) == (itemsize * image.size, 1)
        operator.image.mark_dirty(operator.image.meta.roi)
        gc.collect()
        assert account.used_bytes == 0
        operator.output[:5].wait()
    del operator, graph
    gc.collect()
    assert account.used_bytes == 0


@pytest.mark.parametrize(("cls", "parameters", "itemsize"), CASES)
def test_what_it_takes_to_compute_it_is_reserved_meanwhile(
    cls, parameters, itemsize, image, ledger, monkeypatch
):
    account, seen = account_of(ledger, cls), []
    compute = mask._OpReaching._compute
    monkeypatch.setattr(
        mask._OpReaching, "_compute", lambda *a: seen.append(account.used_bytes) or compute(*a)
    )
    with Graph() as graph:
        operator = cls(graph=graph, image=image, **parameters)
        operator.output[:5].wait()
        assert seen == [int(operator.output.meta.ram_per_pixel * image.size)]


@pytest.mark.parametrize(("cls", "parameters", "itemsize"), CASES)
def test_it_makes_room_for_nothing_but_its_equals_and_is_computed_again_after_that(
    cls, parameters, itemsize, image, ledger
):
    account = account_of(ledger, cls)
    gc.collect()
    with Graph() as graph:
        operator = cls(graph=graph, image=image, **parameters)
        expected = operator.output.read()
        given_back = account.given_back
        ledger.account("test.blocks").keep(Holding(2 * ledger.budget_bytes, lambda holding: None))
        assert account.given_back == given_back
        ledger.budget_bytes = 0
        gc.collect()
        assert (account.given_back, account.used_bytes) == (given_back + 1, 0)
        assert np.array_equal(operator.output.read(), expected)
        # Beyond the budget, for otherwise every block would compute the whole image again.
        assert account.used_bytes == itemsize * image.size
        whole = operator.whole.value
        assert operator.whole.value is whole
