"""The description of a pipeline: which operators, with which parameters, connected how, exported where.

It is data: it can be written to a file, compared, sent to another process, and it names operators by their
registered ids only. Nothing here imports an operator; that begins with `Pipeline.check`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from lazyflow_core.errors import PipelineError, StorageError
from lazyflow_core.pipeline._toml import Keys, find_lines, read_toml, write_toml
from lazyflow_core.sources import is_address, open_source
from lazyflow_core.words import near_miss, possible, printable, short

if TYPE_CHECKING:
    from lazyflow_core.graph import Graph
    from lazyflow_core.pipeline._build import BuiltPipeline
    from lazyflow_core.pipeline._check import CheckedPipeline, Registry

__all__ = ["Export", "Pipeline", "Step"]

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_ID: Final = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
_EXPORT_KEYS: Final = ("slot", "path", "format", "dataset", "dtype", "roi")


@dataclass(frozen=True, slots=True)
class Step:
    """One operator of a pipeline.

    Parameters
    ----------
    name
        What connections and overrides call it.
    operator
        Its registered id, ``"filters.gaussian_smoothing"``.
    settings
        What its input slots and parameters are given, by their names: ``"step.slot"``, or a list of
        those, for an input slot; a value for a parameter, or a connection to that of another step. Which is
        which, the operator's class knows.
    """

    name: str
    operator: str
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", MappingProxyType(_frozen(dict(self.settings))))

    def __reduce__(self) -> tuple[Any, ...]:
        return Step, (self.name, self.operator, dict(self.settings))


@dataclass(frozen=True, slots=True)
class Export:
    """One result of a pipeline, and where it is written.

    Parameters
    ----------
    slot
        ``"step.slot"``, an output.
    path
        The target; relative ones start at the folder of the pipeline.
    format
        What kind of file, e.g. ``"zarr"``; chosen by the file name when left out.
    dataset
        Name of the array inside the file, for formats that have names.
    dtype
        Cast to this type before writing, through the operator ``array.cast``.
    roi
        The part to compute: numpy's slicing notation, e.g. ``"10:20,:,:"``, or axes, e.g. ``"t=5, x=:100"``;
        all of it when left out.
    options
        What else the writer of that format understands, e.g. ``{"compression": "gzip"}``.
    """

    slot: str
    path: str
    format: str | None = None
    dataset: str | None = None
    dtype: str | None = None
    roi: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", MappingProxyType(_frozen(dict(self.options))))

    def __reduce__(self) -> tuple[Any, ...]:
        return _export_from, (self.to_dict(),)

    def to_dict(self) -> dict[str, Any]:
        """Return the table that describes this export; what is not set is left out."""
        given = {key: getattr(self, key) for key in _EXPORT_KEYS}
        return {key: value for key, value in given.items() if value is not None} | dict(self.options)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the parts of a description were written, for sentences about mistakes in them.

    Parameters
    ----------
    name
        Of the file, or of what stands for one.
    lines
        By the keys that lead to a table or value: its line, or what gave it instead of a line, such as
        ``"override smooth.sigma"``; an empty text for what the name alone says.
    """

    name: str = "pipeline"
    lines: Mapping[Keys, int | str] = field(default_factory=dict)

    def place(self, *keys: str | int) -> str:
        """Return file and line of a table or key: ``"ovule.toml:7"``; or the override that replaced it."""
        line = self._line(keys)
        if isinstance(line, str):
            return f"{self.name}, {line}" if line else self.name
        return self.name if line is None else f"{self.name}:{line}"

    def where(self, *keys: str | int) -> str:
        """Return file, line and table of a table or key: ``"ovule.toml:7 [smooth]"``."""
        line = self._line(keys)
        if not keys or isinstance(line, str):
            return self.place(*keys)  # what an override says names the step itself
        if len(keys) > 1 and isinstance(keys[1], int):
            return f"{self.place(*keys)} [[{keys[0]}]]" + (f" {keys[1] + 1}" if line is None else "")
        return f"{self.place(*keys)} [{printable(str(keys[0]))}]"

    def _line(self, keys: Keys) -> int | str | None:
        """Return the line of a key, or of its table where it has none of its own."""
        lines = (self.lines.get(keys[:end]) for end in range(len(keys), 0, -1))
        return next((line for line in lines if line is not None), None)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A description of operators, their parameters and connections, and of what is exported.

    Parameters
    ----------
    steps
        The operators; their order does not matter.
    exports
        What is written; may be empty for a pipeline that is built to be asked for regions.
    folder
        Where relative paths begin; the folder of the file it was read from.

    Raises
    ------
    PipelineError
        For what is wrong in the description itself; names the table and, if it was read from text, the line.

    Examples
    --------
    >>> pipeline = Pipeline.from_toml('''
    ... [volume]
    ... operator = "io.read"
    ... path = "cells.h5"
    ...
    ... [smooth]
    ... operator = "filters.gaussian_smoothing"
    ... image = "volume.output"
    ... sigma = 1.5
    ... ''')
    >>> pipeline.step("smooth").settings["sigma"]
    1.5
    >>> pipeline.with_overrides(set={"smooth.sigma": 3}).step("smooth").settings["sigma"]
    3
    """

    steps: tuple[Step, ...]
    exports: tuple[Export, ...] = ()
    folder: Path = Path()
    origin: Origin = field(default=Origin(), compare=False, repr=False)

    # --------------------------------------------------------------------------------- from text and to text

    @classmethod
    def from_toml(cls, source: str | os.PathLike[str], *, folder: str | os.PathLike[str] = "") -> Pipeline:
        """Return the pipeline that a TOML file or text describes.

        Parameters
        ----------
        source
            A path object names a file; a str is the TOML text itself.
        folder
            Where the relative paths in a text begin; those in a file begin at its folder.

        Raises
        ------
        PipelineError
            If it is no TOML, with a note that shows the line and the place in it; or no pipeline.
        """
        if isinstance(source, str) and _looks_like_a_path(source):
            raise PipelineError(
                f"from_toml({source!r}): a text is the TOML itself; to read a file, write "
                f"from_toml(Path({source!r}))."
            )
        if isinstance(source, str):
            text, name, folder = source, "pipeline", Path(folder)
        else:
            path = Path(source)
            name, folder = printable(str(path)), path.parent
            text = _read(path, name)
        data = read_toml(text, name)
        return cls.from_dict(data, folder=folder, origin=Origin(name, find_lines(text)))

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], *, folder: str | os.PathLike[str] = "", origin: Origin | None = None
    ) -> Pipeline:
        """Return the pipeline that nested mappings describe, of the shape that the TOML has."""
        origin = origin or Origin()
        steps, exports = [], []
        for name, table in data.items():
            if name == "export":
                exports = _exports_from(table, origin)
            else:
                steps.append(_step_from(name, table, origin))
        if not steps:
            raise PipelineError(
                f"{origin.where()}: there is no step in it; a step is a table such as [smooth] with a line "
                'operator = "filters.gaussian_smoothing".'
            )
        return cls(tuple(steps), tuple(exports), Path(folder), origin)

    @classmethod
    def from_graph(cls, graph: Graph, registry: Registry | None = None) -> Pipeline:
        """Return the description of a graph: what `build` makes an equal graph of.

        Parameters
        ----------
        graph
            Its operators are steps under their names; a name that is taken or no step's name is changed.
        registry
            Who knows the ids of the operators; default the installed plugins.

        Raises
        ------
        PipelineError
            For what cannot be said as data: an operator without id, an assigned array, a parameter whose
            value is no number, text, truth value or list of those.
        """
        from lazyflow_core.pipeline._capture import describe_graph

        return cls(describe_graph(graph, registry))

    def to_dict(self) -> dict[str, Any]:
        """Return nested dictionaries that `from_dict` makes an equal pipeline of (the folder aside)."""
        data: dict[str, Any] = {
            step.name: {"operator": step.operator, **step.settings} for step in self.steps
        }
        if self.exports:
            data["export"] = [export.to_dict() for export in self.exports]
        return data

    def to_toml(self) -> str:
        """Return TOML text that `from_toml` makes an equal pipeline of (the folder aside)."""
        return write_toml(self.to_dict())

    # ------------------------------------------------------------------------------------ questions, changes

    def step(self, name: str) -> Step:
        """Return the step of that name."""
        for step in self.steps:
            if step.name == name:
                return step
        names = [step.name for step in self.steps]
        raise PipelineError(f"no step {name!r}{near_miss(name, names)}{possible('Steps', names)}")

    def with_overrides(
        self,
        *,
        set: Mapping[str, Any] | None = None,
        exports: Sequence[Export] | None = None,
        roi: str | None = None,
    ) -> Pipeline:
        """Return this pipeline with some of its parts replaced.

        Parameters
        ----------
        set
            New settings by ``"step.name"``: parameters, connections, or the ``operator`` itself.
        exports
            Exports instead of those described.
        roi
            The region of every export, instead of those described.

        Raises
        ------
        PipelineError
            If a step does not exist.
        """
        steps = {step.name: step for step in self.steps}
        lines = dict(self.origin.lines)
        for target, value in (set or {}).items():
            place = f"override {printable(target)}"
            name, dot, key = target.partition(".")
            if not (dot and key):
                raise PipelineError(
                    f"{self.origin.name}, {place}: not 'step.parameter', such as 'smooth.sigma'."
                )
            if name not in steps:
                raise PipelineError(
                    f"{self.origin.name}, {place}: no step {name!r}"
                    f"{near_miss(name, steps)}{possible('Steps', steps)}"
                )
            lines[name, key] = place
            table = {"operator": steps[name].operator, **steps[name].settings, key: value}
            steps[name] = _step_from(name, table, Origin(self.origin.name, lines))
        new = self.exports
        if exports is not None:
            new = tuple(exports)
            lines = {keys: line for keys, line in lines.items() if keys[0] != "export"}
            lines |= {("export", i): f"override export of {printable(e.slot)}" for i, e in enumerate(new)}
        if roi is not None:
            new = tuple(replace(export, roi=roi) for export in new)
            lines |= {("export", i, "roi"): "override roi" for i in range(len(new))}
        return replace(
            self, steps=tuple(steps.values()), exports=new, origin=replace(self.origin, lines=lines)
        )

    def path(self, text: str) -> Path:
        """Return a path of the description, seen from the current directory."""
        return self.folder / os.path.expanduser(text)

    # ------------------------------------------------------------------------------------ towards a graph

    def check(self, registry: Registry | None = None) -> CheckedPipeline:
        """Compare this description with the operators it names; see `CheckedPipeline`. Computes nothing.

        Raises
        ------
        PipelineError
            For the first mistake, in one sentence: where it stands, what was given, what is possible.
        """
        from lazyflow_core.pipeline._check import check_pipeline

        return check_pipeline(self, registry)

    def build(self, graph: Graph, registry: Registry | None = None) -> BuiltPipeline:
        """Check this description and make its operators in a graph. Opens inputs, computes no pixel."""
        from lazyflow_core.pipeline._build import build_pipeline

        return build_pipeline(self.check(registry), graph)


# ------------------------------------------------------------------------------------------- tables to values


def _looks_like_a_path(text: str) -> bool:
    """Whether somebody meant a file; no pipeline is one line without a bracket."""
    return bool(text.strip()) and not set(text) & set("\n[") and ("=" not in text or text.endswith(".toml"))


def _read(path: Path, name: str) -> str:
    try:
        with open_source(path) as file:
            return file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PipelineError(
            f"{name}: not a pipeline file: byte {error.start} is not UTF-8 text, which TOML is made of."
        ) from None
    except StorageError as error:
        if os.path.lexists(path) or is_address(name):
            raise PipelineError(printable(str(error))) from None
        raise PipelineError(f"{name}: no such file; give the path of a pipeline file (TOML).") from None
    except OSError as error:
        raise PipelineError(f"{name}: cannot be read: {error.strerror or error}.") from None


def _step_from(name: str, table: Any, origin: Origin) -> Step:
    where = origin.where(name)
    if not isinstance(table, Mapping):
        if isinstance(table, list | tuple) and table and isinstance(table[0], Mapping):
            raise PipelineError(
                f"{origin.where(name, 0)}: a step has single brackets, [{name}]; only exports are many."
            )
        raise PipelineError(
            f"{origin.place(name)}: {name!r} stands outside of any table; "
            "every value belongs to a step such as [smooth] or to an [[export]]."
        )
    if not _NAME.fullmatch(name):
        raise PipelineError(f"{where}: a step's name is made of letters, digits, '_' and '-', not {name!r}.")
    operator = table.get("operator")
    if operator is None:
        raise PipelineError(
            f"{where}: the step names no operator; add a line such as "
            'operator = "filters.gaussian_smoothing".'
        )
    if not (isinstance(operator, str) and _ID.fullmatch(operator)):
        raise PipelineError(
            f"{origin.where(name, 'operator')}: operator = {short(operator)} is not the id of an operator, "
            "such as 'filters.gaussian_smoothing'; a pipeline cannot name modules or classes."
        )
    return Step(name, operator, {key: value for key, value in table.items() if key != "operator"})


def _exports_from(tables: Any, origin: Origin) -> list[Export]:
    if isinstance(tables, Mapping):
        raise PipelineError(
            f"{origin.where('export')}: exports have double brackets, [[export]]: there may be many."
        )
    if not (isinstance(tables, list | tuple) and all(isinstance(table, Mapping) for table in tables)):
        raise PipelineError(f"{origin.where('export')}: exports are tables: [[export]], not {short(tables)}.")
    exports = []
    for number, table in enumerate(tables):
        for key in ("slot", "path"):
            if key not in table:
                example = "threshold.output" if key == "slot" else "result.zarr"
                raise PipelineError(
                    f"{origin.where('export', number)}: the export has no {key}; "
                    f'add a line such as {key} = "{example}".'
                )
        for key in _EXPORT_KEYS:
            if key in table and not (isinstance(table[key], str) and table[key]):
                raise PipelineError(
                    f"{origin.where('export', number, key)}: {key} = {short(table[key])} is not a text; "
                    f"write {key} in quotes."
                )
        exports.append(_export_from(table))
    return exports


def _export_from(table: Mapping[str, Any]) -> Export:
    given = {key: table[key] for key in _EXPORT_KEYS if key in table}
    return Export(**given, options={key: table[key] for key in table if key not in _EXPORT_KEYS})


def _frozen(value: Any) -> Any:
    """Return a value with tuples for lists, so that nobody changes it from outside."""
    if isinstance(value, dict):
        return {key: _frozen(v) for key, v in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value
