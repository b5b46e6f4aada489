"""The kit has teeth: every mutant is caught by the check that should catch it, and by no other."""

import time

import pytest

from lazyflow_core.testing import Case, all_checks, array, check_operator

from .mutants import (
    LEFT_BEHIND,
    MUTANTS,
    OpAsksItself,
    OpGood,
    OpIsRemembered,
    OpKeepsLock,
    OpLooksOften,
    OpRemembersPixels,
    OpRemembersVersions,
    OpWithPlan,
)


def case_of(operator, **more):
    image = array((22, 17), "yx", low=1, high=90)
    return Case(
        operator,
        {"image": image},
        change={"factor": 3.0},
        halo=2,
        timeout_s=0.2 if operator is OpKeepsLock else 5,
        **more,
    )


@pytest.fixture(autouse=True)
def tidy():
    yield
    OpIsRemembered.everyone.clear()
    OpRemembersPixels.results.clear()
    for event, thread in LEFT_BEHIND:
        event.set()
        thread.join()
    LEFT_BEHIND.clear()


@pytest.mark.parametrize("operator", [OpGood, OpAsksItself, OpWithPlan, OpRemembersVersions, OpLooksOften])
def test_a_correct_operator_passes_every_check(operator):
    results = check_operator(case_of(operator))
    assert [r.name for r in results] == [c.name for c in all_checks()]
    assert {r.status for r in results} == {"passed"}, [r for r in results if r.status != "passed"]


def test_how_much_more_is_announced_than_changes_is_told():
    (result,) = check_operator(case_of(OpGood), checks=["dirty_soundness"])
    assert result.detail == "announces 1.1 times the pixels that change"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.__name__)
def test_a_mutant_is_caught_by_the_check_that_should_within_two_seconds(mutant):
    begin = time.process_time()  # not the wall's: other work on this machine is not the kit's fault
    results = check_operator(case_of(mutant))
    seconds = time.process_time() - begin
    assert [r.name for r in results if r.status == "failed"] == [MUTANTS[mutant]], results
    assert seconds < 2


def test_every_check_catches_a_mutant():
    idle = {c.name for c in all_checks()} - set(MUTANTS.values())
    assert idle == set()
