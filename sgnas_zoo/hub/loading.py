"""Loading saved models as untrusted data: what timm would follow is checked first, and no pickle is opened."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import timm
import torch
from msgspec import Meta
from safetensors import SafetensorError
from torch import nn

from sgnas_zoo.errors import ArtifactError, ZooError, printable
from sgnas_zoo.files import read_config
from sgnas_zoo.hub.artifacts import (
    CONFIG,
    Artifact,
    Crop,
    Mean,
    Std,
    brief,
    check_header,
    check_values,
    invalid_config,
    is_number,
    text,
)
from sgnas_zoo.hub.remote import Access
from sgnas_zoo.models.origin import mark_untrained
from sgnas_zoo.models.record import KEPT
from sgnas_zoo.plain_json import fits
from sgnas_zoo.plain_torch import plain_torch
from sgnas_zoo.spaces import families
from sgnas_zoo.zoo import zoo_entries

MAX_CLASSES, MAX_NUMBER, MAX_SIDE, MAX_CHANS, MAX_TEXT = 100_000, 100_000, 4096, 1024, 10_000
"""Larger numbers and longer texts are refused before anything is allocated."""


def load_model(
    name: str | Path,
    *,
    pretrained: bool = True,
    access: Access = Access(),  # noqa: B008  # immutable
    **kwargs: Any,
) -> nn.Module:
    """Create a saved timm model, one of ours or another.

    Args:
        name: A folder or a Hub repo, in any spelling of ``read_name``.
        pretrained: Load its weights; its config is read in any case.
        access: How to reach a repo; it is read at one commit.
        kwargs: For timm, before what the config says (``num_classes``, ``in_chans``, ``features_only``, ...).

    Returns:
        The model; ``model.sgnas`` holds the record in its config, and under ``loaded_from`` where it came from.

    Raises:
        ArtifactError: If it is missing, damaged, not a timm model, or its weights do not fit its config.
        TypeError: For keywords that timm does not know.
    """
    artifact = Artifact(name, access)
    stated = read_stated(artifact)
    ghost = _ghost(artifact.id, stated)
    cfg = dict(stated.pretrained_cfg)
    if pretrained:
        weights = artifact.weights()
        check_header(weights, ghost.state_dict(), artifact.id)
        cfg["file"] = str(weights)
    arguments = {"pretrained_model_args": stated.arguments, **stated.arguments, **kwargs}
    try:
        model: nn.Module = timm.create_model(stated.architecture, pretrained, pretrained_cfg=cfg, **arguments)
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"The weights of {artifact.id} are damaged; fetch the artifact again.") from error
    if pretrained:
        check_values(model.state_dict(), artifact.id)
    if not kwargs.get("features_only"):
        model.pretrained_cfg.pop("file", None)  # type: ignore[operator, union-attr]
        origin = {"id": artifact.id, "revision": artifact.commit}
        model.sgnas = {**stated.record, "loaded_from": origin}  # type: ignore[assignment]
        if not pretrained:
            mark_untrained(model)
    return model


def load_back(folder: Path) -> None:
    """Load a model that was just written, before it takes its place: what does not load is never written.

    Raises:
        ArtifactError: If it does not.
    """
    try:
        with plain_torch(), torch.random.fork_rng(devices=[]):
            load_model(folder)
    except ArtifactError as error:
        reason = str(error).rpartition(";")[0]
        raise ArtifactError(f"This model would not load again: {reason}; mend it, then save it.") from error


class Stated(NamedTuple):
    """What a config says of a model, checked: timm's arguments, and the record that came with it."""

    architecture: str
    arguments: dict[str, Any]
    pretrained_cfg: dict[str, Any]
    record: dict[str, Any]


def read_stated(artifact: Artifact) -> Stated:
    """Read a model's config, field by field.

    Raises:
        ArtifactError: If it is no model's, or a field is missing, foreign or out of bounds.
    """
    config = read_config(artifact.file(CONFIG))
    if "artifact" in config:
        raise ArtifactError(f"{artifact.id} holds no model; name a model's folder or repo.")
    try:
        architecture = text(config["architecture"])
        if not timm.is_model(architecture):
            raise ValueError(f"unknown architecture {architecture[:40]!r}")
        arguments = _arguments(architecture, _mapping(config.get("model_args", {})))
        stated = _mapping(config["pretrained_cfg"])
        cfg = {key: stated[key] for key, may in PREPROCESSING.items() if key in stated and _fitting(key, stated, may)}
        cfg["num_classes"] = classes = config.get("num_classes", stated.get("num_classes", 1000))
        if not _count(classes, MAX_CLASSES, least=0):
            raise ValueError("num_classes is out of bounds")
        cfg |= _described(artifact.id, config, stated, classes)
        return Stated(architecture, arguments, cfg, _mapping(config.get("sgnas", {})))
    except (KeyError, ValueError, TypeError) as error:
        raise invalid_config(artifact.id, error) from error


def is_ours(architecture: object) -> bool:
    """Whether a timm name is of a network of this library."""
    return architecture in families() or architecture in zoo_entries()


def _arguments(architecture: str, stated: dict[str, Any]) -> dict[str, Any]:
    """What the entry point is called with; ValueError for what it must not be."""
    ours = is_ours(architecture)
    for key, value in stated.items():
        if ours and key not in KEPT:
            raise ValueError(f"model_args may not hold {key[:40]!r}")
        if key in LOADING or not (ARGUMENTS[key](value) if ours else _plain(value)):
            raise ValueError(f"model_args.{key[:40]} is out of bounds")
    return {key: value for key, value in stated.items() if key != "num_classes"}


def _ghost(name: str, stated: Stated) -> nn.Module:
    """The network that a config describes, built without memory for its tensors.

    Raises:
        ArtifactError: If it describes none.
    """
    classes = stated.pretrained_cfg["num_classes"]
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            ghost: nn.Module = timm.create_model(stated.architecture, num_classes=classes, **stated.arguments)
    except ZooError as error:
        raise ArtifactError(f"The config of {name} is not valid: {brief(error)}") from error
    except Exception as error:  # there is nothing that a network may not raise at arguments it was not made for
        raise invalid_config(name, error) from error
    return ghost


def _described(name: str, config: Mapping[str, Any], stated: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """Fields that describe a model and change nothing of it; those that cannot be right are left out with a warning."""
    found, dropped = {}, []
    for key, may in DESCRIPTIVE.items():
        values = [part[key] for part in (config, stated) if part.get(key) is not None]
        fitting = [value for value in values if may(value) and (key != "label_names" or len(value) == classes)]
        if fitting:
            found[key] = fitting[0]
        elif values:
            count = f" ({len(values[0])} for {classes} classes)" if key == "label_names" and may(values[0]) else ""
            dropped.append(f"{key}{count}")
    if dropped:
        warnings.warn(
            printable(f"{name}: {', '.join(dropped)} in its config cannot be right; left out, the rest is used."),
            stacklevel=4,
        )
    return found


def _fitting(key: str, stated: Mapping[str, Any], may: Callable[[Any], bool]) -> bool:
    """True for a field that fits, False for one that is null; ValueError otherwise."""
    if stated[key] is not None and not may(stated[key]):
        raise ValueError(f"{key} is out of bounds")
    return stated[key] is not None


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{brief(repr(value), 40)} is no object")
    return value


def _count(value: object, most: int, least: int = 1) -> bool:
    return type(value) is int and least <= value <= most


def _text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT


def _texts(value: object) -> bool:
    return _text(value) or _several(value, _text, 100)


def _several(value: object, fits: Callable[[Any], bool], most: int, least: int = 1) -> bool:
    return isinstance(value, list) and least <= len(value) <= most and all(fits(item) for item in value)


def _share(value: object) -> bool:
    return is_number(value, 0, 1)


def _input(value: object) -> bool:
    return _several(value, lambda item: _count(item, MAX_SIDE), 3, least=3)


def _side(value: object) -> bool:
    return _several(value, lambda item: _count(item, MAX_SIDE), 2, least=2)


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _plain(value: object, depth: int = 2) -> bool:
    """Whether a value is plain data of moderate size: all that is asked of arguments of networks that are not ours."""
    if isinstance(value, list) and depth:
        return len(value) <= 100 and all(_plain(item, depth - 1) for item in value)
    return value is None or _flag(value) or _text(value) or is_number(value, -MAX_NUMBER, MAX_NUMBER)


PREPROCESSING: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("input_size", "test_input_size", "min_input_size"), _input),
    **dict.fromkeys(("pool_size", "test_pool_size"), _side),
    **dict.fromkeys(("crop_pct", "test_crop_pct"), lambda value: fits(value, Crop)),
    "mean": lambda value: fits(value, Annotated[list[Mean], Meta(min_length=1, max_length=MAX_CHANS)]),
    "std": lambda value: fits(value, Annotated[list[Std], Meta(min_length=1, max_length=MAX_CHANS)]),
    **dict.fromkeys(("first_conv", "classifier"), _texts),
    "interpolation": lambda value: value in ("", "nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"),
    "crop_mode": lambda value: value in ("", "center", "squash", "border"),
    "fixed_input_size": _flag,
}
"""Entries of ``pretrained_cfg`` that are taken over. Those that say where weights are, or how to load them, are not."""

DESCRIPTIVE: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("license", "tag", "description", "origin_url", "paper_name", "paper_ids", "notes"), _texts),
    "label_names": lambda value: _several(value, _text, MAX_CLASSES),
    "label_descriptions": lambda value: isinstance(value, dict) and all(map(_text, value.values())),
}
"""Entries that say something to people: at the root of the config, where transformers writes them, or beside those."""

ARGUMENTS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("arch", "space", "form", "global_pool", "act_layer", "norm_layer"), _text),
    **dict.fromkeys(("drop_rate", "drop_path_rate", "bn_eps", "bn_momentum"), _share),
    "in_chans": lambda value: _count(value, MAX_CHANS),
    "num_classes": lambda value: _count(value, MAX_CLASSES, least=0),
    "output_stride": lambda value: _count(value, 32),
}
"""What the arguments may be that are kept with a network of ours (``KEPT``)."""

LOADING = frozenset(
    ["pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "pretrained_model_args",
     "checkpoint_path", "cache_dir", "scriptable", "exportable", "no_jit", "features_only", "device"]
)  # fmt: skip
"""Arguments by which timm would load something: no config may hold them."""
