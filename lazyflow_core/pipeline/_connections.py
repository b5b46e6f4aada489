"""What the steps of a pipeline take from each other: the words for it, and an order that follows from it."""

from __future__ import annotations

import graphlib
import heapq
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from lazyflow_core.errors import PipelineError
from lazyflow_core.graph import Operator, OutputSlot, ParameterSlot
from lazyflow_core.graph.declarations import type_text
from lazyflow_core.words import near_miss, possible, short

__all__ = ["Link", "connection_of", "connections_of", "in_order", "link_in", "link_of", "slots_of"]

_LINK: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\.[A-Za-z_]\w*")


class Link(NamedTuple):
    """The slot that a parameter takes its value from."""

    step: str
    slot: str


def slots_of(operator: type[Operator], kind: type) -> dict[str, Any]:
    """Return the slots that an operator's class declares, of one kind, in the order of the class body."""
    return {name: slot for name, slot in operator.declarations.items() if isinstance(slot, kind)}


def connections_of(
    where: str, value: Any, level: int, classes: Mapping[str, type[Operator]]
) -> tuple[tuple[str, str], ...]:
    """Return the steps and outputs that an input slot takes from: one, or those of a list."""
    if level == 0:
        return (connection_of(where, value, classes),)
    if level > 1 or not isinstance(value, list | tuple):
        raise PipelineError(
            f"{where} = {short(value)} is not a list of connections; this input slot takes several, "
            'such as ["first.output", "second.output"].'
        )
    return tuple(connection_of(f"{where}[{i}]", each, classes) for i, each in enumerate(value))


def connection_of(where: str, value: Any, classes: Mapping[str, type[Operator]]) -> tuple[str, str]:
    """Return the step and the output of arrays that ``"step.slot"`` names."""
    name, dot, slot = value.partition(".") if isinstance(value, str) else ("", "", "")
    if not (name and dot and slot):
        raise PipelineError(
            f"{where} = {short(value)} is not a connection; an input slot takes 'step.slot', "
            "such as 'volume.output'."
        )
    where = f"{where} = {short(value)}"
    outputs = slots_of(_class_of(where, name, classes), OutputSlot)
    arrays = {key: output for key, output in outputs.items() if output.value_type is None}
    if slot not in arrays:
        what = f"no output {slot!r}{near_miss(slot, arrays)}"
        if slot in outputs:
            what = f"{outputs[slot].describe()} as its {slot!r}, which parameters take; this needs an array."
        raise PipelineError(f"{where}: step {name!r} has {what}{possible('Its outputs', arrays)}")
    return name, slot


def link_in(value: Any, parameter: ParameterSlot[Any]) -> str | None:
    """Return the ``"step.slot"`` that a parameter is connected to; None if it is given a value.

    A text is one where the parameter takes no text; ``{from = "step.slot"}`` is one everywhere.

    Examples
    --------
    >>> link_in("otsu.level", ParameterSlot(float)), link_in("otsu.level", ParameterSlot(str))
    ('otsu.level', None)
    >>> link_in({"from": "otsu.level"}, ParameterSlot(str))
    'otsu.level'
    """
    if isinstance(value, Mapping) and list(value) == ["from"]:
        return str(value["from"])
    is_link = isinstance(value, str) and _LINK.fullmatch(value) and not parameter.admits(str)
    return value if is_link else None


def link_of(
    where: str, source: str, parameter: ParameterSlot[Any], classes: Mapping[str, type[Operator]]
) -> Link:
    """Return the step and its value output or parameter that a parameter is connected to."""
    if not _LINK.fullmatch(source):
        raise PipelineError(f"{where} is not a connection, which is a text such as 'otsu.level'.")
    name, _, slot = source.partition(".")
    operator = _class_of(where, name, classes)
    outputs = slots_of(operator, OutputSlot)
    types = {key: output.value_type for key, output in outputs.items() if output.value_type is not None}
    types |= {key: other.type for key, other in slots_of(operator, ParameterSlot).items()}
    if slot not in types:
        what = f"no value {slot!r}{near_miss(slot, types)}"
        if slot in operator.declarations:
            what = f"an array as its {slot!r}; a parameter takes one value."
        raise PipelineError(f"{where}: step {name!r} has {what}{possible('Its values', types)}")
    if not parameter.admits(types[slot]):
        given, wanted = type_text(types[slot]), type_text(parameter.type)
        raise PipelineError(f"{where}: {slot!r} of step {name!r} is {given}, not {wanted}.")
    return Link(name, slot)


def _class_of(where: str, name: str, classes: Mapping[str, type[Operator]]) -> type[Operator]:
    if name not in classes:
        hint = near_miss(name, classes) + possible("Steps", classes)
        raise PipelineError(f"{where}: no step {name!r}{hint}")
    return classes[name]


def in_order(sources: Mapping[str, Sequence[str]]) -> list[str]:
    """Return names so that each comes after its sources, and otherwise as they were given.

    Examples
    --------
    >>> in_order({"smooth": ["volume"], "other": [], "volume": [], "mask": ["smooth", "other"]})
    ['other', 'volume', 'smooth', 'mask']
    """
    names = list(sources)
    position = {name: i for i, name in enumerate(names)}
    sorter = graphlib.TopologicalSorter(sources)
    sorter.prepare()
    ready: list[int] = []
    order = []
    while sorter.is_active():
        for name in sorter.get_ready():
            heapq.heappush(ready, position[name])
        order.append(names[heapq.heappop(ready)])
        sorter.done(order[-1])
    return order
