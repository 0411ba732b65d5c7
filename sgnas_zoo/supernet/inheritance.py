"""What a stand-alone network takes from a supernet: an exact slice of its weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sgnas_zoo.errors import ArchError
from sgnas_zoo.spaces import Arch
from sgnas_zoo.supernet.layer import UnifiedLayer
from sgnas_zoo.supernet.unified import UnifiedSupernet


def inherited_state(supernet: UnifiedSupernet, arch: Arch) -> dict[str, Tensor]:
    """The state dict of the timm model of ``arch`` in its search form, copied from the supernet.

    Active slots are sorted by kernel, as in the timm model, whose mixed convolution takes groups in rising order.

    Raises:
        ArchError: If the architecture is of another space.
    """
    if arch.space != supernet.space:
        raise ArchError(
            f"This architecture is of {arch.space.name}, the supernet of {supernet.space.name}; take one of its own."
        )
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
    state |= {"classifier.weight": supernet.classifier.weight, "classifier.bias": supernet.classifier.bias}
    return {name: tensor.detach().clone() for name, tensor in state.items()}


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


def _named(prefix: str, norm: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in norm.state_dict(keep_vars=True).items()}
