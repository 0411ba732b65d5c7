"""What the training of a supernet consists of, beside its step: paths, what grows, figures, and the artifact."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.scheduler import CosineLRScheduler, PolyLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from sgnas_zoo.costs import COSTS, native_conditions
from sgnas_zoo.errors import SpaceError
from sgnas_zoo.folders import among_others
from sgnas_zoo.hub.cards import write_card
from sgnas_zoo.hub.supernets import TrainedSupernet, load_supernet, save_supernet
from sgnas_zoo.search.ranges import check_range
from sgnas_zoo.spaces import Arch, SearchSpace
from sgnas_zoo.supernet import (
    SAMPLERS,
    GreedySampler,
    PathSampler,
    Sampling,
    Supernet,
    make_supernet,
    with_smallest_kernels,
)
from sgnas_zoo.training.config import Optim, Paths
from sgnas_zoo.training.data.calibration_images import calibration_images
from sgnas_zoo.training.data.sources import LabelledImages
from sgnas_zoo.training.evaluation import evaluate
from sgnas_zoo.training.loop.accumulation import launched
from sgnas_zoo.training.loop.epochs import At, Row, Task, Trained
from sgnas_zoo.training.loop.parallel import average_buffers
from sgnas_zoo.training.options import PLACES

if TYPE_CHECKING:
    from accelerate import Accelerator
    from timm.scheduler.scheduler import Scheduler
    from torch.optim import Optimizer

CALIBRATION_IMAGES = 512
PREPROCESSING: dict[str, Any] = {
    "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "interpolation": "bicubic", "crop_pct": 1.0,
}  # fmt: skip
"""How images are measured."""
LOOK: dict[str, Any] = {name: PREPROCESSING[name] for name in ("mean", "std")}
"""What is the same when they are trained on."""

Ranks = Callable[[Sequence[Arch]], Sequence[float]]
"""Gives the losses of paths."""


def check_paths(space: SearchSpace, paths: Paths, seed: int) -> None:
    """Refuse what cannot be sampled, before the data is read.

    Raises:
        click.UsageError: If a sampler is told what only the greedy one heeds.
        ZooError: If there is no such sampler, or the space is none for it.
    """
    # In a YAML, early_stop is for the sampler named there.
    told = click.get_current_context().get_parameter_source("early_stop") is ParameterSource.COMMANDLINE
    if paths.sampler != "greedy" and (told or paths.flops):
        raise click.UsageError("--early-stop and --flops are the greedy sampler's; leave them out.")
    SAMPLERS[paths.sampler](Sampling(space, seed, paths.paths, loss=lambda archs: [0.0] * len(archs)))(0)


@dataclass
class Growth:
    """What is small at first while a supernet is trained: kernels, and the sides of images.

    Args:
        supernet: The supernet.
        kernels: Epochs of the smallest kernels only, of which the larger start as copies.
        images: Epochs of images of half the side (progressive resizing, as in EfficientNetV2, 2104.00298, section 4).
        epoch: The epoch that it is, counted from 0.
    """

    supernet: Supernet
    kernels: int
    images: int
    epoch: int = 0

    def begin(self, epoch: int, resumed: bool) -> None:
        """Let the kernels grow when it is time."""
        self.epoch = epoch
        if epoch == self.kernels and epoch and not resumed:
            self.supernet.grow_kernels()

    def path(self, path: Arch) -> Arch:
        """A path with the kernels that are trained in this epoch."""
        return with_smallest_kernels(path) if self.epoch < self.kernels else path

    def resize(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) with the sides of this epoch: (N, C, H / 2, W / 2), or as they are."""
        return F.avg_pool2d(images, 2) if self.epoch < self.images else images


def begin(
    space: SearchSpace, classes: Sequence[str], pretrained: str | None, *, zero_init_last: bool
) -> tuple[Supernet, dict[str, Any]]:  # fmt: skip
    """A supernet to train, fresh or from the weights of another one, and what the record says of that one.

    Args:
        space: The space.
        classes: Names of the classes; where the other supernet has the same, its classifier is kept.
        pretrained: Folder or Hub repo of a supernet of the space.
        zero_init_last: Start fresh residual layers as the identity.

    Raises:
        SpaceError: If the other supernet is of another space.
        ArtifactError: If it cannot be loaded.
    """
    supernet = make_supernet(space, len(classes), zero_init_last=zero_init_last)
    if pretrained is None:
        return supernet, {}
    before = load_supernet(pretrained)
    if before.supernet.space != space:
        raise SpaceError(f"{pretrained} is a supernet of {before.supernet.space.name}; name one of {space.name}.")
    kept = before.supernet.state_dict()
    if before.classes != tuple(classes):
        head = {id(parameter) for parameter in supernet.classifier.parameters()}  # named otherwise in each kind
        kept = {name: kept[name] for name, own in supernet.state_dict(keep_vars=True).items() if id(own) not in head}
    supernet.load_state_dict(kept, strict=False)
    source = before.source and before.source.named()
    hours = sum(before.training.get(name) or 0 for name in ("hours", "earlier_hours"))
    return supernet, {"started_from": {"loaded_from": source}, "earlier_hours": hours}


def make_sampler(
    growth: Growth, asked: Paths, *, seed: int, updates: int, resolution: int, ranks: Ranks | None,
    accelerator: Accelerator,
) -> PathSampler:  # fmt: skip
    """Make a path sampler; the pool of the greedy one is part of the checkpoints.

    Args:
        growth: Of the supernet; the greedy sampler ranks paths as they are trained now.
        asked: Which sampler, and what it is told.
        seed: Of its draws.
        updates: Of the whole training.
        resolution: Input side in pixels, for a limit of MACs.
        ranks: Gives the losses of paths; only the greedy one asks.
        accelerator: Of ``make_accelerator``.

    Raises:
        ZooError: If no path keeps the limit, or there is nothing to rank paths on.
    """
    space, limit = growth.supernet.space, asked.flops
    loss, fits = None, None
    if ranks is not None:
        loss = lambda archs: ranks([growth.path(path) for path in archs])  # noqa: E731
    if limit:
        table = COSTS["macs"].table(space, native_conditions(space, form="search", resolution=resolution))
        check_range(table, limit)
        fits = lambda path: table.measure(path) <= limit  # noqa: E731
    draw = SAMPLERS[asked.sampler](Sampling(space, seed, asked.paths, updates, loss, fits))
    if isinstance(draw, GreedySampler):
        accelerator.register_for_checkpointing(draw)
    return draw


@dataclass(kw_only=True)
class SupernetTask(Task):
    """Trains paths of a supernet; a recipe says how, in ``step``.

    Args:
        accelerator: Of ``make_accelerator``.
        model: The supernet, prepared.
        trained: What becomes of it.
        growth: What is small at first.
        draw: Gives the paths of an update.
        held: Loader of what it is measured on; None for nothing.
        batches: Of an epoch.
        epochs: In all.
        eval_every: Epochs between two looks at ``held``.
        early_stop: Share of the greedy sampler's pool: an epoch that renews no more is the last.
    """

    accelerator: Accelerator
    model: nn.Module
    trained: TrainedSupernet
    growth: Growth
    draw: PathSampler
    held: Any
    batches: int
    epochs: int
    eval_every: int
    early_stop: float
    drawn: list[Arch] = field(default_factory=list)

    def enough(self, history: Sequence[Row]) -> bool:
        """Whether the last epoch renewed little of the pool."""
        return bool(history) and history[-1].get("pool_renewed", 1.0) <= self.early_stop

    def begin_epoch(self, epoch: int, resumed: bool) -> None:
        """Back to training after a look, and let grow what is small at first."""
        self.trained.supernet.train()
        self.growth.begin(epoch, resumed)

    def paths(self, at: At) -> list[Arch]:
        """The paths of an update: the same for all of its batches."""
        if at.begins:
            self.drawn = self.draw(at.update)
        return self.drawn

    def report(self, epoch: int, sums: Sequence[float]) -> Row:
        """The loss, and now and then the accuracy of some paths as they are inherited."""
        losses, unread = sums
        row = {"train_loss": losses / self.batches / self.accelerator.num_processes}
        row |= {"skipped": unread} if unread else {}
        if self.held is not None and ((epoch + 1) % self.eval_every == 0 or epoch + 1 == self.epochs):
            for name, arch in self.trained.supernet.examples().items():
                subnet = self.trained.inherit(self.growth.path(arch))
                row[f"top1_{name}"] = evaluate(subnet, self.held, self.accelerator)["top1"]
        if isinstance(self.draw, GreedySampler):
            row |= {"pool_renewed": self.draw.renewed(), "path_evaluations": self.draw.evaluations}
        return row

    def before_saving(self) -> None:
        """Average the running statistics, of which each process has its own."""
        average_buffers(self.accelerator, self.trained.supernet)


def start(
    supernet: Supernet, resolution: int, images: LabelledImages, seed: int, settings: Mapping[str, Any]
) -> TrainedSupernet:  # fmt: skip
    """What becomes of a supernet, as it is at first: its weights are those that are trained.

    Args:
        supernet: The supernet.
        resolution: Input side in pixels.
        images: What it is trained on; some of them calibrate what is inherited.
        seed: Draws these.
        settings: Of the training, for the record, with what it started from.
    """
    told = {name: value for name, value in settings.items() if name not in PLACES}
    calibration = calibration_images(images, CALIBRATION_IMAGES, resolution, seed)
    return TrainedSupernet(supernet, resolution, images.classes, PREPROCESSING, images.record, told, calibration)


def schedule(optimizer: Optimizer, sched: str, asked: Optim, epochs: int, updates: int) -> Scheduler:
    """The rate over so many updates an epoch: along a cosine, or for "poly" in a line."""
    steps: dict[str, Any] = {
        "warmup_t": round(asked.warmup_epochs * updates), "t_in_epochs": False, "warmup_prefix": False,
    }  # fmt: skip
    if sched == "cosine":
        return CosineLRScheduler(optimizer, epochs * updates, **steps)
    return PolyLRScheduler(optimizer, epochs * updates, power=1.0, **steps)


def save(task: SupernetTask, done: Trained, output: Path) -> None:
    """Save a supernet that is trained, beside what is in the folder of its run.

    Raises:
        ArtifactError: If it cannot be written.
    """
    hours = round(done.seconds / 3600, 2)
    ran = {"hours": hours, **launched(task.accelerator), "steps": done.steps, "final": done.history[-1]}
    pool = tuple(task.draw.pool) if isinstance(task.draw, GreedySampler) else ()
    finished = replace(task.trained, training={**task.trained.training, **ran}, pool=pool)
    with among_others(output) as folder:
        save_supernet(finished, folder)
        write_card(folder, name=output.resolve().name)
