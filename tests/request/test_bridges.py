"""Between requests, concurrent.futures and asyncio."""

import asyncio
import threading
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from lazyflow_core.errors import RequestCancelledError, RequestError
from lazyflow_core.request import (
    InlineScheduler,
    Request,
    RequestEvent,
    RequestState,
    SeededScheduler,
    ThreadedScheduler,
    current_request,
    gather,
)
from lazyflow_core.testing.schedulers import wait_all_blocked


def fail():
    raise ValueError("broken")


@pytest.mark.parametrize("make", [lambda: ThreadedScheduler(2), InlineScheduler])
def test_await_gives_the_result(make):
    async def main():
        return await Request(lambda: 7, scheduler=scheduler)

    with make() as scheduler:
        assert asyncio.run(main()) == 7


def test_await_raises_the_error(threaded):
    async def main():
        await Request(fail, scheduler=threaded)

    with pytest.raises(RequestError, match="broken"):
        asyncio.run(main())


def test_the_loop_turns_while_a_request_runs(threaded):
    async def main():
        event = RequestEvent()
        request = Request(event.wait, scheduler=threaded)

        async def opener():
            await asyncio.sleep(0)
            event.set()

        results = await asyncio.gather(_awaited(request), opener(), _awaited(request))
        return results[0], results[2]

    assert asyncio.run(main()) == (True, True)


async def _awaited(request):
    return await request


def test_cancelling_a_task_cancels_its_request_unless_shared(threaded):
    async def main():
        never, event = RequestEvent(), RequestEvent()
        alone, shared = Request(never.wait, scheduler=threaded), Request(event.wait, scheduler=threaded)
        tasks = [asyncio.ensure_future(_awaited(request)) for request in (alone, shared, shared)]
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        tasks[1].cancel()
        await asyncio.sleep(0.01)
        event.set()
        assert await tasks[2] is True
        return alone

    alone = asyncio.run(main())
    with pytest.raises(RequestCancelledError):
        alone.wait()


def test_a_future_of_a_request(threaded):
    assert Request(lambda: 7, scheduler=threaded).future().result(timeout=10) == 7
    error = Request(fail, scheduler=threaded).future().exception(timeout=10)
    assert isinstance(error, RequestError)
    assert type(error.__cause__) is ValueError


def test_cancelling_the_future_cancels_the_request(threaded):
    request = Request(RequestEvent().wait, scheduler=threaded)
    future = request.future()
    assert future.cancel()
    with pytest.raises(FutureCancelledError):
        future.result()
    with pytest.raises(RequestCancelledError):
        request.wait(timeout=10)


def test_a_future_keeps_its_request_alive(threaded):
    event = RequestEvent()
    request = Request(event.wait, scheduler=threaded)
    future = request.future()
    assert not request.cancel()
    event.set()
    assert future.result(timeout=10) is True


def test_the_future_of_a_cancelled_request_says_so(threaded):
    request = Request(lambda: 1, scheduler=threaded)
    request.cancel()
    with pytest.raises(RequestCancelledError):
        request.future().result(timeout=10)


def test_waiting_for_a_future_holds_no_worker():
    futures = [Future() for _ in range(50)]
    with ThreadedScheduler(1) as scheduler:
        waiting = [
            Request(lambda f=f: Request.from_future(f).wait(), scheduler=scheduler).submit() for f in futures
        ]
        wait_all_blocked(50)
        assert Request(lambda: 1, scheduler=scheduler).submit().wait(timeout=10) == 1
        for k, future in enumerate(futures):
            future.set_result(k)
        assert [request.wait() for request in waiting] == list(range(50))


def test_a_failed_and_a_cancelled_future():
    future = Future()
    request = Request.from_future(future)
    future.set_exception(ValueError("broken"))
    with pytest.raises(RequestError, match="broken"):
        request.wait()
    other = Future()
    request = Request.from_future(other)
    other.cancel()
    with pytest.raises(RequestCancelledError):
        request.wait()


def test_cancelling_the_request_of_a_future_cancels_the_future():
    future = Future()
    request = Request.from_future(future)
    assert request.state is RequestState.RUNNING
    assert request.cancel()
    assert future.cancelled()
    assert request.state is RequestState.CANCELLED


def test_requests_and_an_executor_together(threaded):
    with ThreadPoolExecutor(2) as executor:

        def work(k):
            return Request.from_future(executor.submit(pow, k, 2)).wait()

        assert gather(*[Request(lambda k=k: work(k), scheduler=threaded) for k in range(20)]) == [
            k * k for k in range(20)
        ]


def test_a_request_awaits_a_task_of_a_running_loop(threaded):
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def double(k):
        await asyncio.sleep(0)
        return 2 * k

    def work():
        return Request.from_future(asyncio.run_coroutine_threadsafe(double(4), loop)).wait()

    try:
        assert Request(work, scheduler=threaded).submit().wait(timeout=10) == 8
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.parametrize("make", [lambda: ThreadedScheduler(1), SeededScheduler], ids=["threaded", "seeded"])
def test_a_callback_of_a_future_may_wait_like_one_of_its_request(make):
    event, heard = RequestEvent(), []

    def wait(future):
        assert current_request() is None
        event.wait()
        heard.append(future.result())

    def work():
        future = Request(lambda: 7).future()
        future.add_done_callback(wait)
        Request(event.set).submit()
        return future.result()

    with make() as scheduler:
        assert Request(work, scheduler=scheduler).submit().wait() == 7
        Request(lambda: None, scheduler=scheduler).submit().wait()
    assert heard == [7]
