"""Networks of inverted residuals and projecting identities: timm's EfficientNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timm.models import EfficientNet
from timm.models._efficientnet_blocks import ConvBnAct
from torch import nn

from sgnas_zoo.models.efficientnets import block_string, efficientnet, feature_cfg, searched_blocks
from sgnas_zoo.spaces import Arch, FormName, SearchSpace
from sgnas_zoo.spaces.kinds.inverted import Projection
from sgnas_zoo.spaces.kinds.mbconv import MBConv
from sgnas_zoo.supernet.choice_blocks import ChoiceSupernet
from sgnas_zoo.supernet.supernet import Supernet


class InvertedNetworks:
    """A discrete architecture is a timm EfficientNet of block strings."""

    def build(self, arch: Arch, form: FormName, **kwargs: Any) -> EfficientNet:
        """An EfficientNet; the activation that timm puts behind a projection is taken out."""
        stages = [[_string(block) for block in stage] for stage in arch.space.blocks(arch, form)]
        model = efficientnet(arch.space, stages, **kwargs)
        for block in searched_blocks(model):
            if isinstance(block, ConvBnAct):
                block.bn1.act = nn.Identity()
        return model

    def feature_cfg(self, space: SearchSpace) -> Mapping[str, Any]:
        """A map per resolution."""
        return feature_cfg(space)

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """All blocks."""
        return searched_blocks(model)

    def supernet(self, space: SearchSpace, num_classes: int, in_chans: int, *, zero_init_last: bool) -> Supernet:
        """Whole blocks."""
        return ChoiceSupernet(space, num_classes, in_chans, zero_init_last=zero_init_last)


def _string(block: MBConv | Projection) -> str:
    """One block in timm's notation."""
    return block_string(block) if isinstance(block, MBConv) else f"cn_r1_k1_s{block.stride}_c{block.out_chs}"
