"""Stopping soon: what `checkpoint` looks at first, and the byte that native code looks at.

Python code is asked to stop at a `checkpoint`. Native code cannot come there; it gets the address of a byte
instead, which becomes 1 when it is to come back.
"""

from __future__ import annotations

import _thread
import threading
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from lazyflow_core.errors import CancelledError

from ._party import SIGNAL_HEARTBEAT, Fiber, current_party

if TYPE_CHECKING:
    from ._core import RequestCore

__all__ = ["run_stoppable", "stop_flags", "watched"]

T = TypeVar("T")

#: Why a checkpoint has something to look for: requests that were asked to stop and have not ended, and seeded
#: schedulers at work. Nearly always empty, and then a checkpoint is one look.
#:
#: `cancel` writes the request's flag, adds it here, then reads its state; whoever ends it writes the state,
#: then reads the flag, and takes it out. So nothing that is over stays here.
watched: dict[object, None] = {}

#: The byte of each request that is inside a native call at this moment.
stop_flags: dict[RequestCore[Any], array[int]] = {}

#: For who can be asked by nobody.
_NEVER = array("B", [0])


def run_stoppable(work: Callable[[int], T], *, is_brief: bool = False) -> T:
    """Call native code that looks at a stop flag; return what it returns unless it was told to stop.

    The flag is set when the request that calls this is cancelled, whatever the reason, and by Ctrl-C where
    this is called in the main thread. The native code is to look at least every 20 ms and to return soon
    then. What it has written counts as garbage.

    Parameters
    ----------
    work
        Called once as ``work(address)``, with the address of a byte that is 0 and becomes 1 when the time has
        come. It should do nothing but the native call, without the GIL: in the main thread, which hears
        no signal during a native call, it is called in another thread.
    is_brief
        Whether it takes less than 20 ms anyway, so that another thread is not worth its 50 µs.

    Raises
    ------
    CancelledError
        If the request was cancelled; also if the native code had been through.

    Examples
    --------
    >>> from ctypes import c_ubyte
    >>> run_stoppable(lambda address: c_ubyte.from_address(address).value)
    0
    """
    party = current_party()
    request = party.request
    is_main = type(party) is not Fiber and threading.get_ident() == threading.main_thread().ident
    if request is None and (is_brief or not is_main):
        return work(_NEVER.buffer_info()[0])
    flag = array("B", [0])
    outer = None
    if request is not None:
        outer = stop_flags.get(request)
        # Entered before the look; `cancel` writes what is looked at before it looks here.
        stop_flags[request] = flag
    try:
        if request is not None and request._cancelled:
            raise CancelledError(f"{request.describe()} was cancelled")
        address = flag.buffer_info()[0]
        result = work(address) if is_brief or not is_main else _run_beside(work, flag, address)
    finally:
        if outer is not None:
            stop_flags[request] = outer  # type: ignore[index]
        elif request is not None:
            del stop_flags[request]
    if flag[0]:
        assert request is not None
        raise CancelledError(f"{request.describe()} was cancelled")
    return result


def _run_beside(work: Callable[[int], T], flag: array[int], address: int) -> T:
    """Run in another thread, so that this one hears signals."""
    outcome: list[tuple[T | None, BaseException | None]] = []
    is_over = _thread.allocate_lock()
    is_over.acquire()

    def run() -> None:
        try:
            outcome.append((work(address), None))
        except BaseException as error:
            outcome.append((None, error))
        finally:
            is_over.release()

    def wait() -> None:
        # The heartbeat: a Ctrl-C on the way into the wait would be heard at its end only.
        while not outcome:
            is_over.acquire(timeout=SIGNAL_HEARTBEAT)

    _thread.start_new_thread(run, ())
    try:
        wait()
    except BaseException:
        flag[0] = 1
        wait()  # its arrays are in use until it comes back
        raise
    result, error = outcome.pop()
    if error is not None:
        raise error
    return result  # type: ignore[return-value]
