"""Which plugin reads or writes a file, and why no other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any, Final, cast

from lazyflow_core.errors import FormatError, LazyflowError, NoReaderError, PluginError, StorageError
from lazyflow_core.foreign import contextmanager, sentence
from lazyflow_core.plugins.known import DISTRIBUTION_OF_SUFFIX
from lazyflow_core.plugins.loading import is_for_the_caller, load_target
from lazyflow_core.plugins.specs import ReaderSpec, WriterSpec
from lazyflow_core.sources import is_address, open_source
from lazyflow_core.words import near_miss, possible

if TYPE_CHECKING:
    from typing import Self

    import numpy.typing as npt

    from lazyflow_core.meta import ArrayMeta
    from lazyflow_core.roi import Roi
    from lazyflow_core.storage import Reader, Writer

__all__ = [
    "AXES_GUESSED",
    "NOTES",
    "READ_BY",
    "OpenedReader",
    "ReaderVerdict",
    "explain_reader",
    "find_reader",
    "find_writer",
    "load_spec",
    "load_reader",
    "open_reader",
    "open_writer",
]

#: Key in ``meta.extra`` of an opened file: which reader of which distribution opened it.
READ_BY: Final = "lazyflow.reader"

#: Key in ``meta.extra`` of an opened file: true where the file does not say what its axes are.
AXES_GUESSED: Final = "lazyflow.axes_guessed"

#: Key in ``meta.extra`` of an opened file: what it says that nothing could be made of, as short sentences.
NOTES: Final = "lazyflow.notes"

#: How far into a file its kind shows.
_HEAD_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class ReaderVerdict:
    """How well a reader fits a path.

    Parameters
    ----------
    spec
        The reader.
    rank
        Larger is better; compared as a tuple. Empty if it does not fit at all.
    reason
        Why, in a few words.
    asked
        What decided: its ``"kind"`` (file or folder), ``"magic"``, ``"marker"`` or ``"pattern"``.
    origin
        Distribution and version whose reader it is, or the namespace if it was registered at run time.
    """

    spec: ReaderSpec
    rank: tuple[int, ...]
    reason: str
    asked: str
    origin: str = ""


def explain_reader(specs: Iterable[ReaderSpec], path: str) -> list[ReaderVerdict]:
    """Return how well each reader fits a path, the best first.

    What the file begins with counts more than its name, a longer pattern more than a shorter one, then the
    priority a plugin gave; the id decides what is left.

    Raises
    ------
    StorageError
        If the path does not exist or cannot be read.
    """
    directory, head, entries = _look(path)
    verdicts = [_judge(spec, path, directory, head, entries) for spec in specs]
    by_id = sorted(verdicts, key=lambda v: v.spec.id)
    return sorted(by_id, key=lambda v: v.rank, reverse=True)


def open_reader(
    specs: Sequence[ReaderSpec], path: str, *, dataset: str | None = None, format: str | None = None
) -> Reader:
    """Open an array for reading.

    Parameters
    ----------
    specs
        The readers there are.
    path
        File or folder.
    dataset
        Name of the array inside, where the format has several.
    format
        Name of the reader, e.g. ``"hdf5"`` or ``"io.hdf5"``; default the one that fits best.

    Raises
    ------
    NoReaderError
        If nothing installed reads it.
    FormatError
        If it is damaged.
    StorageError
        If it does not exist or cannot be read.
    PluginError
        If the format is unknown.
    """
    return load_reader(find_reader(specs, path, format), path, dataset)


def find_reader(
    specs: Sequence[ReaderSpec],
    path: str,
    format: str | None = None,
    explain: Callable[[str], list[ReaderVerdict]] | None = None,
) -> ReaderSpec:
    """Return the reader for a path; raises as `open_reader`, and imports none.

    Parameters
    ----------
    specs, path, format
        As for `open_reader`.
    explain
        Ranks the readers; default `explain_reader`.
    """
    if format:
        _look(path)  # a missing file is a clearer complaint than whatever the library would say
        return cast("ReaderSpec", _by_format(specs, format, "read"))
    best = explain_reader(specs, path) if explain is None else explain(path)
    if not best or not best[0].rank:
        asked = ", ".join(f"{v.spec.id} by {v.asked} no" for v in best) or "nobody"
        hint = " The file is empty." if _is_empty(path) else _readable(specs) + _known(path, specs)
        raise NoReaderError(f"nothing installed opens {path!r} (asked: {asked}).{hint}")
    return best[0].spec


class OpenedReader:
    """What a reader of a plugin opened, with a note in its meta of whose reader it is.

    As a context manager it closes itself.

    Parameters
    ----------
    reader
        Of the plugin; its attributes are those of this one.
    path
        What it opened.
    by
        What ``meta.extra["lazyflow.reader"]`` says: id, distribution and version.
    """

    def __init__(self, reader: Reader, path: str, by: str) -> None:
        self._reader = reader
        self._path = path
        self._by = by
        with _blaming(by, path):
            self.meta: ArrayMeta = reader.meta.replace(extra={**reader.meta.extra, READ_BY: by})

    def read(self, roi: Roi, out: npt.NDArray[Any]) -> None:
        """Read one region into ``out``."""
        with _blaming(self._by, self._path):
            self._reader.read(roi, out)

    def close(self) -> None:
        """Release the file."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


def load_reader(spec: ReaderSpec, path: str, dataset: str | None = None, by: str = "") -> Reader:
    """Open an array with one reader, importing it.

    Parameters
    ----------
    spec, path, dataset
        As for `open_reader`.
    by
        Whose reader it is, for errors; default its id.

    Raises
    ------
    PluginError
        If the reader cannot be imported, or fails in words that are not the framework's.
    FormatError, StorageError
        As `open_reader`.
    """
    target = load_spec(spec)
    with _blaming(by or spec.id, path):
        return cast("Reader", target(path, dataset=dataset or None))


@contextmanager
def _blaming(by: str, path: str) -> Iterator[None]:
    """Name file and reader for what a reader raises; what it says in the framework's own words stays."""
    try:
        yield
    except (LazyflowError, MemoryError):
        raise
    except OSError as error:
        raise StorageError(f"{path}: {by} cannot read it: {sentence(error)}.") from error
    except (Exception, SystemExit) as error:
        raise PluginError(f"{path}: {by} failed: {sentence(error)}.") from error


def open_writer(
    specs: Sequence[WriterSpec],
    path: str,
    meta: ArrayMeta,
    *,
    dataset: str | None = None,
    format: str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Writer:
    """Open a new array for writing.

    Parameters
    ----------
    specs
        The writers there are.
    path
        File or folder that will hold it.
    meta
        What will be written.
    dataset
        Name of the array inside, where the format has names.
    format
        Name of the writer, e.g. ``"zarr"``; default the one whose pattern fits the path.
    overwrite
        Replace what is there, once the new array is complete.
    **options
        What the writer takes besides.

    Raises
    ------
    FormatError
        If no writer fits the path.
    PluginError
        If the format or an option is unknown.
    TargetExistsError
        If the target exists and is not to be overwritten.
    StorageError
        If it cannot be written.
    """
    spec = find_writer(specs, path, format)
    unknown = sorted(options.keys() - set(spec.options))
    if unknown:
        possible = ", ".join(spec.options) or "none"
        raise PluginError(f"{spec.id} has no option {unknown[0]!r}; it has {possible}.")
    target = load_spec(spec)
    return cast("Writer", target(path, meta, dataset=dataset or None, overwrite=overwrite, **options))


def find_writer(specs: Sequence[WriterSpec], path: str, format: str | None = None) -> WriterSpec:
    """Return the writer for a path; raises as `open_writer`, and touches no file."""
    if format:
        return cast("WriterSpec", _by_format(specs, format, "write"))
    fitting = [(spec.priority, len(p), spec) for spec in specs for p in spec.patterns if matches(path, p)]
    if not fitting:
        possible = "; ".join(f"{spec.id} ({', '.join(spec.patterns)})" for spec in specs)
        possible = possible or "no plugin is installed that could"
        raise FormatError(f"nothing installed writes {path} ({possible}).{_known(path, specs)}")
    return max(fitting, key=lambda item: item[:2])[-1]


def _by_format(specs: Sequence[Any], format: str, verb: str) -> Any:
    for spec in specs:
        if format in (spec.id, spec.id.partition(".")[2]):
            return spec
    names = sorted(spec.id.partition(".")[2] for spec in specs)
    raise PluginError(
        f"nothing installed can {verb} the format {format!r}{near_miss(format, names)}"
        f"{possible('Possible', names)}"
    )


def _readable(specs: Iterable[ReaderSpec]) -> str:
    """Return what can be read, as one more sentence; empty if nothing can."""
    names = [f"{spec.id} ({', '.join(spec.patterns)})" if spec.patterns else spec.id for spec in specs]
    return f" Readable are {', '.join(sorted(names))}." if names else ""


def _look(path: str) -> tuple[bool, bytes, frozenset[str]]:
    """Return whether a path is a folder, the first bytes of a file, and the entries of a folder."""
    if not path:
        raise StorageError("The path is empty; give the name of a file or folder.")
    if os.path.isdir(path) and not is_address(path):
        try:
            return True, b"", frozenset(os.listdir(path))
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror or error}.") from error
    with open_source(path) as file:
        try:
            return False, file.read(_HEAD_BYTES), frozenset()
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror or error}.") from error


def _is_empty(path: str) -> bool:
    return os.path.isfile(path) and not os.path.getsize(path)


def _judge(
    spec: ReaderSpec, path: str, directory: bool, head: bytes, entries: frozenset[str]
) -> ReaderVerdict:
    if spec.directory is not directory:
        return ReaderVerdict(spec, (), f"it reads {'folders' if spec.directory else 'files'}", "kind")
    begins = any(head[offset : offset + len(magic)] == magic for offset, magic in spec.magic)
    marked = any(name in entries for name in spec.marker)
    pattern = max((len(p) for p in spec.patterns if matches(path, p)), default=0)
    inside = "marker" if directory else "magic"
    if begins or marked:
        return ReaderVerdict(spec, (1, pattern, spec.priority), "its contents look like it", inside)
    if not directory and not head:
        return ReaderVerdict(spec, (), "the file is empty", inside)
    if pattern:
        return ReaderVerdict(spec, (0, pattern, spec.priority), "its name looks like it", "pattern")
    last = "pattern" if spec.patterns else inside
    return ReaderVerdict(spec, (), "neither its contents nor its name look like it", last)


def matches(path: str, pattern: str) -> bool:
    """Whether the last part of a path is like a pattern, whatever the case."""
    return fnmatch(os.path.basename(os.path.normpath(path)).lower(), pattern.lower())


def _known(path: str, specs: Iterable[ReaderSpec | WriterSpec]) -> str:
    """Return what to install for a path, if it is known and not here yet."""
    suffix = os.path.splitext(os.path.normpath(path))[1].lower()
    distribution = DISTRIBUTION_OF_SUFFIX.get(suffix, "")
    here = {spec.id.partition(".")[0] for spec in specs}
    if distribution and distribution.removeprefix("lazyflow-ops-") not in here:
        return f" Known: {suffix} -> pip install {distribution}"
    return ""


def load_spec(spec: ReaderSpec | WriterSpec) -> Any:
    """Import what opens files of a kind; raises `PluginError` if that fails."""
    try:
        return load_target(spec.target, repr(spec.id))
    except BaseException as error:
        if is_for_the_caller(error):
            raise
        raise PluginError(f"{spec.id!r} ({spec.target}) could not be imported: {sentence(error)}") from error
