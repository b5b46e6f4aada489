"""What every scheduler is to a request, and the default one that is made when first needed."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lazyflow_core.foreign import is_interrupt, log_error, shown

from ._party import Fiber, Party, Waiter
from ._state import RequestState
from ._unique import Unique

if TYPE_CHECKING:
    from typing import Self

    from ._request import Request

__all__ = ["Scheduler", "default_scheduler", "no_scheduler", "open_schedulers", "runs_here"]

logger = logging.getLogger("lazyflow_core")

#: Seconds that the end of the interpreter waits for requests which do not stop.
EXIT_GRACE = 1.0


class Scheduler(Unique):
    """Decides where and when submitted requests run. Base of the three drivers.

    A driver overrides `enqueue`, `close`, and where it makes sense `block_thread`.

    Parameters
    ----------
    name
        For reports and thread names.
    observers
        Objects with any of the methods ``request_started(request)``, ``request_ended(request)``,
        ``request_suspended(request)``, ``request_resumed(request)``. Collected once: without any, the price
        per request is one truth test.
    """

    #: Whether a foreign thread that waits for an unsubmitted request may run it itself.
    direct = True
    #: Whether the local variables of failed workloads are kept for a debugger.
    keeps_frames = False
    #: How many requests can run at the same time.
    worker_count = 1
    #: Who runs its requests. Compared, not used: what runs them need not hold the scheduler.
    _crew: object

    def __init__(self, *, name: str, observers: tuple[Any, ...] = ()) -> None:
        self.name = name
        #: Whether `submit` is accepted.
        self.is_open = True
        #: Whether anybody is left who could run what was submitted.
        self.is_alive = True
        self.why_closed = ""
        #: Only looked at for its truth in hot code.
        self.observers = tuple(observers)
        self._hooks = {
            event: tuple(
                hook
                for observer in observers
                if (hook := getattr(observer, f"request_{event}", None)) is not None
            )
            for event in ("started", "ended", "suspended", "resumed")
        }
        _schedulers.add(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}{'' if self.is_open else ', closed'}>"

    def enqueue(self, request: Request[Any], party: Party) -> None:
        """Run a queued request, soon. Called once per submission, and again when its priority is raised.

        ``party`` is the stack that calls this.
        """
        raise NotImplementedError

    def block_thread(self, waiter: Waiter) -> None:
        """Block the calling foreign thread until its waiter has a verdict."""
        waiter.block()

    def observe(self, event: str, request: Request[Any]) -> None:
        """Tell the observers; one that raises is logged."""
        for hook in self._hooks[event]:
            try:
                hook(request)
            except BaseException as error:
                if is_interrupt(error):
                    raise
                log_error(logger, "an observer of %s raised: %s", self.name, shown(hook), error=error)

    def close(self, grace: float = 5.0) -> None:
        """Accept nothing more, cancel everything, and wait up to ``grace`` seconds for running workloads.

        Requests that have not begun end as cancelled; waiters get `SchedulerClosedError`. A workload that
        does not stop in time is given up: its waiters are told, its thread is left behind.
        """
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


def no_scheduler(what: str, given: object) -> TypeError:
    """Return the error of ``what``, which was given something else for a scheduler."""
    return TypeError(
        f"{what}: scheduler is {given!r}; it must be a scheduler that was made, such as "
        "ThreadedScheduler(4), or None for that of the request which starts it"
    )


def runs_here(scheduler: Scheduler, party: Party, state: RequestState) -> bool:
    """Return whether a request of ``scheduler`` may run on the stack of ``party``, which waits for it.

    A foreign thread runs only what was not submitted: who submits wants it run by a worker.
    """
    if type(party) is Fiber:
        return party.crew is scheduler._crew
    if state is not RequestState.NEW:
        return False
    me = party.request
    return scheduler.direct or (me is not None and me._scheduler is scheduler)


# ------------------------------------------------------------------------------------------------ the default

_schedulers: weakref.WeakSet[Scheduler] = weakref.WeakSet()
_default: Scheduler | None = None
_default_lock = threading.Lock()


def default_scheduler() -> Scheduler:
    """Return the scheduler of requests that were given none; made on first use, never at import.

    Examples
    --------
    >>> default_scheduler() is default_scheduler()
    True
    """
    global _default
    scheduler = _default
    if scheduler is not None and scheduler.is_open:
        return scheduler
    with _default_lock:
        if _default is None or not _default.is_open:
            from ._threaded import ThreadedScheduler

            _default = ThreadedScheduler(name="default")
        return _default


def open_schedulers() -> list[Scheduler]:
    """Return all schedulers of this process that have not closed."""
    return [scheduler for scheduler in list(_schedulers) if scheduler.is_alive]


def _close_all_at_exit() -> None:
    for scheduler in open_schedulers():
        scheduler.close(EXIT_GRACE)


def _forget_parent_process() -> None:
    """In a forked child there are no worker threads: whatever was submitted will not run."""
    global _default, _default_lock
    _default = None
    _default_lock = threading.Lock()
    for scheduler in list(_schedulers):
        scheduler.is_open = scheduler.is_alive = False
        scheduler.why_closed = "its scheduler belongs to the process this one was forked from"


atexit.register(_close_all_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent_process)
