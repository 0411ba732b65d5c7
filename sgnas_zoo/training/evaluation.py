"""One way to measure accuracy, for every figure that is published."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from accelerate import Accelerator  # type: ignore[import-untyped]


@torch.inference_mode()
def evaluate(predict: Callable[[Tensor], Tensor], loader: Iterable[Any], accelerator: Accelerator) -> dict[str, float]:
    """Accuracy and loss over a loader that accelerate prepared; every image counts once, on however many processes.

    Args:
        predict: From images (N, C, H, W) to logits (N, classes), such as a model in evaluation mode.
        loader: Gives (images, labels, number skipped), as ``make_loader`` does.
        accelerator: Gathers what the processes find.

    Returns:
        ``top1`` and ``top5`` in percent, mean cross entropy ``loss``, and the counts ``images`` and ``skipped``.
    """
    found: list[Tensor] = []
    skipped = torch.zeros(1, device=accelerator.device)
    for images, labels, unread in loader:
        logits = predict(images).float()
        losses = F.cross_entropy(logits, labels, reduction="none")
        best = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
        rows = torch.stack([best[:, 0].float(), best.any(1).float(), losses], 1)
        found.append(accelerator.gather_for_metrics(rows))
        skipped += unread
    table = torch.cat(found)
    top1, top5, loss = table.double().mean(0).tolist()
    return {
        "top1": 100 * top1,
        "top5": 100 * top5,
        "loss": loss,
        "images": len(table),
        "skipped": int(accelerator.reduce(skipped, "sum").item()),
    }
