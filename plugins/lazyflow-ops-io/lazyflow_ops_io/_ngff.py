"""OME-Zarr metadata: which arrays an image consists of, and the axes of each. Versions 0.1 to 0.5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lazyflow_core.axes import Axes
from lazyflow_core.errors import AxesError
from lazyflow_core.meta import ArrayMeta
from lazyflow_ops_io._units import is_pixel, unit_name

__all__ = [
    "axes_of_level",
    "channel_names",
    "fits",
    "group_attributes",
    "is_labels",
    "levels",
    "levels_beside",
    "lists",
    "merged",
    "version_in",
    "with_label",
]

#: What a group says of its image; the rest of its attributes is about something else.
_OF_THE_IMAGE = {"multiscales", "omero", "image-label", "version"}

#: Of the channels of an image until somebody chooses others: as they are usual for stains, then white.
_COLORS = ("0000FF", "00FF00", "FF0000", "FF00FF", "00FFFF", "FFFF00", "FFFFFF")

_ORDER = {"time": 0, "channel": 1, "other": 1, "space": 2}


def _content(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return where the OME metadata lies: under ``ome`` since 0.5, at the top before."""
    inner = attributes.get("ome")
    return inner if isinstance(inner, dict) else attributes


def _images(attributes: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the multiscale images of a group; the first one is the image."""
    images = _content(attributes).get("multiscales")
    return [image for image in images if isinstance(image, dict)] if isinstance(images, list) else []


def _data_sets(image: Mapping[str, Any]) -> list[dict[str, Any]]:
    data_sets = image.get("datasets")
    if not isinstance(data_sets, list):
        return []
    return [d for d in data_sets if isinstance(d, dict) and isinstance(d.get("path"), str)]


def _paths(image: Mapping[str, Any]) -> list[str]:
    return [str(d["path"]) for d in _data_sets(image)]


def levels(attributes: Mapping[str, Any]) -> list[str]:
    """Return the paths of a group's levels, finest first, relative to it; empty if it is no OME image."""
    return next(map(_paths, _images(attributes)), [])


def levels_beside(attributes: Mapping[str, Any], path: str) -> list[str]:
    """Return the levels of all images of a group that have a level at ``path``, which is among them."""
    return [level for image in _images(attributes) if path in _paths(image) for level in _paths(image)]


def lists(attributes: Mapping[str, Any], path: str) -> bool:
    """Whether one of a group's images has a level at ``path``."""
    return bool(levels_beside(attributes, path))


def merged(old: Mapping[str, Any], new: Mapping[str, Any], path: str, *, in_front: bool) -> dict[str, Any]:
    """Return the attributes of a group that gets a new image with a level at ``path``.

    Images that had a level there are gone; others, and what is not about images, stay. ``in_front`` makes it
    the image of the group, which ``omero`` and ``image-label`` are about.
    """
    kept = [image for image in _images(old) if path not in _paths(image)]
    images = [*_images(new), *kept] if in_front else [*kept, *_images(new)]
    first = old if images and images[0] in kept else new
    content = {k: v for k, v in {**_content(old), **_content(new)}.items() if k not in _OF_THE_IMAGE}
    content |= {k: v for k, v in _content(first).items() if k in _OF_THE_IMAGE}
    if "labels" in content:
        content["labels"] = list(dict.fromkeys([*_labels(old), *_labels(new)]))
    if images:
        content["multiscales"] = images
    if not any(isinstance(attributes.get("ome"), dict) for attributes in (old, new)):
        return content
    rest = {k: v for k, v in {**old, **new}.items() if k != "ome"}
    return {**rest, "ome": content} if content else rest


def version_in(zarr_format: int) -> str:
    """Return the version that is written in a Zarr format."""
    return "0.4" if zarr_format == 2 else "0.5"


def _labels(attributes: Mapping[str, Any]) -> list[Any]:
    listed = _content(attributes).get("labels")
    return listed if isinstance(listed, list) else []


def with_label(attributes: Mapping[str, Any], name: str, version: str) -> dict[str, Any]:
    """Return the attributes of a group of label images, with one more in its list.

    Parameters
    ----------
    attributes
        What the group says until now.
    name
        Path of the image, relative to the group.
    version
        ``"0.4"`` or ``"0.5"``.
    """
    listed = [*_labels(attributes), *([] if name in _labels(attributes) else [name])]
    if version == "0.4":
        return {**attributes, "labels": listed}
    about = attributes.get("ome")
    return {
        **attributes,
        "ome": {"version": version, **(about if isinstance(about, dict) else {}), "labels": listed},
    }


def is_labels(attributes: Mapping[str, Any], path: str) -> bool:
    """Whether the image with a level at ``path`` holds names of objects."""
    return "image-label" in _content(attributes) and path in levels(attributes)


def axes_of_level(attributes: Mapping[str, Any], path: str, ndim: int) -> Axes | None:
    """Return the axes of one level, pixel sizes included; None if the metadata does not give them.

    Source
    ------
    OME-NGFF 0.1 and 0.2 list no axes: they are ``tczyx``. 0.3 lists names only.
    """
    image = next((i for i in _images(attributes) if path in _paths(i)), None)
    if image is None:
        return None
    level = next(d for d in _data_sets(image) if d["path"] == path)
    listed = image.get("axes")
    version = image.get("version") or _content(attributes).get("version")
    if listed is None and version in (None, "0.1", "0.2") and ndim == 5:
        listed = list("tczyx")
    if not isinstance(listed, list):
        return None
    named = [{"name": a} if isinstance(a, str) else a for a in listed]
    for steps in ([*_steps(level), *_steps(image)], []):  # sizes that are none must not hide the names
        try:
            axes = Axes.from_ngff(named, steps)
        except (AxesError, TypeError, ValueError, KeyError, AttributeError, OverflowError):
            continue
        return Axes(replace(a, unit=_unit(a.unit)) for a in axes)
    return None


def _unit(text: object) -> str | None:
    """Return a unit by its name; one that is not known stays what it is."""
    return unit_name(text) or (None if is_pixel(text) else str(text))


def _steps(node: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    steps = node.get("coordinateTransformations")
    return [s for s in steps if isinstance(s, dict)] if isinstance(steps, list) else []


def channel_names(attributes: Mapping[str, Any], path: str) -> tuple[str, ...]:
    """Return the labels that the ``omero`` block gives to the channels of the level at ``path``, if all."""
    if path not in levels(attributes):  # it is about the first image only
        return ()
    omero = _content(attributes).get("omero")
    channels = omero.get("channels") if isinstance(omero, dict) else None
    if not isinstance(channels, list):
        return ()
    names = [c.get("label") if isinstance(c, dict) else None for c in channels]
    return tuple(map(str, names)) if all(names) else ()


def _omero(meta: ArrayMeta) -> dict[str, Any]:
    """Return the ``omero`` block: the names of the channels, and the colors and window it has to have."""
    lowest, highest = meta.value_range or (0, 1)
    if meta.value_range is None and meta.dtype.kind in "iu":
        lowest, highest = np.iinfo(meta.dtype).min, np.iinfo(meta.dtype).max
    if not np.isfinite([lowest, highest]).all():  # no numbers of JSON
        lowest, highest = 0, 1
    window = {"min": lowest, "max": highest, "start": lowest, "end": highest}
    return {
        "channels": [
            {"label": name, "color": _COLORS[i % len(_COLORS)], "window": window, "active": i < len(_COLORS)}
            for i, name in enumerate(meta.channel_names)
        ]
    }


def fits(axes: Axes) -> bool:
    """Whether OME-Zarr can describe these axes: 2 to 5, time before channel before 2 or 3 of space."""
    order = [_ORDER[a.kind] for a in axes]
    return (
        2 <= len(axes) <= 5
        and order == sorted(order)
        and 2 <= order.count(2) <= 3
        and order.count(0) <= 1
        and order.count(1) <= 1
    )


def group_attributes(meta: ArrayMeta, path: str, version: str, name: str) -> dict[str, Any]:
    """Return the attributes of a group that holds one level at ``path``.

    Parameters
    ----------
    meta
        The level; `fits` is true for its axes.
    path
        The array, relative to the group.
    version
        ``"0.4"`` (Zarr 2) or ``"0.5"`` (Zarr 3).
    name
        What the image is called.
    """
    listed, transformations = meta.axes.to_ngff()
    image = {
        "name": name,
        "axes": listed,
        "datasets": [{"path": path, "coordinateTransformations": transformations}],
    }
    about: dict[str, Any] = {"omero": _omero(meta)} if meta.channel_names else {}
    if version == "0.4":
        label = {"image-label": {"version": version}} if meta.semantics == "labels" else {}
        return {"multiscales": [{"version": version, **image}], **about, **label}
    label = {"image-label": {}} if meta.semantics == "labels" else {}
    return {"ome": {"version": version, "multiscales": [image], **about, **label}}
