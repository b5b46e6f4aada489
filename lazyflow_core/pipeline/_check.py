"""Comparing a description with the operators it names: every mistake becomes one sentence.

Importing an operator's class is all that happens here; no file is opened, nothing is computed. Mistakes
that need the data (a sigma too large for the volume, a region outside of it) are found by building.
"""

from __future__ import annotations

import graphlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lazyflow_core.errors import (
    FormatError,
    ParameterError,
    PipelineError,
    PluginError,
    RoiError,
    UnknownOperatorError,
)
from lazyflow_core.graph import InputSlot, Operator, OutputSlot, ParameterSlot
from lazyflow_core.pipeline._connections import (
    Link,
    connection_of,
    connections_of,
    in_order,
    link_in,
    link_of,
    slots_of,
)
from lazyflow_core.plugins.files import find_writer
from lazyflow_core.plugins.specs import WriterSpec
from lazyflow_core.roi import parse_slicing
from lazyflow_core.sources import is_address, why_missing
from lazyflow_core.utility import overlap
from lazyflow_core.words import near_miss, possible

if TYPE_CHECKING:
    from lazyflow_core.pipeline._description import Export, Origin, Pipeline, Step

__all__ = ["CheckedPipeline", "CheckedStep", "Registry", "check_pipeline"]


class Registry(Protocol):
    """What a pipeline asks of the installed plugins; `lazyflow_core.plugins.PluginManager` is one."""

    def get_operator(self, id: str, /) -> type[Operator]:
        """Return the class of that id; raises `UnknownOperatorError` with near misses."""

    def writers(self) -> Sequence[WriterSpec]:
        """Return the kinds of files that can be written."""


@dataclass(frozen=True, slots=True)
class CheckedStep:
    """A step whose settings were told apart by the operator's class."""

    step: Step
    operator: type[Operator]
    #: Input slot to ``(step, output slot)``: one, or several for a slot that takes a list.
    connections: Mapping[str, tuple[tuple[str, str], ...]]
    #: Parameters in their declared types; paths begin at the current directory. A list of slots is a tuple of
    #: values and links.
    parameters: Mapping[str, Any]
    #: Parameters that are connected to a value output or parameter.
    links: Mapping[str, Link]


@dataclass(frozen=True, slots=True)
class CheckedPipeline:
    """A pipeline that fits the installed operators, ready to be built.

    Parameters
    ----------
    pipeline
        The description.
    steps
        In an order in which every step comes after those it takes from.
    registry
        Where the operators came from.
    """

    pipeline: Pipeline
    steps: tuple[CheckedStep, ...]
    registry: Registry


def check_pipeline(pipeline: Pipeline, registry: Registry | None = None) -> CheckedPipeline:
    """Return the pipeline with everything resolved that can be without data; see `Pipeline.check`."""
    if registry is None:
        from lazyflow_core import plugins

        registry = plugins.default()
    classes = {step.name: _operator_of(step, registry, pipeline.origin) for step in pipeline.steps}
    steps = {step.name: _check_step(step, pipeline, classes) for step in pipeline.steps}
    order = _in_order(steps, pipeline.origin)
    _check_exports(pipeline, classes, steps, registry.writers())
    return CheckedPipeline(pipeline, tuple(steps[name] for name in order), registry)


# ----------------------------------------------------------------------------------------------------- steps


def _operator_of(step: Step, registry: Registry, origin: Origin) -> type[Operator]:
    try:
        return registry.get_operator(step.operator)
    except UnknownOperatorError as error:
        raise PipelineError(f"{origin.where(step.name, 'operator')}: {error}") from None


def _check_step(step: Step, pipeline: Pipeline, classes: Mapping[str, type[Operator]]) -> CheckedStep:
    origin = pipeline.origin
    inputs = slots_of(classes[step.name], InputSlot)
    declared = slots_of(classes[step.name], ParameterSlot)
    connections: dict[str, tuple[tuple[str, str], ...]] = {}
    parameters: dict[str, Any] = {}
    links: dict[str, Link] = {}
    for key, value in step.settings.items():
        where = origin.where(step.name, key)
        if key in inputs:
            connections[key] = connections_of(f"{where}: {key}", value, inputs[key].level, classes)
        elif key in declared and declared[key].level:
            parameters[key] = _values_or_links(f"{where}: {key}", value, declared[key], classes)
        elif key in declared:
            given = _value_or_link(f"{where}: {key}", value, declared[key], classes)
            (links if isinstance(given, Link) else parameters)[key] = given
        else:
            raise PipelineError(
                f"{where}: {step.operator} has no slot or parameter {key!r}"
                f"{near_miss(key, [*inputs, *declared])}"
                f"{possible('Its inputs', inputs)}{possible('Its parameters', declared)}"
            )
    where = origin.where(step.name)
    for key, slot in inputs.items():
        if key not in connections and not slot.optional:
            raise PipelineError(
                f"{where}: the input {key!r} of {step.operator} is not connected; "
                f'add a line such as {key} = "{_example_output(step, classes)}".'
            )
    for key, parameter in declared.items():
        if key not in parameters and key not in links and not parameter.has_default:
            raise PipelineError(
                f"{where}: the parameter {key!r} of {step.operator} ({parameter.describe()}) has no value; "
                f"add a line {key} = …"
            )
    if isinstance(parameters.get("path"), str):
        parameters["path"] = str(_input_path(step, parameters["path"], bool(inputs), pipeline))
    return CheckedStep(step, classes[step.name], connections, parameters, links)


def _value_or_link(
    where: str, value: Any, parameter: ParameterSlot[Any], classes: Mapping[str, type[Operator]]
) -> Any:
    """Return a parameter's value in its declared type, or the link that gives it."""
    source = link_in(value, parameter)
    if source is not None:
        return link_of(f"{where} = {source!r}", source, parameter, classes)
    try:
        return parameter.accept(value, where)
    except ParameterError as error:
        raise PipelineError(f"{error}") from None


def _values_or_links(
    where: str, value: Any, parameter: ParameterSlot[Any], classes: Mapping[str, type[Operator]]
) -> tuple[Any, ...]:
    if parameter.level > 1 or not isinstance(value, list | tuple):
        raise PipelineError(
            f"{where} = {value!r} is not a list; this parameter takes {parameter.describe()}."
        )
    return tuple(_value_or_link(f"{where}[{i}]", each, parameter, classes) for i, each in enumerate(value))


def _example_output(step: Step, classes: Mapping[str, type[Operator]]) -> str:
    for name, operator in classes.items():
        outputs = slots_of(operator, OutputSlot)
        arrays = [key for key, output in outputs.items() if output.value_type is None]
        if name != step.name and arrays:
            return f"{name}.{arrays[0]}"
    return "step.output"


def _input_path(step: Step, text: str, takes_arrays: bool, pipeline: Pipeline) -> Path:
    """Return the path in a parameter called ``path``, which begins at the pipeline's folder.

    An operator without array inputs is a source: what it reads must be there.
    """
    path = pipeline.path(text)
    if not takes_arrays and not (text and os.path.exists(path)):  # unlike Path.exists it never raises
        place = f"{pipeline.origin.where(step.name, 'path')}: path = {text!r}"
        named = text if is_address(text) else str(path)
        if is_address(text) or os.path.islink(path):
            raise PipelineError(f"{place} {why_missing(named)}.")
        raise PipelineError(
            f"{place}: there is no file {str(path.absolute())!r}{_similar_file(path)}{_escape_hint(text)}"
        )
    return path


def _escape_hint(text: str) -> str:
    """Say what became of a Windows path in double quotes whose backslashes began escapes."""
    if text.isprintable():
        return ""
    return " In double quotes \\t and \\n are a tab and a line break; put Windows paths in single quotes."


def _similar_file(path: Path) -> str:
    try:
        return near_miss(path.name, os.listdir(path.parent))
    except (OSError, ValueError):
        return "; its folder cannot be listed either."


def _links(step: CheckedStep) -> list[Link]:
    lists = (value for key, value in step.parameters.items() if step.operator.declarations[key].level)
    return [*step.links.values(), *(item for several in lists for item in several if isinstance(item, Link))]


def _in_order(steps: Mapping[str, CheckedStep], origin: Origin) -> list[str]:
    """Return the names of the steps, sources first."""
    sources = {
        name: [source for pairs in (*step.connections.values(), _links(step)) for source, _ in pairs]
        for name, step in steps.items()
    }
    try:
        return in_order(sources)
    except graphlib.CycleError as error:
        loop: list[str] = error.args[1]
        raise PipelineError(
            f"{origin.where(loop[-1])}: the connections go in a circle: {' → '.join(loop)}; "
            "a step cannot take from itself, not even through others."
        ) from None


# --------------------------------------------------------------------------------------------------- exports


def _check_exports(
    pipeline: Pipeline,
    classes: Mapping[str, type[Operator]],
    steps: Mapping[str, CheckedStep],
    writers: Sequence[WriterSpec],
) -> None:
    inputs = {
        name: step.parameters["path"]
        for name, step in steps.items()
        if isinstance(step.parameters.get("path"), str)
    }
    for number, export in enumerate(pipeline.exports):
        where = partial(pipeline.origin.where, "export", number)
        connection_of(f"{where('slot')}: slot", export.slot, classes)
        if "\0" in export.path:
            raise PipelineError(f"{where('path')}: path = {export.path!r} is no path: it has a NUL in it.")
        check_unread(pipeline, number, inputs)
        for earlier, other in enumerate(pipeline.exports[:number]):
            found = overlap(pipeline.path(export.path), pipeline.path(other.path))
            # Two arrays of one file are two targets.
            if found is not None and not (found == "is" and _inner(export) != _inner(other)):
                which = f"the target of export {earlier + 1}"
                raise PipelineError(
                    f"{where('path')}: path = {export.path!r} {found} {which} already; "
                    "every export needs a target of its own."
                )
        if export.roi is not None:
            try:
                parse_slicing(export.roi)
            except RoiError as error:
                raise PipelineError(f"{where('roi')}: roi = {export.roi!r}: {error}") from None
        if export.dtype is not None:
            _check_dtype(export.dtype, f"{where('dtype')}: dtype")
        _check_format(export, where, writers)


def _inner(export: Export) -> str:
    return (export.dataset or "").strip("/")


def check_unread(pipeline: Pipeline, number: int, inputs: Mapping[str, str]) -> None:
    """Refuse a target that is, contains or lies in what the pipeline reads.

    Parameters
    ----------
    pipeline, number
        The description, and which of its exports.
    inputs
        What is read, by the name of the step that does.

    Raises
    ------
    PipelineError
        Writing would take away what is being computed from.
    """
    export = pipeline.exports[number]
    for name, path in inputs.items():
        found = overlap(pipeline.path(export.path), path)
        if found is not None:
            what = "" if found == "is" else f" {found} {os.path.relpath(path, pipeline.folder)!r}, which"
            raise PipelineError(
                f"{pipeline.origin.where('export', number, 'path')}: path = {export.path!r}{what} "
                f"is read by {name!r} already; every export needs a target of its own."
            )


def _check_dtype(text: str, where: str) -> None:
    try:
        known = np.dtype(text).kind in "biuf"
    except Exception:  # what numpy raises for a text that is none depends on the text
        known = False
    if not known:
        raise PipelineError(
            f"{where} = {text!r} is not a type of pixels; "
            "write 'uint8', 'uint16', 'float32' or another numpy name."
        )


def _check_format(export: Export, where: Callable[[str], str], writers: Sequence[WriterSpec]) -> None:
    key = "path" if export.format is None else "format"
    try:
        writer = find_writer(writers, export.path, export.format)
    except (FormatError, PluginError) as error:
        raise PipelineError(f"{where(key)}: {error}") from None
    for key in export.options:
        if key not in writer.options:
            known = ["slot", "path", "format", "dataset", "dtype", "roi", *writer.options]
            raise PipelineError(
                f"{where(key)}: exports by {writer.id} have no option {key!r}"
                f"{near_miss(key, known)}{possible('Options', writer.options)}"
            )
