"""Networks of inverted residual blocks: timm's EfficientNet, and what trains many of them at once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from timm.models import EfficientNet
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import nn

from sgnas_zoo.models.efficientnets import block_string, efficientnet, feature_cfg, searched_blocks
from sgnas_zoo.spaces import Arch, FormName, SearchSpace
from sgnas_zoo.spaces.kinds.mbconv import MBConvKind
from sgnas_zoo.supernet.choice_blocks import ChoiceSupernet
from sgnas_zoo.supernet.supernet import Supernet
from sgnas_zoo.supernet.unified import UnifiedSupernet

ACT_CODES = {"relu": "re", "relu6": "r6", "hard_swish": "hs", "swish": "sw", "mish": "mi"}
"""timm's activation names and their codes inside block strings."""


class MBConvNetworks:
    """A discrete architecture *is* a timm EfficientNet of block strings."""

    def build(self, arch: Arch, form: FormName, **kwargs: Any) -> EfficientNet:
        """An EfficientNet whose squeeze-and-excitation is gated as the papers do it."""
        kwargs["se_layer"] = partial(SqueezeExcite, gate_layer="hard_sigmoid", force_act_layer=nn.ReLU)
        return efficientnet(arch.space, arch_def(arch, form), **kwargs)

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
