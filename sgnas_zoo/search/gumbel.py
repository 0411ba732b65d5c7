"""Drawing architectures, relaxed or whole, from a generator's logits."""

from __future__ import annotations

import torch
from torch import Tensor


def gumbel_probs(scores: Tensor, temperature: float, noise: torch.Generator | None = None) -> Tensor:
    """Gumbel-softmax over the choices of every slot (1611.01144; SGNAS: 5 at first, 0.95 times that each epoch).

    Args:
        scores: Log-probabilities (..., choices), ``-inf`` where the space forbids.
        temperature: The lower, the nearer to one choice per slot.
        noise: Draws the noise; on the CPU, so that all devices see the same.

    Returns:
        Probabilities of that shape, zero where forbidden.
    """
    return torch.softmax((scores + _gumbel(scores, noise)) / temperature, -1)


def gumbel_picks(scores: Tensor, noise: torch.Generator | None = None) -> Tensor:
    """Choices drawn with the probabilities of their scores (Gumbel-max).

    Args:
        scores: Log-probabilities (..., choices), ``-inf`` where the space forbids.
        noise: As for ``gumbel_probs``.

    Returns:
        Indices (...).
    """
    return (scores + _gumbel(scores, noise)).argmax(-1)


def _gumbel(scores: Tensor, noise: torch.Generator | None) -> Tensor:
    return -torch.empty(scores.shape).exponential_(generator=noise).log().to(scores)
