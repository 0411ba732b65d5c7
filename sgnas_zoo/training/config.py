"""What recipes can be told, in groups; a recipe adds what is its own, and defaults where it has its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import click
from timm.optim import list_optimizers

from sgnas_zoo.errors import unknown_name
from sgnas_zoo.spaces import FormName
from sgnas_zoo.terminal import Count
from sgnas_zoo.training.data.columns import Source
from sgnas_zoo.training.fields import budgets, option

SHARE = click.FloatRange(0, 1)
PART = click.FloatRange(0, 1, max_open=True)
FACTOR = click.FloatRange(0, 1, min_open=True)
FROM_0, ABOVE_0 = click.FloatRange(min=0), click.FloatRange(min=0, min_open=True)
NUMBER, FROM_ONE, SIDE = click.IntRange(min=0), click.IntRange(min=1), click.IntRange(min=8)
"""Bounds: a share may be all, a part may not, a factor may not be nothing; a side is one in pixels."""


class OptimizerName(click.ParamType):  # type: ignore[type-arg]  # generic only in newer versions of click
    """A name by which timm knows an optimizer."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read ``value``, or fail with the names that are near."""
        if value not in list_optimizers():
            self.fail(str(unknown_name("optimizer", value, list_optimizers())), param, ctx)
        return str(value)


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which images."""

    dataset: str = option("Hub id or folder.")
    image_column: str | None = option("Name of the image column, where it cannot be guessed.", None)
    label_column: str | None = option("Name of the label column, where it cannot be guessed.", None)
    limit: int | None = option("At most this many images of each split, for quick runs.", None, FROM_ONE)
    workers: int = option("Decoding processes of each training process.", 2, NUMBER, free=True)

    @property
    def source(self) -> Source:
        """The dataset with its columns."""
        return Source(self.dataset, self.image_column, self.label_column)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How images are read."""

    streaming: bool = option("Stream the dataset instead of storing it.", False)
    on_corrupt: Literal["skip", "fail"] = option("What to do about an image that cannot be read.", "skip")
    cache: bool | None = option("Decode all images once and keep them in a file; needs --crop pad.", None)


@dataclass(frozen=True, kw_only=True)
class Steps:
    """How much is trained."""

    epochs: int = option("Epochs in total, those before a resume included.", kind=FROM_ONE)
    batch_size: int = option("Batch size of each process.", kind=FROM_ONE)
    steps_per_epoch: int | None = option("Steps of an epoch; a stream needs it: its length is unknown.", None, FROM_ONE)
    seed: int = option("Random seed.", 0, NUMBER)


@dataclass(frozen=True, kw_only=True)
class Optim:
    """How weights move."""

    lr: float = option("Peak learning rate; it is not scaled with the batch.", kind=ABOVE_0)
    momentum: float = option("Momentum of the optimizer.", 0.9, SHARE)
    weight_decay: float = option("Weight decay; norms and biases have none.", kind=FROM_0)
    clip_grad: float = option("Clip the norm of the gradient to this; 0: never.", 0, FROM_0)
    warmup_epochs: float = option("Epochs of learning-rate warm-up.", kind=FROM_0)


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What makes images and labels harder."""

    crop: Literal["resized", "pad"] = option("Crop: resized (a random part) or pad (shifted by pixels).", "resized")
    label_smoothing: float = option("Label smoothing.", 0.1, PART)


@dataclass(frozen=True, kw_only=True)
class Run:
    """Where a training goes, and how it goes on."""

    output: Path = option("Folder of the result and the checkpoints.", free=True)
    resume: str = option("auto, never, or a checkpoint's folder.", "never", free=True)
    checkpoint_minutes: float = option("Minutes between two checkpoints.", 5, FROM_0, free=True)
    report_to: str | None = option("Tracker of accelerate: tensorboard, wandb, trackio, ...", None, free=True)
    precision: Literal["bf16", "fp16", "no"] | None = option(
        "Of autocast; by default as accelerate was launched, or bf16 on a GPU that has it. no: float32.", None
    )


@dataclass(frozen=True, kw_only=True)
class Network:
    """Which network: by budget, architecture or name."""

    model: str | None = option("A model instead of a budget: a timm name, a folder or a Hub repo.", None)
    budgets: Mapping[str, float] = budgets()
    arch: str | None = option("Architecture string of the space, instead of a budget.", None)
    space: str | None = option("Search space of budget or architecture; its YAML holds the settings.", None)
    generator: str | None = option("Folder or Hub repo of the generator; by default the embedded one.", None)
    resolution: int | None = option("Input side in pixels; by default the model's or the space's.", None, SIDE)
    form: FormName | None = option("Form of the network; by default that of its weights, or final.", None)


@dataclass(frozen=True, kw_only=True)
class Weighted(Network):
    """Which network, and the weights it starts from."""

    pretrained: str | None = option("Tag, folder or Hub repo to inherit from; by default the space's tag.", None)


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Which paths of a supernet are trained."""

    sampler: str = option("Path sampler; in sandwich, the widest path teaches the others.", "fair")
    paths: int = option("Paths per update.", 4, FROM_ONE)
    surrogate_images: int = option("Held-out images that the greedy sampler ranks paths on.", 1000, FROM_ONE)
    flops: float | None = option("Most FLOPs (MACs) of a path of the greedy sampler, such as 330M.", None, Count())
    early_stop: float = option(
        "End when an epoch renews at most this share of the greedy sampler's pool; 0: never.", 0, SHARE
    )


@dataclass(frozen=True, kw_only=True)
class Distil:
    """Whether a network learns from another one, too."""

    teacher: str | None = option("Model to distil from: a timm name, a folder or a Hub repo.", None)
    teacher_weight: float | None = option("Weight of the distillation loss; by default 0.9.", None, SHARE)
    teacher_temperature: float | None = option("Temperature of the distillation loss; by default 4.", None, ABOVE_0)

    @property
    def weight(self) -> float:
        """Share of the loss that is the teacher's."""
        return 0.9 if self.teacher_weight is None else self.teacher_weight

    @property
    def temperature(self) -> float:
        """What logits are divided by."""
        return 4.0 if self.teacher_temperature is None else self.teacher_temperature


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What training one network is told besides, from scratch or from weights."""

    opt: str = option("Optimizer, by timm's name.", kind=OptimizerName())
    warmup_lr: float = option("Learning rate at which warm-up starts.", kind=FROM_0)
    ema_decay: float = option("Decay of the weight average, which is measured and saved; 0: no average.", kind=PART)
    drop_rate: float = option("Dropout rate before the classifier.", kind=PART)
    drop_path_rate: float = option("Stochastic depth rate of the last block; earlier blocks have less.", 0, PART)
    crop_scale: float = option("Least area of a resized crop, as a share of the image.", kind=FACTOR)
    color_jitter: float = option("Strength of random brightness, contrast and saturation.", kind=FROM_0)
    holdout: float = option("Share of train that is held out and measured instead of the test split.", 0, PART)
    eval_split: str | None = option("Split that is measured at the end; by default the holdout, or else test.", None)
    eval_every: int = option("Epochs between two measurements.", kind=FROM_ONE, free=True)


class Trains(Protocol):
    """The configuration of any training."""

    @property
    def data(self) -> Data:
        """Which images."""

    @property
    def reading(self) -> Reading:
        """How they are read."""

    @property
    def steps(self) -> Steps:
        """How much is trained."""

    @property
    def augment(self) -> Augment:
        """What makes it harder."""

    @property
    def run(self) -> Run:
        """Where it goes."""


class Fits(Trains, Protocol):
    """The configuration of a training of one network."""

    @property
    def network(self) -> Network:
        """Which network."""

    @property
    def optim(self) -> Optim:
        """How weights move."""

    @property
    def distil(self) -> Distil:
        """Whom else it learns from."""

    @property
    def fit(self) -> Fit:
        """What it is told besides."""
