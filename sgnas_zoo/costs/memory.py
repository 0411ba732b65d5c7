"""Costs in bytes of the deploy form: peak memory of activations, and flash, what the weights take.

The execution model is that of a plain interpreter: operations run in order and one at a time, batch 1, on whole maps
(nothing is split into patches); activations, sums and gates overwrite their input; a map is dropped after its last
reader. Peak memory is then the largest sum of maps that are alive at once, input image included. It is a maximum over
layers, as maps between layers do not depend on the choices. A runtime adds its own: buffers of its kernels, alignment,
and its interpreter.
"""

from __future__ import annotations

import math

from sgnas_zoo.costs.priced import PricedCost
from sgnas_zoo.costs.table import Conditions, Precision
from sgnas_zoo.spaces import Block
from sgnas_zoo.spaces.blocks import peak

BYTES: dict[Precision, int] = {"int8": 1, "fp16": 2, "float32": 4}
"""Bytes of a number."""

WORD = 4
"""Bytes of a scale (float32), of a bias beside int8 weights (int32), and of a learned clip."""


def weight_bytes(
    weights: int, out_chs: int, precision: Precision, *, bias: bool = True, bits: tuple[int, ...] = ()
) -> int:
    """Bytes of a convolution or linear layer.

    Args:
        weights: Number of its weights.
        out_chs: Output channels, each with a bias and at int8 with a scale.
        precision: Number format.
        bias: Whether it has a bias, of its own or from the norm that follows.
        bits: Bits of its weights and activations, where it is quantised: at int8 its weights are packed, and its
            learned clip is stored.
    """
    size = BYTES[precision]
    stored = math.ceil(weights * bits[0] / 8) if bits and precision == "int8" else weights * size
    each = (2 if bias else 1) * WORD if precision == "int8" else bias * size
    return stored + each * out_chs + (WORD if bits else 0)


def _memory(block: Block, size: int, conditions: Conditions) -> int:
    """Peak bytes of maps while a part runs."""
    return peak(block.in_chs * size**2, block.operations(size)) * BYTES[conditions.precision]


def _flash(block: Block, size: int, conditions: Conditions) -> int:
    """Bytes of the weights of a part."""
    return sum(
        weight_bytes(conv.weights, conv.out_chs, conditions.precision, bias=conv.bias or conv.norm, bits=conv.bits)
        for conv in block.deployed()
    )


MEMORY = PricedCost(
    "memory_bytes", "bytes of memory",
    "largest sum of activation maps alive at once, input included, batch 1, deploy form", "memory", _memory, "max",
)  # fmt: skip
FLASH = PricedCost(
    "flash_bytes", "bytes of flash",
    "weights and biases of the deploy form; at int8 with a float32 scale for each output channel", "flash", _flash,
)  # fmt: skip
