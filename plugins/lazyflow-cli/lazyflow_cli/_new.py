"""``lazyflow plugins new``: a complete distribution to begin with."""

from __future__ import annotations

from pathlib import Path

import click

from lazyflow_cli.main import traceback_option

__all__ = ["new_command"]


@click.command("new")
@click.argument("name", metavar="NAME")
@click.option("--into", default=".", metavar="FOLDER", help="Where to make its folder; default here.")
@click.option("--reader", is_flag=True, help="Begin with a reader of files, too.")
@click.option("--no-example", is_flag=True, help="Begin without an operator.")
@traceback_option
def new_command(name: str, into: str, reader: bool, no_example: bool) -> None:
    """Write a distribution whose operators are called NAME.something. Needs no network."""
    from lazyflow_cli.scaffold import new_plugin

    root = new_plugin(name, Path(into), example=not no_example, reader=reader)
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        click.echo(f"wrote {path}")
    click.echo(f'\nNext:\n  pip install -e "{root}[test]"\n  pytest {root}')
