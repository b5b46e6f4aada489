"""Writing what a pipeline exports: block by block, what is shared once, and whom to blame if it fails."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lazyflow_core.foreign import contextmanager

from lazyflow_cli._failure import CommandError, ExitCode, failing
from lazyflow_cli._text import pixel_text, shown_path, speed_text, time_text

if TYPE_CHECKING:
    import numpy as np
    from lazyflow_core.pipeline import BuiltExport
    from lazyflow_core.roi import Roi
    from lazyflow_core.storage import Writer
    from lazyflow_core.utility import BlockPlan

    from lazyflow_cli._report import Report

__all__ = ["Tee", "blaming", "open_writer", "plan_of", "sharing_a_grid", "write"]


class Tee:
    """A writer that hands every block to several, so that what they share is computed once."""

    def __init__(self, writers: Sequence[Writer]) -> None:
        self._writers = writers
        #: Whether writing failed, rather than computing what is written. Only ever set, from any thread.
        self.failed = False
        #: Bytes each of them takes in storage; as many as are committed.
        self.sizes: list[int] = []

    @property
    def step(self) -> tuple[int, ...]:
        """The smallest block that is whole units of all."""
        return tuple(math.lcm(*sides) for sides in zip(*(w.step for w in self._writers), strict=True))

    def write(self, roi: Roi, data: np.ndarray[Any, Any]) -> None:
        """Write one block to each."""
        try:
            for writer in self._writers:
                writer.write(roi, data)
        except Exception:
            self.failed = True
            raise

    def commit(self) -> int:
        """Commit each, and return the sum of their bytes."""
        self.failed = True  # until it did not
        for writer in self._writers:
            self.sizes.append(writer.commit())
        self.failed = False
        return sum(self.sizes)

    def abort(self) -> None:
        """Abort each that is not committed."""
        for writer in self._writers:
            writer.abort()


def sharing_a_grid(exports: Sequence[BuiltExport]) -> list[list[BuiltExport]]:
    """Return the exports in groups of the same slot and region."""
    groups: dict[Any, list[BuiltExport]] = {}
    for item in exports:
        groups.setdefault((item.export.slot, item.export.dtype, item.roi), []).append(item)
    return list(groups.values())


def open_writer(item: BuiltExport, manager: Any, overwrite: bool) -> Writer:
    from lazyflow_core.errors import FormatError, StorageError

    with failing(ExitCode.OUTPUT, FormatError, StorageError), _how_to_overwrite():
        writer: Writer = manager.open_writer(
            str(item.path),
            item.slot.meta.cropped(item.roi),
            format=item.export.format,
            dataset=item.export.dataset,
            overwrite=overwrite,
            **item.export.options,
        )
    return writer


@contextmanager
def _how_to_overwrite() -> Iterator[None]:
    """Add to the complaint about a target that exists how this command is told to replace it."""
    from lazyflow_core.errors import TargetExistsError

    try:
        yield
    except TargetExistsError as error:
        raise TargetExistsError(f"{str(error).rstrip('.')} (--overwrite).") from error


def plan_of(group: Sequence[BuiltExport], tee: Tee, memory_bytes: int | None) -> BlockPlan:
    """Return the blocks in which exports are written; refuse a memory in which not one of them fits."""
    from lazyflow_core.utility import format_bytes, plan_blocks

    slot, roi = group[0].slot, group[0].roi
    workers = slot.graph.scheduler.worker_count
    plan = plan_blocks(slot.meta, roi, step=tee.step, memory_bytes=memory_bytes, workers=workers)
    if memory_bytes is not None and plan.bytes_per_block > memory_bytes:
        block = " × ".join(map(str, plan.grid.block))
        raise CommandError(
            f"--memory: {format_bytes(memory_bytes)} is too little; the smallest block of "
            f"{group[0].export.slot} that can be written, {block} pixels, takes "
            f"{plan.bytes_per_block} bytes; give --memory {plan.bytes_per_block} or more.",
            ExitCode.MISTAKE,
        )
    return plan


def write(
    group: Sequence[BuiltExport],
    tee: Tee,
    plan: BlockPlan,
    report: Report,
    done: list[str],
    memory_bytes: int | None,
) -> None:
    """Write exports of one slot, block by block."""
    from lazyflow_core.utility import export, format_bytes

    first = group[0]
    slot = first.slot
    names = [shown_path(item.path) for item in group]
    block = " × ".join(map(str, plan.grid.block))
    blocks = f"{len(plan)} blocks" if len(plan) > 1 else "1 block"
    report.say(
        "plan",
        f"{first.export.slot} ({slot.meta.cropped(first.roi)}) → {', '.join(names)}: "
        f"{blocks} of {block} pixels, {min(plan.in_flight, len(plan))} at a time, "
        f"about {format_bytes(plan.bytes_in_flight)}",
        slot=first.export.slot,
        paths=[str(item.path) for item in group],
        shape=list(first.roi.shape),
        blocks=len(plan),
        block_shape=list(plan.grid.block),
        projected_bytes=plan.bytes_in_flight,
    )
    with blaming(first.export.slot, tee), report.progress(", ".join(names)) as on_progress:
        try:
            result = export(slot, tee, roi=first.roi, memory_bytes=memory_bytes, on_progress=on_progress)
        finally:  # of two targets one may be there
            done += names[: len(tee.sizes)]
    size_of_pixels = pixel_text(result.meta.axes)
    pixels = f"pixels of {size_of_pixels}, " if size_of_pixels else ""
    for item, name, size in zip(group, names, tee.sizes, strict=True):
        report.say(
            "written",
            f"wrote {name}: {item.export.slot}, {result.meta}, {pixels}"
            f"{format_bytes(size)} in {time_text(result.seconds)}, "
            f"{speed_text(result.meta.size, result.seconds)}",
            path=str(item.path),
            slot=item.export.slot,
            shape=list(result.meta.shape),
            dtype=str(result.meta.dtype),
            axes=result.meta.axes.keys,
            bytes=size,
            seconds=round(result.seconds, 4),
            pixels_per_second=round(result.meta.size / max(result.seconds, 1e-9)),
        )


@contextmanager
def blaming(slot: str, tee: Tee | None = None) -> Iterator[None]:
    """Turn what fails while computing into a `CommandError`: is input, output or operator to blame?"""
    from lazyflow_core.errors import ExecuteError, FormatError, RequestError, StorageError

    try:
        yield
    except (RequestError, StorageError) as error:
        chain: list[BaseException] = [error]
        while chain[-1].__cause__ is not None:
            chain.append(chain[-1].__cause__)
        file_trouble = next((e for e in chain if isinstance(e, FormatError | StorageError)), None)
        if file_trouble is not None:
            code = ExitCode.OUTPUT if tee is not None and tee.failed else ExitCode.INPUT
            raise CommandError(str(file_trouble), code) from error
        sentence = f"{slot}: {type(chain[-1]).__name__}: {chain[-1]}"
        if isinstance(error, ExecuteError):
            sentence = str(error.args[0])  # its `str` lists every operator passed through
        raise CommandError(sentence, ExitCode.FAILED) from error
