"""What the runs of recipes share: loaders, an average of the weights, seeds, and the model that lands in the folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import click
import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import DataLoaderConfiguration, PrecisionType, broadcast
from timm.utils import ModelEmaV3
from torch import nn
from torch.utils.data import IterableDataset

from sgnas_zoo.errors import DataError, TrainingError, unknown_name
from sgnas_zoo.files import write_json
from sgnas_zoo.folders import among_others
from sgnas_zoo.hub.models import save_model
from sgnas_zoo.training.config import Run, Trains
from sgnas_zoo.training.data.cached_batches import Developed, cached_for_measuring, cached_for_training
from sgnas_zoo.training.data.loaders import (
    OnCorrupt,
    TransformedImages,
    TransformedStream,
    check_classes,
    check_processes,
    make_loader,
)
from sgnas_zoo.training.data.sources import LabelledImages
from sgnas_zoo.training.data.transforms import Look, Transform
from sgnas_zoo.training.networks import measuring_transform

METRICS = "metrics.json"
EVAL_BATCH = 250
"""Batch of all measurements: figures agree to the last digit only where it does."""


def make_accelerator(run: Run | None = None) -> Accelerator:
    """The accelerator of a recipe, on whatever devices there are, for as many processes as were launched.

    Without a GPU it is told so: otherwise each process that torchrun starts would take itself for the only one.

    Args:
        run: Of a training: its folder, tracker and precision. What only measures does so as accelerate was launched.

    Raises:
        TrainingError: If accelerate refuses how it was launched.
    """
    devices = getattr(torch, "accelerator", torch.cuda)  # the former is new in torch 2.6
    own: dict[str, Any] = {}
    if run is not None:
        own = {"log_with": run.report_to, "project_dir": run.output, "mixed_precision": precision(run.precision)}
    try:
        made = Accelerator(
            cpu=not devices.is_available(), step_scheduler_with_optimizer=False,
            dataloader_config=DataLoaderConfiguration(dispatch_batches=False, even_batches=False), **own,
        )  # fmt: skip
    except (ValueError, ImportError, RuntimeError) as error:  # such as fp8 without its library
        reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
        raise TrainingError(
            f"accelerate cannot start: {reason}; look at `accelerate env` and at variables called ACCELERATE_..."
        ) from error
    if made.gradient_accumulation_steps < 1:
        raise TrainingError("ACCELERATE_GRADIENT_ACCUMULATION_STEPS is less than 1; give a whole number from 1 up.")
    if made.mixed_precision not in PrecisionType.list():  # from a variable, accelerate takes anything
        raise TrainingError(str(unknown_name("precision", made.mixed_precision, PrecisionType.list())))
    if made.mixed_precision == "fp16" and not made.native_amp and made.is_main_process:
        click.echo("accelerate has no float16 on a CPU: this computes in float32; bf16 would be lower.", err=True)
    return made


def precision(asked: str | None) -> str | None:
    """What a training's autocast computes in; None where accelerate knows.

    ``accelerate launch`` says "no" where nobody said anything, so that counts as nothing said.

    Args:
        asked: By the training's own option.
    """
    if asked is not None or os.environ.get("ACCELERATE_MIXED_PRECISION", "no") != "no":
        return asked
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False) else None


def fused(kind: str) -> dict[str, bool]:
    """The keyword of an optimizer that makes its step one kernel, on a GPU and for those of torch that have one.

    Args:
        kind: Name of the optimizer in timm.
    """
    return {"fused": True} if torch.cuda.is_available() and kind in ("sgd", "momentum", "adam", "adamw") else {}


def training_loader(images: LabelledImages, look: Look, accelerator: Accelerator, config: Trains) -> Any:
    """Shuffled loader of what is trained on, in whole batches; not yet prepared by accelerate.

    Raises:
        DataError: If there are too few images for the processes, it is a stream and its length is not given, or the
            images cannot be cached as asked.
    """
    size, seed, reading, workers = config.steps.batch_size, config.steps.seed, config.reading, config.data.workers
    if not images.record["streaming"]:
        check_processes(len(images.rows), size, accelerator.num_processes, drop_last=True)
    elif config.steps.steps_per_epoch is None:
        raise DataError("A stream does not tell its length; add --steps-per-epoch.")
    if reading.cache:
        quiet = not accelerator.is_main_process
        rows: Any = cached_for_training(images, look, seed, reading.on_corrupt, workers=workers, quiet=quiet)
        if not rows.settle(accelerator.device) and accelerator.device.type != "cpu":
            click.echo("The images do not fit into the accelerator's memory; each batch is sent to it.", err=True)
        return make_loader(rows, size, shuffle=True, seed=seed, drop_last=True)
    rows = _kind(images)(images, look.transform(), seed, reading.on_corrupt)
    return make_loader(rows, size, shuffle=True, seed=seed, workers=workers, drop_last=True)


def measuring_loader(
    images: LabelledImages, network: nn.Module, accelerator: Accelerator, *, batch_size: int = EVAL_BATCH,
    on_corrupt: OnCorrupt = "skip", workers: int = 0, cache: bool | None = False,
) -> Any:  # fmt: skip
    """Loader of a split for ``evaluate``, with the transform the network is measured under, as ``plain_loader``'s.

    Raises:
        DataError: If classes do not match, or there are fewer images than processes.
    """
    check_classes(images, int(network.num_classes), "model")  # type: ignore[arg-type]
    if not images.record["streaming"]:
        check_processes(len(images.rows), batch_size, accelerator.num_processes)
    return plain_loader(
        images, measuring_transform(network), accelerator, batch_size=batch_size, on_corrupt=on_corrupt,
        workers=workers, cache=cache,
    )  # fmt: skip


def plain_loader(
    images: LabelledImages, transform: Transform, accelerator: Accelerator, *, batch_size: int = EVAL_BATCH,
    on_corrupt: OnCorrupt = "skip", workers: int = 0, cache: bool | None = False,
) -> Any:  # fmt: skip
    """Loader of images in their order, for ``evaluate``; each process has its share.

    Every image is there once, on however many processes, if the accelerator is one of ``make_accelerator``. From a
    cache, the images are the same to the last bit.
    """
    if cache:
        quiet = not accelerator.is_main_process
        rows = cached_for_measuring(images, transform, on_corrupt, workers=workers, quiet=quiet)
        return Developed(accelerator.prepare(make_loader(rows, batch_size, shuffle=False)), rows)
    plain = _kind(images)(images, transform, 0, on_corrupt)
    if not images.record["streaming"]:
        return accelerator.prepare(make_loader(plain, batch_size, shuffle=False, workers=workers))
    share = _Share(plain, accelerator.process_index, accelerator.num_processes)
    loader = make_loader(share, batch_size, shuffle=False, workers=workers)
    return prepare_data_loader(loader, accelerator.device, 1, 0, put_on_device=True, dispatch_batches=False)


def moving_average(network: nn.Module, decay: float, accelerator: Accelerator) -> ModelEmaV3 | None:
    """An average of the weights that is part of the checkpoints; None for a decay of 0.

    It warms up as TensorFlow's does, with a decay of at most (1 + n) / (10 + n), so that a short run has one too.
    """
    if not decay:
        return None
    average = ModelEmaV3(network, decay, use_warmup=True, warmup_gamma=9, warmup_power=1).to(accelerator.device)
    accelerator.register_for_checkpointing(average)
    return average


def seed_step(accelerator: Accelerator, seed: int, step: int) -> None:
    """Seed torch for one step, another on each process: dropout is then the same after a resume."""
    digest = hashlib.blake2b(repr((seed, step, accelerator.process_index)).encode(), digest_size=7).digest()
    mixed = int.from_bytes(digest, "little")
    torch.default_generator.manual_seed(mixed)
    if accelerator.device.type != "cpu":
        torch.get_device_module(accelerator.device).manual_seed(mixed)


def share_buffers(accelerator: Accelerator, *modules: nn.Module | None) -> None:
    """Give every process the running statistics of the first, as DDP does before each step and checkpoints do."""
    if accelerator.num_processes > 1:
        for buffer in (buffer for module in modules if module for buffer in module.buffers()):
            buffer.copy_(broadcast(buffer))


def save_into(output: Path, network: nn.Module, weights: str, metrics: Mapping[str, Any]) -> None:
    """Save a model and its metrics into the folder of its run, beside what is there.

    Args:
        output: Folder of the run.
        network: A timm model.
        weights: Where its weights come from, for the card.
        metrics: What was measured, as plain JSON; also noted in the model's record, for its card.

    Raises:
        ArtifactError: If it cannot be written.
    """
    network.zoo = {**getattr(network, "zoo", {}), "metrics": dict(metrics)}  # type: ignore[assignment]
    with among_others(output) as staging:
        save_model(network, staging, weights=weights)
        write_json(staging / METRICS, dict(metrics))


def _kind(images: LabelledImages) -> Any:
    return TransformedStream if images.record["streaming"] else TransformedImages


class _Share(IterableDataset[Any]):
    """Every n-th item of a stream: accelerate would fill up the last batches with images that were there before."""

    def __init__(self, stream: Iterable[Any], first: int, every: int) -> None:
        self.stream, self.first, self.every = stream, first, every

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self.stream), self.first, None, self.every)
