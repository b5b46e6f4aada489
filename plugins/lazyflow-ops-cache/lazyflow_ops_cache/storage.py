"""How the pixels of a block are kept: as they are, packed, or in a file with a copy in memory.

All of them are indexed like an array. None knows of a cache, a version or a request.
"""

from __future__ import annotations

import bisect
import logging
import os
import tempfile
import threading
import weakref
import zlib
from collections import deque
from functools import cache
from math import prod
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from lazyflow_core.errors import StorageError
from lazyflow_core.foreign import sentence
from lazyflow_core.utility import Account, Holding, tick

__all__ = ["FOLDER_VARIABLE", "Packed", "Pixels", "SpillFile", "Spilled"]

Array = npt.NDArray[Any]

#: Environment variable with the folder for blocks on disk; default that of the system for temporary files.
FOLDER_VARIABLE: Final = "LAZYFLOW_SPILL_FOLDER"

#: Blosc packs no more at once.
_MOST_BYTES: Final = 2**30

_logger = logging.getLogger(__name__)


class Pixels(Protocol):
    """The pixels of a block."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that count for the block as long as it is kept."""

    def __getitem__(self, key: tuple[slice, ...], /) -> Array:
        """Return a part of them, which nobody changes."""


class _Codec(Protocol):
    def encode(self, buffer: Any, /) -> Any: ...
    def decode(self, buffer: Any, /) -> Any: ...


class _Zlib:
    """What is always there."""

    def encode(self, buffer: Any) -> bytes:
        return zlib.compress(buffer, level=1)  # the fastest; the others gain little

    def decode(self, buffer: Any) -> bytes:
        return zlib.decompress(buffer)


@cache
def _fast() -> _Codec:
    """Return LZ4 where there is numcodecs."""
    try:
        import numcodecs
    except ImportError:
        return _Zlib()
    codec: _Codec = numcodecs.Blosc("lz4", clevel=5, shuffle=numcodecs.Blosc.SHUFFLE)
    return codec


def _codec(nbytes: int) -> _Codec:
    return _fast() if nbytes < _MOST_BYTES else _Zlib()


def _pack(data: Array) -> Any:
    # The codec takes the size of a pixel from the array: it packs bytes of equal weight together.
    plain = np.ascontiguousarray(data).reshape(-1).view(_raw(data))
    return _codec(data.nbytes).encode(plain)


def _raw(data: Array) -> str:
    return f"u{data.itemsize}" if data.itemsize in (1, 2, 4, 8) else "u1"


def _unpack(packed: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    whole: Array = np.frombuffer(_codec(prod(shape) * dtype.itemsize).decode(packed), dtype)
    return whole.reshape(shape)


class Packed:
    """The pixels of a block, compressed; indexing it unpacks all of it."""

    __slots__ = ("_bytes", "_dtype", "_shape")

    def __init__(self, data: Array) -> None:
        self._bytes = _pack(data)
        self._dtype, self._shape = data.dtype, data.shape

    @property
    def nbytes(self) -> int:
        """Bytes that are kept."""
        return len(self._bytes)

    def __getitem__(self, key: tuple[slice, ...]) -> Array:
        return _unpack(self._bytes, self._dtype, self._shape)[key]


class SpillFile:
    """A file without a name for the blocks of one cache, gone with the process however that ends.

    Parameters
    ----------
    folder
        Where; default what `FOLDER_VARIABLE` says, else that of the system for temporary files.
    """

    def __init__(self, folder: str | None = None) -> None:
        self._folder = folder or os.environ.get(FOLDER_VARIABLE) or None
        self._lock = threading.Lock()
        #: Made when something is written first. Guarded by the lock, as all below.
        self._file: Any = None
        self._end = 0
        #: (bytes, offset) of places that are free, the smallest first.
        self._free: list[tuple[int, int]] = []
        #: Places of blocks that are gone. Appended by finalizers, which must take no lock.
        self.given_up: deque[tuple[int, int]] = deque()
        self._complained = False
        #: A child of a fork would write where this process does.
        self._process = os.getpid()

    @property
    def nbytes(self) -> int:
        """Bytes that blocks take in the file."""
        with self._lock:
            self._settle()
            return self._end - sum(size for size, _ in self._free)

    def write(self, data: Any) -> tuple[int, int] | None:
        """Write some bytes and return their number and place; None where they cannot be written.

        What fails is logged once, and leaves no trace.
        """
        size = len(data)
        try:
            if os.getpid() != self._process or not hasattr(os, "pwrite"):
                raise OSError("another process uses the file, or the system has no such files")
            with self._lock:
                if self._file is None:
                    self._file = tempfile.TemporaryFile(  # noqa: SIM115  # closed with the last block
                        prefix="lazyflow-blocks-", dir=self._folder
                    )
                self._settle()
                offset = self._take(size)
                descriptor = self._file.fileno()
            try:
                rest = memoryview(data).cast("B")
                while rest:
                    rest = rest[os.pwrite(descriptor, rest, offset + size - len(rest)) :]
            except BaseException:
                self.given_up.append((size, offset))
                raise
        except OSError as error:
            if not self._complained:
                self._complained = True
                _logger.warning(
                    "blocks of a cache cannot be written to %s: %s. They are kept in memory; %s names "
                    "another folder.",
                    self._folder or tempfile.gettempdir(),
                    sentence(error),
                    FOLDER_VARIABLE,
                )
            return None
        return size, offset

    def read(self, place: tuple[int, int]) -> bytes:
        """Return what was written to a place; takes no lock.

        Raises
        ------
        StorageError
            If the disk does not give it back.
        """
        size, offset = place
        try:
            if os.getpid() != self._process:
                raise StorageError("blocks of a cache cannot be read: the file is that of another process.")
            data = os.pread(self._file.fileno(), size, offset)
            while len(data) < size:
                more = os.pread(self._file.fileno(), size - len(data), offset + len(data))
                if not more:
                    raise StorageError("blocks of a cache cannot be read: the file ends before.")
                data += more
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(
                f"blocks of a cache cannot be read from the disk: {sentence(error)}."
            ) from error
        return data

    def _take(self, size: int) -> int:
        """Return where there is room: in the smallest free place that is large enough, else at the end."""
        index = bisect.bisect_left(self._free, (size, 0))
        if index == len(self._free):
            self._end += size
            return self._end - size
        free, offset = self._free.pop(index)
        if free > size:
            bisect.insort(self._free, (free - size, offset + size))
        return offset

    def _settle(self) -> None:
        """Put places of blocks that are gone with those that are free, neighbours as one."""
        if not self.given_up:
            return
        places = [(offset, size) for size, offset in self._free]
        while self.given_up:
            size, offset = self.given_up.popleft()
            places.append((offset, size))
        merged: list[list[int]] = []
        for offset, size in sorted(places):
            if merged and merged[-1][0] + merged[-1][1] == offset:
                merged[-1][1] += size
            else:
                merged.append([offset, size])
        if merged and merged[-1][0] + merged[-1][1] == self._end:
            self._end = merged.pop()[0]
        self._free = sorted((size, offset) for offset, size in merged)

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()


class Spilled:
    """The pixels of a block in a file, packed, and in memory as long as there is room for them.

    Parameters
    ----------
    data
        The pixels.
    file, place
        Where they were written.
    account
        Where the copy in memory counts.
    priority
        Of that copy.
    """

    __slots__ = ("__weakref__", "_account", "_dtype", "_file", "_hot", "_place", "_priority", "_shape")

    #: Nothing of it counts as long as it is kept; its copy in memory counts by itself.
    nbytes: Final = 0

    def __init__(
        self, data: Array, file: SpillFile, place: tuple[int, int], account: Account, priority: int
    ) -> None:
        self._dtype, self._shape = data.dtype, data.shape
        self._file, self._place, self._account, self._priority = file, place, account, priority
        #: The copy in memory. Written under the lock of the ledger, read without it.
        self._hot: _Hot | None = None
        self._warm(data)

    @classmethod
    def written(cls, data: Array, file: SpillFile, account: Account, priority: int) -> Spilled | None:
        """Write the pixels of a block; None where they cannot be written."""
        place = file.write(_pack(data))
        return None if place is None else cls(data, file, place, account, priority)

    def __getitem__(self, key: tuple[slice, ...]) -> Array:
        hot = self._hot
        if hot is not None:
            hot.used = tick()
            return hot.data[key]
        data = _unpack(self._file.read(self._place), self._dtype, self._shape)
        self._warm(data)
        return data[key]

    def _warm(self, data: Array) -> None:
        ledger = self._account.ledger
        with ledger.lock:
            if self._hot is not None:
                return  # somebody else was as fast
            self._hot = _Hot(data, self)
            given_back = self._account.keep(self._hot)
        del given_back

    def cool(self) -> None:
        """Let go of the copy in memory, if there is one."""
        with self._account.ledger.lock:
            hot, self._hot = self._hot, None
            if hot is not None:
                self._account.forget(hot)
        del hot

    def __del__(self) -> None:
        hot = getattr(self, "_hot", None)
        if hot is not None and hot.account is not None:
            self._account.abandon(hot.nbytes, 1)
        self._file.given_up.append(self._place)


class _Hot(Holding):
    """The copy in memory of a block that is in a file."""

    __slots__ = ("_of", "data")

    def __init__(self, data: Array, of: Spilled) -> None:
        # Weakly: the entry in the ledger must not keep the block.
        self._of = weakref.ref(of)
        super().__init__(data.nbytes, _Hot._let_go, of._priority)
        self.data = data

    def _let_go(self) -> None:
        of = self._of()
        if of is not None and of._hot is self:
            of._hot = None
