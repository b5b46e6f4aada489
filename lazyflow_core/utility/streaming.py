"""Streaming: computing a region that need not fit in memory, block by block, in parallel.

The region is divided into blocks, a fixed number of which are computed at a time; each is handed on and
forgotten before the next one begins. How large blocks are follows from a number of bytes, not from hope.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import numpy.typing as npt

from lazyflow_core.blocks import BlockGrid, choose_block_shape
from lazyflow_core.errors import (
    ExecuteError,
    MemoryBudgetError,
    RequestError,
    RequestTimeoutError,
    RoiBoundsError,
)
from lazyflow_core.foreign import cause_of, contextmanager
from lazyflow_core.graph import ArraySlot, Snapshot
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.request import Request, RequestPool, RequestSemaphore
from lazyflow_core.roi import Roi
from lazyflow_core.storage import Writer
from lazyflow_core.utility.ledger import memory_ledger
from lazyflow_core.utility.memory import available_memory, format_bytes

__all__ = [
    "BlockPlan",
    "ExportResult",
    "Progress",
    "export",
    "plan_blocks",
    "process_blocks",
    "stream_blocks",
]

#: Larger blocks gain little: at 128 pixels a side a halo of 3 adds 15 %, and caches of a CPU are long full.
_MOST_PIXELS_PER_BLOCK: Final = 128**3

#: Smaller blocks are not worth a request and their halo, even where a worker would have nothing to do.
_LEAST_PIXELS_PER_BLOCK: Final = 64**3

#: Blocks after which the thread that processes them looks whether there are more to submit.
_BURST: Final = 16

#: Seconds after which it looks how far they are, where somebody wants to know.
_PROGRESS_SECONDS: Final = 0.05

#: Share of the available memory that streaming takes when no budget is given: others live here too.
_SHARE_OF_MEMORY: Final = 0.25

#: Share of what may be kept that it takes then, so that exporting does not empty the caches it reads from;
#: but however little may be kept, so many bytes are taken for what is computed.
_SHARE_OF_LEDGER: Final = 0.5
_LEAST_BYTES: Final = 64 * 2**20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come.

    Parameters
    ----------
    blocks, blocks_total
        Blocks that are done, and all.
    pixels, pixels_total
        Pixels that are done, and all.
    seconds
        Since the run began.
    """

    blocks: int
    blocks_total: int
    pixels: int
    pixels_total: int
    seconds: float


OnProgress = Callable[[Progress], object]


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """How a region will be divided: made before anything is computed, so it can be shown and refused.

    Parameters
    ----------
    roi
        The region.
    grid
        Its blocks, counted from the start of the region.
    in_flight
        How many blocks are computed at a time.
    bytes_per_block
        Memory one block is expected to need at the peak.
    """

    roi: Roi
    grid: BlockGrid
    in_flight: int
    bytes_per_block: int

    def __len__(self) -> int:
        return len(self.grid)

    @property
    def bytes_in_flight(self) -> int:
        """Memory that all blocks in flight are expected to need at the peak."""
        return self.bytes_per_block * min(self.in_flight, len(self))


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export has written.

    Parameters
    ----------
    meta
        Of the array that was written.
    blocks
        Number of blocks.
    bytes_stored
        Size in storage, in bytes.
    seconds
        How long it took.
    """

    meta: ArrayMeta
    blocks: int
    bytes_stored: int
    seconds: float


def plan_blocks(
    meta: ArrayMeta,
    roi: Roi | None = None,
    *,
    step: Sequence[int] | None = None,
    block_shape: Sequence[int] | None = None,
    memory_bytes: int | None = None,
    workers: int,
) -> BlockPlan:
    """Return how to divide a region into blocks.

    Parameters
    ----------
    meta
        Of the array.
    roi
        The region; default all of it.
    step
        What a block is a multiple of per axis, in pixels: the chunks of whoever takes the blocks. Default
        the array's preferred block.
    block_shape
        The block, where it is known already.
    memory_bytes
        Budget for all blocks in flight; default a quarter of the available memory, or half of what
        `memory_ledger` may keep if that is less.
    workers
        How many blocks may be computed at a time.

    Raises
    ------
    RoiBoundsError
        If the region reaches outside the array.

    Notes
    -----
    Where not even one block of one step fits, the plan has such blocks all the same, one at a time; `export`
    and `stream_blocks` refuse it.
    """
    roi = meta.roi if roi is None else roi
    if roi not in meta.roi:
        raise RoiBoundsError(f"{roi} is not inside an array of {meta}.")
    bytes_per_pixel = _bytes_per_pixel(meta)
    budget = _usual_budget() if memory_bytes is None else memory_bytes
    if block_shape is None:
        affordable = int(budget / (workers * bytes_per_pixel))
        fair = max(_LEAST_PIXELS_PER_BLOCK, -(-roi.size // (2 * workers)))
        block_shape = choose_block_shape(
            tuple(max(1, n) for n in roi.shape),
            most_pixels=max(1, min(affordable, fair, _MOST_PIXELS_PER_BLOCK)),
            step=step or meta.preferred_block,
            most=meta.max_block,
        )
    grid = BlockGrid(roi.stop, tuple(block_shape), origin=roi.start)
    pixels = min(roi.size, Roi.from_shape(block_shape).size)
    bytes_per_block = max(1, int(pixels * bytes_per_pixel))
    # Where one step alone is too large for the budget of all workers, fewer blocks are in flight.
    in_flight = max(1, min(workers, budget // bytes_per_block))
    return BlockPlan(roi, grid, in_flight, bytes_per_block)


def _usual_budget() -> int:
    share = min(available_memory() * _SHARE_OF_MEMORY, memory_ledger().budget_bytes * _SHARE_OF_LEDGER)
    return max(_LEAST_BYTES, int(share))


def _check_fits(slot: ArraySlot, plan: BlockPlan, memory_bytes: int | None) -> None:
    """Refuse a budget in which not one block fits, before anything is computed."""
    if memory_bytes is not None and len(plan) and plan.bytes_per_block > memory_bytes:
        block = " × ".join(map(str, plan.grid.block))
        raise MemoryBudgetError(
            f"{slot}: memory_bytes={memory_bytes} is too little; the smallest block that can be computed, "
            f"{block} pixels, takes {plan.bytes_per_block} bytes ({format_bytes(plan.bytes_per_block)})."
        )


def process_blocks(
    slot: ArraySlot,
    consume: Callable[[Roi, npt.NDArray[Any]], object],
    plan: BlockPlan,
    *,
    on_progress: OnProgress | None = None,
) -> None:
    """Compute all blocks of a plan and hand each one to ``consume`` in the worker that computed it.

    What a block is expected to need is reserved in `memory_ledger` as long as it is in flight, so caches make
    room for it. A block for which there is no memory is tried once more after all caches were emptied. All of
    them are of one version of the graph, the one that is current at the beginning, or that of a
    snapshot around it.

    Parameters
    ----------
    slot
        Where to ask.
    consume
        Called with the ROI of a block in the slot's coordinates and its array; several at once.
    plan
        From `plan_blocks`.
    on_progress
        Called in the caller's thread soon after every block, and once before the first.

    Raises
    ------
    ExecuteError
        If an operator fails.
    RequestError
        If ``consume`` fails; ``__cause__`` is why. Either way no block runs any more when it is raised.
    """
    count = _Progress(plan, on_progress)
    done: deque[Roi] = deque()
    with slot.graph.snapshot() as snapshot, _computing(slot, consume, plan, snapshot) as (pool, compute):

        def compute_and_tell(block: Roi) -> None:
            compute(block)
            done.append(block)

        # Workers always find the next block, and this thread sleeps while they do: being woken for each
        # would cost them more than the requests do.
        submitted: deque[Request[Any]] = deque()
        blocks = iter(plan.grid)
        while True:
            for block in itertools.islice(blocks, 2 * _BURST - len(submitted)):
                submitted.append(pool.submit(partial(compute_and_tell, block)))
            if not submitted:
                break
            burst = min(_BURST, len(submitted))
            try:
                submitted[burst - 1].block(timeout=_PROGRESS_SECONDS if on_progress else None)
            except RequestTimeoutError:
                pass
            except RequestError:
                break  # the pool says what was the first failure
            else:
                for _ in range(burst):
                    submitted.popleft()
            count.add(done)
    count.add(done)


def stream_blocks(
    slot: ArraySlot,
    roi: Roi | None = None,
    *,
    block_shape: Sequence[int] | None = None,
    memory_bytes: int | None = None,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[tuple[Roi, npt.NDArray[Any]]]:
    """Give the blocks of a region as they come, in no particular order.

    A block that was taken makes room for the next one, so only a few are in memory at a time. All of them are
    of one version of the graph, the one that is current when this is called.

    Parameters
    ----------
    slot
        Where to ask.
    roi, block_shape, memory_bytes
        See `plan_blocks`.
    workers
        How many blocks are computed at a time; default the workers of the graph's scheduler.
    on_progress
        See `process_blocks`.

    Raises
    ------
    MemoryBudgetError
        If not one block fits into ``memory_bytes``.

    Yields
    ------
    tuple of Roi and numpy.ndarray
        Region in the slot's coordinates, and its pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph, InputSlot, Operator, OutputSlot
    >>> class OpPass(Operator):
    ...     image = InputSlot()
    ...     output = OutputSlot()
    ...
    ...     def __init__(self, **slots):
    ...         super().__init__(**slots)
    ...         self.output.connect(self.image)
    >>> op = OpPass(graph=Graph(), image=np.ones((100, 100)))
    >>> int(sum(array.sum() for roi, array in stream_blocks(op.output, block_shape=(30, 30))))
    10000
    """
    # Held until the last block was taken, or whoever takes them is gone.
    snapshot = slot.graph.snapshot()
    with snapshot.seen():
        plan = plan_blocks(
            slot.meta,
            roi,
            block_shape=block_shape,
            memory_bytes=memory_bytes,
            workers=workers or slot.graph.scheduler.worker_count,
        )
    try:
        _check_fits(slot, plan, memory_bytes)
    except BaseException:
        snapshot.close()
        raise
    return _stream(slot, plan, on_progress, snapshot)


def export(
    slot: ArraySlot,
    writer: Writer,
    *,
    roi: Roi | None = None,
    memory_bytes: int | None = None,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> ExportResult:
    """Write a region block by block; the target appears when it is complete, or not at all.

    All of it is of one version of the graph, whatever changes meanwhile.

    Parameters
    ----------
    slot
        Where to ask.
    writer
        Opened for ``slot.meta.cropped(roi)``. It is committed at the end, or aborted if anything fails, a
        cancelled request and Ctrl-C included.
    roi
        The region; default all of it.
    memory_bytes
        See `plan_blocks`.
    workers, on_progress
        See `stream_blocks`.

    Raises
    ------
    MemoryBudgetError
        If not one block fits into ``memory_bytes``; nothing was computed then.
    RequestError
        If an operator or the writer fails; ``__cause__`` is why.
    StorageError
        If the end of writing fails.
    """
    began = time.perf_counter()
    try:
        with slot.graph.snapshot():
            meta = slot.meta
            plan = plan_blocks(
                meta,
                roi,
                step=writer.step,
                memory_bytes=memory_bytes,
                workers=workers or slot.graph.scheduler.worker_count,
            )
            _check_fits(slot, plan, memory_bytes)
            process_blocks(
                slot,
                lambda block, array: writer.write(block.relative_to(plan.roi), array),
                plan,
                on_progress=on_progress,
            )
        stored = writer.commit()
    except BaseException:
        writer.abort()
        raise
    return ExportResult(meta.cropped(plan.roi), len(plan), stored, time.perf_counter() - began)


def _stream(
    slot: ArraySlot, plan: BlockPlan, on_progress: OnProgress | None, snapshot: Snapshot
) -> Iterator[tuple[Roi, npt.NDArray[Any]]]:
    count = _Progress(plan, on_progress)
    try:
        with _computing(slot, lambda roi, array: (roi, array), plan, snapshot, plan.in_flight) as (
            pool,
            compute,
        ):
            for block, array in pool.map(compute, plan.grid):
                yield block, array
                count.add(deque([block]))
    finally:
        snapshot.close()


class _Progress:
    """Counts blocks that are done, and reports them."""

    def __init__(self, plan: BlockPlan, on_progress: OnProgress | None) -> None:
        self._plan = plan
        self._on_progress = on_progress
        self._began = time.perf_counter()
        self._blocks = self._pixels = 0
        self._report()

    def add(self, done: deque[Roi]) -> None:
        """Take what is in ``done`` away and report each."""
        while done:
            self._blocks += 1
            self._pixels += done.popleft().size
            self._report()

    def _report(self) -> None:
        if self._on_progress is not None:
            seconds = time.perf_counter() - self._began
            plan = self._plan
            self._on_progress(Progress(self._blocks, len(plan), self._pixels, plan.roi.size, seconds))


@contextmanager
def _computing(
    slot: ArraySlot,
    consume: Callable[[Roi, npt.NDArray[Any]], T],
    plan: BlockPlan,
    snapshot: Snapshot,
    most: int | None = None,
) -> Iterator[tuple[RequestPool[T], Callable[[Roi], T]]]:
    """Give a pool, and the function to compute and consume a block in it.

    ``most`` members at a time; of those the plan says how many are at work.
    """
    failed: list[ExecuteError] = []
    in_flight = RequestSemaphore(plan.in_flight)
    account = memory_ledger().account("streaming")

    def read(block: Roi) -> npt.NDArray[Any]:
        with snapshot.seen():
            try:
                return slot.read(block)
            except MemoryError:
                pass
            except ExecuteError as error:
                if not isinstance(cause_of(error), MemoryError):
                    raise
            # Outside of the clause, so that what failed is let go before it is tried again.
            memory_ledger().relieve()
            return slot.read(block)

    def compute(block: Roi) -> T:
        with in_flight, account.reserved(plan.bytes_per_block):
            try:
                array = read(block)
            except ExecuteError as error:
                failed.append(error)
                raise
            return consume(block, array)

    try:
        with RequestPool[T](most, scheduler=slot.graph.scheduler, keep_results=most is not None) as pool:
            yield pool, compute
    except RequestError as error:
        # A request keeps only the root cause; which operator it was, on which way, is worth more.
        for each in failed:
            if each.__cause__ is error.__cause__:
                raise ExecuteError(each.args[0], each.path) from each.__cause__
        raise


def _bytes_per_pixel(meta: ArrayMeta) -> float:
    """Return what one pixel is expected to cost, with a guess where the operators do not say.

    The guess is the result, its input and one float64 in between.
    """
    return meta.ram_per_pixel or 2 * meta.dtype.itemsize + 8
