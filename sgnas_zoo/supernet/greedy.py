"""The greedy path sampler: train the more promising of the paths that were drawn (GreedyNAS)."""

from __future__ import annotations

import math
import random
from typing import Any

from sgnas_zoo.errors import SpaceError, TrainingError
from sgnas_zoo.spaces import Arch
from sgnas_zoo.supernet.samplers import SAMPLERS, TRIES, Sampling, step_rng

DRAWN, KEPT = 10, 5
"""Paths of a round that are scored, and those of them that are trained."""
POOL_SIZE, POOL_PROB = 1000, 0.8
"""Size of the candidate pool, and the probability at the end of training that a path is drawn from it."""
WARMUP = 1 / 15
"""Share of the steps before the first round: 10,000 of 150,000 in a released implementation."""


class GreedySampler:
    """Greedy multi-path sampling with a candidate pool (GreedyNAS, 2003.11236; numbers of a released implementation).

    A round draws ten paths, each from the pool with a probability that rises from 0 to 0.8, else uniformly; the five
    with the lowest loss on surrogate images are trained, one after the other, before the next round. They also enter
    the pool, which keeps the 1,000 with the lowest losses, each as it was when last scored. Before the rounds there is
    a share of uniform steps. All that is drawn follows from seed, step and losses, and the rest is in ``state_dict``.

    Args:
        sampling: Space, seed and so on; ``loss`` is needed.

    Raises:
        SpaceError: If there is no ``loss``, or no path is found that ``fits``.
    """

    def __init__(self, sampling: Sampling) -> None:
        if sampling.loss is None:
            raise SpaceError("The greedy sampler ranks paths by their loss on held-out images; add --holdout 0.1.")
        self.evaluations = 0
        self._sampling, self._loss = sampling, sampling.loss
        self._warmup = round(WARMUP * sampling.steps)
        self._pool: dict[Arch, float] = {}
        self._waiting: list[Arch] = []
        self._before: frozenset[Arch] = frozenset()
        if self._uniform(step_rng(sampling.seed, 0)) is None:
            raise SpaceError(
                f"None of {TRIES} random paths of {sampling.space.name} keeps the limit; raise --flops, or leave it "
                "out."
            )

    @property
    def pool(self) -> list[Arch]:
        """The candidate pool, lowest loss first."""
        return list(self._pool)

    def __call__(self, step: int) -> list[Arch]:
        """The architectures of a step.

        Raises:
            TrainingError: If a loss is not finite.
        """
        rng, paths = step_rng(self._sampling.seed, step), self._sampling.paths
        while len(self._waiting) < paths:
            self._waiting += self._round(rng, step) if step >= self._warmup else self._distinct(rng, paths, 0.0)
        drawn, self._waiting = self._waiting[:paths], self._waiting[paths:]
        return drawn

    def pool_prob(self, step: int) -> float:
        """Probability that a path of a round is drawn from the pool: from 0 to 0.8 in a line."""
        rounds = max(self._sampling.steps - 1 - self._warmup, 1)
        return POOL_PROB * min(max(step - self._warmup, 0) / rounds, 1.0)

    def renewed(self) -> float:
        """Share of the pool that was not in it when this was last asked; 1 until the pool is full.

        Where it falls to 0.08 over an epoch, the supernet ranks paths steadily and training may end (GreedyNAS,
        stopping by the candidate pool).
        """
        before, self._before = self._before, frozenset(self._pool)
        return len(self._before - before) / POOL_SIZE if len(self._pool) == POOL_SIZE else 1.0

    def state_dict(self) -> dict[str, Any]:
        """All that is not a function of seed and step, as plain data."""
        return {
            "evaluations": self.evaluations,
            "pool": [[str(arch), loss] for arch, loss in self._pool.items()],
            "waiting": [str(arch) for arch in self._waiting],
            "before": sorted(map(str, self._before)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        parse = self._sampling.space.parse
        self.evaluations = state["evaluations"]
        self._pool = {parse(arch): loss for arch, loss in state["pool"]}
        self._waiting = [parse(arch) for arch in state["waiting"]]
        self._before = frozenset(map(parse, state["before"]))

    def _round(self, rng: random.Random, step: int) -> list[Arch]:
        """Draw, score, and keep the better half: of what was drawn, not of the pool."""
        drawn = self._distinct(rng, DRAWN, self.pool_prob(step))
        losses = dict(zip(drawn, self._loss(drawn), strict=True))
        self.evaluations += len(drawn)
        for path, loss in losses.items():
            if not math.isfinite(loss):
                raise TrainingError(
                    f"The loss of {path} on the surrogate images at step {step} is not finite. The last checkpoint is "
                    "kept; start again with a lower --lr or with --clip-grad."
                )
        kept = sorted(drawn, key=lambda path: losses[path])[:KEPT]
        pool = {**self._pool, **{path: loss for path, loss in losses.items() if path in kept or path in self._pool}}
        self._pool = dict(sorted(pool.items(), key=lambda item: item[1])[:POOL_SIZE])
        return kept

    def _distinct(self, rng: random.Random, count: int, pool_prob: float) -> list[Arch]:
        """Up to ``count`` different paths: all that the space has, if it has fewer."""
        pool, drawn = list(self._pool), dict[Arch, None]()
        for _ in range(10 * count):
            path = rng.choice(pool) if pool and rng.random() < pool_prob else self._uniform(rng)
            if path is not None:
                drawn[path] = None
            if len(drawn) == count:
                break
        return list(drawn)

    def _uniform(self, rng: random.Random) -> Arch | None:
        """A uniform path that fits, if luck allows."""
        fits = self._sampling.fits
        tries = (self._sampling.space.sample(rng) for _ in range(TRIES))
        return next((path for path in tries if fits is None or fits(path)), None)


SAMPLERS.register("greedy", GreedySampler)
