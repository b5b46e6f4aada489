"""Pull: a request for a region travels upstream.

An *outermost* pull comes from outside all operators: it passes the gate, once, however deep it goes.
Inside it every hop is a plain call, ``execute`` → ``read`` → ``execute``; a request object exists only
where somebody asked for one.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from lazyflow_core.axes import Axes
from lazyflow_core.errors import (
    ConnectError,
    ExecuteError,
    LazyflowError,
    RequestError,
    ResultError,
)
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.request import Request, checkpoint
from lazyflow_core.request.extension import MAX_INLINE_DEPTH, NOTHING, current_party
from lazyflow_core.roi import Roi

if TYPE_CHECKING:
    from lazyflow_core.graph.arrays import ArraySlot, Input, Output
    from lazyflow_core.graph.graph import Graph

__all__ = [
    "ArraySource",
    "AssignedArray",
    "SlotRequest",
    "execute",
    "executing_graph",
    "inside",
    "push_data",
    "read_from_outside",
    "reason",
    "wrong_destination",
]

Array = npt.NDArray[Any]

#: The graph whose operators are executing here. Requests take it with them, so whatever an execution
#: starts knows that it is inside.
executing_graph: ContextVar[Graph | None] = ContextVar("executing_graph", default=None)


class ArraySource(Protocol):
    """What answers the requests of a slot: an output of an operator, or an assigned array."""

    rank: int

    def compute(self, roi: Roi, out: Array | None) -> Array:
        """Return one region that is known to lie inside the array, in ``out`` if that is given."""


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

    __slots__ = ("array", "meta", "rank")

    def __init__(self, array: Any, meta: ArrayMeta | None, axes: Axes | str | None, where: str) -> None:
        if not all(hasattr(array, name) for name in ("shape", "dtype", "__getitem__")):
            if isinstance(array, (str, bytes, dict, set)) or not np.ndim(array):
                raise ConnectError(f"{where}: {array!r} is neither a slot nor an array.")
            array = np.asarray(array)
        if np.dtype(array.dtype).hasobject:
            raise ConnectError(f"{where}: an array of Python objects (dtype object) has no pixels.")
        if isinstance(array, np.ndarray):
            array = array.view()
            array.flags.writeable = False
        if meta is None:
            meta = ArrayMeta(tuple(array.shape), array.dtype, axes)
        elif meta.shape != tuple(array.shape) or meta.dtype != array.dtype:
            raise ConnectError(
                f"{where}: the array has shape {tuple(array.shape)} and dtype {array.dtype}, "
                f"but its meta says {meta}."
            )
        self.array = array
        self.meta = meta
        self.rank = 0

    def compute(self, roi: Roi, out: Array | None) -> Array:
        """Return a view, or a copy in ``out``."""
        region = np.asarray(self.array[roi.slicing])
        if out is None:
            return region
        np.copyto(out, region)
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

    __slots__ = ("_failed", "roi", "slot")

    def __init__(self, slot: ArraySlot, roi: Roi) -> None:
        super().__init__(None, scheduler=slot.operator.graph.own_scheduler)
        self.slot = slot
        self.roi = roi
        #: What the operators say of a failure; the request itself keeps only the root cause.
        self._failed: ExecuteError | None = None

    def _run(self, out: Any) -> Array:
        try:
            with inside(self.slot.operator.graph, self):
                return self.slot.read(self.roi, None if out is NOTHING else out)
        except ExecuteError as error:
            self._failed = ExecuteError(error.args[0], error.path)
            raise

    def _make_error(self, cause: BaseException) -> RequestError:
        failed = self._failed
        if failed is not None:
            return ExecuteError(failed.args[0], failed.path)
        return ExecuteError(f"{self.slot} {self.roi}: {reason(cause)}")

    def _describe_work(self) -> str:
        return f"read {self.slot} {self.roi}"


class inside:
    """What a request of a graph runs in: past the gate, known to what it calls, found by `Graph.close`."""

    __slots__ = ("_graph", "_request", "_token")

    def __init__(self, graph: Graph, request: Request[Any]) -> None:
        self._graph = graph
        self._request = request

    def __enter__(self) -> None:
        graph = self._graph
        nested = executing_graph.get() is graph
        graph.gate.enter(nested)
        self._token = None if nested else executing_graph.set(graph)
        graph.running.add(self._request)

    def __exit__(self, *exception: object) -> None:
        graph = self._graph
        graph.running.discard(self._request)
        if self._token is not None:
            executing_graph.reset(self._token)
        graph.gate.leave()


def read_from_outside(slot: ArraySlot, roi: Roi | None, out: Array | None) -> Array:
    """Compute one region for somebody who is not executing an operator of this graph."""
    graph = slot.operator.graph
    graph.gate.enter()
    token = executing_graph.set(graph)
    try:
        return slot.read(roi, out)
    finally:
        executing_graph.reset(token)
        graph.gate.leave()


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
        raise ResultError(f"{slot} {roi}: the data do not fit an array of {meta}: {error}.") from error
    graph = slot.graph
    graph.gate.enter(nested=executing_graph.get() is graph)
    try:
        pending = [slot]
        while pending:
            slot = pending.pop()
            if slot.operator.computed or not slot.downstream:
                slot.operator.receive(slot, roi, array)
            pending += [s for s in slot.downstream if s.feeds_operator]  # type: ignore[misc]
    finally:
        graph.gate.leave()


def wrong_destination(slot: ArraySlot, meta: ArrayMeta, roi: Roi, out: Array) -> ResultError:
    """Return what to raise for an ``out`` of another shape or dtype."""
    return ResultError(
        f"{slot}: `out` has shape {out.shape} and dtype {out.dtype}, "
        f"but {roi} has shape {roi.shape} and dtype {meta.dtype}."
    )


def execute(slot: Output, roi: Roi, out: Array | None) -> Array:
    """Let an operator compute one region; name operator, slot and region in what it raises."""
    party = current_party()
    request = party.request
    if request is not None and request._cancelled:
        checkpoint()
    # Operators on this stack count like requests that run inside each other: beyond a depth that stays far
    # from Python's recursion limit, the next one runs as a request on a fresh stack.
    depth = party.depth
    if depth >= MAX_INLINE_DEPTH:
        return _on_fresh_stack(slot, roi, out)
    if out is None:
        out = np.empty(roi.shape, slot._meta.dtype)  # type: ignore[union-attr]  # `read` has looked
    if not out.size:
        return out  # no operator is bothered with nothing
    party.depth = depth + 1
    try:
        result = slot.operator.execute(slot, roi, out)
        if result is not None and result is not out:
            _copy_result(result, out, slot, roi)
    except ExecuteError as error:
        error.path = (*error.path, f"{slot} {roi}")
        raise
    except Exception as error:
        raise ExecuteError(f"{slot} {roi}: {reason(error)}") from error
    finally:
        party.depth = depth
    return out


def _on_fresh_stack(slot: ArraySlot, roi: Roi, out: Array | None) -> Array:
    request = SlotRequest(slot, roi)
    if out is not None:
        request.write_into(out)
    return request.submit().wait()


def _copy_result(result: Any, out: Array, slot: Output, roi: Roi) -> None:
    array = np.asarray(result)
    if array.shape != out.shape or array.dtype != out.dtype:
        raise ResultError(
            f"{slot.operator.name}.execute returned shape {array.shape}, dtype {array.dtype}; expected shape "
            f"{out.shape}, dtype {out.dtype} for {roi}. Write into `out`, or return such an array."
        )
    np.copyto(out, array)


def reason(error: BaseException) -> str:
    """Return what an error says, with its class where it is not one of ours."""
    text = str(error).strip() or "no further words"
    return text if isinstance(error, LazyflowError) else f"{type(error).__name__}: {text}"
