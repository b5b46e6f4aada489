"""A signal: whoever subscribed is called, in order, whatever one of them does.

Knows nothing of requests, graphs or arrays. Emitting never raises: a subscriber that fails is reported
through the log with the signal's name and its emitter, and the rest are still called.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from lazyflow_core.foreign import is_interrupt, log_error, shown

__all__ = ["Signal"]

_logger = logging.getLogger("lazyflow_core")

#: Held while a list of subscribers is replaced. One for all signals: it is rarely taken and never for long.
_changing = threading.Lock()


class Signal:
    """A list of callables to be called with the same arguments.

    Parameters
    ----------
    name
        What is said when a subscriber fails, e.g. ``"dirty of OpThreshold.mask"``.

    Notes
    -----
    Subscribing and emitting may happen in any thread. An emission calls those who were subscribed when it
    began; nothing is locked while they run.

    Examples
    --------
    >>> moved = Signal("moved")
    >>> unsubscribe = moved.subscribe(print)
    >>> moved.emit(3, 4)
    3 4
    >>> unsubscribe()
    >>> moved.emit(5, 6)
    """

    __slots__ = ("_name", "_subscribers")

    def __init__(self, name: str | Callable[[], str]) -> None:
        self._name = name
        #: Replaced whole, never changed in place: an emission iterates the tuple it found.
        self._subscribers: tuple[Callable[..., object], ...] = ()

    @property
    def name(self) -> str:
        """What this signal is called in reports."""
        return self._name if isinstance(self._name, str) else self._name()

    def __bool__(self) -> bool:
        """Whether anybody listens; emitters use it to skip building arguments."""
        return bool(self._subscribers)

    def subscribe(self, function: Callable[..., object]) -> Callable[[], None]:
        """Call ``function`` at each emission from now on; return the function that ends it."""
        if not callable(function):
            raise TypeError(f"{self.name} calls functions; {function!r} is none.")
        with _changing:
            self._subscribers = (*self._subscribers, function)

        def unsubscribe() -> None:
            with _changing:
                remaining = list(self._subscribers)
                if function in remaining:
                    remaining.remove(function)
                    self._subscribers = tuple(remaining)

        return unsubscribe

    def emit(self, *arguments: Any) -> None:
        """Call every subscriber; report those that raise."""
        for function in self._subscribers:
            try:
                function(*arguments)
            except BaseException as error:
                if is_interrupt(error):
                    raise
                log_error(_logger, "a subscriber of %s raised: %s", self.name, shown(function), error=error)
