"""From budgets to architectures: ask a generator, decode what it says within the budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from sgnas_zoo.costs import COSTS, CostTable
from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.search.bounds import Bound, within
from sgnas_zoo.search.decode import Decoded, decode, decode_best, decode_ranked
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.search.knapsack import Floats
from sgnas_zoo.search.ranges import check_range
from sgnas_zoo.search.relaxation import log_probs
from sgnas_zoo.spaces import Arch

AT_ONCE = 128
"""Problems that are decoded together."""

SWEEP = 48
"""Targets tried for budgets that the generator was not conditioned on."""


def propose(generator: ArchGenerator, limits: Mapping[CostTable, Sequence[float]]) -> list[Decoded]:
    """Answer N sets of budgets with one architecture each.

    A budget on the generator's own cost is its target, of which it spends ``generator.spend``. Where that answer breaks
    another bound, or no bound on its cost is one to spend, its targets are swept over their range and the most probable
    decode that spends 99 % of a budget is taken: the sweep has no other way to tell a large budget from a small one.
    Budgets that are about the largest of a layer alone (memory) are answered with the largest networks within them.

    Args:
        generator: The generator.
        limits: N upper bounds for each cost.

    Returns:
        N results.

    Raises:
        BudgetError: If a limit is below what the space can cost, or no architecture meets all together.
        ArtifactError: If the generator's logits are not finite.
    """
    for table, amounts in limits.items():
        for amount in amounts:
            check_range(table, amount)
    low, high = generator.cost_range
    number = len(next(iter(limits.values())))
    limits, ceilings = _largest_within(generator, limits)
    answers: dict[int, Decoded] = {}
    for table, amounts in limits.items():
        offset = _offset(generator, table)
        if offset is not None:
            targets = np.clip(np.asarray(amounts) + offset, low, high)
            own = _decode(generator, targets, {table: amounts, **ceilings})
            answers = {
                n: decoded for n, decoded in enumerate(own)
                if table in spent(limits, n) and all(t.measure(decoded.arch) <= a[n] for t, a in limits.items())
            }  # fmt: skip
    left = [n for n in range(number) if n not in answers]
    if left:
        bounds = [Bound(table, [amounts[n] for n in left]) for table, amounts in limits.items()]
        answers |= zip(left, decode_best(_scores(generator, np.linspace(low, high, SWEEP)), bounds), strict=True)
    return [answers[n] for n in range(number)]


def propose_several(generator: ArchGenerator, bounds: Sequence[Bound], count: int) -> list[Arch]:
    """The answer to bounds of one limit each, and the next ``count - 1`` architectures that are as probable.

    The others keep the bounds and need not spend them. They are the most probable at the target of the answer; where
    targets were swept, at the one whose most probable architecture within the bounds is the most probable of all.

    Raises:
        BudgetError: As ``propose``.
        ArtifactError: As ``propose``.
    """
    limits = {bound.table: float(bound.limits) for bound in bounds}  # type: ignore[arg-type]
    (answer,) = propose(generator, {table: [limit] for table, limit in limits.items()})
    if count == 1:
        return [answer.arch]
    low, high = generator.cost_range
    own = [limit + offset for table, limit in limits.items() if (offset := _offset(generator, table)) is not None]
    scores = _scores(generator, np.clip(own[:1], low, high) if own else np.linspace(low, high, SWEEP))
    best = max(range(len(scores)), key=lambda at: decode_ranked(scores[at], bounds, 1)[0].log_prob)
    others = (found.arch for found in decode_ranked(scores[best], bounds, count))
    return [*dict.fromkeys((answer.arch, *others))][:count]


def spent(limits: Mapping[CostTable, Sequence[float]], number: int) -> list[CostTable]:
    """The costs of a set of budgets that are to be spent: those that the space reaches, or the first.

    Of a cost that is the largest of a layer nothing is to be spent.
    """
    sums = {table: amounts for table, amounts in limits.items() if table.over_layers == "sum"}
    return [table for table, amounts in sums.items() if table.reaches(amounts[number])] or [*sums][:1]


def _decode(generator: ArchGenerator, targets: Floats, limits: Mapping[CostTable, Sequence[float]]) -> list[Decoded]:
    """Decode bounds, a few targets at a time: that stays in the processor's cache, and memory stays bounded."""
    parts = [slice(start, start + AT_ONCE) for start in range(0, len(targets), AT_ONCE)]
    return [
        found for part in parts
        for found in decode(
            _scores(generator, targets[part]), [Bound(t, amounts[part]) for t, amounts in limits.items()],
            generator.spend,
        )
    ]  # fmt: skip


def _own(generator: ArchGenerator) -> CostTable:
    """The cost that a generator's targets are about."""
    return COSTS[generator.cost].table(generator.space, generator.conditions)


def _largest_within(
    generator: ArchGenerator, limits: Mapping[CostTable, Sequence[float]]
) -> tuple[Mapping[CostTable, Sequence[float]], Mapping[CostTable, Sequence[float]]]:
    """The limits, and those of them that are about the largest of a layer.

    Where these are all, the highest cost within them is a limit too, of the cost that the generator is about.
    """
    ceilings = {table: amounts for table, amounts in limits.items() if table.over_layers == "max"}
    if len(ceilings) < len(limits):
        return limits, ceilings
    table, number = _own(generator), len(next(iter(limits.values())))
    most = [
        table.fixed + sum(
            max((cost for cost, fits in zip(costs, mask, strict=False) if fits), default=0.0)
            for costs, mask in zip(table.layers, layers, strict=True)
        )
        for layers in within([Bound(ceiling, amounts) for ceiling, amounts in ceilings.items()], number)
    ]  # fmt: skip
    return {table: most, **limits}, ceilings


def _offset(generator: ArchGenerator, table: CostTable) -> float | None:
    """What to add to a limit to get the generator's target, if both count alike but for what no choice changes."""
    own = _own(generator)
    return own.fixed - table.fixed if own.layers == table.layers else None


def _scores(generator: ArchGenerator, targets: Floats) -> Floats:
    """Log-probabilities (N, layers, slots, choices) of N targets, from one forward pass."""
    with torch.no_grad():
        logits = generator(torch.from_numpy(targets))
        if not bool(torch.isfinite(logits).all()):
            raise ArtifactError("This generator answers with numbers that are not finite; train or fetch it again.")
        scores: Floats = log_probs(generator.space, logits).cpu().double().numpy()
    return scores
