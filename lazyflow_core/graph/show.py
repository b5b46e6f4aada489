"""What slots and operators show of themselves: as text, in notebooks, and as the signature of a class."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from html import escape
from typing import TYPE_CHECKING, Any, Final

from lazyflow_core.graph.describe import contents_of, origin_of

if TYPE_CHECKING:
    from lazyflow_core.graph.operator import Operator
    from lazyflow_core.graph.slots import Slot

__all__ = ["operator_html", "operator_text", "signature_of", "slot_html", "slot_text"]

_CELL: Final = "padding:1px 10px 1px 0;text-align:left;vertical-align:top"


def slot_text(slot: Slot) -> str:
    """Return ``"<Output OpSmooth.output: y=64, x=64 float32>"``; or why there is nothing in it."""
    return f"<{type(slot).__name__} {slot}{origin_of(slot)}: {_contents(slot)}>"


def operator_text(operator: Operator) -> str:
    """Return class, name and state of an operator, what it was given, and its outputs."""
    name = "" if operator.name == type(operator).__name__ else f" {operator.name!r}"
    if operator.closed:
        return f"<{type(operator).__name__}{name}, closed>"
    state = "ready" if operator.ready else "not ready"
    given: list[Slot] = [s for s in operator.inputs if s.upstream is not None or s.ready or s.required]
    given += [p for p in operator.parameters if not p.is_default or not p.ready]
    sides = [
        "; ".join(f"{slot.name} {_contents(slot)}" for slot in slots) for slots in (given, operator.outputs)
    ]
    text = " → ".join(filter(None, sides))
    return f"<{type(operator).__name__}{name}, {state}{': ' if text else ''}{text}>"


def slot_html(slot: Slot) -> str:
    """Return a table of what is known of a slot, as notebooks show it."""
    return _table(f"{type(slot).__name__} {slot}", _facts(slot))


def operator_html(operator: Operator) -> str:
    """Return a table of an operator's slots: where each takes from, and what is there."""
    kind = type(operator).__name__
    title = operator.name if operator.name == kind else f"{operator.name} ({kind})"
    state = "closed" if operator.closed else "ready" if operator.ready else "not ready"
    rows = []
    for side, slots in (
        ("input", operator.inputs),
        ("parameter", operator.parameters),
        ("output", operator.outputs),
    ):
        rows += [(side, f"{slot.name}{origin_of(slot)}", _contents(slot)) for slot in slots]
    return _table(f"{title}: {state}", rows)


def signature_of(cls: type[Operator]) -> inspect.Signature:
    """Return how an operator class is called: its inputs and parameters by name, then graph, parent and name.

    Of a class with an ``__init__`` of its own also that one's parameters; its slots only where it takes
    ``**slots``.
    """
    own = list(inspect.signature(cls.__init__).parameters.values())[1:]
    fixed = [p for p in own if p.kind is not p.VAR_KEYWORD]
    takes_slots = len(fixed) < len(own)
    keywords = [p for p in fixed if p.kind is p.KEYWORD_ONLY]
    taken = {p.name for p in fixed}
    if takes_slots:
        keywords += [p for p in _slot_parameters(cls) if p.name not in taken]
    keywords += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
        for name in ("graph", "parent", "name")
    ]
    return inspect.Signature([*(p for p in fixed if p.kind is not p.KEYWORD_ONLY), *keywords])


# ------------------------------------------------------------------------------------------------- parts


class _Later:
    """The default of what may be given after the operator was made."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


_REQUIRED: Final = _Later("<required>")
_OPTIONAL: Final = _Later("<optional>")


def _slot_parameters(cls: type[Operator]) -> Iterator[inspect.Parameter]:
    from lazyflow_core.graph.declarations import InputSlot, ParameterSlot

    for name, slot in cls.declarations.items():
        default: Any = _REQUIRED
        annotation: Any = inspect.Parameter.empty
        if isinstance(slot, ParameterSlot):
            annotation = slot.type
            default = slot.default if slot.has_default else _REQUIRED
        elif not isinstance(slot, InputSlot):
            continue
        elif slot.optional:
            default = _OPTIONAL
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _contents(slot: Slot) -> str:
    """Return what is in a slot, or why nothing is.

    A repr is asked for in the middle of errors and of changes, so it never raises.
    """
    try:
        return contents_of(slot).rstrip(".")
    except Exception as error:
        return f"not known now ({type(error).__name__})"


def _facts(slot: Slot) -> Iterator[tuple[str, str]]:
    from lazyflow_core.graph.arrays import ArraySlot

    if slot.upstream is not None:
        yield "takes from", str(slot.upstream)
    if not isinstance(slot, ArraySlot) or not slot.ready:
        yield "contents", _contents(slot)
        return
    meta = slot.meta
    yield "shape", " × ".join(map(str, meta.shape))
    for axis, length in zip(meta.axes, meta.shape, strict=True):
        size = "" if axis.resolution is None else f", {axis.resolution:g} {axis.unit or ''} per pixel"
        yield f"axis {axis.key}", f"{length} ({axis.kind}{size.rstrip()})"
    yield "dtype", str(meta.dtype)
    if meta.value_range is not None:
        yield "values", f"{meta.value_range[0]:g} to {meta.value_range[1]:g}"
    if meta.channel_names:
        yield "channels", ", ".join(meta.channel_names)
    yield "size", f"{meta.nbytes:,} bytes, computed when asked for"


def _table(title: str, rows: Iterable[tuple[str, ...]]) -> str:
    cells = ("".join(f'<td style="{_CELL}">{escape(cell)}</td>' for cell in row) for row in rows)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return f"<div><strong>{escape(title)}</strong><table>{body}</table></div>"
