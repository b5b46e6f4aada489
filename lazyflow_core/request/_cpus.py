"""How many CPUs this process may really use."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["usable_cpu_count"]


def usable_cpu_count(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the number of CPUs the affinity mask and the cgroup limit leave to this process.

    Examples
    --------
    >>> usable_cpu_count() >= 1
    True
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    quota = _cgroup_quota(cgroup)
    return max(1, cpus if quota is None else min(cpus, round(quota)))


def _cgroup_quota(cgroup: Path) -> float | None:
    """Return the CPUs a container is limited to, or None without a limit."""
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()  # version 2
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        limit_us = int((cgroup / "cpu" / "cpu.cfs_quota_us").read_text())  # version 1
        period_us = int((cgroup / "cpu" / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return limit_us / period_us if limit_us > 0 else None
