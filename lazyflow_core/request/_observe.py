"""Looking on: a trace of who ran where and when, and a report of everything that is blocked."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ._request import Request
from ._waitgraph import describe_blocked

__all__ = ["TraceRecorder", "report_hangs_on_signal"]


class TraceRecorder:
    """An observer that records a trace for ``chrome://tracing`` or https://ui.perfetto.dev.

    One row per thread; a request that was suspended shows as several pieces of the same colour.

    Examples
    --------
    >>> from lazyflow_core.request import ThreadedScheduler
    >>> recorder = TraceRecorder()
    >>> with ThreadedScheduler(2, observers=(recorder,)) as scheduler:
    ...     Request(lambda: None, name="load", scheduler=scheduler).submit().wait()
    >>> [event["name"] for event in recorder.events() if event["ph"] == "B"]
    ['load']
    """

    def __init__(self) -> None:
        # Only ever appended to; appending is one step of the interpreter, so no lock.
        self._records: list[tuple[str, int, int, Any, str]] = []

    def request_started(self, request: Request[Any]) -> None:
        """Begin a piece."""
        self._note("B", request)

    def request_resumed(self, request: Request[Any]) -> None:
        """Begin another piece."""
        self._note("B", request)

    def request_suspended(self, request: Request[Any]) -> None:
        """End a piece."""
        self._note("E", request)

    def request_ended(self, request: Request[Any]) -> None:
        """End the last piece."""
        self._note("E", request)

    def _note(self, phase: str, request: Request[Any]) -> None:
        name = request._name
        label = name if isinstance(name, str) else request._describe_work() if name is None else name
        self._records.append(
            (phase, time.perf_counter_ns(), threading.get_ident(), label, threading.current_thread().name)
        )

    def events(self) -> list[dict[str, Any]]:
        """Return the trace events, as the Trace Event Format names them."""
        process = os.getpid()
        threads = {thread: name for _, _, thread, _, name in self._records}
        names = [
            {"ph": "M", "name": "thread_name", "pid": process, "tid": thread, "args": {"name": name}}
            for thread, name in threads.items()
        ]
        pieces = [
            {
                "ph": phase,
                "name": label() if callable(label) else label,
                "cat": "request",
                "ts": when / 1000,
                "pid": process,
                "tid": thread,
            }
            for phase, when, thread, label, _ in list(self._records)
        ]
        return names + pieces

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the trace as a JSON file."""
        Path(path).write_text(json.dumps({"traceEvents": self.events(), "displayTimeUnit": "ms"}))


def report_hangs_on_signal(number: int | None = None) -> None:
    """Print everything that is blocked to stderr whenever the process gets a signal, SIGUSR1 by default.

    Asked for explicitly, never by import: signal handlers belong to the application.
    """

    def report(number: int, frame: Any) -> None:
        title = f"blocked requests of process {os.getpid()}:"
        print(title, describe_blocked(), sep="\n", file=sys.stderr, flush=True)

    signal.signal(signal.SIGUSR1 if number is None else number, report)
