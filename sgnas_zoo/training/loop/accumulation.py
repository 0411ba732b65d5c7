"""Updates of several batches, as accelerate counts them: how one small device reaches a paper's batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from accelerate import Accelerator


class Accumulation:
    """Which batches make an update: so many after each other, and at the end of an epoch what is left.

    How many is accelerate's setting (``accelerate launch --gradient_accumulation_steps``, or the variable
    ``ACCELERATE_GRADIENT_ACCUMULATION_STEPS``). As with accelerate, each batch counts by the same share, also where
    fewer are left. Optimizers that accelerate prepared move only at the end of an update.

    Args:
        accelerator: Of the run.
        batches: Of an epoch.
    """

    def __init__(self, accelerator: Accelerator, batches: int) -> None:
        self._accelerator, self.batches = accelerator, batches
        self._every: int = accelerator.gradient_accumulation_steps
        self.updates = -(-batches // self._every)
        """Of an epoch."""

    def update(self, step: int) -> int:
        """Number of the update that a batch is part of, both counted from 0."""
        epoch, done = divmod(step, self.batches)
        return int(epoch * self.updates + done // self._every)

    def begins(self, step: int) -> bool:
        """Whether a batch is the first of its update."""
        return step % self.batches % self._every == 0

    def ends(self, step: int) -> bool:
        """Whether a batch is the last of its update: only then is there something to save."""
        done = step % self.batches + 1
        return done % self._every == 0 or done == self.batches

    @contextmanager
    def batch(self, step: int, model: nn.Module) -> Iterator[bool]:
        """Forward and backward of a batch, and the optimizer's step; gives whether the batch ends its update."""
        self._accelerator.step = self._every - 1 if self.ends(step) else step % self.batches % self._every
        with self._accelerator.accumulate(model):
            yield self._accelerator.sync_gradients


def launched(accelerator: Accelerator) -> dict[str, Any]:
    """How a run was launched, as far as it changes what is trained: for its record, and a resumed run repeats it."""
    several = {"gradient_accumulation": accelerator.gradient_accumulation_steps}
    lower = {"mixed_precision": str(accelerator.mixed_precision)}
    return {
        "processes": int(accelerator.num_processes),
        **(several if several["gradient_accumulation"] > 1 else {}),
        **(lower if accelerator.native_amp else {}),
    }
