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


@dataclass(frozen=True)
class Shuffle:
    """A ShuffleNetV2 block: one branch works on half of the channels, the other half passes (SPOS, 1904.00420).

    With stride 2 both branches see all channels, and the other one has a depthwise convolution of its own.

    Args:
        in_chs: Input channels.
        out_chs: Output channels.
        stride: Stride of the first depthwise convolution.
        kernels: The main branch's depthwise kernels in running order: one between two 1 x 1 convolutions, or three
            that each precede one (the "xception" choice).
        mid_chs: Width inside the main branch.
    """

    in_chs: int
    out_chs: int
    stride: int
    kernels: tuple[int, ...]
    mid_chs: int

    @property
    def branch_chs(self) -> int:
        """Input channels of a branch, and those of the output that are not the main branch's."""
        return self.in_chs if self.stride > 1 else self.in_chs // 2

    def convs(self) -> tuple[Conv, ...]:
        """The block's convolutions, main branch first."""
        chs, mid, kernel = self.branch_chs, self.mid_chs, self.kernels[0]
        out = self.out_chs - chs
        if len(self.kernels) == 1:
            main = [Conv(chs, mid, at="input"), Conv(mid, mid, kernel, groups=mid), Conv(mid, out)]
        else:
            widths = [chs, *[mid] * (len(self.kernels) - 1), out]
            pairs = zip(self.kernels, widths, widths[1:], strict=False)
            main = [conv for k, i, o in pairs for conv in (Conv(i, i, k, groups=i), Conv(i, o))]
        projection = [Conv(chs, chs, kernel, groups=chs), Conv(chs, chs)] if self.stride > 1 else []
        return (*main, *projection)


@dataclass(frozen=True)
class Quantised:
    """A single convolution that is computed with few bits (SPOS, 1904.00420).

    Args:
        in_chs: Input channels.
        out_chs: Output channels.
        stride: What it shrinks the running map by; 1 for a shortcut, which ends at a map that another has shrunk.
        kernel: Side of the square kernel.
        bits: Bits of weights and of activations.
    """

    in_chs: int
    out_chs: int
    stride: int
    kernel: int
    bits: tuple[int, ...]

    def convs(self) -> tuple[Conv, ...]:
        """The convolution."""
        return (Conv(self.in_chs, self.out_chs, self.kernel, bits=self.bits),)


Block = MBConv | Shuffle | Quantised | Fixed
"""A part of a network: it has a ``stride`` and lists its ``convs()``."""
