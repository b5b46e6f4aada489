"""Pictures of a graph: SVG and Mermaid text, drawn without any library.

Operators stand to the right of what they take from, so every connection runs from left to right. A box shows
inputs and parameters on its left side and outputs on its right; a composite operator is a frame around its
children. What is not ready is drawn in red, with its first culprit in words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Final

from lazyflow_core.graph.describe import contents_of

if TYPE_CHECKING:
    from lazyflow_core.graph.graph import Graph
    from lazyflow_core.graph.operator import Operator
    from lazyflow_core.graph.slots import Slot

__all__ = ["to_html", "to_mermaid", "to_svg"]

# All in pixels of the picture.
_LINE: Final = 17
_TITLE: Final = 26
_PADDING: Final = 12
_GAP_X: Final = 70
_GAP_Y: Final = 26
_CHARACTER: Final = 6.4  # mean width at 11 px
_LEAST_WIDTH: Final = 120
#: Longer texts are cut off; the whole is in the tooltip.
_MOST_CHARACTERS: Final = 46

_STYLE: Final = """
text { font: 11px system-ui, sans-serif; fill: #1f2430; }
.title { font-weight: 600; font-size: 12px; }
.kind, .note { fill: #6a7286; }
.box { fill: #ffffff; stroke: #9aa3b8; }
.frame { fill: #f3f5f9; stroke: #c3cad9; stroke-dasharray: 4 3; }
.bad .box { fill: #fff1f0; stroke: #d9534a; }
.frame.bad { stroke: #d9534a; }
.note.bad { fill: #b3372f; }
.port { fill: #4b6bd6; }
.value { fill: #8a5bc7; }
.unready { fill: #d9534a; }
.absent { fill: #c3cad9; }
.edge { fill: none; stroke: #7f8cab; stroke-width: 1.4; }
.edge.of-value { stroke: #8a5bc7; stroke-dasharray: 3 3; }
"""


@dataclass
class _Box:
    """One operator in the picture."""

    operator: Operator
    x: float = 0
    y: float = 0
    width: float = 0
    height: float = 0
    children: list[_Box] = field(default_factory=list)
    left: list[tuple[Slot, str]] = field(default_factory=list)
    right: list[tuple[Slot, str]] = field(default_factory=list)

    def port(self, slot: Slot, inside: bool) -> tuple[float, float]:
        """Where a connection ends: at the border of the box, or behind the labels for its children."""
        for slots, border, inward in ((self.left, self.x, 1), (self.right, self.x + self.width, -1)):
            for row, (candidate, _) in enumerate(slots):
                if candidate is slot:
                    # Behind the longest of them, so that no connection crosses the others' labels.
                    longest = max(len(label) for _, label in slots)
                    depth = longest * _CHARACTER + _PADDING + 8 if inside else 0
                    return border + inward * depth, self.y + _TITLE + row * _LINE + _LINE / 2
        raise KeyError(slot)

    def shift(self, x: float, y: float) -> None:
        self.x += x
        self.y += y
        for child in self.children:
            child.shift(x, y)

    def every(self) -> Iterator[_Box]:
        yield self
        for child in self.children:
            yield from child.every()


def to_svg(graph: Graph) -> str:
    """Return a picture of a graph as SVG text.

    Shows operators, slots with meta or value, connections, and what is not ready.
    """
    boxes = [_measure(operator) for operator in graph.operators]
    width, height = _place(boxes)
    every = {inner.operator: inner for box in boxes for inner in box.every()}
    # Frames at the bottom, then connections, then what must stay readable.
    frames = [_frame(box) for box in every.values() if box.children]
    front = [text for box in every.values() for text in _draw(box)]
    edges = [
        _edge(slot, every)
        for box in every.values()
        for slot, _ in (*box.left, *box.right)
        if slot.upstream is not None and slot.upstream.operator in every
    ]
    height += _GAP_Y  # room for connections that go around
    width, height = max(width, 200) + 2 * _PADDING, max(height, 40) + 2 * _PADDING
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-_PADDING} {-_PADDING} {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label="graph of operators">'
        f'<style>{_STYLE}</style><rect x="{-_PADDING}" y="{-_PADDING}" width="100%" height="100%" '
        f'fill="#fbfcfe"/>{"".join(frames)}{"".join(edges)}{"".join(front)}</svg>'
    )


def to_mermaid(graph: Graph) -> str:
    """Return a picture of a graph as Mermaid flowchart text, for pages that render it."""
    names: dict[Operator, str] = {}
    lines = ["flowchart LR"]
    for operator in graph.operators:
        lines += _mermaid(operator, names, "  ")
    for operator in names:
        for slot in _leaves((*operator.inputs, *operator.parameters)):
            origin = slot.upstream
            while origin is not None and origin.upstream is not None and origin.operator.children:
                origin = origin.upstream
            if origin is None or operator.children:
                continue
            label = f"{origin.name} → {slot.name}"
            lines.append(f"  {names[origin.operator]} -- {_quoted(label)} --> {names[operator]}")
    return "\n".join(lines)


def to_html(graph: Graph) -> str:
    """Return picture and description of a graph, as notebooks show them."""
    text = escape(graph.describe())
    return (
        f'<div style="max-width:100%;overflow-x:auto">{to_svg(graph)}</div>'
        f"<details><summary>as text</summary><pre>{text}</pre></details>"
    )


# ---------------------------------------------------------------------------------------------- measuring


def _measure(operator: Operator) -> _Box:
    box = _Box(operator)
    box.left = [(s, _label(s)) for s in _leaves((*operator.inputs, *operator.parameters))]
    box.right = [(s, _label(s)) for s in _leaves(operator.outputs)]
    left = max((len(text) for _, text in box.left), default=0) * _CHARACTER
    right = max((len(text) for _, text in box.right), default=0) * _CHARACTER
    title = (len(operator.name) + 2 + len(_kind(operator))) * _CHARACTER + 8
    box.width = max(_LEAST_WIDTH, left + right + 40, title + 2 * _PADDING)
    box.height = _TITLE + max(len(box.left), len(box.right), 1) * _LINE + 8
    if operator.children:
        box.children = [_measure(child) for child in operator.children]
        inner_width, inner_height = _place(box.children)
        for child in box.children:
            child.shift(left + _PADDING + 24, _TITLE + _PADDING)
        box.width = max(box.width, inner_width + left + right + 2 * _PADDING + 48)
        box.height = max(box.height, inner_height + _TITLE + 2 * _PADDING)
    return box


def _place(boxes: list[_Box]) -> tuple[float, float]:
    """Put boxes that have the same parent into columns; return the size of all."""
    columns: dict[int, list[_Box]] = {}
    numbers = _columns(boxes)
    for box in boxes:
        columns.setdefault(numbers[box.operator], []).append(box)
    x = bottom = 0.0
    for number in sorted(columns):
        y = 0.0
        width = max(box.width for box in columns[number])
        for box in columns[number]:
            box.shift(x - box.x, y - box.y)
            box.width = width
            y += box.height + _GAP_Y
        x += width + _GAP_X
        bottom = max(bottom, y - _GAP_Y)
    return max(0.0, x - _GAP_X), bottom


def _columns(boxes: list[_Box]) -> dict[Operator, int]:
    """Return the column of each box: one more than the last of those it takes from."""
    owner = {inner.operator: box.operator for box in boxes for inner in box.every()}
    sources: dict[Operator, set[Operator]] = {box.operator: set() for box in boxes}
    for inner, operator in owner.items():
        for slot in _leaves((*inner.inputs, *inner.parameters)):
            if slot.upstream is not None and slot.upstream.operator in owner:
                sources[operator].add(owner[slot.upstream.operator])
        sources[operator].discard(operator)
    numbers = dict.fromkeys(sources, 0)
    order = sorted(sources, key=lambda operator: operator.rank)
    # One pass, except where children of composites are connected directly; these may even go in a circle.
    for _ in range(3):
        for operator in order:
            numbers[operator] = max((numbers[source] + 1 for source in sources[operator]), default=0)
    return numbers


# ------------------------------------------------------------------------------------------------ drawing


def _frame(box: _Box) -> str:
    return f'<rect class="frame{"" if box.operator.ready else " bad"}" {_geometry(box)}/>'


def _geometry(box: _Box) -> str:
    return f'x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="6"'


def _draw(box: _Box) -> Iterator[str]:
    operator = box.operator
    x, y, w = box.x, box.y, box.width
    bad = "" if operator.ready else ' class="bad"'
    yield f"<g{bad}><title>{escape(operator.name)}</title>"
    if not box.children:
        yield f'<rect class="box" {_geometry(box)}/>'
    yield (
        f'<text x="{x + _PADDING:.1f}" y="{y + 17:.1f}"><tspan class="title">{escape(operator.name)}</tspan>'
        f'<tspan class="kind" dx="6">{escape(_kind(operator))}</tspan></text>'
    )
    for side, slots in (("start", box.left), ("end", box.right)):
        at = x if side == "start" else x + w
        text_x = at + _PADDING if side == "start" else at - _PADDING
        for slot, label in slots:
            _, port_y = box.port(slot, inside=False)
            name, _, rest = label.partition(" ")
            if slot.ready:
                color, bad = "value" if slot.contents == "value" else "port", ""
            elif _is_absent(slot):
                color, bad = "absent", ""
            else:
                color, bad = "unready", " bad"
            yield (
                f"<g><title>{escape(f'{slot}: {contents_of(slot)}')}</title>"
                f'<circle class="{color}" cx="{at:.1f}" cy="{port_y:.1f}" r="4"/>'
                f'<text x="{text_x:.1f}" y="{port_y + 4:.1f}" text-anchor="{side}">{escape(name)}'
                f'<tspan class="note{bad}" dx="4">{escape(rest)}</tspan></text></g>'
            )
    yield "</g>"


def _edge(slot: Slot, every: dict[Operator, _Box]) -> str:
    upstream = slot.upstream
    assert upstream is not None, "the caller has looked"
    source, target = every[upstream.operator], every[slot.operator]
    x1, y1 = source.port(upstream, inside=target in source.children)
    x2, y2 = target.port(slot, inside=source in target.children)
    kind = "edge of-value" if slot.contents == "value" else "edge"
    family = slot.operator.parent
    between = [
        box
        for box in every.values()
        if box.operator.parent is family
        and box.x > x1
        and box.x + box.width < x2
        and box.y - 4 < max(y1, y2)
        and min(y1, y2) < box.y + box.height + 4
    ]
    if between:
        # Around, below everything that stands in the way.
        low = max(box.y + box.height for box in between) + _GAP_Y / 2
        left, right = min(box.x for box in between) - 14, max(box.x + box.width for box in between) + 14
        d = (
            f"M{x1:.1f},{y1:.1f} C{x1 + 24:.1f},{y1:.1f} {left - 24:.1f},{low:.1f} {left:.1f},{low:.1f} "
            f"L{right:.1f},{low:.1f} C{right + 24:.1f},{low:.1f} {x2 - 24:.1f},{y2:.1f} {x2:.1f},{y2:.1f}"
        )
    else:
        bend = max(16.0, abs(x2 - x1) / 2)
        d = f"M{x1:.1f},{y1:.1f} C{x1 + bend:.1f},{y1:.1f} {x2 - bend:.1f},{y2:.1f} {x2:.1f},{y2:.1f}"
    return f'<path class="{kind}" d="{d}"/>'


def _label(slot: Slot) -> str:
    name = str(slot).removeprefix(f"{slot.operator.name}.")
    if slot.ready:
        text = f"{name} {contents_of(slot)}"
    elif _is_absent(slot):
        text = f"{name} not connected"
    elif slot.upstream is not None:
        text = f"{name} not ready"
    else:
        text = f"{name} nothing yet" if slot.feeds_operator else f"{name} not ready"
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"


def _is_absent(slot: Slot) -> bool:
    """Whether it is an optional input that takes nothing, which is no fault."""
    return slot.feeds_operator and slot.upstream is None and not slot.required and not slot.ready


def _kind(operator: Operator) -> str:
    kind = type(operator).__name__
    return "" if kind == operator.name else kind


def _leaves(slots: tuple[Slot, ...]) -> Iterator[Slot]:
    from lazyflow_core.graph.multi import leaves

    return leaves(slots)


# ------------------------------------------------------------------------------------------------ mermaid


def _mermaid(operator: Operator, names: dict[Operator, str], indent: str) -> Iterator[str]:
    name = names[operator] = f"op{len(names)}"
    title = operator.name if operator.ready else f"{operator.name} (not ready)"
    if operator.children:
        yield f"{indent}subgraph {name} [{_quoted(title)}]"
        for child in operator.children:
            yield from _mermaid(child, names, indent + "  ")
        yield f"{indent}end"
    else:
        yield f"{indent}{name}[{_quoted(title)}]"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "#quot;") + '"'
