"""What networks with the conventions of timm's EfficientNet share: stem, blocks in stages, head."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from functools import partial
from typing import Any

from timm.models._efficientnet_builder import resolve_bn_args
from torch import nn

from sgnas_zoo.spaces import SearchSpace


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
