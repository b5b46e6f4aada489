"""OME-Zarr metadata: which arrays an image consists of, and the axes of each. Versions 0.4 and 0.5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lazyflow_core.axes import Axes
from lazyflow_core.errors import AxesError

__all__ = ["axes_of_level", "channel_names", "fits", "group_attributes", "levels"]

_ORDER = {"time": 0, "channel": 1, "other": 1, "space": 2}


def _content(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return where the OME metadata lies: under ``ome`` since 0.5, at the top before."""
    inner = attributes.get("ome")
    return inner if isinstance(inner, dict) else attributes


def _multiscale(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the first multiscale image, or an empty mapping."""
    images = _content(attributes).get("multiscales")
    image = images[0] if isinstance(images, list) and images else None
    return image if isinstance(image, dict) else {}


def _data_sets(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    data_sets = _multiscale(attributes).get("datasets")
    if not isinstance(data_sets, list):
        return []
    return [d for d in data_sets if isinstance(d, dict) and isinstance(d.get("path"), str)]


def levels(attributes: Mapping[str, Any]) -> list[str]:
    """Return the paths of a group's levels, finest first, relative to it; empty if it is no OME image."""
    return [str(d["path"]) for d in _data_sets(attributes)]


def is_labels(attributes: Mapping[str, Any]) -> bool:
    """Whether a group's image holds names of objects."""
    return "image-label" in _content(attributes)


def axes_of_level(attributes: Mapping[str, Any], path: str) -> Axes | None:
    """Return the axes of one level, pixel sizes included; None if the metadata does not give them."""
    image = _multiscale(attributes)
    listed = image.get("axes")
    level = next((d for d in _data_sets(attributes) if d["path"] == path), None)
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


def channel_names(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the labels of the channels that the ``omero`` block gives, or none of them."""
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
