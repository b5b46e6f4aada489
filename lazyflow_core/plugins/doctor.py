"""The answer to one question of ``lazyflow doctor``."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Check"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at on this machine.

    Parameters
    ----------
    name
        What was looked at, e.g. ``"filters: vigra backend"``.
    ok
        Whether it is as it should be; None for something optional that is absent.
    detail
        What was found: a version, or the cause.
    hint
        What to do about it; empty where nothing needs to be done.
    """

    name: str
    ok: bool | None
    detail: str
    hint: str = ""
