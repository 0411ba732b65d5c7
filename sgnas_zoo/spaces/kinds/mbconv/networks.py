"""Networks of inverted residual blocks: timm's EfficientNet, and what trains many of them at once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from timm.models import EfficientNet
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models._efficientnet_builder import decode_arch_def
from torch import nn

from sgnas_zoo.errors import SpaceError
from sgnas_zoo.models.efficientnets import batch_norm, feature_cfg, searched_blocks
from sgnas_zoo.spaces import Arch, FormName, SearchSpace
from sgnas_zoo.spaces.kinds.mbconv import SE_RATIO, MBConv, MBConvKind
from sgnas_zoo.supernet.choice_blocks import ChoiceSupernet
from sgnas_zoo.supernet.supernet import Supernet
from sgnas_zoo.supernet.unified import UnifiedSupernet

ACT_CODES = {"relu": "re", "relu6": "r6", "hard_swish": "hs", "swish": "sw", "mish": "mi"}
"""timm's activation names and their codes inside block strings."""


class MBConvNetworks:
    """A discrete architecture *is* a timm EfficientNet of block strings."""

    def build(self, arch: Arch, form: FormName, **kwargs: Any) -> EfficientNet:
        """An EfficientNet whose stem has the stride of the space: timm builds it with 2."""
        space = arch.space
        if space.stem_stride == 1 and kwargs.get("output_stride", 32) != 32:
            raise SpaceError("output_stride needs a space with a stride-2 stem; leave it out.")
        kwargs["norm_layer"] = batch_norm(kwargs)
        model = EfficientNet(
            block_args=decode_arch_def(arch_def(arch, form)),
            se_layer=partial(SqueezeExcite, gate_layer="hard_sigmoid", force_act_layer=nn.ReLU),
            stem_size=space.stem_chs,
            num_features=space.head_chs,
            **kwargs,
        )
        if space.stem_stride == 2:
            return model
        model.conv_stem.stride = (1, 1)
        for feature in model.feature_info:
            feature["reduction"] //= 2
        return model

    def feature_cfg(self, space: SearchSpace) -> Mapping[str, Any]:
        """A map per resolution."""
        return feature_cfg(space)

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """All blocks but the fixed first one."""
        return searched_blocks(model)[1:]

    def supernet(self, space: SearchSpace, num_classes: int, in_chans: int, *, zero_init_last: bool) -> Supernet:
        """Whole blocks where a layer decides once; the unified one where its slots are expansions."""
        made = ChoiceSupernet if space.slots == 1 else UnifiedSupernet
        return made(space, num_classes, in_chans, zero_init_last=zero_init_last)


def arch_def(arch: Arch, form: FormName) -> list[list[str]]:
    """Block strings of an architecture, a list per stage: the fixed first block, then one stage per row.

    Layers that an architecture turns into the identity are left out.
    """
    space = arch.space
    assert isinstance(space.kind, MBConvKind)
    style = space.form(form)
    act = "" if style.block_act == style.stem_act else f"_n{ACT_CODES[style.block_act]}"
    stages = [[space.kind.first_block(space, form)], *space.blocks(arch, form)]
    return [[block_string(block) + act for block in stage] for stage in stages if stage]


def block_string(block: MBConv) -> str:
    """One block in timm's notation: ``ir`` with an expansion, ``ds`` without.

    Equal kernels are one convolution (``k5``), different ones timm's mixed convolution (``k3.5.7``, a kernel per
    expansion group). timm's SE ratio is relative to the block's input, hence the factor.
    """
    kernels = block.kernels
    mixed = ".".join(map(str, kernels)) if len(set(kernels)) > 1 else str(kernels[0])
    text = f"{'ir' if block.expand else 'ds'}_r1_k{mixed}_s{block.stride}_c{block.out_chs}"
    if block.expand:
        text += f"_e{len(kernels)}"
    if block.se:
        text += f"_se{SE_RATIO * len(kernels):g}"
    return text
