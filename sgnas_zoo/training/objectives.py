"""What a generator's answers cost on images: objectives of its training.

To add one: a function of ``Answer`` that gives the cross entropy with a gradient to the scores, in ``OBJECTIVES``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgnas_zoo.registry import Registry
from sgnas_zoo.search.gumbel import gumbel_picks, gumbel_probs
from sgnas_zoo.spaces import SearchSpace

PATHS = 4
"""Paths that are drawn for an answer, each judged against the others."""


@dataclass(frozen=True)
class Answer:
    """A generator's answer to a target, and the images that it is tried on.

    Args:
        space: The space.
        scores: Log-probabilities (layers, slots, choices), with a gradient.
        supernet: Frozen, in evaluation mode.
        images: (N, C, H, W).
        labels: (N,).
        temperature: Of the Gumbel softmax.
        noise: Draws what is drawn.
        label_smoothing: Share of the label that is spread over all classes.
    """

    space: SearchSpace
    scores: Tensor
    supernet: nn.Module
    images: Tensor
    labels: Tensor
    temperature: float
    noise: torch.Generator
    label_smoothing: float = 0.0

    def entropy(self, logits: Tensor) -> Tensor:
        """Cross entropy of logits (N, classes)."""
        return F.cross_entropy(logits.float(), self.labels, label_smoothing=self.label_smoothing)


def relaxed(answer: Answer) -> tuple[Tensor, Tensor]:
    """All choices at once, weighted by Gumbel probabilities (SGNAS, 2103.07289).

    The mixture is what learns: it can do better than every single path of it.
    """
    probs = gumbel_probs(answer.scores, answer.temperature, answer.noise)
    return answer.entropy(answer.supernet(answer.images, probs)), probs


def sampled(answer: Answer) -> tuple[Tensor, Tensor]:
    """Single paths, drawn with their probabilities: an unbiased gradient without a pass back through the supernet.

    Each of four paths is judged against the mean of the others (score function with a leave-one-out baseline: Kool, van
    Hoof and Welling, 2019). Norms take the statistics of the batch: those of the supernet are averages over all paths,
    and rank paths unlike calibrated ones.
    """
    picks = [gumbel_picks(answer.scores.detach(), answer.noise) for _ in range(PATHS)]
    with torch.no_grad(), _batch_statistics(answer.supernet):
        archs = [answer.space.arch(pick.tolist()) for pick in picks]
        losses = torch.stack([answer.entropy(answer.supernet(answer.images, arch)) for arch in archs])
    advantages = (losses - losses.mean()) * PATHS / (PATHS - 1)
    chosen = torch.stack([answer.scores.gather(-1, pick[..., None]).sum() for pick in picks])
    estimate = (advantages * chosen).mean()
    return losses.mean() + estimate - estimate.detach(), answer.scores.exp()


Objective = Callable[[Answer], tuple[Tensor, Tensor]]
"""Gives the loss, and the probabilities (layers, slots, choices) whose expected cost is to meet the target."""

OBJECTIVES: Registry[Objective] = Registry("objective")
OBJECTIVES.register("relaxed", relaxed)
OBJECTIVES.register("sampled", sampled)


@contextmanager
def _batch_statistics(network: nn.Module) -> Iterator[None]:
    """Norms of a network in evaluation mode take the statistics of the batch they see; their own do not change."""
    norms: list[Any] = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.track_running_stats = False
        norm.train()
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
            norm.eval()
