"""Losses of paths on a few held-out images: what greedy sampling ranks paths by while their supernet is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgnas_zoo.spaces import Arch
from sgnas_zoo.training.loop.parallel import column_sums, sum_processes

if TYPE_CHECKING:
    from accelerate import Accelerator


def surrogate_losses(
    model: nn.Module, loader: Iterable[Any], accelerator: Accelerator, *, resize: Callable[[Tensor], Tensor]
) -> Callable[[Sequence[Arch]], list[float]]:
    """Make the loss of ``Sampling``: mean cross entropy of paths on the same images, which stay in memory.

    Norms take the statistics of the batch at hand, as in training: running ones are a mixture of all paths. The
    supernet is left as it was.

    Args:
        model: The supernet, prepared by the accelerator.
        loader: Gives (images, labels, number skipped); processes share the images.
        accelerator: Adds up over processes, so that all get the same losses.
        resize: Gives images the sides that are trained on now.
    """
    batches: list[Any] = []

    @torch.no_grad()
    def losses(archs: Sequence[Arch]) -> list[float]:
        if not batches:
            batches.extend(loader)
        found, count = [], 0
        with _with_batch_statistics(model):
            for images, labels, _ in batches:
                seen = resize(images)
                own = [F.cross_entropy(model(seen, arch).float(), labels, reduction="sum") for arch in archs]
                found.append(torch.stack(own))
                count += len(labels)
        everybodys, *totals = sum_processes(accelerator, count, *column_sums(found, len(archs)))
        return [total / everybodys for total in totals]

    return losses


@contextmanager
def _with_batch_statistics(model: nn.Module) -> Iterator[None]:
    """Training mode, after which mode and running statistics are again what they were."""
    kept, training = [buffer.clone() for buffer in model.buffers()], model.training
    model.train()
    try:
        yield
    finally:
        model.train(training)
        for buffer, before in zip(model.buffers(), kept, strict=True):
            buffer.copy_(before)
