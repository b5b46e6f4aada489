"""Wrong input: one clear sentence each, of a class that fits, and nothing half done."""

import asyncio
import gc
import re
import threading
from fractions import Fraction

import numpy as np
import pytest

from lazyflow_core.errors import (
    CircularWaitError,
    RequestError,
    RequestStateError,
    RequestTimeoutError,
    SchedulerClosedError,
)
from lazyflow_core.request import (
    Priority,
    Request,
    RequestCondition,
    RequestEvent,
    RequestLock,
    RequestPool,
    RequestSemaphore,
    SeededScheduler,
    ThreadedScheduler,
    current_request,
)


def held_condition():
    condition = RequestCondition()
    condition.acquire()
    return condition


def left_pool():
    with RequestPool() as pool:
        pass
    return pool


def closed_scheduler():
    scheduler = ThreadedScheduler(1)
    scheduler.close()
    return scheduler


def finished():
    request = Request(int)
    request.wait()
    return request


def twice(lock):
    with lock:
        lock.acquire()


#: What is done, the class of the error, and a piece of its sentence.
MISTAKES = {
    "no workers": (lambda: ThreadedScheduler(0), ValueError, "is 0; it must be an integer of at least 1"),
    "half a worker": (lambda: ThreadedScheduler(1.5), ValueError, "worker_count is 1.5; it must"),
    "workers as text": (lambda: ThreadedScheduler("2"), ValueError, "worker_count is '2'; it must"),
    "a warning at once": (
        lambda: ThreadedScheduler(1, stall_warning=0),
        ValueError,
        "stall_warning is 0",
    ),
    "unknown strategy": (
        lambda: SeededScheduler(strategy="x"),
        ValueError,
        "possible are 'random'",
    ),
    "priority as number": (lambda: Request(int, priority=0), ValueError, "priority is 0; it must be one of"),
    "a scheduler's name": (
        lambda: Request(int, scheduler="x"),
        TypeError,
        "request 'int' (NEW): scheduler is 'x'; it must be a scheduler that was made",
    ),
    "a class of schedulers": (
        lambda: Request(int, name="n", scheduler=ThreadedScheduler),
        TypeError,
        "request 'n' (NEW): scheduler is <class",
    ),
    "a pool on a name": (
        lambda: RequestPool(scheduler="x"),
        TypeError,
        "RequestPool: scheduler is 'x'; it must",
    ),
    "raised to text": (lambda: Request(int).raise_priority("up"), ValueError, "is 'up'; it must be one of"),
    "no workload": (lambda: Request(None).wait(), RequestError, "has nothing to do; give it a workload"),
    "room for none": (lambda: RequestPool(0), ValueError, "max_in_flight is 0; give 1 or more, or None"),
    "room as text": (lambda: RequestPool("8"), ValueError, "max_in_flight is '8'; give"),
    "a pool that was left": (lambda: left_pool().submit(int), RequestStateError, "was left; make a new pool"),
    "a closed scheduler": (
        lambda: Request(int, scheduler=closed_scheduler()).submit(),
        SchedulerClosedError,
        "cannot be submitted: its scheduler was closed",
    ),
    "a pool on a closed scheduler": (
        lambda: RequestPool(scheduler=closed_scheduler()).submit(int),
        SchedulerClosedError,
        "cannot be submitted: its scheduler was closed",
    ),
    "no callback": (lambda: Request(int).on_done(3), TypeError, "cannot call 3 back; give a function"),
    "no future": (lambda: Request.from_future(3), TypeError, "3 is no future; give"),
    "the result too early": (lambda: Request(int).result, RequestStateError, "has no result; wait"),
    "a destination too late": (
        lambda: finished().write_into([]),
        RequestStateError,
        "must come before",
    ),
    "negative semaphore": (lambda: RequestSemaphore(-1), ValueError, "begin with -1 permits; give 0 or more"),
    "semaphore of text": (lambda: RequestSemaphore("a"), ValueError, "begin with 'a' permits; give"),
    "no permits released": (lambda: RequestSemaphore().release(0), ValueError, "n is 0; at least one"),
    "free lock released": (lambda: RequestLock("l").release(), RuntimeError, "release of an unlocked lock"),
    "lock taken twice": (lambda: twice(RequestLock("l")), CircularWaitError, "waits for itself through"),
    "negative patience": (
        lambda: RequestLock().acquire(timeout=-5),
        ValueError,
        "timeout is -5 s; it must",
    ),
    "patience beyond floats": (
        lambda: RequestEvent().wait(timeout=10**400),
        ValueError,
        "000; give seconds as a number",
    ),
    "wait without lock": (lambda: RequestCondition().wait(), RuntimeError, "does not hold its lock"),
    "notify without lock": (lambda: RequestCondition().notify(), RuntimeError, "does not hold its lock"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_explained_in_one_sentence(mistake):
    make, kind, sentence = MISTAKES[mistake]
    with pytest.raises(kind, match=re.escape(sentence)) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("timeout", ["soon", float("nan"), [1]], ids=repr)
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    "wait",
    [
        lambda timeout: Request(int).wait(timeout),
        lambda timeout: RequestEvent().wait(timeout),
        lambda timeout: held_condition().wait(timeout),
        lambda timeout: held_condition().wait_for(lambda: False, timeout),
        lambda timeout: RequestLock().acquire(timeout=timeout),
        lambda timeout: RequestSemaphore().acquire(timeout=timeout),
    ],
    ids=["request", "event", "condition", "predicate", "lock", "semaphore"],
)
def test_a_timeout_that_is_no_number_is_refused(timeout, inside, wait):
    with (
        SeededScheduler() as seeded,
        pytest.raises((ValueError, RequestError), match="give seconds as a number, or None") as caught,
    ):
        if inside:
            seeded.run(lambda: wait(timeout))
        else:
            wait(timeout)
    assert type(caught.value.__cause__ if inside else caught.value) is ValueError


@pytest.mark.parametrize("workload", [42, lambda x: x], ids=["no function", "needs an argument"])
def test_how_a_workload_is_called_stands_beside_the_error_when_it_cannot_be_called(scheduler, workload):
    with pytest.raises(RequestError, match="'w'") as caught:
        Request(workload, name="w", scheduler=scheduler).submit().wait()
    assert type(caught.value.__cause__) is TypeError
    assert caught.value.__cause__.__notes__ == [
        "A request calls its workload without arguments, or as workload(out=destination) after write_into()."
    ]


def test_a_destination_for_a_workload_that_takes_none_is_explained():
    with pytest.raises(RequestError, match="unexpected keyword argument 'out'") as caught:
        Request(lambda: 1).write_into([0]).wait()
    assert "out=destination" in caught.value.__cause__.__notes__[0]


async def coroutine(out=None):
    raise AssertionError("never runs")


async def async_generator(out=None):
    yield


@pytest.mark.parametrize("destination", [None, []], ids=["result", "destination"])
@pytest.mark.parametrize("hidden", [False, True], ids=["itself", "behind a lambda"])
@pytest.mark.parametrize(
    ("workload", "way_out"),
    [
        (
            coroutine,
            r"Request\.from_future\(asyncio\.run_coroutine_threadsafe\(coroutine\(\.\.\.\), loop\)\)",
        ),
        (async_generator, "Give a plain function that returns the values"),
    ],
    ids=["coroutine", "generator"],
)
def test_an_async_workload_fails_with_the_way_out_since_nothing_of_it_would_run(
    scheduler, workload, way_out, hidden, destination
):
    request = Request((lambda **out: workload(**out)) if hidden else workload, scheduler=scheduler)
    if destination is not None:
        request.write_into(destination)
    with pytest.raises(
        RequestError, match=f"{workload.__name__}', of which nothing has run.*{way_out}"
    ) as caught:
        request.submit().wait()
    assert type(caught.value.__cause__) is TypeError
    assert not hasattr(caught.value.__cause__, "__notes__")
    gc.collect()  # "was never awaited" would be a warning, and so an error


def test_what_asyncio_runs_can_be_waited_for_as_the_refusal_says():
    async def answer():
        return 42

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        assert Request.from_future(asyncio.run_coroutine_threadsafe(answer(), loop)).wait() == 42
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def test_a_type_error_inside_a_workload_is_left_as_it_is(scheduler):
    def work():
        return 1 + "a"

    with pytest.raises(RequestError) as caught:
        Request(work, scheduler=scheduler).submit().wait()
    assert not hasattr(caught.value.__cause__, "__notes__")


def test_what_makes_no_difference_is_no_mistake(threaded):
    request = Request(lambda: 1, scheduler=threaded, priority=Priority.BACKGROUND)
    assert request.wait() == request.wait(-1) == 1
    assert request.cancel() is False
    assert request.submit().submit() is request
    threaded.close()
    threaded.close()


def test_a_request_that_waits_for_itself_is_told_so(threaded):
    with pytest.raises(RequestError, match="waits for itself through request 'me'"):
        Request(lambda: current_request().wait(), name="me", scheduler=threaded).submit().wait()


def test_a_request_does_not_cancel_itself_while_somebody_waits_for_it(scheduler):
    def work():
        return current_request().cancel()

    assert Request(lambda: Request(work).wait(), scheduler=scheduler).submit().wait() is False


@pytest.mark.parametrize("seconds", [Fraction(1, 1000), np.float32(0.001), np.int64(0)])
def test_any_real_number_is_a_timeout(seconds):
    event = RequestEvent()
    assert not event.wait(timeout=seconds)
    request = Request(event.wait).submit()
    with pytest.raises(RequestTimeoutError):
        request.wait(timeout=seconds)
    event.set()
    request.wait()
