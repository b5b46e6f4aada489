"""The ``lazyflow`` command itself: global options, commands imported on use, how they end."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final, NoReturn, TypeVar

import click
from lazyflow_core.words import near_miss

from lazyflow_cli._failure import CommandError, ExitCode, one_line, table
from lazyflow_cli._signals import Stopped

__all__ = ["cli", "judge", "main", "traceback_option"]

_COMMANDS: Final = {
    "run": "Run a pipeline file and write what it exports.",
    "convert": "Write files in another format, cropped, scaled, reordered or cast.",
    "stats": "Say what the pixels of files or steps are like: range, mean, percentiles.",
    "operators": "List, describe and check the operators that are installed.",
    "plugins": "List and describe the plugins that are installed, or begin a new one.",
    "readers": "Say which plugin opens a file and why, and what is in it.",
    "doctor": "Look at this installation and say what is missing or broken.",
    "demo": "Compute a small example and draw it; needs no data.",
}

#: A bare command or group of commands; click before 8.2 shows the help by itself.
_NO_ARGUMENTS: Final = getattr(click.exceptions, "NoArgsIsHelpError", ())

F = TypeVar("F", bound=Callable[..., Any])


def _ask_for_traceback(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        context.meta["lazyflow.traceback"] = True


def traceback_option(command: F) -> F:
    """Add ``--traceback`` to a command; it is understood before and after the command's name."""
    return click.option(
        "--traceback",
        is_flag=True,
        expose_value=False,
        callback=_ask_for_traceback,
        help="Show the whole story of an error, not only its sentence.",
    )(command)


class Commands(click.Group):
    """A group whose commands are modules of this package, imported when one is used.

    A name that is not among them is asked of the plugins, through the hook ``lazyflow_cli_commands``.
    """

    #: The plugin manager whose commands these are.
    _asked: object = None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands of this package, and of plugins that were loaded."""
        return [*_COMMANDS, *sorted(self.commands)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by name, importing its module."""
        if cmd_name in _COMMANDS:
            command: click.Command = import_module(f"lazyflow_cli.{cmd_name}").command
            return command
        if not ctx.resilient_parsing:
            from lazyflow_core import plugins

            manager = plugins.default()
            if manager is not self._asked:  # another one has other plugins
                self.commands.clear()
                manager.add_cli_commands(self)
                self._asked = manager
        return self.commands.get(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table above, so that help imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))
        formatter.write_paragraph()
        formatter.write_text(
            "Plugins may add more: 'lazyflow plugins list --hook lazyflow_cli_commands' lists who does, "
            "'lazyflow plugins show NAME' which."
        )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments name, with near misses if there is none."""
        name = args[0]
        if self.get_command(ctx, name) is None:
            raise click.UsageError(f"no command {name!r}{near_miss(name, self.list_commands(ctx))}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whatever goes wrong ends as one sentence and an exit code."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, BrokenPipeError):
            raise
        except _NO_ARGUMENTS as error:
            click.echo(error.format_message())
            ctx.exit()
        except (Exception, KeyboardInterrupt) as error:
            if ctx.meta.get("lazyflow.traceback"):
                import traceback

                traceback.print_exception(error)
            _end(error)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line and leave the process."""
        try:
            result = super().main(*args, **{**extra, "standalone_mode": False})
            sys.exit(result if isinstance(result, int) else ExitCode.OK)
        except _NO_ARGUMENTS as error:
            click.echo(error.format_message())
            sys.exit(ExitCode.OK)
        except (click.ClickException, click.Abort) as error:  # the global options themselves
            _end(error)
        except BrokenPipeError:
            # Whoever read our output has gone (`| head -1`); nothing more can be said, not even at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(ExitCode.FAILED)


def _end(error: BaseException) -> NoReturn:
    """Say what is wrong in one line and exit with the code of its kind."""
    message, code = judge(error)
    click.echo(f"lazyflow: {table(message) if code == ExitCode.PLUGIN else one_line(message)}", err=True)
    for note in getattr(error, "__notes__", ()):  # such as the line of a file, with a caret under a mistake
        click.echo(table(note), err=True)
    sys.exit(code)


def judge(error: BaseException) -> tuple[str, int]:
    """Return the sentence and exit code for an error that a command left with."""
    if isinstance(error, CommandError):
        return str(error), error.code
    if isinstance(error, Stopped):
        return f"stopped by {error}.", error.exit_code
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return "interrupted.", ExitCode.INTERRUPTED
    if isinstance(error, click.ClickException):
        message, hint = error.format_message(), ""
        if isinstance(error, click.NoSuchOption):
            message = (
                f"no option {error.option_name!r}{near_miss(error.option_name, error.possibilities or ())}"
            )
        if isinstance(error, click.UsageError) and error.ctx is not None:
            hint = f" See {error.ctx.command_path} --help."
        # Commands of plugins say by click's own means whose turn it is; its general 1 is a mistake here.
        return message + hint, max(error.exit_code, ExitCode.MISTAKE)

    from lazyflow_core import errors
    from lazyflow_core.foreign import sentence

    if isinstance(error, errors.PipelineError | errors.UnknownOperatorError):
        return str(error), ExitCode.MISTAKE
    if isinstance(error, errors.PluginError):
        return str(error), ExitCode.PLUGIN
    if isinstance(error, errors.TargetExistsError):
        return str(error), ExitCode.OUTPUT
    if isinstance(error, errors.FormatError):
        return str(error), ExitCode.INPUT
    if isinstance(error, errors.LazyflowError):
        return str(error), ExitCode.FAILED
    return f"{sentence(error)} (--traceback tells where.)", ExitCode.FAILED


def _show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from lazyflow_cli.plugins import version_lines

    click.echo("\n".join(version_lines()))
    context.exit()


_VARIABLES: Final = {
    "no_plugin": "LAZYFLOW_DISABLE_PLUGINS",
    "only_plugins": "LAZYFLOW_PLUGINS",
    "strict_plugins": "LAZYFLOW_STRICT_PLUGINS",
}


def _limit_plugins(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Hand an option to the plugin manager, which reads the environment, before it imports anything."""
    if value is None or value is False or value == ():
        return
    variable = _VARIABLES[str(parameter.name)]
    if value is True:
        value = "1"
    names = value if isinstance(value, str) else ",".join(value)
    if parameter.name == "no_plugin" and os.environ.get(variable):
        names = f"{os.environ[variable]},{names}"
    os.environ[variable] = names


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--no-plugin",
    multiple=True,
    metavar="NAME",
    is_eager=True,
    expose_value=False,
    callback=_limit_plugins,
    help="Leave out a plugin; may be given several times.",
)
@click.option(
    "--only-plugins",
    metavar="A,B",
    is_eager=True,
    expose_value=False,
    callback=_limit_plugins,
    help="Use these plugins and no others; '' for none.",
)
@click.option(
    "--strict-plugins",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_limit_plugins,
    help="Stop at a broken plugin instead of going on without it.",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    callback=_show_version,
    help="Show the versions of the core and of all plugins.",
)
@traceback_option
def cli() -> None:
    """Lazy, parallel evaluation of image-processing pipelines.

    Try 'lazyflow demo' first, then 'lazyflow run PIPELINE.toml'.
    """


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the ``lazyflow`` command and leave the process with its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # not every terminal has a letter for micro
    cli.main(args, prog_name="lazyflow")
    raise AssertionError("click's main leaves the process")
