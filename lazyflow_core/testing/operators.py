"""Operators to test other operators with: sources that know what was asked, gates, and one that fails."""

from __future__ import annotations

import threading
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyflow_core.errors import SetupError
from lazyflow_core.graph import InputSlot, Operator, OutputSlot, ParameterSlot
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.request import RequestEvent, checkpoint
from lazyflow_core.roi import Roi
from lazyflow_core.testing.case import InputArray

__all__ = ["OpArraySource", "OpDistinctPixels", "OpFailOnce", "OpGate", "OpPassThrough", "OpRecorder"]


class OpDistinctPixels(Operator):
    """A source whose pixels all differ, so that any mix-up of places shows.

    Inputs
    ------
    shape : ParameterSlot[tuple]
    axes : ParameterSlot[str]
        Keys, one per number in ``shape``; empty for the usual ones.
    dtype : ParameterSlot[str]

    Outputs
    -------
    output : OutputSlot
        The number of the pixel in C order, counted from 1.

    Regions
    -------
    pull   needs nothing.
    push   nothing comes in.

    Memory
    ------
    One int64 array of the region.

    Examples
    --------
    >>> from lazyflow_core import Graph
    >>> OpDistinctPixels(graph=Graph(), shape=(2, 3)).output.read()
    array([[1, 2, 3],
           [4, 5, 6]], dtype=int32)
    """

    shape: ParameterSlot[Any] = ParameterSlot(tuple, doc="pixels along each axis")
    axes = ParameterSlot(str, default="", doc="axis keys; empty for the usual ones")
    dtype = ParameterSlot(str, default="int32", doc="dtype of the pixels")
    output = OutputSlot()

    def setup_outputs(self) -> None:
        """Refuse a dtype that cannot count that far."""
        meta = ArrayMeta(self.shape.value, self.dtype.value, self.axes.value or None)
        count = prod(meta.shape)
        if meta.dtype.kind in "iu" and count > np.iinfo(meta.dtype).max:
            raise SetupError(f"{count} pixels cannot all differ in {meta.dtype}; choose a larger dtype.")
        self.output.meta = meta.replace(value_range=(1, max(count, 1)))

    def execute(self, slot: Any, roi: Roi, out: npt.NDArray[Any]) -> None:
        """Number the pixels."""
        out[...] = 1
        step = 1
        for axis in reversed(range(roi.ndim)):
            numbers = np.arange(roi.start[axis], roi.stop[axis], dtype=np.int64) * step
            out += numbers.reshape([-1 if a == axis else 1 for a in range(roi.ndim)]).astype(out.dtype)
            step *= slot.meta.shape[axis]


class OpArraySource(Operator):
    """A source that notes every region asked of it, and whose pixels can be changed.

    Inputs
    ------
    content : ParameterSlot[InputArray]
        Pixels and meta; not copied.

    Outputs
    -------
    output : OutputSlot

    Regions
    -------
    pull   needs nothing.
    push   `change` announces exactly what it changes; another ``content`` announces everything.

    Memory
    ------
    None of its own.
    """

    content: ParameterSlot[InputArray] = ParameterSlot(InputArray, doc="pixels and what is known of them")
    output = OutputSlot()

    def __init__(self, **slots: Any) -> None:
        #: Regions in the order they were asked for. Appended by any thread.
        self.asked: list[Roi] = []
        super().__init__(**slots)

    def setup_outputs(self) -> None:
        """Pass on the meta of the content."""
        self.output.meta = self.content.value.meta

    def execute(self, slot: Any, roi: Roi, out: npt.NDArray[Any]) -> None:
        """Copy the region; a place where a seeded scheduler may let others run."""
        self.asked.append(roi)
        np.copyto(out, self.content.value.pixels[roi.slicing])
        checkpoint()

    def change(self, roi: Roi, values: Any) -> None:
        """Replace the pixels of a region and announce it."""
        self.content.value.pixels[roi.slicing] = values
        self.output.mark_dirty(roi)


class OpPassThrough(Operator):
    """Base of those that hand on what comes in, and do something besides."""

    image = InputSlot(doc="what to hand on")
    output = OutputSlot()

    def setup_outputs(self) -> None:
        """Pass on the meta."""
        self.output.meta = self.image.meta

    def execute(self, slot: Any, roi: Roi, out: npt.NDArray[Any]) -> None:
        """Pass on the region."""
        self.image.read(roi, out=out)

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        """Pass on what is stale."""
        self.output.mark_dirty(roi)


class OpRecorder(OpPassThrough):
    """Notes what is asked of it and what is announced to it: ``asked`` and ``dirty`` are lists of ROIs."""

    def __init__(self, **slots: Any) -> None:
        self.asked: list[Roi] = []
        self.dirty: list[Roi] = []
        super().__init__(**slots)

    def execute(self, slot: Any, roi: Roi, out: npt.NDArray[Any]) -> None:
        """Note the region, then pass it on."""
        self.asked.append(roi)
        super().execute(slot, roi, out)

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        """Note the region, then pass it on."""
        self.dirty.append(roi)
        super().propagate_dirty(slot, roi)


class OpGate(OpPassThrough):
    """Holds one request back after it read its input, or before, until somebody opens the gate.

    The request is suspended, as by a slow disk; its worker runs others.
    """

    def __init__(self, **slots: Any) -> None:
        self._lock = threading.Lock()
        #: How many more requests pass before one is held. None: all pass. Guarded by the lock.
        self._passing: int | None = None
        #: Whether it is held before it reads.
        self._before = False
        self._opened = RequestEvent("gate")
        #: Set when a request is being held.
        self.arrived = threading.Event()
        super().__init__(**slots)

    def shut(self, after: int = 0, *, before: bool = False) -> None:
        """Hold the next request that comes after so many others, ``before`` it reads or after; only one."""
        with self._lock:
            self._passing = after
            self._before = before
            self._opened = RequestEvent("gate")
            self.arrived.clear()

    def open(self) -> None:
        """Let the held request go on, and all others."""
        with self._lock:
            self._passing = None
        self._opened.set()

    def execute(self, slot: Any, roi: Roi, out: npt.NDArray[Any]) -> None:
        """Read, and wait if it is this one's turn."""
        if self._before:
            self._wait_if_held()
            super().execute(slot, roi, out)
        else:
            super().execute(slot, roi, out)
            self._wait_if_held()

    def _wait_if_held(self) -> None:
        with self._lock:
            held = self._passing == 0
            if self._passing is not None:
                self._passing = None if held else self._passing - 1
        if held:
            self.arrived.set()
            self._opened.wait()


class OpFailOnce(OpPassThrough):
    """Raises once, as a disk with a loose cable does; works before and afterwards."""

    def __init__(self, **slots: Any) -> None:
        self._lock = threading.Lock()
        #: How many more requests pass before one fails. None: none fails. Guarded by the lock.
        self._passing: int | None = None
        self.error: Exception = OSError("the input failed, once")
        super().__init__(**slots)

    def fail(self, after: int = 0) -> Exception:
        """Let the next request fail that comes after so many others; return what it will raise."""
        with self._lock:
            self._passing = after
            self.error = OSError("the input failed, once")
            return self.error

    def execute(self, slot: Any, roi: Roi, out: npt.NDArray[Any]) -> None:
        """Raise if it is this one's turn."""
        with self._lock:
            fails = self._passing == 0
            if self._passing is not None:
                self._passing = None if fails else self._passing - 1
        if fails:
            raise self.error
        super().execute(slot, roi, out)
