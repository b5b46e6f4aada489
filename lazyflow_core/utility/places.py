"""Whether two paths lead to the same files, whatever they are called.

A name says little: links, bind mounts, other upper and lower case and relative paths all lead to the same
place. What exists is compared by what the system says it is, what does not exist yet by where it would be.
"""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

__all__ = ["Overlap", "overlap"]

Overlap = Literal["is", "contains", "is inside"]

_MOUNTS = "/proc/self/mountinfo"


class _Location(NamedTuple):
    #: Device and number of the path and of what it lies in, from the root; only of what exists.
    chain: tuple[tuple[int, int], ...]
    #: Names below the last of those.
    missing: tuple[str, ...]
    #: Device and names of the path on it, which does not depend on where it is mounted; None if unknown.
    on_device: tuple[str, ...] | None


def overlap(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> Overlap | None:
    """Return what a path is to another one: the same file or folder, around it, in it; None for neither.

    Parameters
    ----------
    one, other
        Files or folders; they need not exist. Links are followed.

    Returns
    -------
    Overlap or None
        As in ``"one {is|contains|is inside} other"``.

    Examples
    --------
    >>> overlap("p.zarr", "p.zarr/raw"), overlap("p.zarr/../q.h5", "q.h5"), overlap("p.h5", "q.h5")
    ('contains', 'is', None)
    """
    first, second = _place(one), _place(other)
    found = _compare(first.chain, second.chain, first.missing, second.missing)
    if found is None and first.on_device is not None and second.on_device is not None:
        found = _within(first.on_device, second.on_device)
    return found


def _compare(
    one: tuple[tuple[int, int], ...],
    other: tuple[tuple[int, int], ...],
    missing: tuple[str, ...],
    other_missing: tuple[str, ...],
) -> Overlap | None:
    # A folder that exists can be told by its number alone, however one got there.
    if not missing and not other_missing and one[-1] == other[-1]:
        return "is"
    if not missing and one[-1] in other:
        return "contains"
    if not other_missing and other[-1] in one:
        return "is inside"
    if missing and other_missing and one[-1] == other[-1]:
        return _within(missing, other_missing)
    return None


def _within(one: tuple[str, ...], other: tuple[str, ...]) -> Overlap | None:
    if one == other:
        return "is"
    if other[: len(one)] == one:
        return "contains"
    return "is inside" if one[: len(other)] == other else None


def _place(path: str | os.PathLike[str]) -> _Location:
    try:
        real = os.path.realpath(path)
    except ValueError:  # a NUL in it: no path, and nothing lies there
        return _Location(((-1, -1),), (os.fspath(path),), None)
    parts = [real]
    while os.path.dirname(parts[-1]) != parts[-1]:
        parts.append(os.path.dirname(parts[-1]))
    chain: list[tuple[int, int]] = []
    for part in reversed(parts):
        try:
            status = os.stat(part)
        except OSError:  # missing, or not to be looked at
            break
        chain.append((status.st_dev, status.st_ino))
    missing = tuple(os.path.basename(part) for part in reversed(parts[: len(parts) - len(chain)]))
    return _Location(tuple(chain) or ((-1, -1),), missing, _on_device(real))


def _on_device(real: str) -> tuple[str, ...] | None:
    """Return the device of a path and its names there, by the system's list of mounts (Linux)."""
    best: tuple[str, ...] | None = None
    longest = -1
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                # proc(5): "36 35 98:0 /root-of-the-mount /mount-point …", with octal escapes.
                device, root, point = line.split(" ", 5)[2:5]
                root, point = _plain(root), _plain(point)
                inside = point == "/" or real == point or real.startswith(f"{point}/")
                if inside and len(point) >= longest:  # a later mount lies over an earlier one
                    longest = len(point)
                    rest = real[len(point) :] if point != "/" else real
                    best = (device, *(n for n in f"{root}/{rest}".split("/") if n))
    except (OSError, ValueError):
        return None
    return best


def _plain(text: str) -> str:
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, letter)
    return text
