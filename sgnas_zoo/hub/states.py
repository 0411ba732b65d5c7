"""The tensors of a network as they are written: only what the config that goes with them describes can be loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn

from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.plain_torch import plain_torch

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
LEFT_ON = {
    "lora_": "merge its adapters into it with merge_and_unload()",
    "parametrizations.": "end its parametrisations with torch.nn.utils.parametrize.remove_parametrizations",
    "_mask": "make its pruning permanent with torch.nn.utils.prune.remove",
    "weight_u": "end its spectral norm with torch.nn.utils.remove_spectral_norm",
    "weight_g": "end its weight norm with torch.nn.utils.remove_weight_norm",
    "base_layer.": "merge its adapters into it with merge_and_unload()",
}
"""What is known by the names of its tensors, and how to be rid of it."""


def saved_state(module: nn.Module) -> dict[str, Tensor]:
    """The state dict of a module on the CPU, each tensor with memory of its own.

    Raises:
        ArtifactError: If a tensor has no values here, or they are not finite or of a kind that nothing loads.
    """
    state: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in module.state_dict().items():
        _check(name, tensor)
        tensor = tensor.detach().cpu().contiguous()  # channels_last is not
        place = tensor.untyped_storage().data_ptr()
        state[name.replace("_orig_mod.", "")] = (
            tensor.clone() if place in places else tensor
        )  # tied ones are written twice
        places.add(place)
    return state


def check_described(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Refuse tensors that a model's config does not describe: nothing could load them.

    Args:
        state: What is to be written.
        config: What ``config.json`` will say.

    Raises:
        ArtifactError: If they differ; it names where, and what to do.
    """
    described = _described(config)
    differing = sorted(name for name in {*state, *described} if not _alike(state.get(name), described.get(name)))
    if differing:
        names = ", ".join(_difference(name, state.get(name), described.get(name)) for name in differing[:3])
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise ArtifactError(
            f"This model is not what its config describes ({names}{more}), so nothing could load it; "
            f"{_way_on(differing, config)}, then save it."
        )


@plain_torch()
def _described(config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors, without memory, of the model that is built from a config."""
    arguments = {name: value for name, value in config.get("model_args", {}).items() if name != "weights"}
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            ghost = timm.create_model(
                config["architecture"], pretrained_cfg=dict(config["pretrained_cfg"]),
                num_classes=config["num_classes"], **arguments,
            )  # fmt: skip
    except Exception as error:  # there is nothing that a network may not raise at arguments it was not made for
        reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
        raise ArtifactError(
            f"This model cannot be built again from its config ({reason}); make it with create_model from plain values."
        ) from error
    return dict(ghost.state_dict())


def _check(name: str, tensor: Tensor) -> None:
    if hasattr(tensor, "full_tensor"):
        raise ArtifactError(f"{name} is spread over processes; gather the model's weights on one, then save it.")
    if tensor.is_meta:
        raise ArtifactError(f"{name} has no values (meta device); load weights into the model, then save it.")
    if (tensor.is_floating_point() and tensor.dtype not in FLOATS) or tensor.is_complex() or tensor.is_quantized:
        raise ArtifactError(f"{name} is {str(tensor.dtype)[6:]}, which nothing loads; save model.float().")
    if not bool(torch.isfinite(tensor).all()):
        raise ArtifactError(
            f"{name} is not finite, so nothing would load it; go back to weights that are, and train with a lower rate."
        )


def _alike(tensor: Tensor | None, described: Tensor | None) -> bool:
    if tensor is None or described is None:
        return False
    return tensor.shape == described.shape and tensor.is_floating_point() == described.is_floating_point()


def _difference(name: str, tensor: Tensor | None, described: Tensor | None) -> str:
    if tensor is None:
        return f"{name} is missing"
    if described is None:
        return f"{name} is foreign"
    return f"{name} is {_shown(tensor)}, not {_shown(described)}"


def _shown(tensor: Tensor) -> str:
    kind = "" if tensor.is_floating_point() else f" {str(tensor.dtype)[6:]}"
    return f"{'x'.join(map(str, tensor.shape)) or 'scalar'}{kind}"


def _way_on(differing: Iterable[str], config: Mapping[str, Any]) -> str:
    """What to do about tensors of these names."""
    for mark, advice in LEFT_ON.items():
        if any(mark in name for name in differing):
            return advice
    heads = config["pretrained_cfg"].get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    if heads and all(name.startswith(tuple(f"{head}." for head in heads)) for name in differing):
        return "give it timm's own head with model.reset_classifier(NUMBER OF CLASSES) and train that"
    return "undo what was changed in its layers (save it before deploy, not after), or make it with create_model"
