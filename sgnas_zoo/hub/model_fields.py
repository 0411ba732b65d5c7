"""What a model's config may say. Larger numbers and longer texts are refused before anything is allocated.

None of these is read from: they check, and what was checked is used as it stands.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from sgnas_zoo.hub.artifacts import Crop, Mean, Std

MAX_CHANS, MAX_CLASSES, MAX_NUMBER = 1024, 100_000, 100_000
Text = Annotated[str, Meta(max_length=10_000)]
Texts = Text | Annotated[list[Text], Meta(min_length=1, max_length=100)]
Share = Annotated[float, Meta(ge=0, le=1)]
Side = Annotated[int, Meta(ge=1, le=4096)]
Classes = Annotated[int, Meta(ge=0, le=MAX_CLASSES)]
Means = Annotated[list[Mean], Meta(min_length=1, max_length=MAX_CHANS)]
Stds = Annotated[list[Std], Meta(min_length=1, max_length=MAX_CHANS)]


class Look(Struct):
    """Entries of ``pretrained_cfg`` that are taken over: none that says where weights are, or how to load them."""

    input_size: tuple[Side, Side, Side] | None = None
    test_input_size: tuple[Side, Side, Side] | None = None
    min_input_size: tuple[Side, Side, Side] | None = None
    pool_size: tuple[Side, Side] | None = None
    test_pool_size: tuple[Side, Side] | None = None
    crop_pct: Crop | None = None
    test_crop_pct: Crop | None = None
    mean: Means | None = None
    std: Stds | None = None
    first_conv: Texts | None = None
    classifier: Texts | None = None
    interpolation: Literal["", "nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"] | None = None
    crop_mode: Literal["", "center", "squash", "border"] | None = None
    fixed_input_size: bool | None = None


class Config(Struct):
    """What ``config.json`` says of any model."""

    architecture: str
    pretrained_cfg: Look
    num_classes: Classes = 1000
    model_args: dict[str, Any] = {}
    zoo: dict[str, Any] = {}
    sgnas: dict[str, Any] = {}  # the same, as version 1 called it


class Arguments(Struct, forbid_unknown_fields=True):
    """Arguments that are kept with a network of ours (``KEPT``)."""

    arch: Text = ""
    space: Text = ""
    form: Text = ""
    global_pool: Text = ""
    act_layer: Text = ""
    norm_layer: Text = ""
    drop_rate: Share = 0
    drop_path_rate: Share = 0
    bn_eps: Share = 0
    bn_momentum: Share = 0
    in_chans: Annotated[int, Meta(ge=1, le=MAX_CHANS)] = 3
    num_classes: Classes = 1000
    output_stride: Annotated[int, Meta(ge=1, le=32)] = 32
    weights: Literal["untrained"] = "untrained"


class OurConfig(Struct):
    """What ``config.json`` says of a network of ours besides."""

    model_args: Arguments


class Counted(Struct):
    """Where a config says the number of classes that does not say it at its root."""

    num_classes: Classes = 1000


Number = Annotated[int, Meta(ge=-MAX_NUMBER, le=MAX_NUMBER)] | Annotated[float, Meta(ge=-MAX_NUMBER, le=MAX_NUMBER)]
Atom = None | bool | Text | Number
Plain = Atom | Annotated[list[Atom | Annotated[list[Atom], Meta(max_length=100)]], Meta(max_length=100)]
"""Plain data of moderate size: all that is asked of arguments of networks that are not ours."""

LOADING = frozenset(
    ["pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "pretrained_model_args",
     "checkpoint_path", "cache_dir", "scriptable", "exportable", "no_jit", "features_only", "device"]
)  # fmt: skip
"""Arguments by which timm would load something: no config may hold them."""

DESCRIPTIVE: dict[str, Any] = {
    **dict.fromkeys(("license", "tag", "description", "origin_url", "paper_name", "paper_ids", "notes"), Texts),
    "label_names": Annotated[list[Text], Meta(min_length=1, max_length=MAX_CLASSES)],
    "label_descriptions": dict[str, Text],
}
"""Entries that say something to people: at the root of the config, where transformers writes them, or beside those."""
