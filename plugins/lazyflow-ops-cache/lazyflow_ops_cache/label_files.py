"""Labels in files of others: arrays that a plugin reads, and the label sets of ilastik's projects."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from lazyflow_core import ArrayMeta, Roi, open_reader
from lazyflow_core.axes import Axes
from lazyflow_core.errors import FormatError, PluginError
from lazyflow_core.foreign import contextmanager

from lazyflow_ops_cache.painted import Labels, Painted
from lazyflow_ops_cache.whole_file import replacing, telling

if TYPE_CHECKING:
    import h5py

__all__ = ["read_ilastik", "read_labels", "write_ilastik"]

#: Returns the labels at a place.
Read = Callable[[Roi], Labels]

#: gzip, shuffle and checksum: what ilastik writes.
_FILTERS: Final = {1, 2, 3}
#: More than HDF5 needs to find a small packed dataset, and its attributes.
_BYTES_PER_DATASET: Final = 2**14
_MOST_PER_BYTE: Final = 1032  # what deflate can make of a byte
_MOST_LABELS: Final = 2**28
_MOST_BLOCKS: Final = 1_000_000

#: ``[0:2,5:9]``
_BOX: Final = re.compile(r"\[\d{1,18}:\d{1,18}(,\s*\d{1,18}:\d{1,18}){0,9}\]")


@contextmanager
def read_labels(
    path: str | os.PathLike[str], dataset: str | None, meta: ArrayMeta, eraser: int
) -> Iterator[Read]:
    """Open an array of labels that has the shape of ``meta``, whatever the order of its axes."""
    with open_reader(path, dataset=dataset) as reader:
        order = _order(str(path), reader.meta, meta)

        def read(place: Roi) -> Labels:
            start, stop = [0] * reader.meta.ndim, [1] * reader.meta.ndim
            for ours, theirs in enumerate(order):
                start[theirs], stop[theirs] = place.start[ours], place.stop[ours]
            box = Roi(start, stop)
            pixels = np.empty(box.shape, reader.meta.dtype)
            reader.read(box, pixels)
            others = [axis for axis in range(reader.meta.ndim) if axis not in order]
            return _labels(str(path), pixels.transpose(*order, *others).reshape(place.shape), eraser)

        yield read


def _order(path: str, found: ArrayMeta, wanted: ArrayMeta) -> list[int]:
    """Return which axis of a file is which of ours; those that are left have one pixel."""
    from lazyflow_core.plugins.files import AXES_GUESSED

    theirs = [axis.key for axis in found.axes]
    ours = [axis.key for axis in wanted.axes]
    if found.extra.get(AXES_GUESSED) and found.ndim == wanted.ndim:
        theirs = ours
    if all(key in theirs for key in ours):
        order = [theirs.index(key) for key in ours]
        rest = [length for axis, length in enumerate(found.shape) if axis not in order]
        if tuple(found.shape[axis] for axis in order) == wanted.shape and all(n == 1 for n in rest):
            return order
    raise FormatError(f"{path!r} holds {found}; labels for this image would have {wanted}.")


def _labels(path: str, pixels: Any, eraser: int) -> Labels:
    if pixels.dtype.kind not in "iub":
        raise FormatError(f"{path!r} holds {pixels.dtype}; labels are whole numbers.")
    if pixels.size and not 0 <= int(pixels.min()) <= int(pixels.max()) < eraser:
        worst = max(int(pixels.max()), int(pixels.min()), key=abs)
        raise FormatError(f"{path!r} has the label {worst}; classes are 1 to {eraser - 1}.")
    return np.asarray(pixels, np.uint8)


# ------------------------------------------------------------------------------------------------- ilastik


def _group(lane: int) -> str:
    return f"PixelClassification/LabelSets/labels{lane:03d}"


def write_ilastik(path: str | os.PathLike[str], lane: int, axes: Axes, painted: Painted) -> None:
    """Write labels as those of one lane of a project, whose other contents stay."""
    h5py = _h5py()
    tags = Axes([*axes, *Axes("c")]).to_axistags()
    _check_room(path, sum(2 * block.nbytes + _BYTES_PER_DATASET for block in painted.blocks.values()))
    # The file is closed before it gets its name.
    with (
        telling(path, "written"),
        replacing(path, copy=True) as temporary,
        h5py.File(temporary, "a") as file,
    ):
        parent = _plain_group(file, os.path.dirname(_group(lane)), create=True)
        name = os.path.basename(_group(lane))
        if parent.get(name, getlink=True) is not None:
            del parent[name]
        group = parent.create_group(name)
        for number, key in enumerate(sorted(painted.blocks)):
            block = painted.blocks[key]
            labels = block.unpack()[..., None]
            box = [*zip(block.box.start, block.box.stop, strict=True), (0, 1)]
            dataset = group.create_dataset(f"block{number:04d}", data=labels, compression="gzip")
            dataset.attrs["blockSlice"] = "[" + ",".join(f"{a}:{b}" for a, b in box) + "]"
            dataset.attrs["axistags"] = tags


def _check_room(path: str | os.PathLike[str], nbytes: int) -> None:
    """Refuse what the disk has no room for: HDF5 would end the process later, when it cannot write."""
    with telling(path, "written"):
        needed = nbytes + (os.path.getsize(path) if os.path.exists(path) else 0)
        if shutil.disk_usage(os.path.dirname(os.path.realpath(path))).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_ilastik(path: str | os.PathLike[str], lane: int, meta: ArrayMeta, eraser: int) -> Read:
    """Read the labels of one lane of a project."""
    h5py = _h5py()
    blocks: list[tuple[Roi, Labels]] = []
    with telling(path, "read"), h5py.File(path, "r") as file:
        group = _plain_group(file, _group(lane))
        if len(group) > _MOST_BLOCKS:
            raise FormatError(f"{os.fspath(path)!r} has {len(group)} blocks of labels.")
        total = 0
        for name in sorted(group, key=lambda name: (len(name), name)):
            total += _checked_size(path, group, name)
            if total > _MOST_LABELS:
                raise FormatError(f"{os.fspath(path)!r} has more than {_MOST_LABELS} pixels of labels.")
            blocks.append(_placed(path, name, group[name], meta, eraser))

    def read(place: Roi) -> Labels:
        found = np.zeros(place.shape, np.uint8)
        for box, labels in blocks:
            part = box & place
            if not part.is_empty:
                target = found[part.relative_to(place).slicing]
                source = labels[part.relative_to(box).slicing]
                np.copyto(target, source, where=source != 0)
        return found

    return read


def _placed(
    path: str | os.PathLike[str], name: str, dataset: h5py.Dataset, meta: ArrayMeta, eraser: int
) -> tuple[Roi, Labels]:
    """Return the box of a block in our axes, and its labels."""
    where = f"{os.fspath(path)!r}: {name!r}"
    text = dataset.attrs.get("blockSlice")
    text = text.decode("ascii", "replace") if isinstance(text, bytes) else text
    if not isinstance(text, str) or not _BOX.fullmatch(text):
        raise FormatError(f"{where} is no block of labels: it does not say where it is.")
    pairs = [(int(a), int(b)) for a, b in re.findall(r"(\d+):(\d+)", text)]
    if dataset.shape != tuple(b - a for a, b in pairs):
        raise FormatError(f"{where} is damaged: its shape is {dataset.shape}, its place {text}.")
    tags = dataset.attrs.get("axistags")
    tags = tags.decode("utf-8", "replace") if isinstance(tags, bytes) else tags
    ours = [axis.key for axis in meta.axes]
    # Before version 1.4 the axes were those of the image, then channels.
    theirs = [axis.key for axis in Axes.from_axistags(tags)] if isinstance(tags, str) else [*ours, "c"]
    if len(theirs) != len(pairs) or not set(ours) <= set(theirs):
        raise FormatError(f"{where} has the axes {''.join(theirs)!r}, the image {''.join(ours)!r}.")
    order = [theirs.index(key) for key in ours]
    others = [axis for axis in range(len(theirs)) if axis not in order]
    if any(dataset.shape[axis] != 1 for axis in others):
        raise FormatError(f"{where} has several pixels along {''.join(theirs[axis] for axis in others)!r}.")
    box = Roi([pairs[axis][0] for axis in order], [pairs[axis][1] for axis in order])
    if not box.fits(meta.shape):
        raise FormatError(f"{where} is at {box}, outside of the image's {meta.shape}.")
    pixels = dataset[()].transpose(*order, *others).reshape(box.shape)
    return box, _labels(os.fspath(path), pixels, eraser)


def _checked_size(path: str | os.PathLike[str], group: h5py.Group, name: str) -> int:
    """Return how many pixels a block has, after refusing one that is elsewhere or claims what it has not."""
    h5py = _h5py()
    where = f"{os.fspath(path)!r}: {name!r}"
    link = group.get(name, getlink=True)
    dataset = group[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise FormatError(f"{where} is no block of labels.")
    properties = dataset.id.get_create_plist()
    if dataset.is_virtual or properties.get_external_count():
        raise FormatError(f"{where} takes its values from elsewhere, which is not followed.")
    if not {properties.get_filter(i)[0] for i in range(properties.get_nfilters())} <= _FILTERS:
        raise FormatError(f"{where} is packed as no project is.")
    if dataset.nbytes > 4096 + _MOST_PER_BYTE * dataset.id.get_storage_size():
        raise FormatError(f"{where} claims {dataset.nbytes} bytes, which it does not store.")
    return int(dataset.size)


def _plain_group(file: h5py.File, name: str, *, create: bool = False) -> h5py.Group:
    """Return a group that is reached by groups alone."""
    h5py = _h5py()
    found: Any = file
    for part in name.split("/"):
        link = found.get(part, getlink=True)
        if link is None and create:
            found = found.create_group(part)
            continue
        found = found[part] if isinstance(link, h5py.HardLink) else None
        if not isinstance(found, h5py.Group):
            raise FormatError(f"{file.filename!r} has no labels of ilastik: it has no group {name!r}.")
    return found


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise PluginError(
            "projects of ilastik are HDF5 files, for which h5py is needed: "
            "pip install 'lazyflow-ops-cache[hdf5]'."
        ) from error
    return h5py
