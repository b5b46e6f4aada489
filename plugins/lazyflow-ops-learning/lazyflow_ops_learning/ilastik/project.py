"""What is in an ilastik project: a frozen description, read once.

Layouts of 1.2 to 1.4 are known; what they store, and where, is written down beside each constant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from lazyflow_core.errors import FormatError
from lazyflow_core.words import possible

from lazyflow_ops_learning.convert import VigraTree, forest_from_vigra
from lazyflow_ops_learning.forest import MOST_CLASSES, MOST_FEATURES, Forest
from lazyflow_ops_learning.ilastik._safe import ProjectFile, numbered

__all__ = ["Lane", "LabelBlock", "Project", "Stage", "read_project", "split_dataset"]

Array = npt.NDArray[Any]

PIXEL_CLASSIFICATION: Final = "Pixel Classification"
AUTOCONTEXT: Final = "Autocontext (2-stage)"
#: ``/workflowName`` as ilastik has written it, and what it is here.
_WORKFLOWS: Final = {
    "Pixel Classification": PIXEL_CLASSIFICATION,
    "Autocontext (2-stage)": AUTOCONTEXT,
    "AutocontextTwoStage": AUTOCONTEXT,
}
#: ``FeatureIds``, and the same features among `filters.pixel_features`.
_FEATURES: Final = {
    "GaussianSmoothing": "gaussian_smoothing",
    "LaplacianOfGaussian": "laplacian_of_gaussian",
    "GaussianGradientMagnitude": "gaussian_gradient_magnitude",
    "DifferenceOfGaussians": "difference_of_gaussians",
    "StructureTensorEigenvalues": "structure_tensor_eigenvalues",
    "HessianOfGaussianEigenvalues": "hessian_of_gaussian_eigenvalues",
}
_AXES: Final = "txyzc"
_MOST_LABELS: Final = 2**28
#: Far beyond what is of use: a kernel of this scale reaches 3 500 pixels to each side.
_MOST_SCALE: Final = 1000


@dataclass(frozen=True)
class Lane:
    """An image of the project.

    Attributes
    ----------
    name
        As ilastik shows it.
    axes
        Axis keys of the image in its file, such as ``"zyx"``.
    path
        The file, as the project says: relative to the project or absolute; empty if the image is inside.
    dataset
        Which array in the file, or in the project itself; empty if the file has one only.
    shape
        Pixels per axis; empty where the project does not say.
    """

    name: str
    axes: str
    path: str
    dataset: str
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class LabelBlock:
    """Strokes in a box of a lane's image.

    Attributes
    ----------
    lane
        Number of the lane.
    axes
        Axis keys of ``labels``, without the channel axis.
    start
        Where the box begins, in pixels per axis.
    labels
        uint8: the label of each pixel, from 1; 0 where nobody painted.
    """

    lane: int
    axes: str
    start: tuple[int, ...]
    labels: Array


@dataclass(frozen=True, eq=False)
class Stage:
    """One round of features and classification.

    Attributes
    ----------
    selection
        Features in ilastik's order, as `filters.pixel_features` takes them: ``(feature, scale)``, with
        ``"2d"`` behind where it is computed slice by slice.
    feature_names
        Of the columns of the forest, as ilastik stored them; empty if it did not.
    label_names
        Of the classes, in order.
    forest
        As stored, its columns in ilastik's order and without names; None if the project was never trained.
    labels
        All strokes.
    """

    selection: tuple[tuple[Any, ...], ...]
    feature_names: tuple[str, ...]
    label_names: tuple[str, ...]
    forest: Forest | None
    labels: tuple[LabelBlock, ...]


@dataclass(frozen=True, eq=False)
class Project:
    """An ilastik project.

    Attributes
    ----------
    path
        Its file.
    version
        Of the ilastik that wrote it.
    workflow
        ``"Pixel Classification"`` or ``"Autocontext (2-stage)"``.
    lanes
        Its images.
    stages
        One, or two in order for autocontext.
    """

    path: Path
    version: str
    workflow: str
    lanes: tuple[Lane, ...]
    stages: tuple[Stage, ...]

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes of the last stage."""
        return self.stages[-1].label_names


def read_project(path: str | Path) -> Project:
    """Return what is in a project file.

    Raises
    ------
    StorageError
        If the file cannot be read.
    FormatError
        If it is no project, damaged, or of a workflow that is not known here: the sentence says what it is.
    """
    with ProjectFile(str(path)) as file:
        version = _version(file)
        name = file.text("workflowName")
        workflow = _WORKFLOWS.get(name)
        if workflow is None:
            raise FormatError(f"{str(path)!r} is {_what(name)}{possible('Workflows that run', _WORKFLOWS)}")
        lanes = tuple(_lanes(file))
        suffixes = ("", "01") if workflow == AUTOCONTEXT else ("",)
        stages = tuple(_stage(file, suffix, version, lanes) for suffix in suffixes)
    return Project(Path(path), version, workflow, lanes, stages)


def _version(file: ProjectFile) -> str:
    if not file.has("ilastikVersion"):
        raise FormatError(f"{file.path!r} is no ilastik project: it does not say which ilastik wrote it.")
    try:
        return file.text("ilastikVersion")
    except FormatError:
        raise FormatError(
            f"{file.path!r} was written by an ilastik before 1.0, whose projects are not known here; "
            "open and save it with a later one."
        ) from None


def _what(workflow: str) -> str:
    return (
        f"a project of the workflow {workflow!r}."
        if workflow
        else "no whole ilastik project: it names no workflow."
    )


def _lanes(file: ProjectFile) -> Iterator[Lane]:
    for lane in numbered(file, "Input Data/infos"):
        info = f"{lane}/Raw Data"
        if not file.has(f"{info}/location") and not file.has(f"{info}/filePath"):
            yield Lane("", "", "", "", ())
            continue
        axes = _axes_of(file.text(f"{info}/axistags"))
        shape = tuple(file.array(f"{info}/shape").tolist()) if file.has(f"{info}/shape") else ()
        name = file.text(f"{info}/nickname")
        if file.text(f"{info}/location") == "ProjectInternal":
            identity = file.text(f"{info}/datasetId")
            yield Lane(name, axes, "", f"Input Data/local_data/{identity}", shape)
            continue
        path, dataset = split_dataset(file.text(f"{info}/filePath"))
        yield Lane(name, axes, path, dataset, shape)


def split_dataset(path: str) -> tuple[str, str]:
    """Return file and dataset of ``"folder/a.h5/volume/data"``.

    Examples
    --------
    >>> split_dataset("folder/a.h5/volume/data"), split_dataset("b.tif")
    (('folder/a.h5', 'volume/data'), ('b.tif', ''))
    """
    found = re.match(r"(.*?\.(?:h5|hdf5|ilp|zarr|n5))/(.+)", path, re.IGNORECASE)
    return (found[1], found[2]) if found else (path, "")


def _axes_of(tags: Any) -> str:
    """Return the keys in vigra's axistags, which are JSON; empty if there are none."""
    try:
        axes = [axis["key"] for axis in json.loads(tags)["axes"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
    keys = "".join(map(str, axes))
    return keys if len(set(keys)) == len(axes) and set(keys) <= set(_AXES) else ""


def _stage(file: ProjectFile, suffix: str, version: str, lanes: tuple[Lane, ...]) -> Stage:
    group = f"PixelClassification{suffix}"
    selection = _selection(file, f"FeatureSelections{suffix}")
    names = _names(file, f"{group}/LabelNames")
    forests = f"{group}/ClassifierForests"
    feature_names = file.texts(f"{forests}/feature_names") if file.has(f"{forests}/feature_names") else ()
    return Stage(
        selection,
        tuple(map(_plain, feature_names)),
        names,
        _forest(file, forests, names),
        tuple(_labels(file, f"{group}/LabelSets", version, lanes)),
    )


def _plain(name: str) -> str:
    # Some versions stored the repr of bytes, whose letters of other alphabets are escaped.
    found = re.fullmatch(r"b'(.*)'", name)
    return name if found is None else re.sub(r"\\xcf\\x83", "σ", found[1])


def _names(file: ProjectFile, name: str) -> tuple[str, ...]:
    if not file.has(name) or file.attribute(name, "isEmpty"):
        return ()
    return file.texts(name)


def _selection(file: ProjectFile, group: str) -> tuple[tuple[Any, ...], ...]:
    if not file.has(f"{group}/SelectionMatrix"):
        return ()
    features = file.texts(f"{group}/FeatureIds")
    scales = file.array(f"{group}/Scales").astype(float)
    matrix = file.array(f"{group}/SelectionMatrix").astype(bool)
    in_2d: Array = np.zeros(scales.shape, bool)  # before 1.3 nothing was computed slice by slice
    if file.has(f"{group}/ComputeIn2d"):
        in_2d = file.array(f"{group}/ComputeIn2d").astype(bool)
    if matrix.shape != (len(features), scales.size) or in_2d.shape != scales.shape or scales.ndim != 1:
        raise FormatError(
            f"{file.path!r} is damaged: {len(features)} features at {scales.size} scales are selected by "
            f"{matrix.shape}."
        )
    if not ((scales > 0) & (scales <= _MOST_SCALE)).all():
        raise FormatError(
            f"{file.path!r} is damaged: {scales.tolist()} are no scales of features, above 0 and up to "
            f"{_MOST_SCALE} pixels."
        )
    unknown = [
        name
        for name, used in zip(features, map(any, matrix.tolist()), strict=True)
        if used and name not in _FEATURES
    ]
    if unknown:
        raise FormatError(f"{file.path!r} uses the feature {unknown[0]!r}, which is not known here.")
    return tuple(
        (_FEATURES[name], scale, *(("2d",) if flat else ()))
        for name, row in zip(features, matrix, strict=True)
        for scale, used, flat in zip(scales.tolist(), row.tolist(), in_2d.tolist(), strict=True)
        if used
    )


def _forest(file: ProjectFile, group: str, names: tuple[str, ...]) -> Forest | None:
    forests = [name for name in file.names(group) if name.startswith("Forest")]
    if not forests:
        return None
    columns = _scalar(file, f"{group}/{forests[0]}/_ext_param/column_count_")
    if columns > MOST_FEATURES:
        raise FormatError(f"{file.path!r} is damaged: a forest of {columns} features.")
    trees: list[VigraTree] = []
    labels: list[int] | None = None
    for forest in forests:
        place = f"{group}/{forest}"
        if _scalar(file, f"{place}/_options/predict_weighted_", 0):
            raise FormatError(f"{file.path!r}: {place!r} weighs votes by samples, which is not known here.")
        with np.errstate(invalid="ignore"):  # what is no label is refused with the forest
            voting = file.array(f"{place}/_ext_param/labels").astype(int).tolist()
        if labels not in (None, voting):
            raise FormatError(f"{file.path!r}: the forests of {group!r} know different classes.")
        labels = voting
        trees += [
            VigraTree(file.array(f"{place}/{tree}/topology"), file.array(f"{place}/{tree}/parameters"))
            for tree in file.names(place)
            if tree.startswith("Tree_")
        ]
    assert labels is not None
    # One name too many is refused with a forest of too many classes.
    last = min(max(labels, default=0), MOST_CLASSES + 1)
    names = names or tuple(f"Label {n}" for n in range(1, last + 1))
    try:
        about = {"source": "ilastik", "project": Path(file.path).name}
        return forest_from_vigra(trees, labels, names, tuple(map(str, range(columns))), about)
    except FormatError as error:
        raise FormatError(f"{file.path!r}: {group!r}: {error}") from None


def _scalar(file: ProjectFile, name: str, default: int | None = None) -> int:
    if default is not None and not file.has(name):
        return default
    values = file.array(name).ravel()
    if values.size != 1 or not 0 <= values[0] < 2**31:
        raise FormatError(f"{file.path!r} is damaged: {name!r} is {values[:3].tolist()}, not one number.")
    return int(values[0])


def _labels(file: ProjectFile, group: str, version: str, lanes: tuple[Lane, ...]) -> Iterator[LabelBlock]:
    total = 0
    for number, lane in enumerate(numbered(file, group)):
        for block in numbered(file, lane):
            box = _box(file.attribute(block, "blockSlice"))
            labels = file.array(block)
            total += labels.size
            if box is None or labels.dtype != np.uint8 or labels.shape != tuple(b - a for a, b in box):
                raise FormatError(f"{file.path!r} is damaged: {block!r} is no block of labels.")
            if total > _MOST_LABELS:
                raise FormatError(f"{file.path!r} has more than {_MOST_LABELS} pixels in blocks of labels.")
            axes = _axes_of(file.attribute(block, "axistags")) or _stored_order(version, lanes, number)
            if len(axes) == len(box) + 1 and "c" not in axes[:-1]:
                axes = axes[:-1]
            if len(axes) != len(box):
                continue  # where the axes of old labels cannot be told, the project runs without them
            start = [a for a, _ in box]
            if "c" in axes:
                position = axes.index("c")
                labels = labels.take(0, axis=position)
                del start[position]
                axes = axes.replace("c", "")
            yield LabelBlock(number, axes, tuple(start), labels)


def _box(text: Any) -> list[tuple[int, int]] | None:
    """Return the box that ``"[0:2,5:9]"`` is; None if it is none.

    Examples
    --------
    >>> _box("[0:2,5:9]"), _box("[2:1]"), _box(None)
    ([(0, 2), (5, 9)], None, None)
    """
    if not isinstance(text, str) or len(text) > 200 or not re.fullmatch(r"\[\d+:\d+(,\s*\d+:\d+)*\]", text):
        return None
    box = [(int(a), int(b)) for a, b in re.findall(r"(\d+):(\d+)", text)]
    return box if all(a <= b for a, b in box) else None


def _stored_order(version: str, lanes: tuple[Lane, ...], number: int) -> str:
    """Return the axis order of labels that do not say it: that of the image, channel last (before 1.4)."""
    axes = lanes[number].axes if number < len(lanes) else ""
    return axes if not axes or "c" in axes else f"{axes}c"
