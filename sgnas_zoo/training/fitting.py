"""The loop that retrains and fine-tunes a network: epochs, checkpoints, an average of the weights, curves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from accelerate import skip_first_batches  # type: ignore[import-untyped, unused-ignore]
from torch import nn
from torch.nn import functional as F
from torch.optim import Optimizer
from tqdm import tqdm

from sgnas_zoo.errors import DataError
from sgnas_zoo.training.accumulation import Accumulation
from sgnas_zoo.training.checkpoints import Checkpoints
from sgnas_zoo.training.curves import plot_curves
from sgnas_zoo.training.evaluation import evaluate
from sgnas_zoo.training.options import save_settings
from sgnas_zoo.training.parallel import add_up, check_finite
from sgnas_zoo.training.runs import moving_average, seed_step, share_buffers

if TYPE_CHECKING:
    from accelerate import Accelerator  # type: ignore[import-untyped, unused-ignore]
    from timm.scheduler.scheduler import Scheduler


@dataclass(frozen=True)
class Run:
    """What is said of a run, beside what is trained.

    Args:
        recipe: Name of the recipe: section of ``settings.yaml`` and of the trackers.
        output: Folder of checkpoints, curves and settings.
        options: All options, for ``settings.yaml``.
        settings: Those that a resumed run must repeat.
        resume: "auto", "never" or a checkpoint's folder.
        checkpoint_minutes: Between two checkpoints.
        seed: Of dropout.
    """

    recipe: str
    output: Path
    options: Mapping[str, Any]
    settings: Mapping[str, Any]
    resume: str
    checkpoint_minutes: float
    seed: int


class Fitted(NamedTuple):
    """The trained network in evaluation mode (the average of its weights where there is one), and what it took."""

    network: nn.Module
    hours: float


def fit(
    network: nn.Module, loader: Any, watched: Any, accelerator: Accelerator, run: Run, *, optimizer: Optimizer,
    schedule: Callable[[Optimizer, int], Scheduler], epochs: int, steps_per_epoch: int | None = None,
    ema_decay: float = 0.0, label_smoothing: float = 0.0, clip_grad: float = 0.0, eval_every: int = 1,
) -> Fitted | None:  # fmt: skip
    """Train a network on all processes; all of them call this.

    Args:
        network: Anything from images to logits.
        loader: What to train on, of ``training_loader``.
        watched: What to measure on meanwhile, of ``measuring_loader``.
        accelerator: Of ``make_accelerator``.
        run: Where it goes and what it repeats.
        optimizer: Holds the network's parameters.
        schedule: From the optimizer and the updates of an epoch to the schedule of its rate, stepped by updates.
        epochs: How many in all, those before a resume included.
        steps_per_epoch: Batches, for a stream; by default all of the loader.
        ema_decay: Decay of the average of the weights; 0 for none.
        label_smoothing: Of the cross entropy.
        clip_grad: Largest norm of the gradient; 0 for any.
        eval_every: Epochs between two looks at ``watched``.

    Returns:
        What was trained, or None if the run was told to stop (SIGTERM) and saved its state.

    Raises:
        DataError: If a stream ends before an epoch does.
        TrainingError: If a loss is not finite.
        CheckpointError: If there is none to resume from, it is of other settings, or none can be written.
    """
    network.to(memory_format=torch.channels_last)  # depthwise convolutions: twice as fast on a CPU, and best on a GPU
    ema = moving_average(network, ema_decay, accelerator)
    wrapped, optimizer, loader = accelerator.prepare(network, optimizer, loader)
    steps_per_epoch = steps_per_epoch or len(loader)
    updates = Accumulation(accelerator, steps_per_epoch)
    scheduler = schedule(optimizer, updates.updates)
    folder = run.output / "checkpoints"
    with (
        Checkpoints(accelerator, folder, run.settings, every_minutes=run.checkpoint_minutes) as checkpoints,
        tqdm(total=epochs * steps_per_epoch, disable=not accelerator.is_main_process, mininterval=5) as bar,
    ):
        progress = checkpoints.resume(run.resume) or {"step": 0, "seconds": 0.0, "history": [], "sums": [0.0, 0]}
        step, history, started = progress["step"], progress["history"], time.monotonic() - progress["seconds"]
        loss_sum, skipped = progress["sums"] if accelerator.is_main_process else (0.0, 0)  # of the epoch so far
        if accelerator.is_main_process:
            save_settings(run.output, run.options, run.recipe)
        accelerator.init_trackers(run.recipe, dict(run.settings))

        def save() -> bool:
            """Save a checkpoint; say whether to stop here."""
            sums, seconds = add_up(accelerator, loss_sum, skipped), time.monotonic() - started
            saved = checkpoints.save({"step": step, "seconds": seconds, "history": history, "sums": sums})
            if checkpoints.due() and checkpoints.stopping:
                checkpoints.stopped(saved)
                accelerator.end_training()
            return checkpoints.stopping

        bar.n = bar.initial = step
        for epoch in range(step // steps_per_epoch, epochs):
            wrapped.train()
            loader.set_epoch(epoch)
            done = step % steps_per_epoch
            for images, labels, unread in islice(skip_first_batches(loader, done), steps_per_epoch - done):
                scheduler.step_update(update := updates.update(step))
                seed_step(accelerator, run.seed, step)
                with updates.batch(step, wrapped) as ends:
                    loss = F.cross_entropy(wrapped(images), labels, label_smoothing=label_smoothing)
                    accelerator.backward(loss)
                    check_finite(accelerator, [loss], step)
                    if clip_grad and ends:
                        accelerator.clip_grad_norm_(wrapped.parameters(), clip_grad)
                    optimizer.step()
                    optimizer.zero_grad()
                step += 1
                if ema and ends:
                    ema.update(network, update + 1)
                loss_sum, skipped = loss_sum + loss.detach(), skipped + unread
                bar.update()
                if ends and step % steps_per_epoch and checkpoints.due() and save():
                    return None
            if step < (epoch + 1) * steps_per_epoch:
                raise DataError(f"The data has no {steps_per_epoch} batches for an epoch; lower --steps-per-epoch.")
            share_buffers(accelerator, network, ema)
            losses, unread = add_up(accelerator, loss_sum, skipped)
            row = {"epoch": epoch + 1, "train_loss": losses / steps_per_epoch / accelerator.num_processes}
            row |= {"skipped": int(unread)} if unread else {}
            if (epoch + 1) % eval_every == 0 or epoch + 1 == epochs:
                wrapped.eval()
                for name, looked_at in {"top1": network, "top1_ema": ema}.items():
                    row |= {name: evaluate(looked_at, watched, accelerator)["top1"]} if looked_at else {}
            history.append(row)
            accelerator.log(row, step=step)
            bar.set_postfix({name: f"{value:.3g}" for name, value in row.items()})
            loss_sum, skipped = 0.0, 0
            if accelerator.is_main_process:
                plot_curves(history, run.output / "curves.png")
            if save():
                return None
    trained = accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False, keep_torch_compile=False)
    final = (ema.module if ema else trained.eval()).to(memory_format=torch.contiguous_format)  # as it will be loaded
    return Fitted(final, round((time.monotonic() - started) / 3600, 3))
