"""How long an operator goes on after nobody wants its result any more."""

from __future__ import annotations

import threading
import time
from math import ceil, prod
from typing import Final

import numpy as np

from lazyflow_core.errors import LazyflowError
from lazyflow_core.request import Request, ThreadedScheduler
from lazyflow_core.testing.case import InputArray
from lazyflow_core.testing.registry import check
from lazyflow_core.testing.trial import Trial

#: Pixels of the region that is asked for, about a block of 64³.
_PIXELS: Final = 1 << 18
#: Processor time after which it has to have stopped: 20 ms are the rule, and processors differ by far.
_PATIENCE_S: Final = 0.1
#: Shares of the work after which it is cancelled.
_SHARES: Final = (0.1, 0.6)


@check(needs=("cancel_safety",))
def stops_soon(trial: Trial) -> None:
    """A cancelled request ends soon, after a few milliseconds of work, however large its region is."""
    trial.need_inputs()
    if not hasattr(time, "pthread_getcpuclockid"):
        trial.skip("this system does not tell how long a thread has worked")
    arrays = _enlarged(trial)
    try:
        all_s = _work_s(trial, arrays)
    except LazyflowError as error:
        trial.skip(f"it does not take larger inputs: {error}")
    pixels = max((given.pixels.size for given in arrays.values()), default=0)
    trial.remark = f"{pixels} pixels take {1000 * all_s:.0f} ms"
    if all_s <= _PATIENCE_S:
        return
    for share in _SHARES:
        # Processor time of the worker, not the time on the wall, and the shortest of some: what else runs
        # on this machine is not the operator's fault.
        left_s = min(_attempts(trial, arrays, share * all_s))
        if left_s > _PATIENCE_S:
            trial.fail(
                f"a request for {pixels} pixels that was cancelled after {share:.0%} of its work went on "
                f"for {1000 * left_s:.0f} ms; call checkpoint() between pieces of at most 20 ms, and native "
                "code by run_stoppable."
            )


def _attempts(trial: Trial, arrays: dict[str, InputArray], after_s: float) -> list[float]:
    found: list[float] = []
    while len(found) < 3 and not (found and found[-1] <= _PATIENCE_S):
        found.append(_work_s(trial, arrays, after_s))
    return found


def _enlarged(trial: Trial) -> dict[str, InputArray]:
    """Return the inputs repeated along their spatial axes."""
    arrays = trial.arrays()
    times: dict[str, int] = {}
    for given in arrays.values():
        axes, shape = given.meta.axes, given.meta.shape
        keys = [axes[i].key for i in axes.spatial if shape[i] > 1]
        size = max(1, given.pixels.size)
        if keys and size > 1:
            factor = ceil(max(1.0, (_PIXELS / size) ** (1 / len(keys))) - 1e-9)
            times |= {key: min(factor, times.get(key, factor)) for key in keys}
    for name, given in arrays.items():
        meta = given.meta
        counts = [
            times.get(axis.key, 1) if n > 1 else 1 for axis, n in zip(meta.axes, meta.shape, strict=True)
        ]
        if prod(counts) > 1:
            pixels = np.tile(given.pixels, counts)
            arrays[name] = InputArray(pixels, meta.replace(shape=pixels.shape))
    return arrays


def _work_s(trial: Trial, arrays: dict[str, InputArray], cancel_after_s: float | None = None) -> float:
    """Return the processor time of a request for everything; if it is cancelled, what comes after that."""
    timeout_s = 10 * trial.case.timeout_s
    with ThreadedScheduler(1, name="kit") as scheduler, trial.bench(scheduler, arrays=arrays) as bench:
        if not bench.outputs:
            return 0.0
        begun, over, times = threading.Event(), threading.Event(), [0.0, 0.0]
        thread = 0

        def pull() -> None:
            nonlocal thread
            thread, times[0] = threading.get_ident(), time.thread_time()
            begun.set()
            try:
                bench.outputs[0].read()
            finally:
                times[1] = time.thread_time()

        request = Request(pull, scheduler=scheduler).submit()
        request.on_done(lambda _: over.set())
        begun.wait(timeout_s)
        if cancel_after_s is not None:
            clock = time.pthread_getcpuclockid(thread)
            while not over.is_set() and time.clock_gettime(clock) - times[0] < cancel_after_s:
                over.wait(0.001)
            times[0] = times[1] if over.is_set() else time.clock_gettime(clock)
            request.cancel()
        if not over.wait(timeout_s):
            trial.fail(f"{bench.outputs[0]}: a request that was cancelled does not end.")
        if cancel_after_s is None:
            request.wait()
        return max(0.0, times[1] - times[0])
