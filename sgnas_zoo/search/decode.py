"""Constrained decode: the most probable architecture that keeps its budgets.

This is what makes a budget a promise, whatever a generator emits: per layer all variants with their log-probability and
their exact cost, and a knapsack over the layers. A cost that is a maximum over layers leaves variants out instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from sgnas_zoo.errors import BudgetError
from sgnas_zoo.search.bounds import ROUNDING, Bound, apart, limits_of, weights_of, within
from sgnas_zoo.search.knapsack import Bools, Floats, Ints, solve, weigh
from sgnas_zoo.search.ranking import ranked
from sgnas_zoo.search.slots import best_picks, reach, values_of
from sgnas_zoo.search.windows import Window, best_in_windows
from sgnas_zoo.spaces import Arch
from sgnas_zoo.spaces.variants import Merge

SPEND = 0.99
"""The share of a budget that is spent where the space has an architecture that near, unless a generator says less."""

EPSILON = 1e-9
"""Among equally probable architectures the dearer one: this many nats for the whole range of a cost."""


@dataclass(frozen=True)
class Decoded:
    """The most probable architecture within the bounds, and its log-probability in nats."""

    arch: Arch
    log_prob: float


def decode(log_probs: Floats, bounds: Sequence[Bound], spend: float = SPEND) -> list[Decoded]:
    """Find the most probable architectures within budgets.

    An architecture keeps every bound, and spends its share of one of them wherever the space has such a one. A
    bound that no architecture of the space reaches always holds; where no other is left and the share is not zero, the
    largest architecture is found: that of the highest cost by the first bound. A bound on a cost that is the largest of
    a layer is never one to spend: it leaves out what is above it, also of what counts as the largest architecture.

    Args:
        log_probs: (N, layers, slots, choices), ``-inf`` for what the space forbids.
        bounds: The budgets; at least one, all of the same space.
        spend: Least share of a budget that is to be spent; 0 for none.

    Returns:
        One result for each of the N problems.

    Raises:
        BudgetError: If a limit is below what the space can cost, or no architecture meets all bounds together.
    """
    task = _Task.of(log_probs, bounds, len(log_probs), spend)
    if task.room.shape[1] != 1 or not task.feasible():
        return [task.best(problem, slice(problem, problem + 1)) for problem in range(len(log_probs))]
    variants = _spend(
        task.values if task.allowed is None else np.where(task.allowed, task.values, -np.inf),
        task.weights[..., 0], task.room[:, 0], task.floors[:, 0],
    )  # fmt: skip
    return task.decoded(np.arange(len(variants)), variants)


def decode_best(log_probs: Floats, bounds: Sequence[Bound]) -> list[Decoded]:
    """The best decode over several sets of log-probabilities (N, layers, slots, choices), for each limit of the bounds.

    Raises:
        BudgetError: As ``decode``.
    """
    number = max(np.size(bound.limits) for bound in bounds)
    task = _Task.of(log_probs, bounds, number)
    return [task.best(problem, slice(None)) for problem in range(number)]


def decode_ranked(scores: Floats, bounds: Sequence[Bound], count: int) -> list[Decoded]:
    """The architectures with the highest sums of scores within bounds, best first; nothing needs to be spent.

    Fillings of slots that make the same block count as one architecture, of which the best filling stands.

    Args:
        scores: (layers, slots, choices), ``-inf`` for what the space forbids.
        bounds: Upper bounds of one limit each; at least one, all of the same space.
        count: How many; fewer come where fewer keep the bounds.

    Raises:
        BudgetError: If no architecture keeps the bounds.
    """
    task = _Task.of(scores[None], bounds, 1)
    found = ranked(task.valued(0, slice(0, 1))[0], partial(_best_within, task), count)
    if not found:
        raise _incompatible(task, 0)
    return task.decoded(np.zeros(len(found), np.int64), np.stack(found))


@dataclass(frozen=True)
class _Task:
    """What is to be decoded: log-probabilities, the bounds, and both as a knapsack.

    Args:
        log_probs: (N, layers, slots, choices).
        bounds: The bounds.
        merges: Per layer its variants.
        reached: Per layer, what ``reach`` gives.
        values: (N, layers, variants) log-probabilities of the best way to make each variant.
        weights: (layers, variants, sums) costs that add up.
        room: (problems, sums) most that the layers may cost.
        floors: (problems, sums) least that they should cost for a bound to count as spent.
        aims: (problems, sums) whether a bound is one to spend.
        allowed: (problems, layers, variants) what the other bounds leave; None where there are none.
    """

    log_probs: Floats
    bounds: Sequence[Bound]
    merges: Sequence[Merge]
    reached: Sequence[Sequence[Floats]]
    values: Floats
    weights: Floats
    room: Floats
    floors: Floats
    aims: Bools
    allowed: Bools | None = None

    @classmethod
    def of(cls, log_probs: Floats, bounds: Sequence[Bound], number: int, spend: float = SPEND) -> _Task:
        """The task of so many problems, each of its limits checked against its range."""
        space = bounds[0].table.space
        merges = [space.merge(layer) for layer in range(len(space.layers))]
        sums, ceilings = apart(bounds)
        limits = np.stack([limits_of(bound, number) for bound in sums], 1) if sums else np.zeros((number, 0))
        reached = [reach(merge, log_probs[:, layer]) for layer, merge in enumerate(merges)]
        values, weights = values_of(reached), weights_of(merges, sums)
        allowed = within(ceilings, number) if ceilings else None
        fixed = np.array([bound.table.fixed for bound in sums])
        most = np.array([bound.table.maximum for bound in sums])
        if allowed is not None:
            exists = allowed & np.isfinite(values).any(0)
            most = fixed + np.where(exists[..., None], weights, -np.inf).max(2).sum(1)
        slack = limits > most
        aims = ~slack
        aims[slack.all(1), :1] = True
        floors = np.where(slack, most * (1 - ROUNDING), limits * spend) - fixed
        floors = floors if spend else np.full_like(limits, -np.inf)
        room = limits * (1 + ROUNDING) - fixed
        return cls(log_probs, bounds, merges, reached, values, weights, room, floors, aims, allowed)

    def feasible(self) -> bool:
        """Whether what is allowed has a lightest architecture within the first bound, in every problem."""
        if self.allowed is None:
            return True
        exists = self.allowed & np.isfinite(self.values)
        return bool((np.where(exists, self.weights[..., 0], np.inf).min(2).sum(1) <= self.room[:, 0]).all())

    def valued(self, problem: int, among: slice) -> Floats:
        """Values (sets, layers, variants) of some sets for a problem; of equal variants the dearer one is higher."""
        values = self.values[among] + _dearer(self.weights).sum(2)
        return values if self.allowed is None else np.where(self.allowed[problem], values, -np.inf)

    def best(self, problem: int, among: slice) -> Decoded:
        """The best decode of a problem over some of the sets of log-probabilities.

        Raises:
            BudgetError: If no architecture meets all bounds together.
        """
        values, rows = self.valued(problem, among), self.weights.shape[2]
        if not np.isfinite(values).any(2).all():
            raise _incompatible(self, problem)
        anywhere = np.full(rows, -np.inf)
        spent = [
            Window(np.where(np.arange(rows) == bound, self.floors[problem], -np.inf), self.room[problem])
            for bound in np.flatnonzero(self.aims[problem])
        ]
        best = best_in_windows(values, self.weights, spent) if spent else None
        best = best or best_in_windows(values, self.weights, [Window(anywhere, self.room[problem])])
        if best is None:
            raise _incompatible(self, problem)
        return self.decoded(np.arange(len(self.values))[among][[best.of]], best.picks[None])[0]

    def decoded(self, sets: Ints, variants: Ints) -> list[Decoded]:
        """What variants (M, layers) decode to, each by one of the sets of log-probabilities (M,)."""
        picks = np.stack([
            best_picks(merge, self.log_probs[sets, i], [states[sets] for states in self.reached[i]], variants[:, i])
            for i, merge in enumerate(self.merges)
        ], 1)  # fmt: skip
        total = _total(self.values[sets], variants)
        space = self.bounds[0].table.space
        return [Decoded(space.arch(own.tolist()), float(value)) for own, value in zip(picks, total, strict=True)]


def _best_within(task: _Task, values: Floats) -> tuple[float, Ints] | None:
    """Value and picks (layers,) of the best that keeps the first problem's bounds, for values (layers, variants)."""
    if task.room.shape[1] == 1:
        picks, solved = solve(values[None], task.weights[..., 0], task.room[0])
        if solved[0]:
            return None if picks[0, 0] < 0 else (float(_total(values[None], picks)[0]), picks[0])
    window = Window(np.full(task.room.shape[1], -np.inf), task.room[0])
    best = best_in_windows(values[None], task.weights, [window])
    return None if best is None else (best.value, best.picks)


def _spend(values: Floats, weights: Floats, limits: Floats, floors: Floats) -> Ints:
    """The best picks (N, layers) that keep one bound and nearly spend it, if any do.

    Args:
        values: (N, layers, variants) log-probabilities.
        weights: (layers, variants) costs.
        limits: (N,) most that the layers may cost.
        floors: (N,) least that they should cost for the bound to count as spent.
    """
    picks = _cheaper(values + _dearer(weights), weights, limits)
    idle = np.flatnonzero(weigh(weights, picks) < floors)
    dearer, solved = solve(values[idle], -weights, -floors[idle])  # what is most probable is too cheap
    fits = solved & (dearer[:, 0] >= 0) & (weigh(weights, dearer) <= limits[idle])
    picks[idle[fits]] = dearer[fits]
    for problem in idle[~fits]:
        window = Window(floors[[problem]], limits[[problem]])
        best = best_in_windows(values[[problem]], weights[..., None], [window])
        if best is not None:
            picks[problem] = best.picks
    return picks


def _cheaper(values: Floats, weights: Floats, limits: Floats) -> Ints:
    """The best picks (N, layers) that keep one bound, which some picks do."""
    picks, solved = solve(values, weights, limits)
    for problem in np.flatnonzero(~solved):
        best = best_in_windows(values[[problem]], weights[..., None], [Window(np.array([-np.inf]), limits[[problem]])])
        assert best is not None
        picks[problem] = best.picks
    return picks


def _dearer(weights: Floats) -> Floats:
    """What decides between equally probable variants, by their weights (layers, variants, ...)."""
    whole = weights.max(1).sum(0)
    return np.asarray(EPSILON * weights / np.where(whole > 0, whole, 1.0))


def _total(values: Floats, picks: Ints) -> Floats:
    """Summed values (N,) of picks (N, layers), ``-inf`` where there are none."""
    total = np.take_along_axis(values, picks.clip(0)[..., None], 2).sum((1, 2))
    return np.asarray(np.where(picks[:, 0] < 0, -np.inf, total))


def _incompatible(task: _Task, problem: int) -> BudgetError:
    """The error for bounds that no architecture meets together: what all but the last leave for the last one."""
    bounds, exists = task.bounds, np.isfinite(task.valued(problem, slice(0, 1))[0])
    limits = [limits_of(bound, len(task.room))[problem] for bound in bounds]
    wanted = " and ".join(f"{limit:,.10g} {b.table.unit}" for limit, b in zip(limits, bounds, strict=True))
    sums, last, least, cheapest = apart(bounds)[0], bounds[-1].table, "", None
    if sums and exists.any(1).all():
        costs = np.where(exists, -task.weights[..., -1], -np.inf)[None]
        others = Window(np.full(len(sums) - 1, -np.inf), task.room[problem, :-1])
        cheapest = best_in_windows(costs, task.weights[..., :-1], [others])
    if cheapest is not None:
        last = sums[-1].table
        fewest = last.fixed + weigh(task.weights[..., -1], cheapest.picks[None])[0]
        least = f": within the other bounds the least is {fewest:,.10g} {last.unit}"
    return BudgetError(f"No architecture of {last.space.name} keeps {wanted} together{least}. Raise one of the bounds.")
