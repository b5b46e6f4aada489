"""Callbacks: exactly one outcome, before the waiters, and harmless whatever they do."""

import contextlib
import threading

import pytest

from lazyflow_core.errors import RequestError
from lazyflow_core.request import Request, current_request, gather


def fail():
    raise ValueError("broken")


def listen(request):
    heard = []
    request.on_finished(lambda result: heard.append(("finished", result)))
    request.on_failed(lambda error: heard.append(("failed", type(error))))
    request.on_cancelled(lambda: heard.append(("cancelled",)))
    request.on_done(lambda r: heard.append(("done", r is request)))
    return heard


@pytest.mark.parametrize("late", [False, True], ids=["before the end", "after the end"])
@pytest.mark.parametrize(
    ("work", "cancel", "outcome"),
    [
        (lambda: 7, False, ("finished", 7)),
        (fail, False, ("failed", ValueError)),
        (lambda: 7, True, ("cancelled",)),
    ],
    ids=["finished", "failed", "cancelled"],
)
def test_exactly_one_outcome_is_told(scheduler, work, cancel, outcome, late):
    request = Request(work, scheduler=scheduler)
    heard = [] if late else listen(request)
    if cancel:
        request.cancel()
    with contextlib.suppress(RequestError):
        request.submit().wait()
    if late:
        heard = listen(request)
    assert heard == [outcome, ("done", True)]


def test_what_was_subscribed_before_wait_has_run_when_it_returns(threaded):
    for _ in range(200):
        heard = []
        request = Request(lambda: 1, scheduler=threaded).submit()
        request.on_finished(heard.append)
        request.wait()
        assert heard == [1]


def test_a_raising_callback_changes_nothing_and_is_reported(scheduler, caplog):
    heard = []
    request = Request(lambda: 7, scheduler=scheduler)
    request.on_finished(lambda result: fail()).on_finished(heard.append).on_done(lambda r: fail())
    request.on_done(lambda r: heard.append(r))
    assert request.submit().wait() == 7
    assert heard == [7, request]
    assert caplog.text.count("a callback of request") == 2


def test_a_callback_may_do_everything_to_its_own_request(scheduler):
    heard = []

    def touch(request):
        heard.append((request.wait(), request.result, request.cancel(), request.state.name))
        request.on_done(lambda r: heard.append("again"))
        request.on_failed(lambda error: heard.append("never"))

    Request(lambda: 7, scheduler=scheduler).on_done(touch).submit().wait()
    assert heard == [(7, 7, False, "FINISHED"), "again"]


def test_a_callback_may_start_and_await_other_requests(scheduler):
    heard = []
    request = Request(lambda: 7, scheduler=scheduler)
    request.on_done(lambda r: heard.extend(gather(lambda: 1, lambda: 2)))
    request.submit().wait()
    assert heard == [1, 2]


def test_callbacks_run_outside_any_request(scheduler):
    heard = []
    request = Request(lambda: 7, scheduler=scheduler).on_done(lambda r: heard.append(current_request()))

    def parent():
        me = current_request()
        request.wait()
        return current_request() is me

    assert Request(parent, scheduler=scheduler).submit().wait()
    assert heard == [None]


def test_a_callback_holds_up_only_those_who_wait_for_its_request(threaded):
    entered, leave = threading.Event(), threading.Event()
    slow = Request(lambda: 1, scheduler=threaded).on_done(lambda r: (entered.set(), leave.wait(10)))
    slow.submit()
    entered.wait(10)
    assert Request(lambda: 2, scheduler=threaded).submit().wait(timeout=10) == 2
    leave.set()
    assert slow.wait() == 1
