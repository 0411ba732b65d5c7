"""What a space can cost, told to whoever asks for less."""

from __future__ import annotations

import math

from sgnas_zoo.costs import CostTable
from sgnas_zoo.errors import BudgetError
from sgnas_zoo.spaces import Arch


def check_range(table: CostTable, limit: float) -> None:
    """Refuse a limit that no architecture of the space can keep.

    Raises:
        BudgetError: Naming the feasible range and the nearest architecture.
    """
    if not table.maximum:
        raise BudgetError(f"{table.space.name} has no {table.unit}; bound another cost, or choose another space.")
    if limit >= table.minimum:
        return
    nearest = _cheapest(table)
    unit = "MACs (FLOPs of NAS papers)" if table.unit == "MACs" else table.unit
    hint = f"; did you mean {limit:g}e6?" if table.minimum <= limit * 1e6 <= table.maximum else "."
    scale, suffix = (1e6, "M") if table.maximum >= 1e5 else (1.0, f" {table.unit}")
    if table.unit.startswith("bytes"):
        scale, suffix = 1e3, "KB"
    low, high = math.ceil(table.minimum / scale * 10) / 10, math.floor(table.maximum / scale * 10) / 10
    end = " ms" if table.unit == "ms" else ""
    smaller = ", or a smaller resolution" if table.over_layers == "max" else ""
    raise BudgetError(
        f"A budget of {limit:,.10g} {unit} is below what {table.space.name} can do{hint} "
        f"Choose from {low:g}{suffix} to {high:g}{suffix}{smaller}; "
        f"the nearest network is {nearest} with {table.measure(nearest):,.{4 if table.unit == 'ms' else 10}g}{end}."
    )


def _cheapest(table: CostTable) -> Arch:
    """The cheapest architecture of a table."""
    space = table.space
    merges = [space.merge(layer) for layer in range(len(table.layers))]
    ends = (merge.variants[costs.index(min(costs))] for merge, costs in zip(merges, table.layers, strict=True))
    return space.arch([merge.picks(variant) for merge, variant in zip(merges, ends, strict=True)])
