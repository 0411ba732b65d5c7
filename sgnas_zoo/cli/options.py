"""Options that several commands take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def push_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of whatever publishes."""
    for option in (
        click.option("--tag", help="Tag for the commit, such as v1."),
        click.option("--create-pr", is_flag=True, help="Open a pull request instead of committing."),
        click.option("--revision", help="Branch to commit to; by default main."),
        click.option("--private", is_flag=True, default=None, help="Make the repo private, if it has to be made."),
    ):
        command = option(command)
    return command


def column_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of whatever takes a dataset and cannot guess its columns: fields of ``Source``."""
    for kind in ("label", "image"):
        command = click.option(f"--{kind}-column", help=f"Column of its {kind}s, if that cannot be guessed.")(command)
    return command
