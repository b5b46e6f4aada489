"""A topological order of the graph, kept while it changes.

Every slot has a rank: that of its upstream slot, or, for an output that an operator computes, one more
than the largest rank among the operator's inputs. Setup and push walk operators by rank and so reach each
of them once, after everything it depends on.

Ranks only grow. An order of a graph stays one when connections are taken away, so disconnecting, and
undoing a connection that failed, leave them alone. Connecting downstream of what exists costs one step.
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
        If ``upstream`` itself depends on ``slot``; names the operators around the circle. Ranks that were
        raised by then stay raised, which harms nothing.
    """
    #: Who raised whom, for naming the circle.
    came_from: dict[Slot, Slot] = {slot: upstream}
    pending = [(slot, upstream.rank)]
    while pending:
        changed, rank = pending.pop()
        if rank <= changed.rank:
            continue
        if changed is upstream:
            raise ConnectError(_circle(came_from, upstream, slot))
        changed.rank = rank
        for follower in changed.downstream:
            came_from[follower] = changed
            pending.append((follower, rank))
        operator = changed.operator
        if changed.feeds_operator and rank >= operator.rank:
            operator.rank = rank + 1
            for output in operator.computed:
                came_from[output] = changed
                pending.append((output, operator.rank))


def _circle(came_from: dict[Slot, Slot], upstream: Slot, slot: Slot) -> str:
    way = [upstream]
    while way[-1] is not slot:
        way.append(came_from[way[-1]])
    names: list[Operator] = []
    for step in reversed(way):
        if not names or names[-1] is not step.operator:
            names.append(step.operator)
    circle = " → ".join(operator.name for operator in [*names, names[0]])
    return f"cannot connect {upstream} to {slot}: {upstream} depends on {slot} already ({circle})."
