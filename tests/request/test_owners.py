"""Locks whose owner has ended say so; what belongs to its process is not copied."""

import copy
import pickle
import threading
from _thread import start_new_thread

import pytest

from lazyflow_core.errors import RequestError, RequestStateError
from lazyflow_core.request import (
    InlineScheduler,
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
from lazyflow_core.testing.schedulers import wait_all_blocked


def test_a_lock_whose_owner_has_ended_tells_the_next(scheduler):
    lock = RequestLock("file")
    Request(lock.acquire, name="forgetful", scheduler=scheduler).submit().wait()
    with pytest.raises(
        RequestStateError, match=r"'file' held by request 'forgetful' .FINISHED., which has ended"
    ):
        lock.acquire()
    with pytest.raises(RequestError, match="which has ended"):
        Request(lock.acquire, scheduler=scheduler).submit().wait()
    assert lock.acquire(blocking=False) is False
    lock.release()
    assert lock.acquire()
    lock.release()


@pytest.mark.parametrize("make", [lambda: ThreadedScheduler(2), SeededScheduler], ids=["threaded", "seeded"])
def test_all_who_wait_are_told_when_an_owner_ends_without_releasing(make):
    lock = RequestLock("file")
    taken, go_on = RequestEvent(), RequestEvent()

    def forgetful():
        lock.acquire()
        taken.set()
        go_on.wait()

    def patient():
        taken.wait()
        waiting.append(1)
        if len(waiting) == 3:
            go_on.set()
        lock.acquire()

    waiting = []
    with make() as scheduler:
        owner = Request(forgetful, scheduler=scheduler).submit()
        others = [Request(patient, scheduler=scheduler).submit() for _ in range(3)]
        for other in others:
            with pytest.raises(RequestError, match="which has ended without releasing"):
                other.wait()
        owner.wait()
    lock.release()


def test_a_lock_that_was_handed_to_a_forgetful_owner_tells_those_behind_it(threaded):
    lock = RequestLock()
    lock.acquire()
    first = Request(lock.acquire, scheduler=threaded).submit()
    second = Request(lock.acquire, scheduler=threaded).submit()
    wait_all_blocked(2)
    lock.release()
    outcomes = set()
    for request in (first, second):
        try:
            outcomes.add(request.wait())
        except RequestError as error:
            outcomes.add(type(error.__cause__))
    assert outcomes == {True, RequestStateError}
    lock.release()


def test_a_lock_of_a_thread_that_has_ended_tells_the_next():
    lock = RequestLock()
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()
    with pytest.raises(RequestStateError, match="has ended without releasing"):
        lock.acquire()
    lock.release()


@pytest.fixture
def no_dummies():
    """threading keeps what it made for threads that were started past it."""
    before = dict(threading._active)
    yield
    for number in threading._active.keys() - before:
        if isinstance(threading._active[number], threading._DummyThread):
            del threading._active[number]


@pytest.mark.usefixtures("no_dummies")
@pytest.mark.parametrize(
    "start", [lambda work: threading.Thread(target=work).start(), lambda work: start_new_thread(work, ())]
)
def test_all_who_wait_are_told_when_the_thread_that_owns_a_lock_ends(threaded, start):
    lock = RequestLock("file")
    taken, go_on = threading.Event(), threading.Event()
    start(lambda: (lock.acquire() and taken.set()) or go_on.wait(10))
    taken.wait(10)
    requests = [Request(lock.acquire, scheduler=threaded).submit() for _ in range(2)]
    errors = []

    def wait():
        try:
            lock.acquire()
        except RequestStateError as error:
            errors.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    wait_all_blocked(3)
    go_on.set()
    thread.join(10)
    assert "has ended without releasing" in errors[0]
    for request in requests:
        with pytest.raises(RequestError, match="has ended without releasing"):
            request.wait(10)
    lock.release()


def test_a_lock_that_a_thread_held_before_tells_nobody_of_its_end(threaded):
    lock = RequestLock()
    taken, go_on = threading.Event(), RequestEvent()

    def use():
        with lock:
            taken.set()
            wait_all_blocked(1)

    thread = threading.Thread(target=use)
    thread.start()
    taken.wait(10)
    holder = Request(lambda: lock.acquire() and go_on.wait(), scheduler=threaded).submit()
    thread.join(10)
    waiting = Request(lock.acquire, scheduler=threaded).submit()
    wait_all_blocked(2)
    lock.release()
    assert waiting.wait()
    go_on.set()
    holder.wait()
    lock.release()


def test_a_lock_may_be_released_by_a_callback_of_its_owner(threaded):
    lock = RequestLock()

    def work():
        lock.acquire()
        current_request().on_done(lambda request: lock.release())

    Request(work, scheduler=threaded).submit().wait()
    assert lock.acquire()
    lock.release()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Request(print),
        lambda: Request.from_value(3),
        RequestPool,
        RequestLock,
        RequestCondition,
        RequestSemaphore,
        RequestEvent,
        InlineScheduler,
        ThreadedScheduler,
        SeededScheduler,
    ],
)
@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps])
def test_what_belongs_to_its_process_is_neither_copied_nor_pickled(make, way):
    with pytest.raises(TypeError, match="is neither pickled nor copied"):
        way(make())
