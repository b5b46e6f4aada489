"""Exceptions that refuse everything: no waiter hangs, nothing is lost, nothing is kept."""

import contextlib
import dataclasses
import gc
import logging
import re
import sys
import threading
import traceback
import weakref
from pathlib import Path

import pytest

from lazyflow_core import foreign
from lazyflow_core.errors import RequestError
from lazyflow_core.request import (
    InlineScheduler,
    Request,
    RequestEvent,
    RequestPool,
    ThreadedScheduler,
    gather,
)
from lazyflow_core.signals import Signal


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int = 5


@dataclasses.dataclass
class Unhashable(Exception):
    code: int = 5


class NoRoom(Exception):
    __slots__ = ("code",)

    def __setattr__(self, name, value):
        raise AttributeError(name)


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class Leaving(Exception):
    def __str__(self):
        raise SystemExit(3)

    __repr__ = __str__


class NoText(Exception):
    def __str__(self):
        return 7


class Loud(str):
    def __format__(self, how):
        raise ValueError("not to be formatted")


class LoudText(Exception):
    def __str__(self):
        return Loud("loud")


class NoCause(Exception):
    __cause__ = property(lambda self: 1 / 0, lambda self, value: 1 / 0)
    __context__ = property(lambda self: 1 / 0, lambda self, value: 1 / 0)
    __traceback__ = property(lambda self: 1 / 0, lambda self, value: 1 / 0)


class NoAttributes(Exception):
    def __getattribute__(self, name):
        raise RuntimeError(f"not {name}")


class Other(Exception):
    def __eq__(self, other):
        raise RuntimeError("not to be compared")

    __hash__ = None
    __class__ = property(lambda self: 1 / 0)


class Nameless(type):
    @property
    def __name__(cls):
        raise RuntimeError("no name")


class OfNobody(Exception, metaclass=Nameless):
    pass


class NotCalled(TypeError):
    def add_note(self, note):
        raise RuntimeError("no notes")


class Group(ExceptionGroup):
    exceptions = property(lambda self: 1 / 0)


HOSTILE = [
    Frozen,
    Unhashable,
    NoRoom,
    Mute,
    Leaving,
    NoText,
    LoudText,
    NoCause,
    NoAttributes,
    Other,
    OfNobody,
]
HOSTILE += [NotCalled, lambda: Group("two", [Frozen(), Mute()])]


def name_of(make):
    return "Group" if not isinstance(make, type) else type.__dict__["__name__"].__get__(make)


hostile = pytest.mark.parametrize("make", HOSTILE, ids=name_of)


def raiser(error):
    def work():
        raise error

    return work


def in_a_pool(work):
    with RequestPool() as pool:
        pool.submit(work)


WAYS = {
    "waited for": lambda work: Request(work).wait(),
    "submitted": lambda work: Request(work).submit().wait(),
    "in a pool": in_a_pool,
    "gathered": lambda work: gather(work, lambda: 1),
    "as a future": lambda work: Request(work).future().result(),
    "in a request that raises it on": lambda work: Request(lambda: Request(work).wait()).submit().wait(),
}


@pytest.mark.parametrize("way", WAYS)
@hostile
def test_whatever_is_raised_reaches_its_waiter(scheduler, make, way):
    error = make()
    with pytest.raises(RequestError) as caught:
        Request(lambda: WAYS[way](raiser(error)), scheduler=scheduler).submit().wait()
    assert foreign.cause_of(caught.value) is error
    assert name_of(type(error)) in str(caught.value) or type(error) is Group
    assert Request(lambda: 1, scheduler=scheduler).submit().wait() == 1


@hostile
def test_two_waiters_get_errors_of_their_own_with_the_same_cause(threaded, make):
    request = Request(raiser(make()), scheduler=threaded).submit()
    caught = []
    for _ in range(2):
        with pytest.raises(RequestError) as error:
            request.wait()
        caught.append(error.value)
    first, second = caught
    assert first is not second
    assert foreign.cause_of(first) is foreign.cause_of(second)


@hostile
def test_all_members_of_a_pool_that_failed_are_told_in_its_error(threaded, make):
    both = threading.Barrier(2)

    def work():
        both.wait(10)
        raise make()

    with pytest.raises(RequestError) as caught, RequestPool(scheduler=threaded) as pool:
        pool.submit(work)
        pool.submit(work)
    assert len(caught.value.__notes__) == 1


@hostile
def test_a_failure_that_nobody_asked_for_is_logged(threaded, make, caplog):
    request = Request(raiser(make()), name="lonely", scheduler=threaded)
    ended = threading.Event()
    request.on_cancelled(ended.set).on_done(lambda r: ended.set())
    request.submit()
    assert ended.wait(10)
    threaded.close()
    del request
    gc.collect()
    assert [record for record in caplog.records if "'lonely' failed and nobody" in record.getMessage()]


@hostile
def test_callbacks_and_subscribers_after_one_that_raises_are_called(scheduler, make, caplog):
    heard = []
    request = Request(lambda: 7, scheduler=scheduler)
    request.on_done(lambda r: raiser(make())()).on_done(heard.append)
    in_a_pool(request)
    signal = Signal("moved")
    signal.subscribe(lambda: raiser(make())())
    signal.subscribe(lambda: heard.append("moved"))
    signal.emit()
    assert heard == [request, "moved"]
    assert len(caplog.records) == 2


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, BaseException, KeyboardInterrupt])
def test_a_callback_in_a_worker_ends_nothing_by_any_exception(threaded, kind, caplog):
    heard = []
    request = Request(lambda: 7, scheduler=threaded)
    request.on_done(lambda r: raiser(kind())()).on_done(heard.append)

    def owner():
        with RequestPool() as pool:
            pool.submit(request)
        return "joined"

    assert Request(owner, scheduler=threaded).submit().wait() == "joined"
    assert heard == [request]
    assert len(caplog.records) == 1


def test_a_ctrl_c_in_a_callback_lets_those_after_it_be_called():
    heard = []
    request = Request(lambda: 7)
    request.on_done(lambda r: raiser(KeyboardInterrupt())()).on_done(heard.append)
    with pytest.raises(KeyboardInterrupt):
        request.wait()
    assert heard == [request]
    assert request.wait() == 7


def test_an_observer_and_a_name_that_leave_the_process_do_not(caplog):
    class Observer:
        def request_started(self, request):
            sys.exit(3)

    def name():
        sys.exit(3)

    with ThreadedScheduler(1, observers=(Observer(),)) as scheduler:
        request = Request(raiser(ValueError()), name=name, scheduler=scheduler)
        with pytest.raises(RequestError, match=r"its name raised SystemExit: 3"):
            request.submit().wait()
    assert len(caplog.records) == 1


def test_a_workload_that_answers_no_question_about_itself_is_still_told_of(threaded):
    class Work:
        def __call__(self):
            raise ValueError("broken")

        def __getattr__(self, name):
            raise RuntimeError(name)

    with pytest.raises(RequestError, match="broken"):
        Request(Work(), scheduler=threaded).submit().wait()


# ------------------------------------------------------------------------------------------------ the helpers


@hostile
def test_what_the_helpers_do_no_exception_refuses(make):
    error, cause = make(), ValueError("cause")
    foreign.set_cause(error, cause)
    assert foreign.cause_of(error) is cause
    foreign.note(error, "one")
    foreign.note(error, "two")
    assert BaseException.__dict__["__dict__"].__get__(error)["__notes__"] == ["one", "two"]
    with contextlib.suppress(BaseException):
        raise error
    assert foreign.traceback_of(error) is not None
    foreign.set_traceback(error, None)
    assert foreign.traceback_of(error) is None
    assert foreign.sentence(error).startswith(foreign.class_name(error))
    assert type(foreign.text_of(error)) is type(foreign.shown(error)) is str


@hostile
def test_logging_any_exception_gives_one_record_with_its_place(make, caplog):
    with foreign.logged(logging.getLogger("test"), "it %s", "failed"):
        raise make()
    (record,) = caplog.records
    assert "it failed" in record.getMessage()
    assert "raise make()" in logging.Formatter().format(record)


@hostile
def test_any_exception_passes_through_a_context_manager_as_it_is(make):
    ended = []

    @foreign.contextmanager
    def scope():
        try:
            yield 7
        finally:
            ended.append(1)

    error = make()
    with pytest.raises(BaseException) as caught, scope() as seven:
        raise error
    assert caught.value is error
    assert (seven, ended) == (7, [1])


def test_a_context_manager_may_end_or_replace_what_passes_through():
    @foreign.contextmanager
    def scope(replacement):
        try:
            yield
        except ValueError as error:
            if replacement is not None:
                raise replacement from error

    with scope(None):
        raise ValueError("over")
    with pytest.raises(KeyError) as caught, scope(KeyError("other")):
        raise ValueError("broken")
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(StopIteration), scope(None):
        raise StopIteration


def test_nothing_of_ours_uses_what_assigns_to_exceptions_of_others():
    root = Path(__file__).parents[2]
    sources = [*root.glob("lazyflow_core/**/*.py"), *root.glob("plugins/*/lazyflow_*/**/*.py")]
    wrong = [
        f"{path.relative_to(root)}: {words}"
        for path in sources
        if path.name != "foreign.py"
        for words in ("contextlib.contextmanager", ".with_traceback(", "_logger.exception(")
        if words in path.read_text()
    ]
    wrong += [
        path.name for path in sources if re.search("from contextlib import .*contextm", path.read_text())
    ]
    assert len(sources) > 100
    assert wrong == []


def test_a_handler_that_raises_costs_nobody_anything(caplog):
    class Handler(logging.Handler):
        def emit(self, record):
            sys.exit(3)

    logger = logging.getLogger("test.broken")
    handler = Handler()
    logger.addHandler(handler)
    try:
        foreign.log_error(logger, "it failed", error=ValueError())
    finally:
        logger.removeHandler(handler)


def test_a_ctrl_c_while_an_exception_is_told_is_heard():
    class Interrupted(Exception):
        def __str__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        foreign.sentence(Interrupted())


# ---------------------------------------------------------------------------------------------- what is kept


class Big:
    """Stands for an array."""


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def chained(make):
    big = make()
    try:
        broken(big)
    except ValueError as error:
        raise KeyError("other") from error


def broken(big):
    raise ValueError("broken")


def in_a_generator(make):
    def blocks(big):
        yield 1
        raise ValueError("broken")

    for _ in blocks(make()):
        pass


def with_a_child(make):
    big = make()  # noqa: F841
    Request(lambda: broken(make())).wait()


def with_a_submitted_child(make):
    big = make()  # noqa: F841
    Request(lambda: broken(make())).submit().wait()


def with_a_pool(make):
    big = make()  # noqa: F841
    gather(lambda: broken(make()), lambda: broken(make()))


def with_a_future(make):
    big = make()  # noqa: F841
    Request(lambda: broken(make())).future().result()


def timed_out(make):
    big = make()  # noqa: F841
    RequestEvent().wait(timeout=0)
    child = Request(RequestEvent().wait).submit()
    try:
        child.wait(timeout=0)
    finally:
        child.cancel()


def leaving(make):
    big = make()  # noqa: F841
    sys.exit(3)


def frozen(make):
    big = make()  # noqa: F841
    raise Frozen


FAILING = [chained, in_a_generator, with_a_child, with_a_submitted_child, with_a_pool, with_a_future, leaving]
FAILING += [frozen, timed_out]


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("work", FAILING)
@pytest.mark.parametrize("how", ["submitted", "in the main thread", "inside a request"])
def test_of_a_failed_request_nothing_but_its_error_is_left(work, how):
    made = []

    def make():
        big = Big()
        made.append(weakref.ref(big))
        return big

    kept = []
    with ThreadedScheduler(1) as scheduler:

        def fail():
            request = Request(lambda: work(make), scheduler=scheduler)
            kept.append(request)
            with contextlib.suppress(RequestError):
                request.submit().wait() if how == "submitted" else request.wait()

        if how == "inside a request":
            Request(fail, scheduler=scheduler).submit().wait()
        else:
            fail()
    assert made
    assert [ref for ref in made if ref() is not None] == []
    gone = [weakref.ref(request) for request in kept]
    kept.clear()
    assert [ref() for ref in gone] == [None]


@pytest.mark.usefixtures("no_collector")
def test_of_a_cancelled_request_nothing_is_left(threaded):
    made = []
    begun = threading.Event()

    def work():
        big = Big()
        made.append(weakref.ref(big))
        begun.set()
        RequestEvent().wait()

    request = Request(work, scheduler=threaded).submit()
    assert begun.wait(10)
    request.cancel()
    with pytest.raises(RequestError):
        request.wait()
    threaded.close()
    assert [ref() for ref in made] == [None]


@pytest.mark.usefixtures("no_collector")
def test_what_an_inline_scheduler_keeps_for_a_debugger_goes_with_the_request():
    made = []

    def work():
        big = Big()
        made.append(weakref.ref(big))
        raise ValueError(len(made))

    def fail():
        request = Request(lambda: Request(work).wait(), scheduler=InlineScheduler()).submit()
        with pytest.raises(RequestError):
            request.wait()
        return request

    request = fail()
    assert made[0]() is not None
    del request
    assert made[0]() is None


# -------------------------------------------------------------------------------------------- what is shown


def failing_code(path):
    source = "def work(x):\n    y = [\n        1,\n        x / 0,\n    ]\n    return y\n"
    path.write_text(source)
    names = {"__name__": path.stem}
    exec(compile(source, str(path), "exec"), names)
    return names["work"]


def test_equal_code_in_two_files_is_shown_in_its_own_file(tmp_path, threaded):
    for name in ("first", "second"):
        work = failing_code(tmp_path / f"{name}.py")
        with pytest.raises(RequestError) as caught:
            Request(lambda work=work: work(3), scheduler=threaded).submit().wait()
        shown = traceback.extract_tb(caught.value.__cause__.__traceback__)
        assert shown[-1].filename == str(tmp_path / f"{name}.py")


def test_a_kept_frame_tells_the_line_of_its_traceback(tmp_path, threaded):
    work = failing_code(tmp_path / "work.py")
    with pytest.raises(RequestError) as caught:
        Request(lambda: work(3), scheduler=threaded).submit().wait()
    entry = caught.value.__cause__.__traceback__
    lines = []
    while entry is not None:
        assert entry.tb_frame.f_lineno == entry.tb_lineno
        lines.append(entry.tb_lineno)
        entry = entry.tb_next
    assert lines[-1] == 4


def test_the_traceback_of_an_exception_that_is_raised_again_and_again_does_not_grow(threaded):
    error = ValueError("the same one")

    def depth():
        with pytest.raises(RequestError):
            Request(raiser(error), scheduler=threaded).submit().wait()
        return len(traceback.extract_tb(error.__traceback__))

    assert len({depth() for _ in range(5)}) == 1
