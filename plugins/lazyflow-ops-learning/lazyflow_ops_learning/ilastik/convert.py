"""A project as a pipeline file, with its forests in files beside it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lazyflow_core import Graph, Pipeline
from lazyflow_core.errors import StorageError, TargetExistsError
from lazyflow_core.utility import overlap

from lazyflow_ops_learning.forest import Forest
from lazyflow_ops_learning.forest_file import save_forest, whole_file
from lazyflow_ops_learning.ilastik.pipeline import Recipe, build_project, lane_source, open_image
from lazyflow_ops_learning.ilastik.project import Project, split_dataset
from lazyflow_ops_learning.prediction import OpForestFile

__all__ = ["convert_project"]


def convert_project(
    project: Project,
    recipe: Recipe,
    target: Path,
    *,
    image: str = "",
    axes: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Write a pipeline file that computes what the project does, and its forests.

    Parameters
    ----------
    project, recipe
        What to write.
    target
        The pipeline file; forests are written beside it, under its name.
    image
        The image that it reads, as a path or a path and an array in it; default the first of the project.
    axes
        Axes of the image where its file does not say.
    overwrite
        Whether files that are there are replaced.

    Returns
    -------
    list of Path
        What was written, the pipeline file last.
    """
    if not target.name:
        raise StorageError(f"{str(target)!r} cannot be written: this is no file name.")
    if not target.absolute().parent.is_dir():
        raise StorageError(f"{str(target)!r} cannot be written: there is no folder {str(target.parent)!r}.")
    stem = target.name.removesuffix(target.suffix)
    count = len(project.stages)
    forests = [
        target.with_name(f"{stem}{'' if count == 1 else f'_{n + 1}'}.forest.npz") for n in range(count)
    ]
    if image:
        source = (image, "") if os.path.exists(image) else split_dataset(image)
    else:
        source = lane_source(project, project.lanes[0]) if project.lanes else ("", "")
        axes = axes or (project.lanes[0].axes if project.lanes else "")
    for path in (*forests, target):
        _check_target(path, (str(project.path), source[0]), overwrite)
    written: dict[int, Forest] = {}
    with Graph() as graph:
        volume = open_image(graph, str(Path(source[0]).absolute()), source[1], axes, name="image")

        def in_a_file(number: int, forest: Forest) -> Any:
            written[number] = forest
            name = "forest" if count == 1 else f"forest_{number + 1}"
            return OpForestFile(graph=graph, name=name, path=str(forests[number].absolute())).classifier

        classifiers: Callable[[int, Forest], Any] = in_a_file
        build_project(project, graph, volume, recipe.name, classifiers=classifiers)
        described = Pipeline.from_graph(graph).to_dict()
    folder = target.absolute().parent
    for step in described.values():
        if isinstance(step, dict) and isinstance(step.get("path"), str):
            step["path"] = os.path.relpath(step["path"], folder)
    last = "predict" if count == 1 else f"predict_{count}"
    described["export"] = [{"slot": f"{last}.probabilities", "path": f"{stem}_probabilities.h5"}]
    try:
        text = Pipeline.from_dict(described).to_toml().encode()
    except UnicodeEncodeError as error:
        raise StorageError(
            f"{str(target)!r} cannot be written: TOML is UTF-8, which has no place for the path "
            f"{error.object[max(error.start - 40, 0) : error.end]!r}."
        ) from None
    for number, forest in written.items():
        save_forest(forest, forests[number], overwrite=overwrite)
    with whole_file(target, overwrite=overwrite) as file:
        file.write(text)
    return [*forests, target]


def _check_target(path: Path, read: tuple[str, ...], overwrite: bool) -> None:
    """Refuse to write over what is read, whatever is said, and over what is there, unless it is said."""
    for other in filter(None, read):
        if overlap(path, other) is not None:
            raise StorageError(f"{str(path)!r} would be written where {other!r} is read.")
    if os.path.lexists(path) and not overwrite:
        raise TargetExistsError(f"{str(path)!r} exists; replace it by --overwrite.")
    if os.path.lexists(path) and not path.is_file():
        raise StorageError(f"{str(path)!r} cannot be replaced: it is no ordinary file; remove it first.")
