"""The parts that every search space is written with: stages, forms, layers and choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

FormName = Literal["search", "final", "lite"]


@dataclass(frozen=True)
class Row:
    """``repeats`` layers of ``out_chs`` channels, the first of them with ``stride``: one stage of the network."""

    out_chs: int
    stride: int
    repeats: int


@dataclass(frozen=True)
class Form:
    """How an architecture is realised, apart from its choices.

    Args:
        stem_act: timm name of the activation in stem and head.
        block_act: timm name of the activation inside the blocks.
        se: Whether every block has squeeze-and-excitation, the fixed first one included.
        expand_single: Whether a block with one expansion group keeps its 1 x 1 expansion. The SGNAS supernet keeps
            it, its stand-alone networks drop it.
    """

    stem_act: str
    block_act: str
    se: bool = False
    expand_single: bool = True

    @property
    def lite(self) -> Form:
        """The same with ReLU6 and without squeeze-and-excitation, as EfficientNet-Lite did it; maybe itself."""
        return replace(self, stem_act="relu6", block_act="relu6", se=False)


@dataclass(frozen=True)
class Layer:
    """A searched layer. ``allowed[slot]`` lists the indices of the choices that the slot may take."""

    in_chs: int
    out_chs: int
    stride: int
    stage: int
    allowed: tuple[tuple[int, ...], ...]

    @property
    def keeps_shape(self) -> bool:
        """Whether its output has the shape of its input."""
        return self.stride == 1 and self.in_chs == self.out_chs


@dataclass(frozen=True)
class Choice:
    """A candidate at a slot.

    Args:
        label: How an architecture string spells it; one character where a layer has several slots.
        adds: What it adds to the layer: a value of the space's kind of block, such as ``Kernels((3,))``.
    """

    label: str
    adds: Any


def stacked(
    rows: Sequence[Row], in_chs: int, allowed: Callable[[bool], tuple[tuple[int, ...], ...]]
) -> tuple[Layer, ...]:
    """One layer per repeat of each row.

    Args:
        rows: The stages.
        in_chs: Channels before the first layer.
        allowed: What the slots of a layer may take; it is told whether the layer keeps its shape.
    """
    layers: list[Layer] = []
    for stage, row in enumerate(rows):
        for repeat in range(row.repeats):
            stride = row.stride if repeat == 0 else 1
            slots = allowed(stride == 1 and in_chs == row.out_chs)
            layers.append(Layer(in_chs, row.out_chs, stride, stage, slots))
            in_chs = row.out_chs
    return tuple(layers)
