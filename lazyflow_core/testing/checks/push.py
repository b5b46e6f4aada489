"""Checks of pushing: what changes is announced, and asked again gives the new values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from lazyflow_core.graph import Output
from lazyflow_core.request import ThreadedScheduler
from lazyflow_core.roi import Roi
from lazyflow_core.testing.case import InputArray
from lazyflow_core.testing.operators import OpArraySource, OpGate
from lazyflow_core.testing.registry import check
from lazyflow_core.testing.trial import Bench, Trial, key


@check(needs=("meta_consistency",), reports_fail=True)
def dirty_soundness(trial: Trial) -> None:
    """Every output pixel that changes with an input region is announced, without computing anything."""
    trial.need_inputs()
    counts = np.zeros(2, int)
    with trial.bench() as bench:
        for name, source, roi, pixels in _changes(trial, bench, 12):
            arrays = _copies(bench)
            before = {key(slot): np.array(_fresh(trial, arrays, slot)) for slot in bench.outputs}
            heard = _listen(bench)
            bench.asked()
            source.change(roi, pixels)
            for other, rois in bench.asked().items():
                if rois:
                    trial.fail(f"announcing that {name} changed in {roi} asked {other} for {rois[0]}.")
            after = {key(slot): _fresh(trial, _copies(bench), slot) for slot in bench.outputs}
            for slot in bench.outputs:
                changed = trial.differing(after[key(slot)], before[key(slot)])
                why = f"{name} changed in {roi}"
                counts += _expect_announced(trial, slot, changed, heard[key(slot)], why)
            heard.clear()
    if counts[1]:
        trial.remark = f"announces {counts[0] / counts[1]:.1f} times the pixels that change"


@check(needs=("dirty_soundness", "roi_consistency"), reports_fail=True)
def dirty_completes(trial: Trial) -> None:
    """After a change, a new request gives the new values, even if the change came while one was computing."""
    case = trial.case
    with trial.bench() as bench:
        for name, source, roi, pixels in _changes(trial, bench, 6):
            for slot in bench.outputs:
                slot.read()
            source.change(roi, pixels)
            for slot in bench.outputs:
                where = f"{slot} after {name} changed in {roi}"
                new = _fresh(trial, _copies(bench), slot)
                trial.expect_equal(np.asarray(slot.read()), new, where, "what a new operator gives")
    if case.change:
        _change_parameters(trial)
    for k in range(3):
        if not _change_meanwhile(trial, k):
            break


def _change_parameters(trial: Trial) -> None:
    params = {**trial.case.params, **trial.case.change}
    with trial.bench(params=params) as new:
        expected = {key(slot): (slot.meta, np.array(slot.read())) for slot in new.outputs}
    with trial.bench() as bench:
        before = {key(slot): (slot.meta, np.array(slot.read())) for slot in bench.outputs}
        heard = _listen(bench)
        with bench.graph.transaction():
            for name, value in trial.case.change.items():
                getattr(bench.operator, name).value = value
        what = "what a new operator gives"
        for slot in bench.outputs:
            meta, pixels = expected[key(slot)]
            where = f"{slot} after {', '.join(trial.case.change)} changed"
            if slot.meta != meta:
                trial.fail(f"{where} has meta {slot.meta!r}; a new operator has {meta!r}.")
            trial.expect_equal(np.asarray(slot.read()), pixels, where, what)
            old = before.get(key(slot))
            if old is not None and old[0] == meta:
                changed = trial.differing(old[1], pixels)
                _expect_announced(trial, slot, changed, heard[key(slot)], "a parameter changed")


def _change_meanwhile(trial: Trial, after: int) -> bool:
    """Change an input while a request holds its old pixels; return whether the request came that far."""
    if not trial.case.inputs:
        return False
    with ThreadedScheduler(1, name="kit") as scheduler, trial.bench(scheduler, between=OpGate) as bench:
        slot = bench.outputs[0]
        name, gate = next(iter(bench.between.items()))
        source = bench.sources[name]
        whole = source.output.meta.roi
        if whole.is_empty:
            return False
        gate.shut(after)
        request = slot.request().submit()
        over = _over(request)
        if not _wait_for(gate.arrived, over, trial.case.timeout_s):
            request.wait(trial.case.timeout_s)
            return False
        pixels = source.content.value.pixels
        new = trial.changed(pixels, whole, pixels.min(), pixels.max())
        source.change(whole, new)
        gate.open()
        request.wait(trial.case.timeout_s)
        expected = _fresh(trial, _copies(bench), slot)
        found = slot.request().submit().wait(trial.case.timeout_s)
        where = f"{slot}, asked after {name} changed while an earlier request was computing,"
        trial.expect_equal(np.asarray(found), expected, where, "what a new operator gives")
    return True


def _over(request: Any) -> Any:
    import threading

    event = threading.Event()
    request.on_done(lambda _: event.set())
    return event


def _wait_for(arrived: Any, over: Any, timeout_s: float) -> bool:
    """Wait until a request is at the gate (True) or over (False)."""
    import time

    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if arrived.wait(0.002):
            return True
        if over.is_set():
            return bool(arrived.is_set())
    return False


def _changes(trial: Trial, bench: Bench, most: int) -> Iterator[tuple[str, OpArraySource, Roi, Any]]:
    """Give each input's name, its source, and at most so many of its regions, with new pixels for each."""
    for name, source in bench.sources.items():
        pixels = source.content.value.pixels
        if pixels.size:
            low, high = pixels.min(), pixels.max()
            for roi in trial.rois(pixels.shape)[:most]:
                if not roi.is_empty:
                    yield name, source, roi, trial.changed(pixels, roi, low, high)


def _fresh(trial: Trial, arrays: dict[str, InputArray], slot: Output) -> Any:
    """Return what a new operator gives for the present inputs."""
    with trial.bench(arrays=arrays) as new:
        return np.array(new.output(key(slot)).read())


def _copies(bench: Bench) -> dict[str, InputArray]:
    contents = {name: source.content.value for name, source in bench.sources.items()}
    return {name: InputArray(c.pixels.copy(), c.meta) for name, c in contents.items()}


def _listen(bench: Bench) -> dict[str, list[Roi]]:
    """Return what outputs announce from now on."""
    heard: dict[str, list[Roi]] = defaultdict(list)
    for slot in bench.outputs:
        slot.dirty.subscribe(lambda slot, roi: heard[key(slot)].extend(roi.boxes))
    return heard


def _expect_announced(
    trial: Trial, slot: Output, changed: Any, announced: list[Roi], why: str
) -> tuple[int, int]:
    """Return how many pixels were announced, and how many changed; fail if one of these was not announced."""
    stale = np.zeros(changed.shape, bool)
    for roi in announced:
        stale[roi.slicing] = True
    missed = changed & ~stale
    if missed.any():
        first = tuple(int(i) for i in np.argwhere(missed)[0])
        regions = ", ".join(map(str, announced)) or "nothing"
        trial.fail(
            f"{slot}: {why}; the result changed at {first} and {int(missed.sum()) - 1} more pixels outside "
            f"of what propagate_dirty announced ({regions})."
        )
    return int(stale.sum()), int(changed.sum())
