"""Strategies side by side: the same budgets, images and seed for all, and what each of them costs."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from sgnas_zoo.errors import DataError
from sgnas_zoo.hub.supernets import TrainedSupernet
from sgnas_zoo.search.budgets import BUDGET_COSTS, SCALES
from sgnas_zoo.search.decode import Bound
from sgnas_zoo.search.problem import Problem, Score
from sgnas_zoo.training.candidates import inherited_accuracy
from sgnas_zoo.training.curves import Panel, plot_panels
from sgnas_zoo.training.searching import Search
from sgnas_zoo.training.sources import LabelledImages

if TYPE_CHECKING:
    from accelerate import Accelerator  # type: ignore[import-untyped]

Row = dict[str, Any]
"""One search: ``strategy``, ``budget``, ``arch`` and its costs, ``top1`` and ``unseen_top1``, ``evaluations``,
``seconds``."""

MEANS = ("top1", "unseen_top1")
"""What is averaged over budgets; the rest adds up."""


@dataclass(frozen=True)
class Contender:
    """A strategy on its supernet.

    Args:
        search: What it searches, but for the budget.
        score: Scores architectures on the images of the search.
        unseen: Scores them on images that no search sees.
        preparation: Seconds that it took once, before the first budget: the training of a generator.
    """

    search: Search
    score: Score
    unseen: Score
    preparation: float = 0.0


def apart(images: LabelledImages, count: int) -> tuple[LabelledImages, LabelledImages]:
    """Cut held-out images in those that searches look at, ``count`` of them, and those that they do not.

    What a search chose is better on the images it chose by than on others; the others say what it is worth.

    Raises:
        DataError: If none were left.
    """
    total = len(images.rows)
    if count >= total:
        raise DataError(f"{total} images were held out; take fewer than that with --images, so that some stay unseen.")
    order = np.random.default_rng(0).permutation(total)
    first, rest = (replace(images, rows=images.rows.select(part)) for part in (order[:count], order[count:]))
    return first, rest


def scores(
    trained: TrainedSupernet, held: LabelledImages, count: int, accelerator: Accelerator, workers: int
) -> tuple[Score, Score]:
    """Scores on ``count`` of the held-out images and on the rest, with all images read before anything is timed."""
    trained.supernet.to(accelerator.device)
    both = [inherited_accuracy(trained, part, accelerator, workers=workers) for part in apart(held, count)]
    for score in both:
        score([trained.supernet.space.sample(random.Random(0))])
    return both[0], both[1]


def check_budgets(searches: Sequence[Search], cost: str, budgets: Sequence[float]) -> None:
    """Refuse a budget that no architecture keeps, before anything is measured.

    Raises:
        BudgetError: Naming the feasible range.
    """
    for search in searches:
        for budget in budgets:
            Problem(search.space, [Bound(search.tables[cost], budget)], lambda archs: [0.0] * len(archs))


def compare(
    contenders: Mapping[str, Contender],
    cost: str,
    budgets: Sequence[float],
    save: Callable[[list[Row]], None],
    done: Sequence[Row] = (),
    quiet: bool = False,
) -> list[Row]:
    """Let every strategy answer every budget; strategies take turns, so that drift of the machine hits all alike.

    Args:
        contenders: By the name of the strategy.
        cost: Name of the budget: "flops", ...
        budgets: Upper bounds.
        save: Called with all rows after each search.
        done: Rows of a comparison that is gone on with.
        quiet: Show no progress, as on all processes but the main one.
    """
    rows = list(done)
    known = {(row["strategy"], row["budget"]) for row in rows}
    turns = [(name, budget) for budget in budgets for name in contenders]
    for name, budget in tqdm(turns, "searches", disable=quiet):
        if (name, budget) in known:
            continue
        contender = contenders[name]
        found = replace(contender.search, limits={cost: budget}).run(contender.score)
        (unseen,) = contender.unseen([contender.search.space.parse(found["best"]["arch"])])
        spent = {"evaluations": found["evaluations"], "seconds": found["seconds"]}
        rows.append({"strategy": name, "budget": budget, **found["best"], "unseen_top1": unseen, **spent})
        save(rows)
    return rows


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
    scale, unit = SCALES[cost]
    spent = {
        name: sorted((row[BUDGET_COSTS[cost]] / scale, row["unseen_top1"]) for row in rows if row["strategy"] == name)
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


def table(rows: Sequence[Row], sums: Mapping[str, Sequence[Row]], cost: str) -> list[str]:
    """Lines that show every search, then what each strategy came to."""
    scale, unit = SCALES[cost]
    found = [
        (row["strategy"], f"{row['budget'] / scale:.3f}", f"{row[BUDGET_COSTS[cost]] / scale:.3f}", row) for row in rows
    ]
    last = {name: own[-1] for name, own in sums.items()}
    whole = [(name, str(row["budgets"]), f"{row['seconds_with_preparation']:.1f}", row) for name, row in last.items()]
    return [
        *_lines(("strategy", f"budget, {unit}", f"spent, {unit}"), found),
        "",
        *_lines(("strategy", "budgets", "s with preparation"), whole),
    ]


def _lines(heads: tuple[str, str, str], rows: Sequence[tuple[str, str, str, Row]]) -> list[str]:
    first, second, third = heads
    return [
        f"{first:<12}{second:>20}{third:>20}{'top-1':>8}{'unseen':>8}{'scored':>8}{'seconds':>9}",
        *(
            f"{name:<12}{asked:>20}{came:>20}{row['top1']:>8.2f}{row['unseen_top1']:>8.2f}{row['evaluations']:>8}"
            f"{row['seconds']:>9.1f}"
            for name, asked, came, row in rows
        ),
    ]
