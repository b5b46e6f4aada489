"""A topological order of the graph, kept while it changes.

Every slot has a rank: at least that of its upstream slot, and for an output that an operator computes, at
least that of the operator, which is larger than those of all that feeds it. Setup and push walk operators by
rank and so reach each of them once, after everything it depends on.

A connection from what ranks higher needs room: either everything behind it is raised, or everything before
it is lowered. Both are looked for in turns, a step of each, and the smaller one is taken; so it costs little
to build a chain in either direction, or from pieces. An order of a graph stays one when connections are taken
away, so disconnecting moves nothing.

Source
------
M. A. Bender, J. T. Fineman, S. Gilbert, R. E. Tarjan, "A new approach to incremental cycle detection and
related problems", ACM Trans. Algorithms 12 (2016): the search from both ends. D. J. Pearce, P. H. J. Kelly,
"A dynamic topological sort algorithm for directed acyclic graphs", ACM J. Exp. Algorithmics 11 (2007): what
is found is visited in the old order, each once.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from lazyflow_core.errors import ConnectError
from lazyflow_core.graph.slots import Slot

if TYPE_CHECKING:
    from lazyflow_core.graph.operator import Operator

    Ranks = dict[Slot | Operator, int]

__all__ = ["new_ranks"]

#: Steps that are looked downstream before the other direction takes turns: enough for what is nearly always
#: connected, an operator with nothing behind it.
_HEAD_START: Final = 3

_AT_THE_END: Final = object()


def new_ranks(before: Slot | Operator, slot: Slot) -> Mapping[Slot | Operator, int]:
    """Return the ranks to be changed so that ``slot`` can come behind what it is to depend on.

    Writes nothing. ``before`` is the slot it is to be connected to; or its operator, where that is to compute
    it from now on.

    Raises
    ------
    ConnectError
        If ``before`` itself depends on ``slot``; names the operators around the circle.
    """
    __tracebackhide__ = True
    if slot._downstream or slot is before:
        # A circle of connections alone has one rank, so it is looked for by itself.
        origin: Any = before
        while origin is not None:
            if origin is slot:
                raise ConnectError(_circle(before, slot))
            origin = getattr(origin, "_upstream", None)
    if before.rank <= slot.rank:
        return {}
    raised: Ranks = {}
    lowered: Ranks = {}
    up, down = _raise(before, slot, raised), _lower(before, slot, lowered)
    for step in itertools.count():
        if next(up, _AT_THE_END) is _AT_THE_END:
            return raised
        if step >= _HEAD_START and next(down, _AT_THE_END) is _AT_THE_END:
            return lowered
    raise AssertionError  # pragma: no cover: both come to an end


def _raise(before: Slot | Operator, slot: Slot, ranks: Ranks) -> Iterator[None]:
    """Find, step by step, the ranks of what is behind ``slot`` when ``before`` keeps its own."""
    __tracebackhide__ = True
    # Of those before a slot one has its rank at most, so slots need no order; all in the list get one rank.
    operators: list[tuple[int, int, Operator]] = []
    tie = itertools.count()
    slots, rank = [slot], before.rank
    while True:
        while slots:
            each = slots.pop()
            if each.rank >= rank:
                continue
            ranks[each] = rank
            slots += each._downstream
            operator = each.operator
            if each.feeds_operator and ranks.get(operator, operator.rank) <= rank:
                if operator not in ranks:
                    heapq.heappush(operators, (operator.rank, next(tie), operator))
                ranks[operator] = rank + 1
            if before in ranks:
                raise ConnectError(_circle(before, slot))
            yield
        if not operators:
            return
        operator = heapq.heappop(operators)[2]
        slots, rank = list(operator.computed), ranks[operator]


def _lower(before: Slot | Operator, slot: Slot, ranks: Ranks) -> Iterator[None]:
    """Find, step by step, the ranks of ``before`` and what is before it when ``slot`` keeps its own."""
    __tracebackhide__ = True
    operators: list[tuple[int, int, Operator]] = []
    tie = itertools.count()
    slots: list[Slot] = []
    rank = slot.rank
    if isinstance(before, Slot):
        slots.append(before)
    else:
        ranks[before] = rank
        operators.append((-before.rank, next(tie), before))
    while True:
        while slots:
            each = slots.pop()
            if ranks.get(each, each.rank) <= rank:
                continue
            if each is slot:
                raise ConnectError(_circle(before, slot))
            ranks[each] = rank
            operator = each.operator
            if each._upstream is not None:
                slots.append(each._upstream)
            elif not (each.feeds_operator or each._level) and ranks.get(operator, operator.rank) > rank:
                if operator not in ranks:
                    heapq.heappush(operators, (-operator.rank, next(tie), operator))
                ranks[operator] = rank
            yield
        if not operators:
            return
        operator = heapq.heappop(operators)[2]
        rank = ranks[operator] - 1
        for feeding in _with_elements((*operator.inputs, *operator.parameters)):
            slots.append(feeding)
            yield


def _with_elements(slots: Iterable[Any]) -> Iterator[Slot]:
    for slot in slots:
        yield slot
        if slot._level:
            yield from _with_elements(slot._elements)


def _circle(before: Slot | Operator, slot: Slot) -> str:
    """Return what to say of a change that closes a circle, with the operators around it."""
    came_from: dict[Slot, Slot] = {}
    pending = [slot]
    for last in pending:
        if last is before or (last.feeds_operator and last.operator is before):
            break
        for follower in (*last._downstream, *(last.operator.computed if last.feeds_operator else ())):
            if follower not in came_from:
                came_from[follower] = last
                pending.append(follower)
    names = [] if isinstance(before, Slot) else [before]
    while True:
        if not names or names[-1] is not last.operator:
            names.append(last.operator)
        if last is slot:
            break
        last = came_from[last]
    names.reverse()
    if len(names) == 1 or names[0] is not names[-1]:
        names.append(names[0])
    circle = " → ".join(operator.name for operator in names)
    if isinstance(before, Slot):
        return f"cannot connect {before} to {slot}: {before} depends on {slot} already ({circle})."
    return f"cannot disconnect {slot}: {before.name}, which would compute it, depends on it ({circle})."
