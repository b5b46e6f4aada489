"""``lazyflow plugins``: which distributions plug into the core, and what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from lazyflow_core.foreign import sentence
from lazyflow_core.words import near_miss

from lazyflow_cli._failure import CommandError, ExitCode, one_line
from lazyflow_cli._new import new_command
from lazyflow_cli._text import columns, echo_json
from lazyflow_cli.main import traceback_option

if TYPE_CHECKING:
    from lazyflow_core.plugins import PluginInfo

__all__ = ["command", "version_lines"]

_COLORS = {"loaded": "green", "installed": "green", "broken": "red", "disabled": "yellow"}


@click.group("plugins", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List and describe the plugins that are installed, or begin a new one."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_command)


command.add_command(new_command)


@command.command("list")
@click.option("--hook", metavar="NAME", help="Only those that implement this hook.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON for programs.")
@traceback_option
def list_command(hook: str | None = None, as_json: bool = False) -> None:
    """List all plugins, broken and disabled ones too."""
    infos = _plugins()
    if hook is not None:
        infos = _implementing(hook, infos)
    if as_json:
        echo_json({"version": 1, "plugins": [_entry(info) for info in infos]})
    elif not infos and hook is not None:
        click.echo(f"No plugin implements {hook}.")
    elif not infos:
        click.echo("No plugins are installed. Try: pip install lazyflow-ops-filters lazyflow-ops-io")
    else:
        click.echo(columns([_row(info) for info in infos]))


@command.command("show")
@click.argument("name", metavar="NAME")
@click.option("--json", "as_json", is_flag=True, help="Write JSON for programs.")
@traceback_option
def show_command(name: str, as_json: bool) -> None:
    """Show one plugin, by its namespace or distribution: its hooks and operators, or why it is broken."""
    from lazyflow_core import plugins

    infos = _plugins()
    info = next((i for i in infos if name in (i.namespace, i.distribution)), None)
    if info is None:
        names = [i.namespace for i in infos]
        hint = near_miss(
            name,
            [*names, *(i.distribution for i in infos)],
            otherwise=f"; installed: {', '.join(names) or 'none'}.",
        )
        raise CommandError(f"no plugin {name!r}{hint}", ExitCode.MISTAKE)
    operators = [s.id for s in plugins.default().operators() if s.distribution == info.distribution]
    if as_json:
        echo_json({"version": 1, **_entry(info), "operators": operators, "traceback": _traceback(info)})
        return
    click.echo(columns([_row(info)]))
    click.echo(f"  operators: {', '.join(operators) or 'none'}")
    click.echo(f"  hooks: {', '.join(info.hooks) or 'none'}")
    if "lazyflow_cli_commands" in info.hooks:
        click.echo(f"  commands: {', '.join(_commands(info)) or 'none'}")
    if info.error is not None:
        click.echo(f"\n{_traceback(info)}")


def _implementing(hook: str, infos: list[PluginInfo]) -> list[PluginInfo]:
    """Return the plugins that implement a hook; one that no plugin could implement is a mistake."""
    from lazyflow_core import plugins

    known = plugins.default().hook_names()
    if hook not in known:
        hint = near_miss(hook, known, otherwise=f"; there are {', '.join(known)}.")
        raise CommandError(f"no hook {hook!r}{hint}", ExitCode.MISTAKE)
    return [info for info in infos if hook in info.hooks]


def _commands(info: PluginInfo) -> list[str]:
    """Return the names of the commands that one plugin adds."""
    from lazyflow_core import plugins

    group = click.Group()
    plugins.default().add_cli_commands(group, only=info.namespace)
    return sorted(group.commands)


def _plugins() -> list[PluginInfo]:
    """Return all plugins after trying to load them, without the log lines about broken ones.

    This is where one looks for what a plugin does to the process, so they are tried in another one first.
    """
    import logging

    from lazyflow_core import plugins

    logger = logging.getLogger("lazyflow_core")
    logger.addFilter(_is_quiet := lambda _: False)
    manager = plugins.default()
    try:
        manager.probe()
        return manager.plugins(load=True)
    finally:
        logger.removeFilter(_is_quiet)


def _entry(info: PluginInfo) -> dict[str, Any]:
    return {
        "name": info.namespace,
        "distribution": info.distribution,
        "version": info.version,
        "target": info.target,
        "state": info.state,
        "hooks": list(info.hooks),
        "error": None if info.error is None else sentence(info.error),
    }


def _row(info: PluginInfo) -> list[str]:
    error = "" if info.error is None else one_line(sentence(info.error))
    return [
        click.style(info.namespace, bold=True),
        f"{info.distribution} {info.version}",
        click.style(info.state, fg=_COLORS.get(info.state)),
        error,
    ]


def _traceback(info: PluginInfo) -> str:
    import traceback

    return "" if info.error is None else "".join(traceback.format_exception(info.error)).rstrip()


def version_lines() -> list[str]:
    """Return the versions of the core, Python and every plugin, one line each; imports no plugin."""
    import platform

    import lazyflow_core
    from lazyflow_core import plugins

    lines = [f"lazyflow-core {lazyflow_core.__version__} (Python {platform.python_version()})"]
    for info in plugins.default().plugins():
        state = "" if info.state == "installed" else f" ({info.state})"
        lines.append(f"  {info.distribution} {info.version}{state}")
    return lines
