"""What a comparison of strategies came to: totals, a plot, and a page of tables made from its record alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sgnas_zoo.costs import BUDGETS
from sgnas_zoo.hub.cards.text import title
from sgnas_zoo.training.plots import Panel, plot_panels
from sgnas_zoo.training.searching.comparison import Row

MEANS = ("top1", "unseen_top1")
"""What is averaged over budgets; the rest adds up."""


def totals(rows: Sequence[Row], preparation: Mapping[str, float]) -> dict[str, list[Row]]:
    """What the first 1, 2, ... N budgets came to, by strategy.

    Args:
        rows: As ``compare`` gives them.
        preparation: Seconds by strategy that count once.

    Returns:
        Per strategy and number of ``budgets``: mean ``top1`` and ``unseen_top1``, sums of ``evaluations`` and
        ``seconds``, and ``seconds_with_preparation``.
    """
    result: dict[str, list[Row]] = {}
    for name in dict.fromkeys(row["strategy"] for row in rows):
        own = [row for row in rows if row["strategy"] == name]
        result[name] = []
        for count in range(1, len(own) + 1):
            sums = {key: sum(row[key] for row in own[:count]) for key in (*MEANS, "evaluations", "seconds")}
            total = {"budgets": count, **{k: v / count if k in MEANS else round(v, 1) for k, v in sums.items()}}
            total["seconds_with_preparation"] = round(total["seconds"] + preparation.get(name, 0.0), 1)
            result[name].append(total)
    return result


def plot_comparison(path: Path, rows: Sequence[Row], sums: Mapping[str, Sequence[Row]], cost: str) -> None:
    """Draw top-1 over the cost that was spent, and time over the number of budgets, one colour a strategy."""
    scale, unit = BUDGETS[cost].scale, BUDGETS[cost].unit
    spent = {
        name: sorted((row[BUDGETS[cost].cost] / scale, row["unseen_top1"]) for row in rows if row["strategy"] == name)
        for name in sums
    }
    paid = {name: [(row["budgets"], row["seconds_with_preparation"]) for row in own] for name, own in sums.items()}
    plot_panels(
        path,
        [
            Panel(unit, "inherited top-1 on unseen images, %", spent),
            Panel("budgets answered", "seconds, with preparation", paid, log=True),
        ],
    )


def report(record: Mapping[str, Any]) -> str:
    """A page in Markdown.

    Args:
        record: What ``sgnas-zoo compare`` writes to ``comparison.json``.
    """
    budget = BUDGETS[record["cost"]]
    scale, unit = budget.scale, budget.unit
    settings, sums = record["settings"], record["totals"]
    most = max(len(own) for own in sums.values())
    counts = [count for count in (1, 5, 20) if count < most] + [most]
    whole = [
        [name, str(count), *_figures(own[count - 1]), f"{own[count - 1]['seconds_with_preparation']:,.0f}"]
        for count in dict.fromkeys(counts) for name, own in sums.items() if count <= len(own)
    ]  # fmt: skip
    single = [
        [
            row["strategy"],
            f"{row['budget'] / scale:.3f}",
            f"{row[budget.cost] / scale:.3f}",
            *_figures(row),
        ]
        for row in record["rows"]
    ]
    figures = ["top-1, %", "unseen top-1, %", "evaluations", "seconds"]
    return "\n".join([
        f"# Search strategies on {record['space']}",
        "",
        f"Every strategy answers the same budgets of {unit}, in turn. A score is the top-1 of inherited and calibrated "
        f"weights on {settings['images']:,} held-out images; *unseen* is that of what was found on the other held-out "
        f"images. Population {settings['population']}, {settings['generations']} generations after the first, seed "
        f"{settings['seed']}.",
        "",
        "## Supernets",
        "",
        *_table(["strategy", "sampler", "epochs", "steps", "path evaluations", "hours", "seed"], _supernets(record)),
        "",
        "## The first 1, 5, ... budgets",
        "",
        "Means over the budgets, and sums; *with preparation* counts the training of a generator.",
        "",
        *_table(["strategy", "budgets", *figures, "with preparation"], whole),
        "",
        "![Top-1 and time](comparison.png)",
        "",
        "## Every search",
        "",
        *_table(["strategy", f"budget, {unit}", f"spent, {unit}", *figures], single),
        "",
    ])  # fmt: skip


def _figures(row: Row) -> list[str]:
    return [f"{row['top1']:.2f}", f"{row['unseen_top1']:.2f}", f"{row['evaluations']:,.0f}", f"{row['seconds']:,.1f}"]


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
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [heads, ["-" * width for width in widths], *rows]
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
