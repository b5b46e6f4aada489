"""``lazyflow train``: from images and labels, or the strokes of an ilastik project, to a forest file."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click
from lazyflow_core.foreign import contextmanager

from lazyflow_ops_learning.exits import InputError, OutputError

if TYPE_CHECKING:
    from lazyflow_core import Graph

    from lazyflow_ops_learning.forest import Forest

__all__ = ["command"]

#: Features that a report shows, the most important ones.
_SHOWN: Final = 8


class _Labelled(NamedTuple):
    """An image: its features, and a slot or an array with its labels."""

    features: Any
    labels: Any


@click.command("train")
@click.argument("source", metavar="FEATURES.toml|PROJECT.ilp")
@click.option("--output", "-o", required=True, metavar="FILE.forest.npz", help="The forest file to write.")
@click.option(
    "--labels",
    "-l",
    "labels",
    multiple=True,
    metavar="PATH",
    help="An image of labels: 0 for none, else the number of the class. A file, or a file and an array in "
    "it, as in a.h5/labels. May be given several times, once for each image.",
)
@click.option(
    "--image",
    "-i",
    "images",
    multiple=True,
    metavar="PATH",
    help="An image instead of the one that the pipeline file reads, several times in the order of --labels; "
    "of a project, where its images are now.",
)
@click.option("--features", metavar="STEP.SLOT", help="Which output are the features, if there are several.")
@click.option("--classes", metavar="A,B,…", help="Names of the classes, in the order of their numbers.")
@click.option("--trees", type=click.IntRange(1, 65535), default=100, show_default=True, help="How many.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Another one, another forest."
)
@click.option(
    "--smallest-leaf",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Draws on each side of a division; more give smaller forests.",
)
@click.option("--overwrite", is_flag=True, help="Replace a forest file that exists.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Threads to compute with.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Write the report as JSON for programs.")
def command(
    source: str,
    output: str,
    labels: Sequence[str],
    images: Sequence[str],
    features: str | None,
    classes: str | None,
    trees: int,
    seed: int,
    smallest_leaf: int,
    overwrite: bool,
    workers: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train a forest with labelled pixels, and report how good it is.

    A pipeline file says how features are made of an image; of an ilastik project, images, strokes, features
    and names of classes are taken. The same labels, features and seed give the same forest.
    """
    from lazyflow_core import Graph
    from lazyflow_core.request import ThreadedScheduler

    from lazyflow_ops_learning.forest_file import save_forest

    _check_output(output, [source, *labels, *images], overwrite)
    names = None if classes is None else tuple(name.strip() for name in classes.split(","))
    start = time.perf_counter()
    with ThreadedScheduler(workers) as scheduler, Graph(scheduler=scheduler) as graph:
        with _blaming():
            if source.lower().endswith(".ilp"):
                if labels or features:
                    raise click.UsageError("of a project, labels and features are its own.")
                lanes, found = _of_project(graph, source, images)
                names = names or found
            else:
                lanes = _of_pipeline(graph, source, labels, images, features)
            forest = _train(
                graph, lanes, names, {"trees": trees, "seed": seed, "smallest_leaf": smallest_leaf}
            )
        save_forest(forest, output, overwrite=overwrite)
    report = _report(forest, output, time.perf_counter() - start)
    if as_json:
        click.echo(json.dumps(report, ensure_ascii=False, indent=2))
    elif not quiet:
        _say(report)


def _check_output(output: str, sources: Sequence[str], overwrite: bool) -> None:
    from lazyflow_core.errors import TargetExistsError
    from lazyflow_core.utility import overlap

    from lazyflow_ops_learning.ilastik.project import split_dataset

    folder = os.path.dirname(output) or "."
    if not os.path.isdir(folder):
        raise OutputError(f"{output!r} cannot be written: there is no folder {folder!r}.")
    for source in sources:
        path = source if os.path.exists(source) else split_dataset(source)[0]
        if os.path.exists(path) and overlap(output, path) is not None:
            raise OutputError(f"{output!r} would be written where {path!r} is read.")
    if os.path.lexists(output) and not overwrite:
        raise TargetExistsError(f"{output!r} exists; replace it by --overwrite.")


@contextmanager
def _blaming() -> Iterator[None]:
    """Blame what was read: its files, or labels that nothing can be learned from."""
    from lazyflow_core.errors import (
        ExecuteError,
        FormatError,
        LazyflowError,
        NotReadyError,
        ResultError,
        SetupError,
        StorageError,
    )

    blamed = (FormatError, StorageError, NotReadyError, ResultError, SetupError)
    try:
        yield
    except LazyflowError as error:
        cause: BaseException | None = error
        while cause is not None and (isinstance(cause, ExecuteError) or not isinstance(cause, blamed)):
            cause = cause.__cause__
        if cause is None:
            raise
        raise InputError(str(cause)) from error


# ------------------------------------------------------------------------------------------- what is trained


def _of_pipeline(
    graph: Graph, source: str, labels: Sequence[str], images: Sequence[str], features: str | None
) -> list[_Labelled]:
    from lazyflow_core import Pipeline

    if not labels:
        raise click.UsageError("give --labels, an image of labels.")
    if len(labels) != max(1, len(images)):
        raise click.UsageError(
            f"each image has its labels: there are {len(images) or 1} images and {len(labels)} of --labels."
        )
    pipeline = Pipeline.from_toml(Path(source))
    lanes = []
    for number, path in enumerate(labels):
        described = pipeline
        if images:
            described = pipeline.with_overrides(set=_reading(pipeline, images[number]))
        built = described.build(graph)
        slot = built.slot(features or _features_of(built))
        lanes.append(_Labelled(slot, _labels_of(graph, path, slot)))
    return lanes


def _reading(pipeline: Any, image: str) -> dict[str, Any]:
    """Return what makes a pipeline read another image."""
    from lazyflow_core.errors import PipelineError

    from lazyflow_ops_learning.ilastik.project import split_dataset

    readers = [step.name for step in pipeline.steps if "path" in step.settings]
    if len(readers) != 1:
        raise PipelineError(
            f"{pipeline.origin.name}: --image takes the place of what is read, but {len(readers)} steps read "
            "something."
        )
    path, dataset = (image, "") if os.path.exists(image) else split_dataset(image)
    settings = {f"{readers[0]}.path": str(Path(path).absolute())}
    if dataset:
        settings[f"{readers[0]}.dataset"] = dataset
    return settings


def _features_of(built: Any) -> str:
    """Return which output of a pipeline are the features: the one that has channels and that nobody takes."""
    from lazyflow_core.errors import PipelineError
    from lazyflow_core.graph import Output
    from lazyflow_core.words import possible

    found = [
        f"{step}.{name}"
        for step, operator in built.operators.items()
        for name, slot in operator.slots.items()
        if isinstance(slot, Output) and not slot.downstream and slot.ready and "c" in slot.meta.axes
    ]
    if len(found) != 1:
        what = possible("They may be", found) if found else " None at the end has a channel axis."
        raise PipelineError(
            f"{built.pipeline.origin.name}: say by --features STEP.SLOT which output the features are.{what}"
        )
    return found[0]


def _labels_of(graph: Graph, given: str, features: Any) -> Any:
    """Return an output with the labels of a file; where that does not name its axes, they are the image's."""
    from lazyflow_core.plugins.files import AXES_GUESSED

    from lazyflow_ops_learning.ilastik.pipeline import open_image
    from lazyflow_ops_learning.ilastik.project import split_dataset

    path, dataset = (given, "") if os.path.exists(given) else split_dataset(given)
    labels = open_image(graph, str(Path(path).absolute()), dataset)
    keys = "".join(axis.key for axis in features.meta.axes if axis.kind != "channel")
    if labels.meta.extra.get(AXES_GUESSED) and labels.meta.ndim == len(keys):
        labels.operator.axes.value = keys
    return labels


def _of_project(graph: Graph, source: str, images: Sequence[str]) -> tuple[list[_Labelled], tuple[str, ...]]:
    from lazyflow_core.errors import FormatError, NotReadyError

    from lazyflow_ops_learning.ilastik.pipeline import (
        Strokes,
        choose_recipe,
        lane_source,
        open_image,
        pixel_features,
    )
    from lazyflow_ops_learning.ilastik.project import read_project, split_dataset

    project = read_project(source)
    stage = project.stages[0]
    if len(project.stages) > 1:
        raise FormatError(f"{source!r} has two stages; only projects of one are trained here.")
    if not stage.labels or not stage.selection:
        raise NotReadyError(
            f"{source!r} has no {'strokes' if stage.selection else 'features'} to train with."
        )
    recipe = choose_recipe(project, [split_dataset(image)[0] for image in images]).name
    painted = sorted({block.lane for block in stage.labels if block.lane < len(project.lanes)})
    if images and len(images) != len(painted):
        raise click.UsageError(f"{source!r} has strokes on {len(painted)} images, not on {len(images)}.")
    lanes = []
    for index, number in enumerate(painted):
        lane = project.lanes[number]
        place = split_dataset(images[index]) if images else lane_source(project, lane)
        image = open_image(graph, *place, lane.axes)
        strokes = Strokes(image.meta, [block for block in stage.labels if block.lane == number])
        lanes.append(_Labelled(pixel_features(graph, image, stage, recipe).output, strokes))
    return lanes, stage.label_names


def _train(graph: Graph, lanes: Sequence[_Labelled], names: Any, how: dict[str, Any]) -> Forest:
    from lazyflow_ops_learning.samples import OpSamples
    from lazyflow_ops_learning.train_operator import OpTrainForest

    samples = []
    for lane in lanes:
        op = OpSamples(graph=graph, features=lane.features)
        if hasattr(lane.labels, "read"):
            op.labels.connect(lane.labels)
        else:
            op.labels.assign(lane.labels, lane.labels.meta)
        samples.append(op.samples)
    train = OpTrainForest(graph=graph, samples=samples, classes=names, **how)
    return train.classifier.value


# ---------------------------------------------------------------------------------------------- what is told


def _report(forest: Forest, path: str, seconds: float) -> dict[str, Any]:
    about = forest.about
    ranking = sorted(zip(about["importance"], forest.feature_names, strict=True), key=lambda pair: -pair[0])
    return {
        "version": 1,
        "forest": path,
        "digest": forest.digest,
        "trees": forest.tree_count,
        "nodes": len(forest.child),
        "seed": about["seed"],
        "classes": [
            {"name": name, "samples": count}
            for name, count in zip(forest.class_names, about["samples"], strict=True)
        ],
        "out_of_bag_error": about["out_of_bag_error"],
        "confusion": about["confusion"],
        "importance": [{"feature": name, "share": share} for share, name in ranking],
        "seconds": round(seconds, 3),
    }


def _say(report: dict[str, Any]) -> None:
    from lazyflow_core.words import printable

    def say(line: str) -> None:
        click.echo(printable(line.rstrip()), err=True)  # names are of a file's making

    names = [each["name"] for each in report["classes"]]
    counts = ", ".join(f"{each['name']} ({each['samples']} pixels)" for each in report["classes"])
    say(f"trained {report['trees']} trees, {report['nodes']} nodes, in {report['seconds']:.1f} s")
    say(f"  classes: {counts}")
    error = report["out_of_bag_error"]
    if error is not None:
        say(f"  of pixels that a tree had not seen, {error:.1%} were taken for another class:")
        wide = max(map(len, names)) + 2
        rows = [("", names), *zip(names, report["confusion"], strict=True)]
        for name, row in rows:
            cells = "".join(f"{value!s:>{max(len(n), 6) + 2}}" for value, n in zip(row, names, strict=True))
            say(f"    {name:<{wide}}{cells}")
    say("  what it looks at most:")
    for each in report["importance"][:_SHOWN]:
        say(f"    {each['share']:6.1%}  {each['feature']}")
    say(f"wrote {report['forest']}")
