"""Costs in bytes of the deploy form: peak memory of activations, and flash, what the weights take.

The execution model is that of a plain interpreter: operations run in order and one at a time, batch 1, on whole maps
(nothing is split into patches); activations, sums and gates overwrite their input; a map is dropped after its last
reader. Peak memory is then the largest sum of maps that are alive at once, input image included. It is a maximum over
layers, as maps between layers do not depend on the choices. A runtime adds its own: buffers of its kernels, alignment,
and its interpreter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from sgnas_zoo.costs.table import Conditions, CostTable, Precision
from sgnas_zoo.spaces import Block, SearchSpace
from sgnas_zoo.spaces.blocks import peak, strided

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


def _flash_of(block: Block | None, precision: Precision) -> int:
    return sum(
        weight_bytes(
            conv.kernel**2 * conv.in_chs // conv.groups * conv.out_chs, conv.out_chs, precision,
            bias=conv.bias or conv.norm, bits=conv.bits,
        )
        for conv in (block.deployed() if block else ())
    )  # fmt: skip


def _memory_of(block: Block | None, size: int, precision: Precision) -> int:
    """Peak bytes of a part that sees a ``size`` x ``size`` map; nothing of one that vanished."""
    return peak(block.in_chs * size**2, block.operations(size)) * BYTES[precision] if block else 0


@lru_cache(maxsize=64)
def _memory(space: SearchSpace, conditions: Conditions) -> CostTable:
    fixed, size, precision = 0, conditions.resolution, conditions.precision
    for block in space.before(conditions.form, conditions.in_chans):
        fixed = max(fixed, _memory_of(block, size, precision))
        size = strided(size, block.stride)
    layers = []
    for number, layer in enumerate(space.layers):
        blocks = [space.block(number, variant, conditions.form) for variant in space.merge(number).variants]
        layers.append(tuple(_memory_of(block, size, precision) for block in blocks))
        size = strided(size, layer.stride)
    fixed = max(fixed, _memory_of(space.after(conditions.num_classes), size, precision))
    return CostTable(MEMORY.name, MEMORY.unit, space, fixed, tuple(layers), "max")


@lru_cache(maxsize=64)
def _flash(space: SearchSpace, conditions: Conditions) -> CostTable:
    ends = (*space.before(conditions.form, conditions.in_chans), space.after(conditions.num_classes))
    fixed = sum(_flash_of(block, conditions.precision) for block in ends)
    layers = []
    for number in range(len(space.layers)):
        blocks = [space.block(number, variant, conditions.form) for variant in space.merge(number).variants]
        layers.append(tuple(_flash_of(block, conditions.precision) for block in blocks))
    return CostTable(FLASH.name, FLASH.unit, space, fixed, tuple(layers))


@dataclass(frozen=True)
class ByteCost:
    """A cost in bytes.

    Args:
        name: Registry name.
        unit: Unit of the numbers.
        rule: What is counted, in one line for tables and cards.
        budget: Name of the budget that bounds it.
        priced: Makes its table.
    """

    name: str
    unit: str
    rule: str
    budget: str
    priced: Callable[[SearchSpace, Conditions], CostTable]

    def table(self, space: SearchSpace, conditions: Conditions) -> CostTable:
        """Price every variant of every layer of ``space``."""
        return self.priced(space, conditions)


MEMORY = ByteCost(
    "memory_bytes", "bytes of memory",
    "largest sum of activation maps alive at once, input included, batch 1, deploy form", "memory", _memory,
)  # fmt: skip
FLASH = ByteCost(
    "flash_bytes", "bytes of flash",
    "weights and biases of the deploy form; at int8 with a float32 scale for each output channel", "flash", _flash,
)  # fmt: skip
