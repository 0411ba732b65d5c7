"""Networks over a whole range of budgets: ``sgnas-zoo front``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sgnas_zoo.cli.generate import DEFAULT_TAG
from sgnas_zoo.cli.options import check_installed, column_options, form_option, precision_option
from sgnas_zoo.costs import BUDGETS
from sgnas_zoo.errors import printable
from sgnas_zoo.stopping import stoppable
from sgnas_zoo.terminal import UserPath, told

PACKAGES = ("matplotlib", "accelerate", "datasets")
"""What it needs beside what the library does."""


@click.command()
@click.option("--space", required=True, help="Search space.")
@click.option(
    "--cost", help=f"What the budgets bound, such as {', '.join(BUDGETS)}; by default what the space is about."
)
@click.option("--points", type=int, default=20, show_default=True, help="Budgets, spread over the range of the cost.")
@click.option("--pretrained", is_flag=False, flag_value=DEFAULT_TAG, metavar="[TAG|FOLDER|REPO]",
              help="Inherit weights from a supernet. Without a value: the space's default tag.")  # fmt: skip
@form_option
@click.option("--generator", help="Folder or Hub repo of a generator; by default the embedded one.")
@click.option("--profile", help="Device profile (file, folder or Hub repo) for --cost latency.")
@click.option("--measure/--no-measure", default=False, help="Measure latencies on this machine.")
@click.option("--dataset", help="Hub id or folder: measure top-1 of inherited weights on its test split.")
@column_options
@click.option("--images", type=click.IntRange(min=1), default=2000, show_default=True, help="Images measured at most.")
@click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True, help="Decoding processes.")
@click.option("--resolution", type=click.IntRange(min=1), help="Input side in pixels; by default the space's.")
@precision_option
@click.option("--output", type=UserPath(), required=True, help="Folder of front.json, front.csv and plots.")
@click.option("--force", is_flag=True, help="Replace an earlier front in the output folder.")
@stoppable("start it again.")
def front(space: str, pretrained: str | None, output: Path, force: bool, **options: Any) -> None:
    """Generate networks over the whole range of a cost: a table, a plot, and the knee."""
    check_installed("A front", PACKAGES, "recipes")
    from sgnas_zoo.training.fronts.files import FILES, front_lines, own_files, write_front
    from sgnas_zoo.training.fronts.plan import plan_front
    from sgnas_zoo.training.outputs import claim

    claim(output, FILES, own_files)
    if own_files(output) and not force:
        raise click.UsageError(f"{output} already holds a front; choose another --output, or add --force.")
    weights: Any = True if pretrained == DEFAULT_TAG else pretrained or False
    with told():
        record = plan_front(space, pretrained=weights, **options).run()
    write_front(output, record)
    for line in front_lines(record):
        click.echo(printable(line))
    click.echo(f"Wrote {output}: {', '.join(FILES)}.", err=True)
