"""Random reads, edits, evictions, budgets and frozen times, in turns and at once, against plain arrays."""

import os

import numpy as np
from cache_cases import OpScaled
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from lazyflow_core import Graph, Roi
from lazyflow_core.request import Request, RequestEvent, SeededScheduler, checkpoint
from lazyflow_core.utility import memory_ledger

from lazyflow_ops_cache.block_cache import OpBlockCache
from lazyflow_ops_cache.storage import Spilled

SHAPE = (6, 9)
BLOCK_BYTES = 2 * 4 * 8


@st.composite
def rois(draw):
    if draw(st.booleans()):
        return Roi((0, 0), SHAPE)
    start = [draw(st.integers(0, length - 1)) for length in SHAPE]
    return Roi(start, [draw(st.integers(a + 1, length)) for a, length in zip(start, SHAPE, strict=True)])


class CacheMachine(RuleBasedStateMachine):
    """A source, a cache, and a cache behind it; each result equals the pixels of the version it belongs to.

    What somebody sees who reads again what he hears to be stale is followed, too.
    """

    @initialize(seed=st.integers(0, 10**6), kind=st.sampled_from(["memory", "compressed", "disk"]))
    def make(self, seed, kind):
        self.ledger = memory_ledger()
        self.budget_before = self.ledger.budget_bytes
        self.ledger.relieve()
        self.scheduler = SeededScheduler(seed, preempt_chance=0.3)
        self.graph = Graph(self.scheduler)
        self.image = np.arange(np.prod(SHAPE), dtype=np.int64).reshape(SHAPE)
        self.source = OpScaled(graph=self.graph, image=self.image)
        self.cache = OpBlockCache(graph=self.graph, image=self.source.output, block=(2, 4), storage=kind)
        self.outer = OpBlockCache(graph=self.graph, image=self.cache.output, block=(3, 3))
        self.outputs = {"cache": self.cache.output, "outer": self.outer.output}
        #: (first version, pixels there; None in frozen times, when anything older may be given).
        self.history = []
        self.record()
        self.running, self.held = [], []
        self.shown = np.zeros(SHAPE, np.int64)
        self.stale = np.ones(SHAPE, bool)
        self.outer.output.dirty.subscribe(self.hear)

    def hear(self, slot, roi):
        for box in roi.boxes:
            self.stale[box.slicing] = True

    def record(self):
        """Note what is right from the newest version on."""
        frozen = self.cache.frozen.value and not self.cache.bypass.value
        model = None if frozen else (self.image + 1) * self.source.factor.value
        self.history.append((self.graph.version, model))

    def check(self, found, roi, version):
        model = [model for first, model in self.history if first <= version][-1]
        assert model is None or np.array_equal(found, model[roi.slicing]), (roi, version)

    # ------------------------------------------------------------------------------------------ changes

    def assign(self, roi, value):
        image = self.image.copy()
        image[roi.slicing] = value
        self.image = image
        self.source.image.assign(image)
        self.record()

    @rule(roi=rois(), value=st.integers(0, 50))
    def exchange(self, roi, value):
        self.assign(roi, value)

    @rule(roi=rois(), value=st.integers(0, 50))
    @precondition(lambda self: not self.running and not self.held)
    def edit(self, roi, value):
        """In place, so nobody holds a version before."""
        self.image[roi.slicing] = value
        self.source.image.mark_dirty(roi)
        self.record()

    @rule(factor=st.integers(1, 4))
    def scale(self, factor):
        self.source.factor.value = factor
        self.record()

    @rule(bypass=st.sampled_from([False, False, True]))
    def freeze_or_not(self, bypass):
        with self.graph.transaction():
            self.cache.frozen.value = not self.cache.frozen.value
            self.cache.bypass.value = bypass
        self.record()

    @rule(side=st.integers(1, 4))
    @precondition(lambda self: not self.cache.frozen.value)
    def divide(self, side):
        self.cache.block.value = (side, side)
        self.record()

    @rule(blocks=st.sampled_from([0, 1, 2, 3, 100, 100, 100]))
    def budget(self, blocks):
        labels = self.ledger.account("cache.labels").used_bytes
        self.ledger.budget_bytes = labels + blocks * BLOCK_BYTES

    @rule()
    def evict(self):
        self.ledger.relieve()

    # -------------------------------------------------------------------------------------------- reads

    @rule(roi=rois(), of=st.sampled_from(["cache", "outer"]))
    @precondition(lambda self: self.source.hold is None)
    def read(self, roi, of):
        found = self.outputs[of].read(roi)
        self.check(found, roi, self.graph.version)
        if of == "outer":
            self.shown[roi.slicing] = found
            self.stale[roi.slicing] = False

    @rule(roi=rois(), of=st.sampled_from(["cache", "outer"]))
    @precondition(lambda self: len(self.running) < 5)
    def begin(self, roi, of):
        """Let somebody read who is held up in the middle of what is missing."""
        if self.source.hold is None:
            self.source.hold = RequestEvent()
        self.running.append(self.outputs[of].request(roi).submit())
        self.scheduler.run_until_blocked()

    @rule(index=st.integers(0, 4))
    @precondition(lambda self: self.running)
    def cancel(self, index):
        self.running.pop(index % len(self.running)).cancel()

    @rule()
    def go_on(self):
        if self.source.hold is not None:
            self.source.hold.set()
            self.source.hold = None
        for request in self.running:
            self.check(request.wait(), request.roi, request.version)
        self.running.clear()
        self.scheduler.run_until_blocked()  # those that were cancelled end, too

    @rule(
        readers=st.lists(st.tuples(rois(), st.sampled_from(["cache", "outer"])), min_size=1, max_size=5),
        strokes=st.lists(st.tuples(rois(), st.integers(0, 50)), max_size=3),
    )
    @precondition(lambda self: self.source.hold is None)
    def at_once(self, readers, strokes):
        """Readers and somebody who changes the image, in any order of their steps."""

        def paint():
            for roi, value in strokes:
                checkpoint()
                self.assign(roi, value)

        painter = Request(paint, scheduler=self.scheduler).submit()
        requests = [self.outputs[of].request(roi).submit() for roi, of in readers]
        for request in [painter, *requests]:
            request.wait()
        for request in requests:
            self.check(request.wait(), request.roi, request.version)

    @rule()
    @precondition(lambda self: len(self.held) < 2)
    def hold_a_version(self):
        self.held.append(self.graph.snapshot())

    @rule(roi=rois(), of=st.sampled_from(["cache", "outer"]), index=st.integers(0, 1))
    @precondition(lambda self: self.held and self.source.hold is None)
    def read_a_held_version(self, roi, of, index):
        snapshot = self.held[index % len(self.held)]
        with snapshot.seen():
            self.check(self.outputs[of].read(roi), roi, snapshot.number)

    @rule(index=st.integers(0, 1))
    @precondition(lambda self: self.held)
    def let_go(self, index):
        self.held.pop(index % len(self.held)).close()

    # --------------------------------------------------------------------------------------- what holds

    @invariant()
    def every_byte_counts_and_no_more_than_the_budget_is_kept(self):
        if not hasattr(self, "graph"):
            return
        for cache in (self.cache, self.outer):
            kept = [block.data for block in cache.plan.store._all()]
            hot = [data._hot for data in kept if isinstance(data, Spilled)]
            plain = [data for data in kept if not isinstance(data, Spilled)]
            nbytes = sum(data.nbytes for data in plain) + sum(copy.nbytes for copy in hot if copy)
            assert cache.plan.store.account.used_bytes >= nbytes
        # Old versions have stores of their own, where the shape of blocks has changed.
        report = self.ledger.account("cache.blocks").report()
        assert report.nbytes == sum(part.nbytes for part in report.parts)
        computing = self.ledger.account("cache.computing").used_bytes
        assert self.ledger.used_bytes - computing <= self.ledger.budget_bytes
        if self.source.hold is None:
            assert computing == 0

    @invariant()
    def what_nobody_announced_is_still_right(self):
        if hasattr(self, "graph") and self.history[-1][1] is not None:
            assert np.array_equal(self.shown[~self.stale], self.history[-1][1][~self.stale])

    def teardown(self):
        if not hasattr(self, "graph"):
            return
        self.go_on()
        for snapshot in self.held:
            snapshot.close()
        if self.history[-1][1] is not None:
            whole = Roi((0, 0), SHAPE)
            for output in self.outputs.values():
                self.check(output.read(), whole, self.graph.version)
        self.graph.close()
        self.scheduler.close()
        self.ledger.budget_bytes = self.budget_before
        assert self.ledger.account("cache.blocks").used_bytes == 0


#: More where somebody wants more: the ordinary run has to be short.
EXAMPLES = int(os.environ.get("LAZYFLOW_MACHINE_EXAMPLES", "60"))
CacheMachine.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestCacheMachine = CacheMachine.TestCase
