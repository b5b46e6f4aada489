import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyflow_core.errors import ExecuteError, MemoryBudgetError, RequestError, RoiBoundsError, StorageError
from lazyflow_core.graph import Graph, InputSlot, Operator, OutputSlot
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.request import RequestEvent
from lazyflow_core.roi import Roi
from lazyflow_core.utility import Holding, export, memory_ledger, plan_blocks, process_blocks, stream_blocks

IMAGE = np.arange(10 * 13.0).reshape(10, 13)


class OpNegate(Operator):
    image = InputSlot()
    output = OutputSlot()

    def setup_outputs(self):
        self.output.meta = self.image.meta

    def execute(self, slot, roi, out):
        np.negative(self.image.read(roi), out=out)

    def propagate_dirty(self, slot, roi):
        self.output.mark_dirty(roi)


class ArrayWriter:
    """Writes into an array and remembers what was done to it."""

    def __init__(self, shape, step=(4, 4)):
        self.array = np.full(shape, np.nan)
        self.count = np.zeros(shape, int)
        self.step = step
        self.events = []
        self.lock = threading.Lock()

    def write(self, roi, data):
        assert all(a % s == 0 for a, s in zip(roi.start, self.step, strict=True))
        with self.lock:
            self.array[roi.slicing] = data
            self.count[roi.slicing] += 1

    def commit(self):
        self.events.append("commit")
        return self.array.nbytes

    def abort(self):
        self.events.append("abort")


@pytest.fixture
def op(graph):
    return OpNegate(graph=graph, image=IMAGE)


def test_the_blocks_of_a_stream_make_up_the_region(op):
    roi = Roi((1, 2), (9, 13))
    got = np.full(IMAGE.shape, np.nan)
    for block, array in stream_blocks(op.output, roi, block_shape=(3, 5)):
        got[block.slicing] = array
    assert np.array_equal(got[roi.slicing], -IMAGE[roi.slicing])
    assert np.isnan(got).sum() == IMAGE.size - roi.size


def test_a_stream_that_is_left_early_computes_no_more(graph):
    seen = []

    class OpCount(OpNegate):
        def execute(self, slot, roi, out):
            seen.append(roi)
            super().execute(slot, roi, out)

    counted = OpCount(graph=graph, image=IMAGE)
    stream = stream_blocks(counted.output, block_shape=(1, 1), workers=2)
    next(stream)
    stream.close()
    assert len(seen) <= 6  # of 130


def test_an_export_writes_every_pixel_once_aligned_to_the_writer(op):
    roi = Roi((1, 2), (9, 13))
    writer = ArrayWriter(roi.shape)
    result = export(op.output, writer, roi=roi)
    assert np.array_equal(writer.array, -IMAGE[roi.slicing])
    assert (writer.count == 1).all()
    assert writer.events == ["commit"]
    assert result.meta.shape == roi.shape
    assert result.bytes_stored == writer.array.nbytes


def test_progress_begins_with_nothing_and_ends_with_everything(op):
    heard = []
    writer = ArrayWriter(IMAGE.shape)
    plan = plan_blocks(op.output.meta, step=writer.step, block_shape=(4, 4), workers=2)
    process_blocks(op.output, writer.write, plan, on_progress=heard.append)
    assert (heard[0].blocks, heard[0].pixels) == (0, 0)
    assert [p.blocks for p in heard] == list(range(len(plan) + 1))
    assert heard[-1].pixels == heard[-1].pixels_total == IMAGE.size


def test_an_export_whose_operator_fails_is_aborted_and_says_why(graph):
    class OpFail(OpNegate):
        def execute(self, slot, roi, out):
            raise ValueError("broken pixel")

    writer = ArrayWriter(IMAGE.shape)
    with pytest.raises(ExecuteError, match=r"^OpFail\.output \[.*\]: ValueError: broken pixel$"):
        export(OpFail(graph=graph, image=IMAGE).output, writer)
    assert writer.events == ["abort"]


def test_an_export_whose_writer_fails_is_aborted_and_keeps_the_cause(op):
    class FullDisk(ArrayWriter):
        def write(self, roi, data):
            raise StorageError("out.zarr: no space left on device")

    writer = FullDisk(IMAGE.shape)
    with pytest.raises(RequestError) as caught:
        export(op.output, writer)
    assert isinstance(caught.value.__cause__, StorageError)
    assert writer.events == ["abort"]


def test_an_export_whose_end_fails_is_aborted(op):
    class NoCommit(ArrayWriter):
        def commit(self):
            raise StorageError("out.h5: no space left on device")

    writer = NoCommit(IMAGE.shape)
    with pytest.raises(StorageError):
        export(op.output, writer)
    assert writer.events == ["abort"]


def test_an_interrupted_export_is_aborted(op):
    def interrupt(progress):
        if progress.blocks:
            raise KeyboardInterrupt

    writer = ArrayWriter(IMAGE.shape)
    with pytest.raises(KeyboardInterrupt):
        export(op.output, writer, on_progress=interrupt)
    assert writer.events == ["abort"]


def test_no_more_blocks_than_planned_are_in_flight():
    running, most = 0, 0
    lock = threading.Lock()
    both = RequestEvent()

    class OpGate(OpNegate):
        def execute(self, slot, roi, out):
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
                if running == 2:
                    both.set()
            both.wait()
            super().execute(slot, roi, out)
            with lock:
                running -= 1

    with Graph() as graph:
        gate = OpGate(graph=graph, image=IMAGE)
        blocks = list(stream_blocks(gate.output, block_shape=(2, 13), workers=2))
    assert len(blocks) == 5
    assert most == 2


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300), st.integers(1, 300)),
    st.integers(10**4, 10**8),
    st.integers(1, 8),
)
def test_a_plan_keeps_its_memory_budget_as_long_as_single_pixels_allow(shape, memory_bytes, workers):
    meta = ArrayMeta(shape, "float32", axes="zyx", ram_per_pixel=24.0)
    plan = plan_blocks(meta, memory_bytes=memory_bytes, workers=workers)
    assert plan.bytes_in_flight <= memory_bytes
    assert 1 <= plan.in_flight <= workers


def test_a_plan_gives_every_worker_something_to_do():
    meta = ArrayMeta((32, 128, 128), "uint8", axes="zyx")
    assert len(plan_blocks(meta, workers=2)) >= 2


def test_a_storage_chunk_larger_than_the_budget_is_computed_alone():
    meta = ArrayMeta((100, 100), "float32", ram_per_pixel=10)
    plan = plan_blocks(meta, step=(100, 100), memory_bytes=50_000, workers=8)
    assert (len(plan), plan.in_flight) == (1, 1)


def test_a_budget_of_half_a_block_is_refused_before_anything_is_computed(op):
    meta = op.output.meta
    step = meta.shape
    needed = plan_blocks(meta, step=step, block_shape=step, workers=1).bytes_per_block
    writer = ArrayWriter(IMAGE.shape, step)
    for memory_bytes in (needed // 2, 0):
        with pytest.raises(MemoryBudgetError, match=f"takes {needed} bytes"):
            export(op.output, writer, memory_bytes=memory_bytes)
        with pytest.raises(MemoryBudgetError, match=r"memory_bytes=\d+ is too little"):
            stream_blocks(op.output, block_shape=step, memory_bytes=memory_bytes)
    assert op.graph._versions.alive() == [op.graph._versions.current]
    export(op.output, ArrayWriter(IMAGE.shape, step), memory_bytes=needed)
    assert len(list(stream_blocks(op.output, block_shape=step, memory_bytes=needed))) == 1


class OpShort(Operator):
    """Has no memory for a block before caches gave some back, or never."""

    image = InputSlot()
    output = OutputSlot()

    def __init__(self, **slots):
        self.missing = 0
        super().__init__(**slots)

    def setup_outputs(self):
        self.output.meta = self.image.meta

    def execute(self, slot, roi, out):
        if memory_ledger().account("test").used_bytes or self.missing:
            raise MemoryError("no room")
        out[...] = self.image.read(roi)

    def propagate_dirty(self, slot, roi):
        self.output.mark_dirty(roi)


def test_a_block_for_which_there_is_no_memory_is_tried_again_after_caches_gave_theirs_back(graph):
    account, kept = memory_ledger().account("test"), []
    holding = Holding(10, kept.remove)
    kept.append(holding)
    account.keep(holding)
    short = OpShort(graph=graph, image=np.arange(12).reshape(3, 4))
    blocks = list(stream_blocks(short.output, block_shape=(2, 4), workers=1))
    assert (len(blocks), kept) == (2, [])
    short.missing = 1
    with pytest.raises(ExecuteError, match=r"OpShort\.output.*MemoryError"):
        list(stream_blocks(short.output, block_shape=(2, 4), workers=1))
    short.missing = 0
    assert len(list(stream_blocks(short.output, block_shape=(2, 4), workers=1))) == 2


def test_blocks_in_flight_are_reserved_as_long_as_they_are(op):
    account = memory_ledger().account("streaming")
    plan = plan_blocks(op.output.meta, block_shape=(4, 4), workers=2)
    seen = []
    process_blocks(op.output, lambda roi, array: seen.append(account.used_bytes), plan)
    assert seen
    assert set(seen) <= {plan.bytes_per_block, 2 * plan.bytes_per_block}
    assert account.used_bytes == 0
    with pytest.raises(RequestError):
        process_blocks(op.output, lambda roi, array: 1 / 0, plan)
    assert account.used_bytes == 0


def test_a_region_outside_is_refused_before_anything_is_computed(op):
    with pytest.raises(RoiBoundsError):
        stream_blocks(op.output, Roi((0, 0), (11, 13)))


def test_an_empty_region_has_no_blocks(op):
    assert list(stream_blocks(op.output, Roi((1, 1), (1, 5)))) == []
