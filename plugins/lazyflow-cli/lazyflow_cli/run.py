"""``lazyflow run``: read a pipeline file, or take one operator, check all of it, then compute and write."""

from __future__ import annotations

import contextlib
import os
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lazyflow_cli._failure import CommandError, ExitCode, failing
from lazyflow_cli._many import CONVERT
from lazyflow_cli._report import JsonReport, PlainReport, QuietReport, Report, TerminalReport
from lazyflow_cli._signals import Stopped, stoppable
from lazyflow_cli._single import is_operator_id, output_of, single_pipeline
from lazyflow_cli._text import shown_path
from lazyflow_cli._writing import Tee, blaming, open_writer, plan_of, sharing_a_grid, write
from lazyflow_cli.main import traceback_option

if TYPE_CHECKING:
    from lazyflow_core.pipeline import BuiltPipeline, Export, Pipeline

    from lazyflow_cli._preview import Panel

__all__ = ["chosen_report", "command", "run_pipeline"]

#: Seconds after which standing still is reported: who waits for whom, and what a worker is busy with.
_STALL_S = 60.0


@click.command("run")
@click.argument("pipeline", metavar="PIPELINE.toml|OPERATOR")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="[STEP.]NAME=VALUE",
    help="Override a parameter of a step, or of the one operator.",
)
@click.option(
    "--in",
    "inputs",
    multiple=True,
    metavar="SLOT=PATH",
    help="For one operator: read this input from a file. For more than a path, a table with the parameters "
    'of the reader: SLOT=\'{path="a.h5", dataset="raw"}\'.',
)
@click.option(
    "--out",
    "outputs",
    multiple=True,
    metavar="[SLOT=]PATH",
    help="For one operator: write its output; for more than a path, a table as for --export.",
)
@click.option(
    "--export",
    "exports",
    multiple=True,
    metavar="STEP.SLOT=PATH",
    help="Write this instead of what the file exports; may be given several times. For more than a path, a "
    'table with the keys of [[export]]: STEP.SLOT=\'{path="a.h5", dataset="raw"}\'.',
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
    pipeline: str,
    settings: Sequence[str],
    inputs: Sequence[str],
    outputs: Sequence[str],
    exports: Sequence[str],
    roi: str | None,
    overwrite: bool,
    preview: Path | None,
    workers: int | None,
    memory: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run a pipeline file and write what it exports; or one operator on files.

    Everything is checked before anything is computed. Targets appear when they are complete, or not at all.
    Ctrl-C stops and removes what is partial; a second one leaves at once.
    """
    done: list[str] = []
    try:
        with stoppable("stopping; again to leave at once") as leaving:
            described = _described(pipeline, settings, inputs, outputs, exports)
            description = described.with_overrides(roi=roi)
            report = chosen_report(quiet, as_json)
            run_pipeline(description, report, done, overwrite, preview, workers, memory, leaving)
    except Stopped as stop:
        kept = f"written before: {', '.join(done)}" if done else "nothing was written"
        raise CommandError(f"stopped by {stop}; {kept}.", stop.exit_code) from stop


def chosen_report(quiet: bool, as_json: bool) -> Report:
    """Return who tells what goes on: as the options say, else for whoever looks."""
    if quiet:
        return QuietReport()
    if as_json:
        return JsonReport()
    return TerminalReport() if sys.stderr.isatty() else PlainReport()


def run_pipeline(
    description: Pipeline,
    report: Report,
    done: list[str],
    overwrite: bool,
    preview: Path | None,
    workers: int | None,
    memory: str | None,
    leaving: list[Callable[[], object]],
) -> None:
    """Build a pipeline, open all its targets, and write them.

    ``done`` gets the names of what is written, ``leaving`` what is to be called if the process ends at once.
    """
    from lazyflow_core import plugins
    from lazyflow_core.errors import FormatError, StorageError
    from lazyflow_core.graph import Graph
    from lazyflow_core.request import ThreadedScheduler
    from lazyflow_core.utility import parse_bytes

    if not description.exports:
        raise CommandError(
            f"{description.origin.name}: there is nothing to write; add an [[export]] or give --export "
            "STEP.SLOT=PATH.",
            ExitCode.MISTAKE,
        )
    try:
        memory_bytes = None if memory is None else parse_bytes(memory)
    except ValueError as error:
        raise CommandError(f"--memory: {error}", ExitCode.MISTAKE) from error
    if preview is not None:
        _check_preview(preview, overwrite)
    manager = plugins.default()
    observers = manager.request_observers()
    with (
        ThreadedScheduler(workers, observers=observers, stall_warning=_STALL_S) as scheduler,
        Graph(scheduler) as graph,
        contextlib.ExitStack() as stack,
    ):
        with failing(ExitCode.INPUT, FormatError, StorageError):
            built = description.build(graph, manager)
        _check_places(description, built, preview)
        _tell_notes(built, report)
        # All targets are opened before the first pixel is computed: what can be refused is refused now.
        jobs = []
        for group in sharing_a_grid(built.exports):
            writers = []
            for item in group:
                writers.append(open_writer(item, manager, overwrite))
                stack.callback(writers[-1].abort)
                leaving.append(writers[-1].abort)
                for text in getattr(writers[-1], "notes", ()):
                    report.say(
                        "note", f"note: {shown_path(item.path)}: {text}.", path=str(item.path), note=text
                    )
            tee = Tee(writers)
            jobs.append((group, tee, plan_of(group, tee, memory_bytes)))
        for group, tee, plan in jobs:
            write(group, tee, plan, report, done, memory_bytes)
        if preview is not None:
            _draw_preview(built, preview)
            report.say("preview", f"drew {shown_path(preview)}", path=str(preview))


# ------------------------------------------------------------------------------------------------ options


def _described(
    pipeline: str,
    settings: Sequence[str],
    inputs: Sequence[str],
    outputs: Sequence[str],
    exports: Sequence[str],
) -> Pipeline:
    """Return the pipeline of a file, or of one operator."""
    from dataclasses import replace

    from lazyflow_core.pipeline import Pipeline

    if not is_operator_id(pipeline):
        _expect_file(pipeline)
        if inputs or outputs:
            option = "--in" if inputs else "--out"
            raise CommandError(
                f"{option} is for one operator, as in lazyflow run filters.gaussian_smoothing --in image=a.h5"
                f" --out b.h5; {pipeline} names its own inputs, and --export says what to write.",
                ExitCode.MISTAKE,
            )
        return Pipeline.from_toml(Path(pipeline)).with_overrides(
            set=dict(_setting(text, "step.name=value") for text in settings),
            exports=[_export(text, text) for text in exports] or None,
        )
    if exports or not outputs:
        raise CommandError(
            f"{pipeline} is one operator; write --out PATH to say what to write.", ExitCode.MISTAKE
        )
    single = single_pipeline(
        pipeline, inputs, dict(_setting(text, "name=value") for text in settings), outputs
    )
    # Not with_overrides: its origin knows already by which options they were given.
    return replace(
        single, exports=tuple(_export(output_of(pipeline, text), text, "--out") for text in outputs)
    )


def _expect_file(text: str) -> None:
    """Raise if somebody wrote the name of an operator without its namespace."""
    from lazyflow_core import plugins
    from lazyflow_core.words import near_miss

    if not text.isidentifier() or Path(text).exists():
        return
    ids = {spec.id.partition(".")[2]: spec.id for spec in reversed(plugins.list_operators())}
    hint = near_miss(text, ids, most=3, shown=ids, otherwise="")
    if hint:
        raise CommandError(f"there is no pipeline file {text!r}{hint}", ExitCode.MISTAKE)


def _setting(text: str, form: str) -> tuple[str, Any]:
    """Return name and value of a ``--set``: a TOML value where it is one, else the text itself."""
    target, equals, value = text.partition("=")
    if not (equals and target.strip()):
        lacks = "value" if target.strip() else "name"
        raise CommandError(f"--set {text!r} has no {lacks}; write --set {form}.", ExitCode.MISTAKE)
    parsed: Any = value
    with contextlib.suppress(ValueError, RecursionError):  # of tomllib; then it is meant as the text it is
        table = tomllib.loads(f"value = {value}")
        if len(table) == 1 and isinstance(table["value"], str | int | float | list | dict):
            parsed = table["value"]  # but a date is meant as the text it is
    if target.endswith(".path") and isinstance(parsed, str):
        parsed = str(Path(parsed).absolute())  # whoever types a path means the current directory
    return target.strip(), parsed


def _export(assignment: str, text: str, option: str = "--export") -> Export:
    """Return what an ``--export`` says: a path, or an inline table with the keys of ``[[export]]``.

    ``text`` and ``option`` are what was typed.
    """
    from dataclasses import fields

    from lazyflow_core.pipeline import Export, read_table

    slot, equals, target = assignment.partition("=")
    if not (equals and target):
        form = "PATH" if option == "--out" else "step.slot=path"
        raise CommandError(f"{option} {text!r} has no target; write {option} {form}.", ExitCode.MISTAKE)
    given: dict[str, Any] = {"path": target}
    if target.lstrip().startswith("{"):
        given = read_table(target, f"{option} {text!r}")
    keys = {field.name for field in fields(Export)} - {"slot", "options"}
    texts = {key: given.pop(key) for key in keys & given.keys()}
    wrong = [key for key, value in texts.items() if not (isinstance(value, str) and value)]
    if wrong or "path" not in texts:
        key = wrong[0] if wrong else "path"
        raise CommandError(
            f"{option} {text!r}: {key} has to be given, as a text in quotes.", ExitCode.MISTAKE
        )
    texts["path"] = str(Path(texts["path"]).absolute())
    return Export(slot.strip(), **texts, options=given)


def _check_preview(path: Path, overwrite: bool) -> None:
    if path.suffix.lower() != ".png":
        raise CommandError(f"--preview {str(path)!r}: a preview is a PNG file; name it so.", ExitCode.MISTAKE)
    if not path.absolute().parent.is_dir():
        raise CommandError(f"--preview {str(path)!r}: its folder does not exist.", ExitCode.OUTPUT)
    if path.is_dir():
        raise CommandError(f"--preview {str(path)!r} is a folder; choose another name.", ExitCode.OUTPUT)
    if os.path.lexists(path) and not overwrite:
        raise CommandError(
            f"--preview {str(path)!r} exists already; choose another name or add --overwrite.",
            ExitCode.OUTPUT,
        )


def _tell_notes(built: BuiltPipeline, report: Report) -> None:
    """Tell what files do not say of themselves, or say so that nothing is made of it."""
    from lazyflow_core.graph import Output
    from lazyflow_core.plugins.files import AXES_GUESSED, NOTES

    is_single = is_operator_id(built.pipeline.origin.name)
    for name, operator in built.operators.items():
        outputs = [slot for slot in operator.slots.values() if isinstance(slot, Output)]
        if "path" not in operator.slots or not outputs:
            continue
        meta = outputs[0].meta
        if meta.extra.get(AXES_GUESSED):
            keys = meta.axes.keys
            how = f"--set {name}.axes={keys}"
            if is_single:
                how = f'--in {name}=\'{{path="…", axes="{keys}"}}\''
            elif built.pipeline.origin.name == CONVERT:
                how = f'\'{{path="…", axes="{keys}"}}\' instead of the path'
            report.say(
                "note",
                f"note: {name}: axes guessed: the file does not name them, {meta}; state them with {how}.",
                step=name,
                axes_guessed=keys,
            )
        for text in meta.extra.get(NOTES, ()):
            report.say("note", f"note: {name}: {text}.", step=name, note=text)


def _check_places(description: Pipeline, built: BuiltPipeline, preview: Path | None) -> None:
    """Refuse to write over the pipeline file, and to draw over what is read or written.

    That targets do not lie in what is read is known already.
    """
    from lazyflow_core.utility import overlap

    targets = [(item.path, f"the target of {item.export.slot}") for item in built.exports]
    file = description.folder / Path(description.origin.name).name
    for path, what in targets:
        if file.is_file() and overlap(path, file) is not None:
            raise CommandError(f"{what}, {shown_path(path)}, is the pipeline file itself.", ExitCode.MISTAKE)
    if preview is None:
        return
    sources = [
        (Path(value), f"what {name} reads")
        for name, operator in built.operators.items()
        if "path" in operator.slots
        and isinstance(value := getattr(operator.slots["path"], "value", None), str)
    ]
    for path, what in (*targets, *sources, (file, "the pipeline file")):
        found = overlap(preview, path)
        if found is not None:
            raise CommandError(
                f"--preview {str(preview)!r} {found} {what}; choose another name.", ExitCode.MISTAKE
            )


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
            with blaming(title):
                data = source.read(plane)
            panels.append(panel_of(data, source.meta, plane, axes, title=title))
        plane, axes = middle_plane(item.slot.meta, item.roi)
        with blaming(item.export.slot):
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
