"""Requests, `concurrent.futures` and asyncio: each can wait for the others without holding a thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from lazyflow_core.errors import NestingError
from lazyflow_core.foreign import logged, set_traceback

from ._event import RequestEvent
from ._links import DELIVERED, logger
from ._mutex import mutex
from ._party import Verdict, current_party
from ._request import Request
from ._state import RequestState

__all__ = ["await_request", "future_of_request", "request_of_future"]

T = TypeVar("T")


class Bridge:
    """Stands among a request's waiters for somebody outside the framework. Has the face of a `Waiter`."""

    __slots__ = ("_cancelled", "_tell", "_waiting", "host", "timeout", "verdict")

    def __init__(self, request: Request[Any], tell: Callable[[], object]) -> None:
        self.host = self
        self.timeout = None
        self.verdict: Verdict | None = None
        self._waiting = None
        #: Whoever stands behind it has lost interest. An uncancelled bridge keeps the request alive.
        self._cancelled = False
        #: Dropped when it was called or will not be: it holds a future whose callbacks hold this.
        self._tell: Callable[[], object] | None = tell
        with mutex:
            links = request._hang_on()
            if links is not None:
                links.waiters[self] = None  # type: ignore[index]
        if links is None:
            self.decide(Verdict.WOKEN)
        else:
            request._check_end(links)

    def decide(self, verdict: Verdict) -> bool:
        with mutex:
            if self.verdict is not None:
                return False
            self.verdict = verdict
            tell, self._tell = self._tell, None
        if tell is not None:
            with logged(logger, "telling the outside about the end of a request failed"):
                tell()
        return True

    def give_up(self, request: Request[Any]) -> None:
        """Leave, and cancel the request unless somebody else wants it."""
        with mutex:
            self._cancelled = True
            self._tell = None
            links = request._links
            if links is not None and links is not DELIVERED:
                links.waiters.pop(self, None)  # type: ignore[call-overload]
        request.cancel()


class End(RequestEvent):
    """The end of a future, to be waited for as that of its request."""

    __slots__ = ("_request", "_scheduler")

    def __init__(self, request: Request[Any]) -> None:
        super().__init__()
        self._request = request
        self._scheduler = request._scheduler

    def describe(self) -> str:
        return f"the future of {self._request.describe()}"

    def _wait_dependencies(self) -> tuple[Any, ...]:
        return () if self._is_set else self._request._wait_dependencies()


class RequestFuture(concurrent.futures.Future[T]):
    """A future for which a request may wait: that suspends it, instead of blocking its worker."""

    def __init__(self, request: Request[T]) -> None:
        super().__init__()
        self._end = end = End(request)
        self.add_done_callback(lambda done: end.set())  # which does not hold the future

    def result(self, timeout: float | None = None) -> T:
        """Return what the request returned, or raise what its waiters get; as `concurrent.futures.Future`."""
        return super().result(self._rest_of(timeout))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what waiters of the request get, None if it has a result."""
        return super().exception(self._rest_of(timeout))

    def _rest_of(self, timeout: float | None) -> float | None:
        """Wait until it is over; return how long is left to wait."""
        try:
            return None if self._end.wait(timeout) else 0.0
        except NestingError:
            self.cancel()  # or it would go on for nobody
            raise


def future_of_request(request: Request[T]) -> concurrent.futures.Future[T]:
    """See `Request.future`."""
    request.submit()
    future = RequestFuture(request)

    def tell() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = request.wait()
        except BaseException as error:
            # Its traceback says nothing but this place, and would hold the future that is to hold it.
            future.set_exception(set_traceback(error, None))
        else:
            future.set_result(result)

    bridge = Bridge(request, tell)
    future.add_done_callback(lambda done: bridge.give_up(request) if done.cancelled() else None)
    return future


def await_request(request: Request[T]) -> Generator[Any, None, T]:
    """See `Request.__await__`."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[None] = loop.create_future()

    def arrive() -> None:
        if not arrived.done():
            arrived.set_result(None)

    request.submit()
    bridge = Bridge(request, lambda: loop.call_soon_threadsafe(arrive))
    try:
        yield from arrived
    except BaseException:
        bridge.give_up(request)
        raise
    return request.wait()


class FutureRequest(Request[T]):
    """A request whose work is done by somebody else's future. RUNNING from the beginning, on no worker."""

    __slots__ = ("_future",)

    def __init__(self, future: Any, name: str | None) -> None:
        super().__init__(None, name=f"future of {future!r}" if name is None else name)
        self._future = future
        self._claim()
        future.add_done_callback(self._future_is_done)

    def _future_is_done(self, future: Any) -> None:
        state, outcome = RequestState.FINISHED, None
        if future.cancelled() or self._cancelled:
            self._cancelled = True
            state = RequestState.CANCELLED
        else:
            error = future.exception()
            if error is not None:
                state, outcome = RequestState.FAILED, error
            else:
                outcome = future.result()
        self._finish(state, outcome, current_party())

    def _interrupt(self) -> None:
        future = self._future
        if isinstance(future, asyncio.Future):
            future.get_loop().call_soon_threadsafe(future.cancel)
        else:
            future.cancel()


def request_of_future(future: Any, name: str | None) -> Request[Any]:
    """See `Request.from_future`."""
    if not hasattr(future, "add_done_callback"):
        raise TypeError(f"{future!r} is no future; give one of concurrent.futures or asyncio")
    return FutureRequest(future, name)
