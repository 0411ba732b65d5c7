"""Searches that score many candidates: SPOS's evolution, the same from a candidate pool, and random search."""

from __future__ import annotations

from collections.abc import Sequence

from sgnas_zoo.search.problem import Problem
from sgnas_zoo.spaces import Arch

PARENTS = 10
"""Best architectures so far that children come from."""

MUTATION = 0.1
"""Probability that a slot is drawn anew."""


def evolve(problem: Problem, population: int, generations: int, initial: Sequence[Arch] = ()) -> None:
    """Evolve architectures (SPOS, 1904.00420, algorithm 1; numbers of the released search).

    Parents are the ten best so far. Half of each generation are mutations of one, half crossovers of two; what was
    scored before, or breaks a bound, is drawn again, and random ones fill up.

    Args:
        problem: What to search; it keeps the scores.
        population: Architectures of the first generation and of each further one.
        generations: Further generations; ``population * (1 + generations)`` scores in all.
        initial: Architectures to begin with, best first (GreedyNAS, 2003.11236: the candidate pool).
    """
    space, rng = problem.space, problem.rng
    known = [arch for arch in dict.fromkeys(initial) if problem.fits(arch)][:population]
    problem.evaluate(_filled(problem, population, known))
    for _ in range(generations):
        parents = problem.best(PARENTS)
        half = population // 2
        mutated = problem.fresh(half, lambda own=parents: space.mutate(rng.choice(own), rng, MUTATION))  # type: ignore[misc]
        crossed = problem.fresh(
            population - half,
            lambda own=parents: space.crossover(rng.choice(own), rng.choice(own), rng),  # type: ignore[misc]
            mutated,
        )
        children = _filled(problem, population, [*mutated, *crossed])
        if not children:  # the space holds no more
            return
        problem.evaluate(children)


def search_randomly(problem: Problem, population: int, generations: int) -> None:
    """Score as many random architectures as evolution would."""
    for _ in range(1 + generations):
        problem.evaluate(_filled(problem, population, []))


def _filled(problem: Problem, count: int, archs: list[Arch]) -> list[Arch]:
    """``archs`` and random ones, as many as ``count`` where there are so many."""
    return archs + problem.fresh(count - len(archs), problem.draw, archs)
