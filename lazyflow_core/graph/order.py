"""A topological order of the graph, kept while it changes.

Every slot has a rank: at least that of its upstream slot, and for an output that an operator computes, more
than the ranks of all the operator's inputs. Setup and push walk operators by rank and so reach each of them
once, after everything it depends on.

Ranks only grow. An order of a graph stays one when connections are taken away, so disconnecting leaves
them alone. Connecting downstream of what exists costs one step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lazyflow_core.errors import ConnectError

if TYPE_CHECKING:
    from lazyflow_core.graph.operator import Operator
    from lazyflow_core.graph.slots import Slot

__all__ = ["raise_ranks"]


def raise_ranks(upstream: Slot, slot: Slot) -> None:
    """Make room in the order for a connection from ``upstream`` to ``slot``.

    Raises
    ------
    ConnectError
        If ``upstream`` itself depends on ``slot``; names the operators around the circle. The order is then
        what it was.
    """
    # A circle of connections alone raises no rank, so it is looked for by itself.
    origin: Slot | None = upstream
    while origin is not None:
        if origin is slot:
            raise ConnectError(_circle([upstream, slot], upstream, slot))
        origin = origin._upstream

    #: Who raised whom, for naming the circle.
    came_from: dict[Slot, Slot] = {slot: upstream}
    before: list[tuple[Slot | Operator, int]] = []
    pending = [(slot, upstream.rank)]
    while pending:
        changed, rank = pending.pop()
        if rank <= changed.rank:
            continue
        if changed is upstream:
            # Half of an order is none: who is behind a slot that was raised may not have been yet.
            for raised, old in reversed(before):
                raised.rank = old
            raise ConnectError(_circle(_way(came_from, upstream, slot), upstream, slot))
        before.append((changed, changed.rank))
        changed.rank = rank
        for follower in changed._downstream:
            came_from[follower] = changed
            pending.append((follower, rank))
        operator = changed.operator
        if changed.feeds_operator and rank >= operator.rank:
            before.append((operator, operator.rank))
            operator.rank = rank + 1
            for output in operator.computed:
                came_from[output] = changed
                pending.append((output, operator.rank))


def _way(came_from: dict[Slot, Slot], upstream: Slot, slot: Slot) -> list[Slot]:
    way = [upstream]
    while way[-1] is not slot:
        way.append(came_from[way[-1]])
    return way


def _circle(way: list[Slot], upstream: Slot, slot: Slot) -> str:
    names: list[Operator] = []
    for step in reversed(way):
        if not names or names[-1] is not step.operator:
            names.append(step.operator)
    if len(names) == 1 or names[0] is not names[-1]:
        names.append(names[0])
    circle = " → ".join(operator.name for operator in names)
    return f"cannot connect {upstream} to {slot}: {upstream} depends on {slot} already ({circle})."
