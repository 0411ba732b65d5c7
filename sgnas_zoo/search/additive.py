"""Scores as a sum over layers: fitted to some architectures, it answers any bounds by an exact solver.

A supernet's accuracy is nearly additive: a constant, and a worth of every choice at its place. A few hundred scored
architectures tell these by ridge regression; where it predicts left-out scores better, what the choices of two
neighbouring layers are worth together is added. What keeps any bounds and sums to most is then found in milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from sgnas_zoo.errors import BudgetError
from sgnas_zoo.search.bounds import ROUNDING, Bound, apart, within
from sgnas_zoo.search.chain import Chain, best_in_chain
from sgnas_zoo.search.decode import decode_ranked
from sgnas_zoo.search.knapsack import Floats
from sgnas_zoo.search.problem import Problem
from sgnas_zoo.search.ranking import ranked
from sgnas_zoo.search.relaxation import allowed_mask
from sgnas_zoo.spaces import Arch, SearchSpace

FEWEST = 3
"""Scores that a fit needs."""

MOST_PAIRED = 16
"""Choices of a layer up to which pairs are tried: there are as many as its square."""

PAIRED = (0.1, 0.3, 1.0)
"""How freely pairs may differ from nothing, relative to single choices, that is tried."""

STRENGTHS = np.logspace(-3, 3, 25)
"""Ridge penalties that are tried, relative to the mean variance of the features."""


@dataclass(frozen=True, eq=False)
class AdditiveModel:
    """A constant and the worths of choices, of which an architecture's score is the sum.

    Args:
        space: The space.
        constant: What is added to the worths.
        worths: (layers, slots, choices), in the unit of the scores.
        pairs: (layers - 1, choices, choices), what the choices of a layer and the next are worth together; None where
            that did not help, or a layer has several slots or too many choices.
        error: Root mean square of what is predicted wrongly of a score that the fit does not know (leave-one-out).
        spread: Standard deviation of the scores, which ``error`` is to be compared with.
    """

    space: SearchSpace
    constant: float
    worths: Floats
    pairs: Floats | None
    error: float
    spread: float

    def predict(self, archs: Sequence[Arch]) -> Floats:
        """Predicted scores (N,) of N architectures of the space."""
        total = self.constant + _one_hot(archs) @ self.worths.ravel()
        if self.pairs is not None:
            total = total + _neighbours(archs) @ self.pairs.ravel()
        return np.asarray(total, np.float64)

    def ranked(self, bounds: Sequence[Bound], count: int) -> list[Arch]:
        """The ``count`` architectures within the bounds that are predicted to score highest, best first.

        Raises:
            BudgetError: If no architecture keeps the bounds.
        """
        scores = np.where(allowed_mask(self.space).numpy(), self.worths, -np.inf)
        if self.pairs is None:
            return [answer.arch for answer in decode_ranked(scores, bounds, count)]
        chain = _chain(self.space, scores[:, 0], self.pairs, bounds)
        found = ranked(chain.values, lambda values: best_in_chain(chain._replace(values=values)), count)
        if not found:
            decode_ranked(scores, bounds, 1)  # fails, and says why
        return [self.space.arch(picks[:, None].tolist()) for picks in found]


def fit_additive(archs: Sequence[Arch], scores: Sequence[float]) -> AdditiveModel:
    """Fit worths to scored architectures by ridge regression.

    A choice may be worth the same in all slots of a layer, or something else in each, and pairs may count; that and the
    penalty are what predicts left-out scores best (in closed form: Hastie, Tibshirani and Friedman, The Elements of
    Statistical Learning, 2009, section 7.10).

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
    error, found = _ridge(single, y)
    worths, pairs = found.reshape(space.shape), None
    if slots > 1:
        shared = single.reshape(-1, layers, slots, choices).sum(2).reshape(len(archs), -1)
        other, found = _ridge(shared, y)
        if other < error:
            error, worths = other, np.repeat(found.reshape(layers, 1, choices), slots, 1)
    elif layers > 1 and choices <= MOST_PAIRED:
        both = _neighbours(archs)
        for freedom in PAIRED:
            other, found = _ridge(np.hstack([single, freedom * both]), y)
            if other < error:
                error, worths = other, found[: single.shape[1]].reshape(space.shape)
                pairs = freedom * found[single.shape[1] :].reshape(layers - 1, choices, choices)
    model = AdditiveModel(space, 0.0, worths, pairs, error, float(y.std()))
    return replace(model, constant=float((y - model.predict(archs)).mean()))


def fit_to_random(problem: Problem, count: int) -> AdditiveModel:
    """Score random architectures, whether they keep the bounds or not, and fit to them; none is a candidate by that.

    Args:
        problem: What to search; it keeps the scores.
        count: Different architectures to score, as far as the space has so many.

    Raises:
        BudgetError: If the space has fewer than three.
    """
    drawn = problem.space.sample_several(problem.rng, count)
    return fit_additive(drawn, problem.look_at(drawn))


def _one_hot(archs: Sequence[Arch]) -> Floats:
    """(N, layers * slots * choices), one at each choice that is picked."""
    picks = torch.tensor([arch.picks for arch in archs])
    hot = torch.nn.functional.one_hot(picks, len(archs[0].space.choices))
    return np.asarray(hot.flatten(1).double().numpy(), np.float64)


def _neighbours(archs: Sequence[Arch]) -> Floats:
    """(N, (layers - 1) * choices * choices), one at each pair that neighbouring layers of one slot pick."""
    layers, _, choices = archs[0].space.shape
    hot = _one_hot(archs).reshape(len(archs), layers, choices)
    return np.asarray((hot[:, :-1, :, None] * hot[:, 1:, None, :]).reshape(len(archs), -1), np.float64)


def _chain(space: SearchSpace, values: Floats, pairs: Floats, bounds: Sequence[Bound]) -> Chain:
    """The problem of one slot a layer: values (layers, choices) within bounds."""
    sums, ceilings = apart(bounds)
    weights, allowed = np.zeros((*values.shape, max(1, len(sums)))), within(ceilings, 1)[0] if ceilings else None
    values = values.copy()
    for layer, slots in enumerate(space.layers):
        position = space.merge(layer).position
        for choice in slots.allowed[0]:
            variant = position[space.variant((choice,))]
            weights[layer, choice, : len(sums)] = [bound.table.layers[layer][variant] for bound in sums]
            if allowed is not None and not allowed[layer, variant]:
                values[layer, choice] = -np.inf
    limits = [float(bound.limits) * (1 + ROUNDING) - bound.table.fixed for bound in sums]  # type: ignore[arg-type]
    return Chain(values, pairs, weights, np.array(limits or [0.0]))


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
