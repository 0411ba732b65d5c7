"""Which search space answers budgets, where none was named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sgnas_zoo.costs import BUDGETS, COSTS, CostTable, native_conditions
from sgnas_zoo.errors import BudgetError
from sgnas_zoo.spaces import SPACES


def choose_space(budgets: Mapping[str, Sequence[float]], among: Sequence[str], **conditions: int | str) -> str:
    """The space that meets all bounds and spends most of the one that binds; the first among equals.

    A space that none of the bounds binds is taken where no larger one is left.

    Args:
        budgets: N upper bounds of each budget. A latency binds in any space: what it means shows on a device.
        among: Names to choose from, at least one. Those that cannot take the side are left out, where others can.
        conditions: What changes of each space's native ``Conditions``.

    Raises:
        BudgetError: If bounds lie between the ranges of two spaces; it names both.
    """
    if len(among) == 1 or not budgets:
        return among[0]
    side = conditions.get("resolution")
    among = [name for name in among if not isinstance(side, int) or side >= SPACES[name].reduction] or among[:1]
    asked = _Asked(budgets, conditions)
    met = [name for name in among if asked.is_met(name)]
    binding = [name for name in met if asked.is_spent(name)]
    if binding:
        return max(binding, key=asked.share)
    if not met:
        return asked.nearest(among)
    largest = max(met, key=asked.share)
    above = [name for name in among if name not in met and set(asked.below(name)) & set(budgets)]
    if above:
        raise asked.between(largest, above)
    return largest


@dataclass(frozen=True)
class _Asked:
    """What was asked for, against the ranges of spaces.

    Args:
        budgets: N upper bounds of each budget.
        conditions: What changes of each space's native ``Conditions``.
    """

    budgets: Mapping[str, Sequence[float]]
    conditions: Mapping[str, int | str]

    def table(self, space: str, budget: str) -> CostTable:
        """Costs of a space under the conditions."""
        own = SPACES[space]
        return COSTS[BUDGETS[budget].cost].table(own, native_conditions(own, **self.conditions))

    @property
    def counted(self) -> list[str]:
        """The budgets that need no device."""
        return [name for name in self.budgets if not BUDGETS[name].profiled]

    def below(self, space: str) -> list[str]:
        """Budgets that are less than anything in a space."""
        return [name for name in self.counted if min(self.budgets[name]) < self.table(space, name).minimum]

    def is_met(self, space: str) -> bool:
        """Whether a space has something within each bound."""
        return not self.below(space) and all(self.table(space, name).maximum for name in self.counted)

    def is_spent(self, space: str) -> bool:
        """Whether one bound at least of every set is within the reach of a space."""
        reached = ([self.table(space, n).reaches(limit) for limit in self.budgets[n]] for n in self.counted)
        return len(self.counted) < len(self.budgets) or all(map(any, zip(*reached, strict=True)))

    def share(self, space: str) -> float:
        """The largest share of a bound that a space can spend."""
        shares = [min(1.0, self.table(space, name).maximum / min(self.budgets[name])) for name in self.counted]
        return max(shares, default=1.0)

    def nearest(self, among: Sequence[str]) -> str:
        """The space whose error says most: that of budgets written in millions, or the one missed by least."""
        for space in among:
            tables = {name: self.table(space, name) for name in self.counted}
            if all(t.minimum <= 1e6 * limit <= t.maximum for n, t in tables.items() for limit in self.budgets[n]):
                return space

        def missed(space: str) -> float:
            below = self.below(space)
            return max((self.table(space, name).minimum / min(self.budgets[name]) for name in below), default=1e99)

        return min(among, key=missed)

    def between(self, below: str, above: Sequence[str]) -> BudgetError:
        """The error for bounds that are more than one space has and less than the next needs."""
        name = next(name for space in above for name in self.below(space))
        next_ = min(
            (space for space in above if name in self.below(space)), key=lambda space: self.table(space, name).minimum
        )
        scale, unit = BUDGETS[name].scale, BUDGETS[name].unit
        most, least = self.table(below, name).maximum / scale, self.table(next_, name).minimum / scale
        limits = " and ".join(f"{limit / scale:,.4g} {unit}" for limit in dict.fromkeys(self.budgets[name]))
        return BudgetError(
            f"{limits} lies between two spaces: {below} ends at {most:,.4g} {unit}, {next_} begins at {least:,.4g} "
            f"{unit}. Ask for one of their ranges, or say space={below!r} (--space {below}) for its largest network."
        )
