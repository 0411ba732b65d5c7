"""Build the timm model of an architecture, and count what it really costs."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from timm.layers import get_act_layer
from timm.models import EfficientNet, PretrainedCfg, ResNet, build_model_with_cfg
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models._efficientnet_builder import decode_arch_def, resolve_bn_args
from timm.models.resnet import BasicBlock
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sgnas_zoo.errors import SpaceError
from sgnas_zoo.models.block_strings import arch_def
from sgnas_zoo.models.quantised import QuantisedConv2d, searched_convolutions
from sgnas_zoo.models.shufflenet import ShuffleNet
from sgnas_zoo.spaces import Arch, FormName, QuantisedSpace, SearchSpace, Shuffle, ShuffleSpace


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
    overlay = kwargs.pop("pretrained_cfg_overlay", None) or {}
    if not isinstance(kwargs.get("pretrained_cfg"), dict | PretrainedCfg):  # a saved model brings its own
        overlay = _native_input(space, resolution or space.resolution) | overlay
    kwargs["act_layer"] = kwargs.get("act_layer") or get_act_layer(style.stem_act)
    build: Any
    fixed: dict[str, Any] = {}
    quantised = isinstance(space, QuantisedSpace)
    if quantised:
        levels, build = 1 + len(space.rows), partial(_resnet, arch)
    else:
        levels = 1 + sum(row.stride > 1 for row in space.rows)
        build = partial(_shufflenet, arch) if isinstance(space, ShuffleSpace) else partial(_efficientnet, arch, form)
        kwargs["norm_layer"] = kwargs.get("norm_layer") or partial(nn.BatchNorm2d, **resolve_bn_args(kwargs))
        fixed = {"stem_size": space.stem_chs, "num_features": space.head_chs}
    model: nn.Module = build_model_with_cfg(
        build,
        variant,
        pretrained,
        feature_cfg={"out_indices": tuple(range(levels)), "flatten_sequential": not quantised},
        pretrained_cfg_overlay=overlay,
        **fixed,
        **kwargs,
    )
    return model


def count_macs(model: nn.Module, resolution: int, in_chans: int = 3) -> int:
    """MACs of a model's forward pass on one image, counted by torch on the meta device: no weights, no time.

    Args:
        model: Any model of images; it is copied, not changed.
        resolution: Side of the square input in pixels.
        in_chans: Input channels.
    """
    ghost = copy.deepcopy(model).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ghost(torch.empty(1, in_chans, resolution, resolution, device="meta"))
    return int(counter.get_total_flops()) // 2


def count_bitops(model: nn.Module, resolution: int, in_chans: int = 3) -> int:
    """BitOps of a model's forward pass on one image: those of its quantised convolutions, which are all that has any.

    Args:
        model: Any model of images; it is copied, not changed.
        resolution: Side of the square input in pixels.
        in_chans: Input channels.
    """
    if not any(isinstance(module, QuantisedConv2d) for module in model.modules()):
        return 0
    ghost, total = copy.deepcopy(model).to("meta").eval(), 0

    def count(module: Any, _: Any, out: Any) -> None:
        nonlocal total
        total += out.numel() * module.weight[0].numel() * module.weight_bits * module.act_bits

    for module in ghost.modules():
        if isinstance(module, QuantisedConv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        ghost(torch.empty(1, in_chans, resolution, resolution, device="meta"))
    return total


def count_params(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def _efficientnet(arch: Arch, form: FormName, **kwargs: Any) -> EfficientNet:
    """An EfficientNet whose stem has the stride of the space: timm builds it with 2."""
    if arch.space.stem_stride == 1 and kwargs.get("output_stride", 32) != 32:
        raise SpaceError("output_stride needs a space with a stride-2 stem; leave it out.")
    model = EfficientNet(
        block_args=decode_arch_def(arch_def(arch, form)),
        se_layer=partial(SqueezeExcite, gate_layer="hard_sigmoid", force_act_layer=nn.ReLU),
        **kwargs,
    )
    if arch.space.stem_stride == 2:
        return model
    model.conv_stem.stride = (1, 1)
    for feature in model.feature_info:
        feature["reduction"] //= 2
    return model


def _shufflenet(arch: Arch, **kwargs: Any) -> ShuffleNet:
    """A ShuffleNet of the blocks that an architecture chose."""
    space = arch.space
    stages: list[list[Shuffle]] = [[] for _ in space.rows]
    for number, (layer, picks) in enumerate(zip(space.layers, arch.picks, strict=True)):
        block = space.block(number, space.variant(picks), "final")
        assert isinstance(block, Shuffle)
        stages[layer.stage].append(block)
    return ShuffleNet(stages, stem_stride=space.stem_stride, **kwargs)


def _resnet(arch: Arch, **kwargs: Any) -> ResNet:
    """A ResNet of basic blocks whose convolutions have the bits that an architecture chose."""
    space = arch.space
    assert isinstance(space, QuantisedSpace)
    if space.stem_stride == 1 and kwargs.get("output_stride", 32) != 32:
        raise SpaceError("output_stride needs a space with a stride-2 stem; leave it out.")
    depths, widths = (tuple(getattr(row, name) for row in space.rows) for name in ("repeats", "out_chs"))
    model = ResNet(BasicBlock, depths, channels=widths, **kwargs)
    if space.stem_stride == 1:
        for feature in model.feature_info:
            feature["reduction"] //= 2
    like = model.conv1.weight
    model.conv1 = nn.Conv2d(
        model.in_chans, space.stem_chs, space.stem_kernel, space.stem_stride, space.stem_kernel // 2, bias=False,
        device=like.device, dtype=like.dtype,
    )  # fmt: skip
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    for place, picks in zip(searched_convolutions(model), arch.picks, strict=True):
        place.put(QuantisedConv2d(place.conv, space.variant(picks).bits))
    return model


def _native_input(space: SearchSpace, size: int) -> dict[str, Any]:
    """Preprocessing entries that follow from a space and an input size."""
    side = -(-size // space.reduction)
    return {"input_size": (3, size, size), "pool_size": (side, side), "num_classes": space.num_classes}
