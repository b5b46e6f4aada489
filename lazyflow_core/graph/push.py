"""Push: a stale region travels downstream, as one walk per change.

The walk visits slots and operators by rank, so a slot is announced once however many ways lead to it: by
then all its regions are known. It has two phases. First every operator downstream hears of the change,
while no other change can be made; then the version becomes current, and only then are subscribers called.
Whoever asks for pixels and sees that version therefore meets no cache that has not heard yet.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

from lazyflow_core.errors import GraphError
from lazyflow_core.foreign import is_interrupt, log_error
from lazyflow_core.graph.cells import MISSING, Cell
from lazyflow_core.graph.versions import MAKING, Version, here, look, place_in, run_all
from lazyflow_core.request import RequestState
from lazyflow_core.request.extension import stop
from lazyflow_core.roi import Boxes, Roi, hull

if TYPE_CHECKING:
    from lazyflow_core.graph.arrays import ArraySlot
    from lazyflow_core.graph.graph import Graph
    from lazyflow_core.graph.operator import Operator
    from lazyflow_core.graph.pull import SlotRequest
    from lazyflow_core.graph.slots import Slot
    from lazyflow_core.graph.values import ValueOutput
    from lazyflow_core.meta import ArrayMeta

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
    graph = slot.operator.graph
    walk = _current.get()
    if walk is not None and walk.thread == threading.get_ident() and walk.graph is graph:
        if roi is None and slot.contents == "array":
            roi = cast("ArrayMeta", slot._state[1]).roi
        walk.mark(slot, roi)
        return
    setup = graph._current_setup()
    if setup is not None:
        setup.mark_dirty(slot, roi)
        return
    place = place_in(graph)
    if place is not None and place[3].state is MAKING:
        raise GraphError(
            f"{slot}: mark_dirty by what a change started would wait for its end; call it in propagate_dirty "
            "itself, or afterwards."
        )
    todo = []
    try:
        graph._gate.enter()
        version = graph._versions.make()
        walk = Walk(graph, version)
        token = look(graph, version)
        try:
            walk.tell_all(slot, roi)
        except BaseException:  # Ctrl-C: a cache that has not heard would keep old pixels for ever
            Walk(graph, version).tell_all(slot, roi)
            raise
        finally:
            here.reset(token)
            # Also where Ctrl-C came in the middle: the pixels are other ones, whoever has heard.
            todo = graph._versions.publish(version)
    finally:
        try:
            graph._gate.leave()
        except BaseException:  # Ctrl-C on the way
            graph._gate.leave()
            raise
        run_all(todo)
    graph._notify(walk.notify)


def fitting(slot: ArraySlot | ValueOutput[Any], roi: Roi | None) -> tuple[bool, Roi | None]:
    """Return what of a stale region is in the newest version of a slot, and whether there is anything."""
    state = slot._state
    if slot.contents == "value":
        return state[1] is not MISSING, None
    meta = cast("ArrayMeta | None", state[1])
    if meta is None:
        return False, None
    if roi is None or roi.ndim != meta.ndim:
        return True, meta.roi
    if not roi.fits(meta.shape):
        roi = roi & meta.roi
    return not roi.is_empty, roi


class Walk:
    """What one change makes stale, on its way downstream."""

    def __init__(self, graph: Graph, version: Version) -> None:
        self.graph = graph
        #: The version from which on what it announces is stale.
        self.version = version
        #: Requests that give up because of it.
        self._outdated: list[SlotRequest] = []
        #: The thread it runs in; None while nobody may join it.
        self.thread: int | None = None
        #: Stale boxes of slots that were not announced yet; [None] for values.
        self._marks: dict[Slot, list[Any]] = {}
        #: What operators that were not visited yet have to be told: (input, stale box), or (parameter or
        #: multi-level input that changed, None).
        self._news: dict[Operator, list[tuple[Any, Roi | None]]] = {}
        #: (rank, phase, tie break, what). At one rank operators come first (0), then the outputs they
        #: computed (1), then slots that were marked although their source is clean (2).
        self._heap: list[tuple[int, int, int, Slot | Operator]] = []
        self._count = itertools.count()
        #: All that went stale, for the subscribers; [None] for values. Slots in the order of the walk.
        self._announced: dict[Slot, list[Any]] = {}
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
        self._tell(slot, [None])

    def tell_all(self, slot: ArraySlot | ValueOutput[Any], roi: Roi | None) -> None:
        """Tell every operator downstream of what is stale of one slot, in so far as it is there."""
        fits, roi = fitting(slot, roi)
        if fits:
            self.mark(slot, roi)
            self.run()

    def run(self) -> None:
        """Tell every operator downstream. Never raises; errors of operators are reported."""
        self.thread = threading.get_ident()
        token = _current.set(self)
        try:
            while self._heap:
                item: Any = heapq.heappop(self._heap)[-1]
                if item in self._news:
                    self._visit(item)
                elif item in self._marks:
                    self._announce(item, self._marks.pop(item))
        finally:
            _current.reset(token)
            self.thread = None

    def notify(self) -> None:
        """Cancel the requests that give up; call the subscribers of each slot once, in their order."""
        for request in self._outdated:
            if request.state is not RequestState.NEW:  # it has seen nothing yet
                stop(request, f"{request.slot} {request.roi} went stale")
        for slot, boxes in self._announced.items():
            if boxes[0] is None:
                slot._emit("value_changed")
            else:
                boxes = coalesce(boxes)
                slot._emit("dirty", boxes[0] if len(boxes) == 1 else Boxes(boxes))

    def announces(self, slot: Slot) -> bool:
        """Whether `notify` calls the subscribers of a slot."""
        return slot in self._announced

    def outdate(self, slot: ArraySlot, boxes: list[Roi] | None) -> None:
        """Let those requests of a slot give up that want to when one of the boxes, or anything, is stale."""
        if slot._watchers:
            # A list of them at once: others may begin to watch meanwhile.
            requests = [request for reference in list(slot._watchers) if (request := reference())]
            self._outdated += [
                request
                for request in requests
                if boxes is None or any(box.intersects(request.roi) for box in boxes)
            ]

    def _push(self, rank: int, phase: int, what: Slot | Operator) -> None:
        heapq.heappush(self._heap, (rank, phase, next(self._count), what))

    def _tell(self, slot: Slot, boxes: list[Any]) -> None:
        operator = slot.operator
        news = self._news.get(operator)
        if news is None:
            news = self._news[operator] = []
            # `_push`, written out.
            heapq.heappush(self._heap, (operator.rank, 0, next(self._count), operator))
        for box in boxes:
            news.append((slot, box))

    def _announce(self, slot: Slot, boxes: list[Any]) -> None:
        """Announce a slot and everything that is connected to it, which has the same contents."""
        # Every operator that a change reaches passes here, so what is rare is asked for first.
        marks = self._marks
        pending = [(slot, boxes if len(boxes) == 1 else coalesce(boxes))]
        while pending:
            slot, boxes = pending.pop()
            if marks:
                own = marks.pop(slot, None)
                if own:
                    boxes = coalesce(boxes + own)
            if slot._signals is not None:
                self._announced.setdefault(slot, []).extend(boxes)
            if slot.contents == "array":
                array: Any = slot
                stale = array._stale
                if stale is not None:
                    for box in boxes:
                        stale.note(self.version.number, box)
                    if array._watchers:
                        self.outdate(array, boxes)
            elif not slot.feeds_operator:
                self.version.write(slot, "_cell", Cell())
            if slot.feeds_operator:
                operator = slot.operator
                if operator.computed or not operator.outputs:
                    self._tell(slot, boxes)
            for follower in slot._downstream:
                if not follower._level:  # each element of a list is a follower of its own
                    pending.append((follower, boxes))

    def _visit(self, operator: Operator) -> None:
        """Ask an operator what its news make stale."""
        news = self._news.pop(operator)
        if not operator.is_set_up:
            return  # nobody can have computed anything from it
        self._visited = operator
        try:
            for slot, box in news:
                if box is None:
                    operator.propagate_change(slot)
                else:
                    operator.propagate_dirty(slot, box)
        except BaseException as error:
            if is_interrupt(error):
                raise
            message = "%s.propagate_dirty failed; all its outputs are taken for stale."
            log_error(_logger, message, operator.name, error=error)
            for output in operator.computed:
                output.mark_dirty()
        self._visited = None
        for output in operator.computed:
            boxes = self._marks.pop(output, None)
            if boxes is not None:
                self._announce(output, boxes)


def coalesce(boxes: list[Any]) -> list[Any]:
    """Return few boxes that hold all pixels of the given ones: none inside another, at most 16.

    [None], what is said of values, stays as it is.

    Examples
    --------
    >>> coalesce([Roi((0,), (4,)), Roi((1,), (2,)), Roi((6,), (8,))])
    [Roi(start=(0,), stop=(4,)), Roi(start=(6,), stop=(8,))]
    """
    if len(boxes) == 1 or boxes[0] is None:
        return boxes[:1]
    ndim = boxes[0].ndim
    kept: list[Roi] = []
    for box in sorted(boxes, key=lambda b: b.size, reverse=True):
        if box.ndim == ndim and not any(box in other for other in kept):
            kept.append(box)
    return kept if len(kept) <= _MOST_BOXES else [hull(kept)]
