"""One search, from its settings to what is written: the same for every strategy."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sgnas_zoo.api.profiles import ProfileLike, find_profile, own_profile
from sgnas_zoo.costs import (
    BUDGETS,
    DEFAULT_PRECISION,
    Conditions,
    CostTable,
    Precision,
    counted_tables,
    native_conditions,
)
from sgnas_zoo.errors import ArtifactError, UnknownNameError, unknown_name
from sgnas_zoo.search.additive import AdditiveModel, fit_to_random
from sgnas_zoo.search.bounds import Bound
from sgnas_zoo.search.budgets import plain
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.search.problem import Problem, Score
from sgnas_zoo.search.strategies import STRATEGIES, Setting
from sgnas_zoo.spaces import Arch, SearchSpace

ACCURACY = "accuracy"
"""The objective that every search has; the others are budgets by name."""


@dataclass(frozen=True)
class Search:
    """What to search for, and how.

    Args:
        space: The space.
        tables: Cost tables by name of the budget: counted costs that the space has, and others where they are needed.
        strategy: Registry name of the strategy.
        limits: Most of each cost.
        objectives: "accuracy" and names of costs: what the front is over.
        population: Architectures of a generation.
        generations: Generations after the first.
        generator: A generator of the space, if the strategy asks one.
        pool: Candidate pool of the supernet, if it has one.
        seed: Of all that is drawn.
        candidates: Best answers of a generator or an additive model that are scored.
        paths: Random architectures that an additive model is fitted to; by default as many as evolution scores.
        additive: An additive model of the supernet's scores, if one was fitted before.

    Raises:
        UnknownNameError: If there is no such strategy or objective, or accuracy is none.
        ArtifactError: If the generator is of another space.
    """

    space: SearchSpace
    tables: Mapping[str, CostTable]
    strategy: str = "evolution"
    limits: Mapping[str, float] = field(default_factory=dict)
    objectives: Sequence[str] = (ACCURACY, "flops")
    population: int = 50
    generations: int = 20
    generator: ArchGenerator | None = None
    pool: Sequence[Arch] = ()
    seed: int = 0
    candidates: int = 1
    paths: int | None = None
    additive: AdditiveModel | None = None

    def __post_init__(self) -> None:
        STRATEGIES[self.strategy]
        check_objectives(self.objectives)
        if self.generator is not None and self.generator.space != self.space:
            raise ArtifactError(
                f"The generator is of {self.generator.space.name}, the search of {self.space.name}; name a pair."
            )

    def costs(self) -> list[CostTable]:
        """The objectives that are costs."""
        return [self.tables[name] for name in self.objectives if name != ACCURACY]

    def learn(self, score: Score) -> tuple[Search, dict[str, float]]:
        """What can be learned once for all limits: the same search, and the ``evaluations`` and ``seconds`` it took.

        Args:
            score: Scores architectures, in percent.
        """
        if self.strategy != "additive" or self.additive:
            return self, {"evaluations": 0, "seconds": 0.0}
        started, problem = time.monotonic(), Problem(self.space, [], score, self.seed)
        model = fit_to_random(problem, self._setting(problem).fitted)
        spent = {"evaluations": problem.evaluations, "seconds": round(time.monotonic() - started, 1)}
        return replace(self, additive=model), spent

    def run(self, score: Score) -> dict[str, Any]:
        """Search.

        Args:
            score: Scores architectures, in percent.

        Returns:
            As plain data: ``front``, the architectures within the bounds that none beats in all objectives, by falling
            accuracy; ``best``, the first of them; the number of ``evaluations``, and the ``seconds`` it all took.

        Raises:
            BudgetError: If no architecture keeps the bounds.
            ArtifactError: If the strategy lacks what it needs.
        """
        started = time.monotonic()
        bounds = [Bound(self.tables[name], limit) for name, limit in self.limits.items()]
        problem = Problem(self.space, bounds, score, self.seed)
        STRATEGIES[self.strategy](self._setting(problem))
        front = sorted(problem.front(self.costs()), key=lambda arch: -problem.scores[arch])
        return {
            "strategy": self.strategy,
            "space": self.space.name,
            "objectives": list(self.objectives),
            "requested": {name: plain(limit) for name, limit in self.limits.items()},
            "best": self._row(problem, front[0]),
            "front": [self._row(problem, arch) for arch in front],
            "evaluations": problem.evaluations,
            "seconds": round(time.monotonic() - started, 1),
        }

    def most_scores(self) -> int:
        """Scores that it asks for at most."""
        evolved = self.population * (1 + self.generations)
        asked = {"generator": self.candidates, "additive": (self.paths or evolved) + self.candidates}
        return asked.get(self.strategy, evolved)

    def _setting(self, problem: Problem) -> Setting:
        return Setting(
            problem, self.population, self.generations, self.costs(), self.generator, self.pool, self.candidates,
            self.paths, self.additive,
        )  # fmt: skip

    def _row(self, problem: Problem, arch: Arch) -> dict[str, Any]:
        costs = {BUDGETS[name].cost: plain(float(table.measure(arch))) for name, table in self.tables.items()}
        return {"arch": str(arch), "top1": problem.scores[arch], **costs}


def check_objectives(objectives: Sequence[str]) -> None:
    """Refuse objectives that there are not.

    Raises:
        UnknownNameError: If one is unknown, or accuracy or a cost is missing.
    """
    for name in objectives:
        if name not in (ACCURACY, *BUDGETS):
            raise unknown_name("objective", name, (ACCURACY, *BUDGETS))
    if ACCURACY not in objectives or len(objectives) < 2:
        costs = ", ".join(BUDGETS)
        raise UnknownNameError(f"Objectives are {ACCURACY} and one of {costs} or several; such as {ACCURACY},flops.")


def cost_tables(
    space: SearchSpace, num_classes: int, names: Sequence[str], profile: ProfileLike | None = None,
    precision: Precision | None = None,
) -> dict[str, CostTable]:  # fmt: skip
    """Tables of what the space has and what else is among ``names``, by budget, in the supernet's form.

    Args:
        space: The space.
        num_classes: Classes of the supernet.
        names: Budgets and objectives of the search.
        profile: Device profile for the latency; by default this device's own, made if there is none.
        precision: Number format that memory and flash are counted at; by default int8.

    Raises:
        ArtifactError: If the profile is for something else, or its error is above 10 % (median).
    """
    conditions: Conditions = native_conditions(
        space, form="search", num_classes=num_classes, precision=precision or DEFAULT_PRECISION
    )
    tables = {
        name: table for name, table in counted_tables(space, conditions).items() if table.maximum or name in names
    }
    if "latency" in names:
        timed = find_profile(profile) or own_profile(space, conditions)
        timed.refuse_poor("or name another one")
        tables["latency"] = timed.table(space, conditions)
    return tables
