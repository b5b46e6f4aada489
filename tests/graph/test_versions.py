"""A change makes a version; an execution sees one, from its first line to its last.

Each of these tests finds one fault that random threads would hardly find: what is read between two statements
of a change is read by a probe put there, and whoever is to be slow waits for an event.
"""

import copy
import gc
import itertools
import pickle
import threading
import weakref
from contextvars import Context, copy_context
from functools import partial

import numpy as np
import pytest

from lazyflow_core.errors import (
    CircularWaitError,
    ExecuteError,
    GraphError,
    NotReadyError,
    RequestCancelledError,
    RoiBoundsError,
    SetupError,
)
from lazyflow_core.graph import (
    Graph,
    InputSlot,
    Operator,
    OutputSlot,
    ParameterSlot,
    StaleBoxes,
    push,
    setup,
    values,
    versions,
)
from lazyflow_core.request import (
    Request,
    RequestEvent,
    RequestPool,
    RequestState,
    SeededScheduler,
    ThreadedScheduler,
)
from lazyflow_core.roi import Roi
from lazyflow_core.utility import plan_blocks, process_blocks, stream_blocks

from .operators import OpAdd, OpSum

IMAGE = np.arange(12.0).reshape(3, 4)


class OpHeld(OpAdd):
    """Waits at its first line; then adds its amount to its image."""

    def __init__(self, **slots):
        self.entered, self.go_on = RequestEvent(), RequestEvent()
        super().__init__(**slots)

    def execute(self, slot, roi, out):
        self.entered.set()
        self.go_on.wait()
        super().execute(slot, roi, out)

    def hold(self):
        """Begin an execution and return its request; it goes on when `go_on` is set."""
        self.entered, self.go_on = RequestEvent(), RequestEvent()
        request = self.output[:].submit()
        self.entered.wait()
        return request


class OpPlanned(OpAdd):
    """Adds what its plan says, and counts how often each of them was dropped."""

    def __init__(self, **slots):
        self.made = []
        super().__init__(**slots)

    def setup_outputs(self):
        super().setup_outputs()
        self.made.append(plan := {"amount": self.amount.value, "dropped": 0})
        return plan

    def drop(self, plan):
        plan["dropped"] += 1

    def execute(self, slot, roi, out):
        assert not self.plan["dropped"]
        np.add(self.image.read(roi), self.plan["amount"], out=out)


class OpTotal(Operator):
    """The sum of its image as a value."""

    image = InputSlot()
    total = OutputSlot(value=float)

    def __init__(self, **slots):
        self.computed_from = []
        super().__init__(**slots)

    def compute_value(self, slot):
        total = float(self.image.read().sum())
        self.computed_from.append(total)
        return total

    def propagate_dirty(self, slot, roi):
        self.total.mark_dirty()


class OpAddTotal(OpHeld):
    """Waits, then adds a computed value."""

    total = ParameterSlot(float)

    def setup_outputs(self):
        self.output.meta = self.image.meta

    def execute(self, slot, roi, out):
        self.entered.set()
        self.go_on.wait()
        np.add(self.image.read(roi), self.total.value, out=out)


class OpListed(OpHeld):
    """The sum of a list, as long as it is when it begins."""

    others = InputSlot(level=1)

    def execute(self, slot, roi, out):
        self.entered.set()
        self.go_on.wait()
        out[...] = self.image.read(roi) + sum(other.read(roi) for other in self.others)
        out += 1000 * len(self.others) + 100 * self.others[-1].index


@pytest.fixture
def graph():
    with ThreadedScheduler(2) as scheduler, Graph(scheduler) as made:
        yield made


def elsewhere(function):
    """Call a function in a thread that knows nothing of this one, and return what it returns."""
    found = []
    thread = threading.Thread(target=lambda: found.append(Context().run(function)))
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "it waits for something"
    return found[0]


# --------------------------------------------------------------------------- an execution sees one version


def changes(graph):
    """Give a held request, what it must give, a change, and what is to be asked and given afterwards."""
    source = OpPlanned(graph=graph, name="source", image=IMAGE)
    held = OpHeld(graph=graph, name="held", image=source.output)
    other = OpAdd(graph=graph, name="other", image=IMAGE, amount=50)
    listed = OpListed(graph=graph, name="listed", image=IMAGE, others=[source.output, other.output])
    total = OpTotal(graph=graph, image=source.output)
    adds = OpAddTotal(graph=graph, name="adds", image=IMAGE, total=total.total)
    before = IMAGE + 2
    both = 3 * IMAGE + 51 + 2000 + 100
    yield "own parameter", held, before, lambda: setattr(held.amount, "value", 7), IMAGE + 8
    yield "plan upstream", held, before, lambda: setattr(source.amount, "value", 7), IMAGE + 8
    yield "array upstream", held, before, lambda: source.image.assign(IMAGE + 100), IMAGE + 102
    yield "another shape", held, before, lambda: source.image.assign(np.zeros((5, 5))), np.full((5, 5), 2.0)
    yield "connection", held, before, lambda: held.image.connect(other.output), IMAGE + 51
    yield "upstream closes", held, before, source.close, None
    yield "it closes itself", held, before, held.close, None
    yield "list grows", listed, both, lambda: listed.others.append(other.output), 4 * IMAGE + 101 + 3200
    yield "list shrinks", listed, both, lambda: listed.others.remove(0), 2 * IMAGE + 50 + 1000
    yield "value", adds, IMAGE + 78, lambda: setattr(source.amount, "value", 0), IMAGE + 66


NAMES = [name for name, *_ in changes(Graph())]


@pytest.mark.parametrize("name", NAMES)
def test_whoever_began_before_a_change_gets_the_pixels_of_then_and_the_change_waits_for_nobody(graph, name):
    _, held, before, change, after = next(each for each in changes(graph) if each[0] == name)
    request = held.hold()
    change()
    assert not request.state.is_terminal
    if after is None:
        with pytest.raises(NotReadyError):
            held.output.read()
    held.go_on.set()
    if after is not None:
        assert np.array_equal(held.output.read(), after)
    assert np.array_equal(request.wait(), before)
    assert graph._versions.describe() == ""


def test_a_request_begins_with_its_first_line_not_with_submit():
    with ThreadedScheduler(1) as scheduler, Graph(scheduler) as graph:
        held, op = OpHeld(graph=graph, image=IMAGE), OpAdd(graph=graph, image=IMAGE)

        def block():  # the only worker, which is not suspended by it
            entered.set()
            go_on.acquire()

        entered, go_on = RequestEvent(), threading.Semaphore(0)
        busy = Request(block, scheduler=scheduler).submit()
        entered.wait()
        queued = op.output[:].submit()
        op.amount.value = 7
        go_on.release()
        busy.wait()
        assert np.array_equal(queued.wait(), IMAGE + 7)
        assert held.output.ready


def test_requests_pools_and_copied_contexts_see_the_version_of_their_execution_and_plain_threads_do_not(
    graph,
):
    seen = {}

    class OpAsksAround(OpHeld):
        def execute(self, slot, roi, out):
            self.entered.set()
            self.go_on.wait()
            ask = lambda: float(self.amount.value)  # noqa: E731
            seen["request"] = Request(ask, scheduler=graph.scheduler).submit().wait()
            with RequestPool() as pool:
                pool.submit(ask)
                seen["pool"] = next(iter(pool))
            context, found = copy_context(), []
            thread = threading.Thread(target=lambda: found.append(context.run(ask)))
            thread.start()
            Request.from_future(done(thread)).wait()
            seen["copied context"] = found[0]
            out[...] = 0

    op = OpAsksAround(graph=graph, image=IMAGE, amount=1)
    request = op.hold()
    op.amount.value = 7
    op.go_on.set()
    request.wait()
    assert seen == {"request": 1, "pool": 1, "copied context": 1}


def done(thread):
    from concurrent.futures import Future

    future = Future()
    threading.Thread(target=lambda: (thread.join(), future.set_result(None))).start()
    return future


def test_what_an_execution_leaves_behind_sees_its_version_or_a_whole_one(graph):
    class OpAsksLater(OpAdd):
        def execute(self, slot, roi, out):
            self.later = Request(lambda: (go_on.wait(), self.image.read())[1], scheduler=graph.scheduler)
            self.later.submit()
            super().execute(slot, roi, out)

    go_on = RequestEvent()
    op = OpAsksLater(graph=graph, image=IMAGE)
    op.output.read()
    op.image.assign(IMAGE + 100)
    go_on.set()
    assert np.array_equal(op.later.wait(), IMAGE + 100)


def test_an_execution_in_another_graph_comes_back_to_the_version_it_came_from(graph):
    class OpOther(OpAdd):
        def execute(self, slot, roi, out):
            inner.amount.value  # noqa: B018
            change.wait()
            np.add(inner.output.read(roi), 0, out=out)

    change = RequestEvent()
    inner = OpAdd(graph=graph, image=IMAGE)
    with Graph(graph.scheduler) as between:
        other = OpOther(graph=between, image=IMAGE)

        class OpOuter(OpHeld):
            def execute(self, slot, roi, out):
                self.entered.set()
                out[...] = self.image.read(roi) + other.output.read(roi)

        outer = OpOuter(graph=graph, image=inner.output)
        request = outer.hold()
        inner.amount.value = 100
        change.set()
        assert np.array_equal(request.wait(), 2 * (IMAGE + 1))


# ----------------------------------------------------------------------- a version becomes visible at once


def test_during_a_setup_everybody_else_sees_the_graph_as_it_was(graph):
    source = OpPlanned(graph=graph, name="source", image=IMAGE)
    listed = OpListed(graph=graph, name="listed", image=source.output, others=[source.output])

    def look():
        return (
            graph.version,
            [operator.name for operator in graph.operators],
            source.amount.value,
            source.amount.is_default,
            source.output.meta.shape,
            source.plan["amount"],
            source.closed,
            len(listed.others),
            listed.image.upstream,
            source.output.downstream,
            listed.output.ready,
            str(source.output.read()),
        )

    before = look()
    looks = []

    class OpLast(OpSum):
        def setup_outputs(self):
            looks.append(elsewhere(look))
            if self.a.meta.shape == (5, 5):
                looks.append(("seen by the setup itself", source.plan["amount"], len(listed.others)))
            super().setup_outputs()

        def propagate_dirty(self, slot, roi):
            looks.append(elsewhere(look))

    with graph.transaction():
        source.amount.value = 7
        source.image.assign(np.zeros((5, 5)))
        looks.append(elsewhere(look))
        listed.others.append(source.output)
        OpAdd(graph=graph, name="new", image=source.output)
        looks.append(elsewhere(look))
        OpLast(graph=graph, a=source.output, b=source.output)
        listed.image.disconnect()
        looks.append(elsewhere(look))
    own = [each for each in looks if each[0] == "seen by the setup itself"]
    assert own == [("seen by the setup itself", 7, 2)]
    others = [each for each in looks if each not in own]
    assert len(others) >= 4
    assert all(each == before for each in others)
    after = look()
    assert after[0] > before[0]
    assert after[1] == ["source", "listed", "new", "OpLast"]
    assert after[2:8] == (7, False, (5, 5), 7, False, 2)


def test_a_version_is_not_current_before_every_cache_downstream_has_been_told(graph):
    versions_seen = []

    class OpTold(OpAdd):
        def propagate_dirty(self, slot, roi):
            versions_seen.append((elsewhere(lambda: graph.version), graph.version))
            super().propagate_dirty(slot, roi)

    first = OpAdd(graph=graph, image=IMAGE)
    OpTold(graph=graph, image=first.output)
    for change in (lambda: setattr(first.amount, "value", 7), first.image.mark_dirty):
        before = graph.version
        change()
        assert versions_seen.pop() == (before, before + 1)
        assert graph.version == before + 1


def test_what_a_field_was_is_noted_before_it_is_written(graph):
    class Watching(dict):
        def __setitem__(self, key, value):
            target, field = key
            assert getattr(target, field) is value, f"{target}.{field} was written before it was noted"
            super().__setitem__(key, value)

        def setdefault(self, key, value):
            if key not in self:
                self[key] = value
            return super().setdefault(key, value)

    first = OpPlanned(graph=graph, image=IMAGE)
    total = OpTotal(graph=graph, image=first.output)
    listed = OpListed(graph=graph, image=first.output, others=[first.output])
    for change in (
        lambda: setattr(first.amount, "value", 7),
        lambda: first.image.assign(np.zeros((5, 5))),
        lambda: listed.others.append(first.output),
        total.total.mark_dirty,
        first.close,
    ):
        graph._versions.current.notes = noted = Watching()
        change()
        del noted


@pytest.mark.parametrize("pinned", [False, True], ids=["anybody", "an execution"])
@pytest.mark.parametrize("what", ["meta", "value", "plan", "elements"])
def test_what_was_read_of_a_change_that_then_failed_is_never_believed(graph, what, pinned, monkeypatch):
    reading, go_on, found = threading.Event(), threading.Event(), []

    class OpRefuses(OpAdd):
        refuses = False

        def setup_outputs(self):
            if self.refuses:
                reader.start()
                assert reading.wait(10)
                raise SetupError("changed my mind")
            super().setup_outputs()

    op = OpPlanned(graph=graph, image=IMAGE)
    listed = OpListed(graph=graph, image=IMAGE, others=[op.output])
    last = OpRefuses(graph=graph, image=op.output)
    read = {
        "meta": lambda: op.output.meta.shape,
        "value": lambda: op.amount.value,
        "plan": lambda: op.plan["amount"],
        "elements": lambda: len(listed.others),
    }[what]
    look_up = versions.Versions.look_up

    def slowly(self, *arguments):
        if threading.current_thread() is reader and not reading.is_set():
            reading.set()  # it has read what the change wrote, and is about to look for a note of it
            go_on.wait(10)
        return look_up(self, *arguments)

    before = read()
    monkeypatch.setattr(versions.Versions, "look_up", slowly)
    with graph.snapshot():
        context = copy_context() if pinned else Context()
        reader = threading.Thread(target=lambda: found.append(context.run(read)))
        OpRefuses.refuses = True
        with pytest.raises(SetupError), graph.transaction():
            op.amount.value = 7
            op.image.assign(np.zeros((5, 5)))
            listed.others.append(op.output)
        OpRefuses.refuses = False
        last.amount.value = 3  # and another change went well meanwhile
        go_on.set()
        reader.join()
    assert found == [before]


def test_the_number_of_a_version_that_failed_is_not_given_again(graph):
    op, numbers = OpAdd(graph=graph, image=IMAGE), []
    for fails in (False, True, False):
        try:
            with graph.transaction():
                numbers.append(graph.version)
                op.amount.value = len(numbers)
                assert not fails
        except AssertionError:
            assert graph.version == numbers[-2]
    assert numbers == sorted(set(numbers))
    assert graph.version == numbers[-1]


# ------------------------------------------------------------------------------------ several old versions


def test_each_of_several_old_versions_sees_what_was_there_whichever_ends_first(graph):
    for first_to_end in (0, 1, 2):
        op = OpAdd(graph=graph, image=IMAGE, amount=1)
        other = OpAdd(graph=graph, image=IMAGE, amount=1)
        snapshots = []
        for amount in (2, 3, 4):
            snapshots.append(graph.snapshot())
            op.amount.value = amount
            if amount == 3:
                other.amount.value = 30  # noted in the second only
        order = [snapshots[first_to_end], *[s for s in snapshots if s is not snapshots[first_to_end]]]
        while order:
            for snapshot in order:
                with snapshot.seen():
                    number = 1 + snapshots.index(snapshot)
                    assert op.amount.value == number
                    assert other.amount.value == (30 if number > 2 else 1)
                    assert np.array_equal(op.output.read(), IMAGE + number)
            order.pop(0).close()
        assert op.amount.value == 4
        assert graph._versions.describe() == ""


def test_thousands_of_notes_are_handed_on_while_somebody_looks_for_them(graph):
    ops = [OpAdd(graph=graph, image=IMAGE) for _ in range(300)]
    with graph.snapshot():
        context = copy_context()
        wrong, over = [], threading.Event()

        def look():
            while not over.is_set():
                wrong.extend(op for op in ops if context.run(lambda op=op: op.amount.value) != 1)

        reader = threading.Thread(target=look)
        reader.start()
        for amount in range(2, 12):
            between = graph.snapshot()
            with graph.transaction():
                for op in ops:
                    op.amount.value = amount
            between.close()
        over.set()
        reader.join()
    assert wrong == []


def test_old_versions_keep_what_they_need_and_nothing_longer(graph):
    class Marked(np.ndarray):
        pass

    array = np.array(IMAGE).view(Marked)
    held = OpHeld(graph=graph, image=array)
    planned = OpPlanned(graph=graph, image=IMAGE)
    gone = weakref.ref(array)
    del array
    request = held.hold()
    with graph.transaction():
        held.image.assign(IMAGE + 1)
        planned.amount.value = 7
    planned.close()
    gc.collect()
    assert gone() is not None
    assert [plan["dropped"] for plan in planned.made] == [0, 1]  # nobody who is left saw the second one
    assert planned.released == 0
    text = graph.describe().splitlines()[-1]
    assert text.startswith("(1 older version is still seen, by 1 execution; kept for that: ")
    assert "2 old plans or closed operators" in text
    held.go_on.set()
    assert np.array_equal(request.wait(), IMAGE + 1)
    gc.collect()
    assert gone() is None  # although the request is still held
    assert [plan["dropped"] for plan in planned.made] == [1, 1]
    assert planned.released == 1
    assert "older version" not in graph.describe()


def test_a_thousand_changes_beside_one_execution_keep_no_more_than_one(graph):
    held = OpHeld(graph=graph, image=IMAGE)
    op = OpPlanned(graph=graph, image=IMAGE)
    other = OpAdd(graph=graph, image=IMAGE)
    listed = OpListed(graph=graph, image=IMAGE, others=[other.output])
    request = held.hold()
    kept = set()
    for number in range(300):
        op.amount.value = number
        op.image.assign(np.zeros((3, 4 + number % 3)))
        OpAdd(graph=graph, image=op.output).close()
        listed.others.append(other.output)
        listed.others.remove(1)
        if number > 10:
            kept.add(graph._versions.describe())
    assert len(kept) == 1
    assert sum(plan["dropped"] for plan in op.made) == len(op.made) - 2
    held.go_on.set()
    assert np.array_equal(request.wait(), IMAGE + 1)


# ----------------------------------------------------------------------------------------- computed values


def test_a_computed_value_is_that_of_the_version_whoever_asks_first(graph):
    source = OpAdd(graph=graph, image=IMAGE)
    total = OpTotal(graph=graph, image=source.output)
    early = OpAddTotal(graph=graph, image=np.zeros((1, 1)), total=total.total)
    request = early.hold()
    source.amount.value = 2
    assert total.total.value == 66 + 24  # computed by somebody who began later, and kept
    early.go_on.set()
    assert request.wait()[0, 0] == 66 + 12
    assert total.total.value == 66 + 24
    assert total.computed_from == [90, 78]


def test_who_begins_after_a_change_does_not_join_the_value_that_is_being_computed(graph):
    class OpSlowTotal(OpTotal):
        entered, go_on = RequestEvent(), RequestEvent()

        def compute_value(self, slot):
            if not self.entered.is_set():
                self.entered.set()
                self.go_on.wait()
            return super().compute_value(slot)

    source = OpAdd(graph=graph, image=IMAGE)
    total = OpSlowTotal(graph=graph, image=source.output)
    before = total.total.request().submit()
    total.entered.wait()
    source.amount.value = 2
    assert total.total.value == 66 + 24
    total.go_on.set()
    assert before.wait() == 66 + 12
    assert total.total.value == 66 + 24


def test_a_value_that_an_unrelated_change_leaves_alone_is_computed_once(graph):
    source = OpAdd(graph=graph, image=IMAGE)
    total = OpTotal(graph=graph, image=source.output)
    early = OpAddTotal(graph=graph, image=np.zeros((1, 1)), total=total.total)
    request = early.hold()
    OpAdd(graph=graph, image=IMAGE).amount.value = 5
    assert total.total.value == 78
    early.go_on.set()
    assert request.wait()[0, 0] == 78
    assert len(total.computed_from) == 1


def test_a_shared_value_is_computed_in_a_version_of_somebody_who_waits_for_it(graph):
    source = OpAdd(graph=graph, image=IMAGE)
    total = OpTotal(graph=graph, image=source.output)
    early = OpAddTotal(graph=graph, image=np.zeros((1, 1)), total=total.total)
    request = early.hold()
    shared = total.total.request()  # made by somebody who is gone before it begins
    source.amount.value = 2
    assert elsewhere(shared.wait) == 66 + 12
    early.go_on.set()
    assert request.wait()[0, 0] == 66 + 12
    assert total.computed_from == [78]
    assert total.total.value == 66 + 24


# ------------------------------------------------------------------------------------------- stale regions


def test_mark_dirty_waits_for_a_setup_also_from_execute_and_receive():
    class OpStore(OpAdd):
        def receive(self, slot, roi, data):
            setter = threading.Thread(target=lambda: setattr(self.amount, "value", 7))
            setter.start()
            self.output.mark_dirty(roi)
            setter.join()

        def execute(self, slot, roi, out):
            self.output.mark_dirty(roi)
            out[...] = 0

    with Graph() as graph:
        op = OpStore(graph=graph, image=IMAGE)
        heard = []
        op.output.dirty.subscribe(lambda slot, roi: heard.append(roi))
        op.image[0] = 1
        assert op.amount.value == 7
        op.output[1].wait()
        assert Roi((0, 0), (1, 4)) in heard
        assert heard[-1] == Roi((1, 0), (2, 4))


def test_a_box_that_no_longer_fits_is_clipped_and_one_that_never_did_is_refused(graph):
    class OpMarks(OpHeld):
        def execute(self, slot, roi, out):
            self.entered.set()
            self.go_on.wait()
            with pytest.raises(RoiBoundsError):
                self.output.mark_dirty(Roi((0, 0), (9, 9)))
            self.output.mark_dirty(Roi((1, 1), (3, 4)))
            self.output.mark_dirty(Roi((2, 2), (3, 4)))
            out[...] = 0

    op = OpMarks(graph=graph, image=IMAGE)
    request = op.hold()
    op.image.assign(np.zeros((2, 2)))
    heard = []
    op.output.dirty.subscribe(lambda slot, roi: heard.append(roi))
    op.go_on.set()
    request.wait()
    assert heard == [Roi((1, 1), (2, 2))]


def test_a_request_knows_that_its_region_went_stale_since_it_began(graph):
    held = OpHeld(graph=graph, image=IMAGE)
    request, other = held.output[0], held.output[2]
    assert not request.is_outdated
    request.submit(), other.submit()
    held.entered.wait()
    while None in (request.version, other.version):
        pass
    held.image.mark_dirty(Roi((0, 0), (1, 1)))
    assert (request.is_outdated, other.is_outdated) == (True, False)
    held.go_on.set()
    request.wait(), other.wait()
    assert (request.is_outdated, other.is_outdated) == (True, False)
    fresh = held.output[0]
    fresh.wait()
    assert not fresh.is_outdated
    for number in range(100):  # remembered in few boxes
        held.image.mark_dirty(Roi((number % 2, 0), (1 + number % 2, 1)))
    assert fresh.is_outdated
    assert not other.is_outdated
    held.image.assign(np.zeros((1, 1)))
    assert other.is_outdated


def test_a_request_that_was_told_to_gives_up_when_its_region_goes_stale(graph):
    held = OpHeld(graph=graph, image=IMAGE)
    ask = lambda row, **how: held.output.request(Roi((row, 0), (row + 1, 4)), **how).submit()  # noqa: E731
    viewer, patient, unconcerned = ask(0, cancel_when_dirty=True), ask(0), ask(2, cancel_when_dirty=True)
    unsubmitted = held.output.request(Roi((0, 0), (1, 4)), cancel_when_dirty=True)
    for request in (viewer, patient, unconcerned):
        while request.version is None:
            pass
    held.image.mark_dirty(Roi((0, 0), (1, 1)))
    with pytest.raises(RequestCancelledError):
        viewer.wait()
    held.go_on.set()
    assert np.array_equal(patient.wait(), IMAGE[:1] + 1)
    assert np.array_equal(unconcerned.wait(), IMAGE[2:] + 1)
    assert np.array_equal(unsubmitted.wait(), IMAGE[:1] + 1)  # it sees what is new


def test_stale_boxes_say_since_and_until_when_a_result_holds(graph):
    op = OpAdd(graph=graph, image=IMAGE)
    asked = []

    class OpAsks(OpAdd):
        def propagate_dirty(self, slot, roi):
            asked.append(stale.add(roi))

    stale = StaleBoxes(graph)
    OpAsks(graph=graph, image=op.output)
    with graph.snapshot() as first:
        op.image.mark_dirty(Roi((0, 0), (1, 1)))
        op.image.mark_dirty(Roi((2, 0), (3, 4)))
        (one, two), corner, rest = asked, Roi((0, 0), (1, 1)), Roi((1, 0), (2, 4))
        assert (stale.since(corner), stale.until(corner)) == (0, one)
        assert (stale.since(rest), stale.until(rest)) == (0, None)
        assert (stale.since(corner, two), stale.until(corner, two)) == (one, None)
        assert first.number < one < two
        for _ in range(100):
            op.image.mark_dirty(corner)
        # Few are remembered one by one, and what is not known exactly is not claimed.
        number = asked[20]
        assert stale.since(corner, number) <= number
        assert stale.until(corner, number) == number + 1
        assert stale.since(corner, asked[-1]) == asked[-1]
    op.image.mark_dirty(corner)
    assert stale._entries == ()  # nobody is left who sees an older version
    with pytest.raises(GraphError, match="belongs into propagate_dirty"):
        stale.add(corner)


# ----------------------------------------------------------------------------------------------- snapshots


def test_inside_a_snapshot_nothing_changes_and_changes_are_seen_after_it(graph):
    op = OpAdd(graph=graph, image=IMAGE)
    request = op.output[0]
    with graph.snapshot() as snapshot:
        op.amount.value = 7
        op.image.assign(np.zeros((5, 5)))
        assert op.amount.value == 1
        assert op.output.meta.shape == (3, 4)
        assert np.array_equal(op.output.read(), IMAGE + 1)
        assert np.array_equal(op.output[0].submit().wait(), IMAGE[:1] + 1)
        assert np.array_equal(request.wait(), IMAGE[:1] + 1)
        new = OpAdd(graph=graph, image=op.output)
        assert not new.output.ready
        with pytest.raises(NotReadyError, match="was made after the version of the graph that is seen here"):
            new.output.read()
        with pytest.raises(GraphError, match="a snapshot is of a complete version"), graph.transaction():
            graph.snapshot()
    assert op.amount.value == 7
    assert np.array_equal(new.output.read(), np.full((5, 5), 8))
    with pytest.raises(GraphError, match="this snapshot is over"):
        snapshot.number  # noqa: B018


def test_streams_exports_and_arrays_of_a_snapshot_are_of_one_version(graph):
    op = OpAdd(graph=graph, image=np.zeros((64, 8)))
    numbers = itertools.count(2)

    def change():
        op.amount.value = next(numbers)

    values = []
    plan = plan_blocks(op.output.meta, block_shape=(8, 8), workers=2)
    process_blocks(op.output, lambda roi, array: (values.append(array.copy()), change()), plan)
    assert len(values) == 8
    assert np.unique(values).tolist() == [1]
    blocks = stream_blocks(op.output, block_shape=(8, 8))
    change()
    seen = []
    for _, array in blocks:
        seen += [array, op.amount.value]
        change()
    assert {float(each.max()) for each in seen[::2]} == {9}
    assert seen[1::2] == [float(n) for n in range(10, 18)]  # between two blocks there is no snapshot
    forgotten = stream_blocks(op.output, block_shape=(8, 8))
    next(forgotten)
    del forgotten
    with graph.snapshot():
        kept = [op.output.as_array()]
    before = op.amount.value
    change()
    assert elsewhere(lambda: float(kept[0][0, 0])) == before
    assert np.asarray(op.output.as_array()).max() == before + 1
    kept.clear()
    gc.collect()
    change()
    assert graph._versions.describe() == ""


# ----------------------------------------------------------------------------------------- ends and errors


def test_closing_an_operator_returns_at_once_and_releases_it_when_it_is_left(graph):
    held = OpHeld(graph=graph, image=IMAGE)
    after = OpAdd(graph=graph, image=held.output)
    request = held.hold()
    held.close()
    assert held.closed
    assert held not in graph.operators
    assert not after.output.ready
    assert held.released == 0
    with pytest.raises(NotReadyError, match="closed"):
        held.output.read()
    held.go_on.set()
    assert np.array_equal(request.wait(), IMAGE + 1)
    assert held.released == 1


def test_closing_a_graph_cancels_and_waits_also_for_those_that_nobody_can_cancel(graph):
    held = OpHeld(graph=graph, image=IMAGE)
    request = held.hold()
    found = []
    reader = threading.Thread(target=lambda: found.append(held.output.read()))
    held.entered = RequestEvent()
    reader.start()
    held.entered.wait()
    closing = threading.Thread(target=graph.close)
    closing.start()
    while not request.state.is_terminal:
        pass
    assert closing.is_alive()
    held.go_on.set()
    closing.join(10)
    reader.join()
    assert not closing.is_alive()
    assert request.state is RequestState.CANCELLED
    assert np.array_equal(found[0], IMAGE + 1)
    assert held.released == 1


def test_a_change_inside_execute_or_propagate_dirty_is_an_error_at_once(graph, caplog):
    class OpChanges(OpAdd):
        where = "execute"

        def execute(self, slot, roi, out):
            self.amount.value = 9

        def propagate_dirty(self, slot, roi):
            if self.where == "thread":
                context = copy_context()
                elsewhere(lambda: context.run(setattr, self.amount, "value", 9))
            self.amount.value = 9

    class OpChangesInASnapshot(OpAdd):
        def execute(self, slot, roi, out):
            with graph.snapshot():
                assert np.array_equal(self.image.read(), IMAGE)
                self.amount.value = 9

    op = OpChanges(graph=graph, image=IMAGE)
    for wrong in (op, OpChangesInASnapshot(graph=graph, image=IMAGE)):
        with pytest.raises(ExecuteError, match="cannot be changed from inside execute"):
            wrong.output.read()
    for change in (op.image.mark_dirty, lambda: op.image.assign(IMAGE + 1)):
        change()
        assert "cannot be changed from inside propagate_dirty" in str(caplog.records[-1].exc_info[1])
    assert op.amount.value == 1


def test_a_meta_assigned_in_propagate_dirty_is_an_error_at_once(graph, caplog):
    class OpAssigns(OpAdd):
        def propagate_dirty(self, slot, roi):
            self.output.meta = self.image.meta.replace(dtype="uint8")

    source = OpAdd(graph=graph, image=IMAGE)
    op = OpAssigns(graph=graph, image=source.output)
    kept = op.output.meta
    for change in (source.output.mark_dirty, lambda: setattr(source.amount, "value", 3)):
        caplog.clear()
        change()
        assert "cannot be changed from inside propagate_dirty" in str(caplog.records[-1].exc_info[1])
        assert op.output.meta == kept


def test_asking_for_pixels_in_propagate_dirty_is_an_error_at_once(graph, caplog):
    class OpAsks(OpAdd):
        def propagate_dirty(self, slot, roi):
            self.image.read()

    op = OpAsks(graph=graph, image=IMAGE)
    for change in (op.image.mark_dirty, lambda: op.image.assign(IMAGE + 1)):
        change()
        assert "asked for pixels" in str(caplog.records[-1].exc_info[1])


def test_subscribers_are_told_what_their_own_change_made(graph, monkeypatch):
    op = OpAdd(graph=graph, image=IMAGE)
    heard = []
    op.output.meta_changed.subscribe(lambda slot: heard.append("meta"))
    op.amount.value_changed.subscribe(lambda slot: heard.append("value"))
    leave = graph._gate.leave
    back = []

    def leave_and_change_back():
        leave()
        if not back:
            back.append(True)
            elsewhere(lambda: op.image.assign(IMAGE))
            elsewhere(lambda: setattr(op.amount, "value", 1))

    monkeypatch.setattr(type(graph._gate), "leave", lambda self: leave_and_change_back())
    with graph.transaction():
        op.image.assign(np.zeros((5, 5)))
        op.amount.value = 7
    assert heard == ["meta", "value", "meta", "value"]


def test_a_change_that_waits_for_another_one_inside_a_request_frees_its_worker():
    with ThreadedScheduler(1) as scheduler, Graph(scheduler) as graph:
        op = OpAdd(graph=graph, image=IMAGE)
        changes = []
        with graph.transaction():
            op.amount.value = 5
            for change in (lambda: setattr(op.amount, "value", 7), op.image.mark_dirty):
                changes.append(elsewhere(Request(change, scheduler=scheduler).submit))
            Request(lambda: None, scheduler=scheduler).submit().wait()
            assert [each.state for each in changes] == [RequestState.SUSPENDED] * 2
            assert changes[0].cancel()
        with pytest.raises(RequestCancelledError):
            changes[0].wait()
        changes[1].wait()
        assert op.amount.value == 5


# ---------------------------------------------------------------------------------------- have they teeth?


def write_then_note(self, target, attribute, value):
    before = getattr(target, attribute)
    setattr(target, attribute, value)
    self._undo.append((target, attribute, before, -1))
    if target._born < self._number:
        self._notes.setdefault((target, attribute), before)


def show_before_the_walk(self):
    all_versions = self.graph._versions
    before, all_versions.current = all_versions.current, self.version
    try:
        run_walk(self)
    finally:
        all_versions.current = before


run_walk = push.Walk.run
publish = versions.Versions.publish


def drop_at_once(self, version, duties=()):
    return publish(self, version) + [partial(function, argument) for _, function, argument in duties]


def drop_twice(self, version, duties=()):
    return publish(self, version, [*duties, *duties])


def give_numbers_again(self):
    self._last_number = self.current.number
    return make(self)


make = versions.Versions.make


class LaterWins(dict):
    """Notes of which the later one stays."""

    def setdefault(self, key, value):
        self[key] = value
        return value


class VersionOfLaterNotes(versions.Version):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.notes = LaterWins()


def enter_any_version(self):
    return versions.enter(self.slot.graph)


def look_up_nothing(self, version, target, field):
    return getattr(target, field)


def tell_what_is_there_now(self):
    for slot, old in self._before.items():
        if slot.contents == "array" and slot._state[1] != old:
            slot._emit("meta_changed")
        if slot.contents == "value" and slot._state[1] != old:
            slot._emit("value_changed")
    self._walk.notify()


PLANTED = {
    "a note after the value": (setup.Setup, "set", write_then_note, [
        test_what_a_field_was_is_noted_before_it_is_written,
    ]),
    "a version that is visible before the walk": (push.Walk, "run", show_before_the_walk, [
        test_a_version_is_not_current_before_every_cache_downstream_has_been_told,
    ]),
    "a plan that is dropped in use": (versions.Versions, "publish", drop_at_once, [
        test_old_versions_keep_what_they_need_and_nothing_longer,
        test_closing_an_operator_returns_at_once_and_releases_it_when_it_is_left,
    ]),
    "a plan that is dropped twice": (versions.Versions, "publish", drop_twice, [
        test_old_versions_keep_what_they_need_and_nothing_longer,
        test_closing_an_operator_returns_at_once_and_releases_it_when_it_is_left,
    ]),
    "a number that is given again": (versions.Versions, "make", give_numbers_again, [
        test_the_number_of_a_version_that_failed_is_not_given_again,
    ]),
    "a later note that wins": (versions, "Version", VersionOfLaterNotes, [
        test_each_of_several_old_versions_sees_what_was_there_whichever_ends_first,
    ]),
    "a value cell without version": (versions.Version, "write", setattr, [
        test_a_computed_value_is_that_of_the_version_whoever_asks_first,
    ]),
    "a shared value in any version": (values.ValueRequest, "_enter", enter_any_version, [
        test_a_shared_value_is_computed_in_a_version_of_somebody_who_waits_for_it,
    ]),
    "subscribers that are told what is there now": (setup.Setup, "notify", tell_what_is_there_now, [
        test_subscribers_are_told_what_their_own_change_made,
    ]),
    "a box that is not clipped": (push, "fitting", lambda slot, roi: (True, roi), [
        test_a_box_that_no_longer_fits_is_clipped_and_one_that_never_did_is_refused,
    ]),
    "an outsider who sees what is newest": (versions.Versions, "look_up", look_up_nothing, [
        test_during_a_setup_everybody_else_sees_the_graph_as_it_was,
    ]),
}  # fmt: skip


@pytest.mark.parametrize(("fault", "test"), [(n, t) for n, (*_, tests) in PLANTED.items() for t in tests])
def test_a_planted_fault_is_found(graph, fault, test, monkeypatch):
    where, name, planted, _ = PLANTED[fault]
    if planted is VersionOfLaterNotes:
        graph._versions.current.notes = LaterWins()
    monkeypatch.setattr(where, name, planted)
    arguments = {"monkeypatch": monkeypatch} if "monkeypatch" in test.__code__.co_varnames else {}
    # Whatever the fault makes fail: a comparison, an error of our own, a wait without end.
    with pytest.raises(BaseException):  # noqa: B017
        test(graph, **arguments)
    monkeypatch.undo()


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deepcopy", "pickle"]
)
def test_what_holds_a_version_or_a_change_is_not_copied(graph, copied):
    for owner in (graph.snapshot(), graph.transaction()):
        with owner, pytest.raises(TypeError, match="is not copied"):
            copied(owner)


def test_closing_ends_what_stands_still_under_a_seeded_scheduler():
    with SeededScheduler() as scheduler:
        graph = Graph(scheduler)
        held = OpHeld(graph=graph, image=IMAGE)
        request = held.output[:].submit()
        with pytest.raises(CircularWaitError, match="nothing can run any more"):
            request.wait()
        graph.close()
        assert request.state is RequestState.CANCELLED


def test_of_a_slot_that_one_change_writes_twice_what_was_first_is_seen_before(graph):
    op = OpAdd(graph=graph, image=np.zeros(3))
    with graph.snapshot():
        with graph.transaction():
            op.image.assign(np.ones(4))
            op.image.assign(np.full(5, 2.0))
        assert op.image.meta.shape == (3,)
        assert op.output.read().tolist() == [1, 1, 1]
    assert op.output.read().tolist() == [3, 3, 3, 3, 3]
