"""Answers to budgets: an architecture each, with what it was asked to cost and what it does."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sgnas_zoo.api.latency import Latency, kept_as_measured
from sgnas_zoo.api.profiles import stopwatch
from sgnas_zoo.api.resolve import Resolved
from sgnas_zoo.costs import BUDGETS, Conditions, CostTable, counted_tables
from sgnas_zoo.plain_torch import plain_torch
from sgnas_zoo.search.budgets import plain
from sgnas_zoo.search.generator import GeneratorSource
from sgnas_zoo.search.propose import propose
from sgnas_zoo.spaces import Arch


@dataclass(frozen=True)
class Generated:
    """One answer to one set of budgets.

    Args:
        space: Name of the search space.
        arch: The architecture.
        conditions: What its costs are stated for.
        requested: The budgets: in plain counts, ``latency_ms`` in milliseconds.
        costs: What it has, counted, by name of the cost: ``macs`` (batch 1), ``params``, and what else is not nothing.
        generator: The generator that proposed it.
        latency: Its latency, where one was asked for.
    """

    space: str
    arch: Arch
    conditions: Conditions
    requested: Mapping[str, float]
    costs: Mapping[str, int]
    generator: GeneratorSource
    latency: Latency | None = None

    @property
    def macs(self) -> int:
        """MACs it has, batch 1."""
        return self.costs["macs"]

    @property
    def params(self) -> int:
        """Parameters it has."""
        return self.costs["params"]

    def record(self) -> dict[str, Any]:
        """The result as plain data, as ``generate --json`` prints it and configs keep it."""
        return {
            "space": self.space,
            "arch": str(self.arch),
            **asdict(self.conditions),
            "requested": dict(self.requested),
            **self.costs,
            **(self.latency.record() if self.latency else {}),
            "generator": asdict(self.generator),
        }


@plain_torch()
def answer(resolved: Resolved) -> list[Generated]:
    """Answer N sets of budgets, with one pass of a generator.

    Each network made for a latency is measured, unless that was not wanted; see ``kept_as_measured``.

    Raises:
        BudgetError: If a budget cannot be met, or no network measures within its latency.
        ArtifactError: If the profile is for something else.
    """
    space, budgets, generator = resolved.space, resolved.request.budgets, resolved.generator
    assert generator is not None
    counts = counted_tables(space, resolved.conditions)
    timed = {} if resolved.profile is None else {"latency": resolved.profile.table(space, resolved.conditions)}
    bounds = {(counts | timed)[name]: limits for name, limits in budgets.items()}
    proposed, answers, measure = propose(generator, bounds), list[Generated](), None
    if resolved.profile is not None and resolved.request.measure:
        measure = stopwatch(resolved.conditions, resolved.profile)
    for number, decoded in enumerate(proposed):
        own, latency = {table: limits[number] for table, limits in bounds.items()}, None
        if resolved.profile is not None:
            table = timed["latency"]
            latency = Latency(table.measure(decoded.arch), None, resolved.profile)
            if measure is not None:
                decoded, latency = kept_as_measured(generator, own, table, decoded, resolved.profile, measure)
        answers.append(
            Generated(
                space=space.name,
                arch=decoded.arch,
                conditions=resolved.conditions,
                requested={BUDGETS[name].recorded: plain(limits[number]) for name, limits in budgets.items()},
                costs=_counts(counts.values(), decoded.arch),
                generator=generator.source,
                latency=latency,
            )
        )
        _say_if_slack(own, answers[-1])
    return answers


def _counts(tables: Iterable[CostTable], arch: Arch) -> dict[str, int]:
    """What an architecture costs, but for what its space has none of."""
    return {table.name: int(table.measure(arch)) for table in tables if table.maximum}


def _say_if_slack(limits: Mapping[CostTable, float], found: Generated) -> None:
    """Warn where no bound binds: more was allowed than the space can use."""
    if not any(table.reaches(limit) for table, limit in limits.items()):
        asked = " and ".join(f"{limit:,.10g} {table.unit}" for table, limit in limits.items())
        warnings.warn(
            f"No network of {found.space} reaches {asked}; this is its largest, with {found.macs:,} MACs and "
            f"{found.params:,} parameters.", stacklevel=4,
        )  # fmt: skip
