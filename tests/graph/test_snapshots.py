"""Every result is that of the version in which its request began, whatever changes while it is computed.

Random transactions are made at every switch point of running executions: parameters, arrays, shapes, links,
lists and their lanes, pushed pixels, operators that come and go, changes that are refused. A model
that recomputes everything says, for each version, what each output is in it. The graph is one of caches,
neighbourhoods, computed values and operators that give way at every read.
"""

import random
import sys
import threading
from contextlib import suppress
from importlib.util import find_spec

import numpy as np
import pytest

from lazyflow_core import get_operator
from lazyflow_core.errors import LazyflowError, SetupError
from lazyflow_core.graph import Graph, InputSlot, Lanes, Operator, OutputSlot, ParameterSlot, StaleBoxes
from lazyflow_core.request import (
    InlineScheduler,
    Request,
    SeededScheduler,
    ThreadedScheduler,
    checkpoint,
    current_request,
    gather,
)
from lazyflow_core.roi import Roi

LENGTH, SHORTEST = 8, 5

CHANGES = [
    *("a", "b", "two", "three", "each", "several", "array", "shape", "cross", "unrelated"),
    *("parts", "lanes", "push", "born", "refuse", "refuse a lane"),
]


class OpWay(Operator):
    """Base of those that let others run, and the graph change, at every read."""

    image = InputSlot()
    amount = ParameterSlot(int, default=1)
    output = OutputSlot()

    def setup_outputs(self):
        self.output.meta = self.image.meta
        return self.amount.value

    def give_way(self):
        if current_request() is not None:
            checkpoint()
        self.graph.at_switch()

    def execute(self, slot, roi, out):
        self.give_way()
        image = self.image.read(roi)
        self.give_way()
        np.add(image, self.amount.value, out=out)
        self.give_way()
        out += self.amount.value - self.plan  # nothing, in one version

    def propagate_dirty(self, slot, roi):
        self.output.mark_dirty(roi)


class OpTwoReads(OpWay):
    """Reads two inputs, one after the other and at the same time."""

    other = InputSlot()

    def setup_outputs(self):
        if self.image.meta.shape != self.other.meta.shape:
            raise SetupError("two shapes")
        return super().setup_outputs()

    def execute(self, slot, roi, out):
        self.give_way()
        first = np.array(self.image.read(roi))
        self.give_way()
        a, b = gather(self.image.request(roi), self.other.request(roi))
        assert np.array_equal(first, a)
        out[...] = a + 100 * b + self.plan


class OpSumOfList(OpWay):
    """The sum of its list, and a computed value."""

    parts = InputSlot(level=1)
    total = OutputSlot(value=int)

    def setup_outputs(self):
        if any(part.meta.shape != self.image.meta.shape for part in self.parts):
            raise SetupError("several shapes")
        return super().setup_outputs()

    def compute_value(self, slot):
        self.give_way()
        return int(sum(part.read().sum() for part in self.parts))

    def execute(self, slot, roi, out):
        self.give_way()
        out[...] = self.image.read(roi)
        for part in self.parts:
            self.give_way()
            out += part.read(roi)
        out += self.total.value

    def propagate_dirty(self, slot, roi):
        self.total.mark_dirty()
        self.output.mark_dirty()


class OpKeepsBlocks(OpWay):
    """A cache of pixels one by one, by the public recipe."""

    def __init__(self, **slots):
        self._lock, self._stale, self._kept = threading.Lock(), StaleBoxes(self.graph), {}
        super().__init__(**slots)

    def propagate_dirty(self, slot, roi):
        with self._lock:
            self._stale.add(roi)
            for place in range(roi.start[0], roi.stop[0]):
                self._kept.pop(place, None)
        self.output.mark_dirty(roi)

    def propagate_change(self, parameter):
        """The amount is not used."""

    def execute(self, slot, roi, out):
        version = self.graph.version
        for place in range(roi.start[0], roi.stop[0]):
            box = Roi((place,), (place + 1,))
            with self._lock:
                pixel, since = self._kept.get(place, (None, 0))
            if pixel is None or since > version:
                self.give_way()
                pixel = int(self.image.read(box)[0])
                self.give_way()
                with self._lock:
                    if self._stale.until(box) is None:
                        self._kept[place] = pixel, self._stale.since(box)
            out[place - roi.start[0]] = pixel


class OpThree(OpWay):
    """The sum of each pixel and its two neighbours: reads more than it is asked for."""

    def around(self, roi):
        return Roi((max(roi.start[0] - 1, 0),), (min(roi.stop[0] + 1, self.image.meta.shape[0]),))

    def execute(self, slot, roi, out):
        self.give_way()
        around = self.around(roi)
        image = np.array(self.image.read(around))
        self.give_way()
        begin = roi.start[0] - around.start[0]
        out[...] = three(image)[begin : begin + out.size] + self.amount.value
        out += self.amount.value - self.plan

    def propagate_dirty(self, slot, roi):
        self.output.mark_dirty(self.around(roi))


class OpEach(Operator):
    """An operator for each element of a list."""

    images = InputSlot(level=1)
    amount = ParameterSlot(int, default=1)
    results = OutputSlot(level=1)

    def __init__(self, **slots):
        self.lanes = Lanes(self.images, self.make_lane, {self.results: "output"})
        super().__init__(**slots)

    def make_lane(self, image):
        return OpThree(parent=self, image=image, amount=self.amount)


class OpStore(Operator):
    """Keeps what is pushed into it. A reader sees all that was pushed before its version, and maybe more."""

    image = InputSlot()
    output = OutputSlot()

    def __init__(self, **slots):
        self._lock, self._pixels = threading.Lock(), np.zeros(LENGTH, int)
        super().__init__(**slots)

    def setup_outputs(self):
        self.output.meta = self.image.meta

    def receive(self, slot, roi, data):
        with self._lock:
            self._pixels[roi.slicing] = data
        self.output.mark_dirty(roi)

    def execute(self, slot, roi, out):
        with self._lock:
            out[...] = self._pixels[roi.slicing]

    def propagate_dirty(self, slot, roi):
        """Its input is only there to be written into."""


def three(image):
    """Return the sum of each pixel and its neighbours, 0 beyond the end."""
    wide = np.pad(image, 1)
    return wide[:-2] + wide[1:-1] + wide[2:]


class World:
    """A graph, its model, and what each version of it was."""

    def __init__(self, scheduler, seed):
        self.random = random.Random(seed)
        self.graph = graph = Graph(scheduler)
        graph.at_switch = self.at_switch
        self.changing = threading.Lock()
        self.changes_left = 25
        self.array = np.arange(LENGTH)
        self.a = OpWay(graph=graph, name="a", image=self.array)
        self.b = OpWay(graph=graph, name="b", image=self.array + 50)
        block_cache = get_operator("cache.blocks") if find_spec("lazyflow_ops_cache") else OpKeepsBlocks
        settings = {"block": (3,)} if block_cache is not OpKeepsBlocks else {}
        self.cache = block_cache(graph=graph, name="cache", image=self.a.output, **settings)
        self.keeps = OpKeepsBlocks(graph=graph, name="keeps", image=self.b.output)
        self.two = OpTwoReads(graph=graph, name="two", image=self.cache.output, other=self.keeps.output)
        self.sum = OpSumOfList(graph=graph, name="sum", image=self.two.output, parts=[self.cache.output])
        self.last = OpKeepsBlocks(graph=graph, name="last", image=self.sum.output)
        self.three = OpThree(graph=graph, name="three", image=self.last.output)
        self.each = OpEach(graph=graph, name="each", images=[self.cache.output])
        self.all = OpSumOfList(graph=graph, name="all", image=self.cache.output, parts=self.each.results)
        self.store = OpStore(graph=graph, name="store", image=np.zeros(LENGTH, int))
        spread = OpThree(graph=graph, name="spread", image=self.store.output)
        self.painted = block_cache(graph=graph, name="painted", image=spread.output, **settings)
        exact = (self.cache, self.two, self.sum, self.last, self.three, self.all)
        self.outputs = [operator.output for operator in exact]
        #: What the graph is made of, by version.
        self.states = {}
        self.state = dict.fromkeys(("a", "b", "two", "three", "each"), 1) | {
            "array": self.array,
            "crossed": False,
            "parts": ["cache"],
            "lanes": ["cache"],
            "pushed": np.zeros(LENGTH, int),
        }
        #: What has been pushed, or is about to be.
        self.newest = self.state["pushed"]
        self.note()
        self.wrong = []

    def note(self):
        self.states[self.graph._versions.current.number] = dict(self.state)

    def model(self, state, slot):
        """What an output is."""
        cache = state["array"] + state["a"]
        keeps = np.arange(len(cache)) + 50 + state["b"]
        by_name = {"cache": cache, "keeps": keeps}
        lanes = [three(by_name[lane]) + state["each"] for lane in state["lanes"]]
        if slot.operator is self.each:
            return lanes[list(self.each.results).index(slot)]
        if slot is self.cache.output:
            return cache
        if slot is self.all.output:
            return cache + sum(lanes) + sum(int(lane.sum()) for lane in lanes)
        image, other = (keeps, cache) if state["crossed"] else (cache, keeps)
        two = image + 100 * other + state["two"]
        if slot is self.two.output:
            return two
        parts = [by_name[part] for part in state["parts"]]
        last = two + sum(parts) + sum(int(part.sum()) for part in parts)
        return three(last) + state["three"] if slot is self.three.output else last

    def at_switch(self):
        """Change something, now and then, from outside of any execution."""
        if self.changes_left > 0 and self.random.random() < 0.5 and self.changing.acquire(blocking=False):
            try:
                self.changes_left -= 1
                # In a thread and a context of its own: inside of an execution nothing may change.
                thread = threading.Thread(target=self.change)
                thread.start()
                thread.join()
            finally:
                self.changing.release()

    def change(self):
        try:
            self._change()
        except BaseException as error:
            self.wrong.append(error)

    def _change(self):
        state, chance = self.state, self.random
        what = chance.choice(CHANGES)
        before = self.graph._versions.current.number
        length = len(state["array"])
        if what in ("a", "b", "two", "three", "each"):
            state[what] = chance.randrange(1, 9)
            getattr(self, what).amount.value = state[what]
        elif what == "array":
            state["array"] = np.arange(length) + chance.randrange(1000)
            self.a.image.assign(state["array"])
        elif what == "shape":
            state["array"] = np.arange(chance.randrange(SHORTEST, LENGTH + 1))
            with self.graph.transaction():
                self.a.image.assign(state["array"])
                self.b.image.assign(np.arange(len(state["array"])) + 50)
        elif what == "cross":
            state["crossed"] = not state["crossed"]
            with self.graph.transaction():
                image, other = (self.keeps, self.cache) if state["crossed"] else (self.cache, self.keeps)
                self.two.image.connect(image.output)
                self.two.other.connect(other.output)
        elif what == "parts":
            if len(state["parts"]) > 1 and chance.random() < 0.5:
                index = chance.randrange(len(state["parts"]))
                state["parts"] = state["parts"][:index] + state["parts"][index + 1 :]
                self.sum.parts.remove(index)
            elif len(state["parts"]) < 4:
                part = chance.choice(["cache", "keeps"])
                state["parts"] = [*state["parts"], part]
                self.sum.parts.append(getattr(self, part).output)
        elif what == "lanes":
            lanes, index = list(state["lanes"]), chance.randrange(len(state["lanes"]) + 1)
            if index < len(lanes) and (len(lanes) > 3 or (len(lanes) > 1 and chance.random() < 0.5)):
                del lanes[index]
                self.each.images.remove(index)
            else:
                lanes.insert(index, chance.choice(["cache", "keeps"]))
                self.each.images.insert(index, getattr(self, lanes[index]).output)
            state["lanes"] = lanes
        elif what == "push":
            start, stop = sorted(chance.sample(range(LENGTH + 1), 2))
            pixels = state["pushed"].copy()
            pixels[start:stop] = pixels.max() + 1
            self.newest = pixels
            self.store.image[start:stop] = pixels[start:stop]
            state["pushed"] = pixels
        elif what == "refuse a lane":
            with suppress(LazyflowError):
                self.each.images.insert(0, np.zeros(LENGTH + 1, int))
            assert self.graph._versions.current.number == before
            assert len(self.each.results) == len(self.each.lanes) == len(state["lanes"])
        elif what == "refuse":
            with suppress(LazyflowError), self.graph.transaction():
                self.b.amount.value = 77
                self.a.image.assign(np.zeros(LENGTH + 1, int))
            assert self.graph._versions.current.number == before
        elif what == "born":
            OpWay(graph=self.graph, image=self.last.output).close()
        elif what == "several":
            state["a"], state["b"] = chance.randrange(1, 9), chance.randrange(1, 9)
            with self.graph.transaction():
                self.a.amount.value, self.b.amount.value = state["a"], state["b"]
        else:
            self.b.image.mark_dirty(Roi((chance.randrange(length),), (length,)))
        # Versions of the way (born and closed again) are like the one before.
        for number in range(before + 1, self.graph._versions.current.number):
            self.states.setdefault(number, self.states[before])
        self.note()

    def read(self):
        """Ask for some region and compare with the model of the version in which it began."""
        what = self.random.random()
        if what < 0.2:
            number = self.read_pushed()
        elif what < 0.5:
            number = self.read_snapshot()
        else:
            slot, region = self.random.choice(self.outputs), self.region(SHORTEST)
            request = slot.request(region)
            self.compare(slot, region, request.wait(), number := request.version)
        return number != self.graph._versions.current.number

    def read_snapshot(self):
        """The same of what may have another shape or be gone meanwhile."""
        with self.graph.snapshot() as snapshot:
            slot = self.random.choice([*self.outputs, *self.each.results])
            region = self.region(slot.meta.shape[0])
            first = slot.read(region)
            self.compare(slot, region, first, snapshot.number)
            self.compare(slot, region, slot.request(region).submit().wait(), snapshot.number)
            return snapshot.number

    def read_pushed(self):
        """The same of what was pushed: at least what was there when it began, at most what is there now."""
        region = self.region(LENGTH)
        request = self.painted.output.request(region)
        found = request.wait()
        least, most = self.states_of(request.version)["pushed"], self.newest
        assert (found >= three(least)[region.slicing] + 1).all(), (request.version, found, least)
        assert (found <= three(most)[region.slicing] + 1).all(), (request.version, found, most)
        return request.version

    def region(self, length):
        start, stop = sorted(self.random.sample(range(length + 1), 2))
        return Roi((start,), (stop,))

    def compare(self, slot, region, found, number):
        expected = self.model(self.states_of(number), slot)[region.slicing]
        assert np.array_equal(found, expected), (slot, number, found, expected)

    def states_of(self, number):
        while number not in self.states:
            pass  # the one who made it is about to note it
        return self.states[number]

    def check_end(self):
        """Afterwards all that is kept equals what is computed anew, and nothing old is left."""
        self.changes_left = 0
        if self.wrong:
            raise self.wrong[0]
        for slot in self.outputs:
            assert np.array_equal(slot.read(), self.model(self.state, slot)), slot
        assert np.array_equal(self.painted.output.read(), three(self.state["pushed"]) + 1)
        assert self.graph._versions.describe() == ""
        self.graph.close()


def explore(seed):
    """One run under a seeded scheduler: every switch point may be a change."""
    with SeededScheduler(seed, strategy="pct" if seed % 2 else "random") as scheduler:
        world = World(scheduler, seed)
        readers = [
            Request(lambda: [world.read() for _ in range(4)], scheduler=scheduler).submit() for _ in range(5)
        ]
        outlived = sum(sum(reader.wait()) for reader in readers)
        world.check_end()
    return outlived


def test_in_every_interleaving_a_result_is_of_the_version_it_began_in():
    assert sum(explore(seed) for seed in range(60)) > 100  # so many ended after their version was replaced


@pytest.mark.stress
@pytest.mark.timeout(3600)
def test_ten_thousand_interleavings():
    assert sum(explore(seed) for seed in range(10_000)) > 10_000


def test_inline_too():
    for seed in range(10):
        world = World(InlineScheduler(), seed)
        for _ in range(12):
            world.read()
        world.check_end()


def threads(seed, rounds):
    interval = sys.getswitchinterval()
    sys.setswitchinterval(10.0 ** -random.Random(seed).choice([3, 4, 5, 6]))
    try:
        with ThreadedScheduler(2) as scheduler:
            world = World(scheduler, seed)
            world.changes_left = 10 * rounds
            failed = []

            def work():
                try:
                    for _ in range(rounds):
                        world.read()
                except BaseException as error:
                    failed.append(error)

            workers = [threading.Thread(target=work) for _ in range(3)]
            requests = [Request(work, scheduler=scheduler).submit() for _ in range(3)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            for request in requests:
                request.wait()
            if failed:
                raise failed[0]
            world.check_end()
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("seed", range(3))
def test_in_threads_a_result_is_of_the_version_it_began_in(seed):
    threads(seed, 25)


@pytest.mark.stress
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(3, 34))
def test_in_threads_for_long(seed):
    threads(seed, 800)
