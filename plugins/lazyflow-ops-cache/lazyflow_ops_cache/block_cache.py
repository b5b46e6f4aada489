"""`OpBlockCache`: what is upstream, computed once per block and kept."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from lazyflow_core import (
    ArrayMeta,
    BlockGrid,
    InputSlot,
    Operator,
    OutputSlot,
    ParameterSlot,
    RequestPool,
    Roi,
)
from lazyflow_core.blocks import choose_block_shape
from lazyflow_core.errors import ExecuteError, RequestCancelledError, SetupError
from lazyflow_core.graph import SlotRequest
from lazyflow_core.request import checkpoint, current_request

from lazyflow_ops_cache.memory import Block, Packed, memory_manager, tick
from lazyflow_ops_cache.policy import CachePolicy, policy_of
from lazyflow_ops_cache.store import BlockStore, Count, Key

__all__ = ["OpBlockCache"]

Array = npt.NDArray[Any]
#: The slices of one block, or of a region, per axis.
Slices = tuple[slice, ...]

#: Pixels of a block where nothing else is said: a cube of 64, or a square of 512.
_USUAL_PIXELS: Final = 64**3

#: Blocks that one request computes at a time: enough for all workers, few enough to bound the memory.
_MOST_IN_FLIGHT: Final = 64


#: Parts of at least so many bytes, with rows of at most so many, are copied row by row (measured:
#: benchmarks/cache.py, a part of 64³ bytes in a third of the time).
_LARGE_BYTES: Final = 2**14
_SHORT_ROW_BYTES: Final = 512


def _check_block(block: tuple[Any, ...]) -> str | None:
    for side in block:
        if isinstance(side, bool) or not isinstance(side, int) or side < 0:
            return f"has {side!r} in it, which is no number of pixels, or 0 for a whole axis"
    return None


class _Plan(NamedTuple):
    """What a cache prepares when it is set up: how its image is divided, and where blocks are kept."""

    grid: BlockGrid
    policy: CachePolicy
    store: BlockStore[_BlockRequest]


class OpBlockCache(Operator):
    """Keep what was computed, block by block, until it is dirty or its memory is needed.

    A request is answered from the blocks it touches. Those that are missing are computed, several at the
    same time, and each once however many ask for it: later askers are suspended until it is there. A block
    that went dirty while it was being computed goes to those who began before, and is not kept for others.

    Inputs
    ------
    image : InputSlot, any axes, any dtype
    block : ParameterSlot[tuple]
        Shape of a block in pixels, one number per axis of ``image``; 0 for a whole axis. Empty: about 64³
        pixels (or one time point), made of whole preferred blocks of ``image``.

    Outputs
    -------
    output : OutputSlot, the same as ``image``
        Prefers requests aligned to blocks.

    Regions
    -------
    pull   ``roi`` needs all blocks that it touches, whole; nothing of those that are kept.
    push   a dirty ROI stays as it is, and drops the blocks it touches, for who begins after it. Another block
           shape changes no pixel and drops everything, as does another meta.

    Memory
    ------
    The blocks that are kept, within the budget of `memory_manager`; besides that up to 64 blocks per
    request while they are computed and copied. A plugin may decide by the hook ``cache_policy``
    that a cache keeps nothing, keeps its blocks compressed, or goes before or after others.

    Threading
    ---------
    Any number of requests and threads at once. Reading what is kept takes no lock.

    Raises
    ------
    SetupError
        If ``block`` has another length than the image has axes, or the budget is given as what is no size.

    Examples
    --------
    >>> from lazyflow_core import Graph
    >>> cache = OpBlockCache(graph=Graph(), image=np.arange(24).reshape(4, 6), block=(2, 3))
    >>> cache.output[1, 2:4].wait()
    array([[8, 9]])
    >>> cache.computed_blocks, cache.used_bytes
    (2, 96)
    """

    image = InputSlot(doc="what to keep")
    block = ParameterSlot(tuple, default=(), check=_check_block, doc="shape of a block; empty: chosen")
    output = OutputSlot()

    def __init__(self, **slots: Any) -> None:
        #: How many blocks the stores of all plans kept so far. Guarded by the lock of the memory manager.
        self._computed = Count()
        super().__init__(**slots)

    # ------------------------------------------------------------------------------------- what users ask

    @property
    def used_bytes(self) -> int:
        """Bytes of the blocks that are kept."""
        return self.plan.store.nbytes if self.plan else 0

    @property
    def clean_blocks(self) -> list[Roi]:
        """The blocks that are kept, in no order."""
        plan = self.plan
        return [plan.grid.roi_of(key) for key in list(plan.store.blocks)] if plan else []

    @property
    def computed_blocks(self) -> int:
        """How many blocks were computed and kept so far: more than there are means computed again."""
        return self._computed.number

    # ----------------------------------------------------------------------------------- what the graph asks

    def setup_outputs(self) -> _Plan:
        """Return the grid of blocks, and an empty store for them: of another meta none is kept."""
        meta = self.image.meta
        # A budget that is no size is refused here, not while computing.
        budget_bytes = memory_manager().budget_bytes
        grid = BlockGrid(meta.shape, self._block_shape(meta))
        policy = policy_of("cache.blocks", meta, budget_bytes)
        itemsize = meta.dtype.itemsize
        self.output.meta = meta.replace(
            preferred_block=grid.block,
            max_block=None,
            ram_per_pixel=max(meta.ram_per_pixel or 0, itemsize) + itemsize,
        )
        return _Plan(grid, policy, BlockStore(memory_manager(), self._computed, self.graph))

    def drop(self, plan: _Plan) -> None:
        """Free the blocks."""
        plan.store.clear()

    def execute(self, slot: Any, roi: Roi, out: Array) -> None:
        plan, version = self.plan, self.graph.version
        if not plan.policy.keep:
            self.image.read(roi, out=out)
            return
        blocks = plan.store.blocks
        missing = []
        for key, source, target in _parts(plan.grid, roi):
            block = blocks.get(key)
            if block is None or block.since > version:
                missing.append((key, source, out[target]))
            else:
                block.used = tick()
                _copy(block.data[source], out[target])
        if len(missing) == 1:
            self._fetch(plan, *missing[0])
        elif missing:
            self._fetch_all(plan, missing)

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        plan = self.plan
        sides = plan.grid.block
        first = [a // side for a, side in zip(roi.start, sides, strict=True)]
        stop = [-(-b // side) for b, side in zip(roi.stop, sides, strict=True)]
        plan.store.invalidate(first, stop)
        self.output.mark_dirty(roi)

    def propagate_change(self, parameter: Any) -> None:
        """Another block shape changes no pixel."""

    # -------------------------------------------------------------------------------------------- the parts

    def _block_shape(self, meta: ArrayMeta) -> tuple[int, ...]:
        block = self.block.value
        if not meta.ndim:
            raise SetupError(
                "the image has no axes, so there are no blocks to keep; connect around the cache."
            )
        if not block:
            time = meta.axes.of_kind("time")
            most = [1 if axis in time else side for axis, side in enumerate(meta.max_block or meta.shape)]
            return choose_block_shape(
                meta.shape, most_pixels=_USUAL_PIXELS, step=meta.preferred_block, most=most
            )
        if len(block) != meta.ndim:
            raise SetupError(
                f"block={block} has {len(block)} numbers, but the image has {meta.ndim} axes ({meta})."
            )
        return tuple(
            max(1, min(side or length, length)) for side, length in zip(block, meta.shape, strict=True)
        )

    def _fetch_all(self, plan: _Plan, missing: list[tuple[Key, Slices, Array]]) -> None:
        """Compute several blocks at the same time and copy each into its place as soon as it is there."""
        fetched: list[Key] = []
        failures: list[ExecuteError] = []

        def fetch(key: Key, source: Slices, target: Array) -> None:
            try:
                self._fetch(plan, key, source, target)
                fetched.append(key)
            except ExecuteError as error:
                # Kept, not raised: it names the operator that failed, and the pool would wrap it.
                failures.append(error)
                pool.cancel()

        # Outside any request nobody hands down a scheduler.
        scheduler = self.graph.scheduler if current_request() is None else None
        # A request per asker and block around the one they share: it is this one that waits for the block, so
        # cancelling one asker leaves the block to the others.
        pool = RequestPool[None](
            _MOST_IN_FLIGHT, name=f"blocks of {self.name}", scheduler=scheduler, keep_results=False
        )
        try:
            with pool:
                for part in missing:
                    pool.submit(partial(fetch, *part))
        except RequestCancelledError:
            if not failures:
                raise
        if failures:
            raise failures[0]
        if len(fetched) < len(missing):
            # Members that are cancelled are no error to the pool, but pixels are missing.
            checkpoint()
            raise RequestCancelledError(f"{self.name}: computing its blocks was cancelled.")

    def _fetch(self, plan: _Plan, key: Key, source: Slices, target: Array) -> None:
        """Copy a part of one block, whoever computes it."""
        version = self.graph.version
        while True:
            request = _BlockRequest(self, plan, key)
            # Whatever its end, also without having begun, its claim ends before those who wait are woken.
            request.on_done(partial(plan.store.give_up, key))
            found = plan.store.find_or_claim(key, request, version)
            if isinstance(found, Block):
                found.used = tick()
                _copy(found.data[source], target)
                return
            try:
                data = found.wait()
            except RequestCancelledError:
                continue  # those who wanted it were cancelled before we joined them: our turn
            if found.holds_in(version):
                _copy(data[source], target)
                return
            # Whoever claimed it was cancelled before it began, so it saw another version than that one: our
            # turn.


def _parts(grid: BlockGrid, roi: Roi) -> zip[tuple[Key, Slices, Slices]]:
    """Give the key of each block that a ROI touches, its part in the block and its part in the ROI."""
    keys, sources, targets = [], [], []
    for start, stop, side in zip(roi.start, roi.stop, grid.block, strict=True):
        numbers, froms, tos = [], [], []
        begin = start
        while begin < stop:
            number = begin // side
            origin = number * side
            end = min(origin + side, stop)
            numbers.append(number)
            froms.append(slice(begin - origin, end - origin))
            tos.append(slice(begin - start, end - start))
            begin = end
        keys.append(numbers)
        sources.append(froms)
        targets.append(tos)
    # Products, not a loop: a request for thousands of blocks spends its time in C.
    return zip(product(*keys), product(*sources), product(*targets), strict=True)


def _copy(source: Array, target: Array) -> None:
    """Copy a part of a block."""
    if source.nbytes >= _LARGE_BYTES and source.strides[-1] == target.strides[-1] == source.itemsize:
        row_bytes = source.shape[-1] * source.itemsize
        if row_bytes <= _SHORT_ROW_BYTES:
            # Whole rows as single elements: numpy's price per row is more than copying such a row.
            row = np.dtype((np.void, row_bytes))
            source, target = source.view(row), target.view(row)
    np.copyto(target, source)


class _BlockRequest(SlotRequest):
    """Computes one block of a cache and offers it for keeping. Shared by all who ask meanwhile."""

    __slots__ = ("_cache", "_key", "_plan", "_span")

    def __init__(self, cache: OpBlockCache, plan: _Plan, key: Key) -> None:
        super().__init__(cache.image, plan.grid.roi_of(key))
        self._cache = cache
        self._plan = plan
        self._key = key
        #: The versions in which the result holds; none before there is one.
        self._span: tuple[int, int | None] = (0, 0)

    def holds_in(self, version: int) -> bool:
        """Whether the result is that of a version, too."""
        since, until = self._span
        return since <= version and (until is None or version < until)

    def _compute(self, out: Any) -> Array:
        plan = self._plan
        if self._cache.plan is not plan:
            # The version it was made in is gone, and its plan: of the grid of another one nobody wants it.
            return np.empty(0)
        # An array of its own: what the input returns could be a view of something larger.
        data = super()._compute(np.empty(self.roi.shape, self.slot.meta.dtype))
        checkpoint()  # what a cancelled request leaves need not be complete
        packed = Packed(data) if plan.policy.compress else data
        self._span = plan.store.keep(
            self._key, self, min(packed, data, key=_nbytes), plan.policy.priority, self._cache.graph.version
        )
        return data


def _nbytes(kept: Array | Packed) -> int:
    return kept.nbytes
