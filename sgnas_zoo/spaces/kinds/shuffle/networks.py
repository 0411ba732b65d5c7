"""Networks of shuffle blocks: our ShuffleNet, and the supernet in which a path may be narrower inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgnas_zoo.models.efficientnets import batch_norm, feature_cfg, searched_blocks
from sgnas_zoo.models.shufflenet import ShuffleBlock, ShuffleNet
from sgnas_zoo.spaces import Arch, FormName, SearchSpace
from sgnas_zoo.spaces.arch import Picks
from sgnas_zoo.supernet.choice_blocks import ChoiceSupernet
from sgnas_zoo.supernet.layer import add_up
from sgnas_zoo.supernet.shares import Shares, index_of
from sgnas_zoo.supernet.supernet import Supernet


class ShuffleNetworks:
    """ShuffleNets of a model class of our own that keeps timm's conventions."""

    def build(self, arch: Arch, form: FormName, **kwargs: Any) -> ShuffleNet:
        """A ShuffleNet of the blocks that an architecture chose."""
        space = arch.space
        kwargs["norm_layer"] = batch_norm(kwargs)
        return ShuffleNet(
            space.blocks(arch, form), stem_stride=space.stem_stride, stem_size=space.stem_chs,
            num_features=space.head_chs, **kwargs,
        )  # fmt: skip

    def feature_cfg(self, space: SearchSpace) -> Mapping[str, Any]:
        """A map per resolution."""
        return feature_cfg(space)

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """All blocks."""
        return searched_blocks(model)

    def supernet(self, space: SearchSpace, num_classes: int, in_chans: int, *, zero_init_last: bool) -> Supernet:
        """Whole blocks; where a second slot decides the width, paths work on the first channels of the widest."""
        made = ChoiceSupernet if space.slots == 1 else WidthSupernet
        return made(space, num_classes, in_chans, zero_init_last=zero_init_last)


class WidthSupernet(ChoiceSupernet):
    """A choice supernet whose second slot decides how wide a shuffle block is inside.

    A path works on the first channels of the widest block; in the relaxed pass widths become weights of channels.
    """

    def run(self, number: int, picks: Picks, x: Tensor) -> Tensor:
        """One block at the width that the path chose."""
        return _narrow(self.block(number, picks[0]), x, self.width(number, picks))

    def relaxed(self, number: int, shares: Shares, x: Tensor) -> Tensor:
        """All blocks of a layer, each weighted with its probability."""
        blocks, scales = self.space.layers[number].allowed
        widths = tuple(self.width(number, (blocks[0], scale)) for scale in scales)
        channels = max(widths)
        inside = torch.arange(channels, device=x.device) < index_of(widths, x.device)[:, None]
        mask = shares.probs[1, index_of(tuple(scales), x.device)] @ inside.to(shares.probs.dtype)
        active = shares.active(0, blocks)
        return add_up([_narrow(self.block(number, i), x, channels, mask) * shares.probs[0, i] for i in active])

    def block_state(self, number: int, picks: Picks) -> Mapping[str, Tensor]:
        """The first channels of the widest block."""
        return narrowed(self.block(number, picks[0]), self.width(number, picks))

    def _uniform_picks(self, choice: int) -> list[int]:
        widest = max(self.space.layers[0].allowed[1], key=lambda i: self.space.choices[i].adds.scale)
        return [choice, widest]

    def width(self, number: int, picks: Picks) -> int:
        """Channels inside a block."""
        block: Any = self.space.block(number, self.space.variant(picks), "search")
        return int(block.mid_chs)


def narrowed(block: ShuffleBlock, width: int) -> dict[str, Tensor]:
    """The state dict of a shuffle block that is narrower inside: the first channels of this one."""
    state = {f"branch_proj.{name}": tensor for name, tensor in block.branch_proj.state_dict().items()}
    for name, step in _steps(block, width).items():
        for key, tensor in step.module.state_dict().items():
            if tensor.ndim == 4:
                tensor = tensor[: step.chs_out, : 1 if step.module.groups > 1 else step.chs_in]
            state[f"branch_main.{name}.{key}"] = tensor[: step.chs_out] if tensor.ndim == 1 else tensor
    return state


def _narrow(block: Any, x: Tensor, width: int, mask: Tensor | None = None) -> Tensor:
    """A shuffle block of which only the first ``width`` channels inside work, each weighted with ``mask`` if given."""
    kept, worked = (x[:, ::2], x[:, 1::2]) if block.splits else (block.branch_proj(x), x)
    steps = _steps(block, width)
    for name, module in block.branch_main.named_children():
        step = steps.get(name)
        if step is None:
            worked = module(worked)
        elif isinstance(module, nn.Conv2d):
            depthwise = module.groups > 1
            weight = module.weight[: step.chs_out, : 1 if depthwise else step.chs_in]
            groups = step.chs_out if depthwise else 1
            worked = F.conv2d(worked, weight, None, module.stride, module.padding, module.dilation, groups)
        else:
            worked = _norm(module, worked, step.chs_out)
            worked = worked * mask[:, None, None] if mask is not None and step.inside else worked
    return torch.cat([kept, block.drop_path(worked)], 1)


def _norm(norm: Any, x: Tensor, chs: int) -> Tensor:
    """Batch norm with the first channels of a wider one, whose statistics it updates in training."""
    return F.batch_norm(
        x, norm.running_mean[:chs], norm.running_var[:chs], norm.weight[:chs], norm.bias[:chs], norm.training,
        norm.momentum, norm.eps,
    )  # fmt: skip


class _Step(NamedTuple):
    """A convolution or norm of the main branch at a width: its channels, and whether the output is inside."""

    module: Any
    chs_in: int
    chs_out: int
    inside: bool


def _steps(block: ShuffleBlock, width: int) -> dict[str, _Step]:
    """Convolutions and norms of the main branch by name."""
    convs = [m for m in block.branch_main if isinstance(m, nn.Conv2d)]
    found: dict[str, _Step] = {}
    chs, inside = convs[0].in_channels, False
    for name, module in block.branch_main.named_children():
        if isinstance(module, nn.Conv2d):
            before = chs
            if module.groups == 1:
                inside = module is not convs[-1]
                chs = width if inside else module.out_channels
            found[name] = _Step(module, before, chs, inside)
        elif isinstance(module, nn.BatchNorm2d):
            found[name] = _Step(module, chs, chs, inside)
    return found
