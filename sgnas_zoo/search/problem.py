"""What a search strategy works on: a space, bounds, and scores that are computed once per architecture."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import torch

from sgnas_zoo.costs import CostTable
from sgnas_zoo.search.bounds import ROUNDING, Bound
from sgnas_zoo.search.decode import decode
from sgnas_zoo.search.relaxation import log_probs
from sgnas_zoo.spaces import Arch, SearchSpace

Score = Callable[[Sequence[Arch]], Sequence[float]]
"""Scores architectures, higher is better: held-out accuracy of inherited weights, for one."""

TRIES = 100
"""Uniform draws before an architecture within the bounds is decoded instead."""


class Problem:
    """A search: which architectures of a space score best within bounds.

    Everything that a strategy draws comes from ``rng``, so that a search is a function of its seed and the scores.

    Args:
        space: The space.
        bounds: Upper bounds, one limit each.
        score: Gives the scores of architectures; it is asked once about each.
        seed: Seeds ``rng``.

    Raises:
        BudgetError: If no architecture keeps all bounds: it is refused before anything is scored.
    """

    def __init__(self, space: SearchSpace, bounds: Sequence[Bound], score: Score, seed: int = 0) -> None:
        self.space, self.bounds, self.rng = space, tuple(bounds), random.Random(seed)
        self.scores: dict[Arch, float] = {}
        self._known: dict[Arch, float] = {}
        self._score = score
        if bounds:
            self._decoded(np.zeros(space.shape))

    def fits(self, arch: Arch) -> bool:
        """Whether an architecture keeps every bound."""
        return all(b.table.measure(arch) <= _limit(b) * (1 + ROUNDING) for b in self.bounds)

    @property
    def evaluations(self) -> int:
        """How many architectures were scored."""
        return len(self._known)

    def evaluate(self, archs: Sequence[Arch]) -> list[float]:
        """Scores of candidates, from which the answer comes; those without one are scored, in one call and in order."""
        found = self.look_at(archs)
        self.scores.update(zip(archs, found, strict=True))
        return found

    def look_at(self, archs: Sequence[Arch]) -> list[float]:
        """Scores of architectures that are not candidates by that: they need not keep the bounds."""
        fresh = [arch for arch in dict.fromkeys(archs) if arch not in self._known]
        if fresh:
            self._known.update(zip(fresh, self._score(fresh), strict=True))
        return [self._known[arch] for arch in archs]

    def draw(self) -> Arch:
        """Draw an architecture within the bounds: uniformly if luck allows, else by decoding random scores."""
        for _ in range(TRIES):
            arch = self.space.sample(self.rng)
            if self.fits(arch):
                return arch
        noise = np.random.default_rng(self.rng.getrandbits(64)).gumbel(size=self.space.shape)
        return self._decoded(noise)

    def fresh(self, count: int, propose: Callable[[], Arch], taken: Sequence[Arch] = ()) -> list[Arch]:
        """Up to ``count`` different architectures that fit and have no score, in ten times as many attempts.

        Args:
            count: How many.
            propose: Makes one.
            taken: Those that do not count either.
        """
        found = dict.fromkeys(taken)
        for _ in range(10 * count):
            if len(found) == count + len(taken):
                break
            arch = propose()
            if arch not in self.scores and self.fits(arch):
                found[arch] = None
        return [*found][len(taken) :]

    def best(self, count: int) -> list[Arch]:
        """The ``count`` candidates with the highest scores; of equal ones, those that were found first."""
        return sorted(self.scores, key=lambda arch: -self.scores[arch])[:count]

    def front(self, costs: Sequence[CostTable]) -> list[Arch]:
        """Candidates that none other beats: no worse in score and every cost, better in one of them."""
        points = {arch: (-score, *(table.measure(arch) for table in costs)) for arch, score in self.scores.items()}
        return [arch for arch, own in points.items() if not any(_dominates(other, own) for other in points.values())]

    def _decoded(self, scores: np.ndarray) -> Arch:
        """The architecture within the bounds whose choices have the highest sum of ``scores`` (layers, slots, choices).

        Raises:
            BudgetError: If none keeps the bounds.
        """
        return decode(log_probs(self.space, torch.from_numpy(scores)[None]).numpy(), self.bounds)[0].arch


def _limit(bound: Bound) -> float:
    (limit,) = np.atleast_1d(np.asarray(bound.limits, float))
    return float(limit)


def _dominates(first: Sequence[float], second: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(first, second, strict=True)) and tuple(first) != tuple(second)
