"""What belongs to its process says so instead of being copied or pickled half."""

from __future__ import annotations

from typing import ClassVar, NoReturn

__all__ = ["Unique"]


class Unique:
    """Something of which there is one: what waits for it, holds it or runs it knows this very object."""

    __slots__ = ()

    #: What to do instead, for the error.
    _instead: ClassVar[str] = "Make another one there."

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{self!r} belongs to its process and is neither pickled nor copied. {self._instead}")
