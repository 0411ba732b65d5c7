"""Strategies side by side: ``sgnas-zoo compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sgnas_zoo.cli_options import Count, UserPath, column_options, told
from sgnas_zoo.cli_search import FREE_TO_CHANGE, SETTINGS, open_search
from sgnas_zoo.stopping import stoppable

if TYPE_CHECKING:
    from sgnas_zoo.hub.supernets import TrainedSupernet
    from sgnas_zoo.search.generator import ArchGenerator

RESULT, PLOT, PAGE = "comparison.json", "comparison.png", "README.md"


@click.command()
@click.option("--strategies", required=True, help="Such as generator,evolution,greedy,random.")
@click.option("--space", required=True, help="Search space.")
@click.option("--budgets", required=True, help="Such as 2M,3M,4M; 5ms,10ms for a latency.")
@click.option(
    "--cost", default="flops", show_default=True, help="What the budgets bound: flops, params, latency or bitops."
)
@click.option("--supernet", multiple=True, metavar="[STRATEGY=]PLACE",
              help="Folder or Hub repo, of all strategies or of one; repeat. By default the embedded one.")  # fmt: skip
@click.option("--dataset", required=True, help="Hub id or folder of what they were trained on.")
@column_options
@click.option("--output", type=UserPath(), required=True, help="Folder of the results.")
@click.option("--generator", help="Folder or Hub repo, for the generator strategy; by default the embedded one.")
@click.option("--profile", help="Device profile (file, folder or Hub repo) for --cost latency.")
@click.option("--population", type=click.IntRange(min=2), default=50, show_default=True)
@click.option("--generations", type=click.IntRange(min=0), default=20, show_default=True, help="After the first.")
@click.option("--images", type=click.IntRange(min=1), default=2000, show_default=True,
              help="Held-out images that searches look at; the others tell what was found.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Of all that is drawn.")
@click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True, help="Decoding processes.")
@click.option("--resume", is_flag=True, help="Go on with the comparison in the output folder.")
@stoppable("go on with --resume.")
def compare(strategies: str, space: str, budgets: str, cost: str, supernet: tuple[str, ...], dataset: str,
            output: Path, generator: str | None, profile: str | None, population: int, generations: int, images: int,
            seed: int, workers: int, resume: bool, **columns: Any) -> None:  # fmt: skip
    """Compare search strategies at the same budgets: accuracy, evaluations and time, per budget and in all."""
    from sgnas_zoo.files import read_config, write_file, write_whole
    from sgnas_zoo.search.strategies import STRATEGIES
    from sgnas_zoo.spaces import SPACES
    from sgnas_zoo.training import comparing, comparison_report
    from sgnas_zoo.training.candidates import held_out_images
    from sgnas_zoo.training.options import PLACES, resolved
    from sgnas_zoo.training.runs import make_accelerator
    from sgnas_zoo.training.searching import Search, cost_tables
    from sgnas_zoo.training.sources import Source

    names = list(dict.fromkeys(strategies.split(",")))
    for name in names:
        STRATEGIES[name]
    own, limits = SPACES[space], _amounts(cost, budgets)
    options = resolved(click.get_current_context())
    settings = {name: value for name, value in options.items() if name not in FREE_TO_CHANGE}
    open_search(output, settings, resume, (RESULT, PLOT, PAGE))
    with told():
        supernets = _supernets(supernet, names, space)
        makes, hours = _generator(generator, space) if "generator" in names else (None, 0.0)
        tables = {place: cost_tables(own, net.supernet.num_classes, [cost], profile)
                  for place, net in supernets.values()}  # fmt: skip
    searches = {
        name: Search(own, tables[place], name, {}, ("accuracy", cost), population, generations,
                     makes if name == "generator" else None, net.pool, seed)
        for name, (place, net) in supernets.items()
    }  # fmt: skip
    comparing.check_budgets(list(searches.values()), cost, limits)
    accelerator, source = make_accelerator(), Source(dataset, **columns)
    scores = {
        place: comparing.scores(net, held_out_images(net, source), images, accelerator, workers)
        for place, net in dict(supernets.values()).items()
    }
    contenders = {
        name: comparing.Contender(search, *scores[supernets[name][0]], 3600 * hours if name == "generator" else 0.0)
        for name, search in searches.items()
    }
    done = read_config(output / RESULT)["rows"] if (output / RESULT).exists() else []
    accelerator.wait_for_everyone()
    preparation = {name: round(contender.preparation, 1) for name, contender in contenders.items()}
    record: dict[str, Any] = {
        "space": space, "cost": cost, "settings": {k: v for k, v in settings.items() if k not in PLACES},
        "supernets": {
            name: {**net.origin(), "supernet": net.source and net.source.named(), "training": dict(net.training)}
            for name, (_, net) in supernets.items()
        },
        "preparation": preparation,
    }  # fmt: skip

    def save(rows: list[comparing.Row]) -> None:
        if accelerator.is_main_process:
            record["rows"], record["totals"] = rows, comparison_report.totals(rows, preparation)
            write_whole(output / RESULT, record)

    if accelerator.is_main_process:
        write_whole(output / SETTINGS, settings)
    rows = comparing.compare(contenders, cost, limits, save, done, quiet=not accelerator.is_main_process)
    save(rows)
    if accelerator.is_main_process:
        comparison_report.plot_comparison(output / PLOT, rows, record["totals"], cost)
        page = comparison_report.report(record)
        write_file(output / PAGE, page)
        click.echo(page)
    accelerator.end_training()


def _amounts(cost: str, budgets: str) -> list[float]:
    """The budgets, each once."""
    from sgnas_zoo.errors import unknown_name
    from sgnas_zoo.search.budgets import BUDGET_COSTS, stated

    if cost not in BUDGET_COSTS:
        raise unknown_name("cost", cost, BUDGET_COSTS)
    texts = [text.strip() for text in budgets.split(",")]
    amounts = stated(latency=texts)["latency"] if cost == "latency" else [Count().convert(t, None, None) for t in texts]
    return list(dict.fromkeys(amounts))


def _supernets(places: Sequence[str], strategies: Sequence[str], space: str) -> dict[str, tuple[str, TrainedSupernet]]:
    """Place and supernet of every strategy; one that several share is loaded once."""
    from sgnas_zoo.api.request import Request
    from sgnas_zoo.api.supernets import find_supernet
    from sgnas_zoo.hub.supernets import load_supernet
    from sgnas_zoo.spaces import SPACES

    named = {name: place for name, _, place in (text.rpartition("=") for text in places)}
    if foreign := [name for name in named if name and name not in strategies]:
        raise click.UsageError(f"--supernet {foreign[0]}=... is of none of the strategies; name one of them, or none.")
    chosen = {name: named.get(name) or named.get("") or "" for name in strategies}
    family = SPACES[space].family
    loaded = {
        place: load_supernet(place) if place else find_supernet(Request(pretrained=True, family=family), space)[0]
        for place in dict.fromkeys(chosen.values())
    }
    for net in loaded.values():
        if net.supernet.space.name != space:
            raise click.UsageError(f"A supernet is of {net.supernet.space.name}, not {space}; name one of {space}.")
    return {name: (place, loaded[place]) for name, place in chosen.items()}


def _generator(place: str | None, space: str) -> tuple[ArchGenerator, float]:
    """A generator, and the hours that its training took as far as its folder says."""
    from sgnas_zoo.api.resolve import load
    from sgnas_zoo.errors import ArtifactError
    from sgnas_zoo.files import read_config
    from sgnas_zoo.hub.artifacts import Artifact
    from sgnas_zoo.hub.card_text import Fields
    from sgnas_zoo.hub.cards import EVALUATION
    from sgnas_zoo.zoo import embedded_generator

    generator = load(place, space)
    artifact = Artifact(place or embedded_generator(space) or "")
    try:
        told = Fields(read_config(artifact.file(EVALUATION)), EVALUATION)
        return generator, told.part("training").number("hours") or 0.0
    except ArtifactError:  # it tells nothing
        return generator, 0.0
