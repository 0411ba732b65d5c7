"""An exact multiple-choice knapsack, solved for many problems at once.

Pick one variant per layer so that the summed value is largest and every row of weights stays within its limit. The
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

STATES = 400
"""Most partial picks kept per problem and layer; only problems with several tight rows come near it."""

PATIENCE = 3
"""Lists that may be cut without finding any picks, before a problem is given up."""

AT_ONCE = 16
"""Problems with several tight rows that are listed together: a bound on memory."""

WIDEN = 3.0
"""Growth of the allowance from one round to the next."""

TIE = 1e-12
"""Losses that differ by less are equal: rounding of sums of log-probabilities."""


class Solution(NamedTuple):
    """The best picks (N, layers), -1 where nothing fits, and whether each is proven to be best (N,)."""

    picks: Ints
    proven: Bools


class _Problems(NamedTuple):
    """N problems ready to be listed: losses (N, layers, variants), weights (..., rows), limits and multipliers."""

    losses: Floats
    weights: Floats
    limits: Floats
    multipliers: Floats

    def take(self, index: Ints) -> _Problems:
        return _Problems(*(field[index] for field in self))


class _Listing(NamedTuple):
    """Partial picks of all problems: whose they are, what they lose and weigh, and how they came about."""

    owner: Ints
    loss: Floats
    load: Floats
    parent: Ints
    variant: Ints

    def take(self, index: Ints) -> _Listing:
        return _Listing(self.owner[index], self.loss[index], self.load[index], self.parent[index], self.variant[index])


def solve(values: Floats, weights: Floats, limits: Floats) -> Solution:
    """Maximise summed value with summed weights within limits.

    Args:
        values: (N, layers, variants); ``-inf`` marks a variant that does not exist.
        weights: (layers, variants, rows), of either sign: a lower bound is a row with its signs turned.
        limits: (N, rows), upper bounds on the summed weights.

    Returns:
        The best picks. They are proven unless lists had to be cut, as several tight rows or exact ties can make it.
    """
    picks, proven = values.argmax(2), np.ones(len(values), bool)
    excess = (load(weights, picks) - limits) / (np.abs(limits) + TIE)
    left = np.flatnonzero((excess > 0).any(1))
    order = (-excess).argsort(1)
    for rank in range(limits.shape[1]):
        # One violated row alone, the worst first: where its best picks fit all rows, they are the answer.
        row = order[left, rank]
        violated = excess[left, row] > 0
        some, row = left[violated], row[violated]
        alone = weights.transpose(2, 0, 1)[row][..., None]
        picks[some], proven[some] = _search(values[some], alone, limits[some, row][:, None])
        fits = (picks[some, 0] < 0) | (load(weights, picks[some]) <= limits[some]).all(1)
        left = np.setdiff1d(left, some[fits])
    for some in np.array_split(left, -(-left.size // AT_ONCE)) if left.size else ():
        every = np.broadcast_to(weights, (some.size, *weights.shape))
        picks[some], proven[some] = _search(values[some], every, limits[some])
    return Solution(picks, proven)


def upper_bound(values: Floats, weights: Floats, limits: Floats) -> Floats:
    """A value (N,) that no picks within the limits exceed, from the dual; arguments as for ``solve``."""
    every = np.broadcast_to(weights, (len(values), *weights.shape))
    multipliers = _multipliers(values, every, limits)
    reduced = values - np.einsum("nlgr,nr->nlg", every, multipliers)
    return np.asarray(reduced.max(2).sum(1) + (multipliers * limits).sum(1))


def load(weights: Floats, picks: Ints) -> Floats:
    """Summed weights (N, rows) of picks (N, layers)."""
    return np.asarray(weights[np.arange(len(weights)), picks].sum(1), np.float64)


def _search(values: Floats, weights: Floats, limits: Floats) -> tuple[Ints, Bools]:
    """Solve N problems with weights of their own (N, layers, variants, rows) by lists of growing allowance."""
    multipliers = _multipliers(values, weights, limits)
    reduced = values - np.einsum("nlgr,nr->nlg", weights, multipliers)
    problems = _Problems(reduced.max(2, keepdims=True) - reduced, weights, limits, multipliers)
    positive = np.where(problems.losses > TIE, problems.losses, np.inf)
    ceiling = _ceiling(problems)
    allowance = np.minimum(positive.min((1, 2)), ceiling)  # the least that any change of variant loses
    picks, proven = np.full(values.shape[:2], -1), np.zeros(len(values), bool)
    left, patience = np.arange(len(values)), np.full(len(values), PATIENCE)
    while left.size:
        found, loss, cut = _list(problems.take(left), allowance[left])
        reach = np.minimum(allowance[left], cut)
        certain = loss <= reach + TIE * (1 + reach)
        widest = allowance[left] >= ceiling[left]
        picks[left], proven[left] = found, certain | (widest & np.isinf(cut))
        # A list that was cut proves nothing by growing further: what it found stands, and if it found nothing, a few
        # wider ones may.
        patience[left] -= np.isfinite(cut)
        left = left[~(proven[left] | widest | (np.isfinite(cut) & np.isfinite(loss)) | (patience[left] == 0))]
        allowance[left] *= WIDEN
    return picks, proven


def _ceiling(problems: _Problems) -> Floats:
    """A loss (N,) that no picks exceed: worst variant of every layer, lightest load on every row."""
    exists = np.isfinite(problems.losses)
    worst = np.where(exists, problems.losses, 0.0).max(2).sum(1)
    lightest = np.where(exists[..., None], problems.weights, np.inf).min(2).sum(1)
    return np.asarray(worst + (problems.multipliers * (problems.limits - lightest)).clip(0).sum(1) + TIE)


def _multipliers(values: Floats, weights: Floats, limits: Floats) -> Floats:
    """Multipliers (N, rows) near the minimum of the dual. Any are valid, but good ones keep the lists short."""
    multipliers = np.zeros(limits.shape)
    rows = range(limits.shape[1])
    for _ in range(1 if len(rows) == 1 else 4):  # one row at a time, the others held
        for row in rows:
            multipliers[:, row] = 0.0
            reduced = values - np.einsum("nlgr,nr->nlg", weights, multipliers)
            multipliers[:, row] = _multiplier(reduced, weights[..., row], limits[:, row])
    return multipliers


def _multiplier(values: Floats, weights: Floats, limits: Floats) -> Floats:
    """Minimum (N,) of the dual of one row: secants between a pick that is too heavy and one that fits."""
    heavy = _tally(values, weights, values)
    light = _tally(values, weights, np.where(np.isfinite(values), -weights, -np.inf))
    multiplier = np.zeros(len(values))
    left = np.flatnonzero((heavy[:, 1] > limits) & (light[:, 1] <= limits))
    while left.size:
        fall = heavy[left] - light[left]
        slope = multiplier[left] = fall[:, 0] / fall[:, 1]
        middle = _tally(values[left], weights[left], values[left] - slope[:, None, None] * weights[left])
        gain = (middle - heavy[left]) @ np.array([1.0, 0.0]) - slope * (middle - heavy[left])[:, 1]
        moved = gain > 1e-9 * (1 + np.abs(heavy[left, 0]))
        left, middle = left[moved], middle[moved]
        over = middle[:, 1] > limits[left]
        heavy[left[over]], light[left[~over]] = middle[over], middle[~over]
    return multiplier


def _tally(values: Floats, weights: Floats, score: Floats) -> Floats:
    """Summed (value, weight) (N, 2) of the picks that maximise ``score`` in every layer."""
    best = score.argmax(2)[..., None]
    return np.concatenate([np.take_along_axis(x, best, 2).sum(1) for x in (values, weights)], 1)


def _list(problems: _Problems, allowance: Floats) -> tuple[Ints, Floats, Floats]:
    """List all picks that lose at most ``allowance`` (N,).

    Returns:
        The best picks (N, layers), their losses (N,), ``inf`` where there are none, and the least loss that was cut
        off because a list grew too long (N,), ``inf`` where none was.
    """
    losses, weights, limits, multipliers = problems
    number, layers, _ = losses.shape
    keep = losses <= allowance[:, None, None]
    light = _rest(np.where(keep[..., None], weights, np.inf).min(2))
    heavy = _rest(np.where(keep[..., None], weights, -np.inf).max(2))
    counts = keep.sum(2)
    starts = counts.cumsum().reshape(counts.shape) - counts
    kept = np.nonzero(keep)
    loss_of, weight_of, variant_of = losses[kept], weights[kept], kept[2]
    cut = np.full(number, np.inf)
    none = np.zeros(number, np.int64)
    listing = _Listing(np.arange(number), np.zeros(number), np.zeros(limits.shape), none, none)
    history = []
    for layer in range(layers):
        parent, child = _pairs(counts[listing.owner, layer], starts[listing.owner, layer])
        owner = listing.owner[parent]
        grown = _Listing(
            owner, listing.loss[parent] + loss_of[child], listing.load[parent] + weight_of[child],
            parent, variant_of[child],
        )  # fmt: skip
        slack = (limits[owner] - grown.load - heavy[owner, layer + 1]).clip(0)  # is left over, whatever follows
        possible = grown.loss + (multipliers[owner] * slack).sum(1) <= allowance[owner]
        possible &= (grown.load + light[owner, layer + 1] <= limits[owner]).all(1)
        listing = _thin(grown.take(np.flatnonzero(possible)), problems, cut)
        history.append(listing)
    final = listing.loss + (multipliers[listing.owner] * (limits[listing.owner] - listing.load)).sum(1)
    order = np.lexsort((final, listing.owner))
    first = order[np.unique(listing.owner[order], return_index=True)[1]]
    picks, best = np.full((number, layers), -1), np.full(number, np.inf)
    owner, best[listing.owner[first]] = listing.owner[first], final[first]
    for layer in reversed(range(layers)):
        picks[owner, layer] = history[layer].variant[first]
        first = history[layer].parent[first]
    return picks, best, cut


def _rest(per_layer: Floats) -> Floats:
    """Sums (N, layers + 1, rows) over each layer and all that follow it, with a zero at the end."""
    sums = np.zeros((per_layer.shape[0], per_layer.shape[1] + 1, per_layer.shape[2]))
    sums[:, :-1] = per_layer[:, ::-1].cumsum(1)[:, ::-1]
    return sums


def _pairs(counts: Ints, starts: Ints) -> tuple[Ints, Ints]:
    """Every partial pick with every kept variant of its next layer, as two index arrays."""
    parent = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(parent)) - np.repeat(counts.cumsum() - counts, counts)
    return parent, starts[parent] + within


def _thin(listing: _Listing, problems: _Problems, cut: Floats) -> _Listing:
    """Drop partial picks that another one makes needless, then what is over of lists that are still too long."""
    if np.bincount(listing.owner, minlength=len(cut)).max(initial=0) < 64:  # not worth the sorting
        return listing
    one_or_two = problems.limits.shape[1] < 3
    listing = listing.take(_undominated(listing, problems.multipliers) if one_or_two else _distinct(listing))
    if np.bincount(listing.owner, minlength=len(cut)).max() <= STATES:
        return listing
    # Half of what stays loses least, the other half is lightest, lest nothing be left that fits.
    weight = (listing.load / (np.abs(problems.limits[listing.owner]) + TIE)).max(1)
    stays = (_rank(listing, listing.loss) < STATES // 2) | (_rank(listing, weight) < STATES // 2)
    np.minimum.at(cut, listing.owner[~stays], listing.loss[~stays])
    return listing.take(np.flatnonzero(stays))


def _rank(listing: _Listing, key: Floats) -> Ints:
    """Rank of every partial pick by ``key`` among those of its problem."""
    order = np.lexsort((key, listing.owner))
    owner = listing.owner[order]
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - np.searchsorted(owner, owner)
    return rank


def _undominated(listing: _Listing, multipliers: Floats) -> Ints:
    """Indices of partial picks, less those than which another of the problem is as light in all rows and as valuable.

    Sorted by the first row, a pick needs comparing only with the best before it. A second row is compared in steps:
    with the best of those before it that stay below the step under its own load.
    """
    value = (multipliers[listing.owner] * listing.load).sum(1) - listing.loss
    order = np.lexsort((-value, *listing.load.T[::-1], listing.owner))
    owner, load, value = listing.owner[order], listing.load[order], value[order]
    lift = owner * (2 * np.abs(value).max(initial=0.0) + 1)  # each problem starts above all before it
    needed = np.ones(len(order), bool)
    for step in _steps(load):
        below = (load[:, 1:] <= step).all(1)
        best = np.maximum.accumulate(np.where(below, value, -np.inf) + lift)
        above = (load[1:, 1:] >= step).all(1) | np.isinf(step)
        needed[1:] &= (value[1:] + lift[1:] > best[:-1]) | ~above
    return order[needed]


def _steps(load: Floats) -> Floats:
    """Loads of a second row to compare at; one infinite step if there is no second row."""
    if load.shape[1] == 1:
        return np.array([np.inf])
    return np.quantile(load[:, 1], np.linspace(0, 1, 16))


def _distinct(listing: _Listing) -> Ints:
    """Indices of the best partial pick of every distinct load of a problem."""
    order = np.lexsort((listing.loss, *listing.load.T, listing.owner))
    owner, load = listing.owner[order], listing.load[order]
    new = np.ones(len(order), bool)
    new[1:] = (owner[1:] != owner[:-1]) | (load[1:] != load[:-1]).any(1)
    return order[new]
