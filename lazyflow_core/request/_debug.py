"""Checks that find deadlocks before they happen, for debugging: see `enable_checks`."""

from __future__ import annotations

from typing import Any

#: None, or the object whose checks run at every wait and lock.
checks: Any = None
