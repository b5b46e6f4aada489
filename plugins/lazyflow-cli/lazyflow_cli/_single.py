"""``lazyflow run ID``: the pipeline of one operator, whose inputs are read from files."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lazyflow_cli._failure import ExitCode, Failure

if TYPE_CHECKING:
    from lazyflow_core.pipeline import Pipeline

__all__ = ["is_operator_id", "output_of", "single_pipeline"]

#: Reads an input, unless the table of ``--in`` names another operator.
_READER = "io.read"


def is_operator_id(text: str) -> bool:
    """Return whether what ``lazyflow run`` is given names an operator rather than a pipeline file."""
    is_name = re.fullmatch(r"\w+\.\w+", text) and not text.lower().endswith(".toml")
    return bool(is_name) and not Path(text).exists()


def single_pipeline(id: str, inputs: Iterable[str], settings: Mapping[str, Any]) -> Pipeline:
    """Return a pipeline of the operator and one reader for each ``SLOT=PATH`` of ``--in``."""
    from lazyflow_core.pipeline import Origin, Pipeline

    steps: dict[str, Any] = {}
    connections = {}
    for text in inputs:
        slot, equals, source = text.partition("=")
        slot = slot.strip()
        if not (equals and slot and source):
            raise Failure(f"--in {text!r}: write --in slot=path.", ExitCode.MISTAKE)
        if slot in steps:
            raise Failure(f"--in {text!r}: {slot} was given already.", ExitCode.MISTAKE)
        steps[slot] = {"operator": _READER, "path": source}
        if source.lstrip().startswith("{"):
            try:
                steps[slot] |= tomllib.loads(f"source = {source}")["source"]
            except tomllib.TOMLDecodeError as error:
                raise Failure(f"--in {text!r}: the table is no TOML: {error}.", ExitCode.MISTAKE) from error
        connections[slot] = f"{slot}.output"
    step = step_name(id)
    steps[step] = {"operator": id, **connections}
    pipeline = Pipeline.from_dict(steps, origin=Origin(id))
    return pipeline.with_overrides(set={f"{step}.{name}": value for name, value in settings.items()})


def step_name(id: str) -> str:
    """Return the name of the operator's step; no slot has a name like it."""
    return id.replace(".", "-")


def output_of(id: str, text: str) -> str:
    """Return an ``--out`` as an ``--export`` has it: PATH, or SLOT=PATH where there are several outputs."""
    from lazyflow_core.graph import OutputSlot
    from lazyflow_core.plugins import get_operator

    outputs = [key for key, slot in get_operator(id).declarations.items() if isinstance(slot, OutputSlot)]
    slot, equals, target = text.partition("=")
    if not (equals and slot.isidentifier()):  # then it belongs to the path
        slot, target = "output" if "output" in outputs else "".join(outputs[:1]), text
    if slot not in outputs:
        raise Failure(
            f"--out {text!r}: {id} has no output {slot!r} but {', '.join(outputs) or 'none at all'}; "
            "write --out PATH or --out SLOT=PATH.",
            ExitCode.MISTAKE,
        )
    return f"{step_name(id)}.{slot}={target}"
