"""The network that a recipe trains or measures: made from options, and told what it sees."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from timm.data import create_transform, resolve_model_data_config
from timm.models import resolve_model_input_args
from torch import nn

from sgnas_zoo.api.create import create_model, is_model
from sgnas_zoo.api.request import Pretrained
from sgnas_zoo.costs import Conditions
from sgnas_zoo.errors import NewHeadWarning, PretrainedError, UnknownNameError, ZooError
from sgnas_zoo.files import sha256
from sgnas_zoo.hub.artifacts import WEIGHTS, Artifact
from sgnas_zoo.hub.loading import read_stated
from sgnas_zoo.hub.names import read_name
from sgnas_zoo.models.counting import counts
from sgnas_zoo.models.record import arguments
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.training.data.transforms import Transform
from sgnas_zoo.zoo import zoo_entries

OTHERS_WEIGHTS = ("tag", "license", "description", "origin_url", "paper_name", "paper_ids", "notes")
"""Entries of timm's ``pretrained_cfg`` that speak of the published weights of an architecture."""

MADE = ("arch", "form", "generator")
"""What a network can be made from beside budgets; one that has a name is made already."""


def make_network(
    model: str | None, budgets: Mapping[str, float] | None = None, space: str | None = None,
    arch: str | None = None, *, pretrained: Pretrained, resolution: int | None = None, **kwargs: Any,
) -> nn.Module:  # fmt: skip
    """Create the network that a recipe's options describe: by name, by architecture string, or for budgets.

    Args:
        model: A name for timm, or a folder or repo of a saved model in any spelling of ``read_name``; or None.
        budgets: Budgets in plain counts, without a name.
        space: Search space of the budgets or of ``arch``; beside a name it says nothing.
        arch: Architecture string, without a name.
        pretrained: Load or inherit weights, as ``create_model`` does; there is an error where there are none.
        resolution: Input side in pixels that it will see, if another than its own.
        kwargs: ``form`` and ``generator``, without a name, and what timm takes; those that are None are left out.

    Raises:
        ZooError: If the options contradict each other, or there is no such network, or no weights.
    """
    kwargs = {name: value for name, value in {**(budgets or {}), "arch": arch, **kwargs}.items() if value is not None}
    if model is None:
        if not budgets and arch is None:
            raise UnknownNameError("Say which network: --flops 350M, --params 5M, --arch STRING or --model NAME.")
        family = SPACES[space].family if space else "sgnas"
        name: str | None = family if arch else None
        kwargs |= {key: value for key, value in (("space", space), ("resolution", resolution)) if value is not None}
    elif beside := [f"--{name}" for name in kwargs if name in (*(budgets or ()), *MADE)]:
        raise UnknownNameError(f"--model names one network; leave out {' and '.join(beside)}, or --model.")
    else:
        name = model
    with _foreign_errors_as_ours(name), warnings.catch_warnings():
        warnings.simplefilter("ignore", NewHeadWarning)  # it is to be trained
        if model and resolution:
            kwargs |= _sized(model, resolution)
        return create_model(name, pretrained=pretrained, **kwargs)


@contextmanager
def _foreign_errors_as_ours(name: str | None) -> Iterator[None]:
    """Tell what timm and torch raise about options that are not for a network in one line."""
    try:
        yield
    except ZooError:
        raise
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, AssertionError, SafetensorError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".:")
        raise PretrainedError(f"Cannot make {name}: {reason}; check its name and the options for it.") from error


def _sized(model: str, resolution: int) -> dict[str, Any]:
    """The argument that states the input side, for networks that are built for one: ViT and others."""
    name, own = model, {}
    if read_name(model, is_model) is not None:
        stated = read_stated(Artifact(model))
        name, own = stated.architecture, {**stated.arguments, "pretrained_cfg": stated.pretrained_cfg}
    elif not is_model(model):
        return {}
    sized = resolve_model_input_args(name, {"img_size": resolution}, **own)
    return {key: sized[key] for key in ("img_size",) if key in sized}


def weights_sha256(network: nn.Module) -> str | None:
    """Digest of the file that a network's weights were loaded from; None if it was not from a folder or repo.

    Raises:
        ArtifactError: If the file is gone.
    """
    origin: dict[str, Any] = getattr(network, "zoo", {}).get("loaded_from") or {}
    if not origin:
        return None
    repo = f"{origin['id'].partition('@')[0]}@{origin['revision']}"
    return sha256(Artifact(repo if origin["revision"] else Path(origin["id"])).file(WEIGHTS))


def set_input(
    network: nn.Module, resolution: int | None = None, crop_pct: float | None = None, **changes: Any
) -> None:  # fmt: skip
    """Note in ``pretrained_cfg`` what the network sees, so that whoever loads it does the same.

    Args:
        network: A timm model; its other entries stay.
        resolution: Side in pixels; by default as it is.
        crop_pct: Side of the centre crop under which it is measured, as a share; by default as it is.
        changes: Other entries, such as ``label_names``; None removes an entry.
    """
    cfg: dict[str, Any] = dict(network.pretrained_cfg)  # type: ignore[arg-type]
    used = resolve_model_data_config(network)
    size = (used["input_size"][0], resolution, resolution) if resolution else tuple(used["input_size"])
    if size != tuple(cfg["input_size"]):
        cfg["pool_size"] = None
    used["crop_pct"] = crop_pct or used["crop_pct"]
    cfg |= {**used, "input_size": size, "num_classes": network.num_classes, **changes}
    for key in ("test_input_size", "test_crop_pct", "test_pool_size", "label_offset"):
        cfg.pop(key, None)
    keep = {key: value for key, value in cfg.items() if value is not None or key in ("pool_size", "first_conv")}
    network.pretrained_cfg = network.default_cfg = keep  # type: ignore[assignment]


def set_bn_momentum(network: nn.Module, momentum: float | None) -> None:
    """Set the momentum of all batch norms, as torch counts it: the share of the newest batch. None leaves it."""
    for module in network.modules():
        if momentum and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = momentum


def input_side(network: nn.Module) -> int:
    """Side in pixels of what a timm model sees."""
    return int(resolve_model_data_config(network)["input_size"][-1])


def measuring_transform(network: nn.Module) -> Transform:
    """The transform under which a timm model is measured: what its ``pretrained_cfg`` says."""
    made: Transform = create_transform(**resolve_model_data_config(network), is_training=False)
    return made


def counted(network: nn.Module) -> dict[str, Any]:
    """What a network costs, counted on itself, and the conditions that holds for."""
    conditions = Conditions(resolution=input_side(network), num_classes=int(network.num_classes))  # type: ignore[arg-type]
    stated = {name: getattr(conditions, name) for name in ("resolution", "num_classes", "precision")}
    return {**counts(network, conditions), **stated}


def arch_of(network: nn.Module) -> dict[str, Any]:
    """Space, architecture string and form of a network of ours, as far as it states them; empty for others."""
    stated = arguments(network)
    name = network.pretrained_cfg.get("architecture")  # type: ignore[operator, union-attr]
    if name in zoo_entries():
        entry = zoo_entries()[name]
        stated = {"space": entry.space, "arch": entry.arch, "form": entry.form}
    return {key: stated[key] for key in ("space", "arch", "form") if key in stated}
