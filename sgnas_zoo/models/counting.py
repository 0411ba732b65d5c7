"""Count what a built model really costs, by the name of the cost: a counter for each that can be counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sgnas_zoo.costs.table import Conditions
from sgnas_zoo.models.copying import copied
from sgnas_zoo.models.memory import count_flash, count_memory
from sgnas_zoo.models.quantised import QuantisedConv2d
from sgnas_zoo.plain_torch import plain_torch
from sgnas_zoo.registry import Registry

COUNTERS: Registry[Callable[[nn.Module, Conditions], int]] = Registry("counter")


@plain_torch()
def count_macs(model: nn.Module, resolution: int, in_chans: int = 3) -> int:
    """MACs of a model's forward pass on one image, counted by torch on the meta device: no weights, no time.

    Args:
        model: Any model of images; it is copied, not changed.
        resolution: Side of the square input in pixels.
        in_chans: Input channels.
    """
    ghost = copied(model).to("meta").float().eval()
    with FlopCounterMode(display=False) as counter:
        ghost(torch.empty(1, in_chans, resolution, resolution, device="meta"))
    return int(counter.get_total_flops()) // 2


@plain_torch()
def count_bitops(model: nn.Module, resolution: int, in_chans: int = 3) -> int:
    """BitOps of a model's forward pass on one image: those of its quantised convolutions, which are all that has any.

    Args:
        model: Any model of images; it is copied, not changed.
        resolution: Side of the square input in pixels.
        in_chans: Input channels.
    """
    if not any(isinstance(module, QuantisedConv2d) for module in model.modules()):
        return 0
    ghost, total = copied(model).to("meta").float().eval(), 0

    def count(module: Any, _: Any, out: Any) -> None:
        nonlocal total
        total += out.numel() * module.weight[0].numel() * module.weight_bits * module.act_bits

    for module in ghost.modules():
        if isinstance(module, QuantisedConv2d):
            module.register_forward_hook(count)
    ghost(torch.empty(1, in_chans, resolution, resolution, device="meta"))
    return total


def count_params(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


COUNTERS.register("macs", lambda model, on: count_macs(model, on.resolution, on.in_chans))
COUNTERS.register("params", lambda model, on: count_params(model))
COUNTERS.register("bitops", lambda model, on: count_bitops(model, on.resolution, on.in_chans))
COUNTERS.register("memory_bytes", lambda model, on: count_memory(model, on.resolution, on.in_chans, on.precision))
COUNTERS.register("flash_bytes", lambda model, on: count_flash(model, on.precision))


def counts(model: nn.Module, conditions: Conditions) -> dict[str, int]:
    """What a model costs on one image, by name of the cost; what it has none of is left out.

    Args:
        model: Any model of images; it is copied, not changed.
        conditions: Its side, input channels and precision; of form and classes the model itself has its own.
    """
    found = {name: COUNTERS[name](model, conditions) for name in COUNTERS}
    return {name: number for name, number in found.items() if number}
