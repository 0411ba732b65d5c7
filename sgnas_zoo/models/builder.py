"""Build the timm model of an architecture."""

from __future__ import annotations

from functools import partial
from typing import Any

from timm.layers import get_act_layer
from timm.models import PretrainedCfg, build_model_with_cfg
from torch import nn

from sgnas_zoo.spaces import Arch, FormName, SearchSpace


def build_model(
    variant: str, arch: Arch, form: FormName, pretrained: bool = False, resolution: int | None = None, **kwargs: Any
) -> nn.Module:
    """Build the timm model of an architecture: an ``EfficientNet`` or ``ResNet`` of timm's, or a ``ShuffleNet``.

    Args:
        variant: timm name of the entry point.
        arch: The architecture.
        form: "final" (stand-alone), "lite" (stand-alone, with ReLU6 and without squeeze-and-excitation) or "search"
            (as in the supernet).
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


def _native_input(space: SearchSpace, size: int) -> dict[str, Any]:
    """Preprocessing entries that follow from a space and an input size."""
    side = -(-size // space.reduction)
    return {"input_size": (3, size, size), "pool_size": (side, side), "num_classes": space.num_classes}
