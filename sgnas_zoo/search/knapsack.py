"""An exact multiple-choice knapsack with one row, solved for many problems at once; ``windows`` has those of several.

Pick one variant per layer so that the summed value is largest and the summed weight stays within its limit. The
Lagrangian dual bounds the value from above; what a pick loses against that bound is a sum over layers, so all picks
that lose no more than an ``allowance`` can be listed layer by layer, few as they are. The allowance grows until the
best of the list is proven best. (Both ideas: Kellerer, Pferschy and Pisinger, Knapsack Problems, 2004, chapter 11.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

WIDEN = 3.0
"""Growth of the allowance from one round to the next."""

TIE = 1e-12
"""Losses that differ by less are equal: rounding of sums of log-probabilities."""


LONGEST = 2000
"""Partial picks of a problem that are listed; one of more is left unsolved: nearly all picks are worth the same."""


class _Problems(NamedTuple):
    """N problems ready to be listed: losses (N, layers, variants), weights (layers, variants), limits, multipliers."""

    losses: Floats
    weights: Floats
    limits: Floats
    multipliers: Floats

    def take(self, index: Ints) -> _Problems:
        return _Problems(self.losses[index], self.weights, self.limits[index], self.multipliers[index])


class _Listing(NamedTuple):
    """Partial picks of all problems: whose they are, what they lose and weigh, and how they came about."""

    owner: Ints
    loss: Floats
    load: Floats
    parent: Ints
    variant: Ints

    def take(self, index: Ints) -> _Listing:
        return _Listing(self.owner[index], self.loss[index], self.load[index], self.parent[index], self.variant[index])


def solve(values: Floats, weights: Floats, limits: Floats) -> tuple[Ints, Bools]:
    """Maximise summed value with the summed weight within a limit.

    Args:
        values: (N, layers, variants); ``-inf`` marks a variant that does not exist.
        weights: (layers, variants), of either sign: for a lower bound turn all signs.
        limits: (N,), upper bounds on the summed weight.

    Returns:
        The best picks (N, layers), proven to be best, -1 where nothing fits; and whether a problem is solved (N,).
    """
    picks: Ints = values.argmax(2)
    solved = np.ones(len(values), bool)
    left = np.flatnonzero(weigh(weights, picks) > limits)
    if left.size:
        picks[left], solved[left] = _search(values[left], weights, limits[left])
    return picks, solved


def weigh(weights: Floats, picks: Ints) -> Floats:
    """Summed weights (N,) of picks (N, layers)."""
    return np.asarray(weights[np.arange(len(weights)), picks].sum(1), np.float64)


def _search(values: Floats, weights: Floats, limits: Floats) -> tuple[Ints, Bools]:
    """Solve by lists of growing allowance."""
    multipliers = _multipliers(values, weights, limits)
    reduced = values - multipliers[:, None, None] * weights
    problems = _Problems(reduced.max(2, keepdims=True) - reduced, weights, limits, multipliers)
    positive = np.where(problems.losses > TIE, problems.losses, np.inf)
    ceiling = _ceiling(problems)
    allowance = np.minimum(positive.min((1, 2)), ceiling)  # the least that any change of variant loses
    picks, left = np.full(values.shape[:2], -1), np.arange(len(values))
    solved = np.ones(len(values), bool)
    while left.size:
        picks[left], loss, solved[left] = _list(problems.take(left), allowance[left])
        done = (loss <= allowance[left] * (1 + TIE) + TIE) | (allowance[left] >= ceiling[left])
        left = left[~done & solved[left]]
        allowance[left] *= WIDEN
    return picks, solved


def _ceiling(problems: _Problems) -> Floats:
    """A loss (N,) that no picks exceed: worst variant of every layer, lightest load."""
    exists = np.isfinite(problems.losses)
    worst = np.where(exists, problems.losses, 0.0).max(2).sum(1)
    lightest = np.where(exists, problems.weights, np.inf).min(2).sum(1)
    return np.asarray(worst + (problems.multipliers * (problems.limits - lightest)).clip(0) + TIE)


def _multipliers(values: Floats, weights: Floats, limits: Floats) -> Floats:
    """Minimum (N,) of the dual: secants between a pick that is too heavy and one that fits."""
    heavy = _tally(values, weights, values)
    light = _tally(values, weights, np.where(np.isfinite(values), -weights, -np.inf))
    multiplier = np.zeros(len(values))
    left = np.flatnonzero((heavy[:, 1] > limits) & (light[:, 1] <= limits))
    while left.size:
        fall = heavy[left] - light[left]
        slope = multiplier[left] = fall[:, 0] / fall[:, 1]
        middle = _tally(values[left], weights, values[left] - slope[:, None, None] * weights)
        gain = (middle - heavy[left]) @ np.array([1.0, 0.0]) - slope * (middle - heavy[left])[:, 1]
        moved = gain > 1e-9 * (1 + np.abs(heavy[left, 0]))
        left, middle = left[moved], middle[moved]
        over = middle[:, 1] > limits[left]
        heavy[left[over]], light[left[~over]] = middle[over], middle[~over]
    return multiplier


def _tally(values: Floats, weights: Floats, score: Floats) -> Floats:
    """Summed (value, weight) (N, 2) of the picks that maximise ``score`` in every layer."""
    best = score.argmax(2)
    return np.stack([np.take_along_axis(values, best[..., None], 2).sum((1, 2)), weigh(weights, best)], 1)


def _list(problems: _Problems, allowance: Floats) -> tuple[Ints, Floats, Bools]:
    """List all picks that lose at most ``allowance`` (N,).

    Returns:
        The best picks (N, layers), their losses (N,), ``inf`` where there are none, and whether the list of a problem
        did not grow too long (N,).
    """
    losses, weights, limits, multipliers = problems
    number, layers, _ = losses.shape
    keep = losses <= allowance[:, None, None]
    light = _rest(np.where(keep, weights, np.inf).min(2))
    heavy = _rest(np.where(keep, weights, -np.inf).max(2))
    counts = keep.sum(2)
    starts = counts.cumsum().reshape(counts.shape) - counts
    kept = np.nonzero(keep)
    loss_of, weight_of, variant_of = losses[kept], weights[kept[1:]], kept[2]
    none = np.zeros(number, np.int64)
    listing = _Listing(np.arange(number), np.zeros(number), np.zeros(number), none, none)
    history, short = [], np.ones(number, bool)
    for layer in range(layers):
        parent, child = _pairs(counts[listing.owner, layer], starts[listing.owner, layer])
        owner = listing.owner[parent]
        grown = _Listing(
            owner, listing.loss[parent] + loss_of[child], listing.load[parent] + weight_of[child],
            parent, variant_of[child],
        )  # fmt: skip
        slack = (limits[owner] - grown.load - heavy[owner, layer + 1]).clip(0)  # is left over, whatever follows
        possible = grown.loss + multipliers[owner] * slack <= allowance[owner]
        possible &= grown.load + light[owner, layer + 1] <= limits[owner]
        listing = grown.take(np.flatnonzero(possible))
        if np.bincount(listing.owner, minlength=number).max(initial=0) >= 64:  # else it is not worth the sorting
            listing = listing.take(_undominated(listing, multipliers))
            short &= np.bincount(listing.owner, minlength=number) <= LONGEST
            listing = listing.take(np.flatnonzero(short[listing.owner]))
        history.append(listing)
    final = listing.loss + multipliers[listing.owner] * (limits[listing.owner] - listing.load)
    order = np.lexsort((final, listing.owner))
    first = order[np.unique(listing.owner[order], return_index=True)[1]]
    picks, best = np.full((number, layers), -1), np.full(number, np.inf)
    owner, best[listing.owner[first]] = listing.owner[first], final[first]
    for layer in reversed(range(layers)):
        picks[owner, layer] = history[layer].variant[first]
        first = history[layer].parent[first]
    return picks, best, short


def _rest(per_layer: Floats) -> Floats:
    """Sums (N, layers + 1) over each layer and all that follow it, with a zero at the end."""
    sums = np.zeros((per_layer.shape[0], per_layer.shape[1] + 1))
    sums[:, :-1] = per_layer[:, ::-1].cumsum(1)[:, ::-1]
    return sums


def _pairs(counts: Ints, starts: Ints) -> tuple[Ints, Ints]:
    """Every partial pick with every kept variant of its next layer, as two index arrays."""
    parent = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(parent)) - np.repeat(counts.cumsum() - counts, counts)
    return parent, starts[parent] + within


def _undominated(listing: _Listing, multipliers: Floats) -> Ints:
    """Indices of partial picks, less those than which another of the problem is as light and as valuable.

    Sorted by load, a pick needs comparing only with the most valuable before it.
    """
    value = multipliers[listing.owner] * listing.load - listing.loss
    order = np.lexsort((-value, listing.load, listing.owner))
    owner, value = listing.owner[order], value[order]
    value += owner * (2 * np.abs(value).max(initial=0.0) + 1)  # each problem starts above all before it
    needed = np.ones(len(order), bool)
    needed[1:] = value[1:] > np.maximum.accumulate(value)[:-1]
    return order[needed]
