"""What a network is made of, as plain data: costs count it, models build it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SE_RATIO = 0.25
"""Squeeze-and-excitation narrows to this share of the expanded width (SGNAS and GreedyNAS alike)."""


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
    """

    in_chs: int
    out_chs: int
    kernel: int = 1
    groups: int = 1
    bias: bool = False
    norm: bool = True
    at: Literal["input", "output", "pixel"] = "output"
    linear: bool = False


@dataclass(frozen=True)
class Fixed:
    """A part of the network that no choice changes: the stem or the head."""

    stride: int
    parts: tuple[Conv, ...]

    def convs(self) -> tuple[Conv, ...]:
        """Its convolutions in running order."""
        return self.parts


@dataclass(frozen=True)
class MBConv:
    """An inverted residual block with mixed depthwise kernels; without kernels, the identity.

    Args:
        in_chs: Input channels.
        out_chs: Output channels.
        stride: Stride of the depthwise convolutions.
        kernels: One depthwise kernel per expansion group of ``in_chs`` channels, in rising order. Its length is the
            expansion ratio.
        se: Whether squeeze-and-excitation follows the depthwise convolutions.
        expand: Whether a 1 x 1 convolution widens the input first.
    """

    in_chs: int
    out_chs: int
    stride: int
    kernels: tuple[int, ...]
    se: bool
    expand: bool

    def convs(self) -> tuple[Conv, ...]:
        """The block's convolutions in running order; none for the identity."""
        if not self.kernels:
            return ()
        group = self.in_chs
        mid = group * len(self.kernels)
        convs = [Conv(group, mid, at="input")] if self.expand else []
        convs += [Conv(group, group, kernel, groups=group) for kernel in self.kernels]
        if self.se:
            reduced = round(mid * SE_RATIO)
            convs.append(Conv(mid, reduced, bias=True, norm=False, at="pixel"))
            convs.append(Conv(reduced, mid, bias=True, norm=False, at="pixel"))
        return (*convs, Conv(mid, self.out_chs))


Block = MBConv | Fixed
"""A part of a network: it has a ``stride`` and lists its ``convs()``."""
