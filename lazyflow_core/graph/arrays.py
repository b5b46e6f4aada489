"""Array slots: where pixels are asked for by region, and where stale regions are announced.

An array slot has a *source*: the slot that really answers a request. It is the slot itself where an
operator computes or an array was assigned; behind a connection it is the upstream slot's source, so a
request passes any number of connections at no cost.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from lazyflow_core.axes import Axes
from lazyflow_core.errors import ConnectError, ExecuteError, GraphError, NotReadyError, RoiBoundsError
from lazyflow_core.graph.diagnosis import why_not_ready
from lazyflow_core.graph.duck import SlotArray
from lazyflow_core.graph.pull import (
    AssignedArray,
    SlotRequest,
    copy_result,
    no_region,
    on_fresh_stack,
    push_data,
    read_from_outside,
    reason,
    watch,
    wrong_destination,
)
from lazyflow_core.graph.push import mark_dirty
from lazyflow_core.graph.slots import Slot, SlotSignal, Turn
from lazyflow_core.graph.stale import StaleBoxes
from lazyflow_core.graph.tiles import LEAST_SIZE, read_in_tiles
from lazyflow_core.graph.versions import here, place_in
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.request import Priority, checkpoint
from lazyflow_core.request.extension import MAX_INLINE_DEPTH, current_stack
from lazyflow_core.roi import Roi

if TYPE_CHECKING:
    from lazyflow_core.graph.declarations import Declaration, InputSlot
    from lazyflow_core.graph.operator import Operator
    from lazyflow_core.graph.push import Walk
    from lazyflow_core.graph.setup import Setup

__all__ = ["ArraySlot", "Input", "Output"]

#: Version, meta, source.
State = tuple[int, "ArrayMeta | None", "Output | AssignedArray | None"]


class ArraySlot(Slot):
    """A slot through which an array is asked for by region."""

    __slots__ = ("_stale", "_state", "_watchers")
    _signal_names = ("ready_changed", "meta_changed", "dirty")
    _stale_signal = "dirty"
    _right_words = {
        **dict.fromkeys(("shape", "dtype", "ndim", "axes", "nbytes"), "slot.meta, which has it"),
        **dict.fromkeys(
            ("wait", "submit", "result", "block", "compute"), "slot.read(), or slot.request(), which has it"
        ),
        **dict.fromkeys(
            ("max", "mean", "min", "sum", "astype", "T", "size"), "slot.as_array(), or slot.read()"
        ),
        "value": "slot.read(), which computes its array",
    }

    def __init__(self, operator: Operator, declaration: Declaration[Any]) -> None:
        super().__init__(operator, declaration)
        #: Number of the version it was written in; meta, and who answers requests: both None mean not ready.
        #: Read once each time, so that its parts belong together. Written by the setup transaction only.
        self._state: State = (self._born, None, None)
        #: What went stale since somebody asked first, for requests that want to know; see `SlotRequest`.
        self._stale: StaleBoxes | None = None
        #: Requests that give up when their region goes stale.
        self._watchers: dict[weakref.ref[SlotRequest], None] | None = None

    @property
    def ready(self) -> bool:
        """Whether it can be asked for pixels."""
        settled = self._versions.settled
        state = self._state
        if state[0] > settled:
            state = self._seen()
        return state[1] is not None

    def _seen(self) -> State:
        """Return its state in the version that is seen here."""
        graph, _, _, version, _ = here.get()
        own = self.operator.graph
        if graph is not own:
            place = place_in(own)
            if place is None:
                # This order: a number that is not larger than that of a complete version is not of one that
                # failed.
                current = own._versions.current
                state = self._state
                if state[0] <= current.number:
                    return state
                return cast("State", own._versions.look_up(None, self, "_state"))
            version = place[3]
        state = self._state
        if state[0] > version.number:
            return cast("State", own._versions.look_up(version, self, "_state"))
        return state

    def _remember_stale(self) -> None:
        """Remember from now on what goes stale."""
        with self.operator.graph._versions.lock:  # of two who ask first, one
            if self._stale is None:
                self._stale = StaleBoxes(self.operator.graph)

    def _first_lacking(self) -> Slot | None:
        """Return itself, if it is not ready in the newest version."""
        return self if self._state[1] is None else None

    def _unborn(self, field: str, value: Any) -> Any:
        return (0, None, None) if field == "_state" else value

    @property
    def meta(self) -> ArrayMeta:
        """What the array will be.

        Raises
        ------
        NotReadyError
            If nothing is known yet; the text leads to the first culprit.
        """
        settled = self._versions.settled
        state = self._state
        if state[0] > settled:
            state = self._seen()
        meta = state[1]
        if meta is None:
            raise NotReadyError(why_not_ready(self))
        return meta

    # ----------------------------------------------------------------------------------------------- pull

    def request(
        self,
        roi: Roi | None = None,
        *,
        priority: Priority | None = None,
        cancel_when_dirty: bool = False,
    ) -> SlotRequest:
        """Return a request for one region; nothing is computed before it is submitted or waited for.

        Parameters
        ----------
        roi
            In the coordinates of this slot's array; None for all of it.
        priority
            Which class of requests it belongs to, with all that is asked for it; None for that of the
            request that asks, or normal outside of any. `Request.raise_priority` makes it more urgent later.
        cancel_when_dirty
            Whether it gives up, as if cancelled, when its region goes stale before it is done: for whoever
            listens to `dirty` and asks again.

        Returns
        -------
        SlotRequest
            Its result is an array of ``roi.shape`` and the dtype of the meta. It may be read-only where
            it is a view of an assigned array.

        Raises
        ------
        NotReadyError
            If the slot is not ready.
        RoiBoundsError
            If the region reaches outside the array.
        """
        __tracebackhide__ = True
        meta = self.meta
        if roi is None:
            roi = meta.roi
        elif not isinstance(roi, Roi):
            raise no_region(self, roi)
        elif not roi.fits(meta.shape):
            raise self._outside(roi)
        request = SlotRequest(self, roi, priority)
        if cancel_when_dirty:
            watch(request)
        return request

    def __getitem__(self, key: Any) -> SlotRequest:
        """Return a request for a region given by numpy slicing; integers keep their axis."""
        __tracebackhide__ = True
        return self.request(Roi.from_slicing(key, self.meta.shape))

    def read(self, roi: Roi | None = None, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Compute one region now and return it; what an operator calls on its inputs.

        Parameters
        ----------
        roi
            In the coordinates of this slot's array; None for all of it.
        out
            Array of ``roi.shape`` and the dtype of the meta to compute into; need not be contiguous.

        Returns
        -------
        numpy.ndarray
            ``out`` where it was given. Otherwise an array to be read, not changed: it may be a view of
            what others see too.

        Raises
        ------
        NotReadyError, RoiBoundsError
            As `request`.
        ExecuteError
            If an operator failed; names operator, slot and ROI, and has the reason as ``__cause__``.
        """
        # Every hop of every pull passes here: what is usual is written out, what is not is called.
        graph, stack, party, version, _ = here.get()
        if graph is not self.operator.graph or stack is not current_stack():
            __tracebackhide__ = True
            return read_from_outside(self, roi, out)
        number, meta, source = self._state
        if number > version.number:
            _, meta, source = graph._versions.look_up(version, self, "_state")
        if meta is None or source is None:
            raise NotReadyError(why_not_ready(self))
        try:
            if roi is None:
                roi = meta.roi
            elif roi._within is not meta.shape and not roi.fits(meta.shape):
                raise self._outside(roi)
            # Dtypes that numpy knows are one object each, so the comparison proper is rare.
            if out is not None and (
                out.shape != roi.shape or (out.dtype is not meta.dtype and out.dtype != meta.dtype)
            ):
                raise wrong_destination(self, meta, roi, out)
        except AttributeError:
            raise no_region(self, roi, out) from None
        tiles = party.tiles
        if type(source) is AssignedArray:
            if tiles is None or source.is_in_memory:
                return source.read(roi, out)
            return tiles.read(self, source, roi, out, version)  # type: ignore[no-any-return]
        if tiles is not None and not source.operator.pixelwise:
            return tiles.read(self, source, roi, out, version)  # type: ignore[no-any-return]
        if out is None:
            out = np.empty(roi.shape, meta.dtype) if tiles is None else tiles.scratch(roi.shape, meta.dtype)
        request = party.request
        if request is not None and request._cancelled:
            checkpoint()
        # Operators on this stack count like requests that run inside each other: beyond a depth that stays
        # far from Python's recursion limit, the next one runs as a request on a fresh stack.
        depth = party.depth
        if depth >= MAX_INLINE_DEPTH:
            return on_fresh_stack(source, roi, out)
        size = out.size
        if not size:
            return out  # no operator is bothered with nothing
        if size > LEAST_SIZE and tiles is None and source.operator.pixelwise:
            return read_in_tiles(self, source, roi, out)
        party.depth = depth + 1
        top = 0 if tiles is None else tiles.top
        try:
            result = source.operator.execute(source, roi, out)
            if result is not None and result is not out:
                copy_result(result, out, source, roi)
        except ExecuteError as error:
            __tracebackhide__ = True
            error.add_step(f"{source} {roi}")
            raise
        except Exception as error:
            __tracebackhide__ = True
            raise ExecuteError(f"{source} {roi}: {reason(error)}") from error
        finally:
            party.depth = depth
            if tiles is not None:
                tiles.top = top  # what it has read is used up
        return out

    def as_array(self) -> SlotArray:
        """Return this slot as something that looks like a numpy array and computes what is indexed.

        For code that knows arrays and no slots: numpy, dask, xarray, viewers.
        """
        return SlotArray(self)

    def _outside(self, roi: Roi) -> Exception:
        return RoiBoundsError(
            f"{self}: asked for {roi} but the array is {self.meta}. ROIs are absolute and never clipped; "
            "use roi.clip(slot.meta.roi) for the overlap."
        )

    def _take_over(self, setup: Setup, upstream: Slot) -> None:
        __tracebackhide__ = True
        origin = cast(ArraySlot, upstream)
        _, meta, source = origin._state
        setup.set_meta(self, meta, source)
        setup.mark_dirty(self, None)

    def _let_go(self, setup: Setup) -> None:
        self._lose(setup)

    def _lose(self, setup: Setup) -> None:
        setup.set_meta(self, None, None)

    def _news(self, old: Any) -> Iterator[tuple[Turn, str]]:
        new = self._state[1]
        if old is not None and new is None:
            yield Turn.UNREADY, "ready_changed"
        if new is not None and new != old:
            yield Turn.META, "meta_changed"
        if old is None and new is not None:
            yield Turn.READY, "ready_changed"

    def _outdate(self, walk: Walk, old: Any) -> None:
        if self._state[1] != old:
            walk.outdate(self, None)

    # ----------------------------------------------------------------------------------------------- push

    def mark_dirty(self, roi: Roi | None = None) -> None:
        """Announce that a region is stale: to everything downstream, then to subscribers of `dirty`.

        Parameters
        ----------
        roi
            In the coordinates of this slot's array; None for all of it. Empty regions say nothing.

        Raises
        ------
        RoiBoundsError
            If the region reaches outside the array, as it is seen by the caller.

        Notes
        -----
        It waits for a change that is under way, never for a computation, and then makes a version of its own:
        who began before goes on with what was there. What no longer fits the array by then is clipped. It is
        not called while a lock is held that ``setup_outputs`` or ``propagate_dirty`` take.
        """
        settled = self._versions.settled
        state = self._state
        if state[0] > settled:
            state = self._seen()
        meta = state[1]
        if meta is None:
            return  # nobody can have computed anything from it
        if roi is None:
            pass
        elif not isinstance(roi, Roi):
            raise no_region(self, roi)
        elif roi.is_empty:
            return
        elif roi._within is not meta.shape and not roi.fits(meta.shape):
            raise self._outside(roi)
        mark_dirty(self, roi)

    @property
    def dirty(self) -> SlotSignal:
        """Called with the slot and what went stale, once per change, after everything downstream knows.

        That is a `Roi`; where several boxes of the array went stale it is a `Boxes`, their hull, which
        tells them apart by its ``boxes``.
        """
        return self.signal("dirty")

    @property
    def meta_changed(self) -> SlotSignal:
        """Called with the slot when its meta is another one, after the setup is complete."""
        return self.signal("meta_changed")


class Input(ArraySlot):
    """An array that an operator reads: connected to another slot, or assigned."""

    __slots__ = ()

    @property
    def declaration(self) -> InputSlot[Any]:
        """What its operator's class body says of it."""
        return cast("InputSlot[Any]", self._declaration)

    @property
    def required(self) -> bool:
        """Whether its operator is not ready without it."""
        return not self.declaration.optional

    def assign(self, array: Any, meta: ArrayMeta | None = None, *, axes: Axes | str | None = None) -> None:
        """Take an array from now on, instead of what was connected or assigned before.

        Parameters
        ----------
        array
            A numpy array, which is not copied (call `mark_dirty` after changing it), or any object with
            ``shape``, ``dtype`` and slicing, such as an open HDF5 data set, which is then read by region
            and must allow that from several threads.
        meta
            What is known of it; default its shape and dtype with the usual axes.
        axes
            Its axes, where no meta is given.

        Raises
        ------
        ConnectError
            If it is no array, or not what the operator accepts.
        """
        __tracebackhide__ = True
        source = AssignedArray(array, meta, axes, where=str(self))
        with self.graph._change() as setup:
            setup.assign_array(self, source)

    def accept(self, value: Any) -> None:
        """Connect a slot or assign an array, whichever it is."""
        __tracebackhide__ = True
        if isinstance(value, Slot):
            self.connect(value)
        else:
            self.assign(value)

    def __setitem__(self, key: Any, data: npt.ArrayLike) -> None:
        """Push data into a region: it reaches ``Operator.receive`` of the operator, or of the children
        that this input is connected to.

        Parameters
        ----------
        key
            Numpy slicing; integers keep their axis.
        data
            Pixels that broadcast to the region, of values that the dtype of the slot can hold.

        Raises
        ------
        NotReadyError
            If nobody knows yet what the array looks like.
        RoiError, ResultError
            If the region or the data do not fit.
        GraphError
            If an operator takes no data.
        """
        roi = Roi.from_slicing(key, self.meta.shape)
        push_data(self, roi, data)

    def _check_connectable(self, upstream: Slot) -> None:
        super()._check_connectable(upstream)
        meta = cast(ArraySlot, upstream)._seen()[1]
        if meta is not None:
            self._check_contract(meta, upstream)

    def _check_contract(self, meta: ArrayMeta, upstream: Slot | None) -> None:
        """Raise `ConnectError` unless an array of that meta, of a slot or assigned, is accepted."""
        refusal = self.declaration.refusal(meta)
        if refusal:
            given = f"an array ({meta})" if upstream is None else upstream.kind
            raise ConnectError(f"cannot connect {given} to {self.kind}: {refusal}.")


class Output(ArraySlot):
    """An array that an operator computes, or that a composite operator takes from one of its children."""

    __slots__ = ()
    feeds_operator = False

    @property
    def meta(self) -> ArrayMeta:
        """What the array will be; operators assign it in ``setup_outputs``, None for not ready."""
        settled = self._versions.settled
        state = self._state
        if state[0] > settled:
            state = self._seen()
        meta = state[1]
        if meta is None:
            raise NotReadyError(why_not_ready(self))
        return meta

    @meta.setter
    def meta(self, meta: ArrayMeta | None) -> None:
        if meta is not None and not isinstance(meta, ArrayMeta):
            raise GraphError(f"{self}.meta = {meta!r}: it is an ArrayMeta, or None for not ready.")
        if self.operator._closed:
            raise GraphError(f"{self} belongs to an operator that is closed.")
        if self._upstream is not None:
            raise GraphError(f"{self} is connected to {self._upstream} and takes its meta from there.")
        source = None if meta is None else self
        setup = self.operator.graph._current_setup()
        if setup is not None and not setup.is_walking:  # the usual case, inside setup_outputs
            setup.set_meta(self, meta, source)
            return
        with self.graph._change() as setup:
            setup.set_meta(self, meta, source)

    def _let_go(self, setup: Setup) -> None:
        super()._let_go(setup)
        setup.affect(self.operator)  # its operator computes it again

    def _set_up(self, setup: Setup) -> None:
        if self not in setup.outputs_set:
            raise GraphError(
                f"setup_outputs left {str(self)!r} without meta; assign its meta, None for not ready."
            )
