"""One way to measure accuracy, for every figure that is published."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sgnas_zoo.training.loop.parallel import column_sums, sum_processes

if TYPE_CHECKING:
    from accelerate import Accelerator


@torch.inference_mode()
def evaluate(predict: Callable[[Tensor], Tensor], loader: Iterable[Any], accelerator: Accelerator) -> dict[str, float]:
    """Accuracy and loss over a loader that accelerate prepared; processes add up what they find, once, at the end.

    Every image counts once if the accelerator has ``DataLoaderConfiguration(even_batches=False)``: by default it hands
    some images out twice, so that all processes get as many batches. A stream is best measured by one process.

    Args:
        predict: From images (N, C, H, W) to logits (N, classes), such as a model in evaluation mode.
        loader: Gives (images, labels, number skipped), as ``make_loader`` does.
        accelerator: Adds up.

    Returns:
        ``top1`` and ``top5`` in percent, mean cross entropy ``loss``, and the counts ``images`` and ``skipped``.
    """
    found, counts = [], [0, 0]
    for images, labels, unread in loader:
        logits = predict(images).float()
        loss = F.cross_entropy(logits, labels, reduction="sum")
        hits = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
        found.append(torch.stack([hits[:, 0].sum().float(), hits.sum().float(), loss]))
        counts = [counts[0] + len(labels), counts[1] + int(unread)]
    count, skipped, first, among_five, summed = sum_processes(accelerator, *counts, *column_sums(found, 3))
    return {
        "top1": 100 * first / count,
        "top5": 100 * among_five / count,
        "loss": summed / count,
        "images": int(count),
        "skipped": int(skipped),
    }
