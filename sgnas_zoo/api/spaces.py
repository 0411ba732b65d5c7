"""Which search space answers budgets, where none was named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sgnas_zoo.costs import BUDGETS, COSTS, CostTable, native_conditions
from sgnas_zoo.errors import BudgetError
from sgnas_zoo.spaces import SPACES


def choose_space(budgets: Mapping[str, Sequence[float]], among: Sequence[str]) -> str:
    """The space that meets all bounds and spends most of the one that binds; the first among equals.

    A space that none of the bounds binds is taken where no larger one is left.

    Args:
        budgets: N upper bounds of each budget. A latency binds in any space: what it means shows on a device.
        among: Names to choose from, at least one.

    Raises:
        BudgetError: If bounds lie between the ranges of two spaces; it names both.
    """
    if len(among) == 1 or not budgets:
        return among[0]
    met = [name for name in among if _meets(name, budgets)]
    binding = [name for name in met if _spends(name, budgets)]
    if binding:
        return max(binding, key=lambda name: _share(name, budgets))
    if not met:
        return _nearest(budgets, among)
    largest = max(met, key=lambda name: _share(name, budgets))
    above = [name for name in among if name not in met and set(_below(name, budgets)) & set(budgets)]
    if above:
        raise _between(largest, above, budgets)
    return largest


def _table(space: str, budget: str) -> CostTable:
    own = SPACES[space]
    return COSTS[BUDGETS[budget].cost].table(own, native_conditions(own))


def _counted(budgets: Mapping[str, Sequence[float]]) -> list[str]:
    return [name for name in budgets if not BUDGETS[name].profiled]


def _below(space: str, budgets: Mapping[str, Sequence[float]]) -> list[str]:
    """Budgets that are less than anything in a space."""
    return [name for name in _counted(budgets) if min(budgets[name]) < _table(space, name).minimum]


def _meets(space: str, budgets: Mapping[str, Sequence[float]]) -> bool:
    return not _below(space, budgets) and all(_table(space, name).maximum for name in _counted(budgets))


def _spends(space: str, budgets: Mapping[str, Sequence[float]]) -> bool:
    """Whether one bound at least of every set is within the reach of a space."""
    reached = ([_table(space, name).reaches(limit) for limit in budgets[name]] for name in _counted(budgets))
    return len(_counted(budgets)) < len(budgets) or all(map(any, zip(*reached, strict=True)))


def _share(space: str, budgets: Mapping[str, Sequence[float]]) -> float:
    """The largest share of a bound that a space can spend."""
    shares = [min(1.0, _table(space, name).maximum / min(budgets[name])) for name in _counted(budgets)]
    return max(shares, default=1.0)


def _nearest(budgets: Mapping[str, Sequence[float]], among: Sequence[str]) -> str:
    """The space whose error says most: that of budgets written in millions, or the one that is missed by least."""
    for space in among:
        tables = {name: _table(space, name) for name in _counted(budgets)}
        if all(t.minimum <= 1e6 * limit <= t.maximum for name, t in tables.items() for limit in budgets[name]):
            return space

    def missed(space: str) -> float:
        return max((_table(space, name).minimum / min(budgets[name]) for name in _below(space, budgets)), default=1e99)

    return min(among, key=missed)


def _between(below: str, above: Sequence[str], budgets: Mapping[str, Sequence[float]]) -> BudgetError:
    """The error for bounds that are more than one space has and less than the next needs."""
    name = next(name for space in above for name in _below(space, budgets))
    next_ = min(
        (space for space in above if name in _below(space, budgets)), key=lambda space: _table(space, name).minimum
    )
    scale, unit = BUDGETS[name].scale, BUDGETS[name].unit
    most, least = _table(below, name).maximum / scale, _table(next_, name).minimum / scale
    limits = " and ".join(f"{limit / scale:,.4g} {unit}" for limit in dict.fromkeys(budgets[name]))
    return BudgetError(
        f"{limits} lies between two spaces: {below} ends at {most:,.4g} {unit}, {next_} begins at {least:,.4g} {unit}. "
        f"Ask for one of their ranges, or say space={below!r} (--space {below}) for its largest network."
    )
