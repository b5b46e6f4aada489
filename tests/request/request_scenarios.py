# ruff: noqa: PT017 - no pytest here: a scenario is a plain program
"""Small concurrent programs with what must hold at their end, for the explorer.

Each gets a `Lab`, is run as a request, and may use everything the package offers. What always holds is
checked for all: every request ended in exactly one way and ran at most once, nobody is blocked any more, and
every lock is free.
"""

import contextlib
from itertools import count

from lazyflow_core.errors import (
    CancelledError,
    CircularWaitError,
    RequestCancelledError,
    RequestError,
    RequestStateError,
    RequestTimeoutError,
)

SCENARIOS = {}


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


class Lab:
    """The package under test and all requests and locks of one run."""

    def __init__(self, package):
        self.package = package
        self.requests = {}
        self.numbers = count()
        self.runs = {}
        self.outcomes = {}
        self.locks = []

    def request(self, work, name=None):
        number = next(self.numbers)

        def counted():
            self.runs[number] = self.runs.get(number, 0) + 1
            return work()

        request = self.package.Request(counted, name=name or f"{number}")
        self.requests[number] = request
        request.on_done(lambda r: self.outcomes.setdefault(number, []).append("done"))
        request.on_finished(lambda r: self.outcomes.setdefault(number, []).append("finished"))
        request.on_failed(lambda e: self.outcomes.setdefault(number, []).append("failed"))
        request.on_cancelled(lambda: self.outcomes.setdefault(number, []).append("cancelled"))
        return request

    def bare(self, work):
        """A request nobody has subscribed to: the shortest way through the code."""
        request = self.package.Request(work)
        self.requests[next(self.numbers)] = request
        return request

    def forget(self, request):
        self.requests = {number: each for number, each in self.requests.items() if each is not request}

    def lock(self):
        lock = self.package.RequestLock(f"lock {len(self.locks)}")
        self.locks.append(lock)
        return lock

    def event(self):
        return self.package.RequestEvent()

    def all(self, *work):
        """Run side by side and join; unlike gather this cancels nothing."""
        requests = [self.package.Request(each).submit() for each in work]
        for request in requests:
            request.wait()

    def check(self):
        state = self.package.RequestState
        for number, request in self.requests.items():
            if request.state is state.NEW and hasattr(request, "_ticket"):
                assert number not in self.runs, f"{request} ran"
                continue  # nobody ever started it
            assert request.state.is_terminal, f"{request} never ended"
            assert self.runs.get(number, 0) <= 1, f"{request} ran {self.runs[number]} times"
            if number in self.outcomes:
                heard = sorted(self.outcomes[number])
                assert heard == sorted(["done", request.state.name.lower()]), f"{request} told {heard}"
            if request.state is state.FINISHED and number in self.runs:
                assert self.runs[number] == 1
        for lock in self.locks:
            assert not lock.locked(), f"{lock} is still held"
        blocked = self.package.describe_blocked()
        assert blocked == "nothing is blocked", blocked


def ignore(function):
    """Call and swallow what a request may end with."""
    with contextlib.suppress(RequestError):
        function()


# ------------------------------------------------------------------------------------------- submit and wait


@scenario
def two_wait_for_one_that_is_being_submitted(lab):
    shared = lab.bare(lambda: 42)
    results = []
    lab.all(shared.submit, lambda: results.append(shared.wait()), lambda: results.append(shared.wait()))
    assert results == [42, 42]


@scenario
def everybody_submits_the_same(lab):
    shared = lab.request(lambda: 1)
    lab.all(shared.submit, shared.submit, shared.submit, shared.wait)
    assert shared.result == 1


@scenario
def a_tree_of_children(lab):
    def node(depth):
        if depth == 0:
            return 1
        children = [lab.bare(lambda: node(depth - 1)) for _ in range(2)]
        for child in children:
            child.submit()
        return sum(child.wait() for child in children)

    assert node(3) == 8


@scenario
def a_failure_reaches_every_waiter(lab):
    def fail():
        raise ValueError("broken")

    shared = lab.bare(fail)
    causes = []

    def wait():
        try:
            shared.wait()
        except RequestError as error:
            causes.append(error.__cause__)

    lab.all(shared.submit, wait, wait)
    assert len(causes) == 2
    assert causes[0] is causes[1]


@scenario
def callbacks_come_late_and_early(lab):
    shared = lab.bare(lambda: 7)
    heard = []
    lab.all(
        lambda: shared.on_finished(lambda r: heard.append(r)),
        shared.submit,
        lambda: shared.on_done(lambda r: heard.append(r.result)),
        lambda: shared.on_failed(lambda e: heard.append("never")),
    )
    shared.wait()
    assert heard == [7, 7]


@scenario
def callbacks_before_wait_have_run_after_wait(lab):
    shared = lab.bare(lambda: 7)
    heard = []

    def watch():
        shared.on_finished(heard.append)
        shared.wait()
        assert heard == [7]

    lab.all(shared.submit, watch, shared.wait)


@scenario
def a_callback_touches_its_own_request(lab):
    heard = []
    shared = lab.bare(lambda: 7)

    def touch(request):
        heard.append(request.wait())
        request.on_done(lambda r: heard.append("again"))
        request.cancel()

    shared.on_done(touch)
    lab.all(shared.submit, shared.wait, shared.wait)
    assert heard == [7, "again"]


@scenario
def a_callback_that_waits_for_another_request(lab):
    other = lab.bare(lambda: 3)
    heard = []
    shared = lab.bare(lambda: 7)
    shared.on_done(lambda r: heard.append(other.wait()))
    lab.all(shared.wait, other.submit)
    assert heard == [3]


# ------------------------------------------------------------------------------------------------ cancelling


@scenario
def cancel_races_with_the_start(lab):
    shared = lab.request(lambda: 1)
    lab.all(shared.submit, shared.cancel)
    ignore(shared.wait)
    assert shared.state.is_terminal


@scenario
def cancel_races_with_a_waiter(lab):
    event = lab.event()
    shared = lab.request(event.wait)

    def wait():
        try:
            assert shared.wait() is True
        except RequestCancelledError:
            assert shared.state.name == "CANCELLED"

    answers = []
    lab.all(shared.submit, wait, lambda: answers.append(shared.cancel()), event.set)
    if shared.state.name == "CANCELLED":
        assert answers == [True]


@scenario
def a_cancelled_parent_leaves_shared_work_alone(lab):
    event = lab.event()
    shared = lab.request(event.wait)
    parent = lab.request(lambda: shared.submit().wait())
    results = []
    parent.submit()
    # Cancelled before anybody else came, it is rightly gone.
    lab.all(lambda: ignore(lambda: results.append(shared.wait())), parent.cancel, event.set)
    ignore(parent.wait)
    assert results == ([True] if shared.state.name == "FINISHED" else [])
    assert shared.state.name in ("FINISHED", "CANCELLED")


@scenario
def cancel_reaches_grandchildren(lab):
    event = lab.event()
    children = []

    def child():
        lab.request(event.wait).wait()

    def parent():
        children.extend(lab.request(child).submit() for _ in range(2))
        for each in children:
            each.wait()

    root = lab.request(parent).submit()
    lab.all(root.cancel, lambda: None)
    # Nobody sets the event: only the cancellation can end them, unless it came before the children.
    ignore(root.wait)
    assert root.state.name == "CANCELLED"


@scenario
def cancel_twice_from_two_sides(lab):
    event = lab.event()
    shared = lab.request(event.wait).submit()
    answers = []
    lab.all(lambda: answers.append(shared.cancel()), lambda: answers.append(shared.cancel()))
    assert answers == [True, True]
    ignore(shared.wait)
    assert shared.state.name == "CANCELLED"


# ------------------------------------------------------------------------------------------------------ locks


@scenario
def a_lock_excludes(lab):
    lock = lab.lock()
    inside = []

    def enter():
        with lock:
            inside.append(1)
            assert len(inside) == 1
            lab.package.checkpoint()
            assert len(inside) == 1
            inside.pop()

    lab.all(enter, enter, enter)


@scenario
def a_cancelled_waiter_hands_the_lock_on(lab):
    lock = lab.lock()
    done = []

    def enter():
        with lock:
            lab.package.checkpoint()
            done.append(1)

    victims = [lab.request(enter).submit() for _ in range(2)]
    lab.all(enter, *[victim.cancel for victim in victims], enter)
    for victim in victims:
        ignore(victim.wait)
    assert len(done) >= 2


@scenario
def a_lock_wait_that_times_out(lab):
    lock = lab.lock()
    got = []

    def try_it():
        if lock.acquire(timeout=1.0):
            got.append(1)
            lock.release()

    def hold():
        with lock:
            lab.event().wait(timeout=1.0)

    lab.all(hold, try_it, try_it, hold)


@scenario
def consumers_and_producers_on_one_condition(lab):
    condition = lab.package.RequestCondition(lab.lock())
    basket, eaten = [], []

    def consume():
        with condition:
            condition.wait_for(lambda: basket)
            eaten.append(basket.pop())

    def produce(item):
        with condition:
            basket.append(item)
            condition.notify()

    lab.all(consume, lambda: produce(1), consume, lambda: produce(2))
    assert sorted(eaten) == [1, 2]


@scenario
def a_cancelled_consumer_does_not_eat_the_notification(lab):
    condition = lab.package.RequestCondition(lab.lock())
    tokens, ate = [], []

    def consume(name):
        with condition:
            while not tokens:
                condition.wait()
            ate.append((name, tokens.pop()))

    def produce():
        with condition:
            tokens.append(1)
            condition.notify()

    victim = lab.request(lambda: consume("victim")).submit()
    survivor = lab.request(lambda: consume("survivor")).submit()
    lab.all(victim.cancel, produce)
    ignore(victim.wait)
    if ate and ate[0][0] == "victim":
        produce()
    survivor.wait()


@scenario
def notify_all_wakes_all(lab):
    condition = lab.package.RequestCondition(lab.lock())
    ready = []

    def wait():
        with condition:
            condition.wait_for(lambda: ready)

    def tell():
        with condition:
            ready.append(1)
            condition.notify_all()

    lab.all(wait, wait, tell, wait)


@scenario
def a_semaphore_counts(lab):
    semaphore = lab.package.RequestSemaphore(2)
    inside = []

    def enter():
        with semaphore:
            inside.append(1)
            try:
                assert len(inside) <= 2
                lab.package.checkpoint()
            finally:
                inside.pop()

    victim = lab.request(enter).submit()
    lab.all(enter, victim.cancel, enter, enter)
    ignore(victim.wait)
    assert semaphore.acquire(blocking=False)
    assert semaphore.acquire(blocking=False)
    assert not semaphore.acquire(blocking=False)


@scenario
def a_cancelled_waiter_hands_the_permit_on(lab):
    semaphore = lab.package.RequestSemaphore(1)

    def enter():
        with semaphore:
            lab.package.checkpoint()

    victims = [lab.request(enter).submit() for _ in range(2)]
    lab.all(enter, *[victim.cancel for victim in victims], enter)
    for victim in victims:
        ignore(victim.wait)
    assert semaphore.acquire(blocking=False)


@scenario
def an_event_is_set_while_they_come(lab):
    event = lab.event()
    lab.all(event.wait, event.set, event.wait, event.wait)


# ------------------------------------------------------------------------------------------- pools, deadlines


@scenario
def a_pool_joins_its_members(lab):
    running = []

    def member():
        running.append(1)
        lab.package.checkpoint()
        running.pop()

    with lab.package.RequestPool(max_in_flight=2) as pool:
        for _ in range(4):
            pool.submit(lab.request(member))
    assert not running
    assert len(pool) == 0


@scenario
def a_pool_with_a_failure_leaves_nobody_running(lab):
    event = lab.event()
    running = []

    def member():
        running.append(1)
        try:
            event.wait()
        finally:
            running.pop()

    def fail():
        raise ValueError("broken")

    pool = lab.package.RequestPool()
    try:
        with pool:
            for work in (member, member, fail, member):
                request = lab.request(work)
                try:
                    pool.submit(request)
                except RequestError:
                    lab.forget(request)  # the pool refused it
                    raise
    except RequestError as error:
        assert type(error.__cause__) is ValueError
    else:
        raise AssertionError("the failure was lost")
    assert not running


@scenario
def a_pool_is_cancelled_while_others_wait_for_it(lab):
    event = lab.event()
    pool = lab.package.RequestPool()
    for _ in range(3):
        pool.submit(lab.request(event.wait))
    outcomes = []

    def join():
        try:
            pool.join()
            outcomes.append("joined")
        except RequestCancelledError:
            outcomes.append("cancelled")

    lab.all(join, pool.cancel, join)
    assert outcomes == ["cancelled"] * 2


@scenario
def an_owner_is_cancelled_while_it_leaves_its_pool(lab):
    asked, ended_later, went_on = [], [], []

    def member():
        lab.package.checkpoint()
        ended_later.append(bool(asked))

    def own():
        with lab.package.RequestPool() as pool:
            for _ in range(2):
                pool.submit(lab.request(member))
        went_on.append(True)

    owner = lab.request(own).submit()

    def cancel():
        if owner.cancel():
            asked.append(True)

    lab.all(cancel)
    ignore(owner.wait)
    assert not (any(ended_later) and went_on), "the owner was cancelled before the pool was empty"


@scenario
def two_members_of_a_pool_fail_together(lab):
    def fail(error):
        raise error

    pool = lab.package.RequestPool()
    errors = [ValueError("one"), KeyError("other")]
    try:
        with pool:
            for error in errors:
                request = lab.request(lambda error=error: fail(error))
                try:
                    pool.submit(request)
                except RequestError:
                    lab.forget(request)  # the pool refused it
                    raise
    except RequestError as error:
        told = [error.__cause__, *getattr(error, "__notes__", ())]
    else:
        raise AssertionError("the failures were lost")
    assert len(told) == len(pool.failures)
    assert told[0] is pool.failures[0]._outcome.error
    assert len(pool) == 0


@scenario
def results_of_a_pool_come_as_they_are_ready(lab):
    with lab.package.RequestPool(max_in_flight=2) as pool:
        results = sorted(pool.map(lambda k: k * k, range(5)))
    assert results == [0, 1, 4, 9, 16]


@scenario
def gather_keeps_the_order_and_cancels_the_rest(lab):
    assert lab.package.gather(lambda: 1, lambda: 2, lambda: 3) == [1, 2, 3]
    event = lab.event()
    stuck = lab.request(event.wait)

    def fail():
        raise ValueError("broken")

    try:
        lab.package.gather(stuck, fail)
    except RequestError as error:
        assert type(error.__cause__) is ValueError
    assert stuck.state.name == "CANCELLED"


@scenario
def a_deadline_races_with_the_end(lab):
    event = lab.event()
    shared = lab.request(event.wait).submit()

    def wait():
        with contextlib.suppress(RequestTimeoutError):
            assert shared.wait(timeout=1.0) is True

    lab.all(wait, event.set, wait)
    assert shared.wait() is True


@scenario
def two_requests_wait_for_each_other(lab):
    a = lab.request(lambda: b.submit().wait())
    b = lab.request(lambda: a.submit().wait())
    causes = []

    def wait(request):
        try:
            request.submit().wait()
        except RequestError as error:
            causes.append(error.__cause__ or error)

    lab.all(lambda: wait(a), lambda: wait(b))
    assert [type(cause) for cause in causes] == [CircularWaitError] * 2


@scenario
def two_locks_in_both_orders(lab):
    one, other = lab.lock(), lab.lock()

    def both(first, second):
        try:
            with first, second:
                lab.package.checkpoint()
        except CircularWaitError:
            pass

    lab.all(lambda: both(one, other), lambda: both(other, one))


@scenario
def closing_ends_everything(lab):
    event = lab.event()
    waiting = [lab.request(event.wait).submit() for _ in range(2)]
    heard = []

    def wait():
        try:
            waiting[0].wait()
        except RequestError:
            heard.append(1)
        except CancelledError:
            heard.append(2)
            raise

    lab.request(wait).submit()
    # Left to the explorer, which closes the scheduler when this has returned.


@scenario
def priorities_are_raised_while_it_starts(lab):
    shared = lab.request(lambda: 1)
    lab.all(shared.submit, lambda: shared.raise_priority(lab.package.Priority.INTERACTIVE), shared.wait)
    assert shared.result == 1


@scenario
def a_request_of_a_future_ends_with_it(lab):
    from concurrent.futures import Future

    future = Future()
    request = lab.package.Request.from_future(future)
    results = []
    lab.all(
        lambda: results.append(request.wait()),
        lambda: future.set_result(5),
        lambda: results.append(request.wait()),
    )
    assert results == [5, 5]


@scenario
def a_future_of_a_request_is_cancelled(lab):
    event = lab.event()
    request = lab.request(event.wait)
    future = request.future()
    lab.all(future.cancel, lambda: None)
    ignore(request.wait)
    assert future.done()
    assert request.state.name == "CANCELLED"


@scenario
def a_pool_refuses_members_after_its_block(lab):
    with lab.package.RequestPool() as pool:
        pool.submit(lab.request(lambda: 1))
    try:
        pool.submit(lab.request(lambda: 1))
    except RequestStateError:
        lab.requests.popitem()
    else:
        raise AssertionError("the pool took work after its end")
