"""Pull: a request for a region travels upstream.

An *outermost* pull comes from outside all operators: it takes hold of a version, once, however deep it goes.
Inside it every hop is two plain calls, ``execute`` → `ArraySlot.read` → ``execute``; a request object exists
only where somebody asked for one. The hop itself is in `ArraySlot.read`; here is how a pull begins and ends,
and what is seldom needed on its way.
"""

from __future__ import annotations

import reprlib
import sys
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
import numpy.typing as npt

from lazyflow_core.axes import Axes
from lazyflow_core.blocks import PIECE, pieces
from lazyflow_core.errors import (
    CircularWaitError,
    ConnectError,
    ExecuteError,
    LazyflowError,
    RequestError,
    ResultError,
    RoiError,
)
from lazyflow_core.foreign import class_name, is_a, text_of
from lazyflow_core.graph.versions import Snapshot, enter, here, leave, seen
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.request import Priority, Request
from lazyflow_core.request.extension import NOTHING
from lazyflow_core.roi import Roi

if TYPE_CHECKING:
    from lazyflow_core.graph.arrays import ArraySlot, Input, Output

__all__ = [
    "AssignedArray",
    "SlotRequest",
    "copy_result",
    "no_region",
    "on_fresh_stack",
    "push_data",
    "read_from_outside",
    "reason",
    "watch",
    "wrong_destination",
]

Array = npt.NDArray[Any]

#: Bytes of a row that is short, and how many pixels are worth a look at that.
_SHORT_ROW: Final = 16
_MANY: Final = 1 << 12

#: One region that is being computed further up, where another stack began for the present pull, and how many
#: did since: (stacks since, stacks until it is taken anew, slot, region).
_descent: ContextVar[tuple[int, int, object, Roi | None]] = ContextVar("_descent", default=(1, 1, None, None))


@final
class AssignedArray:
    """An array that was assigned to an input.

    Parameters
    ----------
    array
        A numpy array, or an object with ``shape``, ``dtype`` and slicing that is read by region.
    meta
        What is known of it; None for its shape and dtype.
    axes
        Its axes where no meta is given; None for the usual ones.
    where
        Name of the slot, for error messages.
    """

    __slots__ = ("array", "is_in_memory", "meta", "rank")

    def __init__(self, array: Any, meta: ArrayMeta | None, axes: Axes | str | None, where: str) -> None:
        if not all(hasattr(array, name) for name in ("shape", "dtype", "__getitem__")):
            given = array
            try:
                array = np.asarray(given)
            except ValueError as error:
                raise ConnectError(f"{where}: {reprlib.repr(given)} is no array: {error}") from error
            if isinstance(given, (str, bytes, dict, set)) or not array.ndim:
                raise ConnectError(f"{where}: {reprlib.repr(given)} is neither a slot nor an array.")
        if np.dtype(array.dtype).kind in "USV":
            raise ConnectError(f"{where}: an array of dtype {array.dtype} has no pixels; give numbers.")
        if np.dtype(array.dtype).hasobject:
            raise ConnectError(f"{where}: an array of Python objects (dtype object) has no pixels.")
        if np.ma.is_masked(array):
            raise ConnectError(
                f"{where}: the array has masked pixels, of which operators know nothing; "
                "assign array.filled(value), and the mask as an image of its own."
            )
        if isinstance(array, np.ndarray):
            array = array.view()
            array.flags.writeable = False
        if meta is None:
            meta = ArrayMeta(tuple(array.shape), array.dtype, axes)
        elif not isinstance(meta, ArrayMeta):
            raise ConnectError(f"{where}: meta={reprlib.repr(meta)} is no ArrayMeta.")
        elif meta.shape != tuple(array.shape) or meta.dtype != array.dtype:
            raise ConnectError(
                f"{where}: the array has shape {tuple(array.shape)} and dtype {array.dtype}, "
                f"but its meta says {meta}."
            )
        self.array = array
        #: Whether reading a region costs nothing.
        self.is_in_memory = type(array) is np.ndarray
        self.meta = meta
        self.rank = 0

    def read(self, roi: Roi, out: Array | None) -> Array:
        """Return a view of a region that is known to lie inside, or a copy in ``out``."""
        region = np.asarray(self.array[roi.slicing])
        if out is None:
            return region
        copy_pixels(out, region)
        return out


class SlotRequest(Request[Array]):
    """A request for one region of one slot.

    Attributes
    ----------
    slot
        The slot that was asked.
    roi
        The region, in the coordinates of the slot's array.
    """

    __slots__ = ("_failed", "_version", "roi", "slot")

    def __init__(self, slot: ArraySlot, roi: Roi, priority: Priority | None = None) -> None:
        super().__init__(None, scheduler=slot.operator.graph._own_scheduler, priority=priority)
        self.slot = slot
        self.roi = roi
        if slot._stale is None:
            slot._remember_stale()
        #: Number of the version it sees; None before it begins.
        self._version: int | None = None
        #: What the operators say of a failure; the request itself keeps only the root cause.
        self._failed: ExecuteError | None = None

    def _run(self, out: Any) -> Array:
        slot = self.slot
        graph = slot.operator.graph
        token = enter(graph)
        self._version = here.get()[3].number
        graph._running.add(self)
        try:
            if out is NOTHING:
                out = None
            return slot.read(self.roi, out) if type(self) is SlotRequest else self._compute(out)
        except ExecuteError as error:
            self._failed = ExecuteError(error.args[0], error.path)
            raise
        finally:
            graph._running.discard(self)
            leave(graph, token)

    def _compute(self, out: Array | None) -> Array:
        """Return the pixels, in ``out`` if it is given; called in the version that the request sees."""
        return self.slot.read(self.roi, out)

    @property
    def version(self) -> int | None:
        """Number of the version it sees: the one that was complete when it began; None before."""
        return self._version

    @property
    def is_outdated(self) -> bool:
        """Whether its region went stale since it began: asked again it may give other pixels.

        Errs towards True where very many regions went stale since.
        """
        slot, version = self.slot, self._version
        if version is None:
            return False
        meta = slot._state[1]
        if meta is None or not self.roi.fits(meta.shape):
            return True
        stale = slot._stale
        return stale is not None and stale.until(self.roi, version) is not None

    def _make_error(self, cause: BaseException) -> RequestError:
        failed = self._failed
        if failed is not None:
            return ExecuteError(failed.args[0], failed.path)
        return ExecuteError(f"{self.slot} {self.roi}: {reason(cause)}")

    def _describe_work(self) -> str:
        return f"read {self.slot} {self.roi}"


def watch(request: SlotRequest) -> None:
    """Let a request give up when its region goes stale before it is done."""
    slot = request.slot
    if slot._watchers is None:
        slot._watchers = {}
    watchers = slot._watchers
    watchers[weakref.ref(request, lambda gone: watchers.pop(gone, None))] = None


def read_from_outside(slot: ArraySlot, roi: Roi | None, out: Array | None) -> Array:
    """Compute one region for somebody who is not executing an operator of this graph on this stack."""
    __tracebackhide__ = True
    graph = slot.operator.graph
    token = enter(graph)
    place = here.get()
    try:
        return slot.read(roi, out)
    finally:
        try:
            leave(graph, token)
        except KeyboardInterrupt:
            if here.get() is place:  # it came before the first line: this thread would stay inside
                leave(graph, token)
            raise


def push_data(slot: Input, roi: Roi, data: npt.ArrayLike) -> None:
    """Hand data to whoever an input feeds; see `Input.__setitem__`."""
    meta = slot.meta
    try:
        given = np.broadcast_to(np.asarray(data), roi.shape)
        array = given.astype(meta.dtype, copy=False)
        # Rounding to fewer digits is fine; another sign, an overflow or a lost fraction is not.
        if not np.can_cast(given.dtype, meta.dtype, "same_kind") and not np.array_equal(array, given):
            raise ValueError(f"{given.dtype} values that {meta.dtype} cannot hold")
    except (ValueError, TypeError) as error:
        raise ResultError(
            f"{slot} {roi}: the data do not fit an array of {meta}: {text_of(error)}."
        ) from error
    graph = slot.graph
    with Snapshot(graph):  # what is known of the slot is the same from the check to the last line of receive
        pending = [slot]
        while pending:
            slot = pending.pop()
            if seen(graph, slot.operator, "computed") or not slot.downstream:
                slot.operator.receive(slot, roi, array)
            pending += [s for s in slot.downstream if s.feeds_operator]  # type: ignore[misc]


def no_region(slot: ArraySlot, roi: Any, out: Any = None) -> LazyflowError:
    """Return what to raise for a ``roi`` that is no ROI, or an ``out`` that is no array."""
    if roi is None or isinstance(roi, Roi):
        return ResultError(f"{slot}: `out` is of type {type(out).__name__}; a numpy array is needed.")
    return RoiError(
        f"{slot}: {reprlib.repr(roi)} is no Roi; ask for slot[10:20, :], or make one by Roi.from_slicing."
    )


def wrong_destination(slot: ArraySlot, meta: ArrayMeta, roi: Roi, out: Array) -> ResultError:
    """Return what to raise for an ``out`` of another shape or dtype."""
    return ResultError(
        f"{slot}: `out` has shape {out.shape} and dtype {out.dtype}, "
        f"but {roi} has shape {roi.shape} and dtype {meta.dtype}."
    )


def on_fresh_stack(slot: Output, roi: Roi, out: Array) -> Array:
    """Let an operator compute one region as a request, which has a stack of its own."""
    token = _descent.set(_descend(slot, roi))
    try:
        return SlotRequest(slot, roi).write_into(out).submit().wait()
    finally:
        _descent.reset(token)


def _descend(slot: Output, roi: Roi) -> tuple[int, int, object, Roi | None]:
    """Return what to keep in mind one stack further down; raise if a region is needed to compute itself.

    Source
    ------
    R. P. Brent, "An improved Monte Carlo factorization algorithm", BIT 20 (1980): compared is only with one
    region further up, which is taken anew after 1, 2, 4, ... steps; so a circle of any length is found.
    """
    steps, period, known_slot, known_roi = _descent.get()
    if known_slot is slot and known_roi == roi:
        way = _regions_on_this_stack(slot)
        if (slot, roi) in way:
            way = way[: way.index((slot, roi)) + 1]
        names = " -> ".join(f"{each} {box}" for each, box in reversed(way))
        raise CircularWaitError(
            f"{slot} {roi} is needed to compute itself: {names} -> {slot} {roi}. An execute may read its own "
            "outputs, or what is computed from them, for other regions only, and with an end."
        )
    if steps == period:
        return 1, 2 * period, slot, roi
    return steps + 1, period, known_slot, known_roi


def _regions_on_this_stack(slot: Output) -> list[tuple[object, Roi]]:
    """Return which regions are being computed on this stack, the innermost first."""
    reading = type(slot).read.__code__
    found = []
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is reading:
            variables = frame.f_locals
            found.append((variables.get("source"), variables["roi"]))
        frame = frame.f_back  # type: ignore[assignment]
    return found[1:]  # the innermost is still to be computed


def copy_result(result: Any, out: Array, slot: Output, roi: Roi) -> None:
    """Copy what ``execute`` returned instead of writing it."""
    array = np.asarray(result)
    if array.shape != out.shape or array.dtype != out.dtype:
        raise ResultError(
            f"{slot.operator.name}.execute returned shape {array.shape}, dtype {array.dtype}; expected shape "
            f"{out.shape}, dtype {out.dtype} for {roi}. Write into `out`, or return such an array."
        )
    copy_pixels(out, array)


def copy_pixels(out: Array, source: Array) -> None:
    """Copy an array piece by piece, so that it can be stopped."""
    if out.size <= PIECE:
        _copy(out, source)
        return
    for key in pieces(out.shape):
        _copy(out[key], source[key])


def _copy(out: Array, source: Array) -> None:
    """Copy an array; a few of many channels in columns, which takes a tenth of the time of short rows."""
    if _has_short_rows(out) or _has_short_rows(source):
        for column in range(out.shape[-1]):
            np.copyto(out[..., column], source[..., column])
    else:
        np.copyto(out, source)


def _has_short_rows(array: Array) -> bool:
    if array.ndim < 2 or array.size < _MANY:
        return False
    row = array.shape[-1] * array.itemsize
    return row <= _SHORT_ROW and array.strides[-1] == array.itemsize and array.strides[-2] != row


def reason(error: BaseException) -> str:
    """Return what an error says, with its class where it is not one of ours."""
    text = text_of(error).strip() or "no further words"
    return text if is_a(error, LazyflowError) else f"{class_name(error)}: {text}"
