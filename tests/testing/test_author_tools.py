"""What authors use besides the checks: cases, operators to test with, strategies, parametrized tests."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings

from lazyflow_core import Graph, InputSlot, Operator, OutputSlot, Roi
from lazyflow_core.errors import SetupError
from lazyflow_core.request import ThreadedScheduler
from lazyflow_core.testing import (
    Case,
    CheckFailed,
    OpArraySource,
    OpDistinctPixels,
    OpFailOnce,
    OpGate,
    OpPassThrough,
    OpRecorder,
    array,
    check_operator,
    parametrize_with_checks,
    strategies,
)

from .mutants import OpGood, OpIgnoresStrides, OpWithoutHalo

pytest_plugins = ["pytester"]

IMAGE = array((9, 8), "yx", seed=3)


def test_importing_the_kit_imports_neither_pytest_nor_hypothesis():
    code = (
        "import sys, lazyflow_core.testing as t\n"
        "t.check_operator(t.Case(t.OpPassThrough, {'image': t.array((9, 9))}))\n"
        "assert not {'pytest', 'hypothesis'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ------------------------------------------------------------------------------------------------------ cases


def test_pixels_hold_both_ends_of_their_range():
    for dtype in ("uint8", "int16", "float32", "bool"):
        pixels = array((13, 11), "yx", dtype, low=0, high=100).pixels
        assert (pixels.min(), pixels.max()) == ((0, 1) if dtype == "bool" else (0, 100))


def test_a_case_refuses_a_tag_and_a_check_that_do_not_exist():
    with pytest.raises(ValueError, match="no tag 'slow'; possible are global, stochastic"):
        Case(OpGood, {"image": IMAGE}, tags={"slow"})
    with pytest.raises(ValueError, match="no check 'halo'; there are loads, lazy, "):
        check_operator(Case(OpGood, {"image": IMAGE}, skip={"halo": "why"}))
    with pytest.raises(ValueError, match="no check 'halo'"):
        check_operator(Case(OpGood, {"image": IMAGE}), checks=["halo"])


def test_an_input_that_the_operator_does_not_have_is_told():
    (result,) = check_operator(Case(OpGood, {"picture": IMAGE}), checks=["loads"])
    assert result.detail == "the case gives 'picture', but OpGood has image, factor, output."


class OpFirstOnly(Operator):
    """The sum of a list of images, as it was when only the first one was thought of."""

    images = InputSlot(level=1)
    output = OutputSlot()

    def setup_outputs(self):
        self.output.meta = self.images[0].meta

    def execute(self, slot, roi, out):
        out[...] = sum(image.read(roi) for image in self.images)

    def propagate_dirty(self, slot, roi):
        if slot is self.images[0]:
            self.output.mark_dirty(roi)


def test_each_element_of_a_list_of_inputs_is_changed_by_itself():
    case = Case(OpFirstOnly, {"images": [IMAGE, array((9, 8), "yx", seed=4)]})
    assert list(case.arrays()) == ["images[0]", "images[1]"]
    failed = [result for result in check_operator(case) if not result.ok]
    assert [result.name for result in failed] == ["dirty_soundness"]
    assert "images[1] changed in" in failed[0].detail


def test_an_operator_of_values_alone_is_loaded_and_nothing_else():
    class OpCount(Operator):
        """How many."""

        image = InputSlot()
        count = OutputSlot(value=int)

        def setup_outputs(self):
            pass

        def compute_value(self, slot):
            return self.image.meta.size

    statuses = {r.status for r in check_operator(Case(OpCount, {"image": IMAGE}))}
    assert statuses == {"skipped"}


def test_an_unknown_id_is_told_and_skips_the_rest():
    results = check_operator(Case("nowhere.x"))
    assert [r.status for r in results] == ["failed"] + ["skipped"] * (len(results) - 1)
    assert "no operator 'nowhere.x'" in results[0].detail


def test_the_same_seed_gives_the_same_results():
    case = Case(OpWithoutHalo, {"image": IMAGE})
    details = [[r.detail for r in check_operator(case, seed=5)] for _ in range(2)]
    assert details[0] == details[1]


def test_an_expected_failure_is_none_and_an_unexpected_success_is_one():
    expected = {"out_buffer": "see the issue", "halo_bound": "it was so once"}
    results = check_operator(
        Case(OpIgnoresStrides, {"image": IMAGE}),
        expected_failed_checks=expected,
        checks=["out_buffer", "halo_bound"],
    )
    assert [(r.status, r.ok) for r in results] == [("expected", True), ("unexpected", False)]
    assert results[1].detail == "it passes, but was expected to fail: it was so once"


def test_a_stochastic_operator_is_not_compared():
    from .mutants import OpRandom

    results = check_operator(Case(OpRandom, {"image": array((16, 14), "yx")}, tags={"stochastic"}))
    assert all(r.ok for r in results), results


def test_checks_that_arrive_later_do_not_run_at_an_earlier_level():
    assert check_operator(Case(OpGood, {"image": IMAGE}), level="0.0") == []


# ------------------------------------------------------------------------------------------------- operators


def test_distinct_pixels_are_numbered_wherever_they_are_asked():
    source = OpDistinctPixels(graph=Graph(), shape=(2, 3, 4))
    whole = source.output.read()
    assert np.array_equal(whole, np.arange(1, 25).reshape(2, 3, 4))
    roi = Roi((1, 0, 1), (2, 2, 4))
    assert np.array_equal(source.output.read(roi), whole[roi.slicing])
    with pytest.raises(SetupError, match="300 pixels cannot all differ in uint8"):
        source.dtype.value = "uint8"
        source.shape.value = (300,)


def test_a_source_notes_what_is_asked_and_announces_what_it_changes():
    graph = Graph()
    source = OpArraySource(graph=graph, content=IMAGE)
    recorder = OpRecorder(graph=graph, image=source.output)
    roi = Roi((1, 1), (2, 3))
    recorder.output.read(roi)
    source.change(roi, 7)
    assert (source.asked, recorder.asked, recorder.dirty) == ([roi], [roi], [roi])
    assert recorder.output.read(roi).tolist() == [[7, 7]]


def test_a_gate_holds_one_request_and_lets_others_pass():
    with ThreadedScheduler(1) as scheduler, Graph(scheduler) as graph:
        gate = OpGate(graph=graph, image=np.eye(3))
        gate.shut(after=1)
        first, second, third = (gate.output.request().submit() for _ in range(3))
        assert gate.arrived.wait(10)
        assert first.wait(10) is not None
        assert third.wait(10) is not None
        assert second.state.name == "SUSPENDED"
        gate.open()
        assert np.array_equal(second.wait(10), np.eye(3))


def test_one_request_fails_and_the_next_does_not():
    operator = OpFailOnce(graph=Graph(), image=np.eye(3))
    error = operator.fail(after=1)
    operator.output.read()
    with pytest.raises(Exception, match="failed, once") as caught:
        operator.output.read()
    assert caught.value.__cause__ is error
    operator.output.read()


# ------------------------------------------------------------------------------------------------ strategies


@given(strategies.images())
@settings(max_examples=20, deadline=None)
def test_any_image_passes_through(image):
    results = check_operator(Case(OpPassThrough, {"image": image}), checks=["roi_consistency"], examples=8)
    assert [r.status for r in results] == ["passed"]


@given(strategies.shapes().flatmap(lambda s: strategies.rois(s, allow_empty=True).map(lambda r: (s, r))))
def test_regions_lie_inside(pair):
    shape, roi = pair
    assert roi in Roi.from_shape(shape)


# -------------------------------------------------------------------------------------------- parametrization

COUNTING = """
from lazyflow_core.testing import Case, OpPassThrough, array, parametrize_with_checks
from lazyflow_core.testing.pytest_support import chosen_option

@parametrize_with_checks([Case(OpPassThrough, {"image": array((9, 8))})], checks=["loads"], examples=3)
def test_it(case, check):
    print("examples", check.session.examples, "unknown", chosen_option("unknown"))
"""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "examples 3 unknown None"),
        (["--lazyflow-examples=7"], "examples 7 unknown None"),
    ],
)
def test_the_command_line_of_pytest_chooses_examples(pytester, options, said):
    pytester.makepyfile(COUNTING)
    result = pytester.runpytest_inprocess("-s", "-p", "lazyflow_core.testing.pytest_support", *options)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"*{said}*"])


def test_without_the_options_the_checks_run_as_well(pytester):
    pytester.makepyfile(COUNTING)
    pytester.runpytest_inprocess("-s", "-p", "no:cacheprovider").assert_outcomes(passed=1)


MARKED = parametrize_with_checks(
    [Case(OpIgnoresStrides, {"image": IMAGE}, skip={"no_leak": "not today"})],
    expected_failed_checks=lambda case: {"out_buffer": "its author knows"},
)


@MARKED
def test_a_known_fault_is_an_expected_failure(case, check):
    check(case)


def test_each_check_is_a_test_with_a_name():
    ids = [parameter.id for parameter in MARKED.args[1]]
    assert ids[0] == "OpIgnoresStrides()-loads"
    assert len(ids) == len(set(ids)) > 12


def test_a_broken_law_names_case_check_seed_and_place():
    mark = parametrize_with_checks(
        [Case(OpWithoutHalo, {"image": IMAGE})], checks=["roi_consistency"], seed=4
    )
    ((case, check),) = [parameter.values for parameter in mark.args[1]]
    with pytest.raises(CheckFailed) as caught:
        check(case)
    lines = str(caught.value).splitlines()
    assert lines[0] == (
        "OpWithoutHalo() breaks the law 'roi_consistency' (seed 4): "
        "A region is that part of the whole, and blocks assemble to the whole."
    )
    assert "OpWithoutHalo.output [8:9, 7:8] differs from the same part of the whole" in lines[1]
