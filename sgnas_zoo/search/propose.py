"""From budgets to architectures: ask a generator, decode what it says within the budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from sgnas_zoo.costs import COSTS, CostTable
from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.search.decode import Bound, Decoded, check_range, decode, decode_best
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.search.knapsack import Floats
from sgnas_zoo.search.relaxation import log_probs

AT_ONCE = 128
"""Problems that are decoded together."""

SWEEP = 48
"""Targets tried for budgets that the generator was not conditioned on."""


def propose(generator: ArchGenerator, limits: Mapping[CostTable, Sequence[float]]) -> list[Decoded]:
    """Answer N sets of budgets with one architecture each.

    A budget on the generator's own cost is its target. Where that answer breaks another bound, or no bound is on its
    cost, its targets are swept over their range and the most probable decode is taken.

    Args:
        generator: The generator.
        limits: N upper bounds for each cost.

    Returns:
        N results.

    Raises:
        BudgetError: If a limit is outside what the space can cost, or no architecture meets all together.
        ArtifactError: If the generator's logits are not finite.
    """
    for table, amounts in limits.items():
        for amount in amounts:
            check_range(table, amount)
    low, high = generator.cost_range
    problems = [dict(zip(limits, amounts, strict=True)) for amounts in zip(*limits.values(), strict=True)]
    answers: list[Decoded | None] = [None] * len(problems)
    for table, amounts in limits.items():
        offset = _offset(generator, table)
        if offset is not None:
            scores = _scores(generator, np.clip(np.asarray(amounts) + offset, low, high))
            own = zip(_decode(scores, table, amounts), problems, strict=True)
            answers = [d if all(t.measure(d.arch) <= most for t, most in p.items()) else None for d, p in own]
    scores = _scores(generator, np.linspace(low, high, SWEEP)) if None in answers else np.empty(0)
    return [
        answer or decode_best(scores, [Bound(table, most) for table, most in problem.items()])
        for answer, problem in zip(answers, problems, strict=True)
    ]


def _decode(scores: Floats, table: CostTable, amounts: Sequence[float]) -> list[Decoded]:
    """Decode one bound, a few problems at a time: that stays in the processor's cache, and memory stays bounded."""
    parts = range(0, len(amounts), AT_ONCE)
    return [
        answer
        for start in parts
        for answer in decode(scores[start : start + AT_ONCE], [Bound(table, amounts[start : start + AT_ONCE])])
    ]


def _offset(generator: ArchGenerator, table: CostTable) -> float | None:
    """What to add to a limit to get the generator's target, if both count alike but for what no choice changes."""
    own = COSTS[generator.cost].table(generator.space, generator.conditions)
    return own.fixed - table.fixed if own.layers == table.layers else None


def _scores(generator: ArchGenerator, targets: Floats) -> Floats:
    """Log-probabilities (N, layers, slots, choices) of N targets, from one forward pass."""
    with torch.no_grad():
        logits = generator(torch.from_numpy(targets).to(generator.tail.weight.device))
        if not bool(torch.isfinite(logits).all()):
            raise ArtifactError("This generator answers with numbers that are not finite; train or fetch it again.")
        scores: Floats = log_probs(generator.space, logits).double().cpu().numpy()
    return scores
