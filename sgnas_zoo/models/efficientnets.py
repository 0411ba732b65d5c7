"""What networks with the conventions of timm's EfficientNet share: stem, blocks in stages, head."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from functools import partial
from typing import Any

from timm.models import EfficientNet
from timm.models._efficientnet_builder import decode_arch_def, resolve_bn_args
from torch import nn

from sgnas_zoo.errors import SpaceError
from sgnas_zoo.spaces import SearchSpace
from sgnas_zoo.spaces.kinds.mbconv import SE_RATIO, MBConv


def efficientnet(space: SearchSpace, stages: Sequence[Sequence[str]], **kwargs: Any) -> EfficientNet:
    """An EfficientNet whose stem has the stride of a space: timm builds it with 2.

    Args:
        space: The space, for stem and head.
        stages: Block strings, a list per stage.
        kwargs: For timm's EfficientNet.

    Raises:
        SpaceError: If ``output_stride`` is asked of a stem of stride 1.
    """
    if space.stem_stride == 1 and kwargs.get("output_stride", 32) != 32:
        raise SpaceError("output_stride needs a space with a stride-2 stem; leave it out.")
    kwargs["norm_layer"] = batch_norm(kwargs)
    model = EfficientNet(
        decode_arch_def([list(stage) for stage in stages]), stem_size=space.stem_chs, num_features=space.head_chs,
        **kwargs,
    )  # fmt: skip
    if space.stem_stride == 1:
        model.conv_stem.stride = (1, 1)
        for feature in model.feature_info:
            feature["reduction"] //= 2
    return model


def batch_norm(kwargs: MutableMapping[str, Any]) -> Any:
    """The norm layer of a network. It takes timm's batch norm settings (``bn_eps``, ...) out of ``kwargs``.

    Args:
        kwargs: Keywords of a model class; ``norm_layer`` wins.
    """
    named, settings = kwargs.pop("norm_layer", None), resolve_bn_args(kwargs)
    return named or partial(nn.BatchNorm2d, **settings)


def feature_cfg(space: SearchSpace) -> Mapping[str, Any]:
    """timm's settings of ``features_only=True``: the stem's map and one for each stage that halves it."""
    levels = 1 + sum(row.stride > 1 for row in space.rows)
    return {"out_indices": tuple(range(levels)), "flatten_sequential": True}


def searched_blocks(model: nn.Module) -> list[Any]:
    """The blocks of all stages in running order."""
    stages: Any = model.blocks
    return [block for stage in stages for block in stage]


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
