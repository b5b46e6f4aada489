"""`OpPrecomputed`: stored results as long as they are true."""

from __future__ import annotations

import threading
from typing import Any, Final, NamedTuple

from lazyflow_core import InputSlot, Operator, OutputSlot, ParameterSlot, Roi
from lazyflow_core.errors import SetupError
from lazyflow_core.roi import hull

__all__ = ["OpPrecomputed"]

#: More stale boxes than this are merged.
_MOST: Final = 64


class OpPrecomputed(Operator):
    """Answer with what was computed before, and compute only what has gone stale since.

    Inputs
    ------
    slow : InputSlot, any array
        What computes the pixels.
    precomputed : InputSlot, optional, shape, axes and dtype of ``slow``
        What it gave once, from a file.
    ignore_dirty : ParameterSlot[bool]
        Whether to believe the file whatever happens to ``slow``.

    Outputs
    -------
    output : OutputSlot, meta of ``slow``
        Pixels of ``precomputed``, but of ``slow`` where that has gone stale since this operator had both, and
        everywhere while there is nothing precomputed.

    Regions
    -------
    pull   ``roi`` needs the same ``roi`` of ``precomputed``, and of ``slow`` if a box in it went stale.
    push   a dirty ROI stays as it is; of ``slow`` it says nothing if ``ignore_dirty``. A dirty ROI of
           ``precomputed`` is true again.

    Memory
    ------
    None of its own: inputs write into ``out``. Of the stale boxes the last 64, the others as their hull.

    Threading
    ---------
    The stale boxes are behind a lock, each with the version of the graph since which it is.

    Raises
    ------
    SetupError
        If the two do not have the same shape, axes and dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from lazyflow_core import Graph, Roi
    >>> op = OpPrecomputed(graph=Graph(), slow=np.array([[1, 2, 3]]), precomputed=np.array([[10, 20, 30]]))
    >>> op.output.read().tolist()
    [[10, 20, 30]]
    >>> op.slow.mark_dirty(Roi((0, 1), (1, 2)))
    >>> op.output[:, 0].wait().tolist(), op.output[:, 1].wait().tolist()
    ([[10]], [[2]])
    """

    slow = InputSlot(doc="what computes the pixels")
    precomputed = InputSlot(optional=True, doc="what it gave once")
    ignore_dirty = ParameterSlot(bool, default=False, doc="whether to believe that whatever happens")
    output = OutputSlot()

    def __init__(self, **slots: Any) -> None:
        self._lock = threading.Lock()
        #: Where ``precomputed`` is not true. Replaced whole, under the lock.
        self._stale: tuple[_Stale, ...] = ()
        super().__init__(**slots)

    def setup_outputs(self) -> bool:
        """Return whether there is something precomputed."""
        meta = self.slow.meta
        there = self.precomputed.ready
        if there:
            other = self.precomputed.meta
            if (other.shape, other.dtype, other.axes.keys) != (meta.shape, meta.dtype, meta.axes.keys):
                raise SetupError(f"what is precomputed ({other}) is not like what computes it ({meta}).")
        self.output.meta = meta
        return there

    def execute(self, slot: Any, roi: Roi, out: Any) -> None:
        version = self.graph.version
        stale: list[Roi] = []
        if not self.ignore_dirty.value:
            stale = [each.box & roi for each in self._stale if each.holds(version, roi)]
        if not self.plan or roi in stale:
            self.slow.read(roi, out=out)
            return
        self.precomputed.read(roi, out=out)
        for box in stale:
            self.slow.read(box, out=out[box.relative_to(roi).slicing])

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        version = self.graph.version
        with self._lock:
            if slot is self.precomputed:
                self._stale = tuple(
                    each._replace(until=version) if each.until is None and each.box in roi else each
                    for each in self._stale
                    if each.box.ndim == roi.ndim
                )
            elif self.plan:
                self._stale = _merged((*self._stale, _Stale(version, None, roi)))
        if slot is self.precomputed or not (self.plan and self.ignore_dirty.value):
            self.output.mark_dirty(roi)


class _Stale(NamedTuple):
    """A box that is not what was computed before, from one version of the graph until another."""

    since: int
    until: int | None
    box: Roi

    def holds(self, version: int, roi: Roi) -> bool:
        """Whether it concerns a region in a version."""
        is_now = self.since <= version and (self.until is None or version < self.until)
        return is_now and self.box.ndim == roi.ndim and self.box.intersects(roi)


def _merged(stale: tuple[_Stale, ...]) -> tuple[_Stale, ...]:
    """Return not too many of them. A box may be said to be stale that is not: that costs time only."""
    stale = tuple(each for each in stale if each.box.ndim == stale[-1].box.ndim)
    if len(stale) <= _MOST:
        return stale
    one, other, *rest = stale
    return (_Stale(min(one.since, other.since), None, hull([one.box, other.box])), *rest)
