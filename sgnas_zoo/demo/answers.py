"""What the page answers: an offer (a space with trained weights) and budgets in, a network with its costs out."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from sgnas_zoo.api.answer import Generated, answer
from sgnas_zoo.api.resolve import Resolved
from sgnas_zoo.costs import BUDGETS, CostTable, counted_tables
from sgnas_zoo.costs.profile import Profile
from sgnas_zoo.demo.sliders import SLIDERS, Range, range_of
from sgnas_zoo.errors import ArtifactError, BudgetError, unknown_name
from sgnas_zoo.training.fronts.plan import plan_front
from sgnas_zoo.training.fronts.verticals import PREDICTED, predicted
from sgnas_zoo.zoo import published, supernet_entries


@dataclass(frozen=True)
class Offer:
    """A space with weights and a generator that come with the package.

    Args:
        space: Name of the space.
        tag: Tag of its weights.
        dataset: What these were trained on.
    """

    space: str
    tag: str
    dataset: str

    @property
    def name(self) -> str:
        """Space and tag, as timm writes them."""
        return f"{self.space}.{self.tag}"


@dataclass(frozen=True)
class Asked:
    """What a network was asked for.

    Args:
        offer: Space and weights.
        budgets: Upper bounds in plain counts, by name of the budget.
    """

    offer: Offer
    budgets: Mapping[str, float]

    @property
    def text(self) -> str:
        """All of it as JSON, which the page keeps."""
        return json.dumps({"offer": self.offer.name, "budgets": dict(self.budgets)})

    @property
    def python(self) -> str:
        """The Python that makes this network."""
        amounts = "".join(f", {name}={_literal(name, amount)}" for name, amount in self.budgets.items())
        call = f"space={self.offer.space!r}{amounts}, pretrained={self.offer.tag!r}".replace("'", '"')
        return f"import sgnas_zoo\n\nmodel = sgnas_zoo.create_model({call})\n"

    @property
    def command(self) -> str:
        """The command line that makes this network."""
        amounts = "".join(f" --{name} {BUDGETS[name].shown(amount)}" for name, amount in self.budgets.items())
        return f"sgnas-zoo generate --space {self.offer.space}{amounts} --pretrained {self.offer.tag} --output my-model"

    @property
    def folder(self) -> str:
        """A name for its folder."""
        return "-".join([self.offer.space, *(f"{n}-{BUDGETS[n].shown(a)}" for n, a in self.budgets.items())])


@dataclass(frozen=True)
class Answer:
    """A network for what was asked.

    Args:
        asked: What was asked for.
        network: Architecture and costs.
        top1: Predicted top-1 in percent; None where nothing is known.
        latencies: Predicted milliseconds by what they were measured on, for each profile of these networks.
    """

    asked: Asked
    network: Generated
    top1: float | None
    latencies: Sequence[tuple[Profile, float]]


@lru_cache(maxsize=1)
def offers() -> Mapping[str, Offer]:
    """What can be chosen, by name: everything that comes with the package, so that no network connection is needed."""
    found = [
        Offer(entry.space, entry.tag, entry.dataset)
        for entry in supernet_entries()
        if all(part and isinstance(published(part), Path) for part in (entry.supernet, entry.generator))
    ]
    return {offer.name: offer for offer in found}


def offer_of(name: object) -> Offer:
    """An offer by its name.

    Raises:
        UnknownNameError: If there is none.
    """
    if not isinstance(name, str) or name not in offers():
        raise unknown_name("space", name, offers())
    return offers()[name]


@lru_cache
def resolved(offer: Offer) -> Resolved:
    """Space, conditions, generator and supernet of an offer."""
    return plan_front(offer.space, pretrained=offer.tag, points=2).resolved


@lru_cache
def ranges(offer: Offer) -> Mapping[str, Range]:
    """What the networks of an offer cost, by name of the budget; no budget that all of them spend alike."""
    tables = _tables(offer)
    return {name: range_of(name, tables[name]) for name in SLIDERS if tables[name].minimum < tables[name].maximum}


@lru_cache
def front(offer: Offer) -> Mapping[str, Any]:
    """Networks over the whole range of FLOPs, as ``generate_front`` records them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return plan_front(offer.space, cost=SLIDERS[0], pretrained=offer.tag, points=20).run()


def ask(offer: Offer, values: Mapping[str, object]) -> tuple[Asked | None, dict[str, str]]:
    """Read the sliders: what was asked for, or what is wrong with which of them.

    Args:
        offer: Space and weights.
        values: Values of sliders by name of the budget; those of other budgets are left out.
    """
    budgets, problems = dict[str, float](), dict[str, str]()
    for name, own in ranges(offer).items():
        try:
            amount = own.limit(values.get(name, own.most))
        except BudgetError as error:
            problems[name] = str(error)
            continue
        if own.limits(amount):
            budgets[name] = amount
    return None if problems else Asked(offer, budgets), problems


def read_asked(text: object) -> Asked:
    """What a page kept: as ``Asked.text``, but from anybody.

    Raises:
        BudgetError: If it is anything else.
        UnknownNameError: If there is no such space.
    """
    try:
        told = json.loads(text if isinstance(text, str) and len(text) < 1000 else "")
        name, budgets = told["offer"], dict(told["budgets"])
        values = {key: budgets[key] / BUDGETS[key].scale for key in SLIDERS if key in budgets}
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        raise BudgetError("The page has no network yet; move a slider.") from None
    asked, problems = ask(offer_of(name), values)
    if asked is None:
        raise BudgetError(next(iter(problems.values())))
    return asked


def find(asked: Asked, profiles: Sequence[Profile] = ()) -> Answer:
    """The network for what was asked.

    Raises:
        BudgetError: If the bounds cannot be kept together.
    """
    base = resolved(asked.offer)
    request = replace(base.request, budgets={name: [amount] for name, amount in asked.budgets.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no bound binds shows on the page
        network = answer(replace(base, request=request))[0]
    vertical = predicted(base, [network.arch], _tables(asked.offer)[SLIDERS[0]])
    top1 = vertical.columns[PREDICTED][0] if vertical else None
    return Answer(asked, network, top1, latencies(base, network, profiles))


def latencies(base: Resolved, network: Generated, profiles: Sequence[Profile]) -> list[tuple[Profile, float]]:
    """Predicted milliseconds on each device whose profile is of such networks, and not known to be poor."""
    found = []
    for profile in profiles:
        try:
            profile.refuse_poor()
            found.append((profile, profile.table(base.space, base.conditions).measure(network.arch)))
        except ArtifactError:  # of another space, form or resolution
            continue
    return found


@lru_cache
def _tables(offer: Offer) -> Mapping[str, CostTable]:
    base = resolved(offer)
    return counted_tables(base.space, base.conditions)


def _literal(name: str, amount: float) -> str:
    """A budget as Python code."""
    budget = BUDGETS[name]
    return f"{budget.shown(amount)!r}" if budget.read else f"{amount / budget.scale:.4g}e6"
