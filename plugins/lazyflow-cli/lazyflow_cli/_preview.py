"""A picture of one plane: what a pipeline was given beside what it made of it."""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from lazyflow_core import ArrayMeta, Roi
from PIL import Image, ImageDraw, ImageFont

from lazyflow_cli._text import unit_symbol

__all__ = ["Panel", "draw", "middle_plane", "panel_of"]

_PANEL: Final = 560  #: Longest side of a panel, in pixels of the picture.
_LARGEST_PLANE: Final = 2048  #: Of a longer plane the middle part is shown.
_MARGIN: Final = 36
_BACKGROUND: Final = (13, 17, 23)
_FRAME: Final = (48, 54, 61)
_BRIGHT: Final = (230, 237, 243)
_DIM: Final = (139, 148, 158)
_ACCENT: Final = np.array([255, 170, 60], dtype=np.float32)

#: From dark to bright through violet and orange; equal steps look about equal.
_HEAT: Final = np.array(
    [
        (4, 5, 16),
        (40, 17, 89),
        (101, 26, 128),
        (163, 48, 126),
        (222, 73, 104),
        (251, 136, 97),
        (254, 230, 170),
    ],
    dtype=np.float32,
)


@dataclass(frozen=True, slots=True)
class Panel:
    """One plane as a picture.

    Parameters
    ----------
    pixels
        RGB, uint8, shape (rows, columns, 3).
    pixel_size
        Height and width of a pixel in ``unit``, or None if nobody said.
    unit
        Unit of the pixel size, an OME-NGFF name.
    title, subtitle
        Caption; the subtitle tells where the plane lies.
    """

    pixels: npt.NDArray[np.uint8]
    pixel_size: tuple[float, float] | None
    unit: str | None
    title: str
    subtitle: str


# --------------------------------------------------------------------------------------- choosing a plane


def middle_plane(meta: ArrayMeta, roi: Roi) -> tuple[Roi, tuple[int, int]]:
    """Return the plane in the middle of a region, and which of its axes are rows and columns.

    Rows and columns are ``y`` and ``x`` if there are such, else the last two spatial axes, else the last
    two. Of channels the first is shown.

    Examples
    --------
    >>> meta = ArrayMeta((32, 128, 100), "uint8", axes="zyx")
    >>> plane, axes = middle_plane(meta, meta.roi)
    >>> str(plane), axes
    ('[16:17, 0:128, 0:100]', (1, 2))
    """
    axes = meta.axes
    if "y" in axes and "x" in axes:
        rows, columns = axes.index("y"), axes.index("x")
    else:
        candidates = axes.spatial if len(axes.spatial) >= 2 else tuple(range(meta.ndim))
        rows, columns = candidates[-2:] if len(candidates) >= 2 else (0, 0)
    plane = roi
    for i, axis in enumerate(axes):
        start, stop = roi.start[i], roi.stop[i]
        if i in (rows, columns):
            surplus = max(0, stop - start - _LARGEST_PLANE)
            start, stop = start + surplus // 2, stop - (surplus - surplus // 2)
        else:
            start = start if axis.kind == "channel" else (start + stop) // 2
            stop = start + 1
        plane = plane.with_axis(i, start, stop)
    return plane, (rows, columns)


def panel_of(
    data: np.ndarray[Any, Any],
    meta: ArrayMeta,
    plane: Roi,
    rows_columns: tuple[int, int],
    *,
    title: str,
    backdrop: Panel | None = None,
) -> Panel:
    """Return the picture of a plane that was read.

    Parameters
    ----------
    data
        The pixels of ``plane``.
    meta
        Of the slot it was read from.
    backdrop
        The panel of the source; a mask of the same size is laid over it.
    """
    rows, columns = rows_columns
    order = (*(i for i in range(meta.ndim) if i not in (rows, columns)), *dict.fromkeys((rows, columns)))
    image = data.transpose(order).reshape(plane.shape[rows], -1)
    if rows == columns:
        image = image.reshape(1, -1)
    row_axis, column_axis = meta.axes[rows], meta.axes[columns]
    size = None
    if row_axis.resolution and column_axis.resolution:
        size = (row_axis.resolution, column_axis.resolution)
    where = [
        f"{axis.key} = {plane.start[i]} of {meta.shape[i]}"
        for i, axis in enumerate(meta.axes)
        if i not in (rows, columns) and meta.shape[i] > 1
    ]
    subtitle = " · ".join([str(meta.dtype), *where])
    return Panel(_colored(image, meta, backdrop), size, column_axis.unit, title, subtitle)


def _colored(image: np.ndarray[Any, Any], meta: ArrayMeta, backdrop: Panel | None) -> npt.NDArray[np.uint8]:
    if meta.dtype == bool or (meta.dtype.kind in "iu" and meta.value_range == (0, 1)):
        mask = (image != 0)[..., None]
        below = np.zeros((*image.shape, 3), np.float32)
        if backdrop is not None and backdrop.pixels.shape == below.shape:
            below = backdrop.pixels * np.float32(0.55)
        # Multiplying keeps the structure of the image visible under the color.
        over = _ACCENT * (0.55 + 0.45 * below / 140)
        return np.where(mask, over, below).clip(0, 255).astype(np.uint8)
    if meta.semantics == "labels":
        return _label_colors(image)
    values = image.astype(np.float32)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (0.5, 99.7)) if finite.size else (0.0, 1.0)
    values = np.nan_to_num((values - low) / max(high - low, 1e-12)).clip(0, 1)
    if backdrop is None:
        return np.repeat((values * 255).astype(np.uint8)[..., None], 3, axis=-1)
    steps = np.arange(len(_HEAT)) / (len(_HEAT) - 1)
    channels = [np.interp(values, steps, _HEAT[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def _label_colors(labels: np.ndarray[Any, Any]) -> npt.NDArray[np.uint8]:
    """Return a color per label, the same in every picture; 0 is dark."""
    hue = (labels.astype(np.int64) * 0.61803398875 % 1.0)[
        ..., None
    ]  # the golden ratio keeps neighbours apart
    rgb = 0.5 + 0.5 * np.cos(2 * np.pi * (hue + np.array([0.0, 0.33, 0.67])))
    return np.where((labels == 0)[..., None], 0, 60 + 180 * rgb).astype(np.uint8)


# ------------------------------------------------------------------------------------------------ drawing


def draw(panels: Sequence[Panel], caption: str, path: Path) -> None:
    """Write panels side by side as a PNG file, with captions, and a scale bar where pixels have a size.

    The file appears when it is whole. What had the name is replaced; what a link names is left alone.
    """
    title, small = ImageFont.load_default(22), ImageFont.load_default(16)
    pictures = [_scaled(panel) for panel in panels]
    gap, top, bottom = 56, _MARGIN + 62, _MARGIN + 36
    widths = [max(picture.width, 220) for picture in pictures]
    height = max(picture.height for picture in pictures)
    canvas = Image.new(
        "RGB", (2 * _MARGIN + sum(widths) + gap * (len(panels) - 1), top + height + bottom), _BACKGROUND
    )
    pen = ImageDraw.Draw(canvas)
    x = _MARGIN
    for number, (panel, picture, width) in enumerate(zip(panels, pictures, widths, strict=True)):
        pen.text((x, _MARGIN - 8), panel.title, _BRIGHT, font=title)
        pen.text((x, _MARGIN + 24), panel.subtitle, _DIM, font=small)
        canvas.paste(picture, (x, top))
        pen.rectangle((x - 1, top - 1, x + picture.width, top + picture.height), outline=_FRAME)
        if number == 0:
            _scale_bar(canvas, panel, (x, top), picture, small)
        x += width
        if number < len(panels) - 1:
            _arrow(pen, x + gap // 2, top + height // 2)
        x += gap
    room = canvas.width - 2 * _MARGIN
    while small.getlength(caption) > room and len(caption) > 4:
        caption = caption[:-4].rstrip() + " …"
    pen.text((_MARGIN, top + height + 20), caption, _DIM, font=small)
    partial = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            canvas.save(file, "PNG", optimize=True)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _scaled(panel: Panel) -> Image.Image:
    """Return the panel enlarged to fill the room, its pixels in their true shape."""
    rows, columns = panel.pixels.shape[:2]
    high, wide = (
        (rows, columns)
        if panel.pixel_size is None
        else (
            rows * panel.pixel_size[0],
            columns * panel.pixel_size[1],
        )
    )
    scale = _PANEL / max(high, wide)
    size = (max(1, round(wide * scale)), max(1, round(high * scale)))
    return Image.fromarray(panel.pixels).resize(size, Image.Resampling.LANCZOS)


def _arrow(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    pen.line((x - 14, y, x + 10, y), fill=_DIM, width=3)
    pen.polygon([(x + 15, y), (x + 4, y - 7), (x + 4, y + 7)], fill=_DIM)


def _scale_bar(
    canvas: Image.Image,
    panel: Panel,
    corner: tuple[int, int],
    picture: Image.Image,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    if panel.pixel_size is None:
        return
    width = panel.pixels.shape[1] * panel.pixel_size[1]
    length = _round_length(width / 4)
    bar = round(length / width * picture.width)
    left, base = corner[0] + picture.width - bar - 20, corner[1] + picture.height - 20
    text = f"{length:g} {unit_symbol(panel.unit or '')}".strip()
    # A dark veil under the bar keeps it readable on bright images.
    middle = left + bar / 2
    half = max(bar, font.getlength(text)) / 2 + 12
    veil = Image.new("RGBA", canvas.size, (0, 0, 0, 0))
    ImageDraw.Draw(veil).rounded_rectangle(
        (middle - half, base - 36, middle + half, base + 10), radius=8, fill=(0, 0, 0, 150)
    )
    canvas.paste(veil, mask=veil.getchannel("A"))
    pen = ImageDraw.Draw(canvas)
    pen.rectangle((left, base - 4, left + bar, base), fill=_BRIGHT)
    _write_unit(pen, (middle - font.getlength(text) / 2, base - 30), text, font)


def _write_unit(
    pen: ImageDraw.ImageDraw,
    corner: tuple[float, float],
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Write a text in which every ``µ`` is a ``u`` with a stem: Pillow's own font has no such letter."""
    x, y = corner
    pen.text((x, y), text.replace("µ", "u"), _BRIGHT, font=font)
    if "µ" in text:
        left, top, _, bottom = pen.textbbox((x + font.getlength(text[: text.index("µ")]), y), "u", font=font)
        pen.line((left + 1, top, left + 1, bottom + 4), fill=_BRIGHT, width=2)


def _round_length(length: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20, … that is not longer.

    Examples
    --------
    >>> _round_length(4.9), _round_length(0.3), _round_length(1000)
    (2.0, 0.2, 1000.0)
    """
    power = 10.0 ** math.floor(math.log10(length))
    return max(step * power for step in (1.0, 2.0, 5.0) if step * power <= length * (1 + 1e-9))
