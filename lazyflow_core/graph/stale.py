"""Which boxes went stale in which version: what everybody needs who keeps pixels."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lazyflow_core.errors import GraphError
from lazyflow_core.graph.versions import MAKING, place_in
from lazyflow_core.roi import Roi, hull

if TYPE_CHECKING:
    from lazyflow_core.graph.graph import Graph

__all__ = ["StaleBoxes"]

#: More boxes than this are merged, the oldest ones first: they concern executions that began long ago.
_MOST: Final = 32

#: (first version, last version, box): the box went stale in some of these versions; None for everything.
Entry = tuple[int, int, Roi | None]


class StaleBoxes:
    """Remembers which boxes went stale in which version, as long as somebody sees an older one.

    Executions of several versions run at the same time. Who keeps results must neither take one of an old
    version for new nor give a new one to an old execution, and cannot tell by counting changes: a result may
    begin in an old version after its box was declared stale for the next one. So every operator that keeps
    pixels has one of these, and asks of each result *since* which version it holds and *until* which.

    All methods may be called by any thread. What is found out by `until` is acted on under the same lock of
    the operator under which its ``propagate_dirty`` calls `add`.

    Parameters
    ----------
    graph
        The graph of the operator.
    on_gone
        A method, held weakly. Called with the numbers of the versions that are left, the oldest first, when
        one is gone in which something was not stale yet: what was kept for it can go. In any thread; it does
        not ask the graph.

    Examples
    --------
    An operator that keeps its whole result. A reader takes it if it holds already in the version it sees;
    what went stale since is gone, and what went stale while it was computed is not kept:

    >>> import threading
    >>> import numpy as np
    >>> from lazyflow_core import Graph, InputSlot, Operator, OutputSlot, StaleBoxes
    >>> class OpKeep(Operator):
    ...     image = InputSlot()
    ...     output = OutputSlot()
    ...
    ...     def __init__(self, **slots):
    ...         self._lock, self._stale = threading.Lock(), StaleBoxes(self.graph)
    ...         self._kept, self._since = None, 0
    ...         super().__init__(**slots)
    ...
    ...     def setup_outputs(self):
    ...         self.output.meta = self.image.meta
    ...
    ...     def propagate_dirty(self, slot, roi):
    ...         with self._lock:
    ...             self._stale.add(roi)
    ...             self._kept = None
    ...         self.output.mark_dirty(roi)
    ...
    ...     def execute(self, slot, roi, out):
    ...         with self._lock:
    ...             kept = self._kept if self._since <= self.graph.version else None
    ...         if kept is None:
    ...             kept = self.image.read()
    ...             whole = self.image.meta.roi
    ...             with self._lock:
    ...                 if self._stale.until(whole) is None:
    ...                     self._kept, self._since = kept, self._stale.since(whole)
    ...         out[...] = kept[roi.slicing]
    >>> keep = OpKeep(graph=Graph(), image=np.arange(4))
    >>> keep.output[1:3].wait()
    array([1, 2])
    """

    __slots__ = ("__weakref__", "_entries", "_graph", "_lock", "_on_gone")

    def __init__(self, graph: Graph, on_gone: Callable[[tuple[int, ...]], object] | None = None) -> None:
        self._graph = graph
        self._on_gone = None if on_gone is None else weakref.WeakMethod(on_gone)
        #: Guards writing; held for a few statements.
        self._lock = threading.Lock()
        #: In the order of their last versions. Replaced whole, so it is read without the lock.
        self._entries: tuple[Entry, ...] = ()

    def add(self, roi: Roi | None) -> int:
        """Note that a box, or with None everything, is stale from the version on that is being made.

        Called in ``propagate_dirty`` or ``propagate_change``.

        Returns
        -------
        int
            The number of that version.
        """
        place = place_in(self._graph)
        version = None if place is None else place[3]
        if version is None or version.state is not MAKING:
            raise GraphError("StaleBoxes.add belongs into propagate_dirty and propagate_change.")
        number: int = version.number
        self.note(number, roi)
        older = version.older
        if older.watchers is None:
            older.watchers = weakref.WeakSet()
        older.watchers.add(self)
        return number

    @property
    def is_seen_before(self) -> bool:
        """Whether somebody sees an older version than the one being made: old results are of use."""
        versions = self._graph._versions
        return versions.current.count > 0 or versions.current.older is not None

    def since(self, roi: Roi, version: int | None = None) -> int:
        """Return the oldest version in which a box is known to be what it is in the given one.

        ``version`` is its number; None for the version that is seen here.
        """
        number = self._graph.version if version is None else version
        found = 0
        for first, last, box in self._entries:
            if first <= number and _touches(box, roi):
                found = max(found, min(last, number))
        return found

    def until(self, roi: Roi, version: int | None = None) -> int | None:
        """Return the first version after the given one in which a box may be another; None if it holds."""
        number = self._graph.version if version is None else version
        found = [
            max(first, number + 1)
            for first, last, box in self._entries
            if last > number and _touches(box, roi)
        ]
        return min(found, default=None)

    def note(self, number: int, roi: Roi | None) -> None:
        """Note a stale box of a version, whether or not somebody will need it."""
        with self._lock:
            entries = (*self._entries, (number, number, roi))
            if len(entries) > _MOST:
                (first, _, one), (_, last, other), *rest = entries
                both = None if one is None or other is None or one.ndim != other.ndim else hull([one, other])
                entries = ((first, last, both), *rest)
            self._entries = entries

    def forget(self, left: tuple[int, ...]) -> None:
        """Forget what no version needs of those that are left; called when one is gone."""
        with self._lock:
            self._entries = tuple(entry for entry in self._entries if entry[1] > left[0])
        on_gone = None if self._on_gone is None else self._on_gone()
        if on_gone is not None:
            on_gone(left)


def _touches(box: Roi | None, roi: Roi) -> bool:
    return box is None or box.ndim != roi.ndim or box.intersects(roi)
