"""How the commands of this distribution end when something is wrong; exit codes as of `lazyflow run`."""

from __future__ import annotations

import click

__all__ = ["InputError", "OutputError"]


class InputError(click.ClickException):
    """What is read cannot be read, or is not fit for what is asked."""

    exit_code = 4


class OutputError(click.ClickException):
    """Something cannot be written."""

    exit_code = 5
