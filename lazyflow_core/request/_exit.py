"""The end of the main thread: threads that wait for what nobody will bring do not keep the process.

The interpreter waits for threads that are no daemons before it calls what `atexit` has, and so before our
schedulers close. One that waits for a suspended request would then wait for ever.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import Any

from ._party import ThreadParty, Verdict, Waiter
from ._scheduler import EXIT_GRACE, open_schedulers
from ._waitgraph import parked

__all__ = ["watch_the_end"]

#: Seconds between two looks.
_PATIENCE = 0.05

#: Python 3.12.0 and 3.12.1 start no thread once the end has begun (python/cpython#113964).
_BEFOREHAND = (3, 12) <= sys.version_info < (3, 12, 2)

_is_watched = False
_ended = threading.Event()


def watch_the_end() -> None:
    """Have the end of the main thread watched; called whenever a scheduler starts its threads."""
    global _is_watched
    register = getattr(threading, "_register_atexit", None)
    if _is_watched or register is None:
        return
    _is_watched = True
    # What is registered last is called first. The executors of the standard library, imported above, join
    # their threads there, and those may wait for us.
    with contextlib.suppress(RuntimeError):  # the end has begun
        register(_begin)
        if _BEFOREHAND:
            _start_thread()


def _begin() -> None:
    _ended.set()
    if _others() and not _BEFOREHAND:
        with contextlib.suppress(RuntimeError):  # no thread can be started any more
            _start_thread()


def _start_thread() -> None:
    threading.Thread(target=_end_hopeless_waits, name="lazyflow-exit", daemon=True).start()


def _others() -> list[threading.Thread]:
    """Return the threads the interpreter waits for."""
    main = threading.main_thread()
    return [thread for thread in threading.enumerate() if not thread.daemon and thread is not main]


def _end_hopeless_waits() -> None:
    _ended.wait()
    since = time.monotonic()
    while _others():
        waits = _hopeless_waits()
        if not waits:
            since = time.monotonic()
        elif time.monotonic() - since >= EXIT_GRACE:
            for scheduler in open_schedulers():
                scheduler.close(EXIT_GRACE)
            for waiter in waits:
                waiter.decide(Verdict.CANCELLED)
            return
        time.sleep(_PATIENCE)


def _hopeless_waits() -> list[Waiter]:
    """Return the waits of threads the interpreter waits for, or nothing if anybody could end one of them."""
    ours = {threading.current_thread()}
    for scheduler in open_schedulers():
        crew: Any = scheduler._crew
        workers = getattr(crew, "workers", ())
        if any(worker not in crew.sleepers for worker in workers):
            return []
        ours |= {worker.thread for worker in workers}
        ours.add(getattr(crew, "stall_watch", None))  # type: ignore[arg-type]
    if any(thread.daemon and thread not in ours for thread in threading.enumerate()):
        return []
    waits = [waiter for waiter in list(parked) if waiter.verdict is None]
    if any(waiter.timeout is not None for waiter in waits):
        return []
    found = [waiter for waiter in waits if type(waiter.party) is ThreadParty]
    blocked = {waiter.party.thread_id for waiter in found}  # type: ignore[union-attr]
    return found if all(thread.ident in blocked for thread in _others()) else []
