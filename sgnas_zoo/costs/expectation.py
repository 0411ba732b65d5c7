"""The differentiable expectation of a cost under per-slot probabilities."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from sgnas_zoo.costs.table import CostTable
from sgnas_zoo.plain_torch import plain_torch
from sgnas_zoo.spaces.variants import Merge


def expected_cost(table: CostTable, probs: Tensor) -> Tensor:
    """Expected cost of an architecture whose slots are drawn independently.

    Exact also where costs within a layer do not add up (squeeze-and-excitation grows with the square of the width): the
    distribution over the layer's variants is worked out slot by slot. At a one-hot it equals ``table.measure``. Of a
    cost that is a maximum over layers, it is the mean of the distribution of that maximum: the product of those of
    the layers.

    Args:
        table: The cost.
        probs: (..., layers, slots, choices), summing to one over the choices that the space allows and zero elsewhere.

    Returns:
        Costs (...), in ``table.unit`` and the type of ``probs``.
    """
    if table.over_layers == "max":
        return _expected_maximum(table, probs)
    total = probs.new_full(probs.shape[:-3], table.fixed)
    for layer, costs in enumerate(table.layers):
        outcome = variant_probs(table.space.merge(layer), probs[..., layer, :, :])
        total = total + outcome @ _costs(costs, probs.dtype, probs.device)
    return total


def _expected_maximum(table: CostTable, probs: Tensor) -> Tensor:
    """Sum over all levels of a level times the probability that the maximum is that."""
    levels = tuple(sorted({max(table.fixed, cost) for costs in table.layers for cost in costs}))
    below = probs.new_ones((*probs.shape[:-3], len(levels)))
    for layer, costs in enumerate(table.layers):
        outcome = variant_probs(table.space.merge(layer), probs[..., layer, :, :])
        below = below * (outcome @ _within(costs, levels, probs.dtype, probs.device))
    steps = torch.diff(below, dim=-1, prepend=below.new_zeros((*below.shape[:-1], 1)))
    return steps @ _costs(levels, probs.dtype, probs.device)


def variant_probs(merge: Merge, probs: Tensor) -> Tensor:
    """Probabilities (..., variants) of what one layer's slots add up to, from ``probs`` (..., slots, choices)."""
    states = probs.new_ones((*probs.shape[:-2], 1))
    for slot, (step, columns) in enumerate(zip(merge.steps, _columns(merge, probs.device), strict=True)):
        sources, choices, targets = columns
        flow = states[..., sources] * probs[..., slot, :][..., choices]
        states = probs.new_zeros((*flow.shape[:-1], step[-1].target + 1)).index_add(-1, targets, flow)
    return states


@lru_cache(maxsize=1024)
@plain_torch()
def _costs(costs: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Costs of a layer's variants (variants,), copied to a device once."""
    return torch.tensor(costs, dtype=dtype, device=device)


@lru_cache(maxsize=1024)
@plain_torch()
def _within(costs: tuple[float, ...], levels: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Which variants cost no more than each level (variants, levels), copied to a device once."""
    return torch.tensor([[float(cost <= level) for level in levels] for cost in costs], dtype=dtype, device=device)


@lru_cache(maxsize=1024)
@plain_torch()
def _columns(merge: Merge, device: torch.device) -> list[list[Tensor]]:
    """Sources, choices and targets (transitions,) of every slot, copied to a device once."""
    return [[torch.tensor(column, device=device) for column in zip(*step, strict=True)] for step in merge.steps]
