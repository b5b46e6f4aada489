"""What waiters of a request without a result are told, and what is kept of an exception."""

from __future__ import annotations

from types import AsyncGeneratorType, CoroutineType
from typing import TYPE_CHECKING, Any

from lazyflow_core.errors import (
    CancelledError,
    RequestCancelledError,
    RequestError,
    RequestStateError,
    SchedulerClosedError,
)
from lazyflow_core.foreign import cause_of, is_a, is_interrupt, note, sentence, set_cause, text_of

from ._links import Failure
from ._state import RequestState
from ._traceback import lighten, was_raised_by_the_call

if TYPE_CHECKING:
    from ._request import Request
    from ._scheduler import Scheduler

__all__ = [
    "FOR_ASYNCIO",
    "describe_failure",
    "keep_error",
    "pass_on_interrupt",
    "refuse_for_asyncio",
    "waiter_error",
]

#: What calling an ``async def`` returns instead of running it. Looked at after the call, where it costs a
#: request 5 ns and also finds what is behind a lambda; to look at the function costs a hundred times that.
FOR_ASYNCIO = frozenset((CoroutineType, AsyncGeneratorType))

HOW_WORKLOADS_ARE_CALLED = (
    "A request calls its workload without arguments, or as workload(out=destination) after write_into()."
)


def describe_failure(request: Request[Any], cause: BaseException) -> str:
    """Return the text of the error a waiter gets."""
    return f"{request.describe()} failed: {sentence(cause)}"


def waiter_error(request: Request[Any], me: Request[Any] | None) -> BaseException:
    """Return a new exception for one waiter (`me`, or a foreign thread) of a request without a result."""
    state = request._state
    if state is RequestState.FAILED:
        failure: Failure = request._outcome
        failure.retrieved = True
        cause = failure.error
        if is_a(cause, SchedulerClosedError) and cause_of(cause) is None:
            return SchedulerClosedError(text_of(cause))
        return set_cause(request._make_error(cause), cause)
    if state is RequestState.CANCELLED:
        if me is not None and me._cancelled:
            return CancelledError(f"{me.describe()} was cancelled")
        if request._outcome is not None:
            return SchedulerClosedError(f"{request.describe()}: {request._outcome}")
        return RequestCancelledError(f"{request.describe()} was cancelled; it has no result")
    return RequestStateError(f"{request.describe()} runs this callback; it has no result to wait for")


def root_cause(error: BaseException) -> BaseException:
    """Return the exception that began a chain of failed requests.

    A workload that fails because a request it waited for failed is not wrapped twice: the error of its own
    waiters has the same cause.
    """
    while is_a(error, RequestError):
        cause = cause_of(error)
        if cause is None:
            break
        error = cause
    return error


def keep_error(error: BaseException, scheduler: Scheduler | None) -> BaseException:
    """Return what to keep of an exception: its root cause, with a traceback that holds no data.

    With a scheduler that `keeps_frames` it has the variables of all code but ours, for a debugger.
    """
    root = root_cause(error)
    if type(root) is TypeError and was_raised_by_the_call(root):
        note(root, HOW_WORKLOADS_ARE_CALLED)
    # Not the root alone: nobody keeps the errors of waiters around it, but a frame of ours holds each and is
    # held by its traceback, with all other frames of that stack.
    lighten(error, keep_variables=scheduler is not None and scheduler.keeps_frames)
    return root


def refuse_for_asyncio(returned: Any) -> None:
    """Raise what is to be said of a workload that returned one of `FOR_ASYNCIO`."""
    name = returned.__qualname__
    if type(returned) is CoroutineType:
        returned.close()  # or Python would warn that nobody awaited it
        raise TypeError(
            f"the workload returned the coroutine {name!r}, of which nothing has run: only asyncio runs an "
            "'async def'. Give a plain function, or have its loop run it and wait for that: "
            f"Request.from_future(asyncio.run_coroutine_threadsafe({name}(...), loop))"
        )
    raise TypeError(
        f"the workload returned the async generator {name!r}, of which nothing has run: only asyncio runs "
        "an 'async def'. Give a plain function that returns the values, in a list for instance"
    )


def pass_on_interrupt(failure: Failure) -> None:
    """Raise a Ctrl-C that hit a request run directly in the main thread as what it is."""
    error = failure.error
    if is_interrupt(error):
        failure.retrieved = True
        try:
            raise error
        finally:
            del error, failure  # or this frame and the traceback would hold each other
