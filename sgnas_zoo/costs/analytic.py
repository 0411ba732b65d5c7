"""Costs counted from the convolutions of a block: MACs, parameters, and BitOps (SPOS, 1904.00420).

One multiply-accumulate is one MAC; batch norm, activations, pooling and the scaling of squeeze-and-excitation are free.
NAS papers write FLOPs where they count MACs, and so do the ``flops=`` argument and ``--flops``; twice the MACs
would be the FLOPs of everybody else.
"""

from __future__ import annotations

import math

from sgnas_zoo.costs.priced import PricedCost
from sgnas_zoo.costs.table import Conditions
from sgnas_zoo.spaces import Block
from sgnas_zoo.spaces.blocks import Conv, strided


def _macs(conv: Conv, block: Block, size: int) -> int:
    """MACs of a convolution of a part whose input is ``size`` x ``size``."""
    side = {"input": size, "output": strided(size, block.stride), "pixel": 1}[conv.at]
    return conv.weights * side**2


def _all_macs(block: Block, size: int, conditions: Conditions) -> int:
    return sum(_macs(conv, block, size) for conv in block.convs())


def _conv_macs(block: Block, size: int, conditions: Conditions) -> int:
    return sum(_macs(conv, block, size) for conv in block.convs() if not conv.linear)


def _params(block: Block, size: int, conditions: Conditions) -> int:
    return sum(
        conv.weights + conv.bias * conv.out_chs + 2 * conv.norm * conv.out_chs + bool(conv.bits)
        for conv in block.convs()
    )


def _bitops(block: Block, size: int, conditions: Conditions) -> int:
    return sum(_macs(conv, block, size) * math.prod(conv.bits) for conv in block.convs() if conv.bits)


MACS = PricedCost(
    "macs", "MACs", "multiply-accumulates of every convolution and linear layer, batch 1", "flops", _all_macs
)
CONV_MACS = PricedCost(
    "conv_macs", "MACs", "multiply-accumulates of convolutions only, as SGNAS publishes them", "flops", _conv_macs
)
PARAMS = PricedCost(
    "params", "parameters", "weights, biases, affine batch norm parameters and learned clips", "params", _params
)
BITOPS = PricedCost(
    "bitops", "BitOps",
    "multiply-accumulates of quantised convolutions, times bits of weights and of activations, batch 1", "bitops",
    _bitops,
)  # fmt: skip
