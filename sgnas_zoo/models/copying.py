"""Copies of models that were pruned, weight-normed or otherwise given tensors that deepcopy refuses."""

from __future__ import annotations

import copy

from torch import Tensor, nn


def copied(model: nn.Module) -> nn.Module:
    """A copy that shares nothing with the model, which stays as it is.

    What is computed from parameters and kept beside them (pruned weights, those of the older weight norm) is copied by
    value: its hook computes it anew at the next pass.
    """
    kept = (value for module in model.modules() for value in vars(module).values())
    computed = [value for value in kept if isinstance(value, Tensor) and not value.is_leaf]
    return copy.deepcopy(model, {id(value): value.detach().clone() for value in computed})
