"""Train a supernet: every architecture of a space on one set of weights.

    accelerate launch recipes/train_supernet.py --space sgnas_micro --dataset DATA --output runs/supernet

What: SGNAS (2103.07289), SPOS (1904.00420), GreedyNAS (2003.11236): each step draws paths from a sampler, adds up their
    gradients on one batch, and makes one update. A sampler is a pure function of (seed, step); the greedy one also of
    the losses of paths on surrogate images, and leaves a candidate pool for the search. A share of the training images
    is held out for the search. A loss that is not finite ends the run before it reaches the weights.
DATA: a Hub id, a folder of parquet files, or a folder of one folder per class.
Settings: recipes/configs/SPACE.yaml, which also say hardware, hours and expected result; `--config` and the command
    line override them.
"""

from __future__ import annotations

if __name__ == "__main__":  # before the imports, which take seconds
    from sgnas_zoo.stopping import end_on_signals

    end_on_signals()

import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import click
import torch
from accelerate import skip_first_batches
from accelerate.utils import set_seed
from click.core import ParameterSource
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler, PolyLRScheduler
from torch.nn import functional as F
from tqdm import tqdm

from sgnas_zoo.cli_options import Count, UserPath, column_options
from sgnas_zoo.costs import COSTS, native_conditions
from sgnas_zoo.errors import DataError, SpaceError
from sgnas_zoo.folders import among_others
from sgnas_zoo.hub.cards import write_card
from sgnas_zoo.hub.supernets import TrainedSupernet, save_supernet
from sgnas_zoo.search.decode import check_range
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.supernet import (
    SAMPLERS,
    GreedySampler,
    Sampling,
    make_supernet,
    with_smallest_kernels,
)
from sgnas_zoo.training.accumulation import Accumulation, launched
from sgnas_zoo.training.calibration import calibration_images
from sgnas_zoo.training.checkpoints import Checkpoints
from sgnas_zoo.training.curves import plot_curves
from sgnas_zoo.training.evaluation import evaluate
from sgnas_zoo.training.options import RecipeCommand, resolved, save_settings
from sgnas_zoo.training.outputs import check_output
from sgnas_zoo.training.parallel import average_buffers, average_gradients, check_finite
from sgnas_zoo.training.runs import make_accelerator, plain_loader, training_loader
from sgnas_zoo.training.sources import Source, load_images
from sgnas_zoo.training.surrogate import surrogate_losses
from sgnas_zoo.training.transforms import eval_transform, train_transform

CALIBRATION_IMAGES = 512
PREPROCESSING = {
    "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "interpolation": "bicubic", "crop_pct": 1.0,
}  # fmt: skip

FREE_TO_CHANGE = ("output", "resume", "workers", "checkpoint_minutes", "report_to", "eval_images")
"""Settings that a resumed run may change: they do not change what is trained."""


@click.command("train_supernet", cls=RecipeCommand, configs=Path(__file__).parent / "configs")
@click.option("--space", default="sgnas_imagenet", show_default=True, help="Search space.")
@click.option("--dataset", required=True, help="Hub id or folder.")
@column_options
@click.option("--output", type=UserPath(), required=True, help="Folder of checkpoints and artifact.")
@click.option("--resolution", type=click.IntRange(min=8), help="Input side in pixels; by default the space's.")
@click.option("--epochs", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--warmup-epochs", type=click.FloatRange(min=0), default=0, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=128, show_default=True, help="Of one process.")
@click.option("--sampler", default="fair", show_default=True, help="Path sampler; sandwich distils from its widest.")
@click.option("--paths", type=click.IntRange(min=1), default=4, show_default=True, help="Paths per step.")
@click.option("--surrogate-images", type=click.IntRange(min=1), default=1000, show_default=True,
              help="Held-out images that the greedy sampler ranks paths on.")  # fmt: skip
@click.option("--flops", type=Count(), help="Most FLOPs (MACs) of a path of the greedy sampler, such as 330M.")
@click.option("--early-stop", type=click.FloatRange(0, 1), default=0, show_default=True,
              help="End when an epoch renews at most this share of the greedy sampler's pool; 0: never.")  # fmt: skip
@click.option("--smallest-kernels", type=click.FloatRange(0, 1, max_open=True), default=0, show_default=True,
              help="First share of the epochs: smallest kernels only; the larger start as copies.")  # fmt: skip
@click.option("--zero-init-last/--no-zero-init-last", default=False, help="Residual layers start as the identity.")
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), default=0.064, show_default=True)
@click.option("--sched", type=click.Choice(["cosine", "poly"]), default="cosine", show_default=True,
              help="Schedule of the rate; poly falls in a line.")  # fmt: skip
@click.option("--weight-decay", type=click.FloatRange(min=0), default=4e-4, show_default=True)
@click.option("--momentum", type=click.FloatRange(0, 1), default=0.9, show_default=True)
@click.option("--clip-grad", type=click.FloatRange(min=0), default=0, show_default=True, help="Largest norm; 0: any.")
@click.option("--label-smoothing", type=click.FloatRange(0, 1), default=0.1, show_default=True)
@click.option("--crop", type=click.Choice(["resized", "pad"]), default="resized", show_default=True)
@click.option("--holdout", type=click.FloatRange(0, 1, max_open=True), default=0.2, show_default=True,
              help="Share of train kept for the generator.")  # fmt: skip
@click.option("--on-corrupt", type=click.Choice(["skip", "fail"]), default="skip", show_default=True)
@click.option("--streaming/--no-streaming", default=False, help="Read rows as they come.")
@click.option("--steps-per-epoch", type=click.IntRange(min=1), help="Needed for a stream of unknown length.")
@click.option("--limit", type=click.IntRange(min=1), help="Only so many images; for quick runs.")
@click.option(
    "--eval-every",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Epochs between two looks at the held-out part.",
)
@click.option("--eval-images", type=click.IntRange(min=1), default=2000, show_default=True, help="Held-out images.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True, help="Decoding processes.")
@click.option("--resume", default="never", show_default=True, help="auto, never, or a checkpoint's folder.")
@click.option("--checkpoint-minutes", type=click.FloatRange(min=0), default=5, show_default=True)
@click.option("--report-to", help="Tracker of accelerate: tensorboard, wandb, trackio, ...")
@click.pass_context
def main(ctx: click.Context, space: str, dataset: str, output: Path, resolution: int | None, epochs: int,
         warmup_epochs: float, batch_size: int, sampler: str, paths: int, surrogate_images: int,
         flops: float | None, early_stop: float, smallest_kernels: float, zero_init_last: bool, lr: float,
         sched: str, weight_decay: float, momentum: float, clip_grad: float, label_smoothing: float, crop: Any,
         holdout: float, on_corrupt: Any, streaming: bool, steps_per_epoch: int | None, limit: int | None,
         eval_every: int, eval_images: int, seed: int, workers: int, resume: str, checkpoint_minutes: float,
         report_to: str | None, **columns: Any) -> None:  # fmt: skip
    """Train a supernet."""
    search_space, make_sampler = SPACES[space], SAMPLERS[sampler]
    size = resolution or search_space.resolution
    search_space.check_resolution(size)
    told = ctx.get_parameter_source("early_stop") is ParameterSource.COMMANDLINE  # in a YAML it is for its own sampler
    if sampler != "greedy" and (told or flops):
        raise click.UsageError("--early-stop and --flops are the greedy sampler's; leave them out.")
    # What cannot be sampled is refused before the data is read.
    make_sampler(Sampling(search_space, seed, paths, loss=lambda archs: [0.0] * len(archs)))(0)
    check_output(output, resume, "train_supernet")
    settings = {k: v for k, v in resolved(ctx).items() if k not in FREE_TO_CHANGE}
    accelerator = make_accelerator(output, report_to)

    # Data: one part to train on; the other is the generator's, and here only shows how training goes.
    source = Source(dataset, **columns)
    data: dict[str, Any] = {"holdout": holdout, "seed": seed, "streaming": streaming}
    kept = load_images(source, "train", limit=limit, **data)
    held = load_images(source, "train", part="held", limit=eval_images, **data) if holdout else None
    look = {name: PREPROCESSING[name] for name in ("mean", "std", "interpolation")}
    loader = training_loader(
        kept, train_transform(size, crop=crop, **look), accelerator, batch_size=batch_size, seed=seed,
        on_corrupt=on_corrupt, workers=workers, steps=steps_per_epoch,
    )  # fmt: skip

    # Supernet. Not wrapped in DDP: a step's paths are the same everywhere, so gradients are averaged by hand.
    set_seed(seed)
    supernet = make_supernet(search_space, len(kept.classes), zero_init_last=zero_init_last)
    if smallest_kernels and not supernet.grows:
        raise SpaceError(f"Kernels of {search_space.name} do not grow into each other; leave --smallest-kernels out.")
    optimizer = create_optimizer_v2(supernet, "sgd" if momentum else "momentum", lr, weight_decay, momentum)
    model = accelerator.prepare_model(supernet, evaluation_mode=True)
    optimizer, loader = accelerator.prepare(optimizer, loader)
    steps_per_epoch = steps_per_epoch or len(loader)
    updates = Accumulation(accelerator, steps_per_epoch)
    total = epochs * updates.updates
    warmup = round(warmup_epochs * updates.updates)
    steps: dict[str, Any] = {"warmup_t": warmup, "t_in_epochs": False, "warmup_prefix": False}
    if sched == "cosine":
        scheduler: Any = CosineLRScheduler(optimizer, total, **steps)
    else:
        scheduler = PolyLRScheduler(optimizer, total, power=1.0, **steps)
    trained = TrainedSupernet(
        supernet, size, kept.classes, PREPROCESSING, kept.record, {k: v for k, v in settings.items() if k != "dataset"},
        calibration_images(kept, CALIBRATION_IMAGES, size, seed),
    )  # fmt: skip
    held_loader = None
    if held:
        as_measured = eval_transform(size, **PREPROCESSING)
        held_loader = plain_loader(held, as_measured, accelerator, on_corrupt=on_corrupt)

    # Sampler. The greedy one ranks paths as they are trained now: with their smallest kernels while these grow.
    small, loss, fits = False, None, None
    if sampler == "greedy" and held:
        few = load_images(source, "train", part="held", limit=surrogate_images, **data)
        losses_of = surrogate_losses(model, plain_loader(few, as_measured, accelerator), accelerator)
        loss = lambda archs: losses_of([with_smallest_kernels(path) if small else path for path in archs])  # noqa: E731
    if flops:
        table = COSTS["macs"].table(search_space, native_conditions(search_space, form="search", resolution=size))
        check_range(table, flops)
        fits = lambda path: table.measure(path) <= flops  # noqa: E731
    draw = make_sampler(Sampling(search_space, seed, paths, total, loss, fits))
    if isinstance(draw, GreedySampler):
        accelerator.register_for_checkpointing(draw)

    with (
        Checkpoints(accelerator, output / "checkpoints", settings, every_minutes=checkpoint_minutes) as checkpoints,
        tqdm(total=epochs * steps_per_epoch, disable=not accelerator.is_main_process, mininterval=5) as bar,
    ):
        progress = checkpoints.resume(resume) or {"step": 0, "seconds": 0.0, "history": [], "sums": [0.0, 0.0]}
        step, history, started = progress["step"], progress["history"], time.monotonic() - progress["seconds"]
        sums = torch.tensor(progress["sums"], device=accelerator.device)  # of the epoch so far: loss, unread images
        if accelerator.is_main_process:
            save_settings(output, resolved(ctx), "train_supernet")
        accelerator.init_trackers("train_supernet", settings)

        def save() -> bool:
            """Save a checkpoint; say whether to stop here."""
            average_buffers(accelerator, supernet)
            seconds = time.monotonic() - started
            state = {"step": step, "seconds": seconds, "history": history, "sums": sums.tolist()}
            saved = checkpoints.save(state)
            if checkpoints.stopping:
                checkpoints.stopped(saved)
                accelerator.end_training()
            return checkpoints.stopping

        bar.n = bar.initial = step
        for epoch in range(step // steps_per_epoch, epochs):
            if history and history[-1].get("pool_renewed", 1.0) <= early_stop:
                break
            supernet.train()
            loader.set_epoch(epoch)
            done = step % steps_per_epoch
            small = epoch < int(smallest_kernels * epochs)
            if not small and step and step == int(smallest_kernels * epochs) * steps_per_epoch:
                supernet.grow_kernels()
            for images, labels, unread in islice(skip_first_batches(loader, done), steps_per_epoch - done):
                if updates.begins(step):
                    scheduler.step_update(updates.update(step))
                    drawn = draw(updates.update(step))
                teacher, losses = None, []
                with updates.batch(step, model) as ends:
                    for path in drawn:
                        path = with_smallest_kernels(path) if small else path
                        logits = model(images, path)
                        if teacher is None:
                            loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
                        else:
                            loss = F.cross_entropy(logits, teacher)
                        if sampler == "sandwich" and teacher is None:
                            teacher = logits.detach().softmax(1)
                        accelerator.backward(loss / paths)
                        losses.append(loss.detach())
                    check_finite(accelerator, losses, step, drawn)
                    if ends:
                        average_gradients(accelerator, supernet.parameters())
                    if clip_grad and ends:
                        accelerator.clip_grad_norm_(supernet.parameters(), clip_grad)
                    optimizer.step()
                    optimizer.zero_grad()
                sums[0] += torch.stack(losses).sum() / paths
                sums[1] += unread
                step += 1
                bar.update()
                if ends and step % steps_per_epoch and checkpoints.due() and save():
                    return
            if step < (epoch + 1) * steps_per_epoch:
                raise DataError(f"{dataset} has no {steps_per_epoch} batches for an epoch; lower --steps-per-epoch.")
            loss_sum, skipped = accelerator.reduce(sums, "sum").tolist()
            row = {"epoch": epoch + 1, "train_loss": loss_sum / steps_per_epoch / accelerator.num_processes}
            row |= {"skipped": skipped} if skipped else {}
            if held_loader is not None and ((epoch + 1) % eval_every == 0 or epoch + 1 == epochs):
                for name, arch in supernet.examples().items():
                    subnet = trained.inherit(with_smallest_kernels(arch) if small else arch)
                    row[f"top1_{name}"] = evaluate(subnet, held_loader, accelerator)["top1"]
            if isinstance(draw, GreedySampler):
                row |= {"pool_renewed": draw.renewed(), "path_evaluations": draw.evaluations}
            history.append(row)
            accelerator.log(row, step=step)
            bar.set_postfix({name: f"{value:.3g}" for name, value in row.items()})
            sums.zero_()
            if accelerator.is_main_process:
                plot_curves(history, output / "curves.png")
            checkpoints.due()
            if save():
                return

    if accelerator.is_main_process:
        hours = round((time.monotonic() - started) / 3600, 2)
        ran = {"hours": hours, **launched(accelerator), "steps": step, "final": history[-1]}
        pool = tuple(draw.pool) if isinstance(draw, GreedySampler) else ()
        finished = replace(trained, training={**trained.training, **ran}, pool=pool)
        with among_others(output) as folder:
            save_supernet(finished, folder)
            write_card(folder, name=output.resolve().name)
        click.echo(f"Supernet: {output}", err=True)
    accelerator.end_training()


if __name__ == "__main__":
    main()
