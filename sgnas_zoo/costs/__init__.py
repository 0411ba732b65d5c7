"""Costs of architectures: tables that are exact for an ``Arch`` and differentiable for probabilities.

To add one: write ``costs/<name>.py`` with an object that has ``name``, ``unit``, ``rule``, ``budget`` and
``table(space, conditions)`` returning a ``CostTable``, and register it below. The contract tests then check, on every
space, that its expectation at a one-hot equals its measure. Nothing here times anything: measured costs are tables
read from a profile.
"""

from __future__ import annotations

from typing import Protocol

from sgnas_zoo.costs.analytic import BITOPS, CONV_MACS, MACS, PARAMS
from sgnas_zoo.costs.table import Conditions, CostTable, native_conditions
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
        """What a budget on it is called, as an argument and as an option."""

    def table(self, space: SearchSpace, conditions: Conditions) -> CostTable:
        """Price every variant of every layer."""


COSTS: Registry[Cost] = Registry("cost")
for _cost in (MACS, CONV_MACS, PARAMS, BITOPS):
    COSTS.register(_cost.name, _cost)

__all__ = ["COSTS", "Conditions", "Cost", "CostTable", "native_conditions"]
