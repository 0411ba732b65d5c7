"""The deploy form of a network: the same outputs from fewer and faster operations. It trains nothing."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from timm.layers import BatchNormAct2d, MixedConv2d
from torch import nn
from torch.fx import GraphModule, Tracer
from torch.nn.utils import skip_init
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sgnas_zoo.errors import ModelError
from sgnas_zoo.models.quantised import QuantisedConv2d


def deploy(model: nn.Module) -> nn.Module:
    """Make the inference form of a network: batch norm folded, mixed depthwise kernels merged, channels_last.

    The depthwise convolutions of a block become one whose smaller kernels are padded with zeros: the outputs stay,
    within rounding, and one convolution over all channels is quicker than a few over their parts. A batch norm goes
    into the convolution that alone feeds it, wherever that is; which one it is, is read from the traced graph.

    Args:
        model: A timm model in any form, ``features_only`` included. It is copied and stays as it is.

    Returns:
        A module of the same class in evaluation mode, for inference only. Its state dict is another.

    Raises:
        ModelError: If the model cannot be traced.
    """
    copied = copy.deepcopy(model).eval().requires_grad_(False)
    for name, module in [*copied.named_modules()]:
        if isinstance(module, MixedConv2d):
            _replace(copied, name, merged_depthwise(module))
    for conv, norm in _pairs(copied):
        _fold(copied, conv, norm)
    return copied.to(memory_format=torch.channels_last)


def merged_depthwise(mixed: nn.ModuleDict) -> nn.Module:
    """One depthwise convolution that computes what several of different kernels compute on their own channels.

    Args:
        mixed: timm's mixed convolution: depthwise, every part padded to keep the map.

    Returns:
        A convolution of the largest kernel. ``mixed`` itself where it is none of this.
    """
    convs: list[Any] = [*mixed.values()]
    if not all(type(conv) is nn.Conv2d and _keeps_map(conv) for conv in convs):
        return mixed
    widest = max(convs, key=lambda conv: conv.kernel_size)
    channels, kernel = sum(conv.out_channels for conv in convs), widest.kernel_size[0]
    merged: Any = skip_init(  # type: ignore[no-untyped-call]  # initialising draws from the global random state
        nn.Conv2d, channels, channels, kernel, stride=widest.stride, padding=widest.padding, groups=channels,
        bias=widest.bias is not None, device=widest.weight.device, dtype=widest.weight.dtype,
    )  # fmt: skip
    margins = [(kernel - conv.kernel_size[0]) // 2 for conv in convs]
    with torch.no_grad():
        merged.weight.copy_(
            torch.cat([nn.functional.pad(c.weight, (m,) * 4) for c, m in zip(convs, margins, strict=True)])
        )
        if merged.bias is not None:
            merged.bias.copy_(torch.cat([conv.bias for conv in convs]))
    merged.eval().requires_grad_(False)
    return cast(nn.Module, merged)


def _keeps_map(conv: nn.Conv2d) -> bool:
    """Whether a convolution is depthwise and pads by half its kernel, so that a larger one can hold it."""
    half = tuple(side // 2 for side in conv.kernel_size)
    return conv.groups == conv.in_channels == conv.out_channels and conv.padding == half and conv.dilation == (1, 1)


class _Tracer(Tracer):
    """Looks into everything but the building blocks of torch and timm."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict, GraphModule)
        return m.__module__.startswith(("torch.nn", "timm.layers")) and not isinstance(m, containers)


def _pairs(model: nn.Module) -> list[tuple[str, str]]:
    """Names of each convolution that feeds a batch norm and nothing else, and of that batch norm."""
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # whatever a foreign forward pass does under tracing
        raise ModelError(f"{type(model).__name__} cannot be traced for its deploy form; use it as it is.") from error
    modules = dict(model.named_modules())
    pairs = []
    for node in graph.nodes:
        if node.op == "call_module" and isinstance(modules[node.target], nn.BatchNorm2d):
            source = node.args[0]
            alone = source.op == "call_module" and len(source.users) == 1
            if alone and isinstance(modules[source.target], nn.Conv2d) and not _rounds(modules[source.target]):
                pairs.append((source.target, node.target))
    return pairs


def _rounds(conv: nn.Module) -> bool:
    """Whether a convolution rounds its weights, so that none may be folded into them."""
    return isinstance(conv, QuantisedConv2d)


def _fold(model: nn.Module, conv_name: str, norm_name: str) -> None:
    """Put a batch norm into its convolution, and leave in its place the activation that it ends in."""
    norm: Any = model.get_submodule(norm_name)
    conv: Any = model.get_submodule(conv_name)
    _replace(model, conv_name, fuse_conv_bn_eval(conv.double(), copy.deepcopy(norm).double()).to(norm.weight.dtype))
    _replace(model, norm_name, norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity())


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in another's place; whoever listens to that one (timm's feature hooks) listens to this."""
    old: Any = model.get_submodule(name)
    if module is old:
        return
    module._forward_hooks, module._forward_pre_hooks = old._forward_hooks, old._forward_pre_hooks
    parent, _, own = name.rpartition(".")
    model.get_submodule(parent).register_module(own, module)
