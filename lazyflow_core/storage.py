"""What a reader and a writer of arrays promise.

These are contracts only. Distributions implement them and announce theirs through the hooks of
`lazyflow_core.plugins`; the streaming in `lazyflow_core.utility` knows nothing else of files.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lazyflow_core.meta import ArrayMeta
from lazyflow_core.roi import Roi

__all__ = ["Reader", "Writer"]


class Reader(Protocol):
    """An open array that can be read by region.

    Opening checks everything that can be checked without reading pixels and raises `FormatError` for what
    is in the file, `StorageError` for what is around it, each naming the path. Every exception of the
    library underneath is turned into one of the two.
    """

    @property
    def meta(self) -> ArrayMeta:
        """Shape, dtype, axes with pixel sizes, and the chunks of the file as ``preferred_block``."""

    def read(self, roi: Roi, out: npt.NDArray[Any]) -> None:
        """Read one region into ``out``, an array of ``roi.shape`` that need not be contiguous.

        Called from several threads at once: an implementation guards what it must. Never reads outside
        ``roi`` more than the chunks it touches.
        """

    def close(self) -> None:
        """Release the file. Closing twice is fine; reading afterwards raises `StorageError`."""


class Writer(Protocol):
    """A new array that is written block by block and appears under its name only when it is complete.

    Everything is written next to the target under a temporary name. `commit` gives it the target's name
    in one step; `abort`, or the end of the process, leaves the target as it was before.
    """

    @property
    def step(self) -> tuple[int, ...]:
        """Shape of the storage's unit of writing. A block starts at multiples of it on every axis and
        ends at one, or at the end of the array, so that no two blocks share a unit."""

    def write(self, roi: Roi, data: np.ndarray[Any, Any]) -> None:
        """Write one block, an array of ``roi.shape`` and the dtype of the meta. Called from several threads
        at once for different blocks. Raises `StorageError` with the path and the reason."""

    def commit(self) -> int:
        """Finish, make the array visible under its name, and return the bytes it takes in storage."""

    def abort(self) -> None:
        """Remove what was written so far. Never raises; aborting twice or after `commit` does nothing."""
