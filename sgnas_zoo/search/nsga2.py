"""NSGA-II on architectures: a front over score and costs instead of one network. By pymoo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sgnas_zoo.costs import CostTable
from sgnas_zoo.errors import ModelError
from sgnas_zoo.search.evolution import MUTATION
from sgnas_zoo.search.problem import Problem
from sgnas_zoo.spaces import Arch

ATTEMPTS = 10
"""Mutations or crossovers until one keeps the bounds; after that the parent stays as it is."""


def search_front(problem: Problem, population: int, generations: int, costs: Sequence[CostTable]) -> None:
    """Search the front of score and costs with NSGA-II (Deb et al., 2002).

    Every candidate keeps the bounds, so that no generation is without a feasible one.

    Args:
        problem: What to search; it keeps the scores.
        population: Architectures of a generation.
        generations: Generations after the first.
        costs: Costs to keep low, beside a high score.

    Raises:
        ModelError: If pymoo is not installed.
    """
    try:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.crossover import Crossover
        from pymoo.core.duplicate import ElementwiseDuplicateElimination
        from pymoo.core.mutation import Mutation
        from pymoo.core.problem import Problem as Objectives
        from pymoo.core.sampling import Sampling
        from pymoo.optimize import minimize
    except ImportError as error:
        raise ModelError("nsga2 needs pymoo; install it with: pip install 'sgnas-zoo[search]'") from error
    space, rng = problem.space, problem.rng

    class Candidates(Objectives):  # type: ignore[misc]
        def _evaluate(self, x: Any, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            archs = [row[0] for row in x]
            scores = problem.evaluate(archs)
            rows = [[-s, *(t.measure(a) for t in costs)] for s, a in zip(scores, archs, strict=True)]
            out["F"] = np.array(rows, float)

    class Draw(Sampling):  # type: ignore[misc]
        def _do(self, _problem: Any, n_samples: int, *args: Any, **kwargs: Any) -> Any:
            return _column([problem.draw() for _ in range(n_samples)])

    class Cross(Crossover):  # type: ignore[misc]
        def _do(self, _problem: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
            pairs = [(first[0], second[0]) for first, second in zip(*x, strict=True)]
            children = [_fitting(problem, first, lambda a=first, b=second: space.crossover(a, b, rng))
                        for first, second in pairs]  # fmt: skip
            return _column(children)[None]

    class Mutate(Mutation):  # type: ignore[misc]
        def _do(self, _problem: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
            return _column([_fitting(problem, own, lambda a=own: space.mutate(a, rng, MUTATION)) for (own,) in x])

    class Same(ElementwiseDuplicateElimination):  # type: ignore[misc]
        def is_equal(self, a: Any, b: Any) -> bool:
            return bool(a.X[0] == b.X[0])

    method = NSGA2(
        pop_size=population, sampling=Draw(), crossover=Cross(n_parents=2, n_offsprings=1, prob=0.5),
        mutation=Mutate(prob=1.0), eliminate_duplicates=Same(),
    )  # fmt: skip
    objectives = Candidates(n_var=1, n_obj=1 + len(costs), n_ieq_constr=0)
    minimize(objectives, method, ("n_gen", 1 + generations), seed=rng.getrandbits(31), verbose=False)


def _fitting(problem: Problem, parent: Arch, propose: Any) -> Arch:
    """What ``propose`` makes once it keeps the bounds, or the parent."""
    made = (propose() for _ in range(ATTEMPTS))
    return next((arch for arch in made if problem.fits(arch)), parent)


def _column(archs: Sequence[Arch]) -> Any:
    """An array (N, 1) of objects, as pymoo wants custom variables."""
    column = np.empty((len(archs), 1), dtype=object)
    column[:, 0] = archs
    return column
