"""Checks of building and setting up: what is known before anything was computed."""

from __future__ import annotations

import contextlib
import copy
import pickle
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from lazyflow_core.axes import Axes
from lazyflow_core.errors import GraphError, LazyflowError, SetupError
from lazyflow_core.foreign import contextmanager, sentence
from lazyflow_core.graph import Operator, ParameterSlot, ValueOutput
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.request import InlineScheduler
from lazyflow_core.testing.case import InputArray
from lazyflow_core.testing.operators import OpPassThrough
from lazyflow_core.testing.registry import check
from lazyflow_core.testing.trial import NO_ARRAYS, Bench, CheckFailed, CheckSkipped, Trial, key


@check()
def loads(trial: Trial) -> None:
    """The class can be had by its id, built without connections and with them, and shown."""
    case = trial.case
    try:
        cls = case.load()
    except LazyflowError as error:
        trial.fail(str(error))
    if not (isinstance(cls, type) and issubclass(cls, Operator)):
        trial.fail(f"{cls!r} is no operator class.")
    # A graph is rebuilt elsewhere from a description that names the class; those of tests and of examples may
    # have no name.
    named = cls.__module__ in sys.modules and "<locals>" not in cls.__qualname__
    if named and pickle.loads(pickle.dumps(cls)) is not cls:
        trial.fail(f"{cls!r} is not what {cls.__module__}:{cls.__qualname__} gives.")
    if not (cls.__doc__ or "").strip():
        trial.fail(f"{cls.__name__} has no docstring; listings and the catalogue show its first line.")
    missing = sorted(case.inputs.keys() - cls.declarations.keys())
    if missing:
        trial.fail(f"the case gives {missing[0]!r}, but {cls.__name__} has {', '.join(cls.declarations)}.")
    try:
        with trial.bench(arrays={}) as bench:
            repr(bench.operator)
            if not bench.operator.slots:
                trial.fail(f"{cls.__name__} declares no slots.")
    except CheckFailed:
        raise
    except (Exception, SystemExit) as error:
        trial.fail(f"{cls.__name__} cannot be built without connections: {_text(error)}")
    try:
        with trial.bench() as bench:
            repr(bench.operator)
            if all(isinstance(slot, ValueOutput) for slot in bench.operator.outputs):
                trial.skip(NO_ARRAYS)
            if not bench.outputs:
                trial.fail(
                    f"no output of {cls.__name__} is ready, although the case gives {set(case.inputs)}."
                )
    except (CheckFailed, CheckSkipped):
        raise
    except (Exception, SystemExit) as error:
        trial.fail(f"{cls.__name__} cannot be built with what the case gives: {_text(error)}")


@check(needs=("loads",), reports_fail=True)
def lazy(trial: Trial) -> None:
    """Building and setting up compute no pixel."""
    with trial.bench() as bench:
        _expect_nothing_asked(trial, bench, "building it")
        with bench.graph.transaction():
            for name, value in trial.case.change.items():
                getattr(bench.operator, name).value = value
        _expect_nothing_asked(trial, bench, "changing a parameter")


@check(needs=("lazy",))
def determinism(trial: Trial) -> None:
    """The same request gives the same result, again and in a new operator."""
    if "stochastic" in trial.case.tags:
        trial.skip("tagged stochastic")
    with trial.bench() as bench:
        for slot in bench.outputs:
            for again in ("a second time", "a third time"):
                found = slot.read()
                trial.expect_equal(
                    found, trial.wholes[key(slot)], f"{slot} asked {again}", "the first answer"
                )


@check(needs=("determinism",))
def meta_consistency(trial: Trial) -> None:
    """What the outputs will be is known before computing, is true, and follows the inputs.

    Known: shape and dtype are those of the result, values lie in the stated range, computing changes none of
    it. Follows: with another input the meta is that of a new operator; without input there is none.
    """
    with trial.bench() as bench:
        for slot in bench.outputs:
            before = slot.meta
            whole = slot.read()
            if slot.meta != before:
                trial.fail(f"computing {slot} changed its meta from {before} to {slot.meta}.")
            if whole.shape != before.shape or whole.dtype != before.dtype:
                trial.fail(f"{slot} gave {whole.shape} {whole.dtype}, its meta says {before}.")
            _expect_in_range(trial, slot, whole, before)
    for content in _other_contents(trial):
        _expect_same_as_new(trial, content)
    with trial.bench() as bench:
        for name, source in bench.sources.items():
            input_ = bench.input(name)
            if not input_.required:
                continue
            input_.disconnect()
            for output in bench.outputs:
                trial.fail(f"{output} says it is ready without {name}, which is required.")
            input_.connect(source.output)
            for output in bench.outputs:
                found = output.read()
                trial.expect_part(output, output.meta.roi, found, f" after {name} was disconnected and back")


@check(needs=("meta_consistency",), reports_fail=True)
def setup_is_undone(trial: Trial) -> None:
    """After a change that failed, the operator answers as before."""
    if not trial.case.inputs and not trial.case.change:
        trial.skip("the case has nothing to change")
    for content in [*_other_contents(trial), None]:
        with trial.bench() as bench:
            metas = {key(slot): slot.meta for slot in bench.outputs}
            refuse = _OpRefuse(graph=bench.graph, image=bench.outputs[0])
            with contextlib.suppress(GraphError), bench.graph.transaction():
                for name, other in (content or {}).items():
                    bench.sources[name].content.value = other
                if content is None:
                    for name, value in trial.case.change.items():
                        getattr(bench.operator, name).value = value
                # It is set up last, when everything before it was set up already.
                refuse.refuses.value = True
            for slot in bench.outputs:
                if slot.meta != metas[key(slot)]:
                    trial.fail(f"{slot} has meta {slot.meta} after an undone change, not {metas[key(slot)]}.")
                trial.expect_part(slot, slot.meta.roi, slot.read(), " after an undone change")


@check(needs=("setup_is_undone",))
def setup_leaves_no_trace(trial: Trial) -> None:
    """Setting up writes the outputs and nothing else on the operator; what it prepares is its plan."""
    written: list[str] = []
    kind: Any = trial.case.load()

    class Watched(kind):  # type: ignore[misc]
        __doc__ = kind.__doc__

        def setup_outputs(self) -> Any:
            before = _traces(self)
            plan = super().setup_outputs()
            after = _traces(self)
            written.extend(sorted(name for name in before | after if before.get(name) != after.get(name)))
            return plan

    with _changing(trial, Watched):
        pass
    if written:
        trial.fail(
            f"{kind.__name__}.setup_outputs writes self.{written[0]}, which nobody takes back when the "
            "change fails; return it, and find it in self.plan."
        )


@check(needs=("setup_is_undone",), reports_fail=True)
def plans_are_dropped_once(trial: Trial) -> None:
    """Each plan is made by one setup and dropped once: not while it is in use, not later than at the end."""
    made: list[Any] = []
    dropped: list[Any] = []
    kind: Any = trial.case.load()

    class Watched(kind):  # type: ignore[misc]
        __doc__ = kind.__doc__

        def setup_outputs(self) -> Any:
            plan = super().setup_outputs()
            if plan is not None:
                made.append(plan)
            return plan

        def drop(self, plan: Any) -> None:
            dropped.append(plan)
            super().drop(plan)

    if kind.drop is Operator.drop:
        return  # its plans hold nothing
    name = kind.__name__
    with _changing(trial, Watched) as bench:
        now = bench.operator.plan
        if len({id(plan) for plan in made}) < len(made):
            trial.fail(f"{name}.setup_outputs returned the same plan twice; make a new one each time.")
        if any(plan is now for plan in dropped):
            trial.fail(f"{name}: the plan that is in use was dropped.")
    for plan in made:
        times = sum(plan is other for other in dropped)
        if times != 1:
            trial.fail(f"{name}: a plan was dropped {times} times; only the graph calls drop.")


@contextmanager
def _changing(trial: Trial, kind: Any) -> Iterator[Bench]:
    """Give an operator of another class after each change of the case was refused once and made once."""
    case = replace(trial.case, operator=kind)
    bench = Bench(case, trial.arrays(), InlineScheduler(), None, copy.deepcopy(dict(case.params)))
    try:
        refuse = _OpRefuse(graph=bench.graph, image=bench.outputs[0])
        for content in [*_other_contents(trial), None]:
            for refused in (True, False):
                for slot in bench.outputs:
                    slot.read()  # fills what it keeps
                with contextlib.suppress(GraphError), bench.graph.transaction():
                    for name, other in (content or {}).items():
                        bench.sources[name].content.value = other
                    if content is None:
                        for name, value in trial.case.change.items():
                            getattr(bench.operator, name).value = value
                    refuse.refuses.value = refused
        yield bench
    finally:
        bench.graph.close()


def _traces(operator: Operator) -> dict[str, Any]:
    """Return what an operator keeps besides its slots and what the graph writes, in a form to compare."""
    ours = {*Operator.__annotations__, *type(operator).declarations}
    return {name: _trace(value, 3) for name, value in vars(operator).items() if name not in ours}


def _trace(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, type)):
        return value
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes()
    if depth and isinstance(value, dict):
        return [(_trace(k, depth - 1), _trace(v, depth - 1)) for k, v in value.items()]
    if depth and isinstance(value, (list, tuple, set, frozenset, deque)):
        return [type(value), *(_trace(each, depth - 1) for each in value)]
    parts = getattr(value, "__dict__", None)
    if depth and parts and not type(value).__module__.startswith("lazyflow_core."):
        return id(value), [(name, _trace(part, depth - 1)) for name, part in parts.items()]
    return id(value)


class _OpRefuse(OpPassThrough):
    """Fails to set up when told to."""

    refuses = ParameterSlot(bool, default=False)

    def setup_outputs(self) -> None:
        """Refuse, or pass on the meta."""
        if self.refuses.value:
            raise SetupError("refused, to see what is undone.")
        super().setup_outputs()


def _expect_nothing_asked(trial: Trial, bench: Bench, during: str) -> None:
    for name, rois in bench.asked().items():
        if rois:
            trial.fail(f"{during} asked {name} for {rois[0]}; only execute asks for pixels.")


def _expect_in_range(trial: Trial, slot: Any, whole: Any, meta: ArrayMeta) -> None:
    if meta.value_range is None or not whole.size or meta.dtype.kind not in "buif":
        return
    finite = whole[np.isfinite(whole)]
    if not finite.size:
        return
    low, high = float(finite.min()), float(finite.max())
    room = max(trial.case.tol, 1e-6) * max(map(abs, meta.value_range)) if meta.dtype.kind == "f" else 0
    if low < meta.value_range[0] - room or high > meta.value_range[1] + room:
        trial.fail(f"{slot} holds values from {low} to {high}; its meta says {meta.value_range}.")


def _other_contents(trial: Trial) -> list[dict[str, InputArray]]:
    """Return the case's inputs with other pixel sizes, and without the last pixel of each long axis."""
    arrays = trial.arrays()
    if not arrays:
        return []
    resized, cropped = {}, {}
    for name, given in arrays.items():
        axes = Axes(
            replace(axis, resolution=2 * (axis.resolution or 1)) if axis.kind == "space" else axis
            for axis in given.meta.axes
        )
        resized[name] = InputArray(given.pixels, given.meta.replace(axes=axes))
        roi = given.meta.roi
        for axis in given.meta.axes.spatial:
            if roi.shape[axis] > 8:
                roi = roi.with_axis(axis, 0, roi.shape[axis] - 1)
        cropped[name] = InputArray(given.pixels[roi.slicing], given.meta.cropped(roi))
    return [resized, cropped]


def _expect_same_as_new(trial: Trial, content: dict[str, InputArray]) -> None:
    """Change the inputs of an operator and compare with one that never saw anything else."""
    try:
        with trial.bench(arrays=content) as new:
            expected = {key(slot): (slot.meta, np.array(slot.read())) for slot in new.outputs}
    except GraphError:
        return  # it refuses such an input; that is its right
    with trial.bench() as bench:
        for slot in bench.outputs:
            slot.read()
        with bench.graph.transaction():
            for name, other in content.items():
                bench.sources[name].content.value = other
        if {key(slot) for slot in bench.outputs} != expected.keys():
            trial.fail("with another input other outputs are ready than those of a new operator.")
        for slot in bench.outputs:
            meta, pixels = expected[key(slot)]
            if slot.meta != meta:
                trial.fail(
                    f"{slot} has meta {slot.meta!r} after its input changed; a new operator has {meta!r}."
                )
            than = "what a new operator gives"
            trial.expect_equal(np.asarray(slot.read()), pixels, f"{slot} after its input changed", than)


def _text(error: BaseException) -> str:
    return str(error) if isinstance(error, LazyflowError) else sentence(error)
