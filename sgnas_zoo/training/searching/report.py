"""What a comparison of strategies came to: totals, a plot, and a page of tables made from its record alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from tabulate import tabulate

from sgnas_zoo.costs import BUDGETS, Budget
from sgnas_zoo.hub.cards.text import title
from sgnas_zoo.search.budgets import plain
from sgnas_zoo.training.plots import Panel, Series, plot_panels
from sgnas_zoo.training.searching.comparison import Row

MEANS = {"top1": "top-1, %", "unseen_top1": "unseen top-1, %", "true_top1": "true top-1, %", "regret": "regret"}
"""What is averaged over budgets, with its head in tables; the last two where there is a truth table. The rest adds up.
"""


def totals(rows: Sequence[Row], preparation: Mapping[str, float]) -> dict[str, list[Row]]:
    """What the first 1, 2, ... N budgets came to, by strategy.

    Args:
        rows: As ``compare`` gives them.
        preparation: Seconds by strategy that count once.

    Returns:
        Per strategy and number of ``budgets``, over the seeds that answered as many: means of what is in ``MEANS``,
        sums of ``evaluations`` and ``seconds`` for a seed, and ``seconds_with_preparation``; with two seeds or more
        the ``standard_errors`` of the means.
    """
    result: dict[str, list[Row]] = {}
    for name in dict.fromkeys(row["strategy"] for row in rows):
        own = [row for row in rows if row["strategy"] == name]
        runs = [[row for row in own if row["seed"] == seed] for seed in dict.fromkeys(row["seed"] for row in own)]
        counts = range(1, min(map(len, runs)) + 1)
        result[name] = [_total([run[:count] for run in runs], preparation.get(name, 0.0)) for count in counts]
    return result


def _total(runs: Sequence[Sequence[Row]], preparation: float) -> Row:
    """What the same budgets came to: the rows of each seed."""
    means = {key: [fmean(row[key] for row in run) for run in runs] for key in MEANS if key in runs[0][0]}
    spent = {key: fmean(sum(row[key] for row in run) for run in runs) for key in ("evaluations", "seconds")}
    sums = {key: plain(round(number, 1)) for key, number in spent.items()}
    total: Row = {"budgets": len(runs[0]), **{key: fmean(values) for key, values in means.items()}, **sums}
    total["seconds_with_preparation"] = round(sums["seconds"] + preparation, 1)
    if len(runs) > 1:
        total["standard_errors"] = {key: stdev(values) / math.sqrt(len(runs)) for key, values in means.items()}
    return total


def plot_comparison(path: Path, record: Mapping[str, Any]) -> None:
    """Draw top-1 over the cost that was spent, with the budgets, and time over the number of budgets.

    Args:
        path: PNG to write.
        record: As ``report`` takes it. Points are means over seeds, with their standard errors. Where it has a truth,
            true top-1 is drawn, and the true front.
    """
    budget, rows, sums, truth = BUDGETS[record["cost"]], record["rows"], record["totals"], record.get("truth")
    key, told = ("true_top1", "true top-1, %") if truth else ("unseen_top1", "inherited top-1 on unseen images, %")
    if len({row["seed"] for row in rows}) > 1:
        told += " (mean over seeds ± standard error)"
    found = {name: _means([row for row in rows if row["strategy"] == name], key, budget) for name in sums}
    limits = sorted({row["budget"] for row in rows})
    if truth:
        front = _within(truth["front"], min(row[budget.cost] for row in rows), limits[-1])
        found["the true front"] = Series([(cost / budget.scale, y) for cost, y in front], line="steps", marked=False)
    paid = {
        name: Series([(row["budgets"], row["seconds_with_preparation"]) for row in own], line="straight")
        for name, own in sums.items()
    }
    plot_panels(
        path,
        [
            Panel(budget.unit, told, found, [limit / budget.scale for limit in limits]),
            Panel("budgets answered", "seconds, with preparation", paid, log=True),
        ],
    )


def _means(rows: Sequence[Row], key: str, budget: Budget) -> Series:
    """What a strategy found for each budget: means over seeds of cost and of ``key``, with its standard error."""
    groups = [[row for row in rows if row["budget"] == limit] for limit in dict.fromkeys(row["budget"] for row in rows)]
    groups.sort(key=lambda own: fmean(row[budget.cost] for row in own))
    points = [(fmean(row[budget.cost] for row in own) / budget.scale, fmean(row[key] for row in own)) for own in groups]
    several = all(len(own) > 1 for own in groups)
    errors = [stdev(row[key] for row in own) / math.sqrt(len(own)) for own in groups] if several else []
    return Series(points, errors, "straight")


def _within(front: Sequence[tuple[float, float]], least: float, most: float) -> list[tuple[float, float]]:
    """The part of a front that lies between two costs; it goes on level to the last."""
    part = [(cost, top1) for cost, top1 in front if least <= cost <= most]
    return [*part, (most, part[-1][1])] if part else []


def report(record: Mapping[str, Any]) -> str:
    """A page in Markdown.

    Args:
        record: What ``sgnas-zoo compare`` writes to ``comparison.json``.
    """
    budget = BUDGETS[record["cost"]]
    scale, unit = budget.scale, budget.unit
    settings, sums, truth = record["settings"], record["totals"], record.get("truth")
    seeds = settings["seeds"].split(",")
    most = max(len(own) for own in sums.values())
    counts = [count for count in (1, 5, 20) if count < most] + [most]
    whole = [
        [name, str(count), *_figures(own[count - 1]), f"{own[count - 1]['seconds_with_preparation']:,.0f}"]
        for count in dict.fromkeys(counts) for name, own in sums.items() if count <= len(own)
    ]  # fmt: skip
    single = [
        [
            row["strategy"],
            *([str(row["seed"])] if len(seeds) > 1 else []),
            f"{row['budget'] / scale:.3f}",
            f"{row[budget.cost] / scale:.3f}",
            *_figures(row),
        ]
        for row in record["rows"]
    ]
    figures = [*(head for key, head in MEANS.items() if key in record["rows"][0]), "evaluations", "seconds"]
    return "\n".join([
        f"# Search strategies on {record['space']}",
        "",
        f"Every strategy answers the same budgets of {unit}, in turn. A score is the top-1 of inherited and calibrated "
        f"weights on {settings['images']:,} held-out images; *unseen* is that of what was found on the other held-out "
        f"images. Population {settings['population']}, {settings['generations']} generations after the first, "
        f"{_paths(settings.get('paths'))}"
        f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}.",
        "",
        *([_judge(truth), ""] if truth else []),
        "## Supernets",
        "",
        *_table(["strategy", "sampler", "epochs", "steps", "path evaluations", "hours", "seed"], _supernets(record)),
        "",
        "## The first 1, 5, ... budgets",
        "",
        f"{_averaged(len(seeds))}; *with preparation* counts the training of a generator.",
        "",
        *_table(["strategy", "budgets", *figures, "with preparation"], whole),
        "",
        "![Top-1 and time](comparison.png)",
        "",
        "## Every search",
        "",
        *_table(
            ["strategy", *["seed"] * (len(seeds) > 1), f"budget, {unit}", f"spent, {unit}", *figures], single
        ),
        "",
    ])  # fmt: skip


def _figures(row: Row) -> list[str]:
    """What is in ``MEANS``, with its standard error if it has one, evaluations and seconds."""
    errors = {key: f" ± {error:.2f}" for key, error in row.get("standard_errors", {}).items()}
    means = [f"{row[key]:.2f}{errors.get(key, '')}" for key in MEANS if key in row]
    return [*means, f"{row['evaluations']:,.0f}", f"{row['seconds']:,.1f}"]


def _averaged(seeds: int) -> str:
    """What the figures of several searches are."""
    if seeds == 1:
        return "Means over the budgets, and sums"
    return f"Means over the budgets and {seeds} seeds, ± their standard error over seeds, and sums of one seed"


def _paths(count: int | None) -> str:
    """What is said of the random architectures of the additive strategy, if they were told apart."""
    return f"{count:,} random architectures behind the additive model, " if count else ""


def _judge(truth: Mapping[str, Any]) -> str:
    """What is said of a truth table."""
    return (
        f"*True* top-1 is that of `{truth['file']}`, which holds {truth['networks']:,} trained networks and which no "
        "search looks at; *regret* is what the best network within the budget has more."
    )


def _supernets(record: Mapping[str, Any]) -> list[list[str]]:
    """How the supernet of each strategy was trained, as far as it says."""
    rows = []
    for name, net in record["supernets"].items():
        said = {**net["training"], **net["training"].get("final", {})}
        names = ("sampler", "epochs", "steps", "path_evaluations", "hours", "seed")
        rows.append([name, *(title(str(said.get(field, "-"))) for field in names)])
    return rows


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown whose columns are also straight in a terminal."""
    laid: str = tabulate(rows, heads, tablefmt="github", disable_numparse=True)
    return laid.splitlines()
