"""OME-Zarr metadata: which arrays an image consists of, and the axes of each. Versions 0.4 and 0.5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lazyflow_core.axes import Axes
from lazyflow_core.errors import AxesError

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
]

#: What a group says of its image; the rest of its attributes is about something else.
_OF_THE_IMAGE = {"multiscales", "omero", "image-label", "version"}

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
    if images:
        content["multiscales"] = images
    if not any(isinstance(attributes.get("ome"), dict) for attributes in (old, new)):
        return content
    rest = {k: v for k, v in {**old, **new}.items() if k != "ome"}
    return {**rest, "ome": content} if content else rest


def is_labels(attributes: Mapping[str, Any], path: str) -> bool:
    """Whether the image with a level at ``path`` holds names of objects."""
    return "image-label" in _content(attributes) and path in levels(attributes)


def axes_of_level(attributes: Mapping[str, Any], path: str) -> Axes | None:
    """Return the axes of one level, pixel sizes included; None if the metadata does not give them."""
    image = next((i for i in _images(attributes) if path in _paths(i)), {})
    listed = image.get("axes")
    level = next((d for d in _data_sets(image) if d["path"] == path), None)
    if level is None or not isinstance(listed, list):
        return None
    # Versions before 0.4 list names only.
    named = [{"name": a} if isinstance(a, str) else a for a in listed]
    steps = [*_steps(level), *_steps(image)]
    try:
        return Axes.from_ngff(named, steps)
    except (AxesError, TypeError, ValueError, KeyError, AttributeError, OverflowError):
        return None


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


def group_attributes(axes: Axes, path: str, version: str, name: str, *, labels: bool) -> dict[str, Any]:
    """Return the attributes of a group that holds one level at ``path``.

    Parameters
    ----------
    axes
        Axes for which `fits` is true.
    path
        The array, relative to the group.
    version
        ``"0.4"`` (Zarr 2) or ``"0.5"`` (Zarr 3).
    name
        What the image is called.
    labels
        Whether its values are names of objects.
    """
    listed, transformations = axes.to_ngff()
    image = {
        "name": name,
        "axes": listed,
        "datasets": [{"path": path, "coordinateTransformations": transformations}],
    }
    if version == "0.4":
        label = {"image-label": {"version": version}} if labels else {}
        return {"multiscales": [{"version": version, **image}], **label}
    label = {"image-label": {}} if labels else {}
    return {"ome": {"version": version, "multiscales": [image], **label}}
