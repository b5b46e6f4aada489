"""One request: running at most once, its result, its failure, its names."""

import threading

import pytest

from lazyflow_core.errors import RequestCancelledError, RequestError, RequestStateError, RequestTimeoutError
from lazyflow_core.request import Request, RequestEvent, RequestState, current_request, gather


def test_nothing_happens_until_somebody_asks():
    ran = []
    request = Request(lambda: ran.append(1))
    assert request.state is RequestState.NEW
    assert not ran


def test_a_submitted_request_gives_its_result_to_everybody(scheduler):
    ran = []

    def work():
        ran.append(1)
        return 42

    request = Request(work, scheduler=scheduler).submit()
    assert [request.wait() for _ in range(3)] == [42] * 3
    assert request.result == 42
    assert ran == [1]
    assert request.state is RequestState.FINISHED


def test_submitting_twice_is_submitting_once(scheduler):
    ran = []
    request = Request(lambda: ran.append(1), scheduler=scheduler)
    assert request.submit() is request
    request.submit().block()
    request.submit()
    assert ran == [1]


def test_block_waits_and_returns_nothing(scheduler):
    assert Request(lambda: 3, scheduler=scheduler).block() is None


def test_an_unsubmitted_request_runs_in_the_foreign_thread_that_waits(threaded):
    thread = Request(threading.current_thread, scheduler=threaded).wait()
    assert thread is threading.current_thread()
    assert not threaded._crew.workers


def test_a_submitted_request_runs_on_a_worker(threaded):
    assert (
        Request(threading.current_thread, scheduler=threaded).submit().wait()
        is not threading.current_thread()
    )


def test_an_unstarted_child_runs_inside_its_waiter(threaded):
    def parent():
        return threading.current_thread() is Request(threading.current_thread).wait()

    assert Request(parent, scheduler=threaded).submit().wait()


def test_a_request_stays_on_its_thread_across_waits(threaded):
    def work():
        before = threading.get_ident()
        for _ in range(5):
            gather(*[lambda: None] * 4)
        return before == threading.get_ident()

    assert all(gather(*[Request(work, scheduler=threaded) for _ in range(20)]))


def test_children_find_the_scheduler_of_their_parent(scheduler):
    def parent():
        child = Request(lambda: None).submit()
        child.wait()
        return child._scheduler is scheduler

    assert Request(parent, scheduler=scheduler).wait()


def test_current_request_is_the_innermost(scheduler):
    def parent():
        child = Request(lambda: current_request() is child)
        return child.wait(), current_request() is request

    request = Request(parent, scheduler=scheduler)
    assert current_request() is None
    assert request.wait() == (True, True)
    assert current_request() is None


# ------------------------------------------------------------------------------------------------- failures


def fail():
    raise ValueError("broken")


def test_each_waiter_gets_an_error_of_its_own_with_the_very_cause(scheduler):
    original = ValueError("broken")

    def work():
        raise original

    request = Request(work, scheduler=scheduler, name="read block").submit()
    errors = []
    for _ in range(2):
        with pytest.raises(RequestError, match=r"'read block'.*ValueError: broken") as caught:
            request.wait()
        errors.append(caught.value)
    assert errors[0] is not errors[1]
    assert errors[0].__cause__ is original
    assert errors[1].__cause__ is original
    assert request.state is RequestState.FAILED


def test_a_failure_that_passes_through_many_requests_is_wrapped_once(scheduler):
    original = ValueError("broken")

    def innermost():
        raise original

    def nested(depth):
        return innermost() if depth == 0 else Request(lambda: nested(depth - 1)).wait()

    with pytest.raises(RequestError) as caught:
        Request(lambda: nested(5), scheduler=scheduler).wait()
    assert caught.value.__cause__ is original


def test_a_subclass_builds_its_own_errors():
    class ReadError(RequestError):
        pass

    class Read(Request[int]):
        __slots__ = ("block",)

        def __init__(self, block):
            super().__init__(None)
            self.block = block

        def _run(self, out):
            if self.block < 0:
                raise IndexError(self.block)
            return self.block * 2

        def _make_error(self, cause):
            return ReadError(f"block {self.block}: {cause}")

        def _describe_work(self):
            return f"read block {self.block}"

    assert Read(4).wait() == 8
    assert Read(4).describe() == "request 'read block 4' (NEW)"
    request = Read(-1)
    with pytest.raises(ReadError, match="block -1") as caught:
        request.wait()
    assert type(caught.value.__cause__) is IndexError
    assert not hasattr(request, "__dict__")


def test_there_is_no_result_before_the_end_nor_after_a_failure():
    request = Request(fail)
    with pytest.raises(RequestStateError, match="no result"):
        _ = request.result
    with pytest.raises(RequestError):
        request.wait()
    with pytest.raises(RequestStateError):
        _ = request.result


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), MemoryError(), RecursionError(), StopIteration(), GeneratorExit()],
)
def test_whatever_a_workload_raises_the_waiter_hears_of_it_and_the_worker_lives(threaded, error):
    def work():
        raise error

    with pytest.raises(RequestError) as caught:
        Request(work, scheduler=threaded).submit().wait()
    assert caught.value.__cause__ is error
    assert sum(gather(*[Request(lambda: 1, scheduler=threaded) for _ in range(1000)])) == 1000
    assert all(worker.thread.is_alive() for worker in threaded._crew.workers)


def test_a_real_recursion_error_ends_the_request_and_all_around_it(threaded):
    def endless():
        return endless()

    def parent():
        return Request(endless).wait()

    with pytest.raises(RequestError) as caught:
        Request(parent, scheduler=threaded).submit().wait()
    assert type(caught.value.__cause__) is RecursionError


# ------------------------------------------------------------------------------------------------ write_into


def test_the_result_is_the_destination(scheduler):
    def fill(out):
        out[:] = [1, 2, 3]
        return "ignored"

    destination = [0, 0, 0]
    request = Request(fill, scheduler=scheduler)
    assert request.write_into(destination) is request
    assert request.wait() is destination
    assert destination == [1, 2, 3]


def test_a_destination_comes_before_the_start(scheduler):
    request = Request(lambda: 1, scheduler=scheduler).submit()
    with pytest.raises(RequestStateError, match="before"):
        request.write_into([])
    request.wait()


def test_none_is_a_destination():
    assert Request(lambda out: 1).write_into(None).wait() is None


# --------------------------------------------------------------------------------------------- done requests


def test_a_value_is_a_finished_request():
    request = Request.from_value([1, 2])
    assert isinstance(request, Request)
    assert request.wait() == request.submit().wait(timeout=0) == [1, 2]
    assert not request.cancel()
    heard = []
    request.on_finished(heard.append).on_done(heard.append).on_failed(heard.append)
    assert heard == [[1, 2], request]


def test_a_value_is_copied_into_a_destination():
    class Destination:
        def __setitem__(self, key, value):
            self.got = key, value

    destination = Destination()
    assert Request.from_value(7).write_into(destination).wait() is destination
    assert destination.got == (..., 7)


# -------------------------------------------------------------------------------------------------- deadlines


def test_a_wait_with_a_timeout_inside_a_request(scheduler):
    if type(scheduler).__name__ == "InlineScheduler":
        pytest.skip("an inline scheduler runs the child to its end before anybody can look at a clock")

    def parent():
        child = Request(RequestEvent("never").wait).submit()
        with pytest.raises(RequestTimeoutError, match="goes on"):
            child.wait(timeout=0.01)
        return child.cancel()

    assert Request(parent, scheduler=scheduler).submit().wait() is True


def test_a_foreign_wait_that_timed_out_leaves_the_request_cancellable(threaded):
    request = Request(RequestEvent("never").wait, scheduler=threaded).submit()
    with pytest.raises(RequestTimeoutError):
        request.wait(timeout=0.01)
    assert request.cancel()
    with pytest.raises(RequestCancelledError):
        request.wait()


def test_a_timeout_that_is_long_enough_is_not_noticed(threaded):
    assert (
        Request(lambda: Request(lambda: 5).wait(timeout=60), scheduler=threaded).submit().wait(timeout=60)
        == 5
    )


# ---------------------------------------------------------------------------------------------------- names


def test_a_name_is_evaluated_only_when_described():
    asked = []

    def name():
        asked.append(1)
        return "costly"

    request = Request(lambda: 1, name=name)
    request.wait()
    assert not asked
    assert request.describe() == "request 'costly' (FINISHED)"
    assert asked


def test_a_name_that_raises_does_not_harm():
    assert "its name raised" in Request(fail, name=fail).describe()


# ------------------------------------------------------------------------------- failures nobody asked for


def test_a_failure_nobody_asked_for_is_logged(threaded, caplog):
    done = threading.Event()
    Request(fail, scheduler=threaded).on_done(lambda _: done.set()).submit()
    done.wait(10)
    threaded.close()
    assert "nobody asked" in caplog.text
    assert "ValueError: broken" in caplog.text


def test_a_failure_somebody_saw_is_not_logged(threaded, caplog):
    with pytest.raises(RequestError):
        Request(fail, scheduler=threaded).submit().wait()
    seen = threading.Event()
    Request(fail, scheduler=threaded).on_failed(lambda error: seen.set()).submit()
    seen.wait(10)
    threaded.close()
    assert not caplog.text
