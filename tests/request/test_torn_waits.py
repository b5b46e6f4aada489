"""An exception at any place of a wait: no memory, or a Ctrl-C. It leaves nothing behind, nobody else hears.

Each situation is run once per switch point that its wait passes, and there the exception is raised: before
the wait is entered anywhere, half entered, entered, parked, and on the way back.
"""

import sys
from pathlib import Path

import pytest
from greenlet import getcurrent

sys.path.insert(0, str(Path(__file__).parent))

from request_lab import load_lab, unload

from lazyflow_core.errors import RequestError

SITUATIONS = {}


def situation(function):
    SITUATIONS[function.__name__] = function
    return function


class Torn(MemoryError):
    """Raised where an allocation or a signal might raise."""


def is_torn(error):
    """Also a request that ran inside of the victim may be torn; then those who wait for it hear of it."""
    return type(error) is Torn or type(getattr(error, "__cause__", None)) is Torn


def is_exempt(frame):
    """Whether nothing is raised here: `_claim` takes and writes without a call or an allocation in between.

    What a wait hands on when it is torn was torn once already, and ``__exit__`` begins before its ``try``.
    """
    names = []
    while frame is not None and len(names) < 6:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names[0] in ("_claim", "__exit__") or ("_acquire" in names and "release" in names)


class Tear:
    """Raises once, at the given switch point that this stack passes inside of ``with tear``."""

    def __init__(self, package, place):
        self.package = package
        self.left = place
        self.stack = None
        self.was_reached = False

    def __enter__(self):
        self.stack = getcurrent()

    def __exit__(self, kind, error, where):
        self.stack = None
        return is_torn(error)  # what it tore is given up; the situation goes on

    def at_switch_point(self):
        if self.stack is getcurrent() and not self.was_reached and not is_exempt(sys._getframe(2)):
            if self.left == 0:
                self.was_reached = True
                raise Torn
            self.left -= 1


@pytest.fixture
def package():
    package = load_lab()
    yield package
    unload(package)


def start(package, *work):
    return [package.Request(each).submit() for each in work]


def wait_for(requests):
    for request in requests:
        request.wait()


@situation
def a_lock_that_others_hold_and_want(package, tear):
    lock = package.RequestLock()
    inside = []

    def use():
        with lock:
            inside.append(1)
            assert len(inside) == 1
            package.checkpoint()
            inside.pop()

    def victim():
        had = False
        with tear:
            had = lock.acquire()
        if had:
            lock.release()

    wait_for(start(package, use, victim, use))
    assert not lock.locked()


@situation
def a_lock_for_a_while(package, tear):
    lock = package.RequestLock()
    never = package.RequestEvent()

    def hold():
        with lock:
            never.wait(timeout=1.0)

    def victim():
        had = False
        with tear:
            had = lock.acquire(timeout=1.0)
        if had:
            lock.release()

    wait_for(start(package, hold, victim, hold))
    assert not lock.locked()


@situation
def a_permit(package, tear):
    semaphore = package.RequestSemaphore(1)

    def use():
        with semaphore:
            package.checkpoint()

    def victim():
        had = False
        with tear:
            had = semaphore.acquire()
        if had:
            semaphore.release()

    wait_for(start(package, use, victim, use))
    assert semaphore.acquire(blocking=False)
    assert not semaphore.acquire(blocking=False)


@situation
def an_event(package, tear):
    event = package.RequestEvent()

    def victim():
        with tear:
            event.wait()

    wait_for(start(package, victim, event.wait, event.set))


@situation
def a_notification(package, tear):
    condition = package.RequestCondition()
    tokens = []

    def take():
        with condition:
            while not tokens:
                condition.wait()
            tokens.pop()

    def victim():
        with condition:
            was_told = False
            with tear:
                was_told = condition.wait(timeout=1.0)
            condition.notify(was_told)  # passes it on; refuses who does not hold the lock

    def give():
        with condition:
            tokens.append(1)
            condition.notify()

    wait_for(start(package, victim, take, give))
    assert not condition._lock.locked()


@situation
def the_result_of_another(package, tear):
    event = package.RequestEvent()
    other = package.Request(event.wait)

    def victim():
        with tear:
            other.wait()

    def second():
        try:
            assert other.wait() is True
        except RequestError as error:
            if not is_torn(error):
                raise

    wait_for(start(package, other.submit, victim, second, event.set))
    assert other.state.is_terminal


@situation
def the_end_of_a_request_that_others_wait_for(package, tear):
    all_wait = package.RequestEvent()
    told, waiting, others = [], [], []

    def work():
        others.extend(start(package, wait, wait, wait))
        all_wait.wait()
        tear.__enter__()

    other = package.Request(work)
    for k in range(2):
        other.on_done(lambda request, k=k: told.append(k))

    def victim():
        try:
            other.wait()
        except BaseException as error:
            if not is_torn(error):
                raise
        tear.__exit__(None, None, None)

    def wait():
        waiting.append(1)
        if len(waiting) == 3:
            all_wait.set()
        try:
            other.wait()
        except RequestError as error:
            if not is_torn(error):
                raise

    wait_for(start(package, victim))
    wait_for(others)
    assert other.state.is_terminal
    assert told in ([0, 1], [0], [1])  # one that was about to be called is given up with the call


@situation
def a_lock_that_is_given_back(package, tear):
    lock = package.RequestLock()
    inside, waiting = [], []
    all_wait = package.RequestEvent()

    def use():
        waiting.append(1)
        if len(waiting) == 3:
            all_wait.set()
        with lock:
            inside.append(1)
            assert len(inside) == 1
            package.checkpoint()
            inside.pop()

    def victim():
        lock.acquire()
        others = start(package, use, use, use)
        all_wait.wait()
        with tear:
            lock.__exit__(None, None, None)
        wait_for(others)

    wait_for(start(package, victim))
    assert not lock.locked()


@situation
def a_permit_that_is_given_back(package, tear):
    semaphore = package.RequestSemaphore(1, is_bounded=True)
    had = []

    def use(timeout):
        got = semaphore.acquire(timeout=timeout)
        had.append(got)
        if got:
            semaphore.release()

    def victim():
        semaphore.acquire()
        others = start(package, lambda: use(None), lambda: use(1.0), lambda: use(None))
        for _ in range(20):
            package.checkpoint()
        with tear:
            semaphore.__exit__(None, None, None)
        wait_for(others)

    wait_for(start(package, victim))
    assert semaphore._value == 1
    assert had.count(True) >= 2


@situation
def room_in_a_pool(package, tear):
    done = []
    pool = package.RequestPool(max_in_flight=1)

    def victim():
        try:
            with pool:
                for k in range(3):
                    with tear:
                        pool.submit(lambda k=k: done.append(k))
        except RequestError as error:
            if not is_torn(error):
                raise

    wait_for(start(package, victim))
    assert len(pool) == 0
    assert len(set(done)) == len(done)


@situation
def the_next_result_of_a_pool(package, tear):
    results = []

    def victim():
        with package.RequestPool() as pool:
            for k in range(3):
                pool.submit(lambda k=k: package.checkpoint() or k)
            for _ in range(3):
                with tear:
                    member = pool._next_completed()
                    results.append(member.result)
            results.extend(pool)
            assert len(pool) == 0

    wait_for(start(package, victim))
    assert len(set(results)) == len(results)


@situation
def all_of_a_pool(package, tear):
    done = []

    pool = package.RequestPool()

    def victim():
        try:
            with pool:
                for k in range(3):
                    pool.submit(lambda k=k: package.checkpoint() or done.append(k))
                with tear:
                    pool.join()
        except RequestError as error:
            if not is_torn(error):
                raise

    wait_for(start(package, victim))
    assert len(pool) == 0
    assert pool.failures or sorted(done) == [0, 1, 2]


def run_torn(package, name, place):
    """Run a situation with the exception at one place; return whether it came as far as that."""
    tear = Tear(package, place)
    scheduler = package.SeededScheduler(place, preempt_chance=0.05)
    package.on_switch_point = tear.at_switch_point
    try:
        scheduler.run(lambda: SITUATIONS[name](package, tear))
    finally:
        package.on_switch_point = None
    try:
        assert package.describe_blocked() == "nothing is blocked"
        assert not package.waitgraph.parked
        # The same fibers go on to serve others.
        assert scheduler.run(lambda: sum(package.gather(*[lambda k=k: k for k in range(5)]))) == 10
    finally:
        scheduler.close()
    return tear.was_reached


@pytest.mark.parametrize("name", SITUATIONS)
def test_an_exception_at_any_place_of_a_wait_for(package, name):
    place = 0
    while run_torn(package, name, place):
        place += 1
    assert place > 10, "the wait was hardly torn"
