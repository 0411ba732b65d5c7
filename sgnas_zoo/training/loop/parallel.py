"""Training a network of which each step uses another part, on several processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn

from sgnas_zoo.errors import TrainingError
from sgnas_zoo.spaces import Arch

if TYPE_CHECKING:
    from accelerate import Accelerator


def average_gradients(accelerator: Accelerator, parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients over all processes, in one message and only where there are any.

    All processes train the same paths, so the same parameters have gradients on each; there is no need for DDP to walk
    the graph for unused ones.
    """
    if accelerator.num_processes == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    _average(accelerator, gradients)


def average_buffers(accelerator: Accelerator, module: nn.Module) -> None:
    """Average the running statistics of a network over all processes."""
    if accelerator.num_processes > 1:
        _average(accelerator, [buffer for buffer in module.buffers() if buffer.is_floating_point()])


def sum_processes(accelerator: Accelerator, *values: Tensor | float) -> list[float]:
    """Sums of numbers over all processes: in double precision, which not every device has, and the same on each."""
    own = [float(value) for value in values]
    everybodys = gather_object([own]) if accelerator.num_processes > 1 else [own]
    return [sum(column) for column in zip(*everybodys, strict=True)]


def column_sums(rows: Sequence[Tensor], columns: int) -> list[float]:
    """Sums, in double precision, over rows of as many numbers on whatever device."""
    return torch.stack(list(rows)).cpu().double().sum(0).tolist() if rows else [0.0] * columns


def check_finite(accelerator: Accelerator, losses: Sequence[Tensor], step: int, paths: Sequence[Arch] = ()) -> None:
    """Stop every process if a loss of a step is not finite on any.

    Args:
        accelerator: The processes.
        losses: Scalars, the same number on every process.
        step: The step.
        paths: The architectures that they are of, one a loss, if they are of several.

    Raises:
        TrainingError: If one is not finite.
    """
    found = ~torch.stack([loss.detach() for loss in losses]).isfinite()
    bad = accelerator.reduce(found.float(), "sum").tolist()
    if any(bad):
        of = "".join(f" of {path}" for path, count in zip(paths, bad, strict=False) if count)
        raise TrainingError(
            f"The loss{of} at step {step} is not finite. The last checkpoint is kept; start again with a lower --lr or "
            "with --clip-grad."
        )


def _average(accelerator: Accelerator, tensors: list[Tensor]) -> None:
    flat = accelerator.reduce(torch.cat([tensor.flatten() for tensor in tensors]), "mean")
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))
