"""Which form a network takes: the one that was asked for, that of a profile, or the one with more in the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from sgnas_zoo.api.profiles import own_profile
from sgnas_zoo.costs import COSTS, Conditions, counted_tables
from sgnas_zoo.costs.profile import Profile
from sgnas_zoo.errors import BudgetError, PretrainedError
from sgnas_zoo.measure.progress import note
from sgnas_zoo.search.decode import SPEND
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.search.propose import propose
from sgnas_zoo.spaces import FormName, SearchSpace


class TimedForm(NamedTuple):
    """A form that a latency can be asked in.

    Args:
        conditions: Form, resolution, classes and channels.
        profile: This device's profile of them.
        macs: MACs of all answers together, as predicted.
    """

    conditions: Conditions
    profile: Profile
    macs: float


def inherited_form(space: SearchSpace, asked: FormName | None) -> FormName:
    """The form of networks that inherit weights: that of the supernet, or one that is the same by another name.

    Raises:
        PretrainedError: If another form was asked for.
        SpaceError: If the space has no such form.
        UnknownNameError: If there is none of that name.
    """
    if asked is not None and space.form(asked) != space.form("search"):
        raise PretrainedError(
            f"Weights of {space.name} are inherited in the search form, not {asked}: leave form out, or train a "
            f"network of that form from scratch with recipes/retrain.py --form {asked}."
        )
    return asked or "search"


def choose_form(
    space: SearchSpace, conditions: Conditions, budgets: Mapping[str, Sequence[float]], generator: ArchGenerator
) -> tuple[Conditions, Profile]:
    """Of the stand-alone forms, the one whose networks have the most MACs within a latency and the other bounds.

    Each is predicted by this device's own profile, which is measured where the cache has none. The first form stays
    unless another one has more MACs by a larger share than an answer may leave unspent. A line says which was chosen.

    Args:
        space: The space.
        conditions: What costs are stated for, in the first form.
        budgets: N upper bounds of each budget, a latency among them.
        generator: The generator that is to answer.

    Returns:
        The conditions in that form, and the profile of them.

    Raises:
        BudgetError: If no form meets the bounds.
    """
    found, missed = list[TimedForm](), list[BudgetError]()
    for form in space.standalone_forms:
        try:
            found.append(_timed(space, replace(conditions, form=form), budgets, generator))
        except BudgetError as error:
            missed.append(error)
    if not found:
        raise missed[-1]  # that of the lite form, whose blocks do less, so its range begins lower
    best = max(found, key=lambda one: one.macs)
    chosen = best if SPEND * best.macs > found[0].macs else found[0]
    if len(space.standalone_forms) > 1:
        _say(chosen, found, len(next(iter(budgets.values()))))
    return chosen.conditions, chosen.profile


def _timed(
    space: SearchSpace, conditions: Conditions, budgets: Mapping[str, Sequence[float]], generator: ArchGenerator
) -> TimedForm:
    """What a form has within the bounds.

    Raises:
        BudgetError: If it does not meet them.
    """
    profile, macs = own_profile(space, conditions), COSTS["macs"].table(space, conditions)
    tables = {**counted_tables(space, conditions), "latency": profile.table(space, conditions)}
    answers = propose(generator, {tables[name]: limits for name, limits in budgets.items()})
    return TimedForm(conditions, profile, sum(macs.measure(each.arch) for each in answers))


def _say(chosen: TimedForm, found: Sequence[TimedForm], number: int) -> None:
    """Say which form was chosen, and what each had."""
    had = " and ".join(f"{one.conditions.form} has {one.macs / number / 1e6:,.1f}M MACs" for one in found)
    note(f"Form {chosen.conditions.form}: within the bounds {had}; --form (form=) decides otherwise.")
