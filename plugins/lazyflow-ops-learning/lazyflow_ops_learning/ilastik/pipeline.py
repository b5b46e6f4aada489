"""A project as operators: features, forests, and what ilastik exports of them.

Operators of other distributions are asked for by id, so nothing of them is needed to read a project.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from lazyflow_core import ArrayMeta, Axes, Graph, Roi, get_operator
from lazyflow_core.errors import FormatError, LazyflowError, UnknownOperatorError
from lazyflow_core.words import near_miss, possible

from lazyflow_ops_learning.autocontext import OpStageInput
from lazyflow_ops_learning.forest import Forest
from lazyflow_ops_learning.ilastik.project import AUTOCONTEXT, LabelBlock, Lane, Project, Stage
from lazyflow_ops_learning.prediction import OpPredict

__all__ = [
    "RECIPES",
    "Recipe",
    "build_project",
    "choose_recipe",
    "export_names",
    "export_slot",
    "lane_source",
    "open_image",
    "pixel_features",
]

Array = npt.NDArray[Any]

#: How ilastik computed its features: with fastfilters, or where that was missing, with vigra.
RECIPES: Final = ("ilastik", "ilastik-vigra")

_NEEDS: Final = {
    "io.read": "lazyflow-ops-io",
    "array.reorder_axes": "lazyflow-ops-array",
    "array.stack": "lazyflow-ops-array",
    "filters.pixel_features": "lazyflow-ops-filters",
}


class Recipe(NamedTuple):
    """How the features of a project are computed, and why.

    Attributes
    ----------
    name
        One of `RECIPES`.
    certainty
        For each recipe that was tried the mean probability of the painted class at the painted pixels.
    why
        A sentence.
    """

    name: str
    certainty: Mapping[str, float]
    why: str


@dataclass(frozen=True)
class BuiltStage:
    """The operators of one stage in a graph."""

    features: Any
    predict: OpPredict


def _operator(id: str) -> Any:
    try:
        return get_operator(id)
    except UnknownOperatorError:
        raise UnknownOperatorError(
            f"an ilastik project needs the operator {id!r}; install it: pip install {_NEEDS[id]}"
        ) from None


def open_image(graph: Graph, path: str, dataset: str, axes: str = "", *, name: str | None = None) -> Any:
    """Return the output of a reader in a graph; an ilastik project is read as the HDF5 file it is."""
    format = "hdf5" if path.endswith(".ilp") else ""
    return _operator("io.read")(
        graph=graph, name=name, path=path, dataset=dataset, axes=axes, format=format
    ).output


def build_project(
    project: Project, graph: Graph, image: Any, recipe: str, *, classifiers: Any = None
) -> tuple[BuiltStage, ...]:
    """Connect the operators of a project to an image.

    Parameters
    ----------
    project
        What to build.
    graph
        Where.
    image
        An output with the image, any order of axes.
    recipe
        One of `RECIPES`.
    classifiers
        Called with the number of a stage and its forest in the order of our features; returns what the
        classifier of `OpPredict` is connected to. Default the forest itself.

    Raises
    ------
    FormatError
        If the project was not trained, or on images with another number of channels.
    """
    built: list[BuiltStage] = []
    origin = image
    for number, stage in enumerate(project.stages):
        if stage.forest is None or not stage.selection:
            raise FormatError(
                f"{str(project.path)!r} was not trained: it holds no classifier"
                f"{' of stage ' + str(number + 1) if len(project.stages) > 1 else ''}. "
                "Open it in ilastik, switch on live update, and save it."
            )
        tag = "" if len(project.stages) == 1 else f"_{number + 1}"
        if built:
            image = OpStageInput(
                graph=graph,
                name="stage_input",
                image=origin,
                probabilities=built[-1].predict.probabilities,
            ).output
        features = pixel_features(graph, image, stage, recipe, name=f"features{tag}")
        forest = _in_our_order(project, stage, features, image.meta)
        classifier = forest if classifiers is None else classifiers(number, forest)
        predict = OpPredict(
            graph=graph,
            name=f"predict{tag}",
            features=features.output,
            classifier=classifier,
            classes=None if classifiers is None else forest.class_names,
        )
        built.append(BuiltStage(features, predict))
    return tuple(built)


def pixel_features(graph: Graph, image: Any, stage: Stage, recipe: str, *, name: str | None = None) -> Any:
    """Return the operator that computes the features of a stage."""
    return _operator("filters.pixel_features")(
        graph=graph,
        name=name,
        image=image,
        selection=stage.selection,
        compat=recipe,
        precision="double",
    )


def _in_our_order(project: Project, stage: Stage, features: Any, image: Any) -> Forest:
    """Return the forest with its columns as our features stand: all of the first channel of the image first.

    ilastik's stand feature by feature, those of each channel together: eigenvalues of one channel are
    neighbours.
    """
    assert stage.forest is not None
    meta, inputs = features.output.meta, image.axis_length("c")
    sizes = [each.meta.axis_length("c") // inputs for each in features.features]
    count, trained = sum(sizes) * inputs, stage.forest.feature_count
    if count != trained:
        whole = trained % sum(sizes) == 0
        raise FormatError(
            f"{str(project.path)!r} was trained on {trained} columns of features, and this image "
            f"({image}) has {count}: "
            + (
                f"it was trained on images with {trained // sum(sizes)} channels, not {inputs}."
                if whole
                else "it was trained on images with another number of channels or dimensions."
            )
        )
    starts = np.cumsum([0, *sizes[:-1]])
    order = [
        channel * sum(sizes) + start + component
        for start, size in zip(starts.tolist(), sizes, strict=True)
        for channel in range(inputs)
        for component in range(size)
    ]
    names = meta.channel_names or tuple(f"feature {n}" for n in range(count))
    return stage.forest.with_features(names, order)


# ------------------------------------------------------------------------------------------------ the recipe


def choose_recipe(project: Project, images: Sequence[str] = ()) -> Recipe:
    """Return the recipe with which the strokes of the project come out best.

    ``images`` are files among which those of the project are looked for if they are not where it says.

    A project does not say whether its ilastik had fastfilters, which swaps two scales. Its forest is surer of
    the pixels it was trained on with the features it was trained with.
    """
    if not project.stages[0].labels:
        return Recipe(RECIPES[0], {}, "the project holds no strokes to compare by")
    certainty: dict[str, float] = {}
    for recipe in RECIPES:
        total, count = 0.0, 0
        try:
            for number in sorted({block.lane for block in project.stages[0].labels}):
                added, pixels = _certainty(project, number, recipe, images)
                total, count = total + added, count + pixels
        except LazyflowError as error:
            reason = str(error).rstrip(".")
            return Recipe(
                RECIPES[0], {}, f"its strokes cannot be compared, since its image cannot be read: {reason}"
            )
        if not count:
            return Recipe(RECIPES[0], {}, "the strokes of the project cannot be placed in its images")
        certainty[recipe] = total / count
    best = max(RECIPES, key=certainty.__getitem__)
    other = next(recipe for recipe in RECIPES if recipe != best)
    return Recipe(
        best,
        certainty,
        f"the painted pixels get {certainty[best]:.4f} of their class with it, {certainty[other]:.4f} with "
        f"{other}",
    )


def lane_source(project: Project, lane: Lane, images: Sequence[str] = ()) -> tuple[str, str]:
    """Return the file and the dataset of a lane's image.

    Projects and images are moved: where the file is not where the project says, one of its name beside the
    project is taken, or among ``images``.
    """
    if not lane.path:
        return str(project.path), lane.dataset
    path = project.path.parent / lane.path.replace("\\", "/")
    others = (project.path.parent / path.name, *(Path(image) for image in images))
    for other in others if not path.exists() else ():
        if other.name == path.name and other.exists():
            return str(other), lane.dataset
    return str(path), lane.dataset


def _certainty(project: Project, number: int, recipe: str, images: Sequence[str]) -> tuple[float, int]:
    """Return the sum of the probabilities of the painted classes in a lane, and how many pixels there are."""
    if number >= len(project.lanes):
        return 0.0, 0
    lane = project.lanes[number]
    with Graph() as graph:
        image = open_image(graph, *lane_source(project, lane, images), lane.axes)
        probabilities = build_project(project, graph, image, recipe)[0].predict.probabilities
        keys = [axis.key for axis in probabilities.meta.axes]
        total, count = 0.0, 0
        for block in project.stages[0].labels:
            spatial = [key for key in keys if key != "c"]
            if block.lane != number or set(block.axes) != set(spatial):
                continue
            labels = block.labels.transpose([block.axes.index(key) for key in spatial])
            origin = [block.start[block.axes.index(key)] for key in spatial]
            painted = np.nonzero((labels > 0) & (labels <= len(project.stages[0].label_names)))
            if not painted[0].size:
                continue
            low, high = [int(p.min()) for p in painted], [int(p.max()) + 1 for p in painted]
            start = [a + b for a, b in zip(origin, low, strict=True)]
            stop = [a + b for a, b in zip(origin, high, strict=True)]
            channel = keys.index("c")
            start.insert(channel, 0)
            stop.insert(channel, probabilities.meta.shape[channel])
            votes = np.moveaxis(probabilities.read(Roi(start, stop)), channel, 0)
            inside = tuple(p - a for p, a in zip(painted, low, strict=True))
            total += float(votes[(labels[painted].astype(int) - 1, *inside)].sum(dtype=np.float64))
            count += painted[0].size
    return total, count


# --------------------------------------------------------------------------------------------------- exports


def export_names(project: Project) -> tuple[str, ...]:
    """Return what can be exported of a project."""
    names = ["probabilities", "segmentation", "uncertainty", "features", "labels"]
    if project.workflow == AUTOCONTEXT:
        names += [f"{name}_1" for name in names[:4]] + ["probabilities_all"]
    return tuple(names)


def export_slot(
    project: Project,
    graph: Graph,
    built: tuple[BuiltStage, ...],
    image: Any,
    name: str,
    strokes: int | None = None,
) -> Any:
    """Return an output as ilastik exports it: axes in the order of the image, the channel axis last.

    Parameters
    ----------
    project, graph, built
        As of `build_project`.
    image
        The output that it was connected to.
    name
        One of `export_names`.
    strokes
        Number of the lane whose strokes ``"labels"`` are; None if the image is none of the project's.

    Raises
    ------
    FormatError
        For another name, or for labels of an image that the project does not have.
    """
    names = export_names(project)
    if name not in names:
        raise FormatError(f"{name!r} is no export{near_miss(name, names)}{possible('Exports', names)}")
    keys = [axis.key for axis in image.meta.axes if axis.key != "c"]
    reorder = _operator("array.reorder_axes")(graph=graph, axes=",".join([*keys, "c"]))
    if name == "labels":
        if strokes is None:
            raise FormatError(
                "labels were painted on the images of the project only, and this is none of them."
            )
        lane = Strokes(image.meta, [block for block in project.stages[0].labels if block.lane == strokes])
        reorder.image.assign(lane, lane.meta)
        return reorder.output
    stage = built[0] if name.endswith("_1") else built[-1]
    kind = name.removesuffix("_1")
    if kind == "probabilities_all":
        stack = _operator("array.stack")
        reorder.image.connect(
            stack(graph=graph, images=[b.predict.probabilities for b in built], axis="c").output
        )
    elif kind == "features":
        reorder.image.connect(stage.features.output)
    else:
        reorder.image.connect(stage.predict.slots["labels" if kind == "segmentation" else kind])
    return reorder.output


class Strokes:
    """The strokes of a lane as an image that is put together where it is read; it takes no memory of its own.

    Parameters
    ----------
    image
        Meta of the lane's image.
    blocks
        The strokes.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, image: ArrayMeta, blocks: Sequence[LabelBlock]) -> None:
        axes = [axis for axis in image.axes if axis.key != "c"]
        self.shape = tuple(image.axis_length(axis.key) for axis in axes)
        self.meta = ArrayMeta(self.shape, self.dtype, Axes(axes), semantics="labels")
        keys = [axis.key for axis in axes]
        self._blocks = []
        for block in blocks:
            if set(block.axes) != set(keys):
                continue
            order = [block.axes.index(key) for key in keys]
            start = [block.start[i] for i in order]
            labels = block.labels.transpose(order)
            box = Roi(start, [a + n for a, n in zip(start, labels.shape, strict=True)])
            self._blocks.append((box, labels))

    def __getitem__(self, key: tuple[slice, ...]) -> Array:
        roi = Roi([s.start for s in key], [s.stop for s in key])
        out = np.zeros(roi.shape, np.uint8)
        for box, labels in self._blocks:
            common = roi.clip(box)
            if not common.is_empty:
                out[common.relative_to(roi).slicing] = labels[common.relative_to(box).slicing]
        return out
