"""The table of tolerances has a row for everything that computes; what is new is not forgotten."""

from __future__ import annotations

import inspect

import pytest
from filter_cases import EXACT, FILTERS, speckled
from lazyflow_core import Graph
from operator_cases import CASES, make, thresholded
from test_golden import PAD
from tolerances import KINDS, TITLES, TOLERANCES

from lazyflow_ops_filters import kernels as k
from lazyflow_ops_filters.kernels.composite import FilterSet, Presmoothed
from lazyflow_ops_filters.kernels.filters import Filter

ROWS = {type(make((1.0, 1.0))) for make in FILTERS.values()} | {type(make((1, 1))) for make in EXACT.values()}


def all_filters(base=Filter):
    """Yield every filter of this distribution that can be run."""
    for cls in base.__subclasses__():
        if not inspect.isabstract(cls) and cls.__module__.startswith("lazyflow_ops_filters"):
            yield cls
        yield from all_filters(cls)


def parts(filter):
    """Yield the filters that a filter is composed of."""
    if isinstance(filter, FilterSet):
        for part in filter.filters:
            yield from parts(part)
    elif isinstance(filter, Presmoothed):
        yield filter.smoothing
        yield from parts(filter.filter)
    else:
        yield filter


def test_every_filter_is_in_the_table_of_tolerances():
    missing = {cls for cls in all_filters() if cls.__name__[0] != "_"} - ROWS - {FilterSet, Presmoothed}
    assert not missing, f"{missing} need rows in filter_cases.FILTERS and TOLERANCES, or in EXACT"
    assert set(FILTERS) == set(TOLERANCES) == set(TITLES)


@pytest.mark.parametrize(("cls", "parameters"), CASES)
def test_what_operators_run_is_in_the_table_of_tolerances(cls, parameters):
    with Graph() as graph:
        operator = make(cls, parameters, graph, thresholded(speckled((12, 12, 12)), cls), "zyx")
        assert {type(part) for part in parts(operator.plan.filter)} <= ROWS


def test_every_backend_has_a_column_and_every_border_a_definition():
    for tolerance in TOLERANCES.values():
        for name, _, _ in k.describe_backends():
            assert all(0 < tolerance.of(name, kind, sigma) < 1 for kind in KINDS for sigma in (1.0, 10.0))
    assert set(PAD) == set(k.BORDERS)


def test_what_a_backend_refuses_is_said_of_the_border_for_all_filters_alike(backend):
    refused = {
        border: {bool(backend.refuses(make((1.0,) * n), border)) for make in FILTERS.values() for n in (2, 3)}
        for border in k.BORDERS
    }
    others = {backend.name == "vigra"}
    assert refused == {"mirror": {False}, "reflect": others, "nearest": others, "zero": others}
