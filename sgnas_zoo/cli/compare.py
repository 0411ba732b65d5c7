"""Strategies side by side: ``sgnas-zoo compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sgnas_zoo.cli.options import column_options, precision_option
from sgnas_zoo.cli.search import FREE_TO_CHANGE, SETTINGS, open_search
from sgnas_zoo.costs import BUDGETS
from sgnas_zoo.stopping import stoppable
from sgnas_zoo.terminal import UserPath, told

RESULT, PLOT, PAGE = "comparison.json", "comparison.png", "README.md"


@click.command()
@click.option("--strategies", required=True, help="Strategies, such as generator,evolution,greedy,random.")
@click.option("--space", required=True, help="Search space.")
@click.option("--budgets", required=True,
              help="Budgets, such as 2M,3M,4M or 25M:85M:5M (with both ends); 5ms,10ms for a latency.")  # fmt: skip
@click.option(
    "--cost", default="flops", show_default=True, help=f"What the budgets bound, such as {', '.join(BUDGETS)}."
)
@click.option("--supernet", multiple=True, metavar="[STRATEGY=]PLACE",
              help="Folder or Hub repo, of all strategies or of one; repeat. By default the embedded one.")  # fmt: skip
@click.option("--dataset", required=True, help="Hub id or folder of the dataset that the supernets were trained on.")
@column_options
@click.option("--output", type=UserPath(), required=True, help="Folder of the results.")
@click.option("--generator", help="Folder or Hub repo, for the generator strategy; by default the embedded one.")
@click.option("--profile", help="Device profile (file, folder or Hub repo) for --cost latency.")
@precision_option
@click.option("--population", type=click.IntRange(min=2), default=50, show_default=True)
@click.option("--generations", type=click.IntRange(min=0), default=20, show_default=True, help="Further generations.")
@click.option("--candidates", type=click.IntRange(min=1), default=1, show_default=True,
              help="Best answers of a generator or an additive model that are scored.")  # fmt: skip
@click.option("--paths", type=click.IntRange(min=3),
              help="Random architectures that additive scores; by default as many as evolution.")  # fmt: skip
@click.option("--images", type=click.IntRange(min=1), default=2000, show_default=True,
              help="Held-out images that searches use; what they find is measured on the others.")  # fmt: skip
@click.option("--seeds", default="0", show_default=True, help="Random seeds, such as 0,1,2.")
@click.option("--truth", type=UserPath(), help="Truth table of the space, JSON, that judges the results.")
@click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True, help="Decoding processes.")
@click.option("--resume", is_flag=True, help="Go on with the comparison in the output folder.")
@stoppable("go on with --resume.")
def compare(strategies: str, space: str, budgets: str, cost: str, seeds: str, supernet: tuple[str, ...], dataset: str,
            output: Path, resume: bool, **options: Any) -> None:  # fmt: skip
    """Compare search strategies at the same budgets: accuracy, evaluations and time, per budget and in all."""
    from sgnas_zoo.files import read_config, write_file, write_whole
    from sgnas_zoo.search.budgets import check_budget_name, listed
    from sgnas_zoo.training.options import PLACES, resolved
    from sgnas_zoo.training.searching import report
    from sgnas_zoo.training.searching.plans import plan_comparison

    check_budget_name(cost)  # before the amounts are read as such
    limits, options["seeds"] = listed(cost, budgets), _whole_numbers(seeds)
    places = {name: place for name, _, place in (text.rpartition("=") for text in supernet)}
    stated = resolved(click.get_current_context())
    settings = {name: value for name, value in stated.items() if name not in FREE_TO_CHANGE}
    open_search(output, settings, resume, (RESULT, PLOT, PAGE))
    with told():
        planned = plan_comparison(space, strategies.split(","), limits, dataset, cost=cost, supernets=places, **options)
    own = {"settings": {name: value for name, value in settings.items() if name not in (*PLACES, "truth")}}
    done = read_config(output / RESULT)["rows"] if (output / RESULT).exists() else []
    if planned.accelerator.is_main_process:
        write_whole(output / SETTINGS, settings)
    record = planned.run(lambda record: write_whole(output / RESULT, {**record, **own}), done) | own
    if planned.accelerator.is_main_process:
        report.plot_comparison(output / PLOT, record)
        page = report.report(record)
        write_file(output / PAGE, page)
        click.echo(page)


def _whole_numbers(seeds: str) -> list[int]:
    """Seeds as they are written."""
    try:
        return [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise click.UsageError(f"--seeds {seeds} are none; give whole numbers from 0, such as 0,1,2.") from None
