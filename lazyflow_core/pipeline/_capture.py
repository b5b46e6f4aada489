"""The description of a graph that exists: the way back from `Pipeline.build`."""

from __future__ import annotations

import re
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from lazyflow_core.errors import PipelineError
from lazyflow_core.graph import Graph, Input, MultiInput, MultiParameter, Operator, Parameter, Slot
from lazyflow_core.graph.multi import leaves
from lazyflow_core.pipeline._connections import in_order, link_in
from lazyflow_core.pipeline._description import Step

if TYPE_CHECKING:
    from lazyflow_core.plugins import PluginManager

__all__ = ["describe_graph"]


def describe_graph(graph: Graph, registry: Any = None) -> tuple[Step, ...]:
    """Return a step for each operator of a graph; see `Pipeline.from_graph`."""
    if registry is None:
        from lazyflow_core import plugins

        registry = plugins.default()
    ids = _ids(registry)
    # Others may change the graph meanwhile; inside of a change of our own what is there is ours.
    with nullcontext() if graph.is_changing else graph.snapshot():
        return _steps(graph, ids)


def _steps(graph: Graph, ids: dict[str, str]) -> tuple[Step, ...]:
    names = _names(graph)
    steps, sources = {}, {}
    for operator, name in names.items():
        kind = type(operator)
        id = ids.get(f"{kind.__module__}:{kind.__qualname__}")
        if id is None:
            raise PipelineError(
                f"{operator.name}: no installed distribution offers {kind.__qualname__} by an id, and a "
                "pipeline names operators by id only; register it as an entry point."
            )
        settings: dict[str, Any] = {}
        for slot in operator.inputs:
            source = _source(slot, names)
            if source is not None:
                settings[slot.name] = source
        for parameter in operator.parameters:
            declaration: Any = parameter.declaration
            if not parameter.is_default and not declaration.state:
                settings[parameter.name] = _setting(parameter, names)
        steps[name] = Step(name, id, settings)
        taken = leaves([*operator.inputs, *operator.parameters])
        sources[name] = [names[slot.upstream.operator] for slot in taken if slot.upstream is not None]
    # In the order in which `build` makes them, whenever they were connected here.
    return tuple(steps[name] for name in in_order(sources))


def _ids(registry: PluginManager) -> dict[str, str]:
    return {spec.target: spec.id for spec in registry.operators()}


def _names(graph: Graph) -> dict[Operator, str]:
    """Return a step name for each operator without parent: its own where that is possible."""
    names: dict[Operator, str] = {}
    for operator in graph.operators:
        wanted = re.sub(r"[^A-Za-z0-9_-]", "_", operator.name)
        if not re.match(r"[A-Za-z_]", wanted) or wanted == "export":
            wanted = f"step_{wanted}"
        name, count = wanted, 1
        while name in names.values():
            count += 1
            name = f"{wanted}_{count}"
        names[operator] = name
    return names


def _source(slot: Input | MultiInput, names: dict[Operator, str]) -> str | list[str] | None:
    if isinstance(slot, MultiInput):
        if slot.level > 1:
            raise PipelineError(f"{slot}: a pipeline has no word for lists of lists of connections.")
        sources = [_output(element, names) for element in slot]
        missing = next((e for e, s in zip(slot, sources, strict=True) if s is None), None)
        if missing is not None:
            raise PipelineError(f"{missing} is not connected; a list in a pipeline has no gaps.")
        return [source for source in sources if source is not None] or None
    return _output(slot, names)


def _output(slot: Slot, names: dict[Operator, str]) -> str | None:
    upstream = slot.upstream
    if upstream is None:
        if slot.ready:
            raise PipelineError(
                f"{slot} has an array that was assigned in this process; a pipeline reads arrays from files, "
                "by a step such as io.read."
            )
        return None
    if upstream.operator not in names or upstream.feeds_operator or upstream.container is not None:
        raise PipelineError(f"{slot} takes from {upstream}, which is not the output of a step.")
    return f"{names[upstream.operator]}.{upstream.name}"


def _setting(parameter: Parameter[Any] | MultiParameter, names: dict[Operator, str]) -> Any:
    if isinstance(parameter, MultiParameter):
        if parameter.level > 1:
            raise PipelineError(f"{parameter}: a pipeline has no word for lists of lists of values.")
        return [_setting(element, names) for element in parameter]
    if parameter.upstream is not None:
        return _link(parameter, parameter.upstream, names)
    return _value(parameter)


def _link(parameter: Parameter[Any], upstream: Slot, names: dict[Operator, str]) -> Any:
    """Return the words for a parameter that takes its value from another step; `link_in` reads them."""
    if upstream.operator not in names:
        raise PipelineError(f"{parameter} takes from {upstream}, which belongs to no step.")
    text = f"{names[upstream.operator]}.{upstream.name}"
    return text if link_in(text, parameter.declaration) else {"from": text}


def _value(parameter: Parameter[Any]) -> Any:
    value = parameter.value
    if not _is_data(value):
        raise PipelineError(
            f"{parameter} = {value!r} cannot be written as data; numbers, texts, truth values and lists can."
        )
    return value


def _is_data(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_data, value))
    return isinstance(value, bool | int | float | str)
