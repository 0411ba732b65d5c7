"""Rank random networks of a supernet and compare with the truth: does inherited accuracy tell which is better?

    python recipes/rank.py --supernet runs/supernet --truth FILE --dataset DATA --output runs/ranking

What: Kendall tau and Spearman of inherited, calibrated held-out accuracy with true accuracy, over random architectures
    that differ, and those of MACs and of parameters alone, which a supernet has to beat. Nothing is chosen by it.
FILE: a truth table of the space: {arch: {"top1": [runs], "params": count, "macs": count}}.
DATA: the dataset of the supernet; what was held out when it was trained counts.
Output: ranking.json and ranking.png. Scores are kept in evaluations.jsonl: killed, the same command goes on.
Hardware: one CPU core; 150 networks of nas_bench_macro on 1,000 images each took 4 minutes.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from sgnas_zoo.stopping import end_on_signals

    end_on_signals()

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import click
from scipy.stats import kendalltau, spearmanr

from sgnas_zoo.cli.search import FREE_TO_CHANGE, SCORES, SETTINGS, open_search
from sgnas_zoo.costs import COSTS, native_conditions
from sgnas_zoo.errors import SettingError
from sgnas_zoo.files import write_whole
from sgnas_zoo.hub.supernets import load_supernet
from sgnas_zoo.search.budgets import plain
from sgnas_zoo.terminal import UserPath
from sgnas_zoo.training.config import FROM_ONE, NUMBER
from sgnas_zoo.training.data.sources import Source
from sgnas_zoo.training.fields import flat, option
from sgnas_zoo.training.options import PLACES, recipe
from sgnas_zoo.training.plots import Panel, Series, plot_panels
from sgnas_zoo.training.runs import make_accelerator
from sgnas_zoo.training.searching.candidates import EvaluationLog, held_out_images
from sgnas_zoo.training.searching.sharing import InheritedAccuracy
from sgnas_zoo.training.searching.truth import Truth

RESULT, PLOT = "ranking.json", "ranking.png"


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is ranked, and by how many images."""

    supernet: str = option("Folder or Hub repo.")
    truth: Path = option("Truth table of the space, JSON.", kind=UserPath())
    dataset: str = option("Hub id or folder of the dataset that the supernet was trained on.")
    image_column: str | None = option("Name of the image column, where it cannot be guessed.", None)
    label_column: str | None = option("Name of the label column, where it cannot be guessed.", None)
    output: Path = option("Folder of figures and plot.")
    number: int = option("Number of random architectures.", 500, click.IntRange(min=2))
    images: int = option("Most held-out images.", 2000, FROM_ONE)
    seed: int = option("Seed of the architectures.", 0, NUMBER)
    workers: int = option("Decoding processes.", 2, NUMBER, free=True)


@recipe(Config)
def main(config: Config) -> None:
    """Compare the ranking that a supernet gives with the true one."""
    output, settings = config.output, {k: v for k, v in flat(config).items() if k not in FREE_TO_CHANGE}
    open_search(output, settings, True, (RESULT, PLOT, SCORES))
    trained = load_supernet(config.supernet)
    space = trained.supernet.space
    if config.number > space.size:
        raise SettingError(f"{space.name} has {space.size:,} architectures; give no larger --number.")
    truth, archs = Truth.load(config.truth, space), space.sample_several(random.Random(config.seed), config.number)
    true = [truth.top1(arch) for arch in archs]
    accelerator = make_accelerator()
    source = Source(config.dataset, config.image_column, config.label_column)
    held = held_out_images(trained, source, config.images)
    trained.supernet.to(accelerator.device)
    if accelerator.is_main_process:
        write_whole(output / SETTINGS, settings)

    score = InheritedAccuracy(trained, held, accelerator, workers=config.workers)
    log = EvaluationLog(output / SCORES, space, score, writes=accelerator.is_main_process, total=len(archs))
    inherited = log(archs)
    accelerator.end_training()
    if not accelerator.is_main_process:
        return

    tables = {name: COSTS[name].table(space, native_conditions(space, form="search")) for name in ("macs", "params")}
    costs = {name: [plain(float(table.measure(arch))) for arch in archs] for name, table in tables.items()}
    columns = {"arch": [*map(str, archs)], "top1": inherited, "true_top1": true, **costs}
    record: dict[str, Any] = {
        "space": space.name,
        **agreement(inherited, true),
        "mean_top1": fmean(inherited),
        **{f"{name}_alone": agreement(amounts, true) for name, amounts in costs.items()},
        "dataset": dict(held.record),
        "weights": trained.named_origin(),
        "training": dict(trained.training),
        "truth": dict(truth.record),
        "settings": {name: value for name, value in settings.items() if name not in (*PLACES, "truth")},
        "rows": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
    }
    write_whole(output / RESULT, record)
    points = {str(trained.training.get("sampler", space.name)): Series([*zip(inherited, true, strict=True)])}
    plot_panels(output / PLOT, [Panel("held-out top-1 with inherited weights, %", "true top-1, %", points)])
    told = ", ".join(f"{name} {record[name]}" for name in ("kendall_tau", "spearman", "mean_top1"))
    click.echo(f"Ranking: {output}, {told}; MACs alone {record['macs_alone']['kendall_tau']}", err=True)


def agreement(first: Sequence[float], second: Sequence[float]) -> dict[str, float | None]:
    """Rank correlations of two measures; none where one of them is the same for all."""
    if len({*first}) == 1 or len({*second}) == 1:
        return {"kendall_tau": None, "spearman": None}
    return {
        "kendall_tau": float(kendalltau(first, second).statistic),
        "spearman": float(spearmanr(first, second).statistic),
    }


if __name__ == "__main__":
    main()
