"""What a supernet's config says, with the bounds that later code relies on: searches, recipes and cards."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from sgnas_zoo.hub.artifacts import Crop, Mean, Std

MAX_RESOLUTION = 4096
Text = Annotated[str, Meta(max_length=1000)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Preprocessing(Struct):
    """What images go through, as timm spells it."""

    mean: Annotated[list[Mean], Meta(min_length=3, max_length=3)]
    std: Annotated[list[Std], Meta(min_length=3, max_length=3)]
    interpolation: Literal["bilinear", "bicubic"]
    crop_pct: Crop


class Dataset(Struct):
    """What a supernet was trained on, as ``LabelledImages.record`` says; more fields may stand beside these."""

    source: Text
    revision: Text | None = None
    split: Text | None = None
    part: Text | None = None
    seed: Count | None = None
    rows: Count | None = None
    limit: Count | None = None
    holdout: Annotated[float, Meta(ge=0, lt=1)] | None = None
    streaming: bool | None = None

    def __post_init__(self) -> None:
        if self.holdout and self.seed is None:
            raise ValueError("Object missing required field `seed` of its holdout")


class Training(Struct):
    """How a supernet was trained: any plain data, but for what others read."""

    sampler: Text | None = None
    final: dict[str, Any] = {}


class Config(Struct):
    """What ``config.json`` says of a supernet. Larger ones are refused before anything is allocated."""

    space: str
    num_classes: Annotated[int, Meta(ge=1, le=100_000)]
    in_chans: Literal[3]
    resolution: Annotated[int, Meta(ge=1, le=MAX_RESOLUTION)]
    classes: list[str]
    preprocessing: Preprocessing
    dataset: Dataset
    training: Training
    pool: Annotated[int, Meta(ge=0, le=10_000)] = 0

    def __post_init__(self) -> None:
        if len(self.classes) != self.num_classes:
            raise ValueError(f"{len(self.classes)} class names for {self.num_classes} classes")
