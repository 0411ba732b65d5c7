"""Upper bounds on costs, as a decode takes them: sums over layers, and the largest of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sgnas_zoo.costs import CostTable
from sgnas_zoo.search.knapsack import Bools, Floats
from sgnas_zoo.search.ranges import check_range
from sgnas_zoo.spaces.variants import Merge

ROUNDING = 1e-12
"""Share of a limit by which sums of fractional costs may differ with their order; less than one for any count."""


@dataclass(frozen=True)
class Bound:
    """Upper bounds on one cost.

    Args:
        table: The cost.
        limits: One limit for all problems, or one per problem, in ``table.unit``.
    """

    table: CostTable
    limits: float | Sequence[float]


def apart(bounds: Sequence[Bound]) -> tuple[list[Bound], list[Bound]]:
    """Bounds on costs that add up over layers, and those on costs that are the largest of a layer."""
    sums = [bound for bound in bounds if bound.table.over_layers == "sum"]
    return sums, [bound for bound in bounds if bound.table.over_layers == "max"]


def within(ceilings: Sequence[Bound], number: int) -> Bools:
    """Which variants (problems, layers, variants) are within bounds on costs that are the largest of a layer.

    Args:
        ceilings: The bounds; at least one.
        number: Problems.
    """
    space = ceilings[0].table.space
    merges = [space.merge(layer) for layer in range(len(space.layers))]
    costs = weights_of(merges, ceilings)
    limits = np.stack([limits_of(bound, number) for bound in ceilings], 1) * (1 + ROUNDING)
    return np.asarray((costs <= limits[:, None, None]).all(-1))


def limits_of(bound: Bound, number: int) -> Floats:
    """The limits (N,) of a bound, each checked against its range."""
    limits = np.broadcast_to(np.asarray(bound.limits, np.float64), (number,))
    for limit in np.unique(limits):
        check_range(bound.table, float(limit))
    return limits


def weights_of(merges: Sequence[Merge], bounds: Sequence[Bound]) -> Floats:
    """Costs (layers, variants, bounds), zero beyond a layer's own variants."""
    weights = np.zeros((len(merges), max(len(merge.variants) for merge in merges), len(bounds)))
    for column, bound in enumerate(bounds):
        for layer, costs in enumerate(bound.table.layers):
            weights[layer, : len(costs), column] = costs
    return weights
