"""Strategies side by side: the same budgets, images and seeds for all, and what each of them costs."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from sgnas_zoo.errors import DataError
from sgnas_zoo.hub.supernets import TrainedSupernet
from sgnas_zoo.search.bounds import Bound
from sgnas_zoo.search.problem import Problem, Score
from sgnas_zoo.spaces import Arch
from sgnas_zoo.training.data.sources import LabelledImages
from sgnas_zoo.training.searching.search import Search
from sgnas_zoo.training.searching.sharing import InheritedAccuracy

if TYPE_CHECKING:
    from accelerate import Accelerator

Row = dict[str, Any]
"""One search: ``strategy``, ``budget``, ``seed``, ``arch`` and its costs, ``top1`` and ``unseen_top1``,
``evaluations``, ``seconds``; once it is judged by a truth table, ``true_top1`` and ``regret``."""


class Remembered:
    """Scores that several searches ask for: measured once, while the seconds that one took count for each search.

    Args:
        score: Measures them.
    """

    def __init__(self, score: Score) -> None:
        self._score = score
        self._known: dict[Arch, tuple[float, float]] = {}
        self._saved = 0.0

    def __call__(self, archs: Sequence[Arch]) -> list[float]:
        """Scores of architectures."""
        fresh = [arch for arch in dict.fromkeys(archs) if arch not in self._known]
        self._saved += sum(self._known[arch][1] for arch in {*archs} - {*fresh})
        started = time.monotonic()
        measured = self._score(fresh) if fresh else ()
        took = (time.monotonic() - started) / max(len(fresh), 1)
        self._known.update((arch, (score, took)) for arch, score in zip(fresh, measured, strict=True))
        return [self._known[arch][0] for arch in archs]

    def saved(self) -> float:
        """Seconds that were saved since this was last asked."""
        since, self._saved = self._saved, 0.0
        return since


@dataclass(frozen=True)
class Contender:
    """A strategy on its supernet.

    Args:
        search: What it searches, but for the budget and the seed.
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
    both = [InheritedAccuracy(trained, part, accelerator, workers=workers) for part in apart(held, count)]
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


def search_all(
    contenders: Mapping[str, Contender],
    cost: str,
    budgets: Sequence[float],
    seeds: Sequence[int],
    save: Callable[[list[Row]], None],
    done: Sequence[Row] = (),
    quiet: bool = False,
) -> list[Row]:
    """Let every strategy answer every budget with every seed.

    Strategies take turns, so that drift of the machine hits all alike. What a strategy learns once for all budgets, as
    the additive one does, counts with the first of them. What several searches score is measured once and counts for
    each of them.

    Args:
        contenders: By the name of the strategy.
        cost: Name of the budget: "flops", ...
        budgets: Upper bounds.
        seeds: Of all that is drawn, one after the other.
        save: Called with all rows after each search.
        done: Rows of a comparison that is gone on with.
        quiet: Show no progress, as on all processes but the main one.
    """
    rows = list(done)
    known = {(row["strategy"], row["budget"], row["seed"]) for row in rows}
    begun = {(row["strategy"], row["seed"]) for row in rows}
    learned: dict[tuple[str, int], Search] = {}
    remembered = {score: Remembered(score) for each in contenders.values() for score in (each.score, each.unseen)}
    turns = [(name, budget, seed) for budget in budgets for seed in seeds for name in contenders]
    for name, budget, seed in tqdm(turns, "searches", disable=quiet):
        if (name, budget, seed) in known:
            continue
        contender, spent = contenders[name], {"evaluations": 0, "seconds": 0.0}
        score, unseen = remembered[contender.score], remembered[contender.unseen]
        if (name, seed) not in learned:
            learned[name, seed], once = replace(contender.search, seed=seed).learn(score)
            once["seconds"] += score.saved()
            spent = spent if (name, seed) in begun else once
        found = replace(learned[name, seed], limits={cost: budget}).run(score)
        found["seconds"] += score.saved()
        spent = {key: round(found[key] + before, 1) for key, before in spent.items()}
        (others,) = unseen([contender.search.space.parse(found["best"]["arch"])])
        rows.append({
            "strategy": name, "budget": budget, "seed": seed, **found["best"], "unseen_top1": others, **spent,
        })  # fmt: skip
        save(rows)
    return rows
