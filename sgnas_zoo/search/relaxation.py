"""From logits to probabilities: only what the space allows gets any."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from sgnas_zoo.plain_torch import plain_torch
from sgnas_zoo.spaces import SearchSpace


@lru_cache(maxsize=64)
@plain_torch()
def allowed_mask(space: SearchSpace) -> Tensor:
    """Boolean (layers, slots, choices): which choice each slot may take."""
    mask = torch.zeros(space.shape, dtype=torch.bool)
    for layer, row in enumerate(space.layers):
        for slot, allowed in enumerate(row.allowed):
            mask[layer, slot, list(allowed)] = True
    return mask


@lru_cache(maxsize=64)
@plain_torch()
def _forbidden(space: SearchSpace, device: torch.device) -> Tensor:
    """The opposite of ``allowed_mask``, copied to a device once."""
    return ~allowed_mask(space).to(device)


def log_probs(space: SearchSpace, logits: Tensor) -> Tensor:
    """Log-probabilities (..., layers, slots, choices) of logits of that shape, ``-inf`` where the space forbids."""
    return torch.log_softmax(logits.masked_fill(_forbidden(space, logits.device), -torch.inf), -1)
