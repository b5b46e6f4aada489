"""A graph as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lazyflow_core.graph.graph import Graph
    from lazyflow_core.graph.operator import Operator
    from lazyflow_core.graph.slots import ArraySlot, Parameter

__all__ = ["describe"]


def describe(graph: Graph) -> str:
    """Return operators, indented below their parents, with slots, connections, meta and values."""
    return "\n".join(line for operator in graph.operators for line in _lines(operator, ""))


def _lines(operator: Operator, indent: str) -> Iterator[str]:
    kind = type(operator).__name__
    yield f"{indent}{operator.name}" + ("" if operator.name == kind else f" ({kind})")
    for slot in operator.inputs:
        yield f"{indent}  {slot.name} ← {_origin(slot)}: {_meta(slot)}"
    for parameter in operator.parameters:
        yield f"{indent}  {parameter.name} = {_value(parameter)}"
    for output in operator.outputs:
        way = "" if output.upstream is None else f" ← {output.upstream}"
        yield f"{indent}  → {output.name}{way}: {_meta(output)}"
    for child in operator.children:
        yield from _lines(child, indent + "    ")


def _origin(slot: ArraySlot) -> str:
    if slot.upstream is not None:
        return str(slot.upstream)
    return "an array" if slot.ready else "nothing"


def _meta(slot: ArraySlot) -> str:
    return str(slot.meta) if slot.ready else f"not ready: {slot.why_not_ready().splitlines()[0]}"


def _value(parameter: Parameter[object]) -> str:
    if not parameter.ready:
        return "nothing yet (required)"
    note = " (default)" if parameter.is_default else ""
    way = "" if parameter.upstream is None else f" ← {parameter.upstream}"
    return f"{parameter.value!r}{way}{note}"
