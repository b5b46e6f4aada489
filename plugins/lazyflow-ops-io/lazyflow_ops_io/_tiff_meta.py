"""What TIFF files say of axes and pixel sizes: OME-XML, ImageJ's hyperstack text, and nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from lazyflow_core.axes import Axes, Axis
from lazyflow_core.errors import AxesError, FormatError
from lazyflow_ops_io._reader import usual_axes

__all__ = ["AXES_ANNOTATION", "UNIT_SYMBOLS", "axes_from", "check_ome", "kept_dimensions"]

#: Key of the OME map annotation in which our writer keeps the axis keys. OME lists all of t, c, z, y, x in
#: every image, so a volume with one slice could not be told from a plane.
AXES_ANNOTATION = "lazyflow.axes"

#: Symbols that OME and ImageJ use, by the NGFF names that axes have here.
UNIT_SYMBOLS: Mapping[str, str] = {
    "micrometer": "µm", "nanometer": "nm", "millimeter": "mm", "centimeter": "cm", "meter": "m",
    "angstrom": "Å", "picometer": "pm", "second": "s", "millisecond": "ms", "minute": "min", "hour": "h",
}  # fmt: skip
_UNIT_NAMES = {
    **{symbol: name for name, symbol in UNIT_SYMBOLS.items()},
    **{name: name for name in UNIT_SYMBOLS},
    "μm": "micrometer", "um": "micrometer", "micron": "micrometer", "microns": "micrometer",
    "\\u00B5m": "micrometer", "sec": "second", "seconds": "second",
}  # fmt: skip

#: Keys of tifffile's axis letters; letters that are not here say nothing.
_KEYS = {"T": "t", "Z": "z", "Y": "y", "X": "x", "C": "c", "S": "c"}


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def check_ome(path: str, xml: str, pages: int) -> None:
    """Refuse OME-XML that lists more planes than the file has pages, or pages of other files.

    tifffile makes a list of that length first. Other files are not opened behind the user's back, and
    without them the image is not what its metadata says.

    Raises
    ------
    FormatError
        If it does.
    """
    try:
        root = ElementTree.fromstring(xml)
        for node in root.iter():
            if _local(node.tag) == "UUID" and (node.text or "").strip() != root.get("UUID", "").strip():
                raise FormatError(
                    f"{path!r}: pages of its image are in {node.get('FileName')!r}, another file."
                )
            if _local(node.tag) != "Pixels":
                continue
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


def axes_from(
    letters: str,
    shape: Sequence[int],
    ome: str | None,
    image: int,
    imagej: Mapping[str, Any] | None,
    tags: Any,
) -> Axes:
    """Return the axes of a series.

    Parameters
    ----------
    letters, shape
        The dimensions of the array, in tifffile's letters.
    ome, image
        The OME-XML and which of its images it is; None where the file has none.
    imagej, tags
        What ImageJ wrote, and the tags of the first page; None where it did not.
    """
    # A letter that says nothing, such as the pages of a plain TIFF, is z, or t where z is taken.
    free = [k for k in "zt" if k not in {_KEYS.get(letter) for letter in letters}]
    keys = [_KEYS.get(letter) or (free.pop(0) if free else "") for letter in reversed(letters)][::-1]
    try:
        guessed = Axes(keys)
    except AxesError:
        guessed = usual_axes(shape)
    sizes: dict[str, tuple[float, str | None]] = {}
    if ome:
        sizes = _ome_sizes(ome, image)
    elif imagej is not None:
        sizes = _imagej_sizes(imagej, tags)
    return Axes(Axis(a.key, a.kind, *_size(sizes.get(a.key))) for a in guessed)


def _size(found: tuple[float, str | None] | None) -> tuple[str | None, float | None]:
    """Return unit and resolution, None for what makes no sense."""
    if found is None or not 0 < found[0] < float("inf"):
        return None, None
    return found[1], found[0]


def _unit(symbol: Any) -> str | None:
    return _UNIT_NAMES.get(symbol.strip()) if isinstance(symbol, str) else None


def _ome_sizes(xml: str, image: int) -> dict[str, tuple[float, str | None]]:
    pixels = [node for node in ElementTree.fromstring(xml).iter() if _local(node.tag) == "Pixels"]
    if image >= len(pixels):
        return {}
    attributes = pixels[image].attrib
    sizes = {}
    for key, name, unit in (
        *((k, f"PhysicalSize{k.upper()}", "µm") for k in "xyz"),
        ("t", "TimeIncrement", "s"),
    ):
        if name in attributes:
            sizes[key] = (float(attributes[name]), _unit(attributes.get(f"{name}Unit", unit)))
    return sizes


def ome_axes_keys(xml: str) -> str:
    """Return the axis keys that our writer noted in OME-XML, empty if it did not write it."""
    for node in ElementTree.fromstring(xml).iter():
        if _local(node.tag) == "M" and node.get("K") == AXES_ANNOTATION:
            return (node.text or "").strip()
    return ""


def _imagej_sizes(imagej: Mapping[str, Any], tags: Any) -> dict[str, tuple[float, str | None]]:
    unit = _unit(imagej.get("unit"))
    sizes: dict[str, tuple[float, str | None]] = {}
    if unit is None:
        return sizes
    for key, name in (("x", "XResolution"), ("y", "YResolution")):
        tag = tags.get(name)
        if tag is not None and len(tag.value) == 2 and tag.value[0]:
            sizes[key] = (tag.value[1] / tag.value[0], unit)  # the tag counts pixels per unit
    if isinstance(imagej.get("spacing"), int | float):
        sizes["z"] = (float(imagej["spacing"]), unit)
    if isinstance(imagej.get("finterval"), int | float):
        sizes["t"] = (float(imagej["finterval"]), _unit(imagej.get("tunit")) or "second")
    return sizes
