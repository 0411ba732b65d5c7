"""Costs of architectures: tables that are exact for an ``Arch`` and differentiable for probabilities.

To add one: write ``costs/<name>.py`` with an object that has ``name``, ``unit``, ``rule``, ``budget`` and
``table(space, conditions)`` returning a ``CostTable``, such as a ``PricedCost``, and register it below; where users may
bound it, register its budget too (``costs/budgets.py``), from which arguments, options and cards follow. The contract
tests then check, on every space, that its expectation at a one-hot equals its measure. Nothing here times anything:
measured costs are tables read from a profile.
"""

from __future__ import annotations

from typing import Protocol

from sgnas_zoo.costs.analytic import BITOPS, CONV_MACS, MACS, PARAMS
from sgnas_zoo.costs.budgets import BUDGETS, Budget, counted, takes_budgets
from sgnas_zoo.costs.memory import FLASH, MEMORY
from sgnas_zoo.costs.table import DEFAULT_PRECISION, Conditions, CostTable, Precision, native_conditions
from sgnas_zoo.registry import Registry
from sgnas_zoo.spaces import SearchSpace


class Cost(Protocol):
    """What every cost offers."""

    @property
    def name(self) -> str:
        """Registry name."""

    @property
    def unit(self) -> str:
        """Unit of its numbers."""

    @property
    def rule(self) -> str:
        """What is counted, in one line."""

    @property
    def budget(self) -> str:
        """Name of the budget that bounds it."""

    def table(self, space: SearchSpace, conditions: Conditions) -> CostTable:
        """Price every variant of every layer."""


COSTS: Registry[Cost] = Registry("cost")
for _cost in (MACS, CONV_MACS, PARAMS, BITOPS, MEMORY, FLASH):
    COSTS.register(_cost.name, _cost)


def counted_tables(space: SearchSpace, conditions: Conditions) -> dict[str, CostTable]:
    """A table by the name of each budget that needs no profile."""
    return {budget.name: COSTS[budget.cost].table(space, conditions) for budget in counted()}


__all__ = [
    "BUDGETS", "COSTS", "DEFAULT_PRECISION", "Budget", "Conditions", "Cost", "CostTable", "Precision", "counted",
    "counted_tables", "native_conditions", "takes_budgets",
]  # fmt: skip
