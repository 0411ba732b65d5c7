"""The differentiable expectation of a cost under per-slot probabilities."""

from __future__ import annotations

import torch
from torch import Tensor

from sgnas_zoo.costs.table import CostTable
from sgnas_zoo.spaces.variants import Merge


def expected_cost(table: CostTable, probs: Tensor) -> Tensor:
    """Expected cost of an architecture whose slots are drawn independently.

    Exact also where costs within a layer do not add up (squeeze-and-excitation grows with the square of the width): the
    distribution over the layer's variants is worked out slot by slot. At a one-hot it equals ``table.measure``.

    Args:
        table: The cost.
        probs: (..., layers, slots, choices), summing to one over the choices that the space allows and zero elsewhere.

    Returns:
        Costs (...), in ``table.unit`` and the type of ``probs``.
    """
    total = probs.new_full(probs.shape[:-3], table.fixed)
    for layer, costs in enumerate(table.layers):
        outcome = variant_probs(table.space.merge(layer), probs[..., layer, :, :])
        total = total + outcome @ probs.new_tensor(costs)
    return total


def variant_probs(merge: Merge, probs: Tensor) -> Tensor:
    """Probabilities (..., variants) of what one layer's slots add up to, from ``probs`` (..., slots, choices)."""
    states = probs.new_ones((*probs.shape[:-2], 1))
    for slot, step in enumerate(merge.steps):
        sources, choices, targets = (torch.tensor(column, device=probs.device) for column in zip(*step, strict=True))
        flow = states[..., sources] * probs[..., slot, :][..., choices]
        states = probs.new_zeros((*flow.shape[:-1], step[-1].target + 1)).index_add(-1, targets, flow)
    return states
