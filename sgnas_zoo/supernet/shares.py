"""Probabilities of a relaxed pass: on the device they are weights, on the host they decide what runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from sgnas_zoo.plain_torch import plain_torch

DROPPED = 0.01
"""Choices at most this probable are left out of the relaxed pass, as released."""


class Shares(NamedTuple):
    """Probabilities of the choices of one layer.

    Args:
        probs: (slots, choices), where the supernet is, with a gradient.
        told: The same numbers on the CPU: to read one there is to wait for nothing.
    """

    probs: Tensor
    told: Tensor

    def active(self, slot: int, choices: Iterable[int]) -> tuple[int, ...]:
        """Those choices of a slot that are probable enough to run."""
        return tuple(choice for choice in choices if self.told[slot, choice] > DROPPED)


def by_layer(path: Tensor) -> Iterator[Shares]:
    """Of each layer, from ``path`` (layers, slots, choices); all of it comes to the host in one copy."""
    return map(Shares, path, path.detach().cpu())


@lru_cache(maxsize=4096)
@plain_torch()
def index_of(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    """An index (N,) on a device, copied there once."""
    return torch.tensor(numbers, device=device)
