"""Making the operators of a checked pipeline, connected, in a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lazyflow_core.errors import (
    ConnectError,
    FormatError,
    NotReadyError,
    ParameterError,
    PipelineError,
    RoiError,
    SetupError,
    StorageError,
    UnknownOperatorError,
)
from lazyflow_core.graph import Graph, Operator, Output
from lazyflow_core.pipeline._check import check_unread
from lazyflow_core.pipeline._connections import Link
from lazyflow_core.roi import Roi

if TYPE_CHECKING:
    from lazyflow_core.pipeline._check import CheckedPipeline, CheckedStep, Registry
    from lazyflow_core.pipeline._description import Export, Pipeline

__all__ = ["BuiltExport", "BuiltPipeline", "build_pipeline"]


@dataclass(frozen=True, slots=True)
class BuiltExport:
    """An export with its slot.

    Parameters
    ----------
    export
        The description.
    slot
        What is written: the output it names, cast if it asks for that.
    roi
        The part of ``slot`` that is written.
    path
        The target, seen from the current directory.
    """

    export: Export
    slot: Output
    roi: Roi
    path: Path


@dataclass(frozen=True, slots=True)
class BuiltPipeline:
    """The operators of a pipeline in a graph; nothing has been computed.

    Parameters
    ----------
    pipeline
        The description.
    operators
        By the names of their steps.
    exports
        In the order of the description.
    """

    pipeline: Pipeline
    operators: Mapping[str, Operator]
    exports: tuple[BuiltExport, ...]
    _sources: Mapping[str, str]

    def slot(self, text: str) -> Output:
        """Return the output slot that ``"step.slot"`` names."""
        name, _, slot = text.partition(".")
        self.pipeline.step(name)
        output: Output = getattr(self.operators[name], slot)
        return output

    def source_of(self, text: str) -> Output:
        """Return the output of the source that ``"step.slot"`` comes from, following the first inputs."""
        while True:
            upstream = self._sources.get(text.partition(".")[0])
            if upstream is None:
                return self.slot(text)
            text = upstream


def build_pipeline(checked: CheckedPipeline, graph: Graph) -> BuiltPipeline:
    """Return the operators of a checked pipeline; see `Pipeline.build`."""
    origin = checked.pipeline.origin
    operators: dict[str, Operator] = {}
    sources: dict[str, str] = {}
    for step in checked.steps:
        operators[step.step.name] = _make(step, graph, operators, origin.where(step.step.name))
        for pairs in step.connections.values():
            for source, slot in pairs:
                sources.setdefault(step.step.name, f"{source}.{slot}")
    # Paths that other steps give are known only now.
    linked = {
        step.step.name: path
        for step in checked.steps
        if "path" in step.links and isinstance(path := operators[step.step.name].path.value, str)  # type: ignore[attr-defined]
    }
    for number in range(len(checked.pipeline.exports)):
        check_unread(checked.pipeline, number, linked)
    built = BuiltPipeline(checked.pipeline, operators, (), sources)
    exports = tuple(
        _built_export(export, number, built, checked.registry, graph)
        for number, export in enumerate(checked.pipeline.exports)
    )
    return BuiltPipeline(checked.pipeline, operators, exports, sources)


def _make(step: CheckedStep, graph: Graph, operators: Mapping[str, Operator], where: str) -> Operator:
    inputs: dict[str, Any] = {}
    for key, pairs in step.connections.items():
        slots = [operators[name].slots[slot] for name, slot in pairs]
        inputs[key] = slots if step.operator.declarations[key].level else slots[0]
    inputs |= {key: operators[name].slots[slot] for key, (name, slot) in step.links.items()}
    parameters = {
        key: [operators[item.step].slots[item.slot] if isinstance(item, Link) else item for item in value]
        if step.operator.declarations[key].level
        else value
        for key, value in step.parameters.items()
    }
    try:
        operator: Operator = step.operator(graph=graph, name=step.step.name, **inputs, **parameters)
    except (SetupError, ConnectError, ParameterError) as error:
        cause: BaseException | None = error
        while cause is not None:  # what a file is to blame for is told in the words of its reader
            if isinstance(cause, FormatError | StorageError):
                raise cause from None
            cause = cause.__cause__
        sentence = str(error).removeprefix(f"{step.step.name}: ")
        raise PipelineError(f"{where}: {sentence}") from error
    return operator


def _built_export(
    export: Export, number: int, built: BuiltPipeline, registry: Registry, graph: Graph
) -> BuiltExport:
    where = built.pipeline.origin.where
    slot = built.slot(export.slot)
    try:
        meta = slot.meta
    except NotReadyError as error:
        raise PipelineError(f"{where('export', number, 'slot')}: {error}") from None
    try:
        roi = meta.roi if export.roi is None else meta.roi_of(export.roi)
    except RoiError as error:
        raise PipelineError(
            f"{where('export', number, 'roi')}: roi = {export.roi!r} of {export.slot} ({meta}): {error}"
        ) from None
    if roi.is_empty:
        raise PipelineError(
            f"{where('export', number, 'roi')}: roi = {export.roi!r} of {export.slot} ({meta}) "
            "holds no pixel."
        )
    if export.dtype is not None and np.dtype(export.dtype) != meta.dtype:
        try:
            cast = registry.get_operator("array.cast")
        except UnknownOperatorError as error:
            raise PipelineError(f"{where('export', number, 'dtype')}: dtype needs {error}") from None
        slot = cast(graph=graph, image=slot, dtype=export.dtype).output  # type: ignore[attr-defined]
    return BuiltExport(export, slot, roi, built.pipeline.path(export.path))
