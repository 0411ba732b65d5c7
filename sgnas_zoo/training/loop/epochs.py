"""The loop of every training: steps, updates, resuming, signals, checkpoints, curves, and the progress bar."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from accelerate import skip_first_batches
from torch import Tensor, nn
from tqdm import tqdm

from sgnas_zoo.errors import DataError
from sgnas_zoo.spaces import Arch
from sgnas_zoo.training.config import Trains
from sgnas_zoo.training.fields import flat
from sgnas_zoo.training.loop.accumulation import Accumulation
from sgnas_zoo.training.loop.checkpoints import Checkpoints
from sgnas_zoo.training.loop.parallel import FiniteLosses, average_gradients, sum_processes
from sgnas_zoo.training.options import save_settings
from sgnas_zoo.training.plots import plot_curves

if TYPE_CHECKING:
    from accelerate import Accelerator
    from timm.scheduler.scheduler import Scheduler

Row = dict[str, float]
"""Figures of an epoch by name."""


class At(NamedTuple):
    """Where a batch stands: its number, and those of its epoch and of its update, all counted from 0.

    ``begins`` says whether it is the first batch of its update.
    """

    step: int
    epoch: int
    update: int
    begins: bool


class Losses(NamedTuple):
    """What came of a batch.

    Args:
        each: The losses whose gradients it added, scalars; the run ends if one is not finite.
        sums: What the loop adds up over an epoch, on each process: as many numbers each time.
        paths: The architectures that the losses are of, if they are of several.
    """

    each: Sequence[Tensor]
    sums: Sequence[Tensor | float]
    paths: Sequence[Arch] = ()


class Task(ABC):
    """What is trained. The loop calls it, on every process; a resumed run makes the same calls as one that never ended.

    What a step needs to know from the steps before it lies in the weights, or in what is registered for checkpointing.
    """

    def enough(self, history: Sequence[Row]) -> bool:
        """Whether to end before an epoch, after those in the history."""
        return False

    def begin_epoch(self, epoch: int, resumed: bool) -> None:  # noqa: B027  # most have nothing to do
        """Make ready for an epoch, counted from 0; ``resumed`` says that a part of it was trained before."""

    @abstractmethod
    def step(self, batch: Any, at: At) -> Losses:
        """Add the gradients of a batch."""

    def end_update(self, update: int) -> None:  # noqa: B027
        """After the optimizer's step."""

    @abstractmethod
    def report(self, epoch: int, sums: Sequence[float]) -> Row:
        """Figures of an epoch, without its number, from the sums of its steps over all processes."""

    def before_saving(self) -> None:  # noqa: B027
        """Make every process ready for a checkpoint."""


class Trained(NamedTuple):
    """The figures of all epochs, the batches of one process, and the time it all took, breaks left out."""

    history: list[Row]
    steps: int
    seconds: float


@dataclass
class _Progress:
    """How far a run is: what a checkpoint tells beside the state of what is trained."""

    step: int = 0
    history: list[Row] = field(default_factory=list)
    sums: list[Tensor | float] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, saved: Mapping[str, Any], main: bool) -> _Progress:
        """As it was saved; the sums are those of all processes, and the main one goes on with them."""
        started = time.monotonic() - saved["seconds"]
        return cls(saved["step"], saved["history"], saved["sums"] if main else [], started)

    def add(self, sums: Sequence[Tensor | float]) -> None:
        """Count a batch."""
        before = self.sums or [0.0] * len(sums)
        self.sums = [one + other for one, other in zip(before, sums, strict=True)]
        self.step += 1


@dataclass(kw_only=True)
class Loop:
    """Trains a task, epoch by epoch.

    Args:
        task: What a step does.
        accelerator: Of ``make_accelerator``.
        recipe: Name of the recipe: section of ``settings.yaml`` and of the trackers.
        config: Its configuration.
        model: What is trained, as accelerate prepared it.
        optimizer: Of its parameters, prepared.
        loader: What it is trained on, prepared. A batch is first given to ``develop`` of its dataset, if that has one.
        updates: Which of the batches of an epoch make an update.
        scheduler: Of the rate, stepped by updates; None for a rate that stays.
        clip_grad: Largest norm of the gradient; 0 for any.
        by_hand: Whether gradients are averaged over the processes here, as the model is not wrapped in DDP.
    """

    task: Task
    accelerator: Accelerator
    recipe: str
    config: Trains
    model: nn.Module
    optimizer: Any
    loader: Any
    updates: Accumulation
    scheduler: Scheduler | None = None
    clip_grad: float = 0.0
    by_hand: bool = False

    def __post_init__(self) -> None:
        rows = getattr(self.loader, "dataset", None)
        self.finite = FiniteLosses(self.accelerator)
        self.develop: Callable[[Any, int], Any] = getattr(rows, "develop", lambda batch, _: batch)

    def train(self) -> Trained | None:
        """Train; all processes call it.

        Returns:
            What came of it, or None if the run was told to stop (SIGTERM) and saved its state.

        Raises:
            DataError: If a stream ends before an epoch does.
            TrainingError: If a loss is not finite.
            CheckpointError: If there is none to resume from, it is of other settings, or none can be written.
        """
        run, epochs, batches = self.config.run, self.config.steps.epochs, self.updates.batches
        main, settings = self.accelerator.is_main_process, flat(self.config, repeated=True)
        folder, minutes = run.output / "checkpoints", run.checkpoint_minutes
        with (
            Checkpoints(self.accelerator, folder, settings, every_minutes=minutes) as checkpoints,
            tqdm(total=epochs * batches, disable=not main, mininterval=5) as bar,
        ):
            saved = checkpoints.resume(run.resume)
            progress = _Progress.of(saved, main) if saved else _Progress()
            if main:
                save_settings(run.output, flat(self.config), self.recipe)
            self.accelerator.init_trackers(self.recipe, settings)
            bar.n = bar.initial = progress.step
            for epoch in range(progress.step // batches, epochs):
                if self.task.enough(progress.history):
                    break
                if self._batches(epoch, progress, checkpoints, bar):
                    return None
                self._report(epoch, progress, bar)
                if self._save(progress, checkpoints):
                    return None
        return Trained(progress.history, progress.step, time.monotonic() - progress.started)

    def _batches(self, epoch: int, progress: _Progress, checkpoints: Checkpoints, bar: tqdm) -> bool:
        """Train on what is left of an epoch; say whether the run stopped in it."""
        done, batches = progress.step % self.updates.batches, self.updates.batches
        self.task.begin_epoch(epoch, resumed=done > 0)
        self.loader.set_epoch(epoch)
        for batch in islice(skip_first_batches(self.loader, done), batches - done):
            ends = self._step(batch, epoch, progress)
            bar.update()
            last = progress.step % batches == 0  # the epoch's figures come before its checkpoint
            if ends and not last and checkpoints.due() and self._save(progress, checkpoints):
                return True
        if progress.step < (epoch + 1) * batches:
            raise DataError(f"The data has no {batches} batches for an epoch; lower --steps-per-epoch.")
        return False

    def _step(self, batch: Any, epoch: int, progress: _Progress) -> bool:
        """Train on a batch; say whether it ended an update."""
        step, update = progress.step, self.updates.update(progress.step)
        at = At(step, epoch, update, self.updates.begins(step))
        if self.scheduler and at.begins:
            self.scheduler.step_update(update)
        with self.updates.batch(step, self.model) as ends:
            losses = self.task.step(self.develop(batch, epoch), at)
            self.finite.add(losses.each, step, losses.paths)
            if ends and self.by_hand:
                average_gradients(self.accelerator, self.model.parameters())
            if ends and self.clip_grad:
                self.accelerator.clip_grad_norm_(self.model.parameters(), self.clip_grad)
            self.optimizer.step()
            self.optimizer.zero_grad()
        if ends:
            self.task.end_update(update)
        progress.add(losses.sums)
        return ends

    def _report(self, epoch: int, progress: _Progress, bar: tqdm) -> None:
        """Note and show the figures of an epoch."""
        self.finite.look()
        row = {"epoch": epoch + 1, **self.task.report(epoch, sum_processes(self.accelerator, *progress.sums))}
        progress.history.append(row)
        progress.sums = [0.0] * len(progress.sums)
        self.accelerator.log(row, step=progress.step)
        bar.set_postfix({name: f"{value:.3g}" for name, value in row.items()})
        if self.accelerator.is_main_process:
            plot_curves(progress.history, self.config.run.output / "curves.png")

    def _save(self, progress: _Progress, checkpoints: Checkpoints) -> bool:
        """Save a checkpoint; say whether to stop here."""
        self.finite.look()
        self.task.before_saving()
        state = {
            "step": progress.step,
            "seconds": time.monotonic() - progress.started,
            "history": progress.history,
            "sums": sum_processes(self.accelerator, *progress.sums),
        }
        saved = checkpoints.save(state)
        if checkpoints.due() and checkpoints.stopping:
            checkpoints.stopped(saved)
            self.accelerator.end_training()
        return checkpoints.stopping
