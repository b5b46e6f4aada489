"""`OpLabels`: what a user paints over an image."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from lazyflow_core import (
    ArrayMeta,
    BlockGrid,
    InputSlot,
    Operator,
    OutputSlot,
    ParameterSlot,
    Roi,
    open_writer,
)
from lazyflow_core.blocks import choose_block_shape
from lazyflow_core.errors import GraphError, ParameterError, ResultError, RoiBoundsError, SetupError
from lazyflow_core.request import checkpoint
from lazyflow_core.utility import export

from lazyflow_ops_cache.label_files import read_ilastik, read_labels, write_ilastik
from lazyflow_ops_cache.painted import (
    Change,
    Key,
    Labels,
    Painted,
    PaintedBlock,
    changed,
    painting,
    recoloured,
)

__all__ = ["OpLabels"]

Array = npt.NDArray[Any]

#: Pixels of a block: a cube of 64, or a square of 512.
_USUAL_PIXELS: Final = 64**3


class OpLabels(Operator):
    """Keep what a user paints over an image: sparse, packed, never evicted, and undone at will.

    Writing into the image paints: ``op.image[10, 40:50, 40:50] = 2``. A 0 keeps what is there, the eraser
    removes it, every other number is a class. One assignment, or one call of `paint`, is one stroke.

    Inputs
    ------
    image : InputSlot, any axes, any dtype
        What is painted over. Its pixels are never read; its shape and axes are those of the labels, without
        the channel axis.
    eraser : ParameterSlot[int]
        The number that removes a label when it is painted, larger than that of every class.
    painted : ParameterSlot[Painted]
        What was painted, written by the methods of this operator. A value that never changes: keep it, and
        assign it again, to go back to it.

    Outputs
    -------
    labels : OutputSlot, shape and axes of ``image`` without channels, uint8
        0 where nobody painted.
    boxes : OutputSlot[tuple]
        Regions that hold all labels, at most one in each block of about 64³ pixels (or 512²).
    counts : OutputSlot[dict]
        How many pixels each class has that has any.

    Regions
    -------
    pull   nothing of ``image``.
    push   what is painted makes stale the smallest box around the pixels that changed, in each block; dirty
           pixels of ``image`` nothing.

    Memory
    ------
    The labels, packed: of each block the smallest box that holds them; and what the last 200 strokes have
    changed. It counts in the ledger of the process, where all that can be had again makes room for it.

    Threading
    ---------
    Any number of threads may paint and read. What is painted is a value of the graph, so a stroke is a
    change like that of a parameter: who began to read before sees nothing of it, who begins after it all of
    it, an export is of one version, and a transaction that fails takes it back. Packing is done before the
    change, so no other change waits for it.

    Raises
    ------
    SetupError
        If the image gets another shape or other axes so that something painted would have no place any more,
        or the eraser becomes a number that is in use. Clear the labels, or save them, first.
    ResultError
        If what is painted are no numbers of classes.

    Examples
    --------
    >>> from lazyflow_core import Graph
    >>> op = OpLabels(graph=Graph(), image=np.zeros((4, 6)))
    >>> op.image[1, 1:4] = 1
    >>> op.image[1:3, 2] = [[2], [2]]
    >>> op.labels.read().tolist()
    [[0, 0, 0, 0, 0, 0], [0, 1, 2, 1, 0, 0], [0, 0, 2, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
    >>> op.counts.value, [str(box) for box in op.boxes.value]
    ({1: 2, 2: 2}, ['[1:3, 1:4]'])
    >>> op.undo()
    >>> op.counts.value
    {1: 3}
    """

    image = InputSlot(doc="what is painted over; writing into it paints")
    eraser = ParameterSlot(int, default=255, range=(2, 255), doc="number that removes a label when painted")
    painted = ParameterSlot(Painted, default=Painted(), state=True, doc="what was painted")
    labels = OutputSlot(doc="number of the class, 0 where nobody painted")
    boxes = OutputSlot(value=tuple, doc="regions that hold all labels")
    counts = OutputSlot(value=dict, doc="pixels of each class")

    # -------------------------------------------------------------------------------------------- painting

    def paint(self, strokes: Iterable[tuple[Roi, npt.ArrayLike]]) -> None:
        """Paint several regions as one stroke: seen together, and undone together.

        Parameters
        ----------
        strokes
            Regions in the coordinates of ``labels``, and numbers that broadcast to them; a later one paints
            over those before it.

        Raises
        ------
        RoiBoundsError, ResultError
            If a region is outside, or the numbers are none of classes; then nothing is painted.
        """
        __tracebackhide__ = True
        eraser, meta = self.eraser.value, self.labels.meta
        checked = [(roi, self._checked(roi, data, eraser, meta)) for roi, data in strokes]
        brushes = [painting(roi, labels, eraser) for roi, labels in checked]

        def paint_all(place: Roi, labels: Labels) -> Labels:
            for brush in brushes:
                labels = brush(place, labels)
            return labels

        def touched(painted: Painted, grid: BlockGrid) -> Iterable[Key]:
            for roi, _ in checked:
                if not roi.fits(grid.shape):
                    raise RoiBoundsError(f"{self.labels}: {roi} is outside; its shape is {grid.shape} now.")
            return dict.fromkeys(key for roi, _ in checked for key in grid.indices(roi))

        self._change(touched, paint_all)

    def receive(self, slot: Any, roi: Roi, data: Array) -> None:
        """Paint a region of the image, all channels alike."""
        channels = slot.meta.axes.of_kind("channel")
        for axis in reversed(channels):
            first = data.take(0, axis)
            if data.shape[axis] > 1 and not (data == np.expand_dims(first, axis)).all():
                raise ResultError(f"{slot} {roi}: the labels of a pixel differ between its channels.")
            data = first
        kept = [axis for axis in range(roi.ndim) if axis not in channels]
        self.paint([(Roi([roi.start[axis] for axis in kept], [roi.stop[axis] for axis in kept]), data)])

    def clear(self) -> None:
        """Remove all labels; this can be undone."""
        self._change(_with_labels, lambda place, labels: np.zeros_like(labels))

    def clear_class(self, number: int) -> None:
        """Remove the labels of a class; other classes keep their numbers."""
        self._recolour(number, lambda table: table.put(number, 0))

    def delete_class(self, number: int) -> None:
        """Remove the labels of a class, and count the classes above it down by one."""

        def shift(table: Labels) -> None:
            table[number] = 0
            table[number + 1 :] -= 1

        self._recolour(number, shift)

    def merge_classes(self, number: int, into: int) -> None:
        """Give the labels of a class to another one; then the class has none."""
        self._check_class(into)
        self._recolour(number, lambda table: table.put(number, into))

    def undo(self) -> None:
        """Take the last stroke back.

        Raises
        ------
        GraphError
            If there is none, or its labels have no place in the image that is there now.
        """
        self._step("undo")

    def redo(self) -> None:
        """Paint again what was undone last; raises as `undo`."""
        self._step("redo")

    @property
    def can_undo(self) -> bool:
        """Whether there is a stroke to take back."""
        return bool(self.painted.value.undoable)

    @property
    def can_redo(self) -> bool:
        """Whether there is a stroke that was undone, and nothing was painted since."""
        return bool(self.painted.value.redoable)

    # ----------------------------------------------------------------------------------------------- files

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        dataset: str | None = None,
        overwrite: bool = True,
        **options: Any,
    ) -> None:
        """Write all labels to a file that an installed plugin can write, such as Zarr or HDF5.

        The file is complete, or as it was before, whatever happens meanwhile, the end of the process
        included.

        Parameters
        ----------
        path, dataset, overwrite, options
            As for `lazyflow_core.open_writer`; what has the name is replaced unless ``overwrite`` is false.

        Raises
        ------
        StorageError, FormatError
            If it cannot be written.
        RequestError
            If writing fails later, as on a full disk; ``__cause__`` is why.
        """
        with self.graph.snapshot():
            meta = self.labels.meta
            export(self.labels, open_writer(path, meta, dataset=dataset, overwrite=overwrite, **options))

    def load(self, path: str | os.PathLike[str], *, dataset: str | None = None) -> None:
        """Replace all labels by those of a file that an installed plugin can read; this can be undone.

        Raises
        ------
        StorageError, FormatError
            If it cannot be read, has another shape, or other numbers than those of classes.
        """
        with read_labels(path, dataset, self.labels.meta, self.eraser.value) as read:
            self._change(_everywhere, lambda place, labels: read(place))

    def save_ilastik(self, path: str | os.PathLike[str], *, lane: int = 0) -> None:
        """Write all labels as those of one image of an ilastik project; what else is in the file stays.

        The file is complete, or as it was before, as for `save`. One that does not exist is made; it has
        labels and nothing else.

        Parameters
        ----------
        path
            The project. It must not be open in ilastik.
        lane
            Which image of the project, counted from 0.
        """
        with self.graph.snapshot():
            write_ilastik(path, lane, self.labels.meta.axes, self.painted.value)

    def load_ilastik(self, path: str | os.PathLike[str], *, lane: int = 0) -> None:
        """Replace all labels by those of one image of an ilastik project; this can be undone.

        Raises
        ------
        StorageError, FormatError
            If it cannot be read, or the labels do not fit the image.
        """
        read = read_ilastik(path, lane, self.labels.meta, self.eraser.value)
        self._change(_everywhere, lambda place, labels: read(place))

    # --------------------------------------------------------------------------------- what the graph asks

    def setup_outputs(self) -> tuple[int, ...]:
        """Return the shape of a block."""
        meta, painted, eraser = self.image.meta, self.painted.value, self.eraser.value
        kept = [axis for axis in range(meta.ndim) if axis not in meta.axes.of_kind("channel")]
        shape = tuple(meta.shape[axis] for axis in kept)
        axes = type(meta.axes)(meta.axes[axis] for axis in kept)
        if painted.blocks:
            if painted.axes != axes.keys:
                raise SetupError(
                    f"the image has the axes {axes.keys!r} now, but there are labels on {painted.axes!r}; "
                    "clear them first."
                )
            if any(end > length for end, length in zip(painted.extent, shape, strict=True)):
                outside = next(box for box in painted.boxes if not box.fits(shape))
                raise SetupError(
                    f"the image has the shape {shape} now, but there are labels at {outside}; "
                    "clear them first."
                )
            if painted.largest >= eraser:
                raise SetupError(f"eraser={eraser}, but there are labels of class {painted.largest}.")
        most = [1 if axis.kind == "time" else length for axis, length in zip(axes, shape, strict=True)]
        block = choose_block_shape(tuple(max(1, n) for n in shape), most_pixels=_USUAL_PIXELS, most=most)
        self.labels.meta = ArrayMeta(
            shape,
            np.uint8,
            axes,
            value_range=(0, eraser - 1),
            preferred_block=block,
            semantics="labels",
        )
        return block

    def execute(self, slot: Any, roi: Roi, out: Array) -> None:
        self.painted.value.read(roi, out)

    def compute_value(self, slot: Any) -> Any:
        painted = self.painted.value
        return painted.boxes if slot is self.boxes else painted.counts

    def propagate_dirty(self, slot: Any, roi: Roi) -> None:
        """Pixels of the image are no labels."""

    def propagate_change(self, slot: Any) -> None:
        if slot is not self.painted:
            return
        shape = self.labels.meta.roi
        for box in self.painted.value.differences(self._before_this_change()):
            if box.ndim == shape.ndim and box.intersects(shape):
                self.labels.mark_dirty(box & shape)
        self.boxes.mark_dirty()
        self.counts.mark_dirty()

    # ------------------------------------------------------------------------------------------ the parts

    def _before_this_change(self) -> Painted:
        # Outside of any context everybody sees what is complete.
        return Context().run(lambda: self.painted.value)

    def _change(self, keys: Callable[[Painted, BlockGrid], Iterable[Key]], change: Change) -> None:
        """Make one stroke: what ``keys`` names becomes what ``change`` makes of it."""
        __tracebackhide__ = True
        made: dict[tuple[Key, BlockGrid], tuple[PaintedBlock | None, PaintedBlock | None]] = {}

        def make(painted: Painted, grid: BlockGrid) -> dict[Key, PaintedBlock | None]:
            blocks = {}
            for key in keys(painted, grid):
                old = painted.blocks.get(key)
                known = made.get((key, grid))
                if known is None or known[0] is not old:
                    checkpoint()
                    known = made[key, grid] = old, changed(old, grid.roi_of(key), change)
                if known[1] is not old:
                    blocks[key] = known[1]
            return blocks

        # Most of the work is done before the change; in it only what others have painted meanwhile.
        make(*self._painted_here())
        with self.graph.transaction():
            painted, grid = self._painted_here()
            blocks = make(painted, grid)
            if blocks:
                self.painted.value = painted.painted_over(blocks)

    def _painted_here(self) -> tuple[Painted, BlockGrid]:
        """Return what is painted, and the grid of its blocks; of other axes nothing is."""
        meta, painted = self.labels.meta, self.painted.value
        if painted.axes != meta.axes.keys:
            painted = Painted(meta.axes.keys, self.plan)
        return painted, BlockGrid(meta.shape, painted.block)

    def _recolour(self, number: int, edit: Callable[[Labels], object]) -> None:
        self._check_class(number)
        table = np.arange(256, dtype=np.uint8)
        edit(table)
        moved = np.flatnonzero(table != np.arange(256))

        def concerned(painted: Painted, grid: BlockGrid) -> Iterable[Key]:
            for key, block in painted.blocks.items():
                if any(label in moved for label, _ in block.counts):
                    yield key

        self._change(concerned, recoloured(table))

    def _check_class(self, number: int) -> None:
        largest = self.eraser.value - 1
        if not 0 < number <= largest:
            raise ParameterError(f"{self.name}: {number!r} is no class; classes are 1 to {largest}.")

    def _step(self, what: str) -> None:
        __tracebackhide__ = True
        with self.graph.transaction():
            painted, grid = self._painted_here()
            steps = painted.undoable if what == "undo" else painted.redoable
            if not steps:
                raise GraphError(f"{self.name}: there is nothing to {what}.")
            for block in steps[-1].blocks.values():
                if block is not None and not block.box.fits(grid.shape):
                    raise GraphError(
                        f"{self.name}: cannot {what}: its labels at {block.box} have no place in an image of "
                        f"shape {grid.shape}."
                    )
            self.painted.value = painted.undone() if what == "undo" else painted.redone()

    def _checked(self, roi: Roi, data: npt.ArrayLike, eraser: int, meta: ArrayMeta) -> Labels:
        if roi not in meta.roi:
            raise RoiBoundsError(f"{self.labels}: cannot paint {roi}; the shape is {meta.shape}.")
        given = np.asarray(data)
        try:
            with np.errstate(invalid="ignore"):
                labels = np.broadcast_to(given, roi.shape).astype(np.uint8)
        except (ValueError, TypeError) as error:
            raise ResultError(f"{self.labels} {roi}: these are no labels: {error}.") from error
        if not np.array_equal(labels, np.broadcast_to(given, roi.shape)) or labels.max(initial=0) > eraser:
            raise ResultError(
                f"{self.labels} {roi}: only whole numbers from 0 to {eraser}, the eraser, can be painted."
            )
        return labels


def _with_labels(painted: Painted, grid: BlockGrid) -> Iterable[Key]:
    return painted.blocks


def _everywhere(painted: Painted, grid: BlockGrid) -> Iterable[Key]:
    return grid.indices(Roi.from_shape(grid.shape))
