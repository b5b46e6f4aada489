"""`OpBlockCache`: what is upstream, computed once per block and kept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from itertools import product
from math import prod
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
from lazyflow_core.foreign import cause_of
from lazyflow_core.graph import SlotRequest
from lazyflow_core.request import checkpoint, current_request

from lazyflow_ops_cache.memory import Block, memory_manager, tick
from lazyflow_ops_cache.policy import CachePolicy, policy_of
from lazyflow_ops_cache.saved_blocks import read_blocks, write_blocks
from lazyflow_ops_cache.storage import Packed, Pixels, Spilled, SpillFile
from lazyflow_ops_cache.store import BlockStore, Count, Key

__all__ = ["OpBlockCache"]

Array = npt.NDArray[Any]
#: The slices of one block, or of a region, per axis.
Slices = tuple[slice, ...]

#: Pixels of a block where nothing else is said: a cube of 64, or a square of 512.
_USUAL_PIXELS: Final = 64**3

#: Blocks that one request computes at a time: enough for all workers, few enough to bound the memory; and the
#: part of the budget that they may take, where that is less.
_MOST_IN_FLIGHT: Final = 64
_SHARE_IN_FLIGHT: Final = 1 / 8

#: What `OpBlockCache.storage` may be.
_STORAGES: Final = ("memory", "compressed", "disk")


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

    meta: ArrayMeta
    grid: BlockGrid
    policy: CachePolicy
    storage: str
    store: BlockStore[_BlockRequest]
    #: Where blocks on disk are; None for other storages.
    file: SpillFile | None
    #: Whether requests are handed on as they are.
    passes: bool
    #: The version in which the frozen time began that it belongs to; None if it is not frozen.
    frozen_since: int | None

    def keeps_as(self, other: _Plan) -> bool:
        """Whether the blocks of another plan are what this one would keep."""
        return self[:4] == other[:4]


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
    storage : ParameterSlot[str]
        ``"memory"``, as they are; ``"compressed"``, packed in memory; ``"disk"``, packed in a file without a
        name, with a copy in memory as long as there is room for it, so that none has to be computed twice.
    frozen : ParameterSlot[bool]
        While it is set nothing is computed, and nothing goes stale: blocks that are kept are given as they
        are, others as 0, and `outdated` says where that is not what is upstream. When it ends, that is
        announced.
    bypass : ParameterSlot[bool]
        Hand requests on as they are, and keep nothing new. Goes before ``frozen``.

    Outputs
    -------
    output : OutputSlot, the same as ``image``
        Prefers requests aligned to blocks.
    outdated : OutputSlot[tuple]
        Regions where a frozen cache gives what was upstream earlier, or 0 because somebody asked for what was
        never computed; otherwise empty.

    Regions
    -------
    pull   ``roi`` needs all blocks that it touches, whole; nothing of those that are kept.
    push   a dirty ROI stays as it is, and drops the blocks it touches, for who begins after it. Another block
           shape or storage changes no pixel and drops everything, as does another meta. While it is frozen
           nothing is announced; when that ends, all that went stale since, in whole blocks.

    Memory
    ------
    The blocks that are kept, within the budget of `memory_manager`; besides that up to 64 blocks per
    request while they are computed and copied, fewer if they would take more than an eighth of the budget. A
    plugin may decide by the hook ``cache_policy``
    that a cache keeps nothing, keeps its blocks compressed, or goes before or after others.

    Threading
    ---------
    Any number of requests and threads at once. Reading what is kept takes no lock.

    Raises
    ------
    SetupError
        If ``block`` has another length than the image has axes, the budget is given as what is no size, or
        a frozen cache would lose its blocks to another ``block`` or ``storage``.

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
    storage = ParameterSlot(str, default="memory", choices=_STORAGES, doc="where blocks are kept, and how")
    frozen = ParameterSlot(bool, default=False, doc="give what is kept, and compute nothing")
    bypass = ParameterSlot(bool, default=False, doc="hand requests on, and keep nothing new")
    output = OutputSlot()
    outdated = OutputSlot(value=tuple, doc="where a frozen cache gives what is not upstream any more")

    def __init__(self, **slots: Any) -> None:
        #: How many blocks the stores of all plans kept so far. Guarded by the lock of the memory manager.
        self._computed = Count()
        super().__init__(**slots)

    # ------------------------------------------------------------------------------------- what users ask

    @property
    def used_bytes(self) -> int:
        """Bytes of memory of the blocks that are kept; of those on disk only of the copies in memory."""
        return self.plan.store.nbytes if self.plan else 0

    @property
    def disk_bytes(self) -> int:
        """Bytes of the blocks on disk."""
        plan = self.plan
        return plan.file.nbytes if plan and plan.file else 0

    @property
    def clean_blocks(self) -> list[Roi]:
        """The blocks that are kept, in no order."""
        plan = self.plan
        return [plan.grid.roi_of(key) for key in list(plan.store.blocks)] if plan else []

    @property
    def computed_blocks(self) -> int:
        """How many blocks were computed and kept so far: more than there are means computed again."""
        return self._computed.number

    def save(self, path: str | os.PathLike[str], *, fingerprint: str = "") -> int:
        """Write the blocks that are clean to a file, and return how many there are.

        The file is complete, or as it was before, whatever happens meanwhile.

        Parameters
        ----------
        path
            The file; what has the name is replaced.
        fingerprint
            What the blocks were computed from, as a text that `restore` compares: the name and date of a
            file, the parameters. The cache cannot know it.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        with self.graph.snapshot():
            plan, version = self.plan, self.graph.version
            everything = (slice(None),) * plan.meta.ndim
            blocks = ((key, block.data[everything]) for key, block in plan.store.clean_at(version))
            return write_blocks(path, plan.meta, plan.grid, fingerprint, blocks)

    def restore(self, path: str | os.PathLike[str], *, fingerprint: str = "") -> int:
        """Keep the blocks in a file that `save` wrote, as far as there is room; return how many there were.

        That they are what would be computed is for the caller to know.

        Raises
        ------
        FormatError
            If it is damaged, or has another shape, dtype, block shape or fingerprint.
        StorageError
            If it cannot be read.
        """
        with self.graph.snapshot():
            plan, version = self.plan, self.graph.version
            count = 0
            for key, data in read_blocks(path, plan.meta, plan.grid, fingerprint):
                checkpoint()
                plan.store.restore(key, self._kept(plan, data), plan.policy.priority, version)
                count += 1
            return count

    # ----------------------------------------------------------------------------------- what the graph asks

    def setup_outputs(self) -> _Plan:
        """Return the grid of blocks, and a store for them: of another meta none is kept."""
        meta = self.image.meta
        # A budget that is no size is refused here, not while computing.
        budget_bytes = memory_manager().budget_bytes
        grid = BlockGrid(meta.shape, self._block_shape(meta))
        policy = policy_of("cache.blocks", meta, budget_bytes)
        storage = self.storage.value
        if storage == "memory" and policy.compress:
            storage = "compressed"
        if meta.dtype.hasobject:
            storage = "memory"  # only as long as the process knows where they are
        itemsize = meta.dtype.itemsize
        self.output.meta = meta.replace(
            preferred_block=grid.block,
            max_block=None,
            ram_per_pixel=max(meta.ram_per_pixel or 0, itemsize) + itemsize,
        )
        passes = self.bypass.value or not policy.keep
        frozen_since = self.graph.version if self.frozen.value and not passes else None
        before: _Plan | None = self.plan
        if before is not None and before[:4] == (meta, grid, policy, storage) and before.store.lease():
            if frozen_since is not None and before.frozen_since is not None:
                frozen_since = before.frozen_since
            return before._replace(passes=passes, frozen_since=frozen_since)
        if before is not None and before.frozen_since is not None and frozen_since and before.meta == meta:
            raise SetupError(
                "a frozen cache would lose its blocks to another shape of block or another storage; set "
                "frozen to False first."
            )
        store = BlockStore[_BlockRequest](memory_manager(), self._computed, self.graph, self.name)
        store.frozen_since = frozen_since
        file = SpillFile() if storage == "disk" else None
        return _Plan(meta, grid, policy, storage, store, file, passes, frozen_since)

    def drop(self, plan: _Plan) -> None:
        """Free the blocks, unless another plan has them, too."""
        plan.store.release()

    def execute(self, slot: Any, roi: Roi, out: Array) -> None:
        plan, version = self.plan, self.graph.version
        if plan.passes:
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
        if missing and plan.frozen_since is not None:
            missing = self._without_frozen(plan, missing)
        if len(missing) == 1:
            self._fetch(plan, *missing[0])
        elif missing:
            self._fetch_all(plan, missing)

    def compute_value(self, slot: Any) -> tuple[Roi, ...]:
        plan = self.plan
        if plan.frozen_since is None:
            return ()
        return tuple(self._box_of(plan, first, stop) for first, stop in plan.store.outdated)

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        plan = self.plan
        sides = plan.grid.block
        first = [a // side for a, side in zip(roi.start, sides, strict=True)]
        stop = [-(-b // side) for b, side in zip(roi.stop, sides, strict=True)]
        if plan.frozen_since is not None:
            plan.store.withhold(first, stop)
            self.outdated.mark_dirty()
            return
        plan.store.invalidate(first, stop)
        self.output.mark_dirty(roi)

    def propagate_change(self, parameter: Any) -> None:
        """Nothing changes a pixel but the end of a frozen time."""
        plan = self.plan
        if plan.store.frozen_since == plan.frozen_since:
            return
        self.outdated.mark_dirty()
        if plan.frozen_since is not None:
            plan.store.freeze(plan.frozen_since)
            return
        for first, stop in plan.store.thaw():
            self.output.mark_dirty(self._box_of(plan, first, stop))

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

    @staticmethod
    def _box_of(plan: _Plan, first: Sequence[int], stop: Sequence[int]) -> Roi:
        """Return the pixels of a box of the grid."""
        start = [a * side for a, side in zip(first, plan.grid.block, strict=True)]
        ends = [b * side for b, side in zip(stop, plan.grid.block, strict=True)]
        return Roi(start, ends) & plan.meta.roi

    def _without_frozen(
        self, plan: _Plan, missing: list[tuple[Key, Slices, Array]]
    ) -> list[tuple[Key, Slices, Array]]:
        """Give 0 for what is missing in a frozen time; return all of it, if that time is over."""
        rest = []
        for part in missing:
            key, _, target = part
            if plan.store.misses(key, plan.frozen_since):
                target[...] = np.zeros((), target.dtype)
            else:
                rest.append(part)
        return rest

    def _kept(self, plan: _Plan, data: Array) -> Pixels:
        """Return the pixels of a block as they are to be kept: packed only where that makes them smaller."""
        if plan.file is not None:
            return Spilled.written(data, plan.file, plan.store.account, plan.policy.priority) or data
        if plan.storage == "compressed":
            packed = Packed(data)
            return packed if packed.nbytes < data.nbytes else data
        return data

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
        affordable = (
            memory_manager().budget_bytes
            * _SHARE_IN_FLIGHT
            / (plan.meta.dtype.itemsize * prod(plan.grid.block))
        )
        most = max(self.graph.scheduler.worker_count, min(_MOST_IN_FLIGHT, int(affordable)))
        pool = RequestPool[None](most, name=f"blocks of {self.name}", scheduler=scheduler, keep_results=False)
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
        current = self._cache.plan
        if current is None or current.store is not plan.store:
            # The version it was made in is gone, and its plan: of the grid of another one nobody wants it.
            return np.empty(0)
        nbytes = self.roi.size * self.slot.meta.dtype.itemsize
        reservation = memory_manager().computing.reserve(nbytes)
        try:
            data = self._pixels()
            checkpoint()  # what a cancelled request leaves need not be complete
            kept = self._cache._kept(plan, data)
        finally:
            reservation.release()
        version = self._cache.graph.version
        self._span = plan.store.keep(self._key, self, kept, plan.policy.priority, version)
        return data

    def _pixels(self) -> Array:
        """Return the pixels of the block; where there is no memory for it, after caches gave theirs back."""
        try:
            return self._read()
        except MemoryError:
            pass
        except ExecuteError as error:
            if not isinstance(cause_of(error), MemoryError):
                raise
        # Outside of the clause, so that what failed is let go before it is tried again.
        memory_manager().ledger.relieve()
        return self._read()

    def _read(self) -> Array:
        # An array of its own: what the input returns could be a view of something larger.
        return super()._compute(np.empty(self.roi.shape, self.slot.meta.dtype))
