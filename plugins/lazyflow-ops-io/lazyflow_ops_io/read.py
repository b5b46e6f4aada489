"""The operator that brings a file into a graph."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy.typing as npt

from lazyflow_core import Operator, OutputSlot, ParameterSlot
from lazyflow_core.axes import Axes, Axis
from lazyflow_core.errors import SetupError
from lazyflow_core.plugins import open_reader
from lazyflow_core.plugins.files import AXES_GUESSED
from lazyflow_core.roi import Roi
from lazyflow_core.storage import Reader

__all__ = ["OpRead"]


class OpRead(Operator):
    """Read an array from a file, region by region.

    Any installed reader may serve it: HDF5, Zarr, TIFF and NPY come with this distribution.

    Inputs
    ------
    path : ParameterSlot[str]
        The file or folder.
    dataset : ParameterSlot[str]
        Which array in it, for formats that hold several; empty if there is only one.
    format : ParameterSlot[str]
        Name of the format, e.g. ``"hdf5"``; empty to tell it from the contents and the name.
    axes : ParameterSlot[str]
        Axis keys such as ``"tzyxc"``, one per dimension, where the file says nothing or something wrong;
        empty to believe the file. Pixel sizes stay with their dimension while its kind stays the same.

    Outputs
    -------
    output : OutputSlot
        The array in the file, in this machine's byte order; ``preferred_block`` is its chunks.

    Regions
    -------
    pull   reads the chunks that ``roi`` touches.
    push   nothing comes in; a new path, dataset or format makes everything dirty.

    Memory
    ------
    One chunk, packed and unpacked, besides the region itself.

    Threading
    ---------
    Any number of regions are read at once; the readers guard what they must.

    Raises
    ------
    SetupError
        If the file cannot be opened, or ``axes`` does not fit it. The cause is a `FormatError` or a
        `StorageError` and names the path.
    """

    path: ParameterSlot[str] = ParameterSlot(str, doc="The file or folder to read.")
    dataset = ParameterSlot(str, default="", doc="Which array in it; empty if there is only one.")
    format = ParameterSlot(str, default="", doc="Name of the format; empty to find out.")
    axes = ParameterSlot(str, default="", doc="Axis keys to use instead of the file's; empty to believe it.")
    output = OutputSlot(doc="The array in the file.")

    def setup_outputs(self) -> Reader:
        """Open the file, pass on what it says, and return the open reader."""
        reader = open_reader(
            self.path.value, dataset=self.dataset.value or None, format=self.format.value or None
        )
        try:
            meta = reader.meta
            if self.axes.value:
                extra = {key: value for key, value in meta.extra.items() if key != AXES_GUESSED}
                axes = _renamed(meta.axes, self.axes.value, self.path.value)
                meta = meta.replace(axes=axes, extra=extra)
            self.output.meta = meta
        except BaseException:
            reader.close()
            raise
        return reader

    def execute(self, slot: Any, roi: Roi, out: npt.NDArray[Any]) -> None:
        """Read one region."""
        self.plan.read(roi, out)

    def drop(self, plan: Reader) -> None:
        """Close the file."""
        plan.close()


def _renamed(axes: Axes, keys: str, path: str) -> Axes:
    """Return axes with other keys."""
    wanted = keys.split(",") if "," in keys else list(keys)
    if len(wanted) != len(axes):
        raise SetupError(
            f"axes={keys!r} names {len(wanted)} axes, but {path!r} has {len(axes)} ({axes.keys})."
        )
    named = (Axis(key.strip()) for key in wanted)
    return Axes(
        replace(new, unit=old.unit, resolution=old.resolution, translation=old.translation)
        if new.kind == old.kind
        else new
        for new, old in zip(named, axes, strict=True)
    )
