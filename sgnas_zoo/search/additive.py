"""Scores as a sum over layers: fitted to some architectures, it answers any bounds by the exact decode.

A supernet's accuracy is nearly additive: a constant, and a worth of every choice at its place. A few hundred scored
architectures tell these by ridge regression; what keeps any bounds and sums to most is then found in milliseconds. Its
worth is judged as it is fitted, by what each architecture is predicted to score without its own score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sgnas_zoo.errors import BudgetError
from sgnas_zoo.search.decode import Bound, Decoded, decode_ranked
from sgnas_zoo.search.knapsack import Floats
from sgnas_zoo.search.problem import Problem
from sgnas_zoo.search.relaxation import allowed_mask
from sgnas_zoo.spaces import Arch, SearchSpace

FEWEST = 3
"""Scores that a fit needs."""

STRENGTHS = np.logspace(-3, 3, 25)
"""Ridge penalties that are tried, relative to the mean variance of the features."""


@dataclass(frozen=True, eq=False)
class AdditiveModel:
    """A constant and the worths of choices, of which an architecture's score is the sum.

    Args:
        space: The space.
        constant: Mean score of what it was fitted to.
        worths: (layers, slots, choices), in the unit of the scores.
        error: Root mean square of what is predicted wrongly of a score that the fit does not know (leave-one-out).
        spread: Standard deviation of the scores, which ``error`` is to be compared with.
    """

    space: SearchSpace
    constant: float
    worths: Floats
    error: float
    spread: float

    def predict(self, archs: Sequence[Arch]) -> Floats:
        """Predicted scores (N,) of N architectures of the space."""
        return np.asarray(self.constant + _one_hot(archs) @ self.worths.ravel(), np.float64)

    def ranked(self, bounds: Sequence[Bound], count: int) -> list[Decoded]:
        """The ``count`` architectures within the bounds that are predicted to score highest, best first.

        Raises:
            BudgetError: If no architecture keeps the bounds.
        """
        allowed = allowed_mask(self.space).numpy()
        return decode_ranked(np.where(allowed, self.worths, -np.inf), bounds, count)


def fit_additive(archs: Sequence[Arch], scores: Sequence[float]) -> AdditiveModel:
    """Fit worths to scored architectures by ridge regression.

    A choice may be worth the same in all slots of a layer, or something else in each; that and the penalty are what
    predicts left-out scores best (in closed form: Hastie, Tibshirani and Friedman, The Elements of Statistical
    Learning, 2009, section 7.10).

    Args:
        archs: Different architectures of one space, drawn at random so that every choice is met.
        scores: Their scores, finite.

    Raises:
        BudgetError: If they are fewer than three.
    """
    if len(archs) < FEWEST:
        raise BudgetError(f"A sum over layers needs {FEWEST} scores at least, not {len(archs)}; score more paths.")
    space, y = archs[0].space, np.asarray(scores, np.float64)
    layers, slots, choices = space.shape
    single = _one_hot(archs)
    shared = single.reshape(-1, layers, slots, choices).sum(2).reshape(len(archs), -1)
    error, worths, is_shared = min(
        ((*_ridge(features, y), features is shared) for features in ((single, shared) if slots > 1 else (single,))),
        key=lambda found: found[0],
    )
    worths = np.repeat(worths.reshape(layers, 1, choices), slots, 1) if is_shared else worths.reshape(space.shape)
    constant = float(y.mean() - (single @ worths.ravel()).mean())
    return AdditiveModel(space, constant, worths, error, float(y.std()))


def fit_to_random(problem: Problem, count: int) -> AdditiveModel:
    """Score random architectures, whether they keep the bounds or not, and fit to them; none is a candidate by that.

    Args:
        problem: What to search; it keeps the scores.
        count: Different architectures to score, as far as the space has so many.

    Raises:
        BudgetError: If the space has fewer than three.
    """
    tries = (problem.space.sample(problem.rng) for _ in range(10 * count))
    drawn: dict[Arch, None] = {}
    for arch in tries:
        drawn[arch] = None
        if len(drawn) == count:
            break
    return fit_additive([*drawn], problem.look_at([*drawn]))


def _one_hot(archs: Sequence[Arch]) -> Floats:
    """(N, layers * slots * choices), one at each choice that is picked."""
    picks = torch.tensor([arch.picks for arch in archs])
    hot = torch.nn.functional.one_hot(picks, len(archs[0].space.choices))
    return np.asarray(hot.flatten(1).double().numpy(), np.float64)


def _ridge(features: Floats, y: Floats) -> tuple[float, Floats]:
    """Least leave-one-out error over the penalties, and the coefficients (features,) of that one."""
    centred, target = features - features.mean(0), y - y.mean()
    vectors, singular, right = np.linalg.svd(centred, full_matrices=False)
    squares, turned = singular**2, vectors.T @ target
    best: tuple[float, Floats] | None = None
    for penalty in STRENGTHS * max(squares.mean(), 1e-12):
        kept = squares / (squares + penalty)
        wrong = target - vectors @ (kept * turned)
        free = 1 - 1 / len(y) - (vectors**2 * kept).sum(1)
        error = float(np.sqrt(((wrong / free.clip(1e-12)) ** 2).mean()))
        if best is None or error < best[0]:
            best = error, right.T @ (singular / (squares + penalty) * turned)
    assert best is not None
    return best
