"""``lazyflow operators``: what can stand in a pipeline file."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import click

from lazyflow_cli._check import check_command
from lazyflow_cli._text import columns, echo_json, hanging
from lazyflow_cli.main import traceback_option

if TYPE_CHECKING:
    from lazyflow_core.plugins import OperatorSpec

__all__ = ["command"]


@click.group("operators", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List, describe and check the operators that are installed."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_command)


command.add_command(check_command)


@command.command("list")
@click.option("--ns", metavar="NAMESPACE", help="Only those whose id begins with it.")
@click.option("--long", "-l", is_flag=True, help="Also say what each operator does; imports all of them.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON for programs.")
@traceback_option
def list_command(ns: str | None = None, long: bool = False, as_json: bool = False) -> None:
    """List all operators by id. Imports none of them, unless asked for more with --long."""
    from lazyflow_core import plugins

    specs = [spec for spec in plugins.default().operators() if ns in (None, spec.namespace)]
    ids = [spec.id for spec in specs]
    entries = [_entry(spec, conflict=ids.count(spec.id) > 1, long=long) for spec in specs]
    if as_json:
        echo_json({"version": 1, "operators": entries})
    elif not entries and ns is not None:
        click.echo(f"No operators of the namespace {ns!r} are installed.")
    elif not entries:
        click.echo("No operators are installed. Try: pip install lazyflow-ops-filters lazyflow-ops-io")
    else:
        click.echo(columns([_row(entry, long) for entry in entries]))
        if any(entry["conflict"] for entry in entries):
            click.echo(
                "! is offered by two distributions; choose with LAZYFLOW_PREFER=ID=DISTRIBUTION.", err=True
            )


def _entry(spec: OperatorSpec, *, conflict: bool, long: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": spec.id,
        "distribution": spec.distribution,
        "version": spec.version,
        "target": spec.target,
        "conflict": conflict,
    }
    if long:
        entry |= _summary(spec)
    return entry


def _summary(spec: OperatorSpec) -> dict[str, str]:
    """Import one operator and return the first sentence about it, or why it cannot be had."""
    from lazyflow_core import plugins
    from lazyflow_core.errors import PluginError

    try:
        operator = plugins.default().get_operator(spec.id)
    except PluginError as error:
        return {"error": " ".join(str(error).split())}
    return {"summary": (inspect.getdoc(operator) or "").split("\n\n")[0].replace("\n", " ")}


def _row(entry: dict[str, Any], long: bool) -> list[str]:
    mark = click.style("!", fg="red") if entry["conflict"] else " "
    origin = f"{entry['distribution']} {entry['version']}".strip() or "registered in this process"
    row = [f"{mark} {click.style(entry['id'], bold=True)}", origin]
    if not long:
        return [*row, click.style(entry["target"], dim=True)]
    return [*row, entry.get("summary") or click.style(entry.get("error", ""), fg="red")]


@command.command("show")
@click.argument("operator_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Write JSON for programs.")
@traceback_option
def show_command(operator_id: str, as_json: bool) -> None:
    """Show the slots and parameters of an operator, and its documentation."""
    from lazyflow_core import plugins
    from lazyflow_core.graph import InputSlot, OutputSlot, ParameterSlot

    manager = plugins.default()
    spec = manager.find_operator(operator_id)
    operator = manager.get_operator(operator_id)
    kinds = {"input": InputSlot, "parameter": ParameterSlot, "output": OutputSlot}
    slots = [
        {"name": name, "kind": kind, "type": slot.describe(), "doc": slot.doc}
        for kind, declaration in kinds.items()
        for name, slot in operator.declarations.items()
        if isinstance(slot, declaration)
    ]
    doc = _documentation(operator)
    if as_json:
        echo_json({"version": 1, **_entry(spec, conflict=False, long=False), "slots": slots, "doc": doc})
        return
    click.echo(f"{click.style(spec.id, bold=True)}  {spec.distribution} {spec.version}  {spec.target}\n")
    about = [f"{s['type']}; {s['doc']}" if s["doc"] else s["type"] for s in slots]
    click.echo(hanging([(f"  {s['kind']}", s["name"], a) for s, a in zip(slots, about, strict=True)]))
    click.echo(f"\n{doc}\n\nIn a pipeline file:\n\n{_example(spec.id, slots)}")


def _documentation(operator: type[Any]) -> str:
    """Return what is written about an operator, and about the bases that it leaves parts of that to."""
    parts = [inspect.getdoc(operator) or ""]
    for base in operator.__mro__[1:]:
        if f"`{base.__name__}`" in "".join(parts) and "declarations" in vars(base):
            parts.append(f"{base.__name__}: {inspect.getdoc(base)}")
    return "\n\n".join(parts)


def _example(operator_id: str, slots: list[dict[str, str]]) -> str:
    """Return a table for a pipeline file, with the lines that are required."""
    lines = ["  [step]", f'  operator = "{operator_id}"']
    lines += [
        f'  {s["name"]} = "volume.output"'
        for s in slots
        if s["kind"] == "input" and "optional" not in s["type"]
    ]
    lines += [f"  {s['name']} = …" for s in slots if s["kind"] == "parameter" and "required" in s["type"]]
    return "\n".join(lines)
