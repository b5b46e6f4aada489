"""Operators with one fault each, as authors make them. The kit has to find it, and nothing else."""

import concurrent.futures
import functools
import random
import threading
import time

import numpy as np

from lazyflow_core.errors import LazyflowError
from lazyflow_core.graph import InputSlot, Operator, OutputSlot, ParameterSlot, StaleBoxes
from lazyflow_core.request import Request, RequestEvent, checkpoint
from lazyflow_core.roi import Roi

HALO = 1


class OpGood(Operator):
    """A box filter of three pixels along every axis, times a factor."""

    image = InputSlot()
    factor = ParameterSlot(float, default=2.0)
    output = OutputSlot()

    def setup_outputs(self):
        self.output.meta = self.image.meta.replace(dtype=np.float64, value_range=None)

    def execute(self, slot, roi, out):
        needed = self.needs(roi)
        pixels = self.image.read(needed).astype(np.float64)
        self.blur(pixels, roi, needed, out)

    def needs(self, roi):
        return roi.with_halo([HALO] * roi.ndim, within=self.image.meta.roi)

    def blur(self, pixels, roi, needed, out):
        """The sum over the neighbours there are, each position added in the same order everywhere."""
        whole = self.image.meta.roi
        padding = [
            (max(0, HALO - a), max(0, b + HALO - n))
            for a, b, n in zip(roi.start, roi.stop, whole.stop, strict=True)
        ]
        grown = np.pad(pixels, padding)
        out[...] = 0
        for offset in np.ndindex(*(2 * HALO + 1,) * roi.ndim):
            out += grown[tuple(slice(o, o + n) for o, n in zip(offset, roi.shape, strict=True))]
        out *= self.factor.value

    def propagate_dirty(self, slot, roi):
        self.output.mark_dirty(self.needs(roi))


class OpWithoutHalo(OpGood):
    """Forgets the halo when it reads."""

    def execute(self, slot, roi, out):
        pixels = np.pad(self.image.read(roi).astype(np.float64), HALO)
        out[...] = 0
        for offset in np.ndindex(*(2 * HALO + 1,) * roi.ndim):
            out += pixels[tuple(slice(o, o + n) for o, n in zip(offset, roi.shape, strict=True))]


class OpSaysPixelwise(OpGood):
    """Says that it works pixel by pixel, and reads a halo."""

    pixelwise = True


class OpNormalizesRegion(OpGood):
    """Divides by the maximum of the region instead of that of the image."""

    def execute(self, slot, roi, out):
        pixels = self.image.read(roi)
        np.divide(pixels, pixels.max(initial=1e-9), out=out)

    def propagate_dirty(self, slot, roi):
        self.output.mark_dirty()


class OpDirtyNotWidened(OpGood):
    """Announces what changed in the input, without the halo."""

    def propagate_dirty(self, slot, roi):
        self.output.mark_dirty(roi)


class OpFailingDirty(OpGood):
    """Raises while it announces; the graph then takes everything for stale and reports it."""

    def propagate_dirty(self, slot, roi):
        self.output.mark_dirty(Roi((-1,) * roi.ndim, roi.stop))


class OpParameterNotAnnounced(OpGood):
    """Does not say that another factor gives other pixels."""

    def propagate_change(self, parameter):
        pass


class OpStaleCache(OpGood):
    """Remembers its whole result and forgets to drop it."""

    def setup_outputs(self):
        super().setup_outputs()
        return {}

    def execute(self, slot, roi, out):
        results = self.plan
        if roi not in results:
            super().execute(slot, roi, out)
            results[roi] = out.copy()
        out[...] = results[roi]


class OpCachesStaleResult(OpStaleCache):
    """Drops its results when they are stale, but stores one that was under way meanwhile."""

    def propagate_dirty(self, slot, roi):
        self.plan.clear()
        super().propagate_dirty(slot, roi)

    def execute(self, slot, roi, out):
        results = self.plan
        found = results.get(roi)
        if found is None:
            OpGood.execute(self, slot, roi, out)
            found = results[roi] = out.copy()
        out[...] = found


class OpWrongRange(OpGood):
    """States a range that its values leave."""

    def setup_outputs(self):
        self.output.meta = self.image.meta.replace(dtype=np.float64, value_range=(0, 1))


class OpMetaOnce(OpGood):
    """Looks at its input's meta only the first time."""

    def setup_outputs(self):
        if not hasattr(self, "_meta"):
            self._meta = self.image.meta.replace(dtype=np.float64, value_range=None)
        self.output.meta = self._meta


class OpUnconnected(OpGood):
    """Cannot be built before it has an input."""

    def __init__(self, **slots):
        super().__init__(**slots)
        self.length = self.image.meta.shape[0]


class OpEagerDirty(OpGood):
    """Computes in order to see what changed."""

    def propagate_dirty(self, slot, roi):
        self.image.read(roi)
        super().propagate_dirty(slot, roi)


class OpEagerChange(OpGood):
    """Computes in order to see what another factor changes."""

    def propagate_change(self, parameter):
        self.image.read()
        super().propagate_change(parameter)


class OpNotUndone(OpGood):
    """Keeps what it learnt in a setup that was undone."""

    _largest = 0.0

    def setup_outputs(self):
        super().setup_outputs()
        self._largest = max(self._largest, self.factor.value)

    def execute(self, slot, roi, out):
        super().execute(slot, roi, out)
        out *= self.factor.value / self._largest


class OpCountsSetups(OpGood):
    """Writes an attribute when it is set up."""

    _setups = 0

    def setup_outputs(self):
        super().setup_outputs()
        self._setups += 1


class OpEmptiesWhenSetUp(OpGood):
    """Empties what it keeps, in place, when it is set up; nobody fills it again when the change fails."""

    def __init__(self, **slots):
        self._kept = {}
        super().__init__(**slots)

    def setup_outputs(self):
        super().setup_outputs()
        self._kept.clear()

    def execute(self, slot, roi, out):
        super().execute(slot, roi, out)
        self._kept[roi] = None


class OpWithPlan(OpGood):
    """Prepares its factor; nothing is wrong with that."""

    def setup_outputs(self):
        super().setup_outputs()
        return {"factor": self.factor.value}

    def drop(self, plan):
        del plan["factor"]


class OpMemoizesPlan(OpWithPlan):
    """Returns a plan again that it made before, and that was dropped meanwhile."""

    def __init__(self, **slots):
        self._plan_for = functools.cache(lambda axes: {"factor": self.factor.value})
        super().__init__(**slots)

    def setup_outputs(self):
        super().setup_outputs()
        return self._plan_for(self.image.meta.axes)

    def drop(self, plan):
        plan.pop("factor", None)


class OpDropsItself(OpWithPlan):
    """Drops the old plan on its own."""

    def setup_outputs(self):
        if self.plan is not None:
            self.drop(self.plan)
        return super().setup_outputs()

    def drop(self, plan):
        plan.pop("factor", None)


class OpPlainPool(OpGood):
    """Lets a plain thread look up its factor, which sees another version than the execution."""

    def execute(self, slot, roi, out):
        needed = self.needs(roi)
        pixels = self.image.read(needed).astype(np.float64)
        factors = []
        thread = threading.Thread(target=lambda: factors.append(self.factor.value))
        thread.start()
        Request.from_future(_end_of(thread)).wait()
        self.blur(pixels, roi, needed, out)
        out *= factors[0] / self.factor.value


def _end_of(thread):
    future = concurrent.futures.Future()
    threading.Thread(target=lambda: (thread.join(), future.set_result(None))).start()
    return future


class OpGeneration(OpGood):
    """Keeps its results, unless a generation was raised meanwhile: the recipe of before versions."""

    def __init__(self, **slots):
        self._lock = threading.Lock()
        self._generation, self._kept = 0, {}
        super().__init__(**slots)

    def propagate_dirty(self, slot, roi):
        self._raise()
        super().propagate_dirty(slot, roi)

    def propagate_change(self, parameter):
        self._raise()
        super().propagate_change(parameter)

    def _raise(self):
        with self._lock:
            self._generation += 1
            self._kept = {}

    def execute(self, slot, roi, out):
        with self._lock:
            kept, generation = self._kept.get(roi), self._generation
        if kept is None:
            super().execute(slot, roi, out)
            with self._lock:
                if generation == self._generation:
                    self._kept[roi] = out.copy()
        else:
            out[...] = kept


class OpRemembersVersions(OpGeneration):
    """Keeps its results for those versions in which it holds; nothing is wrong with that."""

    def __init__(self, **slots):
        self._stale = StaleBoxes(self.graph)
        super().__init__(**slots)

    def propagate_dirty(self, slot, roi):
        with self._lock:
            self._stale.add(roi)
        super().propagate_dirty(slot, roi)

    def propagate_change(self, parameter):
        with self._lock:
            self._stale.add(None)
        super().propagate_change(parameter)

    def execute(self, slot, roi, out):
        with self._lock:
            kept, since = self._kept.get(roi, (None, 0))
        if kept is None or since > self.graph.version:
            OpGood.execute(self, slot, roi, out)
            with self._lock:
                if self._stale.until(roi) is None:
                    self._kept[roi] = out.copy(), self._stale.since(roi)
        else:
            out[...] = kept


class OpSharedScratch(OpGood):
    """Computes in one array for all requests."""

    _scratch = None

    def execute(self, slot, roi, out):
        needed = self.needs(roi)
        if self._scratch is None or self._scratch.shape != self.image.meta.shape:
            self._scratch = np.empty(self.image.meta.shape)
        scratch = self._scratch[tuple(slice(0, n) for n in needed.shape)]
        scratch[...] = self.image.read(needed)
        self.blur(scratch, roi, needed, out)


class OpRemembersRegion(OpGood):
    """Passes the region along in an attribute while it waits for its input."""

    def execute(self, slot, roi, out):
        self._needed = self.needs(roi)
        pixels = self.image.read(self._needed).astype(np.float64)
        if pixels.shape != self._needed.shape:  # somebody else's by now
            pixels = np.zeros(self.needs(roi).shape)
        self.blur(pixels, roi, self.needs(roi), out)


class OpScratchPerThread(OpGood):
    """Has a scratch array per thread: safe in threads, not with requests that share one and wait."""

    def __init__(self, **slots):
        self._local = threading.local()
        super().__init__(**slots)

    def execute(self, slot, roi, out):
        needed = self.needs(roi)
        scratch = getattr(self._local, "scratch", None)
        if scratch is None:
            scratch = self._local.scratch = np.empty(self.image.meta.shape)
        scratch = scratch[tuple(slice(0, n) for n in needed.shape)]
        scratch[...] = self.image.read(needed)
        self.image.read(needed)  # where others come in between
        self.blur(scratch, roi, needed, out)


class OpChangesInput(OpGood):
    """Works in place on what it read."""

    def execute(self, slot, roi, out):
        pixels = self.image.read(roi)
        pixels *= 2
        out[...] = pixels

    def propagate_dirty(self, slot, roi):
        self.output.mark_dirty(roi)


class OpIgnoresStrides(OpGood):
    """Fills a flattened copy of a destination that is not contiguous."""

    def execute(self, slot, roi, out):
        result = np.empty(roi.shape)
        super().execute(slot, roi, result)
        out.reshape(-1)[:] = result.reshape(-1)


class OpAddsToDestination(OpGood):
    """Believes that a destination is empty, which is true as long as the memory is new."""

    def execute(self, slot, roi, out):
        result = np.empty(roi.shape)
        super().execute(slot, roi, result)
        if out.flags.c_contiguous and out.base is None:
            out[...] = 0
        out += result


class OpRandom(OpGood):
    """Gives something else every time."""

    def execute(self, slot, roi, out):
        super().execute(slot, roi, out)
        out += random.random()


class OpSwallowsCancel(OpGood):
    """Takes a cancellation for an error that it can handle."""

    def execute(self, slot, roi, out):
        try:
            super().execute(slot, roi, out)
        except Exception:
            raise
        except BaseException:
            out[...] = 0


class OpNeverLooks(OpGood):
    """Takes 0.2 s for a large region, and looks for no cancellation."""

    work_s = 0.2

    def execute(self, slot, roi, out):
        super().execute(slot, roi, out)
        end = time.thread_time() + self.work_s * min(roi.size / (1 << 18), 1)
        while time.thread_time() < end:
            self.pause()

    def pause(self):
        pass


class OpLooksOften(OpNeverLooks):
    """Takes as long, but comes to a checkpoint now and then: no fault."""

    def pause(self):
        checkpoint()


class OpKeepsLock(OpGood):
    """Does not release its lock when it is cancelled."""

    def __init__(self, **slots):
        self._free = RequestEvent()
        self._free.set()
        super().__init__(**slots)

    def execute(self, slot, roi, out):
        self._free.wait()
        try:
            self._free.clear()
            super().execute(slot, roi, out)
        except Exception:
            self._free.set()
            raise
        self._free.set()


class OpHalfWritten(OpStaleCache):
    """Enters a block into its cache before it is complete."""

    def propagate_dirty(self, slot, roi):
        self.plan.clear()
        super().propagate_dirty(slot, roi)

    def execute(self, slot, roi, out):
        results = self.plan
        if roi in results:
            out[...] = results[roi]
            return
        block = np.zeros(roi.shape)
        try:
            OpGood.execute(self, slot, roi, block)
        except Exception:
            raise
        except BaseException:
            results[roi] = block
            raise
        out[...] = block


class OpSwallowsErrors(OpGood):
    """Gives zeros where its input failed."""

    def execute(self, slot, roi, out):
        try:
            super().execute(slot, roi, out)
        except LazyflowError:
            out[...] = 0
        except Exception:
            out[...] = 0


class OpHidesCause(OpGood):
    """Raises something else, without saying from what."""

    def execute(self, slot, roi, out):
        failed = False
        try:
            super().execute(slot, roi, out)
        except Exception:
            failed = True
        if failed:
            raise RuntimeError("something went wrong")


class OpReadsAll(OpGood):
    """Asks for the whole image, whatever is asked of it."""

    def execute(self, slot, roi, out):
        whole = self.image.meta.roi
        result = np.empty(whole.shape)
        self.blur(self.image.read().astype(np.float64), whole, whole, result)
        out[...] = result[roi.slicing]


class OpReadsTooMuch(OpGood):
    """Reads more around a region than it says."""

    def needs(self, roi):
        return roi.with_halo([HALO + 2] * roi.ndim, within=self.image.meta.roi)

    def execute(self, slot, roi, out):
        self.image.read(self.needs(roi))
        needed = roi.with_halo([HALO] * roi.ndim, within=self.image.meta.roi)
        self.blur(self.image.read(needed).astype(np.float64), roi, needed, out)


class OpIsRemembered(OpGood):
    """Enters itself into a list that nobody empties."""

    everyone = []

    def __init__(self, **slots):
        super().__init__(**slots)
        self.everyone.append(self)


class OpRemembersPixels(OpGood):
    """Keeps its results where nobody drops them."""

    results = []

    def execute(self, slot, roi, out):
        super().execute(slot, roi, out)
        self.results.append(out)


class OpLeavesThread(OpGood):
    """Starts a thread and does not stop it."""

    def __init__(self, **slots):
        self._stop = threading.Event()
        thread = threading.Thread(target=self._stop.wait, daemon=True, name="left behind")
        LEFT_BEHIND.append((self._stop, thread))
        thread.start()
        super().__init__(**slots)


#: The threads that `OpLeavesThread` left behind, and the events that end them.
LEFT_BEHIND = []


class OpAsksItself(OpGood):
    """Computes through a request of its own; nothing is wrong with that."""

    def execute(self, slot, roi, out):
        result = np.empty(roi.shape)
        Request(lambda: OpGood.execute(self, slot, roi, result)).wait()
        out[...] = result


MUTANTS = {
    OpUnconnected: "loads",
    OpWrongRange: "meta_consistency",
    OpMetaOnce: "meta_consistency",
    OpEagerChange: "lazy",
    OpNotUndone: "setup_is_undone",
    OpCountsSetups: "setup_leaves_no_trace",
    OpEmptiesWhenSetUp: "setup_leaves_no_trace",
    OpMemoizesPlan: "plans_are_dropped_once",
    OpDropsItself: "plans_are_dropped_once",
    OpRandom: "determinism",
    OpWithoutHalo: "roi_consistency",
    OpNormalizesRegion: "roi_consistency",
    OpIgnoresStrides: "out_buffer",
    OpAddsToDestination: "out_buffer",
    OpChangesInput: "input_unchanged",
    OpReadsAll: "halo_bound",
    OpSaysPixelwise: "halo_bound",
    OpReadsTooMuch: "halo_bound",
    OpEagerDirty: "dirty_soundness",
    OpDirtyNotWidened: "dirty_soundness",
    OpFailingDirty: "dirty_soundness",
    OpParameterNotAnnounced: "dirty_completes",
    OpStaleCache: "dirty_completes",
    OpCachesStaleResult: "dirty_completes",
    OpSharedScratch: "thread_safety",
    OpRemembersRegion: "thread_safety",
    OpScratchPerThread: "interleavings",
    OpPlainPool: "sees_one_version",
    OpGeneration: "sees_one_version",
    OpSwallowsCancel: "cancel_safety",
    OpKeepsLock: "cancel_safety",
    OpNeverLooks: "stops_soon",
    OpHalfWritten: "cancel_safety",
    OpSwallowsErrors: "error_transparency",
    OpHidesCause: "error_transparency",
    OpIsRemembered: "no_leak",
    OpRemembersPixels: "no_leak",
    OpLeavesThread: "no_leak",
}
