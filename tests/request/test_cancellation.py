"""Cancelling: with consent, at the next wait, and with everything that only the cancelled one needed."""

import pytest

from lazyflow_core.errors import CancelledError, RequestCancelledError, RequestError
from lazyflow_core.request import (
    Request,
    RequestEvent,
    RequestState,
    SeededScheduler,
    checkpoint,
    current_request,
)


@pytest.fixture
def seeded():
    with SeededScheduler() as scheduler:
        yield scheduler


def run_unwatched(work, scheduler):
    """Run a workload while nobody waits for it: whoever is waited for cannot be cancelled."""
    request = Request(work, scheduler=scheduler).submit()
    scheduler.run_until_blocked()
    return request


def test_a_request_that_never_began_ends_at_once_and_never_runs(threaded):
    ran = []
    request = Request(lambda: ran.append(1), scheduler=threaded)
    assert request.cancel()
    assert request.state is RequestState.CANCELLED
    with pytest.raises(RequestCancelledError):
        request.wait()
    with pytest.raises(RequestCancelledError):
        request.submit().wait()
    assert not ran


def test_a_queued_request_ends_at_once(seeded):
    request = Request(lambda: 1, scheduler=seeded).submit()
    assert request.state is RequestState.QUEUED
    assert request.cancel()
    assert request.state is RequestState.CANCELLED


def test_a_running_request_stops_at_the_next_checkpoint(seeded):
    passed = []

    def work():
        checkpoint()
        current_request().cancel()
        passed.append("before")
        checkpoint()
        passed.append("after")

    request = run_unwatched(work, seeded)
    with pytest.raises(RequestCancelledError):
        request.wait()
    assert passed == ["before"]


def test_except_exception_does_not_swallow_cancellation(seeded):
    def work():
        current_request().cancel()
        try:
            checkpoint()
        except Exception:
            return "revived"

    with pytest.raises(RequestCancelledError):
        run_unwatched(work, seeded).wait()


def test_a_suspended_request_is_woken_to_be_cancelled(seeded):
    request = Request(RequestEvent("never").wait, scheduler=seeded).submit()
    seeded.run_until_blocked()
    assert request.state is RequestState.SUSPENDED
    assert request.cancel()
    seeded.run_until_blocked()
    assert request.state is RequestState.CANCELLED


def test_a_result_that_came_after_the_cancellation_is_not_handed_out(seeded):
    def work():
        current_request().cancel()
        return 42

    request = run_unwatched(work, seeded)
    with pytest.raises(RequestCancelledError):
        request.wait()


def test_an_error_is_stronger_than_a_cancellation(seeded):
    def work():
        current_request().cancel()
        raise ValueError("while cleaning up")

    with pytest.raises(RequestError) as caught:
        run_unwatched(work, seeded).wait()
    assert type(caught.value.__cause__) is ValueError


def test_a_cancelled_error_out_of_nothing_is_a_failure(seeded):
    def work():
        raise CancelledError("nobody cancelled")

    request = run_unwatched(work, seeded)
    with pytest.raises(RequestError) as caught:
        request.wait()
    assert request.state is RequestState.FAILED
    assert type(caught.value.__cause__) is CancelledError


def test_cancel_reaches_children_nobody_else_waits_for(seeded):
    never = RequestEvent("never")
    children = []

    def parent():
        children.extend(Request(never.wait).submit() for _ in range(3))
        children[0].wait()

    request = Request(parent, scheduler=seeded).submit()
    seeded.run_until_blocked()
    assert request.cancel()
    seeded.run_until_blocked()
    assert [child.state for child in children] == [RequestState.CANCELLED] * 3


def test_cancel_spares_a_request_someone_else_waits_for(seeded):
    gate = RequestEvent("gate")
    shared = Request(gate.wait, scheduler=seeded)
    first = Request(lambda: shared.submit().wait(), scheduler=seeded).submit()
    second = Request(lambda: shared.submit().wait(), scheduler=seeded).submit()
    seeded.run_until_blocked()
    assert first.cancel()
    seeded.run_until_blocked()
    assert first.state is RequestState.CANCELLED
    assert shared.state is RequestState.SUSPENDED
    assert not shared.cancel()
    gate.set()
    assert second.wait() is True


def test_cancel_reaches_what_runs_inline(seeded):
    never = RequestEvent("never")
    child = Request(lambda: Request(never.wait).wait())
    request = Request(child.wait, scheduler=seeded).submit()
    seeded.run_until_blocked()
    assert request.cancel()
    seeded.run_until_blocked()
    assert request.state is child.state is RequestState.CANCELLED


def test_cancelling_twice_keeps_it_cancelled_even_if_somebody_came(seeded):
    request = Request(RequestEvent("never").wait, scheduler=seeded).submit()
    seeded.run_until_blocked()
    assert request.cancel()
    waiter = Request(request.wait, scheduler=seeded).submit()
    assert request.cancel()
    with pytest.raises(RequestError):
        waiter.wait()
    assert request.state is RequestState.CANCELLED


def test_cancelling_after_the_end_changes_nothing(scheduler):
    request = Request(lambda: 1, scheduler=scheduler).submit()
    request.wait()
    assert not request.cancel()
    assert request.state is RequestState.FINISHED
    assert request.wait() == 1


def test_a_child_submitted_by_a_cancelled_request_is_born_cancelled(seeded):
    children = []

    def parent():
        current_request().cancel()
        children.append(Request(lambda: 1).submit())

    with pytest.raises(RequestCancelledError):
        run_unwatched(parent, seeded).wait()
    assert children[0].state is RequestState.CANCELLED


def test_waiting_inside_a_cancelled_request_is_a_cancelled_error(seeded):
    heard = []

    def work():
        current_request().cancel()
        for wait in (Request.from_value(1).wait, RequestEvent().wait, checkpoint):
            try:
                wait()
            except CancelledError as error:
                heard.append(type(error))
        raise CancelledError

    with pytest.raises(RequestCancelledError):
        run_unwatched(work, seeded).wait()
    assert heard == [CancelledError] * 3


def test_a_chain_of_ten_thousand_is_cancelled_without_recursion(threaded):
    never = RequestEvent("never")
    bottom = RequestEvent("bottom")

    def nested(depth):
        if depth == 0:
            bottom.set()
            never.wait()
        Request(lambda: nested(depth - 1)).wait()

    request = Request(lambda: nested(10_000), scheduler=threaded).submit()
    bottom.wait()
    assert request.cancel()
    with pytest.raises(RequestCancelledError):
        request.wait()
