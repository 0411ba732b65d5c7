"""What a stand-alone network takes from a supernet: an exact slice of its weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sgnas_zoo.errors import ArchError
from sgnas_zoo.models.builder import build_model
from sgnas_zoo.spaces import Arch
from sgnas_zoo.supernet.choice_blocks import ChoiceSupernet, narrowed
from sgnas_zoo.supernet.kinds import Supernet
from sgnas_zoo.supernet.layer import UnifiedLayer
from sgnas_zoo.supernet.quantised import QuantisedSupernet, narrowed_state
from sgnas_zoo.supernet.unified import UnifiedSupernet


def inherit_model(supernet: Supernet, arch: Arch, **kwargs: Any) -> nn.Module:
    """Build the search form of an architecture and give it its slice of the supernet.

    In evaluation mode it computes what the supernet computes along that path. Its batch norm statistics are the
    supernet's: call ``calibrate_bn`` before you use it.

    Args:
        supernet: The supernet.
        arch: An architecture of its space.
        kwargs: For timm (``drop_rate``, ...); classes and channels are the supernet's.

    Raises:
        ArchError: If the architecture is of another space.
    """
    state = inherited_state(supernet, arch)
    kwargs = {"num_classes": supernet.num_classes, "in_chans": supernet.in_chans, **kwargs}
    model = build_model(arch.space.family, arch, "search", **kwargs)
    model._model_args = {"arch": str(arch), "space": arch.space.name, "form": "search"}  # type: ignore[assignment]
    model.load_state_dict(state)
    return model.train(supernet.training)


def inherited_state(supernet: Supernet, arch: Arch) -> dict[str, Tensor]:
    """The state dict of the timm model of ``arch`` in its search form, copied from the supernet.

    Raises:
        ArchError: If the architecture is of another space.
    """
    if arch.space != supernet.space:
        raise ArchError(
            f"This architecture is of {arch.space.name}, the supernet of {supernet.space.name}; take one of its own."
        )
    if isinstance(supernet, QuantisedSupernet):
        state = narrowed_state(supernet, arch)
    else:
        state = (_choice_state if isinstance(supernet, ChoiceSupernet) else _unified_state)(supernet, arch)  # type: ignore[arg-type]
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _choice_state(supernet: ChoiceSupernet, arch: Arch) -> dict[str, Tensor]:
    """Whole blocks, narrowed where a slot decides the width."""
    state: dict[str, Tensor] = {}
    for name in ("conv_stem", "bn1", "conv_head", "bn2", "classifier"):
        state |= _named(name, getattr(supernet, name))
    for number, block in enumerate(supernet.first):
        state |= _named(f"blocks.0.{number}", block)
    seen = [0] * len(arch.space.rows)
    for number, (layer, picks) in enumerate(zip(arch.space.layers, arch.picks, strict=True)):
        if picks[0] == arch.space.skip:
            continue
        block, width = supernet.block(number, picks[0]), supernet.width(number, picks)
        kept = block.state_dict() if width is None else narrowed(block, width)
        prefix = f"blocks.{layer.stage + bool(len(supernet.first))}.{seen[layer.stage]}"
        state |= {f"{prefix}.{name}": tensor for name, tensor in kept.items()}
        seen[layer.stage] += 1
    return state


def _unified_state(supernet: UnifiedSupernet, arch: Arch) -> dict[str, Tensor]:
    """Active slots, sorted by kernel as in the timm model, whose mixed convolution takes groups in rising order."""
    state = {"conv_stem.weight": supernet.first.conv.weight}
    state |= _named("bn1", supernet.first.bn)
    first = supernet.first_mb
    state["blocks.0.0.conv_dw.weight"] = first.depthwise.get_parameter("blocks.0.weight")
    state |= _named("blocks.0.0.bn1", first.depthwise.bn)
    state["blocks.0.0.conv_pw.weight"] = first.point_wise_1.conv.weight
    state |= _named("blocks.0.0.bn2", first.point_wise_1.bn)
    seen = [0] * len(arch.space.rows)
    for layer, row, picks in zip(supernet.layers(), arch.space.layers, arch.picks, strict=True):
        prefix = f"blocks.{row.stage + 1}.{seen[row.stage]}."
        state |= {prefix + name: tensor for name, tensor in _layer_state(layer, picks).items()}
        seen[row.stage] += 1
    head, norm = supernet.last_stage
    state["conv_head.weight"] = head.get_parameter("weight")
    state |= _named("bn2", norm)
    return state | {"classifier.weight": supernet.classifier.weight, "classifier.bias": supernet.classifier.bias}


def _layer_state(layer: UnifiedLayer, picks: tuple[int, ...]) -> dict[str, Tensor]:
    """One layer in timm's names."""
    skip = len(layer.kernels)
    active = sorted((pick, slot) for slot, pick in enumerate(picks) if pick != skip)
    index = layer.channels([slot for _, slot in active])
    candidates = [layer.candidate(slot, pick) for pick, slot in active]
    state = {"conv_pw.weight": layer.point_wise.conv.weight[index]}
    state |= {name: t[index] if t.ndim else t for name, t in _named("bn1", layer.point_wise.bn).items()}
    if len({pick for pick, _ in active}) == 1:
        state["conv_dw.weight"] = torch.cat([candidate.conv.weight for candidate in candidates])
    else:
        state |= {f"conv_dw.{i}.weight": candidate.conv.weight for i, candidate in enumerate(candidates)}
    norms = [_named("bn2", candidate.bn) for candidate in candidates]
    state |= {name: torch.cat([n[name] for n in norms]) if t.ndim else t for name, t in norms[0].items()}
    state["conv_pwl.weight"] = layer.point_wise_1.conv.weight[:, index]
    return state | _named("bn3", layer.sbn[len(picks) - len(active)])


def _named(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in module.state_dict(keep_vars=True).items()}
