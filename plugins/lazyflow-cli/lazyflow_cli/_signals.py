"""Being asked to stop: Ctrl-C, and the signals by which systems end a process."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

__all__ = ["Stopped", "stoppable"]


class Stopped(KeyboardInterrupt):
    """Somebody asked the process to stop; raised in the main thread, wherever it waits."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        #: What a shell reports for a process that such a signal ended.
        self.exit_code = 128 + signum


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` at the first SIGINT, SIGTERM or SIGHUP; leave the process at the second.

    The first one cancels what is computed and removes partial files, which may take a moment; whoever asks
    twice wants out, whatever is left behind.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

    asked = False

    # One handler for both: a second signal may come in before the first line of the first one has run.
    def stop(signum: int, _: FrameType | None) -> NoReturn:
        nonlocal asked
        if asked:
            os._exit(128 + signum)
        asked = True
        raise Stopped(signum)

    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
