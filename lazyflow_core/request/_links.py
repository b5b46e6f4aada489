"""What hangs on a request besides its outcome: callbacks and waiters. Made only when needed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from lazyflow_core.foreign import is_interrupt, log_error, sentence, text_of

from ._state import RequestState

if TYPE_CHECKING:
    from ._party import Party, Waiter

__all__ = ["DELIVERED", "Failure", "Links", "name_of"]

logger = logging.getLogger("lazyflow_core")


class Links:
    """The callbacks and waiters of one request. Guarded by the mutex.

    `RequestCore._links` is None (nothing hangs on it), a `Links`, or `DELIVERED`: the outcome is there, all
    callbacks have run, nobody waits any more.
    """

    __slots__ = ("callbacks", "deliverer", "waiters")

    def __init__(self) -> None:
        #: (outcome it is for or None for any, function), in the order of subscription.
        self.callbacks: list[tuple[RequestState | None, Callable[..., object]]] | None = None
        #: Parties to be woken after the callbacks. A dict for its order and O(1) removal.
        self.waiters: dict[Waiter, None] = {}
        #: Who runs the callbacks right now. It may wait for the request without waiting for itself.
        self.deliverer: Party | None = None


#: `Request._links` of a request that is over and done with.
DELIVERED: Final = Links()


def name_of(name: object) -> str:
    """Return the name of a request, which may be a callable; what that raises becomes the name."""
    try:
        return text_of(name() if callable(name) else name)
    except BaseException as error:
        if is_interrupt(error):
            raise
        return f"(its name raised {sentence(error)})"


class Failure:
    """The exception of a failed request, and whether anybody ever asked for it."""

    __slots__ = ("error", "name", "retrieved")

    def __init__(self, error: BaseException, name: Any) -> None:
        self.error = error
        self.name = name
        self.retrieved = False

    def __del__(self) -> None:
        # An error that no waiter, callback or pool has seen must not vanish without a trace.
        if not self.retrieved and logger is not None:
            message = "request %r failed and nobody asked for its outcome"
            log_error(logger, message, name_of(self.name), error=self.error)
