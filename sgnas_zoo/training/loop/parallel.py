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


class FiniteLosses:
    """Stops every process if a loss is not finite on any.

    A CPU looks at each step. To look is to wait for an accelerator, so there it happens every twenty steps, and before
    anything is saved: what came after the first bad step is lost with the run, and no checkpoint holds it.

    Args:
        accelerator: The processes.
        every: Steps between two looks; by default what the device makes sensible.
    """

    def __init__(self, accelerator: Accelerator, every: int | None = None) -> None:
        self._accelerator = accelerator
        self._every = every or (1 if accelerator.device.type == "cpu" else 20)
        self._unseen: list[tuple[int, Sequence[Arch], Tensor]] = []

    def add(self, losses: Sequence[Tensor], step: int, paths: Sequence[Arch] = ()) -> None:
        """Note the losses of a step, and look when it is time.

        Args:
            losses: Scalars, the same number on every process.
            step: The step.
            paths: The architectures that they are of, one a loss, if they are of several.

        Raises:
            TrainingError: If one is not finite.
        """
        self._unseen.append((step, paths, ~torch.stack([loss.detach() for loss in losses]).isfinite()))
        if len(self._unseen) >= self._every:
            self.look()

    def look(self) -> None:
        """Look at what was noted since the last time.

        Raises:
            TrainingError: If a loss is not finite, naming the first step that has one.
        """
        if not self._unseen:
            return
        noted, self._unseen = self._unseen, []
        counts = self._accelerator.reduce(torch.cat([found for *_, found in noted]).float(), "sum").tolist()
        for step, paths, found in noted:
            bad, counts = counts[: len(found)], counts[len(found) :]
            if any(bad):
                of = "".join(f" of {path}" for path, count in zip(paths, bad, strict=False) if count)
                raise TrainingError(
                    f"The loss{of} at step {step} is not finite. The last checkpoint is kept; start again with a lower "
                    "--lr or with --clip-grad."
                )


def _average(accelerator: Accelerator, tensors: list[Tensor]) -> None:
    flat = accelerator.reduce(torch.cat([tensor.flatten() for tensor in tensors]), "mean")
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))
