"""Where and when requests run: order, priority, fairness, context, closing, watching."""

import concurrent.futures
import contextvars
import decimal
import json
import logging
import re
import threading
import time
import weakref
from pathlib import Path

import pytest

from lazyflow_core.errors import (
    CircularWaitError,
    RequestCancelledError,
    RequestError,
    RequestStateError,
    RequestTimeoutError,
    SchedulerClosedError,
)
from lazyflow_core.request import (
    InlineScheduler,
    Priority,
    Request,
    RequestCondition,
    RequestEvent,
    RequestLock,
    RequestSemaphore,
    RequestState,
    SeededScheduler,
    ThreadedScheduler,
    TraceRecorder,
    current_request,
    debug_checks,
    default_scheduler,
    describe_blocked,
    gather,
)
from lazyflow_core.request._cpus import usable_cpu_count
from lazyflow_core.request._party import current_stack
from lazyflow_core.testing.schedulers import Gate, Sequencer, explore, wait_all_blocked


class Held:
    """A scheduler with one worker that is busy until told, so that a queue can be built up."""

    def __init__(self):
        self.scheduler = ThreadedScheduler(1)
        self.gate = threading.Event()
        entered = threading.Event()
        Request(lambda: entered.set() or self.gate.wait(10), scheduler=self.scheduler).submit()
        entered.wait(10)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.gate.set()
        self.scheduler.close()


# ----------------------------------------------------------------------------------------- order and priority


def order_of(submissions):
    """Submit (name, priority) to a busy worker; return the order in which they ran."""
    seen = []
    with Held() as held:
        requests = [
            Request(lambda name=name: seen.append(name), scheduler=held.scheduler, priority=priority).submit()
            for name, priority in submissions
        ]
        held.gate.set()
        for request in requests:
            request.wait()
    return seen


def test_older_roots_go_first():
    assert order_of([("a", None), ("b", None), ("c", None)]) == ["a", "b", "c"]


def test_three_classes_go_in_their_order():
    submissions = [("later", Priority.BACKGROUND), ("now", Priority.NORMAL), ("first", Priority.INTERACTIVE)]
    assert order_of(submissions) == ["first", "now", "later"]


def test_work_that_was_begun_goes_before_younger_roots():
    seen = []

    def root(name):
        children = [Request(lambda k=k: seen.append(f"{name}{k}")).submit() for k in range(2)]
        RequestEvent().wait(timeout=0)
        for child in reversed(children):
            child.wait()

    with Held() as held:
        roots = [Request(lambda name=name: root(name), scheduler=held.scheduler).submit() for name in "ab"]
        held.gate.set()
        for each in roots:
            each.wait()
    assert [name[0] for name in seen] == ["a", "a", "b", "b"]


def test_children_inherit_the_priority():
    def parent():
        child = Request(lambda: current_request().priority)
        return child.submit().wait()

    with ThreadedScheduler(1) as scheduler:
        request = Request(parent, scheduler=scheduler, priority=Priority.INTERACTIVE)
        assert request.submit().wait() is Priority.INTERACTIVE


def test_raising_the_priority_of_a_queued_request_and_not_running_it_twice():
    seen = []
    with Held() as held:
        first = Request(lambda: seen.append("first"), scheduler=held.scheduler).submit()
        second = Request(lambda: seen.append("second"), scheduler=held.scheduler).submit()
        second.raise_priority()
        held.gate.set()
        first.wait()
        second.wait()
    assert seen == ["second", "first"]


def test_raising_the_priority_reaches_what_it_waits_for():
    with SeededScheduler() as seeded:
        leaf = Request(RequestEvent().wait, scheduler=seeded)
        middle = Request(lambda: leaf.submit().wait(), scheduler=seeded)
        root = Request(lambda: middle.submit().wait(), scheduler=seeded).submit()
        seeded.run_until_blocked()
        root.raise_priority()
        assert {each.priority for each in (root, middle, leaf)} == {Priority.INTERACTIVE}
        root.raise_priority(Priority.BACKGROUND)
        assert root.priority is Priority.INTERACTIVE


def test_background_work_is_not_starved_by_urgent_work_that_keeps_coming():
    with ThreadedScheduler(1) as scheduler:
        stop = threading.Event()
        ran = [0]

        def urgent():
            ran[0] += 1
            if not stop.is_set():
                Request(urgent, scheduler=scheduler, priority=Priority.INTERACTIVE).submit()

        for _ in range(3):
            Request(urgent, scheduler=scheduler, priority=Priority.INTERACTIVE).submit()
        low = Request(lambda: ran[0], scheduler=scheduler, priority=Priority.BACKGROUND)
        low.on_done(lambda r: stop.set())
        low.submit().wait(timeout=10)


def test_idle_workers_steal_what_a_busy_one_has_queued():
    with ThreadedScheduler(2) as scheduler:
        threads = set()

        def parent():
            barrier = threading.Barrier(2, timeout=10)

            def child():
                threads.add(threading.get_ident())
                barrier.wait()

            child_request = Request(child).submit()
            child()
            child_request.wait()

        Request(parent, scheduler=scheduler).submit().wait()
        assert len(threads) == 2


def test_the_number_of_workers():
    assert ThreadedScheduler(3).worker_count == 3
    assert 1 <= ThreadedScheduler().worker_count <= 8
    with pytest.raises(ValueError, match="InlineScheduler"):
        ThreadedScheduler(0)


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu.max": "nonsense"}, None),
    ],
)
def test_the_limit_of_a_container_counts(tmp_path, monkeypatch, files, cpus):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cpu_count(tmp_path) == (64 if cpus is None else cpus)


# ---------------------------------------------------------------------------------------------------- context

variable = contextvars.ContextVar("variable", default="unset")


@pytest.mark.parametrize("submit", [False, True])
def test_context_variables_of_the_submitter_are_seen_and_do_not_leak(scheduler, submit):
    def child():
        before = variable.get()
        variable.set("child")
        return before

    def parent():
        before = variable.get()
        variable.set("parent")
        request = Request(child)
        seen = (request.submit() if submit else request).wait()
        return before, seen, variable.get()

    token = variable.set("main")
    try:
        request = Request(parent, scheduler=scheduler)
        assert (request.submit() if submit else request).wait() == ("main", "parent", "parent")
        assert variable.get() == "main"
    finally:
        variable.reset(token)


def test_context_variables_stay_with_a_request_across_suspensions(scheduler):
    def work(k):
        variable.set(k)
        gather(lambda: None, lambda: None)
        return variable.get() == k

    assert all(gather(*[Request(lambda k=k: work(k), scheduler=scheduler) for k in range(20)]))


@pytest.mark.parametrize("submit", [False, True])
def test_context_variables_reach_requests_that_are_nested_too_deep_for_one_stack(threaded, submit):
    def level(n):
        if n == 0:
            return variable.get()
        request = Request(lambda: level(n - 1))
        return (request.submit() if submit else request).wait()

    token = variable.set("main")
    try:
        assert Request(lambda: level(100), scheduler=threaded).submit().wait() == "main"
    finally:
        variable.reset(token)


@pytest.mark.parametrize("seed", range(10))
def test_what_was_submitted_without_context_variables_does_not_see_those_of_its_waiter(seed):
    with SeededScheduler(seed) as seeded:
        submitted = Request(variable.get, scheduler=seeded)
        contextvars.Context().run(submitted.submit)

        def waiter():
            variable.set("waiter")
            return submitted.wait()

        assert Request(waiter, scheduler=seeded).submit().wait() == "unset"


def test_variables_set_by_a_request_are_gone_in_the_next_on_the_same_worker():
    with ThreadedScheduler(1) as scheduler:
        first = Request(lambda: variable.set("first") and None, scheduler=scheduler).submit()
        second = Request(lambda: variable.get("unset"), scheduler=scheduler).submit()
        first.wait()
        assert second.wait() == "unset"


def test_the_decimal_context_goes_with_the_request(scheduler):
    with decimal.localcontext() as context:
        context.prec = 5
        request = Request(lambda: decimal.Decimal(1) / 3, scheduler=scheduler).submit()
        assert str(request.wait()) == "0.33333"


# ------------------------------------------------------------------------------------------- circles of waits


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_circle_of_requests_is_named(length):
    with SeededScheduler() as seeded:
        circle = []
        for k in range(length):
            circle.append(
                Request(
                    lambda k=k: circle[(k + 1) % length].submit().wait(), name=f"link {k}", scheduler=seeded
                )
            )
        with pytest.raises(RequestError) as caught:
            circle[0].submit().wait()
        cause = caught.value.__cause__
        assert type(cause) is CircularWaitError
        assert all(f"link {k}" in str(cause) for k in range(length))
        for link in circle:
            with pytest.raises(RequestError) as caught:
                link.wait()
            assert caught.value.__cause__ is cause


def test_a_circle_through_a_lock_is_named():
    with SeededScheduler() as seeded:
        lock = RequestLock("cache")

        def parent():
            with lock:
                Request(lambda: lock.acquire(), name="child").submit().wait()

        with pytest.raises(RequestError, match="waits for itself"):
            Request(parent, name="parent", scheduler=seeded).submit().wait()
        assert not lock.locked()


def test_taking_a_lock_twice_is_a_circle(scheduler):
    lock = RequestLock("mine")

    def work():
        with lock:
            lock.acquire()

    with pytest.raises(RequestError) as caught:
        Request(work, scheduler=scheduler).submit().wait()
    assert type(caught.value.__cause__) is CircularWaitError
    assert not lock.locked()


def test_a_foreign_thread_in_a_circle(threaded):
    lock = RequestLock("held by a thread")
    with lock, pytest.raises(RequestError) as caught:
        request = Request(lock.acquire, scheduler=threaded).submit()
        request.wait()
    assert isinstance(caught.value, CircularWaitError) or type(caught.value.__cause__) is CircularWaitError
    request.cancel()


def test_a_wait_with_a_timeout_is_no_circle():
    with SeededScheduler() as seeded:
        a = Request(lambda: b.submit().wait(timeout=5), name="a", scheduler=seeded)
        b = Request(lambda: a.submit().wait(), name="b", scheduler=seeded)
        with pytest.raises(RequestError) as caught:
            a.submit().wait()
        assert type(caught.value.__cause__) is RequestTimeoutError


def test_a_member_that_waits_for_the_owner_of_its_pool_is_a_circle():
    with SeededScheduler() as seeded:
        owner = Request(lambda: gather(lambda: owner.wait(), lambda: 1), name="owner", scheduler=seeded)
        with pytest.raises(RequestError) as caught:
            owner.submit().wait()
        assert type(caught.value.__cause__) is CircularWaitError


def test_the_report_names_everybody_who_is_blocked(threaded):
    event = RequestEvent("the disk")
    inner = Request(event.wait, name="read", scheduler=threaded).submit()
    outer = Request(inner.wait, name="filter", scheduler=threaded).submit()
    wait_all_blocked(2)
    report = describe_blocked()
    assert "request 'read' (SUSPENDED) waits for RequestEvent 'the disk'" in report
    assert "request 'filter' (SUSPENDED) waits for request 'read' (SUSPENDED)" in report
    event.set()
    outer.wait()


# ---------------------------------------------------------------------------------------------------- closing


def test_queued_requests_of_a_closed_scheduler_end_and_say_why():
    with Held() as held:
        queued = [Request(lambda: 1, scheduler=held.scheduler).submit() for _ in range(50)]
        closer = threading.Thread(target=held.scheduler.close)
        closer.start()
        for request in queued:
            with pytest.raises(SchedulerClosedError, match="closed"):
                request.wait(timeout=10)
        assert {request.state for request in queued} == {RequestState.CANCELLED}
        with pytest.raises(SchedulerClosedError, match="cannot be submitted"):
            Request(lambda: 1, scheduler=held.scheduler).submit()
        held.gate.set()
        closer.join(10)


def test_suspended_requests_are_cancelled_by_closing(scheduler):
    if isinstance(scheduler, InlineScheduler):
        pytest.skip("nothing is ever pending on an inline scheduler")
    never = RequestEvent()
    request = Request(lambda: Request(never.wait).wait(), scheduler=scheduler).submit()
    if isinstance(scheduler, SeededScheduler):
        scheduler.run_until_blocked()
    else:
        wait_all_blocked(1)
    scheduler.close()
    assert request.state is RequestState.CANCELLED
    scheduler.close()


def test_closing_gives_up_on_a_workload_that_does_not_stop():
    scheduler = ThreadedScheduler(1)
    leave, entered = threading.Event(), threading.Event()
    request = Request(lambda: entered.set() or leave.wait(10), scheduler=scheduler).submit()
    entered.wait(10)
    heard = []

    def wait():
        try:
            request.wait()
        except SchedulerClosedError as error:
            heard.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    wait_all_blocked(1)
    begin = time.monotonic()
    scheduler.close(grace=0.1)
    thread.join(10)
    assert time.monotonic() - begin < 2
    assert "did not stop" in heard[0]
    assert request.state is RequestState.FAILED
    leave.set()
    scheduler._crew.workers[0].thread.join(10)
    assert request.state is RequestState.FAILED


def test_a_workload_may_close_its_own_scheduler():
    scheduler = ThreadedScheduler(2)
    request = Request(lambda: scheduler.close(grace=1), scheduler=scheduler).submit()
    with pytest.raises(RequestError):
        request.wait(timeout=10)
    assert not scheduler.is_open


def test_the_default_scheduler_is_replaced_after_it_was_closed():
    first = default_scheduler()
    first.close()
    assert Request(lambda: 3).submit().wait() == 3
    assert default_scheduler() is not first


# --------------------------------------------------------------------------------------------------- watching


class Log:
    def __init__(self):
        self.lines = []

    def request_started(self, request):
        self.lines.append(("started", request.describe()))

    def request_ended(self, request):
        self.lines.append(("ended", request.describe()))

    def request_suspended(self, request):
        raise ValueError("an observer that fails")


def test_observers_see_what_happens_and_cannot_harm(caplog):
    log = Log()
    event = RequestEvent()
    with ThreadedScheduler(1, observers=(log,)) as scheduler:
        request = Request(event.wait, name="r", scheduler=scheduler).submit()
        wait_all_blocked(1)
        event.set()
        request.wait()
    assert log.lines == [("started", "request 'r' (RUNNING)"), ("ended", "request 'r' (FINISHED)")]
    assert "an observer of" in caplog.text


def test_a_trace_for_perfetto_nests_properly(tmp_path):
    recorder = TraceRecorder()
    with ThreadedScheduler(2, observers=(recorder,)) as scheduler:

        def node(depth):
            if depth:
                gather(
                    *[Request(lambda: node(depth - 1), name=lambda: f"depth {depth - 1}") for _ in range(3)]
                )
                Request(lambda: node(depth - 1), name="inline").wait()

        Request(lambda: node(3), name="root", scheduler=scheduler).submit().wait()
    path = tmp_path / "trace.json"
    recorder.save(path)
    events = json.loads(path.read_text())["traceEvents"]
    assert {event["name"] for event in events} >= {"root", "depth 2", "inline", "thread_name"}
    open_pieces = {}
    for event in events:
        stack = open_pieces.setdefault(event["tid"], [])
        if event["ph"] == "B":
            stack.append(event["name"])
        elif event["ph"] == "E":
            assert stack.pop() == event["name"]
    assert not any(open_pieces.values())


def test_observers_hear_of_the_end_of_a_workload_that_was_given_up():
    heard, gate, running = [], threading.Event(), threading.Event()

    class Log:
        def request_started(self, request):
            heard.append("started")

        def request_ended(self, request):
            heard.append("ended")

    def work():
        running.set()
        gate.wait(10)

    scheduler = ThreadedScheduler(1, observers=(Log(),))
    request = Request(work, scheduler=scheduler).submit()
    assert running.wait(10)
    scheduler.close(grace=0)
    assert heard == ["started"]
    gate.set()
    scheduler._crew.workers[0].thread.join(10)
    assert heard == ["started", "ended"]
    with pytest.raises(SchedulerClosedError, match="did not stop"):
        request.wait()


def test_a_stalled_worker_is_reported_with_its_stack(caplog):
    def spin_without_a_checkpoint():
        while "spin_without_a_checkpoint" not in caplog.text:
            time.sleep(0.001)

    with ThreadedScheduler(1, stall_warning=0.02) as scheduler:
        Request(spin_without_a_checkpoint, scheduler=scheduler).submit().wait(timeout=20)
    assert "without a wait" in caplog.text


def wait_for_semaphore(semaphore):
    semaphore.acquire()  # line of the semaphore


def wait_for_condition(condition):
    with condition:
        condition.wait()  # line of the condition


def wait_for_event(event):
    event.wait()  # line of the event


def line_of(what):
    for number, line in enumerate(Path(__file__).read_text().splitlines(), 1):
        if line.endswith(f"# line of the {what}"):
            return f"{__file__}:{number} in wait_for_{what}"
    raise AssertionError(what)


def test_waits_that_nobody_owns_are_reported_with_their_place(threaded):
    semaphore = RequestSemaphore(0, name="slots")
    condition = RequestCondition(name="changed")
    event = RequestEvent("loaded")
    for wait, thing in (
        (wait_for_semaphore, semaphore),
        (wait_for_condition, condition),
        (wait_for_event, event),
    ):
        Request(lambda wait=wait, thing=thing: wait(thing), name=wait.__name__, scheduler=threaded).submit()
    thread = threading.Thread(target=wait_for_event, args=(event,), name="outsider")
    thread.start()
    wait_all_blocked(4)
    report = describe_blocked().splitlines()
    semaphore.release()
    with condition:
        condition.notify()
    event.set()
    thread.join(10)

    def told(who):
        (line,) = [line for line in report if who in line]
        return line

    assert told("'wait_for_semaphore'").endswith(
        f"waits for RequestSemaphore 'slots' with 0 permits, at {line_of('semaphore')}"
    )
    assert told("'wait_for_condition'").endswith(
        f"waits for RequestCondition 'changed' with 1 waiting, at {line_of('condition')}"
    )
    assert told("'wait_for_event'").endswith(
        f"waits for RequestEvent 'loaded' (not set), at {line_of('event')}"
    )
    assert told("'outsider'").endswith(line_of("event"))


def circle_of_semaphores():
    left, right = RequestSemaphore(0, name="left"), RequestSemaphore(0, name="right")
    works = [
        lambda: (wait_for_semaphore(right), left.release()),
        lambda: (wait_for_semaphore(left), right.release()),
    ]
    told = ["RequestSemaphore 'right' with 0 permits", "RequestSemaphore 'left' with 0 permits"]
    return works, told, left.release


def circle_of_events():
    left, right = RequestEvent("left"), RequestEvent("right")
    works = [lambda: (wait_for_event(right), left.set()), lambda: (wait_for_event(left), right.set())]
    return works, ["RequestEvent 'right' (not set)", "RequestEvent 'left' (not set)"], left.set


def condition_that_nobody_notifies():
    changed = RequestCondition(name="changed")

    def notify():
        with changed:
            changed.notify_all()

    works = [lambda: wait_for_condition(changed)] * 2
    return works, ["RequestCondition 'changed' with 2 waiting"] * 2, notify


@pytest.mark.parametrize(
    ("circle", "kind"),
    [
        (circle_of_semaphores, "semaphore"),
        (circle_of_events, "event"),
        (condition_that_nobody_notifies, "condition"),
    ],
)
def test_a_circle_that_nobody_owns_is_reported_by_the_watchdog_with_who_waits_for_what_and_where(
    circle, kind
):
    works, told, end = circle()
    reports, reported = [], threading.Event()

    class Listener(logging.Handler):
        def emit(self, record):
            report = record.getMessage()
            if "'lefty'" in report and "'righty'" in report:  # not while the second is still to come
                reports.append(report)
                reported.set()

    listener = Listener()
    logging.getLogger("lazyflow_core").addHandler(listener)
    try:
        with ThreadedScheduler(2, stall_warning=0.02, name="crew") as scheduler:
            both = [
                Request(work, name=name, scheduler=scheduler).submit()
                for work, name in zip(works, ("lefty", "righty"), strict=True)
            ]
            assert reported.wait(20)
            end()
            for each in both:
                each.wait()
    finally:
        logging.getLogger("lazyflow_core").removeHandler(listener)
    lines = reports[0].splitlines()
    assert re.fullmatch(r"crew has not moved for .* s; who waits for what:", lines[0])
    for name, thing in zip(("lefty", "righty"), told, strict=True):
        assert f"request {name!r} (SUSPENDED) waits for {thing}, at {line_of(kind)}" in lines


def test_a_scheduler_tells_what_is_going_on():
    with ThreadedScheduler(1) as scheduler:
        event, gate, running = RequestEvent(), threading.Event(), threading.Event()
        suspended = Request(event.wait, scheduler=scheduler).submit()
        wait_all_blocked(1)

        def hold():
            running.set()
            gate.wait(10)

        pending = [Request(hold, scheduler=scheduler).submit() for _ in range(4)]
        assert running.wait(10)
        numbers = scheduler.statistics()
        gate.set()
        event.set()
        for each in (suspended, *pending):
            each.wait()
        assert numbers == (1, 1, 3, 1, 2)
        assert numbers._fields == ("workers", "busy", "queued", "suspended", "begun")
        assert scheduler.statistics().begun == 5


# -------------------------------------------------------------------------------------------------- debugging


def test_an_inline_scheduler_shows_the_submitter_in_the_stack():
    import traceback

    def work():
        return "".join(traceback.format_stack())

    stack = Request(work, scheduler=InlineScheduler()).submit().wait()
    assert "test_an_inline_scheduler_shows_the_submitter_in_the_stack" in stack


def test_two_orders_of_locks_are_found_without_a_deadlock(scheduler):
    one, other = RequestLock("one"), RequestLock("other")

    def both(first, second):
        with first, second:
            pass

    with debug_checks():
        Request(lambda: both(one, other), scheduler=scheduler).submit().wait()
        with pytest.raises(RequestError, match="other way round") as caught:
            Request(lambda: both(other, one), scheduler=scheduler).submit().wait()
    assert type(caught.value.__cause__) is CircularWaitError
    assert not one.locked()
    assert not other.locked()


def test_an_os_lock_held_at_a_wait_is_found():
    with SeededScheduler() as seeded, debug_checks():
        lock = threading.Lock()

        def work():
            with lock:
                RequestEvent().wait(timeout=1)

        with pytest.raises(RequestError, match="while it holds a threading lock") as caught:
            seeded.run(work)
        assert type(caught.value.__cause__) is RequestStateError
        assert not lock.locked()


def test_a_wait_that_the_checks_refuse_leaves_the_worker_as_it_was():
    def hold_a_lock():
        with lock:
            RequestEvent().wait(0.01)

    with ThreadedScheduler(1) as scheduler, debug_checks():
        lock = threading.Lock()
        for _ in range(3):
            with pytest.raises(RequestError, match="holds a threading lock"):
                Request(hold_a_lock, scheduler=scheduler).submit().wait()
        (worker,) = scheduler._crew.workers
        # Parked fibers come back to where they parked, each once.
        assert (
            Request(lambda: [RequestEvent().wait(0.001) for _ in range(3)], scheduler=scheduler)
            .submit()
            .wait()
        )
        assert not worker.ready
        assert len(set(worker.idle)) == len(worker.idle)


def test_the_traceback_of_a_failure_begins_with_the_workload(threaded):
    def work():
        raise ValueError

    with pytest.raises(RequestError) as caught:
        Request(work, scheduler=threaded).submit().wait()
    assert caught.value.__cause__.__traceback__.tb_frame.f_code.co_name == "work"


def test_a_failure_under_an_inline_scheduler_keeps_its_variables():
    def work():
        secret = 42
        raise ValueError(secret)

    with pytest.raises(RequestError) as caught:
        Request(work, scheduler=InlineScheduler()).submit().wait()
    frame = caught.value.__cause__.__traceback__
    while frame.tb_next is not None:
        frame = frame.tb_next
    assert frame.tb_frame.f_locals == {"secret": 42}


@pytest.mark.parametrize("possible", [0, 1])
def test_threads_that_cannot_be_started_are_not_counted_on(monkeypatch, possible):
    start, left = threading.Thread.start, [None] * possible

    def refuse(thread):
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()
        start(thread)

    with ThreadedScheduler(2) as scheduler:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        request = Request(lambda: 1, scheduler=scheduler)
        if possible:
            assert request.submit().wait() == 1
        else:
            with pytest.raises(RuntimeError, match="new thread"):
                request.submit()
            assert request.state is RequestState.CANCELLED
        monkeypatch.undo()
        assert Request(lambda: 2, scheduler=scheduler).submit().wait(10) == 2


# ----------------------------------------------------------------------------------------------------- seeded


def test_timeouts_of_a_seeded_scheduler_cost_no_time():
    begin = time.monotonic()
    with SeededScheduler() as seeded:
        assert seeded.run(lambda: RequestEvent().wait(timeout=3600)) is False
        assert seeded.now >= 3600
    assert time.monotonic() - begin < 5


def test_a_seeded_scheduler_tells_a_deadlock_instead_of_hanging():
    with SeededScheduler() as seeded:
        request = Request(RequestEvent("never").wait, name="stuck", scheduler=seeded).submit()
        with pytest.raises(CircularWaitError, match=r"'stuck'.*'never'"):
            request.wait()


@pytest.mark.parametrize("ends_by", ["run", "close", "error"])
def test_a_seeded_scheduler_holds_nothing_of_the_thread_that_drove_it(ends_by):
    class Local:
        pass

    seeded = SeededScheduler()
    watched, gone = [], []

    def drive():
        local = Local()
        # The second is the greenlet of the thread itself, what every fiber returns to. Told by a callback: to
        # look through the reference makes greenlet believe that somebody holds it for good.
        watched.extend(weakref.ref(each, gone.append) for each in (local, current_stack()))
        assert seeded.run(lambda: gather(lambda: 1, lambda: 2)) == [1, 2]
        if ends_by == "run":
            return
        Request(RequestEvent().wait, scheduler=seeded).submit()
        seeded.run_until_blocked()
        if ends_by == "error":
            with pytest.raises(CircularWaitError):
                seeded.run(RequestEvent().wait)
        seeded.close()

    thread = threading.Thread(target=drive)
    thread.start()
    thread.join(10)
    end = time.monotonic() + 10  # the greenlet goes a moment after its thread
    while len(gone) < len(watched) and time.monotonic() < end:
        time.sleep(0.001)
    assert len(gone) == len(watched) == 2


def test_a_seeded_scheduler_that_ran_runs_again():
    with SeededScheduler() as seeded:
        event = RequestEvent()
        waiting = Request(event.wait, scheduler=seeded).submit()
        seeded.run_until_blocked()
        assert seeded.run(lambda: 1) == 1
        event.set()
        assert waiting.wait()


@pytest.mark.parametrize("what", ["future", "lock", "request", "event"])
def test_a_seeded_scheduler_waits_for_what_others_do(what):
    lock, event, future = RequestLock(), RequestEvent(), concurrent.futures.Future()
    taken = threading.Event()

    def other():
        lock.acquire()
        taken.set()
        wait_all_blocked(3 if what == "request" else 2)  # then nothing can run here
        event.set()
        future.set_result(None)
        lock.release()

    thread = threading.Thread(target=other)
    with SeededScheduler() as seeded, ThreadedScheduler(1) as threaded:
        work = {
            "future": Request.from_future(future).wait,
            "lock": lambda: lock.__enter__() and lock.release(),
            "request": Request(event.wait, scheduler=threaded).submit().wait,
            "event": lambda: event.wait(),
        }[what]
        thread.start()
        taken.wait(10)
        if what != "event":
            seeded.run(work)
        else:  # nobody but the thread itself may wait for what it does not know the owner of
            Request(RequestEvent().wait, scheduler=seeded).submit()
            seeded.run_until_blocked()
            assert event.wait()
        thread.join(10)


@pytest.mark.parametrize("what", ["lock", "event", "semaphore", "condition", "request"])
def test_who_drives_a_seeded_scheduler_drives_it_in_every_wait(what):
    lock, event, semaphore = RequestLock(), RequestEvent(), RequestSemaphore(0)
    condition = RequestCondition()
    held, go_on = RequestEvent(), RequestEvent()

    def work():
        with lock:
            held.set()
            go_on.wait()
        event.set()
        semaphore.release()
        with condition:
            condition.notify_all()

    with SeededScheduler() as seeded, ThreadedScheduler(1) as threaded:
        working = Request(work, scheduler=seeded).submit()
        seeded.run_until_blocked()
        assert held.is_set()
        go_on.set()
        if what == "condition":
            with condition:
                assert condition.wait()
        elif what == "request":
            assert Request(event.wait, scheduler=threaded).submit().wait()
        else:
            assert {"lock": lock.acquire, "event": event.wait, "semaphore": semaphore.acquire}[what]()
        working.wait()


def test_a_lock_that_a_stuck_request_of_a_seeded_scheduler_holds_is_no_hang():
    lock, never = RequestLock("mine"), RequestEvent("never")
    with SeededScheduler() as seeded:
        Request(lambda: lock.acquire() and never.wait(), name="stuck", scheduler=seeded).submit()
        seeded.run_until_blocked()
        with pytest.raises(CircularWaitError, match=r"'stuck'.*'never'"):
            lock.acquire()


def test_an_unknown_strategy_is_refused():
    with pytest.raises(ValueError, match="'random' and 'pct'"):
        SeededScheduler(strategy="luck")


# ------------------------------------------------------------------------------------------- tools for tests


def test_a_gate_stops_what_passes_through(threaded):
    gate = Gate()
    request = Request(lambda: gate.pass_through() or 7, scheduler=threaded).submit()
    gate.wait_reached()
    assert not request.state.is_terminal
    gate.open()
    assert request.wait() == 7
    with pytest.raises(AssertionError, match="nobody reached"):
        Gate().wait_reached(timeout=0.01)


def test_a_sequencer_forces_an_order(threaded):
    sequence, order = Sequencer(), []

    def step(number):
        with sequence(number):
            order.append(number)

    gather(*[Request(lambda k=k: step(k), scheduler=threaded) for k in (3, 1, 0, 2)])
    assert order == [0, 1, 2, 3]


def test_the_explorer_finds_a_lost_update_and_names_the_seed():
    from lazyflow_core.request import checkpoint

    def lost_update(scheduler):
        counter = [0]

        def add():
            before = counter[0]
            checkpoint()
            counter[0] = before + 1

        scheduler.run(lambda: gather(add, add))
        assert counter == [2]

    with pytest.raises(AssertionError, match=r"seed \d+ fails"):
        explore(lost_update)


# ----------------------------------------------------------------------------------------------- cancel races


def test_a_request_of_another_scheduler_runs_there():
    with ThreadedScheduler(1, name="one") as one, ThreadedScheduler(1, name="two") as two:
        name = Request(lambda: Request(threading.current_thread, scheduler=two).wait().name, scheduler=one)
        assert name.submit().wait() == "two-0"


def test_cancel_latency_is_that_of_the_next_checkpoint(threaded):
    from lazyflow_core.request import checkpoint

    def spin(entered):
        entered.set()
        while True:
            checkpoint()

    latencies = []
    for _ in range(20):
        entered = threading.Event()
        request = Request(lambda entered=entered: spin(entered), scheduler=threaded).submit()
        entered.wait(10)
        begin = time.monotonic()
        request.cancel()
        with pytest.raises(RequestCancelledError):
            request.wait(timeout=10)
        latencies.append(time.monotonic() - begin)
    assert sorted(latencies)[-2] < 0.1
