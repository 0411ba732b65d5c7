"""The deploy form of a network: the same outputs from fewer and faster operations. It trains nothing."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any, cast

import torch
from timm.layers import BatchNormAct2d, Conv2dSame, MixedConv2d
from timm.models._features import FeatureHooks
from timm.utils import unwrap_model
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node, Tracer
from torch.nn.utils import skip_init
from torch.nn.utils.fusion import fuse_conv_bn_weights

from sgnas_zoo.errors import ModelError
from sgnas_zoo.models.copying import copied

CONVOLUTIONS, NORMS = (nn.Conv2d, Conv2dSame), (nn.BatchNorm2d, BatchNormAct2d)
"""What is folded: exactly these, as a class made from them may compute something else (rounded weights, ...)."""


def deploy(model: nn.Module) -> nn.Module:
    """Make the inference form of a network: batch norm folded, mixed depthwise kernels merged, channels_last.

    The depthwise convolutions of a block become one whose smaller kernels are padded with zeros: the outputs stay,
    within rounding, and one convolution over all channels is quicker than a few over their parts. A batch norm goes
    into the convolution that alone feeds it, wherever that is; which one it is, is read from the traced graph. What is
    not provably such a pair stays as it is: shared, called twice, pruned, reparametrised, without statistics.

    Args:
        model: A timm model in any form, ``features_only`` included. It is copied and stays as it is.

    Returns:
        A module of the same class in evaluation mode, for inference only. Its state dict is another.

    Raises:
        ModelError: If the model cannot be traced.
    """
    form = copied(unwrap_model(model)).eval().requires_grad_(False)
    for name, module in [*form.named_modules()]:
        if isinstance(module, MixedConv2d):
            _replace(form, name, merged_depthwise(module))
    for conv, norm in _pairs(form):
        _fold(form, conv, norm)
    return form.to(memory_format=torch.channels_last)


def merged_depthwise(mixed: nn.ModuleDict) -> nn.Module:
    """One depthwise convolution that computes what several of different kernels compute on their own channels.

    Args:
        mixed: timm's mixed convolution: depthwise, every part padded to keep the map.

    Returns:
        A convolution of the largest kernel. ``mixed`` itself where it is none of this.
    """
    convs: list[Any] = [*mixed.values()]
    alike = {(conv.stride, conv.bias is None, conv.weight.dtype) for conv in convs if type(conv) is nn.Conv2d}
    if len(alike) != 1 or not all(_is_plain(conv, nn.Conv2d) and _keeps_map(conv) for conv in convs):
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
    depthwise = conv.groups == conv.in_channels == conv.out_channels
    return depthwise and conv.padding == half and conv.padding_mode == "zeros" and conv.dilation == (1, 1)


def _is_plain(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether a module is exactly of a kind, its parameters are its own, and nobody but timm's features listens.

    Pruning and the older weight norm put hooks there that make the weights; parametrisations change the class.
    """
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    owners = [getattr(getattr(hook, "func", hook), "__self__", None) for hook in hooks]
    own = set(module._parameters) == {"weight", "bias"} and "forward" not in vars(module)
    return type(module) in kinds and own and all(isinstance(owner, FeatureHooks) for owner in owners)


class OperationTracer(Tracer):
    """Looks into everything but the building blocks of torch and timm."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is one operation."""
        containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict, GraphModule)
        return m.__module__.startswith(("torch.nn", "timm.layers")) and not isinstance(m, containers)


def _pairs(model: nn.Module) -> list[tuple[str, str]]:
    """Names of each convolution that feeds a batch norm and nothing else, and of that batch norm."""
    try:
        graph = OperationTracer().trace(model)
    except Exception as error:  # whatever a foreign forward pass does under tracing
        raise ModelError(f"{type(model).__name__} cannot be traced for its deploy form; use it as it is.") from error
    once = _used_once(model, graph)
    pairs = []
    for node in graph.nodes:
        source = node.args[0] if node.args else None
        both = isinstance(source, Node) and {node.op, source.op} == {"call_module"}
        if both and {node.target, source.target} <= once and len(source.users) == 1:  # type: ignore[union-attr]
            conv, norm = (model.get_submodule(str(n.target)) for n in (source, node))  # type: ignore[union-attr]
            if _can_fold(conv, norm):
                pairs.append((str(source.target), str(node.target)))  # type: ignore[union-attr]
    return pairs


def _used_once(model: nn.Module, graph: Graph) -> set[object]:
    """Names of the modules that one call and one place in the model know, and whose parameters nobody else uses."""
    places = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    owners = Counter(id(tensor) for _, tensor in _tensors(model))
    direct = {node.target for node in graph.nodes if node.op == "get_attr"}
    shared = {name.rpartition(".")[0] for name, tensor in _tensors(model) if owners[id(tensor)] > 1 or name in direct}
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    return {
        name for name, count in calls.items() if count == 1 and name not in shared
        and places[id(model.get_submodule(str(name)))] == 1
    }  # fmt: skip


def _tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers under every name that they have."""
    return [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]


def _can_fold(conv: nn.Module, norm: nn.Module) -> bool:
    """Whether a norm only scales and shifts what comes from a convolution, and nobody looks at what is between."""
    if not _is_plain(conv, *CONVOLUTIONS) or not _is_plain(norm, *NORMS):
        return False
    between = conv._forward_hooks or norm._forward_pre_hooks
    drops = not isinstance(getattr(norm, "drop", nn.Identity()), nn.Identity | nn.Dropout)
    return not between and not drops and norm.running_mean is not None and norm.running_var is not None


def _fold(model: nn.Module, conv_name: str, norm_name: str) -> None:
    """Put a batch norm into its convolution, and leave in its place the activation that it ends in."""
    norm: Any = model.get_submodule(norm_name)
    conv: Any = model.get_submodule(conv_name)
    like, folded = conv.weight, copy.copy(conv)
    parts = (conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    weight, bias, mean, var, scale, shift = (_precise(part) for part in parts)
    made: Any = fuse_conv_bn_weights(weight, bias, mean, var, norm.eps, scale, shift)  # type: ignore[arg-type]
    folded._parameters = {
        name: nn.Parameter(tensor.to(like.dtype).to(like.device), requires_grad=False)
        for name, tensor in zip(("weight", "bias"), made, strict=True)
    }
    _replace(model, conv_name, folded)
    _replace(model, norm_name, norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity())


def _precise(tensor: Tensor | None) -> Tensor | None:
    """A tensor in double precision, on the CPU: not every device has that."""
    return tensor if tensor is None else (tensor if tensor.is_meta else tensor.cpu()).detach().double()


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in another's place; whoever listens to that one (timm's feature hooks) listens to this."""
    old: Any = model.get_submodule(name)
    if module is old:
        return
    module._forward_hooks, module._forward_pre_hooks = old._forward_hooks, old._forward_pre_hooks
    parent, _, own = name.rpartition(".")
    model.get_submodule(parent).register_module(own, module)
