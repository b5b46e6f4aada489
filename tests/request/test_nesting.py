"""Recursion without an end is an error with a sentence, and 10 000 levels are none."""

import pytest

from lazyflow_core.errors import NestingError, RequestError
from lazyflow_core.request import (
    Request,
    RequestEvent,
    RequestPool,
    SeededScheduler,
    ThreadedScheduler,
    _waitgraph,
    gather,
)


def inline(work):
    return Request(work).wait()


def submitted(work):
    return Request(work).submit().wait()


def in_a_pool(work):
    with RequestPool() as pool:
        pool.submit(work)
        pool.submit(lambda: None)


def as_a_future(work):
    return Request(work).future().result()


@pytest.fixture
def low_limit(monkeypatch):
    monkeypatch.setattr(_waitgraph, "MAX_NESTING", 300)


@pytest.mark.usefixtures("low_limit")
@pytest.mark.parametrize("make", [lambda: ThreadedScheduler(2), SeededScheduler], ids=["threaded", "seeded"])
@pytest.mark.parametrize("wait", [inline, submitted, in_a_pool, as_a_future])
def test_a_recursion_without_an_end_fails_at_the_limit(make, wait):
    begun = []

    def endless():
        begun.append(1)
        return wait(endless)

    with make() as scheduler:
        with pytest.raises(RequestError) as caught:
            Request(endless, scheduler=scheduler).submit().wait()
        assert isinstance(caught.value.__cause__, NestingError)
        assert "more than 300 requests" in str(caught.value)
        # Nothing goes on for nobody: what was left of the recursion has ended with it.
        count = len(begun)
        assert Request(lambda: 7, scheduler=scheduler).submit().wait() == 7
    assert 100 < count <= len(begun) < 2000


@pytest.mark.usefixtures("low_limit")
@pytest.mark.parametrize("make", [lambda: ThreadedScheduler(2), SeededScheduler], ids=["threaded", "seeded"])
def test_levels_below_the_limit_are_no_error(make):
    def down(level):
        return level if not level else 1 + inline(lambda: down(level - 1))

    with make() as scheduler:
        for _ in range(3):
            assert Request(lambda: down(250), scheduler=scheduler).submit().wait() == 250


def test_many_that_wait_beside_each_other_are_not_nested(monkeypatch):
    monkeypatch.setattr(_waitgraph, "MAX_NESTING", 40)
    with ThreadedScheduler(2) as scheduler:

        def child():
            return Request(lambda: Request(lambda: 1).submit().wait()).submit().wait()

        assert sum(Request(lambda: gather(*[child] * 500), scheduler=scheduler).submit().wait()) == 500


def test_work_that_submits_itself_anew_goes_on_for_ever(monkeypatch):
    monkeypatch.setattr(_waitgraph, "MAX_NESTING", 200)
    rounds = []
    over = RequestEvent()

    def again():
        # The next one begins while this one waits, and this one ends before the next one does.
        mine = RequestEvent()
        rounds.append(mine)
        if len(rounds) == 1000:
            over.set()
            rounds[-2].set()
            return
        Request(again).submit()
        previous = rounds.index(mine) - 1
        if previous >= 0:
            rounds[previous].set()
        mine.wait()

    with SeededScheduler() as scheduler:
        Request(again, scheduler=scheduler).submit()
        assert Request(over.wait, scheduler=scheduler).submit().wait()
