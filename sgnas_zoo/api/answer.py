"""Answers to budgets: an architecture each, with what it was asked to cost and what it does."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sgnas_zoo.api.profiles import measure_here
from sgnas_zoo.api.resolve import Resolved
from sgnas_zoo.costs import COSTS, Conditions, CostTable
from sgnas_zoo.costs.profile import Profile
from sgnas_zoo.errors import BudgetError
from sgnas_zoo.plain_torch import plain_torch
from sgnas_zoo.search.budgets import BUDGET_COSTS, plain
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
        requested: The budgets: ``flops`` and ``params`` in plain counts, ``latency_ms`` in milliseconds.
        macs: MACs it has, batch 1.
        params: Parameters it has.
        bitops: BitOps of its quantised convolutions; 0 where it has none.
        generator: The generator that proposed it.
        latency: Its latency, where one was asked for.
    """

    space: str
    arch: Arch
    conditions: Conditions
    requested: Mapping[str, float]
    macs: int
    params: int
    bitops: int
    generator: GeneratorSource
    latency: Latency | None = None

    def record(self) -> dict[str, Any]:
        """The result as plain data, as ``generate --json`` prints it and configs keep it."""
        return {
            "space": self.space,
            "arch": str(self.arch),
            **asdict(self.conditions),
            "requested": dict(self.requested),
            "macs": self.macs,
            "params": self.params,
            **({"bitops": self.bitops} if self.bitops else {}),
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
    tables = {cost: COSTS[cost].table(space, resolved.conditions) for cost in ("macs", "params", "bitops")}
    if resolved.profile is not None:
        tables["latency_ms"] = resolved.profile.table(space, resolved.conditions)
    bounds = {tables[BUDGET_COSTS[name]]: limits for name, limits in budgets.items()}
    answers = []
    for number, decoded in enumerate(propose(generator, bounds)):
        own, latency = {table: limits[number] for table, limits in bounds.items()}, None
        if resolved.profile is not None:
            table = tables["latency_ms"]
            latency = Latency(table.measure(decoded.arch), None, resolved.profile)
            if resolved.request.measure:
                decoded, latency = _measured(resolved, own, table, decoded)
        answers.append(
            Generated(
                space=space.name,
                arch=decoded.arch,
                conditions=resolved.conditions,
                requested={_asked(name): plain(limits[number]) for name, limits in budgets.items()},
                macs=int(tables["macs"].measure(decoded.arch)),
                params=int(tables["params"].measure(decoded.arch)),
                bitops=int(tables["bitops"].measure(decoded.arch)),
                generator=generator.source,
                latency=latency,
            )
        )
        _say_if_slack(own, answers[-1])
    return answers


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


def _asked(budget: str) -> str:
    """Name of a budget in records: with its unit, where it has one."""
    return "latency_ms" if budget == "latency" else budget
