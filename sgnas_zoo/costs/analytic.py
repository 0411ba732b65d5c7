"""Costs counted from the convolutions of a block: MACs, parameters, and BitOps (SPOS, 1904.00420).

One multiply-accumulate is one MAC; batch norm, activations, pooling and the scaling of squeeze-and-excitation are free.
NAS papers write FLOPs where they count MACs, and so do the ``flops=`` argument and ``--flops``; twice the MACs
would be the FLOPs of everybody else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from sgnas_zoo.costs.table import Conditions, CostTable
from sgnas_zoo.spaces import Block, Conv, SearchSpace
from sgnas_zoo.spaces.blocks import strided

CostName = Literal["macs", "conv_macs", "params", "bitops"]


@dataclass(frozen=True)
class AnalyticCost:
    """A cost that is a sum over convolutions.

    Args:
        name: Registry name.
        unit: Unit of the numbers.
        rule: What is counted, in one line for tables and cards.
        budget: Name of the budget that bounds it.
    """

    name: CostName
    unit: str
    rule: str
    budget: str

    def count(self, conv: Conv, size: int) -> int:
        """Cost of one convolution whose output is ``size`` x ``size``."""
        weights = conv.kernel**2 * conv.in_chs // conv.groups * conv.out_chs
        if self.name == "params":
            return weights + conv.bias * conv.out_chs + 2 * conv.norm * conv.out_chs + bool(conv.bits)
        if self.name == "bitops":
            return weights * size**2 * math.prod(conv.bits) if conv.bits else 0
        if self.name == "conv_macs" and conv.linear:
            return 0
        return weights * size**2

    def table(self, space: SearchSpace, conditions: Conditions) -> CostTable:
        """Price every variant of every layer of ``space``."""
        return _table(self, space, conditions)


MACS = AnalyticCost("macs", "MACs", "multiply-accumulates of every convolution and linear layer, batch 1", "flops")
CONV_MACS = AnalyticCost(
    "conv_macs", "MACs", "multiply-accumulates of convolutions only, as SGNAS publishes them", "flops"
)
PARAMS = AnalyticCost(
    "params", "parameters", "weights, biases, affine batch norm parameters and learned clips", "params"
)
BITOPS = AnalyticCost(
    "bitops",
    "BitOps",
    "multiply-accumulates of quantised convolutions, times bits of weights and of activations, batch 1",
    "bitops",
)


def _price(cost: AnalyticCost, block: Block | None, size: int, stride: int) -> int:
    """Cost of one part of the network that sees a ``size`` x ``size`` map; nothing for one that vanished."""
    side = {"input": size, "output": strided(size, stride), "pixel": 1}
    return sum(cost.count(conv, side[conv.at]) for conv in block.convs()) if block else 0


@lru_cache(maxsize=64)
def _table(cost: AnalyticCost, space: SearchSpace, conditions: Conditions) -> CostTable:
    fixed, size = 0, conditions.resolution
    for block in space.before(conditions.form, conditions.in_chans):
        fixed += _price(cost, block, size, block.stride)
        size = strided(size, block.stride)
    layers = []
    for number, layer in enumerate(space.layers):
        blocks = [space.block(number, variant, conditions.form) for variant in space.merge(number).variants]
        layers.append(tuple(_price(cost, block, size, layer.stride) for block in blocks))
        size = strided(size, layer.stride)
    fixed += _price(cost, space.after(conditions.num_classes), size, 1)
    return CostTable(cost.name, cost.unit, space, fixed, tuple(layers))
