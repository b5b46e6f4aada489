"""For layers that bring their own kinds of requests, as the graph does; not for users.

`Request` says which methods to override. What they need besides:

- ``NOTHING``: what ``_run(out)`` gets when no destination was given.
- ``current_stack()``: the identity of the stack this code runs on, for who keeps its party.
- ``current_party()``: the stack this code runs on. Its ``depth`` counts computations that run inside each
  other; whoever nests its own without a request raises it for the time.
- ``MAX_INLINE_DEPTH``: at this depth the next computation is submitted as a request, which has a fresh stack.
- ``WatchedLock``: a lock of the operating system that tells its subclass who takes it, for checks.
- ``stop(request, reason)``: cancels a request also if somebody waits for it, who is then told.
"""

from typing import Any

from ._cancel import cancel
from ._debug import WatchedLock
from ._party import Party, current_party, current_stack
from ._request import Request
from ._state import MAX_INLINE_DEPTH, NOTHING

__all__ = ["MAX_INLINE_DEPTH", "NOTHING", "Party", "WatchedLock", "current_party", "current_stack", "stop"]


def stop(request: Request[Any], reason: str) -> None:
    """Cancel a request, also if somebody waits for it."""
    cancel(request, force=True, reason=reason)
