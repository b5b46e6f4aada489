"""Checks of the end: what was closed or dropped is gone."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from typing import Any

from lazyflow_core.request import InlineScheduler
from lazyflow_core.testing.registry import check
from lazyflow_core.testing.trial import Bench, Trial


@check(needs=("determinism",))
def no_leak(trial: Trial) -> None:
    """Closed or dropped, the operator dies, with its graph, slots, pixels, threads and open files."""
    for how in ("closed", "dropped"):
        threads, files = set(threading.enumerate()), open_files()
        gc.freeze()  # what was there before need not be looked through
        try:
            references, new_threads = _use(trial, close=how == "closed")
            gc.collect()
        finally:
            gc.unfreeze()
        for what, reference in references:
            if reference() is not None:
                holders = {type(h).__name__ for h in gc.get_referrers(reference())}
                trial.fail(
                    f"{what} lives on after the operator was {how}; held by {', '.join(sorted(holders))}."
                )
        left = [t for t in new_threads - threads if t.is_alive() and "default" not in t.name]
        if left:
            trial.fail(f"{left[0].name!r} is still running after the operator was {how}.")
        more = open_files() - files
        if more:
            trial.fail(f"{sorted(more)[0]} is still open after the operator was {how}.")


def _use(trial: Trial, *, close: bool) -> tuple[list[tuple[str, weakref.ref[Any]]], set[threading.Thread]]:
    """Use the operator in a frame of its own, so that nothing here holds it afterwards."""
    arrays = trial.arrays()
    bench = Bench(trial.case, arrays, InlineScheduler(), None, dict(trial.case.params))
    references: list[tuple[str, weakref.ref[Any]]] = [
        ("the graph", weakref.ref(bench.graph)),
        ("the operator", weakref.ref(bench.operator)),
        *((f"the array at {name}", weakref.ref(given.pixels)) for name, given in arrays.items()),
    ]
    for slot in bench.outputs:
        references.append((f"the slot {slot}", weakref.ref(slot)))
        references.append((f"a result of {slot}", weakref.ref(slot.read())))
    threads = set(threading.enumerate())
    if close:
        bench.graph.close()
    return references, threads


def open_files() -> set[str]:
    """Return what this process has open, where the system can tell."""
    found = set()
    try:
        for number in os.listdir("/proc/self/fd"):
            try:
                path = os.readlink(f"/proc/self/fd/{number}")
            except OSError:
                continue  # the one that listed them
            if path.startswith("/") and not path.startswith(("/dev/", "/proc/")):
                found.add(path)
    except OSError:
        pass
    return found
