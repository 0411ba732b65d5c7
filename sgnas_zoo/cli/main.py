"""The command line: ``sgnas-zoo generate``, ``push`` and others. Data on stdout, messages on stderr.

To add a command: write it in a module of this package and add it to ``main`` below.
"""

from __future__ import annotations

from typing import Any

import click

from sgnas_zoo import __version__
from sgnas_zoo.cli.classify import classify
from sgnas_zoo.cli.compare import compare
from sgnas_zoo.cli.demo import demo
from sgnas_zoo.cli.evaluate import evaluate
from sgnas_zoo.cli.export import export
from sgnas_zoo.cli.front import front
from sgnas_zoo.cli.generate import generate
from sgnas_zoo.cli.hub import card, convert, push, shim
from sgnas_zoo.cli.measure import benchmark, profile
from sgnas_zoo.cli.search import search
from sgnas_zoo.cli.zoo import info, list_
from sgnas_zoo.stopping import end_on_signals
from sgnas_zoo.terminal import import_option, one_line


class ZooGroup(click.Group):
    """Turns errors of the library and of usage into one line on stderr and exit code 2; its commands take --import."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command."""
        cmd.params.append(import_option())
        super().add_command(cmd, name)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the group's own options."""
        with one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with one_line():
            return super().invoke(ctx)


@click.group(cls=ZooGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sgnas-zoo")
def main() -> None:
    """State a budget, get a timm model."""


for _command in (
    generate,
    front,
    list_,
    info,
    classify,
    demo,
    profile,
    benchmark,
    export,
    evaluate,
    search,
    compare,
    push,
    card,
    convert,
    shim,
):
    main.add_command(_command)


def run() -> None:
    """The program: ``main`` that ends on signals in one line."""
    end_on_signals()
    main()
