"""A cost that is worked out from the parts of a network: one walk through a space prices all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from sgnas_zoo.costs.table import Conditions, CostTable
from sgnas_zoo.spaces import Block, SearchSpace
from sgnas_zoo.spaces.blocks import strided

Price = Callable[[Block, int, Conditions], int]
"""Cost of a part of a network whose input is so many pixels wide and high."""


@dataclass(frozen=True)
class PricedCost:
    """A cost of parts: searched layers and what no choice changes.

    Args:
        name: Registry name.
        unit: Unit of the numbers.
        rule: What is counted, in one line for tables and cards.
        budget: Name of the budget that bounds it.
        price: Prices a part.
        over_layers: How the prices of all parts make that of a network: "sum" or "max".
    """

    name: str
    unit: str
    rule: str
    budget: str
    price: Price
    over_layers: Literal["sum", "max"] = "sum"

    def table(self, space: SearchSpace, conditions: Conditions) -> CostTable:
        """Price every variant of every layer of ``space``; one that vanishes costs nothing."""
        return _table(self, space, conditions)


@lru_cache(maxsize=128)
def _table(cost: PricedCost, space: SearchSpace, conditions: Conditions) -> CostTable:
    size, ends, layers = conditions.resolution, list[int](), list[tuple[int, ...]]()
    for block in space.before(conditions.form, conditions.in_chans):
        ends.append(cost.price(block, size, conditions))
        size = strided(size, block.stride)
    for number, layer in enumerate(space.layers):
        blocks = [space.block(number, variant, conditions.form) for variant in space.merge(number).variants]
        layers.append(tuple(cost.price(block, size, conditions) if block else 0 for block in blocks))
        size = strided(size, layer.stride)
    ends.append(cost.price(space.after(conditions.num_classes), size, conditions))
    fixed = max(ends) if cost.over_layers == "max" else sum(ends)
    return CostTable(cost.name, cost.unit, space, fixed, tuple(layers), cost.over_layers)
