"""Checks of many requests at once, of cancelling, and of failing inputs."""

from __future__ import annotations

import random
import sys
import threading
import time
from functools import partial
from types import FrameType
from typing import Any

import numpy as np

from lazyflow_core.errors import CancelledError, RequestCancelledError, RequestError, RequestTimeoutError
from lazyflow_core.foreign import shown, text_of
from lazyflow_core.request import (
    Request,
    RequestState,
    SeededScheduler,
    ThreadedScheduler,
    checkpoint,
    gather,
)
from lazyflow_core.roi import Roi
from lazyflow_core.testing.case import InputArray
from lazyflow_core.testing.checks.push import _over, _wait_for
from lazyflow_core.testing.operators import OpFailOnce, OpGate
from lazyflow_core.testing.registry import check
from lazyflow_core.testing.trial import Bench, Trial, key

_WORKLOAD = 4  # regions per thread


@check(needs=("roi_consistency",))
def thread_safety(trial: Trial) -> None:
    """Many regions computed at once are the same as one after another: in threads, and on 1, 2, 8 workers."""
    with trial.bench() as bench:
        _in_threads(trial, bench)
    for workers in (1, 2, 8):
        with ThreadedScheduler(workers, name="kit") as scheduler, trial.bench(scheduler) as bench:
            jobs = _jobs(trial, bench, 2 * _WORKLOAD)
            requests = [(slot, roi, slot.request(roi).submit()) for slot, roi in jobs]
            for slot, roi, request in requests:
                found = request.wait(trial.case.timeout_s)
                trial.expect_part(slot, roi, found, f", one of many on {workers} workers,")


@check(needs=("thread_safety",))
def interleavings(trial: Trial) -> None:
    """Requests that give way to each other at every read give the same, for every seed."""
    for k in range(4):
        seed = trial.seed + k
        with SeededScheduler(seed, preempt_chance=0.7) as scheduler, trial.bench(scheduler) as bench:
            jobs = _jobs(trial, bench, _WORKLOAD)
            results = scheduler.run(partial(gather, *[slot.request(roi) for slot, roi in jobs]))
            for (slot, roi), found in zip(jobs, results, strict=True):
                trial.expect_part(slot, roi, found, f", one of many under SeededScheduler({seed}),")


@check(needs=("thread_safety", "dirty_completes", "setup_is_undone"))
def sees_one_version(trial: Trial) -> None:
    """What changes while an execution goes on changes nothing of it, and its result is not kept for new."""
    trial.need_inputs()
    for k in range(3):
        if not _change_while_held(trial, k):
            break
    with ThreadedScheduler(2, name="kit") as scheduler, trial.bench(scheduler) as bench:
        slots = bench.outputs  # of then: a parameter may change which there are
        held = [OpGate(graph=bench.graph, image=slot) for slot in slots]
        for gate in held:
            gate.shut(before=True)
        requests = [gate.output.request().submit() for gate in held]
        for gate in held:
            gate.arrived.wait(trial.case.timeout_s)
        expected = _change_everything(trial, bench)
        for gate in held:
            gate.open()
        for slot, request in zip(slots, requests, strict=True):
            found = request.wait(trial.case.timeout_s)
            how = ", read by an operator that began before a change,"
            trial.expect_part(slot, _whole(trial, slot), found, how)
        _expect_new(trial, bench, expected)


def _change_while_held(trial: Trial, after: int) -> bool:
    """Change everything while a request is at one of its reads; return whether it came there."""
    with ThreadedScheduler(2, name="kit") as scheduler, trial.bench(scheduler, between=OpGate) as bench:
        slot, gate = bench.outputs[0], next(iter(bench.between.values()))
        gate.shut(after)
        request = slot.request().submit()
        if not _wait_for(gate.arrived, _over(request), trial.case.timeout_s):
            request.wait(trial.case.timeout_s)
            return False
        expected = _change_everything(trial, bench)
        gate.open()
        found = request.wait(trial.case.timeout_s)
        how = f", with all inputs and parameters changed while it read for the {after + 1}. time,"
        trial.expect_part(slot, _whole(trial, slot), found, how)
        _expect_new(trial, bench, expected)
    return True


def _whole(trial: Trial, slot: Any) -> Roi:
    """Return all of a slot as it was before any change."""
    return Roi.from_shape(trial.wholes[key(slot)].shape)


def _change_everything(trial: Trial, bench: Bench) -> dict[str, Any]:
    """Give all inputs other pixels and all parameters their other value; return what a new operator gives."""
    contents = {}
    for name, source in bench.sources.items():
        content = source.content.value
        pixels, whole = content.pixels, content.meta.roi
        if pixels.size:
            pixels = trial.changed(pixels, whole, pixels.min(), pixels.max())
        contents[name] = InputArray(np.array(pixels), content.meta)
    params = {**trial.case.params, **trial.case.change}
    with trial.bench(arrays=contents, params=params) as new:
        expected = {key(slot): np.array(slot.read()) for slot in new.outputs}
    with bench.graph.transaction():
        for name, source in bench.sources.items():
            source.content.value = contents[name]
        for name, value in trial.case.change.items():
            getattr(bench.operator, name).value = value
    return expected


def _expect_new(trial: Trial, bench: Bench, expected: dict[str, Any]) -> None:
    for slot in bench.outputs:
        found = slot.request().submit().wait(trial.case.timeout_s)
        where = f"{slot}, asked after a change that came while an execution of before was going on,"
        trial.expect_equal(np.asarray(found), expected[key(slot)], where, "what a new operator gives")


@check(needs=("roi_consistency",))
def cancel_safety(trial: Trial) -> None:
    """A request cancelled while it waits for an input ends as cancelled and leaves nothing behind."""
    trial.need_inputs()
    tried = 0
    for name in trial.case.arrays():
        for k in range(4):
            with (
                ThreadedScheduler(1, name="kit") as scheduler,
                trial.bench(scheduler, between=OpGate) as bench,
            ):
                if not _cancel_at(trial, bench, name, k):
                    break
                tried += 1
    if not tried:
        trial.skip("no request reads an input")


@check(needs=("roi_consistency",))
def error_transparency(trial: Trial) -> None:
    """An input's error reaches who asked, as the cause; afterwards everything works."""
    trial.need_inputs()
    tried = 0
    for name in trial.case.arrays():
        for k in range(3):
            with trial.bench(between=OpFailOnce) as bench:
                input_ = bench.between[name]
                slot = bench.outputs[0]
                error = input_.fail(after=k)
                raised: BaseException | None = None
                try:
                    slot.read()
                except Exception as caught:
                    raised = caught
                if input_._passing is not None:
                    break  # it asks fewer times
                tried += 1
                if raised is None:
                    trial.fail(
                        f"{slot}: read {k} of {name} raised {shown(error)}, but the request gave a result."
                    )
                if error not in _causes(raised):
                    trial.fail(
                        f"{slot}: {name} raised {shown(error)}, but what arrived is {shown(raised)} "
                        "without it."
                    )
                trial.expect_part(slot, slot.meta.roi, slot.read(), f" after {name} failed once")
    if not tried:
        trial.skip("no request reads an input")


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _jobs(trial: Trial, bench: Bench, count: int) -> list[tuple[Any, Any]]:
    jobs = [(slot, roi) for slot in bench.outputs for roi in trial.rois(slot.meta.shape)[: count + 4]]
    order = trial.chance.permutation(len(jobs))[:count]
    return [jobs[i] for i in order]


def _in_threads(trial: Trial, bench: Bench) -> None:
    """Compute in threads that give way at every line of the operator's own code."""
    modules = {cls.__module__ for cls in type(bench.operator).__mro__}
    modules = {m for m in modules if not m.startswith("lazyflow_core.graph") and m != "builtins"}
    faults: list[BaseException] = []
    start = threading.Barrier(4)
    shares = [(_jobs(trial, bench, _WORKLOAD), random.Random(trial.seed + n)) for n in range(4)]

    def work(jobs: list[tuple[Any, Any]], chance: random.Random) -> None:
        def enter(frame: FrameType, event: str, _: Any) -> Any:
            if frame.f_globals.get("__name__") not in modules:
                return None
            seen: set[int] = set()

            def give_way(frame: FrameType, event: str, _: Any) -> Any:
                # Once per line and call: a loop would spend its time here.
                if frame.f_lineno not in seen and chance.random() < 0.7:
                    time.sleep(0.00002)
                seen.add(frame.f_lineno)
                return give_way

            return give_way

        sys.settrace(enter)
        try:
            start.wait(10 * trial.case.timeout_s)
            for slot, roi in jobs:
                trial.expect_part(slot, roi, slot.read(roi), ", one of many in threads,")
        except Exception as error:
            faults.append(error)
        finally:
            sys.settrace(None)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=share, daemon=True) for share in shares]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10 * trial.case.timeout_s)
            if thread.is_alive():
                trial.fail(
                    f"{bench.operator.name}: requests in 4 threads hang; is a lock held across a read?"
                )
    finally:
        sys.setswitchinterval(interval)
    if faults:
        raise faults[0]


def _watch_execute(bench: Bench) -> list[Any]:
    """Return a list that fills with the regions whose `execute` returned after its request was cancelled."""
    returned: list[Any] = []
    execute = bench.operator.execute

    def watched(slot: Any, roi: Any, out: Any) -> Any:
        result = execute(slot, roi, out)
        try:
            checkpoint()
        except CancelledError:
            returned.append(roi)
            raise
        return result

    bench.operator.__dict__["execute"] = watched
    return returned


def _cancel_at(trial: Trial, bench: Bench, name: str, after: int) -> bool:
    """Cancel at one read; return whether the request came that far."""
    timeout_s = trial.case.timeout_s
    slot = bench.outputs[0]
    gate = bench.between[name]
    gate.shut(after)
    returned = _watch_execute(bench)
    request: Request[Any] = slot.request().submit()
    over = _over(request)
    if not _wait_for(gate.arrived, over, timeout_s):
        return False
    request.cancel()
    # Who swallows the cancellation may still be waiting for more; the gate is no obstacle any longer.
    gate.open()
    if not over.wait(timeout_s):
        trial.fail(f"{slot}: a request that was cancelled at read {after} of {name} does not end.")
    if request.state is not RequestState.CANCELLED or returned:
        trial.fail(
            f"{slot}: a request that was cancelled at read {after} of {name} went on as if it was not; "
            "do not catch CancelledError, or raise it again."
        )
    try:
        Request(lambda: None, scheduler=bench.graph.scheduler).submit().wait(timeout_s)
        found = slot.request().submit().wait(timeout_s)
    except RequestTimeoutError:
        trial.fail(
            f"{slot}: after a request was cancelled at read {after} of {name} the next one hangs; release "
            "locks in `finally` or by `with`."
        )
    except (RequestCancelledError, RequestError) as error:
        trial.fail(
            f"{slot}: after a request was cancelled at read {after} of {name} the next one fails: "
            f"{text_of(error)}"
        )
    trial.expect_part(
        slot, slot.meta.roi, np.asarray(found), f" after a request was cancelled at read {after}"
    )
    return True
