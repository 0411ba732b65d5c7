"""What commands and recipes share: errors in one line, types of options, and ``--import``."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from sgnas_zoo.errors import BudgetError, DataWarning, ZooError, printable
from sgnas_zoo.units import count


class BadInput(click.ClickException):
    """One line on stderr."""

    exit_code = 2


@contextmanager
def one_line() -> Iterator[None]:
    """Raise what was bad input as ``BadInput``, and say once what a dataset lacks; a bare call still shows the help."""
    shown, said = warnings.showwarning, set()

    def in_one_line(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, DataWarning):
            shown(message, category, *place, **more)
        elif str(message) not in said:
            said.add(str(message))
            click.echo(str(message), err=True)

    warnings.showwarning = in_one_line
    try:
        yield
    except getattr(click.exceptions, "NoArgsIsHelpError", ()):
        raise
    except click.UsageError as error:
        raise BadInput(printable(" ".join(error.format_message().split()))) from error
    except ZooError as error:
        raise BadInput(str(error)) from error
    finally:
        warnings.showwarning = shown


@contextmanager
def told() -> Iterator[None]:
    """Say what the library warns of in plain lines."""
    with warnings.catch_warnings(record=True) as caveats:
        warnings.simplefilter("always")
        yield
    for caveat in caveats:
        click.echo(printable(caveat.message), err=True)


class Count(click.ParamType):  # type: ignore[type-arg]  # generic only in newer versions of click
    """A budget in plain counts, written 350M, 1.2G or 350e6."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read ``value``, or fail with the spelling that would do."""
        if isinstance(value, float):
            return value
        try:
            return count(str(value))
        except BudgetError as error:
            self.fail(str(error), param, ctx)


class UserPath(click.ParamType):  # type: ignore[type-arg]
    """A path of a user: ``~`` is the home folder, also in ``--output=~/x``, which a shell leaves as it is."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Read ``value``, or fail where it can be no path."""
        if not str(value):
            self.fail("the name is empty; name a file or folder.", param, ctx)
        try:
            return Path(value).expanduser()
        except RuntimeError:
            self.fail(f"{value} names no user's home folder; write the path in full.", param, ctx)


def import_option() -> click.Option:
    """The option by which a command sees what somebody's own module registers: spaces, costs, samplers."""
    return click.Option(
        ["--import", "modules"], multiple=True, metavar="MODULE", expose_value=False,
        callback=lambda _, __, names: import_modules(names),
        help="Python module that registers search spaces or costs, here or installed; repeat for several.",
    )  # fmt: skip


def import_named(args: Sequence[str]) -> None:
    """Import the modules that ``--import`` names on a command line, before options are made of what they register.

    Raises:
        click.UsageError: As ``import_modules``.
    """
    import_modules([after for word, after in pairwise(args) if word == "--import"])
    import_modules([word.partition("=")[2] for word in args if word.startswith("--import=")])


def import_modules(names: Sequence[str]) -> None:
    """Import modules from the working directory, or installed ones.

    Raises:
        click.UsageError: If one is not found, or fails.
    """
    if names and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # somebody's module may raise whatever it likes
            reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            raise click.UsageError(f"Cannot import {name}: {reason}; fix the module or correct its name.") from error
