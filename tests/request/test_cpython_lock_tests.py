"""CPython's own tests of its locks, with ours in their place and requests in place of threads.

``test.lock_tests`` ships with the interpreter (not with every packaging of it). Each of its tests runs twice:
from a foreign thread, and inside a request. What its helpers would start as threads are requests.
"""

import threading

import pytest

from lazyflow_core.request import (
    Request,
    RequestCondition,
    RequestEvent,
    RequestLock,
    RequestSemaphore,
    ThreadedScheduler,
)

lock_tests = pytest.importorskip("test.lock_tests")

#: Tests of what we do not promise, and why.
NOT_APPLICABLE = {
    "LockTests.test_reacquire": "a request that takes its own lock again is told so by CircularWaitError",
    "LockTests.test_at_fork_reinit": "a private method of the interpreter's locks",
    "EventTests.test_at_fork_reinit": "a private method of the interpreter's locks",
    "EventTests.test_reset_internal_locks": "a private method of the interpreter's locks",
    "ConditionTests.test_acquire": "the default lock of a RequestCondition is not re-entrant",
    "EventTests.test_repr": "asks for the class name Event",
    "SemaphoreTests.test_repr": "asks for the class name Semaphore",
    "BoundedSemaphoreTests.test_repr": "asks for the class name BoundedSemaphore",
}


class RequestBunch(lock_tests.Bunch):
    """Runs the function as requests instead of threads."""

    scheduler = None

    def __enter__(self):
        self.requests = [Request(self.task, scheduler=self.scheduler).submit() for _ in range(self.nthread)]
        while len(self.started) < self.nthread:
            threading.Event().wait(0.001)
        return self

    def __exit__(self, kind, error, where):
        for request in self.requests:
            request.wait(timeout=30)
        exceptions, self.exceptions = self.exceptions, None
        if exceptions:
            raise ExceptionGroup("requests raised", exceptions)


@pytest.fixture(scope="module", autouse=True)
def requests_instead_of_threads():
    patch = pytest.MonkeyPatch()
    # Many workers: these tests sleep and spin in their threads, which holds a worker.
    with ThreadedScheduler(16, name="default lock tests") as scheduler:
        Request(lambda: None, scheduler=scheduler).submit().wait()
        patch.setattr(RequestBunch, "scheduler", scheduler)
        patch.setattr(lock_tests, "Bunch", RequestBunch)
        patch.setattr(
            lock_tests,
            "start_new_thread",
            lambda function, arguments: Request(lambda: function(*arguments), scheduler=scheduler).submit(),
        )
        yield
        patch.undo()


def cases():
    for base, attributes in [
        (lock_tests.LockTests, {"locktype": RequestLock}),
        (lock_tests.EventTests, {"eventtype": RequestEvent}),
        (lock_tests.ConditionTests, {"condtype": RequestCondition, "locktype": RequestLock}),
        (lock_tests.SemaphoreTests, {"semtype": RequestSemaphore}),
        (
            lock_tests.BoundedSemaphoreTests,
            {"semtype": lambda value=1: RequestSemaphore(value, is_bounded=True)},
        ),
    ]:
        case = type(base.__name__, (base,), {name: staticmethod(made) for name, made in attributes.items()})
        for name in dir(case):
            if name.startswith("test"):
                yield pytest.param(case, name, id=f"{base.__name__}.{name}")


@pytest.mark.parametrize("where", ["in a foreign thread", "inside a request"])
@pytest.mark.parametrize(("case", "name"), list(cases()))
def test_cpython(case, name, where):
    reason = NOT_APPLICABLE.get(f"{case.__name__}.{name}")
    if reason is not None:
        pytest.skip(reason)
    test = case(name)
    if where == "inside a request":
        result = Request(test.run, scheduler=RequestBunch.scheduler).submit().wait(timeout=60)
    else:
        result = test.run()
    for _, text in result.failures + result.errors:
        pytest.fail(text, pytrace=False)
    for _, reason in result.skipped:
        pytest.skip(reason)
