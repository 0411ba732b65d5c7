"""Retraining and fine-tuning: a classifier by cross entropy, and an average of its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import torch
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn import functional as F
from torch.optim import Optimizer

from sgnas_zoo.supernet.depthwise import restore_depthwise, speed_up_depthwise
from sgnas_zoo.training.config import Fits
from sgnas_zoo.training.data.sources import LabelledImages, open_splits
from sgnas_zoo.training.distillation import distillation_loss
from sgnas_zoo.training.evaluation import evaluate
from sgnas_zoo.training.loop.accumulation import Accumulation, launched
from sgnas_zoo.training.loop.epochs import At, Loop, Losses, Row, Task
from sgnas_zoo.training.runs import fused, measuring_loader, moving_average, save_into, seed_step, share_buffers

if TYPE_CHECKING:
    from accelerate import Accelerator
    from timm.scheduler.scheduler import Scheduler


class Fitted(NamedTuple):
    """The trained network in evaluation mode (the average of its weights where there is one), and what it took."""

    network: nn.Module
    hours: float


@dataclass(kw_only=True)
class Classify(Task):
    """Trains a network of classes; ``wrapped`` is the ``network`` as accelerate prepared it."""

    accelerator: Accelerator
    config: Fits
    network: nn.Module
    wrapped: nn.Module
    average: ModelEmaV3 | None
    watched: Any
    batches: int
    teacher: nn.Module | None = None

    def begin_epoch(self, epoch: int, resumed: bool) -> None:
        """Back to training after a look."""
        self.wrapped.train()

    def step(self, batch: Any, at: At) -> Losses:
        """Cross entropy, and the distance from a teacher."""
        images, labels, unread = batch
        taught = self.teacher(images) if self.teacher else None
        seed_step(self.accelerator, self.config.steps.seed, at.step)
        logits = self.wrapped(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.config.augment.label_smoothing)
        if taught is not None:
            distil = self.config.distil
            loss = loss.lerp(distillation_loss(logits, taught, distil.temperature), distil.weight)
        self.accelerator.backward(loss)
        return Losses([loss], [loss.detach(), unread])

    def end_update(self, update: int) -> None:
        """Follow the weights."""
        if self.average:
            self.average.update(self.network, update + 1)

    def report(self, epoch: int, sums: Sequence[float]) -> Row:
        """The loss, and a look at what is watched."""
        share_buffers(self.accelerator, self.network, self.average)
        losses, unread = sums
        row = {"train_loss": losses / self.batches / self.accelerator.num_processes}
        row |= {"skipped": int(unread)} if unread else {}
        if (epoch + 1) % self.config.fit.eval_every == 0 or epoch + 1 == self.config.steps.epochs:
            self.wrapped.eval()
            for name, looked_at in {"top1": self.network, "top1_ema": self.average}.items():
                row |= {name: evaluate(looked_at, self.watched, self.accelerator)["top1"]} if looked_at else {}
        return row


def fit(
    network: nn.Module, loader: Any, watched: Any, accelerator: Accelerator, recipe: str, config: Fits, *,
    schedule: Callable[[Optimizer, int], Scheduler], teacher: nn.Module | None = None, **optim: Any,
) -> Fitted | None:  # fmt: skip
    """Train a network on all processes; all of them call this.

    Args:
        network: Anything from images to logits.
        loader: What to train on, of ``training_loader``.
        watched: What to measure on meanwhile, of ``measuring_loader``.
        accelerator: Of ``make_accelerator``.
        recipe: Name of the recipe.
        config: Its configuration.
        schedule: From the optimizer and the updates of an epoch to the schedule of its rate, stepped by updates.
        teacher: Of ``make_teacher``.
        optim: More for timm's optimizer; what is None is left out.

    Returns:
        What was trained, or None if the run was told to stop (SIGTERM) and saved its state.

    Raises:
        DataError: If a stream ends before an epoch does.
        TrainingError: If a loss is not finite.
        CheckpointError: If there is none to resume from, it is of other settings, or none can be written.
    """
    optimizer = _optimizer(network, config, optim)
    network.to(memory_format=torch.channels_last)  # depthwise convolutions: twice as fast on a CPU, and best on a GPU
    speed_up_depthwise(network)
    average = moving_average(network, config.fit.ema_decay, accelerator)
    wrapped, optimizer, loader = accelerator.prepare(network, optimizer, loader)
    if teacher:
        teacher = accelerator.prepare_model(teacher.to(memory_format=torch.channels_last), evaluation_mode=True)
    updates = Accumulation(accelerator, config.steps.steps_per_epoch or len(loader))
    task = Classify(
        accelerator=accelerator, config=config, network=network, wrapped=wrapped, average=average, watched=watched,
        batches=updates.batches, teacher=teacher,
    )  # fmt: skip
    done = Loop(
        task=task, accelerator=accelerator, recipe=recipe, config=config, model=wrapped, optimizer=optimizer,
        loader=loader, updates=updates, scheduler=schedule(optimizer, updates.updates),
        clip_grad=config.optim.clip_grad,
    ).train()  # fmt: skip
    if done is None:
        return None
    trained = accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False, keep_torch_compile=False)
    final = (average.module if average else trained.eval()).to(memory_format=torch.contiguous_format)  # as it is loaded
    restore_depthwise(final)
    return Fitted(final, round(done.seconds / 3600, 3))


def open_images(config: Fits) -> tuple[LabelledImages, LabelledImages | None, LabelledImages]:
    """What is trained on, what is watched meanwhile if it is held out, and what the final figure is measured on.

    Raises:
        DataError: As ``open_splits`` does.
    """
    return open_splits(
        config.data.source, config.fit.holdout, config.fit.eval_split, seed=config.steps.seed,
        streaming=config.reading.streaming, limit=config.data.limit,
    )  # fmt: skip


def look_loaders(
    held: LabelledImages | None, final: LabelledImages, network: nn.Module, accelerator: Accelerator, config: Fits
) -> tuple[Any, Any]:
    """Loaders of what is watched meanwhile and of what the final figure is measured on; one where both are the same.

    Raises:
        DataError: If their classes are not the network's.
    """
    kind: Any = {"on_corrupt": config.reading.on_corrupt, "workers": config.data.workers, "cache": config.reading.cache}
    measured = measuring_loader(final, network, accelerator, **kind)
    return measured if final is held or not held else measuring_loader(held, network, accelerator, **kind), measured


def finish(
    fitted: Fitted, weights: str, final: LabelledImages, loader: Any, accelerator: Accelerator, config: Fits,
    describe: Callable[[nn.Module], object],
) -> None:  # fmt: skip
    """Measure a trained network, in full precision, as evaluate.py measures it, and save it into the folder of its run.

    Args:
        fitted: The network.
        weights: Where its weights come from, for the card.
        final: What the figure is measured on.
        loader: Of it.
        accelerator: Of the run.
        config: Of the recipe.
        describe: Notes in the network what it is; called on the main process.

    Raises:
        ArtifactError: If it cannot be written.
    """
    figures = evaluate(fitted.network, loader, accelerator)
    if accelerator.is_main_process:
        ran = {"seed": config.steps.seed, "epochs": config.steps.epochs, "hours": fitted.hours, **launched(accelerator)}
        measured_on = {key: final.record[key] for key in ("source", "split", "part", "limit")}
        describe(fitted.network)
        metrics = {**figures, **measured_on, **ran, "ema": bool(config.fit.ema_decay)}
        save_into(config.run.output, fitted.network, weights, metrics)
        said = f"Model: {config.run.output}, top-1 {figures['top1']:.2f} % on {final.record['split']}"
        click.echo(said, err=True)
    accelerator.end_training()


def _optimizer(network: nn.Module, config: Fits, more: Mapping[str, Any]) -> Optimizer:
    """The optimizer by its name; timm's sgd is Nesterov's, which needs a momentum."""
    name, optim = config.fit.opt, config.optim
    kind = "momentum" if name == "sgd" and not optim.momentum else name
    given = {**fused(kind), **{key: value for key, value in more.items() if value is not None}}
    made: Optimizer = create_optimizer_v2(network, kind, optim.lr, optim.weight_decay, optim.momentum, **given)
    return made
