"""`InlineScheduler`: everything at once, in the calling thread, with ordinary tracebacks."""

from __future__ import annotations

from contextvars import Context
from typing import TYPE_CHECKING, Any

from ._core import finish_torn
from ._party import Party
from ._scheduler import Scheduler

if TYPE_CHECKING:
    from ._request import Request

__all__ = ["InlineScheduler"]


class InlineScheduler(Scheduler):
    """Runs a request while it is submitted, in the thread that submits it. For debugging.

    A breakpoint in a workload stops where one expects, with the submitter on the stack. The price: requests
    that wait for something the submitter does later wait for ever, and deep chains end in a RecursionError.

    Examples
    --------
    >>> from lazyflow_core.request import Request
    >>> Request(lambda: print("now"), scheduler=InlineScheduler()).submit().state.name
    now
    'FINISHED'
    """

    keeps_frames = True

    def __init__(self, *, name: str = "inline", observers: tuple[Any, ...] = ()) -> None:
        super().__init__(name=name, observers=observers)
        self._crew = object()

    def enqueue(self, request: Request[Any], party: Party) -> None:
        """Run it right here."""
        if request._claim():
            context: Any = request._context or Context()
            context.run(self._run, request, party)

    def _run(self, request: Request[Any], party: Party) -> None:
        outer = party.request
        depth = party.depth
        party.request = request
        # From the beginning: there is no other stack for those that are too deep on this one.
        party.depth = 0
        try:
            request._execute(party)
        except BaseException as error:
            party.torn.append((request, error))
            raise
        finally:
            party.depth = depth
            party.request = outer
            if party.torn and outer is None:
                finish_torn(party)

    def close(self, grace: float = 5.0) -> None:
        """Accept nothing more; nothing can be pending."""
        self.is_open = False
        self.why_closed = "its scheduler was closed"
