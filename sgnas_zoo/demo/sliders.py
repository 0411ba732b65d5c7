"""Sliders over costs: from just below the cheapest network to an end that limits nothing, in round steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sgnas_zoo.costs import BUDGETS, Budget, CostTable
from sgnas_zoo.errors import BudgetError, shown
from sgnas_zoo.units import MOST

SLIDERS = ("flops", "params", "memory", "flash")
"""Budgets with a slider; the first always counts, the others as far as they limit anything."""
STEPS = 400
"""About as many steps as a slider has."""
BELOW = 0.05
"""Share of the range by which a slider goes below what the space can do."""


@dataclass(frozen=True)
class Range:
    """What networks cost, and the slider over it; all in units that people read.

    Args:
        budget: The budget.
        low: The cheapest network.
        high: The dearest one.
        least: Left end of the slider, below the cheapest network.
        most: Right end, which limits nothing.
        step: From one place of the slider to the next.
    """

    budget: Budget
    low: float
    high: float
    least: float
    most: float
    step: float

    @property
    def start(self) -> float:
        """Where the slider stands at first: in the middle for FLOPs, at the right end for the others."""
        return self.most if self.budget.name != SLIDERS[0] else self._rounded((self.low + self.high) / 2)

    @property
    def told(self) -> str:
        """The range in words."""
        end = "" if self.budget.name == SLIDERS[0] else " The right end sets no limit."
        return f"Networks have {_up(self.low):g} to {_down(self.high):g}{self._gap}{self.budget.unit}.{end}"

    @property
    def _gap(self) -> str:
        return " " if self.budget.scale == 1 else ""

    def _rounded(self, amount: float) -> float:
        return _four(round(amount / self.step) * self.step)

    def limit(self, value: object) -> float:
        """The budget that a slider's value means, in plain counts.

        Raises:
            BudgetError: If it is not a number, or no network is that cheap.
        """
        if isinstance(value, bool) or not isinstance(value, int | float) or not -MOST < value < MOST:
            raise BudgetError(f"{shown(value)} is not a number; choose from {_up(self.low):g} to {_down(self.high):g}.")
        amount = _four(value)
        if amount < self.low:
            raise BudgetError(
                f"No network has so little; choose {_up(self.low):g}{self._gap}{self.budget.unit} or more. "
                "The last answer stays."
            )
        return min(amount, self.most) * self.budget.scale

    def limits(self, amount: float) -> bool:
        """Whether a budget counts: it is that of FLOPs, or some network exceeds it."""
        return self.budget.name == SLIDERS[0] or amount < self.high * self.budget.scale


def range_of(name: str, table: CostTable) -> Range:
    """The slider of a cost: round steps, of which the first is below every network and the last above."""
    budget = BUDGETS[name]
    low, high = table.minimum / budget.scale, table.maximum / budget.scale
    step = _round_step((high - low) / STEPS)
    least = math.floor((low - BELOW * (high - low)) / step) * step
    return Range(budget, low, high, max(_four(least), step), _four(math.ceil(high / step) * step), step)


def _round_step(step: float) -> float:
    """Round a step down to 1, 2 or 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(step))
    return float(f"{max(factor for factor in (1, 2, 5) if factor * power <= step * (1 + 1e-9)) * power:.0e}")


def _four(amount: float) -> float:
    """Four digits, as budgets are written."""
    return float(f"{amount:.4g}")


def _up(amount: float) -> float:
    """Four digits, not less than the amount."""
    rounded = _four(amount)
    return rounded if rounded >= amount else _four(rounded + 10.0 ** (math.floor(math.log10(amount)) - 3))


def _down(amount: float) -> float:
    """Four digits, not more than the amount."""
    rounded = _four(amount)
    return rounded if rounded <= amount else _four(rounded - 10.0 ** (math.floor(math.log10(amount)) - 3))
