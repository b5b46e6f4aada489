"""``lazyflow run``: read a pipeline file, check all of it, then compute and write what it exports."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lazyflow_cli._failure import ExitCode, Failure, failing
from lazyflow_cli._report import JsonReport, PlainReport, QuietReport, Report, TerminalReport, speed_text
from lazyflow_cli._signals import Stopped, stoppable
from lazyflow_cli._text import unit_symbol
from lazyflow_cli.main import traceback_option

if TYPE_CHECKING:
    import numpy as np
    from lazyflow_core.pipeline import BuiltExport, BuiltPipeline, Export, Pipeline
    from lazyflow_core.roi import Roi
    from lazyflow_core.storage import Writer

    from lazyflow_cli._preview import Panel

__all__ = ["command"]


@click.command("run")
@click.argument("pipeline", metavar="PIPELINE.toml", type=click.Path(path_type=Path))
@click.option("--set", "settings", multiple=True, metavar="STEP.NAME=VALUE", help="Override a parameter.")
@click.option(
    "--export",
    "exports",
    multiple=True,
    metavar="STEP.SLOT=PATH",
    help="Write this instead of what the file exports; may be given several times.",
)
@click.option("--roi", metavar="RANGES", help="Compute only this region, such as '10:20,:,:'.")
@click.option("--overwrite", is_flag=True, help="Replace targets that exist, once the new ones are complete.")
@click.option(
    "--preview",
    type=click.Path(path_type=Path),
    metavar="FILE.png",
    help="Draw the middle plane before and after.",
)
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Blocks computed at a time.")
@click.option("--memory", metavar="SIZE", help="Memory for blocks being computed, such as 1GiB.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object per line for programs.")
@traceback_option
def command(
    pipeline: Path,
    settings: Sequence[str],
    exports: Sequence[str],
    roi: str | None,
    overwrite: bool,
    preview: Path | None,
    workers: int | None,
    memory: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run a pipeline file and write what it exports.

    Everything is checked before anything is computed. Targets appear when they are complete, or not at all.
    Ctrl-C stops and removes what is partial.
    """
    done: list[str] = []
    try:
        with stoppable():
            from lazyflow_core.pipeline import Pipeline

            description = Pipeline.from_toml(pipeline).with_overrides(
                set=dict(map(_setting, settings)),
                exports=list(map(_export, exports)) or None,
                roi=roi,
            )
            report: Report = PlainReport()
            if quiet:
                report = QuietReport()
            elif as_json:
                report = JsonReport()
            elif sys.stderr.isatty():
                report = TerminalReport()
            _run(description, report, done, overwrite, preview, workers, memory)
    except Stopped as stop:
        kept = f"written before: {', '.join(done)}" if done else "nothing was written"
        raise Failure(f"stopped by {stop}; {kept}.", stop.exit_code) from stop


def _run(
    description: Pipeline,
    report: Report,
    done: list[str],
    overwrite: bool,
    preview: Path | None,
    workers: int | None,
    memory: str | None,
) -> None:
    from lazyflow_core import plugins
    from lazyflow_core.errors import FormatError, StorageError
    from lazyflow_core.graph import Graph
    from lazyflow_core.request import ThreadedScheduler
    from lazyflow_core.utility import parse_bytes

    if not description.exports:
        raise Failure(
            f"{description.origin.name}: there is nothing to write; add an [[export]] or give --export "
            "STEP.SLOT=PATH.",
            ExitCode.MISTAKE,
        )
    try:
        memory_bytes = None if memory is None else parse_bytes(memory)
    except ValueError as error:
        raise Failure(f"--memory: {error}", ExitCode.MISTAKE) from error
    if preview is not None:
        _check_preview(preview, overwrite)
    description.check(manager := plugins.default())
    with ThreadedScheduler(workers) as scheduler, Graph(scheduler) as graph, contextlib.ExitStack() as stack:
        with failing(ExitCode.INPUT, FormatError, StorageError):
            built = description.build(graph, manager)
        # All targets are opened before the first pixel is computed: what can be refused is refused now.
        jobs = []
        for group in _sharing_a_grid(built.exports):
            writers = [_open_writer(item, manager, overwrite) for item in group]
            tee = Tee(writers)
            stack.callback(tee.abort)
            jobs.append((group, tee))
        for group, tee in jobs:
            _write(group, tee, report, done, memory_bytes)
        if preview is not None:
            _draw_preview(built, preview)
            report.say("preview", f"drew {_shown(preview)}", path=str(preview))


# ------------------------------------------------------------------------------------------------ options


def _setting(text: str) -> tuple[str, Any]:
    """Return name and value of a ``--set``: a TOML value where it is one, else the text itself."""
    target, equals, value = text.partition("=")
    if not equals:
        raise Failure(f"--set {text!r} has no value; write --set step.name=value.", ExitCode.MISTAKE)
    parsed: Any = value
    with contextlib.suppress(tomllib.TOMLDecodeError):
        table = tomllib.loads(f"value = {value}")
        if len(table) == 1 and isinstance(table["value"], str | int | float | list | dict):
            parsed = table["value"]  # but a date is meant as the text it is
    if target.endswith(".path") and isinstance(parsed, str):
        parsed = str(Path(parsed).absolute())  # whoever types a path means the current directory
    return target.strip(), parsed


def _export(text: str) -> Export:
    from lazyflow_core.pipeline import Export

    slot, equals, path = text.partition("=")
    if not (equals and path):
        raise Failure(f"--export {text!r} has no target; write --export step.slot=path.", ExitCode.MISTAKE)
    return Export(slot.strip(), str(Path(path).absolute()))


def _check_preview(path: Path, overwrite: bool) -> None:
    if path.suffix.lower() != ".png":
        raise Failure(f"--preview {str(path)!r}: a preview is a PNG file; name it so.", ExitCode.MISTAKE)
    if not path.absolute().parent.is_dir():
        raise Failure(f"--preview {str(path)!r}: its folder does not exist.", ExitCode.OUTPUT)
    if path.exists() and not overwrite:
        raise Failure(
            f"--preview {str(path)!r} exists already; choose another name or add --overwrite.",
            ExitCode.OUTPUT,
        )


# ------------------------------------------------------------------------------------------------ writing


class Tee:
    """A writer that hands every block to several, so that what they share is computed once."""

    def __init__(self, writers: Sequence[Writer]) -> None:
        self._writers = writers
        #: Whether writing failed, rather than computing what is written. Only ever set, from any thread.
        self.failed = False
        #: Bytes each of them takes in storage, once committed.
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
        self.sizes = [writer.commit() for writer in self._writers]
        self.failed = False
        return sum(self.sizes)

    def abort(self) -> None:
        """Abort each that is not committed."""
        for writer in self._writers:
            writer.abort()


def _sharing_a_grid(exports: Sequence[BuiltExport]) -> list[list[BuiltExport]]:
    """Return the exports in groups of the same slot and region."""
    groups: dict[Any, list[BuiltExport]] = {}
    for item in exports:
        groups.setdefault((item.export.slot, item.export.dtype, item.roi), []).append(item)
    return list(groups.values())


def _open_writer(item: BuiltExport, manager: Any, overwrite: bool) -> Writer:
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


@contextlib.contextmanager
def _how_to_overwrite() -> Iterator[None]:
    """Add to the complaint about a target that exists how this command is told to replace it."""
    from lazyflow_core.errors import TargetExistsError

    try:
        yield
    except TargetExistsError as error:
        raise TargetExistsError(f"{str(error).rstrip('.')} (--overwrite).") from error


def _write(
    group: Sequence[BuiltExport], tee: Tee, report: Report, done: list[str], memory_bytes: int | None
) -> None:
    from lazyflow_core.utility import export, format_bytes, plan_blocks

    first = group[0]
    slot, scheduler = first.slot, first.slot.graph.scheduler
    names = [_shown(item.path) for item in group]
    plan = plan_blocks(
        slot.meta, first.roi, step=tee.step, memory_bytes=memory_bytes, workers=scheduler.worker_count
    )
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
    with _blaming(first.export.slot, tee), report.progress(", ".join(names)) as on_progress:
        result = export(slot, tee, roi=first.roi, memory_bytes=memory_bytes, on_progress=on_progress)
    for item, name, size in zip(group, names, tee.sizes, strict=True):
        done.append(name)
        report.say(
            "written",
            f"wrote {name}: {item.export.slot}, {result.meta}, {_pixel_text(result.meta.axes)}"
            f"{format_bytes(size)} in {speed_text(result.meta.size, result.seconds)}",
            path=str(item.path),
            slot=item.export.slot,
            shape=list(result.meta.shape),
            dtype=str(result.meta.dtype),
            axes=result.meta.axes.keys,
            bytes=size,
            seconds=round(result.seconds, 4),
            pixels_per_second=round(result.meta.size / max(result.seconds, 1e-9)),
        )


@contextlib.contextmanager
def _blaming(slot: str, tee: Tee | None = None) -> Iterator[None]:
    """Turn what fails while computing into a `Failure`: is input, output or operator to blame?"""
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
            raise Failure(str(file_trouble), code) from error
        sentence = f"{slot}: {type(chain[-1]).__name__}: {chain[-1]}"
        if isinstance(error, ExecuteError):
            sentence = str(error.args[0])  # its `str` lists every operator passed through
        raise Failure(sentence, ExitCode.FAILED) from error


def _shown(path: Path) -> str:
    """Return a path as short as it can be said from here."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # on another drive
        return str(path)
    return str(path) if relative.startswith("..") else relative


def _pixel_text(axes: Any) -> str:
    """Return the pixel size in words, with a comma behind; empty where nobody knows it."""
    sizes = [axis for axis in axes if axis.kind == "space" and axis.resolution is not None]
    if not sizes:
        return ""
    units = {axis.unit or "" for axis in sizes}
    numbers = " × ".join(f"{axis.resolution:g}" for axis in sizes)
    return f"pixels of {numbers} {unit_symbol(units.pop()) if len(units) == 1 else ''}".rstrip() + ", "


# ------------------------------------------------------------------------------------------------ preview


def _draw_preview(built: BuiltPipeline, path: Path) -> None:
    """Read one plane of the source and of every exported slot, and draw them."""
    from lazyflow_cli._preview import draw, middle_plane, panel_of

    panels: list[Panel] = []
    seen = set()
    for item in built.exports:
        if item.slot in seen:
            continue
        seen.add(item.slot)
        source = built.source_of(item.export.slot)
        if not panels:
            same_place = source.meta.shape == item.slot.meta.shape
            plane, axes = middle_plane(source.meta, item.roi if same_place else source.meta.roi)
            title = f"{source.operator.name}.{source.name}"
            with _blaming(title):
                data = source.read(plane)
            panels.append(panel_of(data, source.meta, plane, axes, title=title))
        plane, axes = middle_plane(item.slot.meta, item.roi)
        with _blaming(item.export.slot):
            data = item.slot.read(plane)
        panels.append(panel_of(data, item.slot.meta, plane, axes, title=item.export.slot, backdrop=panels[0]))
    with failing(ExitCode.OUTPUT, OSError):
        draw(panels, _caption(built.pipeline), path)


def _caption(pipeline: Pipeline) -> str:
    """Return the pipeline in one line: its steps with the parameters that are numbers."""
    steps = []
    for step in pipeline.steps:
        numbers = [
            f"{key} {value:g}"
            for key, value in step.settings.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]
        steps.append(f"{step.operator} ({', '.join(numbers)})" if numbers else step.operator)
    return f"{Path(pipeline.origin.name).name}:  {'  ›  '.join(steps)}"
