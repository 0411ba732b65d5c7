"""The loss that pulls a cost to its target."""

from __future__ import annotations

from torch import Tensor

ALPHA = 0.0003
"""Weight of the squared error in millions, as released (arXiv 2103.07289 calls the term the hardware constraint)."""


def constraint_loss(cost: Tensor, target: Tensor, alpha: float = ALPHA, unit: float = 1e6) -> Tensor:
    """Squared distance of costs to their targets, steeper above than below, and zero within a tenth of a unit.

    Args:
        cost: Expected costs (N,), in MACs, parameters or BitOps.
        target: Targets (N,), in the same unit.
        alpha: Weight of the squared distance.
        unit: What distances are counted in: a million for the paper's range of 180 million, and as large a share of
            other ranges.

    Returns:
        Losses (N,): ``alpha * d**2`` with ``d`` in units, 1.2 times that where the cost is too high.
    """
    distance = (cost - target) / unit
    loss = alpha * distance.square() * (1 + 0.2 * (distance > 0.1))
    return loss * (distance.abs() > 0.1)
