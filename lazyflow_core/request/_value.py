"""A request that is finished from the beginning."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ._request import Request
from ._state import RequestState

if TYPE_CHECKING:
    from typing import Self

T = TypeVar("T")


class FinishedRequest(Request[T]):
    """What `Request.from_value` returns."""

    __slots__ = ()

    def __init__(self, value: T, *, name: str | Callable[[], str] | None = None) -> None:
        super().__init__(None, name="a value" if name is None else name)
        self._claim()
        self._take_end()
        self._outcome = value
        self._move(RequestState.FINISHED)

    def write_into(self, destination: Any) -> Self:
        """Copy the value by ``destination[...] = value``; the result is the destination from now on."""
        destination[...] = self._outcome
        self._outcome = destination
        return self
