"""Commands that search a supernet: ``sgnas-zoo search``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from sgnas_zoo.cli.options import BudgetCommand, amounts_of, column_options, precision_option
from sgnas_zoo.costs import BUDGETS
from sgnas_zoo.stopping import stoppable
from sgnas_zoo.terminal import UserPath, told

SETTINGS, RESULT, FRONT, PLOT, SCORES = "settings.json", "result.json", "front.json", "front.png", "evaluations.jsonl"
FREE_TO_CHANGE = ("output", "resume", "workers")
"""Options that do not change what is found."""


@click.command(cls=BudgetCommand)
@click.option("--strategy", default="evolution", show_default=True,
              help="additive, evolution, generator, greedy, nsga2, random.")  # fmt: skip
@click.option("--space", help="Search space; if given, the supernet has to be of it.")
@click.option("--supernet", required=True, help="Folder or Hub repo of the trained supernet.")
@click.option("--dataset", required=True, help="Hub id or folder of the supernet's dataset; its held-out part is used.")
@column_options
@click.option("--output", type=UserPath(), required=True, help="Folder of the results.")
@click.option("--profile", help="Device profile (file, folder or Hub repo) for latency; by default this device's.")
@precision_option
@click.option("--objectives", default="accuracy,flops", show_default=True, help="Objectives of the front.")
@click.option("--generator", help="Folder or Hub repo, for --strategy generator; by default the embedded one.")
@click.option("--population", type=click.IntRange(min=2), default=50, show_default=True)
@click.option("--generations", type=click.IntRange(min=0), default=20, show_default=True, help="Further generations.")
@click.option("--candidates", type=click.IntRange(min=1), default=1, show_default=True,
              help="Best answers of a generator or an additive model that are scored.")  # fmt: skip
@click.option("--paths", type=click.IntRange(min=3),
              help="Random architectures that additive scores; by default as many as evolution.")  # fmt: skip
@click.option("--images", type=click.IntRange(min=1), default=5000, show_default=True, help="Most held-out images.")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed.")
@click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True, help="Decoding processes.")
@click.option("--resume", is_flag=True, help="Go on with the search in the output folder.")
@stoppable("go on with --resume.")
def search(output: Path, supernet: str, dataset: str, objectives: str, resume: bool, **options: Any) -> None:
    """Search a supernet for the most accurate architecture within bounds, which combine, or for a front."""
    from sgnas_zoo.files import write_whole
    from sgnas_zoo.training.options import resolved
    from sgnas_zoo.training.searching.plans import plan_search

    settings = {
        name: value for name, value in resolved(click.get_current_context()).items() if name not in FREE_TO_CHANGE
    }
    open_search(output, settings, resume, (RESULT, FRONT, PLOT, SCORES))
    with told():
        planned = plan_search(supernet, dataset, objectives=objectives.split(","), **options)
    if planned.accelerator.is_main_process:
        write_whole(output / SETTINGS, settings)
    result = planned.run(output / SCORES)
    if planned.accelerator.is_main_process:
        record = {**result, "settings": settings}
        write_whole(output / RESULT, {name: value for name, value in record.items() if name != "front"})
        _write_front(output, result)
        click.echo(_line(result))


def open_search(output: Path, settings: Mapping[str, Any], resume: bool, names: Sequence[str]) -> None:
    """Take the folder of a search for as long as the command runs; it is free, or its search is the one to go on with.

    A search that was killed before it wrote anything has left nothing to go on with: it just begins.

    Args:
        output: The folder; it need not be there.
        settings: Those of the search, which tell whether what is there is a search of its kind.
        resume: Whether to go on with it.
        names: What it writes beside its settings.

    Raises:
        click.UsageError: If another search is there, or one that is not to go on.
        ArtifactError: If another process is at work there, or something else is in the way.
    """
    from sgnas_zoo.files import read_config
    from sgnas_zoo.training.outputs import claim, is_page, reads_as

    def own(folder: Path) -> list[str]:
        return [] if not reads_as(folder / SETTINGS, *settings) else [
            SETTINGS, *(name for name in names if not name.endswith(".md") or is_page(folder / name))
        ]  # fmt: skip

    claim(output, (SETTINGS, *names), own)
    if not (output / SETTINGS).exists():
        return
    if not resume:
        raise click.UsageError(f"{output} already holds a search; choose another --output, or add --resume.")
    before = read_config(output / SETTINGS)
    different = [f"{k}: {before.get(k)} there, {v} here" for k, v in settings.items() if before.get(k) != v]
    if different:
        raise click.UsageError(f"The search in {output} has other settings ({'; '.join(different)}); repeat them.")


def _write_front(output: Path, result: Mapping[str, Any]) -> None:
    """Write the front as JSON and as a plot over its first cost."""
    from sgnas_zoo.files import write_whole
    from sgnas_zoo.training.plots import Panel, Series, plot_panels

    write_whole(output / FRONT, {"objectives": result["objectives"], "front": result["front"]})
    cost = next(name for name in result["objectives"] if name != "accuracy")
    budget = BUDGETS[cost]
    points = sorted((row[budget.cost] / budget.scale, row["top1"]) for row in result["front"])
    series = {result["strategy"]: Series(points, line="straight")}
    limits = [result["requested"][cost] / budget.scale] if cost in result["requested"] else []
    plot_panels(output / PLOT, [Panel(budget.unit, "held-out top-1 with inherited weights, %", series, limits)])


def _line(result: Mapping[str, Any]) -> str:
    best = result["best"]
    return (
        f"{result['strategy']}: {best['top1']:.2f} % held-out top-1, {amounts_of(best)}, "
        f"{result['space']} {best['arch']} "
        f"({result['evaluations']} evaluations, {result['seconds']:.0f} s)"
    )
