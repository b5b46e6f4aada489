"""How much memory there is, in bytes and in words."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

__all__ = ["available_memory", "format_bytes", "parse_bytes", "peak_memory"]

_UNITS: Final = {"b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_DECIMAL: Final = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}

#: Taken where the system does not say: little enough for any machine that runs this.
_UNKNOWN_MEMORY: Final = 2 * 2**30


def available_memory() -> int:
    """Return the bytes this process may still take: of the machine, or of its control groups if less."""
    limits = [_from_meminfo(), *_from_cgroups()]
    return min((limit for limit in limits if limit is not None), default=_UNKNOWN_MEMORY)


def peak_memory() -> int:
    """Return the largest resident size this process had so far, in bytes; 0 where the system cannot say."""
    try:
        # Not ru_maxrss, where there is this: that of a child begins with the size of the process it was
        # forked from, even after exec.
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if os.uname().sysname == "Darwin" else peak * 1024


def format_bytes(count: float) -> str:
    """Return a number of bytes for people.

    Examples
    --------
    >>> format_bytes(512), format_bytes(1536), format_bytes(3 * 2**30)
    ('512 B', '1.5 KiB', '3.0 GiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def parse_bytes(text: str) -> int:
    """Return the number of bytes in a text such as ``"1.5 GiB"``, ``"600MB"`` or ``"4096"``.

    Raises
    ------
    ValueError
        If it is no size.

    Examples
    --------
    >>> parse_bytes("1.5 KiB"), parse_bytes("2 MB")
    (1536, 2000000)
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]*)\s*", text.lower())
    unit = (_UNITS | _DECIMAL).get(match[2] or "b") if match else None
    if match is None or unit is None:
        raise ValueError(f"{text!r} is no size in bytes; write it like '512 MiB' or '2 GB'.")
    return int(float(match[1]) * unit)


def _from_meminfo() -> int | None:
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


#: Of each version of control groups: where it is mounted, the limit, what is taken, and of that what the
#: system keeps of files and gives back by itself.
_V1: Final = ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2: Final = ("", "memory.max", "memory.current", "inactive_file")


def _from_cgroups(mount: str = "/sys/fs/cgroup", membership: str = "/proc/self/cgroup") -> list[int]:
    """Return what the control groups leave that this process is in, version 2 and 1.

    Every group around that of the process may have a limit, too. In a container its own group is what is
    mounted, and the path to it leads nowhere; then the one that is mounted counts.
    """
    try:
        lines = Path(membership).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    paths = {}
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            paths[_V2] = path
        elif "memory" in controllers.split(","):
            paths[_V1] = path
    remaining = []
    for version in (_V1, _V2):
        folder, limit, used, cached = version
        root = Path(mount, folder)
        group = root / paths.get(version, "").strip("/")
        while True:
            try:
                most = int((group / limit).read_text(encoding="ascii"))
                taken = int((group / used).read_text(encoding="ascii"))
            except (OSError, ValueError):  # not mounted, or "max": no limit
                pass
            else:
                remaining.append(max(0, most - taken + _from_stat(group / "memory.stat", cached)))
            if group in (root, group.parent):
                break
            group = group.parent
    return remaining


def _from_stat(path: Path, name: str) -> int:
    try:
        found = re.search(rf"^{name} (\d+)$", path.read_text(encoding="ascii"), re.MULTILINE)
    except (OSError, ValueError):
        return 0
    return int(found[1]) if found else 0
