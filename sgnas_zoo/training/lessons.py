"""What a generator is taught by imitation: architectures that someone answers budgets with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sgnas_zoo.costs import COSTS, Conditions, CostTable, native_conditions
from sgnas_zoo.hub.supernets import TrainedSupernet
from sgnas_zoo.search.additive import AdditiveModel, fit_to_random
from sgnas_zoo.search.bounds import Bound
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.search.problem import Problem, Score
from sgnas_zoo.search.propose import propose
from sgnas_zoo.spaces import SPACES, Arch
from sgnas_zoo.training import generators


@dataclass(frozen=True)
class Lesson:
    """Answers to budgets, and what their costs are stated for.

    Args:
        answers: Architectures of one space; one that answers several budgets is there several times.
        targets: What the generator is asked for each answer.
        table: The cost of the budgets.
        conditions: What it is stated for.
        cost_range: Lowest and highest budget of the generator to be.
        told: About the teacher, for the record.
        unit: What distances from targets are counted in, see ``constraint_loss``.
        model: The additive model that gave the answers, if one did.
    """

    answers: list[Arch]
    targets: list[float]
    table: CostTable
    conditions: Conditions
    cost_range: tuple[float, float]
    told: Mapping[str, Any] = field(default_factory=dict)
    unit: float = 1e6
    model: AdditiveModel | None = None

    def lost(self, generator: ArchGenerator) -> float | None:
        """By how much what a generator is decoded to scores less than the answers, as the model predicts; a mean.

        It counts what imitation misses, and what it costs to spend a share of every budget (``generator.spend``).
        """
        if self.model is None:
            return None
        limits = np.linspace(*self.cost_range, len(self.answers)).tolist()
        decoded = [found.arch for found in propose(generator, {self.table: limits})]
        return float((self.model.predict(self.answers) - self.model.predict(decoded)).mean())


def read_answers(path: Path) -> Lesson:
    """Answers of a file: ``space``, and ``answers``, an architecture string by budget."""
    record = json.loads(path.read_text())
    space = SPACES[record["space"]]
    conditions = native_conditions(space)
    table = COSTS["macs"].table(space, conditions)
    answers = [space.parse(text) for text in record["answers"].values()]
    costs = [table.measure(arch) for arch in answers]
    return Lesson(answers, costs, table, conditions, (table.minimum, table.maximum))


def ask_supernet(
    trained: TrainedSupernet, score: Score, *, paths: int, budgets: int, spend: float, seed: int
) -> Lesson:  # fmt: skip
    """Answers of an additive model that is fitted to the scores of a supernet's random paths.

    Args:
        trained: The supernet.
        score: Gives the scores of its paths, see ``InheritedAccuracy``.
        paths: Random paths that are scored.
        budgets: Budgets over the range of the space that are answered.
        spend: Of the generator to be. If it is 0, the targets are the budgets; else the costs of the answers.
        seed: Draws the paths.

    Raises:
        BudgetError: If there are too few paths to fit to.
    """
    table, conditions = generators.costs(trained.supernet)
    low, high = generators.target_range(table, None, None)
    problem = Problem(table.space, [], score, seed)
    model = fit_to_random(problem, paths)
    limits = np.linspace(low, high, budgets).tolist()
    answers = [model.ranked([Bound(table, limit)], 1)[0] for limit in limits]
    targets = [table.measure(arch) for arch in answers] if spend else limits
    told = {
        "supernet": trained.source and trained.source.named(),
        "additive": {
            "paths": problem.evaluations,
            "error": model.error,
            "spread": model.spread,
            "pairs": model.pairs is not None,
        },
        "answers": [str(arch) for arch in dict.fromkeys(answers)],
    }
    return Lesson(answers, targets, table, conditions, (low, high), told, (high - low) / generators.SPAN, model)
