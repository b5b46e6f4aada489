"""What the HDF5 reader and writer share: one lock, walking a file without leaving it, axes in attributes."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from math import prod
from typing import Any

import h5py
import numpy as np

from lazyflow_core.axes import Axes, Axis
from lazyflow_core.errors import AxesError, FormatError
from lazyflow_core.meta import ArrayMeta
from lazyflow_ops_io._about import about, read_about
from lazyflow_ops_io._border import listed
from lazyflow_ops_io._reader import named_axes, usual_axes
from lazyflow_ops_io._units import is_pixel, unit_name

__all__ = [
    "HDF5_LOCK",
    "described",
    "find_dataset",
    "keeps_names",
    "list_datasets",
    "value_range_of",
    "write_meta",
]

#: HDF5 has global state and one lock of its own; h5py has not always taken it everywhere (h5py#2764), and
#: two threads queueing at h5py's lock are slower than one (benchmarks/io.py). Nothing else is acquired and
#: no request is waited for while it is held.
HDF5_LOCK = threading.Lock()

_MOST_LISTED = 1000
_MOST_LINKS = 64

_AXISTAGS = "axistags"
_UNITS = "axis_units"
_TRANSLATIONS = "axis_translations"
_ELEMENT_SIZE = "element_size_um"
_RANGE = "drange"
_LABELS = "DIMENSION_LABELS"
_CHANNEL_NAMES = "channel_names"
_ABOUT = "lazyflow"
_READ = (
    _AXISTAGS,
    _UNITS,
    _TRANSLATIONS,
    _ELEMENT_SIZE,
    _ELEMENT_SIZE.upper(),
    _LABELS,
    _CHANNEL_NAMES,
    _ABOUT,
)
#: HDF5 keeps larger attributes in another way, which older programs do not read.
_MOST_NAMES_BYTES = 60_000
_MOST_ATTRIBUTE_BYTES = 2**20
_MICROMETER = "micrometer"


# ---------------------------------------------------------------------------------------- finding a dataset


def find_dataset(file: h5py.File, path: str, name: str) -> h5py.Dataset:
    """Return the dataset at a path inside a file, following soft links only as long as they stay in it.

    h5py itself follows external links and external storage silently, so a file could make us read any
    other file of the user.

    Parameters
    ----------
    file
        The open file.
    path
        Its name, for errors.
    name
        Path of the dataset, e.g. ``"/raw"``.

    Raises
    ------
    FormatError
        If there is none, or its pixels are outside the file.
    """
    parts = [p for p in name.split("/") if p]
    group: Any = file["/"]
    done: list[str] = []
    links = 0
    while parts:
        part = parts.pop(0)
        if part == ".":
            continue
        if not isinstance(group, h5py.Group):
            raise _no_dataset(file, path, name)
        link = group.get(part, getlink=True)
        if isinstance(link, h5py.SoftLink):
            links += 1
            if links > _MOST_LINKS:
                raise FormatError(f"{path!r}: {name!r} goes through more than {_MOST_LINKS} soft links.")
            parts = [p for p in link.path.split("/") if p] + parts
            if link.path.startswith("/"):
                group, done = file["/"], []
            continue
        if isinstance(link, h5py.ExternalLink):
            raise FormatError(
                f"{path!r}: {'/'.join([*done, part])!r} is a link to another file, "
                f"{link.filename!r}; open that file itself."
            )
        if not isinstance(link, h5py.HardLink):
            raise _no_dataset(file, path, name)
        group = group[part]
        done.append(part)
    if not isinstance(group, h5py.Dataset):
        raise _no_dataset(file, path, name)
    if group.is_virtual:
        raise _is_virtual(path, name, group)
    if group.external:
        raise FormatError(f"{path!r}: dataset {name!r} keeps its pixels in other files.")
    return group


def _is_virtual(path: str, name: str, dataset: h5py.Dataset) -> FormatError:
    plist = dataset.id.get_create_plist()
    sources = [
        (plist.get_virtual_filename(i), plist.get_virtual_dsetname(i))
        for i in range(min(plist.get_virtual_count(), 3))
    ]
    others = sorted({file for file, _ in sources if file != "."})
    if others:
        where = f"in other files, {listed([repr(o) for o in others])}; open those themselves"
    else:
        where = f"in other datasets, {listed(sorted({repr(d) for _, d in sources}))}; open those"
    return FormatError(f"{path!r}: dataset {name!r} is virtual: its pixels are {where}.")


def _no_dataset(file: h5py.File, path: str, name: str) -> FormatError:
    return FormatError(f"{path!r} has no dataset {name!r}; it holds {listed(list_datasets(file))}.")


def only_dataset(file: h5py.File, path: str) -> str:
    """Return the name of the only dataset in a file that is an image.

    Texts, single numbers and the scales of dimensions are none; nor are lists of numbers beside one dataset
    of more axes.

    Raises
    ------
    FormatError
        Listing them if there are more, or none.
    """
    names = list_datasets(file)
    images = [n for n in names if _is_image(file[n])] if len(names) > 1 else names
    if len(images) > 1:
        larger = [n for n in images if len(file[n].shape) > 1]
        images = larger if len(larger) == 1 else images
    if len(images) != 1:
        shown = images or names
        holds = f"{len(shown)} datasets: {listed(shown)}; give one as dataset" if shown else "no dataset"
        raise FormatError(f"{path!r} holds {holds}.")
    return images[0]


def _is_image(dataset: h5py.Dataset) -> bool:
    try:
        if dataset.dtype.kind not in "biufc" or not dataset.shape:
            return False
        # Not through H5DSis_scale, as for the labels below.
        kind = dataset.attrs.get_id("CLASS") if "CLASS" in dataset.attrs else None
        return (
            kind is None
            or kind.dtype.kind != "S"
            or kind.shape != ()
            or b"SCALE" not in dataset.attrs["CLASS"]
        )
    except (KeyError, OSError, RuntimeError, TypeError, ValueError):
        return False  # damaged


def list_datasets(file: h5py.File) -> list[str]:
    """Return the paths of all datasets in a file, each once, at most 1000; follows no soft links."""
    names: list[str] = []
    seen: set[tuple[int, ...]] = set()
    todo: list[tuple[str, h5py.Group]] = [("", file["/"])]
    while todo and len(names) < _MOST_LISTED and len(seen) < 10 * _MOST_LISTED:
        prefix, group = todo.pop()
        for key in sorted(group):
            try:
                if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                    continue
                item = group[key]
                # Not H5Oget_info, which crashes on damaged B-trees.
                address = h5py.h5g.get_objinfo(item.id).objno
            except (KeyError, OSError, RuntimeError, ValueError):
                continue  # a damaged entry hides only itself
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.Dataset):
                names.append(f"{prefix}/{key}")
            elif isinstance(item, h5py.Group):
                todo.append((f"{prefix}/{key}", item))
    return sorted(names)


# ---------------------------------------------------------------------------------------- axes in attributes


def described(dataset: h5py.Dataset) -> tuple[Axes, bool, tuple[str, ...], dict[str, Any]]:
    """Return the axes that a dataset's attributes describe, whether they were guessed, names of channels, and
    what is kept about how it came to be.

    In order: vigra's ``axistags`` with ``axis_units`` (ilastik), HDF5 dimension labels, the usual axes for
    the shape. A pixel size given as ``element_size_um`` (PlantSeg; zyx, or yx) fills what those leave open.
    Attributes that do not fit the dataset are ignored, as they are by the programs that write them.
    """
    attributes = _read_attributes(dataset)
    shape = dataset.shape
    axes = _from_axistags(attributes) or _from_labels(attributes)
    guessed = axes is None or len(axes) != len(shape)
    size = attributes.get(_ELEMENT_SIZE, attributes.get(_ELEMENT_SIZE.upper()))
    if axes is None or guessed:
        axes = usual_axes(shape)
        guessed = not (
            size is not None and np.size(size) == len(shape) and axes.keys in ("zyx", "yx")
        )  # it has this order
    axes = _with_element_size(axes, size)
    names = _json_list(attributes.get(_CHANNEL_NAMES))
    channels = [shape[i] for i in axes.of_kind("channel")]
    names = names if channels and prod(channels) == len(names) else ()
    return axes, guessed, names, read_about(attributes.get(_ABOUT))


def _read_attributes(dataset: h5py.Dataset) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in _READ:
        if name not in dataset.attrs:
            continue
        attribute = dataset.attrs.get_id(name)
        # Only what these can be: reading a damaged compound or sequence crashes h5py.
        if (
            attribute.get_type().get_class() in (h5py.h5t.STRING, h5py.h5t.INTEGER, h5py.h5t.FLOAT)
            and attribute.get_storage_size() <= _MOST_ATTRIBUTE_BYTES
        ):
            value = dataset.attrs[name]
            found[name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return found


def _json_mapping(text: Any) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _json_list(text: Any) -> tuple[str, ...]:
    try:
        value = json.loads(text) if isinstance(text, str) else text
        return tuple(n.decode() if isinstance(n, bytes) else str(n) for n in (() if value is None else value))
    except (TypeError, ValueError, RecursionError):
        return ()


def _from_axistags(attributes: Mapping[str, Any]) -> Axes | None:
    text = attributes.get(_AXISTAGS)
    if not isinstance(text, str):
        return None
    written = _json_mapping(attributes.get(_UNITS))
    units = {k: unit_name(u) or u for k, u in written.items() if isinstance(u, str) and not is_pixel(u)}
    try:
        axes = Axes.from_axistags(text, units)
    except AxesError:
        return None
    origin = _json_mapping(attributes.get(_TRANSLATIONS))
    return Axes(
        Axis(a.key, a.kind, a.unit, a.resolution, value)
        if isinstance(value := origin.get(a.key), int | float)
        else a
        for a in axes
    )


def _from_labels(attributes: Mapping[str, Any]) -> Axes | None:
    # Not through h5py's dataset.dims: H5DSget_label crashes on damaged files.
    labels = np.asarray(attributes.get(_LABELS, ()), dtype=object).ravel().tolist()
    return named_axes(labels) if labels else None


def _with_element_size(axes: Axes, size: Any) -> Axes:
    sizes = np.asarray(size if size is not None else (), dtype=object).ravel().tolist()
    if len(sizes) not in (2, 3):
        return axes
    by_key = dict(zip("xyz", reversed(sizes), strict=False))
    result = []
    for axis in axes:
        value = by_key.get(axis.key)
        if isinstance(value, int | float) and 0 < value < float("inf"):
            same = axis.resolution is not None and abs(axis.resolution - value) <= 1e-6 * value
            if axis.unit in (None, _MICROMETER) and (same or axis.resolution is None):
                axis = Axis(axis.key, axis.kind, _MICROMETER, value, axis.translation)
        result.append(axis)
    return Axes(result)


def value_range_of(dataset: h5py.Dataset) -> tuple[float, float] | None:
    """Return the lowest and highest value by ilastik's attribute ``drange``; None if it gives none."""
    attribute = dataset.attrs.get_id(_RANGE) if _RANGE in dataset.attrs else None
    if attribute is None or attribute.shape != (2,) or attribute.dtype.kind not in "iuf":
        return None
    lowest, highest = dataset.attrs[_RANGE].tolist()
    return (lowest, highest) if lowest <= highest else None


def write_meta(dataset: h5py.Dataset, meta: ArrayMeta) -> None:
    """Write what is known of an array to attributes that other programs read."""
    _write_axes(dataset, meta.axes)
    if meta.value_range is not None:
        dataset.attrs[_RANGE] = meta.value_range
    if keeps_names(meta):
        dataset.attrs[_CHANNEL_NAMES] = json.dumps(meta.channel_names)
    if about(meta.extra):
        dataset.attrs[_ABOUT] = json.dumps(about(meta.extra))


def keeps_names(meta: ArrayMeta) -> bool:
    """Whether the names of the channels have room in an attribute."""
    return bool(meta.channel_names) and len(json.dumps(meta.channel_names)) <= _MOST_NAMES_BYTES


def _write_axes(dataset: h5py.Dataset, axes: Axes) -> None:
    """Write axes in every form that some program reads: axistags, units, labels, PlantSeg's pixel size."""
    dataset.attrs[_AXISTAGS] = axes.to_axistags()
    dataset.attrs[_UNITS] = json.dumps({a.key: a.unit for a in axes if a.unit})
    if any(a.translation for a in axes):
        dataset.attrs[_TRANSLATIONS] = json.dumps({a.key: a.translation for a in axes})
    for dimension, axis in zip(dataset.dims, axes, strict=True):
        dimension.label = axis.key
    by_key = {a.key: a for a in axes}
    zyx = [by_key.get(k) for k in "zyx"]
    if all(a is not None and a.resolution is not None and a.unit == _MICROMETER for a in zyx):
        dataset.attrs[_ELEMENT_SIZE] = np.array([a.resolution for a in zyx if a is not None])
