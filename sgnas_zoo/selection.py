"""Which architecture answers a request: the space, its generator, and what that makes of the budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgnas_zoo.answers import Generated, answer
from sgnas_zoo.costs import COSTS, Conditions, native_conditions
from sgnas_zoo.costs.profile import Profile
from sgnas_zoo.errors import BudgetError, UnknownNameError
from sgnas_zoo.hub.generators import default_generator, load_generator, spaces_with_generator
from sgnas_zoo.hub.remote import Access
from sgnas_zoo.profiles import own_profile
from sgnas_zoo.search.budgets import BUDGET_COSTS, broadcast
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.spaces import SPACES, Arch, SearchSpace
from sgnas_zoo.zoo import default_arch


@dataclass(frozen=True)
class Pick:
    """The architecture chosen for a request, what its costs are stated for, and the answer it comes from, if any."""

    arch: Arch
    conditions: Conditions
    result: Generated | None = None


def pick(
    family: str,
    arch: str | None,
    space: str | None,
    budgets: Mapping[str, float],
    generator: object,
    profile: Profile | None = None,
    measure: bool = True,
    **changes: Any,
) -> Pick:
    """Choose an architecture: the one named, the one generated for budgets, or the family's first published one.

    Args:
        family: "sgnas" or "greedynas".
        arch: Architecture string; it is checked against ``budgets`` if those are given as well.
        space: Name of its space.
        budgets: One number for each budget given.
        generator: A generator, its folder or repo id; None for the embedded one.
        profile: As in ``answer``.
        measure: As in ``answer``.
        changes: Conditions other than the space's own.

    Raises:
        ZooError: If names are unknown or budgets cannot be met.
    """
    if arch is None and budgets:
        generator = None if generator is None else load(generator, "")
        space = choose_space(
            space if profile is None else space or profile.space, family, generator, broadcast(budgets)
        )
        conditions = native_conditions(SPACES[space], **changes)
        result = answer(load(generator, space), conditions, broadcast(budgets), profile, measure)[0]
        return Pick(result.arch, conditions, result)
    if arch is not None:
        chosen = _family_space(family, space).parse(arch)
    else:
        chosen = default_arch(family, None if space is None else _family_space(family, space))
    conditions = native_conditions(chosen.space, **changes)
    for name, limit in budgets.items():
        priced = COSTS[BUDGET_COSTS[name]] if name != "latency" else profile or own_profile(chosen.space, conditions)
        cost = priced.table(chosen.space, conditions).measure(chosen)
        if cost > limit:
            raise BudgetError(f"This arch has {cost:,.0f} {name}, more than {limit:,.0f}; leave out arch or {name}.")
    return Pick(chosen, conditions)


def choose_space(
    space: str | None,
    family: str | None,
    generator: object,
    budgets: Mapping[str, Sequence[float]],
    among: Sequence[str] | None = None,
) -> str:
    """Name of the space to search: the one named, that of the generator, or the first whose range holds the budgets.

    Args:
        space: The one named, if any.
        family: Family it has to belong to, if any.
        generator: The generator given, if any.
        budgets: N limits for each budget.
        among: Names to choose from; by default the spaces with an embedded generator.

    Raises:
        UnknownNameError: If there is no such space, or it is another family's.
    """
    if space is not None:
        chosen = SPACES[space].name
    elif generator is not None:
        chosen = load(generator, "").space.name
    else:
        names = [n for n in among or spaces_with_generator() if family in (None, SPACES[n].family)]
        names = names or [_family_space(family or "", None).name]
        fitting = (n for n in names if all(_in_range(SPACES[n], cost, limits) for cost, limits in budgets.items()))
        chosen = next(fitting, names[0])
    if family not in (None, SPACES[chosen].family):
        raise UnknownNameError(f"Space {chosen} belongs to {SPACES[chosen].family}, not {family}; name that model.")
    return chosen


def load(generator: object, space: str, access: Access = Access()) -> ArchGenerator:  # noqa: B008  # immutable
    """The generator that was given, loaded where it is a folder or a repo, or the embedded one of a space.

    A revision in ``access`` speaks of weights; a generator's repo names its own: ``USER/NAME@REVISION``.
    """
    if isinstance(generator, ArchGenerator):
        return generator
    if generator is None:
        return default_generator(space)
    named = generator if isinstance(generator, Path) else str(generator)
    return load_generator(named, **access._replace(revision=None)._asdict())


def given(**values: Any) -> dict[str, Any]:
    """The arguments that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def _in_range(space: SearchSpace, budget: str, limits: Sequence[float]) -> bool:
    if budget == "latency":  # what a space takes on a device is known once it is chosen and profiled
        return True
    table = COSTS[BUDGET_COSTS[budget]].table(space, native_conditions(space))
    return all(table.minimum <= limit <= table.maximum for limit in limits)


def _family_space(family: str, space: str | None) -> SearchSpace:
    """The named space, or the one that a family's bare architecture strings are read in."""
    return SPACES[space] if space else default_arch(family).space
