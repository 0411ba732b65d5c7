"""Search spaces of bits: a network is given, and every convolution decides how precisely it computes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from sgnas_zoo.errors import SpaceError
from sgnas_zoo.spaces.blocks import Block, Conv, Fixed, Quantised
from sgnas_zoo.spaces.space import FormName, Layer, SearchSpace
from sgnas_zoo.spaces.variants import Variant


@dataclass(frozen=True)
class QuantisedSpace(SearchSpace):
    """Bits of weights and activations for each convolution of a ResNet of basic blocks (SPOS, 1904.00420).

    A row is a stage: channels, stride, basic blocks. Its layers are convolutions in the order of a block: the first,
    the second, and the 1 x 1 convolution of the shortcut where the block changes the shape. Stem and classifier stay in
    floating point.

    timm builds it, so that the stem has 64 channels and max pooling behind it, and there are four stages, all but the
    first of which halve the map.

    Args:
        stem_kernel: Side of the stem's kernel.

    Raises:
        SpaceError: If timm's ResNet cannot be so.
    """

    stem_kernel: int = 7

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stem_chs != 64 or [row.stride for row in self.rows] != [1, 2, 2, 2]:
            raise SpaceError(
                f"Search space {self.name!r}: timm's ResNets have 64 stem channels and four stages of strides 1, 2, 2, "
                "2. Correct these and build it again."
            )

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The searched convolutions in running order."""
        return tuple(layer for layer, _ in self._convolutions)

    @property
    def reduction(self) -> int:
        """Pixels of the input along one side of a pixel of the last map."""
        return math.prod([self.stem_stride, 2, *(row.stride for row in self.rows)])

    @property
    def budget(self) -> Literal["flops", "bitops"]:
        """Bits change neither MACs nor parameters."""
        return "bitops"

    def block(self, layer: int, variant: Variant, form: FormName) -> Quantised:
        """The convolution that a layer becomes under ``variant``."""
        row, kernel = self._convolutions[layer]
        return Quantised(row.in_chs, row.out_chs, row.stride, kernel, variant.bits)

    def before(self, form: FormName, in_chans: int = 3) -> tuple[Block, ...]:
        """What precedes the searched layers: the stem convolution, and max pooling."""
        return Fixed(self.stem_stride, (Conv(in_chans, self.stem_chs, self.stem_kernel),)), Fixed(2, ())

    def after(self, num_classes: int) -> Block:
        """What follows the searched layers; ``num_classes=0`` leaves the classifier out, as in timm."""
        classifier = Conv(self.rows[-1].out_chs, num_classes, bias=True, norm=False, at="pixel", linear=True)
        return Fixed(1, (classifier,) if num_classes else ())

    @cached_property
    def _convolutions(self) -> tuple[tuple[Layer, int], ...]:
        """Layers, and the kernel of each."""
        found: list[tuple[Layer, int]] = []
        allowed = self._allowed(keeps_shape=False)
        in_chs = self.stem_chs
        for stage, row in enumerate(self.rows):
            for repeat in range(row.repeats):
                stride = row.stride if repeat == 0 else 1
                found.append((Layer(in_chs, row.out_chs, stride, stage, allowed), 3))
                found.append((Layer(row.out_chs, row.out_chs, 1, stage, allowed), 3))
                if stride > 1 or in_chs != row.out_chs:
                    found.append((Layer(in_chs, row.out_chs, 1, stage, allowed), 1))
                in_chs = row.out_chs
        return tuple(found)
