"""Where the value of a slot is kept that has one, and what stands for none."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from lazyflow_core.graph.values import ValueRequest

__all__ = ["MISSING", "Cell", "Missing"]

T = TypeVar("T")


class Missing:
    """The class of `MISSING`, what a slot has that has no value."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()


class Cell(Generic[T]):
    """Where the request for a computed value is kept, in the versions in which the value is the same."""

    __slots__ = ("lock", "request")

    def __init__(self) -> None:
        #: Guards `request`; held for a few statements.
        self.lock = threading.Lock()
        self.request: ValueRequest[T] | None = None
