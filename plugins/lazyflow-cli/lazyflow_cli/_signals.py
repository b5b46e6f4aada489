"""Being asked to stop: Ctrl-C, and the signals by which systems end a process."""

from __future__ import annotations

import _thread
import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final, NoReturn

from lazyflow_core.foreign import contextmanager

__all__ = ["EXIT_CODES", "Stopped", "end_now", "stoppable"]

_NUMBERS: Final = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

#: What a shell reports for processes that such signals ended.
EXIT_CODES: Final = frozenset(128 + number for number in _NUMBERS)

#: How long the main thread may overlook a signal before it is knocked at again.
_PATIENCE_S: Final = 0.05

#: How long removing what is partial may keep somebody who wants out.
_LEAVING_S: Final = 1.0


class Stopped(KeyboardInterrupt):
    """Somebody asked the process to stop; raised in the main thread, wherever it waits."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        #: What a shell reports for a process that such a signal ended.
        self.exit_code = 128 + signum


@contextmanager
def stoppable(told: str = "") -> Iterator[list[Callable[[], object]]]:
    """Raise `Stopped` at the first SIGINT, SIGTERM or SIGHUP; leave the process at the second.

    The first one cancels what is computed and removes partial files, which may take a moment. Whoever asks
    twice wants out: only what was entered into the list that this gives is called before.

    Parameters
    ----------
    told
        What to write to standard error at the first one.
    """
    leaving: list[Callable[[], object]] = []
    if threading.current_thread() is not threading.main_thread():
        yield leaving
        return
    heard = 0

    # One handler for both: a second signal may come in before the first line of the first one has run.
    def stop(signum: int, _: FrameType | None) -> NoReturn:
        nonlocal heard
        heard += 1
        if heard > 1:
            _leave(leaving, 128 + signum)
        if told:
            with contextlib.suppress(OSError):
                # Not by `print`, which may be what was interrupted.
                os.write(2, f"{told}\n".encode())
        raise Stopped(signum)

    with contextlib.ExitStack() as stack:
        for number in _NUMBERS:
            stack.callback(signal.signal, number, signal.signal(number, stop))
        if hasattr(signal, "pthread_kill"):
            stack.enter_context(_knocking(lambda: heard))
        yield leaving


def end_now(code: int) -> NoReturn:
    """End the process as the interpreter does, without taking its modules apart: that takes half a second."""
    try:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    finally:
        os._exit(code)


def _leave(last: list[Callable[[], object]], code: int) -> NoReturn:
    """Call what is to be called, for a limited time, and end the process.

    In another thread: this one may have been interrupted while it held whatever these need.
    """
    is_done = _thread.allocate_lock()
    is_done.acquire()

    def call() -> None:
        for function in list(last):
            with contextlib.suppress(BaseException):
                function()
        is_done.release()

    try:
        _thread.start_new_thread(call, ())
        is_done.acquire(timeout=_LEAVING_S)
    finally:
        os._exit(code)


@contextmanager
def _knocking(heard: Callable[[], int]) -> Iterator[None]:
    """Wake the main thread until it has heard of as many signals as arrived.

    CPython runs handlers between two instructions of the main thread. A signal that arrives after the last
    one before a wait for a lock, and before the wait itself, interrupts nothing: the handler would run when
    the wait is over, which may be never. So another thread, told by the interpreter's wakeup descriptor,
    interrupts the wait with a signal that does nothing else.
    """
    main_thread = threading.get_ident()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    over = threading.Event()

    def knock() -> None:
        arrived = 0
        while number := os.read(reading, 1):
            arrived += number[0] != signal.SIGURG
            while heard() < arrived and not over.wait(_PATIENCE_S):
                signal.pthread_kill(main_thread, signal.SIGURG)

    knocker = threading.Thread(target=knock, name="lazyflow-signals", daemon=True)
    urgent_before = signal.signal(signal.SIGURG, lambda signum, frame: None)
    descriptor_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    knocker.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor_before)
        over.set()
        os.close(writing)
        knocker.join()
        os.close(reading)
        signal.signal(signal.SIGURG, urgent_before)
