"""What TIFF files say of axes and pixel sizes: OME-XML, ImageJ's hyperstack text, and nothing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple
from xml.etree import ElementTree

from lazyflow_core.axes import Axes, Axis
from lazyflow_core.errors import AxesError, FormatError
from lazyflow_ops_io._reader import usual_axes
from lazyflow_ops_io._units import is_pixel, unit_name

__all__ = [
    "ABOUT_ANNOTATION",
    "AXES_ANNOTATION",
    "NAMES_ANNOTATION",
    "SIZE_ANNOTATION",
    "Described",
    "Ome",
    "describe",
    "kept_dimensions",
    "parse_ome",
]

#: Key of the OME map annotation in which our writer keeps the axis keys. OME lists all of t, c, z, y, x in
#: every image, so a volume with one slice could not be told from a plane.
AXES_ANNOTATION = "lazyflow.axes"

#: Key of the annotation for a size whose unit OME does not have, ``"lazyflow.size.t"``: number and unit.
SIZE_ANNOTATION = "lazyflow.size."

#: Key of the annotation for names of channels that are samples of one pixel, which OME counts as one channel.
NAMES_ANNOTATION = "lazyflow.channel_names"

#: Key of the annotation for what is kept about how an image came to be.
ABOUT_ANNOTATION = "lazyflow.about"

#: Keys of tifffile's axis letters; letters that are not here say nothing.
_KEYS = {"T": "t", "Z": "z", "Y": "y", "X": "x", "C": "c", "S": "c"}


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


class Ome(NamedTuple):
    """OME-XML, as far as something is made of it here.

    Attributes
    ----------
    pixels
        What it says of each image.
    notes
        What our writer noted, by key.
    """

    pixels: list[ElementTree.Element]
    notes: Mapping[str, str]

    @property
    def axes_keys(self) -> str:
        """The axis keys that our writer noted; empty if it did not write the file."""
        return self.notes.get(AXES_ANNOTATION, "")


def parse_ome(path: str, xml: str, pages: int) -> Ome:
    """Return what OME-XML says.

    Raises
    ------
    FormatError
        If it lists more planes than the file has pages, of which tifffile makes a list first; or pages of
        other files: these are not opened behind the user's back, and without them the image is not what its
        metadata says.
    """
    notes: dict[str, str] = {}
    found = Ome([], notes)
    try:
        root = ElementTree.fromstring(xml)
        for node in root.iter():
            if _local(node.tag) == "M":
                notes.setdefault(node.get("K", ""), (node.text or "").strip())
            if _local(node.tag) == "UUID" and (node.text or "").strip() != root.get("UUID", "").strip():
                raise FormatError(
                    f"{path!r}: pages of its image are in {node.get('FileName')!r}, another file."
                )
            if _local(node.tag) != "Pixels":
                continue
            found.pixels.append(node)
            planes = 1
            for letter in "TCZ":
                planes *= int(node.attrib[f"Size{letter}"])
            samples = [int(c.get("SamplesPerPixel", 1)) for c in node if _local(c.tag) == "Channel"]
            planes //= max(1, samples[0] if samples else 1)
            if planes > pages:
                raise FormatError(
                    f"{path!r}: its OME metadata lists {planes} planes, but the file has {pages} pages."
                )
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{path!r}: its OME metadata is damaged: {error}.") from error
    return found


def kept_dimensions(letters: str, shape: Sequence[int], wanted: str) -> list[int]:
    """Return which of tifffile's dimensions the array has.

    Parameters
    ----------
    letters, shape
        All dimensions of the series, those of one pixel included.
    wanted
        The axis keys that the file was written with; empty if it does not say, which drops all dimensions
        of one pixel except y and x.
    """
    found: list[int] = []
    at = 0
    for key in wanted:
        at = next((i for i in range(at, len(letters)) if _KEYS.get(letters[i]) == key), len(letters)) + 1
        found.append(at - 1)
    if wanted and at <= len(letters) and all(n == 1 or i in found for i, n in enumerate(shape)):
        return found
    return [i for i, (letter, n) in enumerate(zip(letters, shape, strict=True)) if n != 1 or letter in "YX"]


class Described(NamedTuple):
    """What a file says of a series."""

    axes: Axes
    #: Whether the file does not say what the dimensions are.
    guessed: bool
    #: Names of the channels, or none.
    channel_names: tuple[str, ...]
    #: What is written in it that nothing could be made of, as sentences.
    notes: tuple[str, ...]


def describe(
    letters: str,
    shape: Sequence[int],
    ome: Ome | None,
    image: int,
    imagej: Mapping[str, Any] | None,
    tags: Any,
) -> Described:
    """Return what a file says of a series.

    Parameters
    ----------
    letters, shape
        The dimensions of the array, in tifffile's letters.
    ome, image
        What OME-XML says, and which of its images it is; None where the file has none.
    imagej, tags
        What ImageJ wrote, and the tags of the first page; None where it did not.
    """
    # A letter that says nothing, such as the pages of a plain TIFF, is z, or t where z is taken.
    free = [k for k in "zt" if k not in {_KEYS.get(letter) for letter in letters}]
    keys = [_KEYS.get(letter) or (free.pop(0) if free else "") for letter in reversed(letters)][::-1]
    guessed = any(letter not in _KEYS for letter in letters)
    try:
        axes = Axes(keys)
    except AxesError:
        axes, guessed = usual_axes(shape), True
    notes: list[str] = []
    if ome:
        sizes, names = _ome_sizes(ome, image, notes), _ome_names(ome, image)
    elif imagej is not None:
        sizes, names = _imagej_sizes(imagej, tags, notes), _imagej_names(imagej, letters, shape)
    else:
        sizes, names = _tag_sizes(tags), ()
    axes = Axes(Axis(a.key, a.kind, *sizes.get(a.key, (None, None))) for a in axes)
    channels = prod(shape[i] for i in axes.of_kind("channel")) if axes.of_kind("channel") else 0
    return Described(axes, guessed, names if len(names) == channels else (), tuple(notes))


#: A unit and a size; each None where it is not known.
_Size = tuple[str | None, float | None]


def _size(key: str, value: Any, text: Any, notes: list[str]) -> _Size:
    """Return the size of a pixel along an axis; nothing is made of a unit or a number that is not known."""
    try:
        size = abs(float(value))  # ImageJ's spacing is negative where slices are counted downwards
    except (TypeError, ValueError, OverflowError):
        size = 0.0
    if not 0 < size < float("inf"):
        if value not in (None, 0, "0"):
            notes.append(f"the size {value!r:.40} of {key} is no size")
        return None, None
    unit = unit_name(text)
    if unit is None and not is_pixel(text):
        notes.append(f"the unit {text!r:.40} of {key} is not known")
    if unit is None and (size == 1 or key == "t"):
        return None, None  # which is what is written where nothing is known; a time needs a unit
    return unit, size


def _ome_sizes(ome: Ome, image: int, notes: list[str]) -> dict[str, _Size]:
    if image >= len(ome.pixels):
        return {}
    pixels = ome.pixels[image]
    sizes = {}
    for key, name, unit in (  # with the unit that OME's schema has where none is written
        *((k, f"PhysicalSize{k.upper()}", "µm") for k in "xyz"),
        ("t", "TimeIncrement", "s"),
    ):
        if name in pixels.attrib:
            text = pixels.get(f"{name}Unit", unit)
            if text != "reference frame":
                sizes[key] = _size(key, pixels.attrib[name], text, notes)
    for key in "tczyx":
        with contextlib.suppress(ValueError, TypeError, AxesError):
            size, unit = json.loads(ome.notes.get(f"{SIZE_ANNOTATION}{key}", ""))
            axis = Axis(key, unit=unit if isinstance(unit, str) else None, resolution=size)
            sizes[key] = axis.unit, axis.resolution
    return sizes


def _ome_names(ome: Ome, image: int) -> tuple[str, ...]:
    with contextlib.suppress(ValueError, TypeError):
        return tuple(map(str, json.loads(ome.notes.get(NAMES_ANNOTATION, ""))))
    pixels = ome.pixels[image] if image < len(ome.pixels) else ()
    names = [node.get("Name") for node in pixels if _local(node.tag) == "Channel"]
    return tuple(map(str, names)) if all(names) else ()


def _imagej_sizes(imagej: Mapping[str, Any], tags: Any, notes: list[str]) -> dict[str, _Size]:
    """Return what ImageJ calls the calibration: y and z have the unit of x unless they have their own.

    Source
    ------
    ImageJ's FileOpener.decodeDescriptionString and FileInfo: the resolution tags count pixels per unit; an
    interval without a unit is in seconds.
    """
    unit = imagej.get("unit")
    widths: dict[str, float | None] = {key: _width(tags, f"{key.upper()}Resolution") for key in "xy"}
    if unit is None and _tag(tags, "ResolutionUnit") in _TAG_UNITS:
        unit = _TAG_UNITS[_tag(tags, "ResolutionUnit")]
        widths = {} if not _tag_sizes(tags) else widths
    texts = {"x": unit, "y": imagej.get("yunit", unit), "z": imagej.get("zunit", unit)}
    sizes = {
        key: _size(key, value, texts[key], notes)
        for key, value in (*widths.items(), ("z", imagej.get("spacing")))
        if value is not None
    }
    if imagej.get("finterval"):
        sizes["t"] = _size("t", imagej["finterval"], imagej.get("tunit", "sec"), notes)
    return sizes


#: Units of TIFF's tag ResolutionUnit; 1 means none.
_TAG_UNITS = {2: "inch", 3: "cm"}

#: Pixels per inch of screens, which programs write that know nothing of the image.
_OF_SCREENS = {72, 96}


def _tag_sizes(tags: Any) -> dict[str, _Size]:
    """Return the pixel size by the tags of a plain TIFF, if they give a unit."""
    unit = _TAG_UNITS.get(_tag(tags, "ResolutionUnit"))
    widths = {key: _width(tags, f"{key.upper()}Resolution") for key in "xy"}
    if unit is None or None in widths.values():
        return {}
    per_inch = {round((2.54 if unit == "cm" else 1) / width) for width in widths.values() if width}
    if per_inch <= _OF_SCREENS:
        return {}
    return {key: (unit_name(unit), value) for key, value in widths.items() if value}


def _tag(tags: Any, name: str) -> Any:
    tag = tags.get(name)
    return None if tag is None else getattr(tag.value, "value", tag.value)


def _width(tags: Any, name: str) -> float | None:
    """Return the width of a pixel by a tag that counts pixels per unit; None if it does not."""
    value = _tag(tags, name)
    if isinstance(value, tuple) and len(value) == 2 and value[0]:
        return float(value[1]) / float(value[0])
    return None


def _imagej_names(imagej: Mapping[str, Any], letters: str, shape: Sequence[int]) -> tuple[str, ...]:
    """Return the labels of the slices where they name the channels: each channel has one in all slices."""
    labels = imagej.get("Labels")
    if not isinstance(labels, list) or "C" not in letters:
        return ()
    channels = shape[letters.index("C")]
    names = labels[:channels]
    # ImageJ counts channels first, then slices, then frames.
    if len(labels) % channels or any(label != names[i % channels] for i, label in enumerate(labels)):
        return ()
    return tuple(map(str, names)) if all(names) else ()
