"""``lazyflow ilastik``: what is in a project, running it on images, and turning it into a pipeline file."""

from __future__ import annotations

import contextlib
import glob
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from lazyflow_core.foreign import contextmanager

from lazyflow_ops_learning.exits import InputError, OutputError

if TYPE_CHECKING:
    from lazyflow_core.storage import Writer
    from lazyflow_core.utility import Progress

    from lazyflow_ops_learning.ilastik.pipeline import Recipe
    from lazyflow_ops_learning.ilastik.project import Project

__all__ = ["command"]


@click.group("ilastik", no_args_is_help=False, invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Run the projects of ilastik, without ilastik."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


# ------------------------------------------------------------------------------------------------------ info


@command.command("info")
@click.argument("project", metavar="PROJECT.ilp")
@click.option("--json", "as_json", is_flag=True, help="Write JSON for programs.")
def info_command(project: str, as_json: bool) -> None:
    """Say what is in a project: images, features, classes, strokes and classifiers."""
    from lazyflow_core.words import printable

    from lazyflow_ops_learning.ilastik.project import read_project

    found = read_project(project)
    if as_json:
        import json

        click.echo(json.dumps(_facts(found), ensure_ascii=False, indent=2))
        return

    def say(line: str) -> None:
        click.echo(printable(line))  # names are of the project's making

    say(f"{found.path.name}: {found.workflow}, saved by ilastik {found.version}")
    for number, lane in enumerate(found.lanes):
        if not lane.axes and not lane.path and not lane.dataset:
            say(f"  image {number}: none")
            continue
        where = lane.path or "inside the project"
        sides = ", ".join(f"{key}={n}" for key, n in zip(lane.axes, lane.shape, strict=False))
        say(f"  image {number}: {where}{', ' + lane.dataset if lane.path and lane.dataset else ''} ({sides})")
    for number, stage in enumerate(found.stages):
        if len(found.stages) > 1:
            say(f"  stage {number + 1}")
        entries = ", ".join(
            f"{name} {' '.join(f'{scale:g}' + ' (2d)' * flat for scale, flat in scales)}"
            for name, scales in _by_feature(stage.selection).items()
        )
        say(f"  features: {entries or 'none'}")
        painted, nameless = _painted(stage)
        classes = ", ".join(f"{name} ({painted[i]} pixels)" for i, name in enumerate(stage.label_names))
        say(f"  classes: {classes or 'none'}")
        if nameless:
            say(f"  strokes of no class: {', '.join(f'label {n} ({count} pixels)' for n, count in nameless)}")
        trees = "not trained" if stage.forest is None else f"{stage.forest.tree_count} trees"
        columns = "" if stage.forest is None else f" on {stage.forest.feature_count} columns"
        say(f"  classifier: {trees}{columns}")


def _by_feature(selection: Sequence[tuple[Any, ...]]) -> dict[str, list[tuple[float, bool]]]:
    table: dict[str, list[tuple[float, bool]]] = {}
    for feature, scale, *flat in selection:
        table.setdefault(feature, []).append((scale, bool(flat)))
    return table


def _painted(stage: Any) -> tuple[list[int], list[tuple[int, int]]]:
    """Return how many pixels of each class were painted; and labels beyond these, with their pixels."""
    import numpy as np

    counts = np.zeros(256, np.int64)
    for block in stage.labels:
        counts += np.bincount(block.labels.ravel(), minlength=256)
    end = len(stage.label_names) + 1
    return counts[1:end].tolist(), [(n, int(count)) for n, count in enumerate(counts[end:], end) if count]


def _facts(project: Project) -> dict[str, Any]:
    return {
        "version": 1,
        "workflow": project.workflow,
        "ilastik": project.version,
        "images": [
            {"path": lane.path, "dataset": lane.dataset, "axes": lane.axes, "shape": list(lane.shape)}
            for lane in project.lanes
        ],
        "stages": [
            {
                "features": [list(entry) for entry in stage.selection],
                "classes": list(stage.label_names),
                "painted": _painted(stage)[0],
                "painted_without_class": dict(_painted(stage)[1]),
                "trees": 0 if stage.forest is None else stage.forest.tree_count,
                "columns": 0 if stage.forest is None else stage.forest.feature_count,
            }
            for stage in project.stages
        ],
    }


# ------------------------------------------------------------------------------------------------------- run


class _Options(NamedTuple):
    dtype: str
    axes: str
    dataset: str | None
    overwrite: bool
    memory_bytes: int | None
    quiet: bool


class _Task(NamedTuple):
    image: str
    dataset: str
    export: str
    path: str


_recipe_option = click.option(
    "--recipe",
    type=click.Choice(["auto", "ilastik", "ilastik-vigra"]),
    default="auto",
    show_default=True,
    help="How features are computed: as ilastik with fastfilters, or as one that lacks it. 'auto' takes what "
    "suits the project's own strokes best.",
)


@command.command("run")
@click.argument("project", metavar="PROJECT.ilp")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--output",
    "-o",
    default="{folder}/{stem}_{export}.h5",
    show_default=True,
    metavar="PATTERN",
    help="Where results go: {folder}, {stem} and {export} are replaced. The ending chooses the format.",
)
@click.option(
    "--export",
    "-e",
    "exports",
    multiple=True,
    metavar="NAME",
    help="probabilities (the default), segmentation, uncertainty, features or labels; of autocontext also "
    "probabilities_1 … and probabilities_all. May be given several times.",
)
@click.option("--dtype", type=click.Choice(["float32", "uint8"]), default="float32", help="Of probabilities.")
@click.option(
    "--axes", default="", metavar="KEYS", help="Axes of the images where their files do not say, e.g. zyx."
)
@click.option(
    "--dataset", "dataset_out", default="", metavar="NAME", help="Name of the array in the results."
)
@_recipe_option
@click.option("--overwrite", is_flag=True, help="Replace results that exist, once the new ones are complete.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first image that fails.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Blocks computed at a time.")
@click.option("--memory", metavar="SIZE", help="Memory for blocks being computed, such as 1GiB.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
def run_command(
    project: str,
    images: Sequence[str],
    output: str,
    exports: Sequence[str],
    dtype: str,
    axes: str,
    dataset_out: str,
    recipe: str,
    overwrite: bool,
    fail_fast: bool,
    workers: int | None,
    memory: str | None,
    quiet: bool,
) -> None:
    """Run a project on images, as ilastik does without a window.

    An image is a file, a pattern such as 'images/*.tif', or a file and an array in it, as in
    a.h5/volume/data. Results have the axes of their image, the channel axis last. Each appears when it is
    complete, or not at all.
    """
    from lazyflow_core.errors import LazyflowError, MemoryBudgetError
    from lazyflow_core.request import ThreadedScheduler
    from lazyflow_core.utility import parse_bytes

    from lazyflow_ops_learning.ilastik.project import read_project

    found = read_project(project)
    try:
        memory_bytes = None if memory is None else parse_bytes(memory)
    except ValueError as error:
        raise click.UsageError(f"--memory: {error}") from None
    targets = list(_targets(found, images, output, exports or ("probabilities",)))
    _check_targets(targets, project, overwrite)
    chosen = _chosen(found, recipe, [target.image for target in targets])
    if not quiet:
        click.echo(f"features: {chosen.name}; {chosen.why}.", err=True)
    options = _Options(dtype, axes, dataset_out or None, overwrite, memory_bytes, quiet)
    failed: list[tuple[str, Exception]] = []
    by_image = [list(group) for _, group in groupby(targets, lambda target: target[:2])]
    # One scheduler for all images: threads are made once.
    with ThreadedScheduler(workers) if workers else _shared() as scheduler:
        for group in by_image:
            try:
                with _blaming():
                    _run(found, chosen, group, scheduler, options)
            except MemoryBudgetError as error:
                raise click.UsageError(f"--memory: {error}") from error
            except (LazyflowError, InputError, OutputError) as error:
                if fail_fast or len(by_image) == 1:
                    raise
                click.echo(f"{group[0].image}: {_sentence(error)}", err=True)
                failed.append((group[0].image, error))
    if failed:
        names = ", ".join(image for image, _ in failed)
        raise _as(failed[0][1], f"{len(failed)} of {len(by_image)} images failed: {names}.")


@contextmanager
def _blaming() -> Iterator[None]:
    """Say whether the image or the result is to blame, where a file is."""
    from lazyflow_core.errors import ExecuteError, FormatError, LazyflowError, RequestError, StorageError

    try:
        yield
    except LazyflowError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, FormatError | StorageError):
            cause = cause.__cause__
        if cause is None:
            raise
        # What computes is to blame for reading; what is handed a block, or ends the file, for writing.
        is_written = isinstance(error, StorageError | RequestError) and not isinstance(error, ExecuteError)
        raise (OutputError if is_written else InputError)(str(cause)) from error


def _as(error: Exception, sentence: str) -> Exception:
    """Return an error of the same kind, by which the exit code is chosen, that says something else."""
    from lazyflow_core.errors import LazyflowError

    return LazyflowError(sentence) if isinstance(error, LazyflowError) else type(error)(sentence)


class _shared:
    """The scheduler of the process, which is not ours to close."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exception: object) -> None:
        pass


def _targets(
    project: Project, images: Sequence[str], pattern: str, exports: Sequence[str]
) -> Iterator[_Task]:
    from lazyflow_core.errors import FormatError
    from lazyflow_core.words import near_miss, possible

    from lazyflow_ops_learning.ilastik.pipeline import export_names
    from lazyflow_ops_learning.ilastik.project import split_dataset

    names = export_names(project)
    for export in exports:
        if export not in names:
            raise click.UsageError(
                f"--export {export!r} is nothing that this project gives{near_miss(export, names)}"
                f"{possible('It gives', names)}"
            )
    for given in images:
        path, dataset = (given, "") if os.path.exists(given) else split_dataset(given)
        matches = [path] if os.path.exists(path) else sorted(glob.glob(path))
        if not matches:
            raise FormatError(f"there is no image {given!r}.")
        for match in matches:
            image = Path(match)
            stem = image.name.removesuffix(
                "".join(image.suffixes[-2:]) if ".ome." in image.name else image.suffix
            )
            for export in exports:
                try:
                    target = pattern.format(folder=str(image.parent), stem=stem, export=export)
                except (LookupError, ValueError, AttributeError, TypeError) as error:
                    raise click.UsageError(
                        f"--output {pattern!r}: {error} cannot be replaced; "
                        "{folder}, {stem} and {export} can."
                    ) from None
                yield _Task(match, dataset, export, target)


def _check_targets(targets: Sequence[_Task], project: str, overwrite: bool) -> None:
    """Refuse targets written twice, where something is read, or there already; before any work."""
    from lazyflow_core.errors import TargetExistsError
    from lazyflow_core.utility import overlap

    written: dict[str, _Task] = {}
    for target in targets:
        place = os.path.realpath(target.path)
        if place in written:
            other = written[place]
            raise click.UsageError(
                f"{target.export} of {target.image} and {other.export} of {other.image} would both be "
                f"written to {target.path!r}; use {{stem}}, {{folder}} and {{export}} in --output."
            )
        written[place] = target
    for target in targets:
        if overlap(target.path, project) is not None:
            raise OutputError(f"{target.path!r} would be written where the project {project!r} is read.")
        for image in {each.image for each in targets}:
            if overlap(target.path, image) is not None:
                raise OutputError(f"{target.path!r} would be written where the image {image!r} is read.")
        if os.path.lexists(target.path) and not overwrite:
            raise TargetExistsError(f"{target.path!r} exists; replace it by --overwrite.")
        folder = os.path.dirname(target.path) or "."
        if not os.path.isdir(folder):
            raise OutputError(f"{target.path!r} cannot be written: there is no folder {folder!r}.")


def _chosen(project: Project, recipe: str, images: Sequence[str] = ()) -> Recipe:
    from lazyflow_ops_learning.ilastik.pipeline import Recipe, choose_recipe

    return choose_recipe(project, images) if recipe == "auto" else Recipe(recipe, {}, "as you said")


def _run(
    project: Project,
    recipe: Recipe,
    targets: Sequence[_Task],
    scheduler: Any,
    options: _Options,
) -> None:
    """Write all that is wanted of one image."""
    from lazyflow_core import Graph, open_writer
    from lazyflow_core.errors import FormatError, StorageError
    from lazyflow_core.utility import export, format_bytes

    from lazyflow_ops_learning.ilastik.pipeline import build_project, export_slot, open_image
    from lazyflow_ops_learning.ilastik.together import Together, sharing

    image_path, image_dataset = targets[0][:2]
    by_export = {target.export: target for target in targets}
    with Graph(scheduler=scheduler) as graph, contextlib.ExitStack() as stack:
        image = open_image(graph, image_path, image_dataset, options.axes)
        built = build_project(project, graph, image, recipe.name)
        built[-1].predict.dtype.value = options.dtype
        lane = _lane_of(project, targets[0])
        slots = {name: export_slot(project, graph, built, image, name, lane) for name in by_export}
        # All targets are opened before the first pixel is computed: what can be refused is refused now.
        writers = {}
        for name, target in by_export.items():
            try:
                writers[name] = open_writer(
                    target.path,
                    slots[name].meta,
                    dataset=options.dataset or None,
                    overwrite=options.overwrite,
                )
            except (FormatError, StorageError) as error:
                raise OutputError(str(error)) from error
            stack.callback(writers[name].abort)
        for computed, names in sharing(list(by_export)):
            slot: Any = slots.get(computed)
            writer: Writer = writers[names[0]]
            # Of probabilities that are not rounded all others are made.
            built[-1].predict.dtype.value = "float32" if len(names) > 1 else options.dtype
            if len(names) > 1:
                stage = built[0] if computed.endswith("_1") else built[-1]
                slot = export_slot(project, graph, built, image, computed)
                forest = stage.predict.classifier.value
                parts = {name: writers[name] for name in names}
                writer = Together(parts, computed, slot.meta.shape[-1], forest)
            paths = [by_export[name].path for name in names]
            show = _progress(", ".join(paths)) if not options.quiet and sys.stderr.isatty() else None
            result = export(slot, writer, memory_bytes=options.memory_bytes, on_progress=show)
            if not options.quiet:
                click.echo(
                    f"wrote {', '.join(paths)}: {', '.join(names)} of {image_path}, {slots[names[0]].meta}, "
                    f"{format_bytes(result.bytes_stored)} in {result.seconds:.1f} s",
                    err=True,
                )


def _lane_of(project: Project, target: _Task) -> int | None:
    """Return the number of the project's image that a file is; None if it is none of them."""
    from lazyflow_core.utility import overlap

    from lazyflow_ops_learning.ilastik.pipeline import lane_source

    for number, lane in enumerate(project.lanes):
        path, dataset = lane_source(project, lane, [target.image])
        same = dataset.strip("/") == target.dataset.strip("/") or not target.dataset
        if os.path.exists(path) and overlap(path, target.image) == "is" and same:
            return number
    return None


def _progress(path: str) -> Any:
    def show(progress: Progress) -> None:
        share = progress.pixels / max(progress.pixels_total, 1)
        end = "\n" if progress.blocks == progress.blocks_total else ""
        click.echo(f"\r{path}: {share:4.0%}, {progress.seconds:.0f} s{end}", nl=False, err=True)

    return show


def _sentence(error: BaseException) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return " ".join(str(error.args[0] if error.args else cause).split())


# --------------------------------------------------------------------------------------------------- convert


@command.command("convert")
@click.argument("project", metavar="PROJECT.ilp")
@click.option("--output", "-o", required=True, metavar="FILE.toml", help="The pipeline file to write.")
@click.option(
    "--image", default="", metavar="IMAGE", help="What it reads; default the first image of the project."
)
@click.option("--axes", default="", metavar="KEYS", help="Axes of the image where its file does not say.")
@_recipe_option
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
def convert_command(project: str, output: str, image: str, axes: str, recipe: str, overwrite: bool) -> None:
    """Write a project as a pipeline file and forest files beside it, for 'lazyflow run' and to go on from."""
    from lazyflow_core.errors import StorageError

    from lazyflow_ops_learning.ilastik.convert import convert_project
    from lazyflow_ops_learning.ilastik.project import read_project, split_dataset

    found = read_project(project)
    chosen = _chosen(found, recipe, [split_dataset(image)[0]] if image else ())
    click.echo(f"features: {chosen.name}; {chosen.why}.", err=True)
    try:
        paths = convert_project(found, chosen, Path(output), image=image, axes=axes, overwrite=overwrite)
    except StorageError as error:
        raise OutputError(str(error)) from error
    for path in paths:
        click.echo(f"wrote {path}", err=True)
