"""Native code is told to stop: by the byte whose address it gets."""

import os
import signal
import threading
import weakref
from ctypes import c_ubyte

import pytest

from lazyflow_core.errors import CancelledError, RequestCancelledError
from lazyflow_core.request import Request, ThreadedScheduler, checkpoint, run_stoppable
from lazyflow_core.request._stop import stop_flags, watched


@pytest.fixture(autouse=True)
def nothing_is_left_to_look_at():
    yield
    assert not watched
    assert not stop_flags


class Native:
    """Stands for native code: goes on until its flag is set."""

    def __init__(self):
        self.is_running = threading.Event()
        self.thread = None

    def __call__(self, address):
        self.thread = threading.get_ident()
        flag = c_ubyte.from_address(address)
        self.is_running.set()
        while not flag.value:
            pass
        return "garbage"


def begun(native, scheduler):
    request = Request(lambda: run_stoppable(native), scheduler=scheduler).submit()
    assert native.is_running.wait(30)
    return request


def ended_as_cancelled(request):
    with pytest.raises((RequestCancelledError, CancelledError)):
        request.wait(30)
    return request.state.name == "CANCELLED"


def test_cancelling_sets_the_flag_of_native_code_that_runs(threaded):
    request = begun(Native(), threaded)
    assert request.cancel()
    assert ended_as_cancelled(request)


def test_cancelling_a_parent_sets_the_flag_of_the_child_it_runs(threaded):
    native = Native()
    child = Request(lambda: run_stoppable(native), scheduler=threaded)
    parent = Request(child.wait, scheduler=threaded).submit()
    assert native.is_running.wait(30)
    parent.cancel()
    assert ended_as_cancelled(parent)
    assert ended_as_cancelled(child)


def test_closing_the_scheduler_sets_the_flag():
    scheduler = ThreadedScheduler(1)
    request = begun(Native(), scheduler)
    scheduler.close(30)
    assert request.state.name == "CANCELLED"


def test_shared_work_is_not_told_to_stop(threaded):
    native = Native()
    shared = begun(native, threaded)
    waits = threading.Event()
    other = Request(lambda: waits.set() or shared.wait(), scheduler=threaded).submit()
    assert waits.wait(30)
    while not shared._links or not shared._links.waiters:
        pass
    assert not shared.cancel()
    assert not stop_flags[shared][0]
    other.cancel()
    shared.cancel()
    assert ended_as_cancelled(shared)


def test_a_request_that_was_cancelled_before_calls_nothing(threaded):
    called, begun, cancelled = [], threading.Event(), threading.Event()

    def work():
        begun.set()
        assert cancelled.wait(30)
        run_stoppable(called.append)

    request = Request(work, scheduler=threaded).submit()
    assert begun.wait(30)
    assert request.cancel()
    cancelled.set()
    assert ended_as_cancelled(request)
    assert not called


def test_a_call_within_a_call_gives_the_flag_back(threaded):
    native = Native()

    def outer(address):
        assert run_stoppable(lambda inner: inner != address)
        return native(address)

    request = Request(lambda: run_stoppable(outer), scheduler=threaded).submit()
    assert native.is_running.wait(30)
    request.cancel()
    assert ended_as_cancelled(request)


@pytest.mark.parametrize("is_brief", [False, True])
def test_results_and_failures_pass_through(scheduler, is_brief):
    def fail(address):
        raise ValueError("native code refused")

    for run in (lambda work: work(), lambda work: Request(work, scheduler=scheduler).wait()):
        assert run(lambda: run_stoppable(lambda a: a > 0, is_brief=is_brief)) is True
        with pytest.raises(Exception, match="native code refused"):
            run(lambda: run_stoppable(fail, is_brief=is_brief))


def test_other_threads_run_it_themselves_without_a_request():
    seen = []
    thread = threading.Thread(target=lambda: run_stoppable(lambda a: seen.append(threading.get_ident())))
    thread.start()
    thread.join(30)
    assert seen == [thread.ident]


@pytest.mark.parametrize("is_request", [False, True])
def test_ctrl_c_in_the_main_thread_sets_the_flag_and_comes_after_the_native_code(is_request):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    native = Native()

    def interrupted(address):
        os.kill(os.getpid(), signal.SIGINT)
        return native(address)

    try:
        with pytest.raises(KeyboardInterrupt):
            if is_request:
                Request(lambda: run_stoppable(interrupted)).wait()
            else:
                run_stoppable(interrupted)
    finally:
        signal.signal(signal.SIGINT, before)
    assert native.thread != threading.get_ident()


def test_a_cancelled_request_is_not_kept(threaded):
    request = begun(Native(), threaded)
    request.cancel()
    assert ended_as_cancelled(request)
    gone = weakref.ref(request)
    del request
    assert gone() is None


def test_a_request_that_ends_while_it_is_cancelled_is_looked_for_no_longer(threaded):
    for _ in range(200):
        request = Request(lambda: None, scheduler=threaded).submit()
        request.cancel()
        request.on_done(lambda r: None)
        while not request.state.is_terminal:
            pass
    assert not watched


def test_a_checkpoint_looks_while_another_request_is_stopping(threaded):
    stopping = begun(Native(), threaded)

    def other():
        stopping.cancel()
        for _ in range(100):
            checkpoint()
        return "through"

    assert Request(other, scheduler=threaded).submit().wait(30) == "through"
    assert ended_as_cancelled(stopping)
