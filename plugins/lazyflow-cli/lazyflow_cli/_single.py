"""``lazyflow run ID``: the pipeline of one operator, whose inputs are read from files.

There is no pipeline file, so sentences about mistakes name options of the command line instead of its lines.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lazyflow_core.words import near_miss, possible

from lazyflow_cli._failure import CommandError, ExitCode

if TYPE_CHECKING:
    from lazyflow_core.graph import Operator
    from lazyflow_core.pipeline import Pipeline

__all__ = ["is_operator_id", "output_of", "single_pipeline"]

#: Reads an input, unless the table of ``--in`` names another operator.
_READER = "io.read"


def is_operator_id(text: str) -> bool:
    """Return whether what ``lazyflow run`` is given names an operator rather than a pipeline file."""
    is_name = re.fullmatch(r"\w+\.\w+", text) and not text.lower().endswith(".toml")
    return bool(is_name) and not Path(text).exists()


def single_pipeline(
    id: str, inputs: Sequence[str], settings: Mapping[str, Any], outputs: Sequence[str]
) -> Pipeline:
    """Return a pipeline of the operator, and one reader for each ``SLOT=PATH`` of ``--in``.

    What the ``--out`` say is to become its exports, in this order.
    """
    from lazyflow_core.pipeline import Origin, Pipeline, read_table
    from lazyflow_core.plugins import get_operator

    steps: dict[str, Any] = {}
    for text in inputs:
        slot, equals, source = text.partition("=")
        slot = slot.strip()
        if not (equals and slot.isidentifier() and source):
            raise CommandError(f"--in {text!r}: write --in slot=path.", ExitCode.MISTAKE)
        if slot in steps:
            raise CommandError(f"--in {text!r}: {slot} was given already.", ExitCode.MISTAKE)
        table = {"path": source}
        if source.lstrip().startswith("{"):
            table = read_table(source, f"--in {text!r}")
            if "path" not in table and "operator" not in table:
                raise CommandError(f"--in {text!r}: the table has no path.", ExitCode.MISTAKE)
        steps[slot] = {"operator": _READER, **table}
    _check_options(id, get_operator(id), steps, settings)
    step = _step_name(id)
    places: dict[tuple[str | int, ...], str] = {(step,): ""}
    places |= {(step, name): f"--set {name}" for name in settings}
    for slot in steps:
        places[slot,] = places[step, slot] = f"--in {slot}"
    places |= {("export", number): f"--out {text}" for number, text in enumerate(outputs)}
    steps[step] = {"operator": id, **settings, **{slot: f"{slot}.output" for slot in steps}}
    return Pipeline.from_dict(steps, origin=Origin(id, places))


def _check_options(
    id: str, operator: type[Operator], inputs: Collection[str], settings: Collection[str]
) -> None:
    """Raise if a slot was given by the wrong option, or must be given and was not."""
    from lazyflow_core.graph import InputSlot, ParameterSlot

    known = [key for key, slot in operator.declarations.items() if isinstance(slot, InputSlot)]
    for key in inputs:
        if key not in operator.declarations:
            raise CommandError(
                f"--in {key}: {id} has no input {key!r}{near_miss(key, known)}"
                f"{possible('Its inputs', known)}",
                ExitCode.MISTAKE,
            )
    for key, slot in operator.declarations.items():
        mistake = None
        if isinstance(slot, InputSlot):
            if key in settings:
                mistake = f"--set {key}: {key!r} is an input of {id}; write --in {key}=PATH."
            elif slot.level and (key in inputs or not slot.optional):
                mistake = f"{id} takes several arrays as its {key!r}; only a pipeline file can connect them."
            elif not (key in inputs or slot.optional):
                mistake = f"{id}: its input {key!r} was not given; add --in {key}=PATH."
        elif isinstance(slot, ParameterSlot):
            if key in inputs:
                mistake = f"--in {key}: {key!r} is a parameter of {id}; write --set {key}=VALUE."
            elif not (key in settings or slot.has_default):
                mistake = (
                    f"{id}: its parameter {key!r} ({slot.describe()}) has no value; add --set {key}=VALUE."
                )
        if mistake is not None:
            raise CommandError(mistake, ExitCode.MISTAKE)


def _step_name(id: str) -> str:
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
        raise CommandError(
            f"--out {text!r}: {id} has no output {slot!r} but {', '.join(outputs) or 'none at all'}; "
            "write --out PATH or --out SLOT=PATH.",
            ExitCode.MISTAKE,
        )
    return f"{_step_name(id)}.{slot}={target}"
