"""Options that several commands take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import click

from sgnas_zoo.costs import BUDGETS, Precision
from sgnas_zoo.extras import missing
from sgnas_zoo.spaces import FormName
from sgnas_zoo.terminal import import_named
from sgnas_zoo.training.fields import budget_option


class BudgetCommand(click.Command):
    """A command with an option for every budget: those of modules that ``--import`` names, too.

    Args:
        several: Whether each takes several amounts.
    """

    def __init__(self, *args: Any, several: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.several = several

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The options, budgets first."""
        return [*(budget_option(BUDGETS[name], self.several) for name in BUDGETS), *super().get_params(ctx)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Import what registers budgets, then parse."""
        import_named(args)
        return super().parse_args(ctx, args)


def precision_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option of whatever counts bytes."""
    kinds = click.Choice(get_args(Precision))
    return click.option("--precision", type=kinds, help="Number format of --memory and --flash; by default int8.")(
        command
    )


def form_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option of whatever makes networks."""
    kinds = click.Choice(get_args(FormName))
    return click.option("--form", type=kinds, help="Form of the networks; by default final, or what suits a latency.")(
        command
    )


def push_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of whatever publishes."""
    for option in (
        click.option("--tag", help="Tag for the commit, such as v1."),
        click.option("--create-pr", is_flag=True, help="Open a pull request instead of committing."),
        click.option("--revision", help="Branch to commit to; by default main."),
        click.option("--private", is_flag=True, default=None, help="Create the repo as private, if it does not exist."),
    ):
        command = option(command)
    return command


def column_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of whatever takes a dataset and cannot guess its columns: fields of ``Source``."""
    for kind in ("label", "image"):
        command = click.option(f"--{kind}-column", help=f"Column of its {kind}s, if that cannot be guessed.")(command)
    return command


def check_installed(what: str, packages: Sequence[str], extra: str) -> None:
    """Refuse a command whose extra is not installed.

    Args:
        what: What needs the packages: "A front".
        packages: Names of modules.
        extra: The extra that brings them.

    Raises:
        UsageError: Naming what is missing, and the line that installs it.
    """
    if told := missing(what, packages, extra):
        raise click.UsageError(told)


def amounts_of(record: Mapping[str, Any]) -> str:
    """What a network has, from its record, in the units that people read: "349.9M MACs, 5.1M parameters"."""
    has = [(BUDGETS[name], record[BUDGETS[name].cost]) for name in BUDGETS if BUDGETS[name].cost in record]
    has.sort(key=lambda pair: pair[0].profiled)
    return ", ".join(f"{'predicted ' * budget.profiled}{budget.in_words(amount)}" for budget, amount in has)
