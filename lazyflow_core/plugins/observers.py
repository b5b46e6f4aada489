"""Observers that plugins offer, made harmless: one that raises is silenced and told about once."""

from __future__ import annotations

import logging
from typing import Any, Final

from lazyflow_core.foreign import sentence
from lazyflow_core.plugins.loading import is_for_the_caller

__all__ = ["Guarded"]

_logger = logging.getLogger("lazyflow_core")

_EVENTS: Final = ("started", "ended", "suspended", "resumed")


class Guarded:
    """An observer of requests whose errors are nobody else's.

    Parameters
    ----------
    observer
        An object with any of the methods of `lazyflow_request_observer`.
    plugin
        Whose it is, for the log.
    """

    def __init__(self, observer: Any, plugin: str) -> None:
        self._plugin = plugin
        #: Cleared by the first error; read without a lock, so a call under way may raise once more.
        self._speaks = True
        for event in _EVENTS:
            method = getattr(observer, f"request_{event}", None)
            if method is not None:
                # An attribute only for what there is: a scheduler calls nothing for the rest.
                setattr(self, f"request_{event}", self._guard(method))

    def _guard(self, method: Any) -> Any:
        def call(request: Any) -> None:
            if not self._speaks:
                return
            try:
                method(request)
            except BaseException as error:
                if is_for_the_caller(error):
                    raise
                self._speaks = False
                _logger.warning(
                    "the request observer of plugin %r is silenced: %s", self._plugin, sentence(error)
                )

        return call
