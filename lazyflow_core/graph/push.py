"""Push: a stale region travels downstream, as one walk per change.

The walk visits slots and operators by rank, so a slot is announced once however many ways lead to it: by
then all its regions are known. It has two phases. First every operator downstream hears of the change,
while no setup can run; only then are subscribers called. A subscriber that asks for pixels at once
therefore meets no cache that has not heard yet.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

from lazyflow_core.graph.pull import executing_graph
from lazyflow_core.roi import Roi, hull

if TYPE_CHECKING:
    from lazyflow_core.graph.arrays import ArraySlot, Input
    from lazyflow_core.graph.operator import Operator
    from lazyflow_core.graph.slots import Slot
    from lazyflow_core.graph.values import Parameter, ValueOutput

__all__ = ["Walk", "mark_dirty"]

_logger = logging.getLogger("lazyflow_core")

#: More boxes than this in one announcement are replaced by their hull: telling them apart costs more than
#: the pixels between them.
_MOST_BOXES = 16

#: The walk this thread or request is in, so that ``mark_dirty`` inside ``propagate_dirty`` joins it.
_current: ContextVar[Walk | None] = ContextVar("dirty_walk", default=None)


def mark_dirty(slot: ArraySlot | ValueOutput[Any], roi: Roi | None) -> None:
    """Announce what is stale: as part of the walk or setup under way here, else as a walk of its own.

    ``roi`` is None for a value, which has no regions.
    """
    if roi is not None and roi.is_empty:
        return
    walk = _current.get()
    if walk is not None and walk.thread == threading.get_ident():
        walk.mark(slot, roi)
        return
    graph = slot.graph
    setup = graph.current_setup()
    if setup is not None:
        setup.mark_dirty(slot, roi)
        return
    walk = Walk()
    walk.mark(slot, roi)
    graph.gate.enter(nested=executing_graph.get() is graph)
    try:
        walk.run()
    finally:
        graph.gate.leave()
    graph.notify(walk.notify)


class Walk:
    """The regions one change makes stale, on their way downstream."""

    def __init__(self) -> None:
        #: The thread it runs in; None while nobody may join it.
        self.thread: int | None = None
        #: Stale boxes of slots that were not announced yet.
        self._marks: dict[Slot, list[Any]] = {}
        #: Parameters and multi-level inputs that changed, by operator that was not visited yet.
        self._changed: dict[Operator, list[Slot]] = {}
        #: Stale boxes of inputs, by operator that was not visited yet.
        self._inputs: dict[Operator, list[tuple[Input, Roi]]] = {}
        #: (rank, phase, tie break, what). At one rank operators come first (0), then the outputs they
        #: computed (1), then slots that were marked although their source is clean (2).
        self._heap: list[tuple[int, int, int, Slot | Operator]] = []
        self._count = itertools.count()
        self._announced: list[tuple[Slot, Roi | None]] = []
        #: The operator that is asked right now; its outputs are announced when it has answered.
        self._visited: Operator | None = None

    def mark(self, slot: ArraySlot | ValueOutput[Any], roi: Roi | None) -> None:
        """Add a stale box; of a slot that was announced already it is announced again."""
        boxes = self._marks.get(slot)
        if boxes is not None:
            boxes.append(roi)
            return
        self._marks[slot] = [roi]
        if slot._upstream is not None:
            self._push(slot.rank, 2, slot)
        elif slot.operator is not self._visited or slot.feeds_operator:
            self._push(slot.rank, 1, slot)

    def changed(self, slot: Slot) -> None:
        """Let the operator of a parameter or multi-level input say what is stale now."""
        operator = slot.operator
        if operator not in self._changed:
            self._changed[operator] = []
            self._push(operator.rank, 0, operator)
        self._changed[operator].append(slot)

    def run(self) -> None:
        """Tell every operator downstream. Never raises; errors of operators are reported."""
        self.thread = threading.get_ident()
        token = _current.set(self)
        try:
            while self._heap:
                item = heapq.heappop(self._heap)[-1]
                if item in self._marks:
                    self._announce(item, self._marks.pop(item))
                elif item in self._inputs or item in self._changed:
                    self._visit(item)
        finally:
            _current.reset(token)
            self.thread = None

    def notify(self) -> None:
        """Call the subscribers, in the order of the walk."""
        for slot, roi in self._announced:
            if roi is None:
                slot.emit("value_changed")
            else:
                slot.emit("dirty", roi)

    def _push(self, rank: int, phase: int, what: Slot | Operator) -> None:
        heapq.heappush(self._heap, (rank, phase, next(self._count), what))

    def _announce(self, slot: Slot, boxes: list[Any]) -> None:
        """Announce a slot and everything that is connected to it, which has the same contents."""
        if slot.contents == "array":
            self._announce_array(cast("ArraySlot", slot), coalesce(boxes))
        else:
            self._announce_value(slot)

    def _announce_value(self, output: Slot) -> None:
        pending = [output]
        while pending:
            slot = pending.pop()
            self._marks.pop(slot, None)
            if slot._signals is not None:
                self._announced.append((slot, None))
            if slot.feeds_operator:
                self.changed(slot)
            else:
                cast("ValueOutput[Any]", slot).forget()
            pending += slot._downstream

    def _announce_array(self, slot: ArraySlot, boxes: list[Roi]) -> None:
        pending = [(slot, boxes)]
        while pending:
            slot, boxes = pending.pop()
            own = self._marks.pop(slot, None)
            if own:
                boxes = coalesce(boxes + own)
            if slot._signals is not None:
                self._announced += [(slot, box) for box in boxes]
            operator = slot.operator
            if slot.feeds_operator and (operator.computed or not operator.outputs):
                if operator not in self._inputs:
                    self._inputs[operator] = []
                    self._push(operator.rank, 0, operator)
                self._inputs[operator] += [(cast("Input", slot), box) for box in boxes]
            for follower in slot._downstream:
                pending.append((cast("ArraySlot", follower), boxes))

    def _visit(self, operator: Operator) -> None:
        """Ask an operator what a stale input makes stale."""
        changed, inputs = self._changed.pop(operator, ()), self._inputs.pop(operator, ())
        if not operator.is_set_up:
            return  # nobody can have computed anything from it
        self._visited = operator
        try:
            for each in changed:
                operator.propagate_change(cast("Parameter[Any]", each))
            for slot, box in inputs:
                operator.propagate_dirty(slot, box)
        except Exception:
            _logger.exception(
                "%s.propagate_dirty failed; all its outputs are taken for stale.", operator.name
            )
            for output in operator.computed:
                output.mark_dirty()
        self._visited = None
        for output in operator.computed:
            boxes = self._marks.pop(output, None)
            if boxes is not None:
                self._announce(output, boxes)


def coalesce(boxes: list[Roi]) -> list[Roi]:
    """Return few boxes that hold all pixels of the given ones: none inside another, at most 16.

    Examples
    --------
    >>> coalesce([Roi((0,), (4,)), Roi((1,), (2,)), Roi((6,), (8,))])
    [Roi(start=(0,), stop=(4,)), Roi(start=(6,), stop=(8,))]
    """
    if len(boxes) == 1:
        return boxes
    ndim = boxes[0].ndim
    kept: list[Roi] = []
    for box in sorted(boxes, key=lambda b: b.size, reverse=True):
        if box.ndim == ndim and not any(box in other for other in kept):
            kept.append(box)
    return kept if len(kept) <= _MOST_BOXES else [hull(kept)]
