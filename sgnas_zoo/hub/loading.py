"""Loading saved models as untrusted data: what timm would follow is checked first, and no pickle is opened."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from safetensors import SafetensorError
from torch import nn

from sgnas_zoo.errors import ArtifactError, NewHeadWarning, UntrainedWarning, ZooError, printable
from sgnas_zoo.files import read_config, record_key
from sgnas_zoo.hub.artifacts import CONFIG, Artifact, brief, check_header, check_values, invalid_config
from sgnas_zoo.hub.model_fields import DESCRIPTIVE, LOADING, Config, Counted, Look, OurConfig, Plain
from sgnas_zoo.hub.remote import Access
from sgnas_zoo.models.origin import mark_untrained
from sgnas_zoo.models.record import led_to_it
from sgnas_zoo.plain_json import checked, fits
from sgnas_zoo.plain_torch import plain_torch
from sgnas_zoo.spaces import families
from sgnas_zoo.zoo import zoo_entries


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
        The model; ``model.zoo`` holds the record in its config, and under ``loaded_from`` where it came from.

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
        model.zoo = {**stated.record, "loaded_from": origin}  # type: ignore[assignment]
        if not pretrained:
            mark_untrained(model)
    if pretrained:
        warn_of_new_head(stated.pretrained_cfg["num_classes"], kwargs.get("num_classes"))
    return model


def warn_of_new_head(known: int, wanted: int | None) -> None:
    """Warn of a classifier that no weights are for: its answers mean nothing before it is trained.

    Args:
        known: Classes that the weights know.
        wanted: Classes of the model; None for as many, 0 for features.
    """
    if wanted and wanted != known:
        warnings.warn(
            f"The classifier is new: it has {wanted} classes, the weights know {known}; fine-tune the model "
            "(recipes/finetune.py).", NewHeadWarning, stacklevel=4,
        )  # fmt: skip


def load_back(folder: Path) -> None:
    """Load a model that was just written, before it takes its place: what does not load is never written.

    Raises:
        ArtifactError: If it does not.
    """
    try:
        with plain_torch(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UntrainedWarning)  # whoever saves knows
            load_model(folder)
    except ArtifactError as error:
        reason = str(error).rpartition(";")[0]
        raise ArtifactError(f"This model would not load again: {reason}; fix this and save it again.") from error


class Stated(NamedTuple):
    """What a config says of a model, checked: timm's arguments, and the record that came with it."""

    architecture: str
    arguments: dict[str, Any]
    pretrained_cfg: dict[str, Any]
    record: dict[str, Any]


def read_stated(artifact: Artifact) -> Stated:
    """Read a model's config, field by field.

    Raises:
        ArtifactError: If it is not a model's, or a field is missing, foreign or out of bounds.
    """
    config = read_config(artifact.file(CONFIG))
    if "artifact" in config:
        raise ArtifactError(f"{artifact.id} does not hold a model; name a model's folder or repo.")
    try:
        stated = checked(config, Config)
        if not timm.is_model(stated.architecture):
            raise ValueError(f"unknown architecture {stated.architecture[:40]!r}")
        arguments = _arguments(stated.architecture, config)
        look = config["pretrained_cfg"]
        classes = stated.num_classes if "num_classes" in config else checked(look, Counted).num_classes
    except (ValueError, TypeError) as error:
        raise invalid_config(artifact.id, error) from error
    cfg = {name: look[name] for name in Look.__struct_fields__ if look.get(name) is not None}
    cfg |= {"num_classes": classes, **_described(artifact.id, config, look, classes)}
    return Stated(stated.architecture, arguments, cfg, getattr(stated, record_key(config)))


def is_ours(architecture: object) -> bool:
    """Whether a timm name is of a network of this library."""
    return architecture in families() or architecture in zoo_entries()


def _arguments(architecture: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """What the entry point is called with; ValueError for what it must not be."""
    stated = config.get("model_args", {})
    if is_ours(architecture):
        if "arch" in stated:  # timm's own export keeps them; the architecture says it all
            stated = {name: value for name, value in stated.items() if name not in led_to_it()}
        checked({"model_args": stated}, OurConfig)
    elif bad := [name for name, value in stated.items() if name in LOADING or not fits(value, Plain)]:
        raise ValueError(f"model_args.{bad[0][:40]} is out of bounds")
    return {name: value for name, value in stated.items() if name != "num_classes"}


def _ghost(name: str, stated: Stated) -> nn.Module:
    """The network that a config describes, built without memory for its tensors.

    Raises:
        ArtifactError: If it describes none.
    """
    cfg, classes = dict(stated.pretrained_cfg), stated.pretrained_cfg["num_classes"]
    arguments = {key: value for key, value in stated.arguments.items() if key != "weights"}  # it is said once
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            ghost: nn.Module = timm.create_model(
                stated.architecture, pretrained_cfg=cfg, num_classes=classes, **arguments
            )
    except ZooError as error:
        raise ArtifactError(f"The config of {name} is not valid: {brief(error)}") from error
    except Exception as error:  # there is nothing that a network may not raise at arguments it was not made for
        raise invalid_config(name, error) from error
    return ghost


def _described(name: str, config: Mapping[str, Any], stated: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """Fields that describe a model and change nothing of it; those that cannot be right are left out with a warning."""
    found, dropped = {}, []
    for key, kind in DESCRIPTIVE.items():
        values = [part[key] for part in (config, stated) if part.get(key) is not None]
        fitting = [value for value in values if fits(value, kind) and (key != "label_names" or len(value) == classes)]
        if fitting:
            found[key] = fitting[0]
        elif values:
            counted = key == "label_names" and fits(values[0], kind)
            dropped.append(f"{key} ({len(values[0])} for {classes} classes)" if counted else key)
    if dropped:
        warnings.warn(
            printable(f"{name}: {', '.join(dropped)} in its config cannot be right; left out, the rest is used."),
            stacklevel=4,
        )
    return found
