"""Build the timm model of an architecture, and count what it really costs."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from timm.layers import get_act_layer
from timm.models import PretrainedCfg, build_model_with_cfg
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sgnas_zoo.models.copying import copied
from sgnas_zoo.models.quantised import QuantisedConv2d
from sgnas_zoo.plain_torch import plain_torch
from sgnas_zoo.spaces import Arch, FormName, SearchSpace


def build_model(
    variant: str, arch: Arch, form: FormName, pretrained: bool = False, resolution: int | None = None, **kwargs: Any
) -> nn.Module:
    """Build the timm model of an architecture: an ``EfficientNet`` or ``ResNet`` of timm's, or a ``ShuffleNet``.

    Args:
        variant: timm name of the entry point.
        arch: The architecture.
        form: "final" (stand-alone) or "search" (as in the supernet).
        pretrained: Load the weights that ``pretrained_cfg`` points to.
        resolution: Input side in pixels to note in ``pretrained_cfg``; by default the space's.
        kwargs: What timm's EfficientNet and ResNet or our ShuffleNet take; what shapes the architecture is fixed and
            raises TypeError.

    Returns:
        The model, or timm's feature wrapper with ``features_only=True``.
    """
    space, style = arch.space, arch.space.form(form)
    networks = space.kind.networks()
    overlay = kwargs.pop("pretrained_cfg_overlay", None) or {}
    if not isinstance(kwargs.get("pretrained_cfg"), dict | PretrainedCfg):  # a saved model brings its own
        overlay = _native_input(space, resolution or space.resolution) | overlay
    kwargs["act_layer"] = kwargs.get("act_layer") or get_act_layer(style.stem_act)
    model: nn.Module = build_model_with_cfg(
        partial(networks.build, arch, form),
        variant,
        pretrained,
        feature_cfg=dict(networks.feature_cfg(space)),
        pretrained_cfg_overlay=overlay,
        **kwargs,
    )
    return model


@plain_torch()
def count_macs(model: nn.Module, resolution: int, in_chans: int = 3) -> int:
    """MACs of a model's forward pass on one image, counted by torch on the meta device: no weights, no time.

    Args:
        model: Any model of images; it is copied, not changed.
        resolution: Side of the square input in pixels.
        in_chans: Input channels.
    """
    ghost = copied(model).to("meta").float().eval()
    with FlopCounterMode(display=False) as counter:
        ghost(torch.empty(1, in_chans, resolution, resolution, device="meta"))
    return int(counter.get_total_flops()) // 2


@plain_torch()
def count_bitops(model: nn.Module, resolution: int, in_chans: int = 3) -> int:
    """BitOps of a model's forward pass on one image: those of its quantised convolutions, which are all that has any.

    Args:
        model: Any model of images; it is copied, not changed.
        resolution: Side of the square input in pixels.
        in_chans: Input channels.
    """
    if not any(isinstance(module, QuantisedConv2d) for module in model.modules()):
        return 0
    ghost, total = copied(model).to("meta").float().eval(), 0

    def count(module: Any, _: Any, out: Any) -> None:
        nonlocal total
        total += out.numel() * module.weight[0].numel() * module.weight_bits * module.act_bits

    for module in ghost.modules():
        if isinstance(module, QuantisedConv2d):
            module.register_forward_hook(count)
    ghost(torch.empty(1, in_chans, resolution, resolution, device="meta"))
    return total


def count_params(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def _native_input(space: SearchSpace, size: int) -> dict[str, Any]:
    """Preprocessing entries that follow from a space and an input size."""
    side = -(-size // space.reduction)
    return {"input_size": (3, size, size), "pool_size": (side, side), "num_classes": space.num_classes}
