"""Networks for a latency: they are measured, and what was measured corrects what is asked for next."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sgnas_zoo.costs import CostTable
from sgnas_zoo.costs.profile import Profile
from sgnas_zoo.errors import BudgetError
from sgnas_zoo.measure.timing import Timing
from sgnas_zoo.search.decode import Decoded
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.search.propose import propose
from sgnas_zoo.spaces import Arch

ATTEMPTS = 5
"""Networks measured for one budget at most."""


@dataclass(frozen=True)
class Latency:
    """What a network takes on a device.

    Args:
        predicted_ms: Time of a batch in milliseconds by the device's profile. The budget bounds it where nothing was
            measured; else the budget bounds what was measured.
        measured: Times on this machine, if it was measured.
        profile: The profile: device, runtime, threads and batch that both hold for.
    """

    predicted_ms: float
    measured: Timing | None
    profile: Profile

    @property
    def measured_ms(self) -> float | None:
        """Median of the measured times in milliseconds, if it was measured; ``measured`` knows how far they spread."""
        return None if self.measured is None else self.measured.median_ms

    def record(self) -> dict[str, Any]:
        """Plain data, for the record of a network."""
        source = {"profile": self.profile.source} if self.profile.source else {}
        times = {}
        if self.measured is not None:
            times = {"measured_ms": round(self.measured.median_ms, 3), **self.measured.record()}
        return {
            "latency_ms": round(self.predicted_ms, 3),
            **times,
            "latency_conditions": asdict(self.profile.setup) | source,
        }


@dataclass(frozen=True)
class _Try:
    """A network that was measured."""

    decoded: Decoded
    predicted: float
    timing: Timing

    @property
    def most(self) -> float:
        """The longest that it is said to take, in milliseconds."""
        return self.timing.range_ms[1]

    def agrees(self, tolerance: float) -> bool:
        """Whether it takes what was predicted, give or take a share of that."""
        low, high = self.timing.range_ms
        return low <= self.predicted * (1 + tolerance) and high >= self.predicted * (1 - tolerance)


def kept_as_measured(
    generator: ArchGenerator, limits: Mapping[CostTable, float], table: CostTable, decoded: Decoded, profile: Profile,
    measure: Callable[[Arch], Timing],
) -> tuple[Decoded, Latency]:  # fmt: skip
    """Measure a network for a latency; where it misses the budget, ask for another one, a few times over.

    The ratio of measured to predicted corrects what is asked for next: less where a network takes longer than the
    budget, more where it is quicker than predicted by more than the profile's error and leaves that much unused.

    Args:
        generator: The generator.
        limits: All bounds.
        table: The latency's own, by the profile.
        decoded: The first network.
        profile: The profile.
        measure: Measures a network.

    Returns:
        Of the networks that measure within the budget, the one that uses most of it; a warning says where the machine
        or the profile has changed.

    Raises:
        BudgetError: If none measures within the budget.
    """
    budget, tried = limits[table], dict[Arch, _Try]()
    while decoded.arch not in tried and len(tried) < ATTEMPTS:
        one = _Try(decoded, table.measure(decoded.arch), measure(decoded.arch))
        tried[decoded.arch] = one
        keeps, used = one.most <= budget, one.most >= budget * (1 - profile.tolerance)
        if keeps and (used or one.agrees(profile.tolerance)):
            break
        asked = budget * one.predicted / (one.timing.median_ms if keeps else one.most)
        try:
            changed = {t: [max(asked, t.minimum) if t == table else limit] for t, limit in limits.items()}
            decoded = propose(generator, changed)[0]
        except BudgetError:  # the other bounds leave nothing that quick
            break
    best = _best([*tried.values()], budget, profile)
    _say_if_changed(next(iter(tried.values())), best, len(tried), profile)
    return best.decoded, Latency(best.predicted, best.timing, profile)


def _best(tried: list[_Try], budget: float, profile: Profile) -> _Try:
    """Of the networks within the budget, the one that takes longest.

    Raises:
        BudgetError: If there is none.
    """
    within = [one for one in tried if one.most <= budget]
    if not within:
        quickest = min(tried, key=lambda one: one.most)
        raise BudgetError(
            f"Measured {quickest.timing} at a budget of {budget:.4g} ms, the quickest of {len(tried)} networks, where "
            f"the profile predicts {quickest.predicted:.4g} ms: make the profile anew on an idle machine with "
            f"`{profile.command}`, or ask for more."
        )
    return max(within, key=lambda one: one.most)


def _say_if_changed(first: _Try, best: _Try, number: int, profile: Profile) -> None:
    """Warn where measured and predicted differ by more than the profile's error."""
    if not first.agrees(profile.tolerance):
        error = f"{profile.validation.p90_error:.0%}" if profile.validation else "not known"
        warnings.warn(
            f"Measured {first.timing} where the profile predicts {first.predicted:.2f} ms (its error is {error}): the "
            f"machine or the profile has changed. The best of {number} networks takes {best.timing}. Make the profile "
            f"anew on an idle machine with `{profile.command}`.", stacklevel=5,
        )  # fmt: skip
