"""Importing in a process of its own: what hangs there, crashes it or leaves it is found without harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

__all__ = ["probe"]

#: Writes the number of a module before importing it, so that the last one is to blame for what follows.
_CHILD: Final = """
import importlib, sys
log = open(sys.argv[1], "a")
for number, module in enumerate(sys.argv[2:]):
    print(number, file=log, flush=True)
    try:
        importlib.import_module(module)
    except BaseException:
        pass
print("end", file=log, flush=True)
"""

_POLL_S: Final = 0.02


def probe(modules: Iterable[str], timeout_s: float) -> dict[str, str]:
    """Return those modules whose import does not come back, and what happens instead.

    What only raises comes back.

    Parameters
    ----------
    modules
        Their names; they are imported in this order in one process, and in another from where it ended.
    timeout_s
        How long one of them may take.
    """
    left = list(modules)
    found: dict[str, str] = {}
    while left:
        begun, what = _try(left, timeout_s)
        if what:
            found[left[begun]] = what
        left = left[begun + 1 :]
    return found


def _try(modules: list[str], timeout_s: float) -> tuple[int, str]:
    """Return how far a process came with modules, and what the last one did to it; empty if all came back."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if isinstance(p, str) and p)
    }
    with tempfile.TemporaryDirectory(prefix="lazyflow-probe-") as folder:
        log = Path(folder) / "log"
        log.touch()
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(log), *modules],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        try:
            lines: list[str] = []
            moved = time.monotonic()
            while True:
                ended = child.poll() is not None  # looked at first: what is written then is complete
                now = log.read_text().split()
                if now[-1:] == ["end"]:
                    return len(modules) - 1, ""  # threads it started may keep the process
                if now != lines:
                    lines, moved = now, time.monotonic()
                last = max(len(lines) - 1, 0)
                if ended:
                    return last, _ending(child.returncode)
                if time.monotonic() - moved > timeout_s:
                    return last, f"does not end within {timeout_s:g} s"
                time.sleep(_POLL_S)
        finally:
            child.kill()
            child.wait()


def _ending(code: int) -> str:
    if code >= 0:
        return f"leaves the process, with exit code {code}"
    try:
        return f"crashes the process: {signal.Signals(-code).name}"
    except ValueError:
        return f"crashes the process: signal {-code}"
