"""Constrained decode: the most probable architecture that keeps its budgets.

This is what makes a budget a promise, whatever a generator emits: per layer all variants with their log-probability and
their exact cost, and a knapsack over the layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sgnas_zoo.costs import CostTable
from sgnas_zoo.errors import BudgetError
from sgnas_zoo.search.knapsack import Bools, Floats, Ints, Solution, load, solve, upper_bound
from sgnas_zoo.spaces import Arch
from sgnas_zoo.spaces.variants import Merge

NEAR = 0.01
"""A budget is missed by at most this share where the space has an architecture that near."""

ROUNDING = 1e-12
"""Share of a limit by which sums of fractional costs may differ with their order; less than one for any count."""

EPSILON = 1e-9
"""Among equally probable architectures the dearer one: this many nats for the whole range of a cost."""


@dataclass(frozen=True)
class Bound:
    """Upper bounds on one cost.

    Args:
        table: The cost.
        limits: One limit for all problems, or one per problem, in ``table.unit``.
    """

    table: CostTable
    limits: float | Sequence[float]


@dataclass(frozen=True)
class Decoded:
    """A decoded architecture, its log-probability in nats, and whether it is proven to be the most probable one."""

    arch: Arch
    log_prob: float
    proven: bool


def decode(log_probs: Floats, bounds: Sequence[Bound]) -> list[Decoded]:
    """Find the most probable architectures within budgets.

    An architecture keeps every bound, and spends at least 99 % of one of them wherever the space has such a one.

    Args:
        log_probs: (N, layers, slots, choices), ``-inf`` for what the space forbids.
        bounds: The budgets; at least one, all of the same space.

    Returns:
        One result for each of the N problems.

    Raises:
        BudgetError: If a limit is outside what the space can cost, or no architecture meets all bounds together.
    """
    space = bounds[0].table.space
    merges = [space.merge(layer) for layer in range(len(space.layers))]
    limits = np.stack([_limits(bound, len(log_probs)) for bound in bounds], 1)
    fixed = np.array([bound.table.fixed for bound in bounds])
    reached = [reach(merge, log_probs[:, layer]) for layer, merge in enumerate(merges)]
    values, weights = _values(reached), _weights(merges, bounds)
    room = limits * (1 + ROUNDING) - fixed
    variants, proven = _spend(values, weights, room, limits * (1 - NEAR) - fixed)
    failed = np.flatnonzero(variants[:, 0] < 0)
    if failed.size:
        raise _incompatible(bounds, values[failed[0]], weights, limits[failed[0]])
    picks = np.stack([best_picks(m, log_probs[:, i], reached[i], variants[:, i]) for i, m in enumerate(merges)], 1)
    total = _total(values, variants)
    return [Decoded(space.arch(picks[n].tolist()), float(total[n]), bool(proven[n])) for n in range(len(picks))]


def decode_best(log_probs: Floats, bounds: Sequence[Bound]) -> Decoded:
    """The best decode over several sets of log-probabilities (N, layers, slots, choices), for one limit per bound.

    Sets are tried in the order of what their dual promises, until none left can beat the best found.

    Raises:
        BudgetError: As ``decode``.
    """
    merges = [bounds[0].table.space.merge(layer) for layer in range(log_probs.shape[1])]
    limits = np.stack([_limits(bound, len(log_probs)) for bound in bounds], 1)
    fixed = np.array([bound.table.fixed for bound in bounds])
    values = _values([reach(merge, log_probs[:, layer]) for layer, merge in enumerate(merges)])
    weights = _weights(merges, bounds)
    floors = limits * (1 - NEAR) - fixed
    spent = (_with_floor(weights, limits - fixed, floors, bound) for bound in range(len(bounds)))
    promised = np.max([upper_bound(values, *rows) for rows in spent], 0)
    best: Decoded | None = None
    for index in (-promised).argsort():
        if best is not None and best.log_prob >= promised[index]:
            break
        found = decode(log_probs[index : index + 1], bounds)[0]
        if best is None or found.log_prob > best.log_prob:
            best = found
    if best is None:
        raise ValueError("decode_best needs at least one set of log-probabilities.")
    return best


def _limits(bound: Bound, number: int) -> Floats:
    """The limits (N,) of a bound, each checked against its range."""
    limits = np.broadcast_to(np.asarray(bound.limits, np.float64), (number,))
    for limit in np.unique(limits):
        check_range(bound.table, float(limit))
    return limits


def check_range(table: CostTable, limit: float) -> None:
    """Refuse a limit that no architecture of the space can keep, or that none comes near.

    Any long time is taken: how near a space comes to it depends on the device, and a command should not.

    Raises:
        BudgetError: Naming the feasible range and the nearest architecture.
    """
    most = math.inf if table.unit == "ms" else table.maximum
    if math.isfinite(limit) and table.minimum <= limit <= most:
        return
    if not table.maximum:
        raise BudgetError(f"{table.space.name} has no {table.unit}; bound another cost, or choose another space.")
    cheap = not limit > table.maximum
    nearest = _extreme(table, cheap)
    unit = "MACs (FLOPs of NAS papers)" if table.unit == "MACs" else table.unit
    hint = f"; did you mean {limit:g}e6?" if table.minimum <= limit * 1e6 <= table.maximum else "."
    scale, suffix = (1e6, "M") if table.maximum >= 1e5 else (1.0, f" {table.unit}")
    low, high = math.ceil(table.minimum / scale * 10) / 10, math.floor(table.maximum / scale * 10) / 10
    end = " ms" if table.unit == "ms" else ""
    raise BudgetError(
        f"A budget of {limit:,.10g} {unit} is {'below' if cheap else 'above'} what {table.space.name} can do{hint} "
        f"Choose from {low:g}{suffix} to {high:g}{suffix}; "
        f"the nearest network is {nearest} with {table.measure(nearest):,.{4 if table.unit == 'ms' else 10}g}{end}."
    )


def reach(merge: Merge, log_probs: Floats) -> list[Floats]:
    """Best log-probability (N, states) of every state before the first slot and after each slot."""
    reached = [np.zeros((len(log_probs), 1))]
    for slot, (sources, choices, _, first) in enumerate(_columns(merge)):
        arriving = reached[-1][:, sources] + log_probs[:, slot, choices]
        reached.append(np.maximum.reduceat(arriving, first, axis=1))
    return reached


@lru_cache(maxsize=256)
def _columns(merge: Merge) -> tuple[tuple[Ints, ...], ...]:
    """Per slot its transitions as arrays: sources, choices, targets, and where each target begins."""
    columns = (np.array(step).T for step in merge.steps)
    return tuple((*column, np.flatnonzero(np.diff(column[2], prepend=-1))) for column in columns)


def best_picks(merge: Merge, log_probs: Floats, reached: Sequence[Floats], variants: Ints) -> Ints:
    """Choice indices (N, slots) of the best way to make ``variants`` (N,), walking back through what ``reach`` gave."""
    picks = np.zeros(log_probs.shape[:2], np.int64)
    states = variants
    for slot in reversed(range(len(merge.steps))):
        sources, choices, targets, _ = _columns(merge)[slot]
        arriving = reached[slot][:, sources] + log_probs[:, slot, choices]
        best = np.where(targets == states[:, None], arriving, -np.inf).argmax(1)
        picks[:, slot], states = choices[best], sources[best]
    return picks


def _values(reached: Sequence[Sequence[Floats]]) -> Floats:
    """Log-probabilities (N, layers, variants) of the best way to make each variant, ``-inf`` beyond a layer's own."""
    last = [states[-1] for states in reached]
    values = np.full((len(last[0]), len(last), max(states.shape[1] for states in last)), -np.inf)
    for layer, states in enumerate(last):
        values[:, layer, : states.shape[1]] = states
    return values


def _weights(merges: Sequence[Merge], bounds: Sequence[Bound]) -> Floats:
    """Costs (layers, variants, bounds), zero beyond a layer's own variants."""
    weights = np.zeros((len(merges), max(len(merge.variants) for merge in merges), len(bounds)))
    for column, bound in enumerate(bounds):
        for layer, costs in enumerate(bound.table.layers):
            weights[layer, : len(costs), column] = costs
    return weights


def _spend(values: Floats, weights: Floats, limits: Floats, floors: Floats) -> Solution:
    """The best picks that keep all bounds and nearly spend one of them, if any do.

    Args:
        values: (N, layers, variants) log-probabilities.
        weights: (layers, variants, bounds) costs.
        limits: (N, bounds) most that the layers may cost.
        floors: (N, bounds) least that they should cost for a bound to count as spent.
    """
    share = weights / weights.max(1).sum(0)
    picks, proven = solve(values + EPSILON * share.sum(2), weights, limits)
    _rescue(picks, proven, values, weights, limits)
    idle = np.flatnonzero((picks[:, 0] >= 0) & (load(weights, picks) < floors).all(1))
    best = np.full(len(values), -np.inf)
    for bound in range(limits.shape[1]):  # what is most probable leaves every bound unspent: turn one into a floor
        some = idle[_reachable(weights, limits[idle], floors[idle], bound)]
        spent = solve(values[some], *_with_floor(weights, limits[some], floors[some], bound))
        total = _total(values[some], spent.picks)
        better = total > best[some]
        best[some[better]] = total[better]
        picks[some[better]] = spent.picks[better]
        proven[some] &= spent.proven
    return Solution(picks, proven)


def _rescue(picks: Ints, proven: Bools, values: Floats, weights: Floats, limits: Floats) -> None:
    """Where nothing was found and nothing proven, take picks that are lightest on one bound within the others."""
    for bound in range(limits.shape[1]):
        some = np.flatnonzero((picks[:, 0] < 0) & ~proven)
        if some.size:
            lightness = np.where(np.isfinite(values[some]), -weights[..., bound], -np.inf)
            found = solve(lightness, np.delete(weights, bound, 2), np.delete(limits[some], bound, 1)).picks
            fits = (found[:, 0] >= 0) & (load(weights, found) <= limits[some]).all(1)
            picks[some[fits]] = found[fits]


def _with_floor(weights: Floats, limits: Floats, floors: Floats, bound: int) -> tuple[Floats, Floats]:
    """Weights and limits with one more row: that a bound is nearly spent."""
    return np.concatenate([weights, -weights[..., [bound]]], 2), np.column_stack([limits, -floors[:, bound]])


def _reachable(weights: Floats, limits: Floats, floors: Floats, bound: int) -> Bools:
    """Whether a bound can be nearly spent (N,), so far as the other bounds' duals tell."""
    others = [i for i in range(limits.shape[1]) if i != bound]
    if not others:
        return np.ones(len(limits), bool)
    costs = np.broadcast_to(weights[..., bound], (len(limits), *weights.shape[:2]))
    return upper_bound(costs, weights[..., others], limits[:, others]) >= floors[:, bound]


def _total(values: Floats, picks: Ints) -> Floats:
    """Summed values (N,) of picks (N, layers), ``-inf`` where there are none."""
    total = np.take_along_axis(values, picks.clip(0)[..., None], 2).sum((1, 2))
    return np.asarray(np.where(picks[:, 0] < 0, -np.inf, total))


def _extreme(table: CostTable, cheap: bool) -> Arch:
    """The cheapest or the dearest architecture of a table."""
    pick, space = min if cheap else max, table.space
    merges = [space.merge(layer) for layer in range(len(table.layers))]
    ends = (merge.variants[costs.index(pick(costs))] for merge, costs in zip(merges, table.layers, strict=True))
    return space.arch([merge.picks(variant) for merge, variant in zip(merges, ends, strict=True)])


def _incompatible(bounds: Sequence[Bound], values: Floats, weights: Floats, limits: Floats) -> BudgetError:
    """The error for bounds that no architecture meets together: what all but the last leave for the last one."""
    last = bounds[-1].table
    others = [limit * (1 + ROUNDING) - b.table.fixed for limit, b in zip(limits[:-1], bounds[:-1], strict=True)]
    costs = np.where(np.isfinite(values), -weights[..., -1], -np.inf)[None]
    cheapest, proven = solve(costs, weights[..., :-1], np.array([others]))
    wanted = " and ".join(f"{limit:,.10g} {b.table.unit}" for limit, b in zip(limits, bounds, strict=True))
    least = ""
    if cheapest[0, 0] >= 0:
        fewest = last.fixed + weights[np.arange(len(values)), cheapest[0], -1].sum()
        found = "least" if proven[0] else "least found"
        least = f": within the other bounds the {found} is {fewest:,.10g} {last.unit}"
    return BudgetError(
        f"No architecture of {last.space.name} was found that keeps {wanted} together{least}. Raise one of the bounds."
    )
