"""Answers to budgets: an architecture each, with what it was asked to cost and what it does."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sgnas_zoo.api.profiles import measure_here
from sgnas_zoo.api.resolve import Resolved
from sgnas_zoo.costs import BUDGETS, Conditions, CostTable, counted_tables
from sgnas_zoo.costs.profile import Profile
from sgnas_zoo.errors import BudgetError
from sgnas_zoo.plain_torch import plain_torch
from sgnas_zoo.search.budgets import plain
from sgnas_zoo.search.decode import Decoded
from sgnas_zoo.search.generator import GeneratorSource
from sgnas_zoo.search.propose import propose
from sgnas_zoo.spaces import Arch

ATTEMPTS = 4
"""Networks tried where the first ones measure above their latency."""


@dataclass(frozen=True)
class Latency:
    """What a network takes on a device.

    Args:
        predicted_ms: Time of a batch in milliseconds by the device's profile; the budget bounds it.
        measured_ms: Median time as measured on this machine, if it was.
        profile: The profile: device, runtime, threads and batch that both hold for.
    """

    predicted_ms: float
    measured_ms: float | None
    profile: Profile

    def record(self) -> dict[str, Any]:
        """Plain data, for the record of a network."""
        measured = {} if self.measured_ms is None else {"measured_ms": round(self.measured_ms, 3)}
        source = {"profile": self.profile.source} if self.profile.source else {}
        return {
            "latency_ms": round(self.predicted_ms, 3),
            **measured,
            "latency_conditions": asdict(self.profile.setup) | source,
        }


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

    Each network made for a latency is measured, unless that was not wanted. One that measures above its budget by more
    than the profile's 90th percentile error is given up for one that is predicted to be quicker, a few times over.

    Raises:
        BudgetError: If a budget cannot be met.
        ArtifactError: If the profile is for something else.
    """
    space, budgets, generator = resolved.space, resolved.request.budgets, resolved.generator
    assert generator is not None
    counts = counted_tables(space, resolved.conditions)
    timed = {} if resolved.profile is None else {"latency": resolved.profile.table(space, resolved.conditions)}
    bounds = {(counts | timed)[name]: limits for name, limits in budgets.items()}
    answers = []
    for number, decoded in enumerate(propose(generator, bounds)):
        own, latency = {table: limits[number] for table, limits in bounds.items()}, None
        if resolved.profile is not None:
            table = timed["latency"]
            latency = Latency(table.measure(decoded.arch), None, resolved.profile)
            if resolved.request.measure:
                decoded, latency = _measured(resolved, own, table, decoded)
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


def _measured(
    resolved: Resolved, limits: Mapping[CostTable, float], table: CostTable, decoded: Decoded
) -> tuple[Decoded, Latency]:
    """Measure a network; while it takes too long, ask for quicker ones."""
    generator, conditions, profile = resolved.generator, resolved.conditions, resolved.profile
    assert generator is not None
    assert profile is not None
    most, asked = limits[table], limits[table]
    measured = measure_here(decoded.arch, conditions, profile)
    for _ in range(ATTEMPTS - 1):
        if measured <= most * (1 + profile.tolerance):
            break
        asked = max(asked * most / measured, table.minimum)
        try:
            decoded = propose(generator, {t: [asked if t == table else limit] for t, limit in limits.items()})[0]
        except BudgetError:  # the other bounds leave nothing that quick
            break
        measured = measure_here(decoded.arch, conditions, profile)
    if measured > most * (1 + profile.tolerance):
        warnings.warn(
            f"Measured {measured:.4g} ms at a budget of {most:.4g} ms, after up to {ATTEMPTS} networks: is this "
            "machine busy, or its profile old? Profile it anew, or ask for less.", stacklevel=5,
        )  # fmt: skip
    return decoded, Latency(table.measure(decoded.arch), measured, profile)
