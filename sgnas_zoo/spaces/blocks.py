"""What a network is made of, as plain data: costs count it, models build it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class Conv:
    """One convolution or linear layer: all that a cost has to know.

    Args:
        in_chs: Input channels.
        out_chs: Output channels.
        kernel: Side of the square kernel.
        groups: Channel groups.
        bias: Whether it has a bias.
        norm: Whether an affine batch norm follows.
        at: Size of its output: that of the part's "input" or "output" map, or one "pixel" after pooling.
        linear: Whether it is the classifier, which tables of the papers leave out of their FLOPs.
        bits: Bits of its weights and of its input, where it is quantised; it then has a learned clip besides.
    """

    in_chs: int
    out_chs: int
    kernel: int = 1
    groups: int = 1
    bias: bool = False
    norm: bool = True
    at: Literal["input", "output", "pixel"] = "output"
    linear: bool = False
    bits: tuple[int, ...] = ()


class Block(Protocol):
    """A part of a network, as costs see it."""

    @property
    def stride(self) -> int:
        """Stride on the main feature map."""
        ...

    def convs(self) -> tuple[Conv, ...]:
        """Its convolutions in running order."""
        ...


@dataclass(frozen=True)
class Fixed:
    """A part of the network that no choice changes: the stem or the head."""

    stride: int
    parts: tuple[Conv, ...]

    def convs(self) -> tuple[Conv, ...]:
        """Its convolutions in running order."""
        return self.parts


def head(in_chs: int, head_chs: int, num_classes: int, bias: bool = True) -> Fixed:
    """A 1 x 1 convolution, pooling, and a linear classifier, which ``num_classes=0`` leaves out as timm does."""
    convolution = Conv(in_chs, head_chs)
    classifier = Conv(head_chs, num_classes, bias=bias, norm=False, at="pixel", linear=True)
    return Fixed(1, (convolution, classifier) if num_classes else (convolution,))
