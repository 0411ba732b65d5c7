"""Search strategies: which subnet of a supernet wins within bounds.

To add one: a function of ``Setting`` that lets its ``problem`` evaluate architectures, registered in ``STRATEGIES``.
Contract tests run it on every space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sgnas_zoo.costs import CostTable
from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.registry import Registry
from sgnas_zoo.search.additive import AdditiveModel, fit_to_random
from sgnas_zoo.search.bounds import Bound
from sgnas_zoo.search.evolution import evolve, search_randomly
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.search.nsga2 import search_front
from sgnas_zoo.search.problem import Problem
from sgnas_zoo.search.propose import propose_several
from sgnas_zoo.spaces import Arch


@dataclass(frozen=True)
class Setting:
    """All that a strategy may need.

    Args:
        problem: What to search; it keeps every score.
        population: Architectures of a generation.
        generations: Generations after the first.
        costs: Costs to keep low where a front is searched.
        generator: A generator of the space, if there is one.
        pool: Candidate pool of a greedily trained supernet, best first, if there is one.
        candidates: Best answers of a generator or an additive model that are scored; the best of them wins.
        paths: Random architectures that an additive model is fitted to; by default as many as evolution scores.
        additive: An additive model of the supernet's scores, if there is one; else one is fitted.
    """

    problem: Problem
    population: int = 50
    generations: int = 20
    costs: Sequence[CostTable] = ()
    generator: ArchGenerator | None = None
    pool: Sequence[Arch] = ()
    candidates: int = 1
    paths: int | None = None
    additive: AdditiveModel | None = None

    @property
    def fitted(self) -> int:
        """Random architectures that an additive model is fitted to."""
        return self.paths or self.population * (1 + self.generations)


Strategy = Callable[[Setting], None]


def random_search(setting: Setting) -> None:
    """Score random architectures within the bounds, as many as evolution would."""
    search_randomly(setting.problem, setting.population, setting.generations)


def evolution(setting: Setting) -> None:
    """Evolve architectures from random ones (SPOS)."""
    evolve(setting.problem, setting.population, setting.generations)


def greedy(setting: Setting) -> None:
    """Evolve architectures from the supernet's candidate pool (GreedyNAS).

    Raises:
        ArtifactError: If there is no pool.
    """
    if not setting.pool:
        raise ArtifactError(
            "This supernet has no candidate pool; train one with recipes/train_supernet.py --sampler greedy, "
            "or take --strategy evolution."
        )
    evolve(setting.problem, setting.population, setting.generations, setting.pool)


def generator(setting: Setting) -> None:
    """Ask the architecture generator, and score only its best answers (SGNAS).

    Raises:
        ArtifactError: If there is no generator.
    """
    if setting.generator is None:
        raise ArtifactError(
            "This strategy asks a generator; name one with --generator, or train it with recipes/train_generator.py."
        )
    setting.problem.evaluate(propose_several(setting.generator, setting.problem.bounds, setting.candidates))


def additive(setting: Setting) -> None:
    """Score random architectures, fit a sum over layers to them, and score the best sums within the bounds.

    The random ones tell nothing about the bounds: one fit answers any of them.
    """
    problem = setting.problem
    model = setting.additive or fit_to_random(problem, setting.fitted)
    bounds = problem.bounds or [Bound(table, table.maximum) for table in setting.costs[:1]]
    problem.evaluate(model.ranked(bounds, setting.candidates))


def nsga2(setting: Setting) -> None:
    """Search a front over score and costs instead of one network (NSGA-II)."""
    search_front(setting.problem, setting.population, setting.generations, setting.costs)


STRATEGIES: Registry[Strategy] = Registry("strategy")
STRATEGIES.register("random", random_search)
for _strategy in (generator, additive, evolution, greedy, nsga2):
    STRATEGIES.register(_strategy.__name__, _strategy)
