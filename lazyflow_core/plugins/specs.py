"""Light descriptions that plugins hand to the core: what exists, never the thing itself.

Targets are strings, ``"package.module:name"``, and are imported when somebody uses them, so asking who
opens ``.h5`` imports no h5py.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["OperatorSpec", "ReaderSpec", "WriterSpec"]


@dataclass(frozen=True, slots=True)
class OperatorSpec:
    """An operator that a distribution offers.

    Parameters
    ----------
    id
        ``"namespace.name"``, lower case, as written in pipeline files.
    target
        Where its class is, ``"package.module:Class"``.
    distribution, version
        Who offers it; empty for one that was registered at run time.
    """

    id: str
    target: str
    distribution: str = ""
    version: str = ""

    @property
    def namespace(self) -> str:
        """The part of the id before the dot."""
        return self.id.partition(".")[0]


@dataclass(frozen=True, slots=True)
class ReaderSpec:
    """A kind of file that a distribution reads.

    Parameters
    ----------
    id
        ``"namespace.name"``; its name alone is what users give as ``format``, e.g. ``"hdf5"``.
    target
        A callable ``(path: str, *, dataset: str | None) -> lazyflow_core.storage.Reader``.
    patterns
        File names it usually has, e.g. ``("*.h5", "*.hdf5")``, compared without case.
    magic
        Byte strings by which its files begin, ``((offset, bytes), …)``; any one of them is enough.
    directory
        Whether its arrays are folders rather than files.
    marker
        For folders: names of files, any one of which must be in it.
    priority
        Larger is preferred among readers that claim a file equally well.
    """

    id: str
    target: str
    patterns: tuple[str, ...] = ()
    magic: tuple[tuple[int, bytes], ...] = ()
    directory: bool = False
    marker: tuple[str, ...] = ()
    priority: int = 0


@dataclass(frozen=True, slots=True)
class WriterSpec:
    """A kind of file that a distribution writes.

    Parameters
    ----------
    id
        ``"namespace.name"``; its name alone is what users give as ``format``, e.g. ``"zarr"``.
    target
        A callable ``(path: str, meta: ArrayMeta, *, dataset: str | None, overwrite: bool, **options) ->
        lazyflow_core.storage.Writer``.
    patterns
        File names from which it is chosen where no format is given.
    options
        Names of the keyword options the target takes besides, e.g. ``("chunks", "compression")``.
    priority
        Larger is preferred among writers with the same pattern.
    """

    id: str
    target: str
    patterns: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    priority: int = 0
