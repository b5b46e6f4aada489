"""A graph as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lazyflow_core.graph.graph import Graph
    from lazyflow_core.graph.operator import Operator
    from lazyflow_core.graph.slots import Slot

__all__ = ["contents_of", "describe", "origin_of"]

#: Longer values are cut off.
_MOST_CHARACTERS: Final = 80


def describe(graph: Graph) -> str:
    """Return operators, indented below their parents, with slots, connections, meta and values."""
    return "\n".join(line for operator in graph.operators for line in _lines(operator, ""))


def _lines(operator: Operator, indent: str) -> Iterator[str]:
    kind = type(operator).__name__
    yield f"{indent}{operator.name}" + ("" if operator.name == kind else f" ({kind})")
    for slot in _with_elements((*operator.inputs, *operator.parameters)):
        yield f"{indent}  {_own_name(slot)}{origin_of(slot)}: {contents_of(slot)}"
    for output in _with_elements(operator.outputs):
        yield f"{indent}  → {_own_name(output)}{origin_of(output)}: {contents_of(output)}"
    for child in operator.children:
        yield from _lines(child, indent + "    ")


def origin_of(slot: Slot) -> str:
    """Return where a slot takes its contents from, with an arrow; empty where that is the slot itself."""
    return "" if slot.upstream is None else f" ← {slot.upstream}"


def contents_of(slot: Slot) -> str:
    """Return meta or value of a slot in words, or why it is not ready."""
    from lazyflow_core.graph.arrays import ArraySlot
    from lazyflow_core.graph.multi import MultiSlot
    from lazyflow_core.graph.values import Parameter

    if isinstance(slot, MultiSlot):
        return "1 slot" if len(slot) == 1 else f"{len(slot)} slots"
    if not slot.ready:
        if slot.feeds_operator and slot.upstream is None and not slot.required:
            return "not connected (optional)"
        return f"not ready: {slot.why_not_ready().splitlines()[0].partition(' is not ready: ')[2]}"
    if isinstance(slot, ArraySlot):
        return str(slot.meta)
    if isinstance(slot, Parameter) and not slot.is_computed:
        text = repr(slot.value)
        if len(text) > _MOST_CHARACTERS:
            text = text[: _MOST_CHARACTERS - 1] + "…"
        return " ".join(text.split()) + (" (default)" if slot.is_default else "")
    return "computed when asked for"


def _own_name(slot: Slot) -> str:
    return str(slot).removeprefix(f"{slot.operator.name}.")


def _with_elements(slots: tuple[Slot, ...]) -> Iterator[Slot]:
    from lazyflow_core.graph.multi import MultiSlot

    for slot in slots:
        yield slot
        if isinstance(slot, MultiSlot):
            yield from _with_elements(tuple(slot))
