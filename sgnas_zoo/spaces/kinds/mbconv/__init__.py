"""Inverted residual blocks with mixed depthwise kernels (SGNAS, arXiv 2103.07289; GreedyNAS, arXiv 2003.11236)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from sgnas_zoo.spaces.blocks import Block, Conv, Fixed, Operation, head, strided
from sgnas_zoo.spaces.rows import FormName, Layer, stacked

if TYPE_CHECKING:
    from sgnas_zoo.spaces.kinds import Networks
    from sgnas_zoo.spaces.space import SearchSpace

SE_RATIO = 0.25
"""Squeeze-and-excitation narrows to this share of the expanded width (SGNAS and GreedyNAS alike)."""


class Kernels(NamedTuple):
    """What a choice adds to a layer, and what its choices add up to.

    Args:
        kernels: Depthwise kernels in rising order, one per expansion group; none for a skip.
        se: Whether it brings squeeze-and-excitation.
    """

    kernels: tuple[int, ...] = ()
    se: bool = False


@dataclass(frozen=True)
class MBConv:
    """An inverted residual block with mixed depthwise kernels.

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
        """The block's convolutions in running order."""
        group = self.in_chs
        return self._around([Conv(group, group, kernel, groups=group) for kernel in self.kernels])

    def deployed(self) -> tuple[Conv, ...]:
        """Those with one depthwise convolution as large as the largest kernel (``deploy``)."""
        return self._around([Conv(self.mid_chs, self.mid_chs, max(self.kernels), groups=self.mid_chs)])

    @property
    def mid_chs(self) -> int:
        """Channels between the 1 x 1 convolutions."""
        return self.in_chs * len(self.kernels)

    @property
    def se_chs(self) -> int:
        """Channels that squeeze-and-excitation narrows to."""
        return round(self.mid_chs * SE_RATIO)

    def _around(self, depthwise: list[Conv]) -> tuple[Conv, ...]:
        """The block around its depthwise convolutions."""
        mid = self.mid_chs
        convs = [Conv(self.in_chs, mid, at="input")] if self.expand else []
        convs += depthwise
        if self.se:
            convs.append(Conv(mid, self.se_chs, bias=True, norm=False, at="pixel"))
            convs.append(Conv(self.se_chs, mid, bias=True, norm=False, at="pixel"))
        return (*convs, Conv(mid, self.out_chs))

    def operations(self, size: int) -> list[Operation]:
        """Expansion, depthwise convolution, gate, projection, and the sum with the input where the shape stays."""
        mid, area = self.mid_chs, strided(size, self.stride) ** 2
        found = [Operation((0,), mid * size**2)] if self.expand else []
        found.append(Operation((len(found),), mid * area))
        wide = len(found)
        if self.se:
            found.append(Operation((wide,), mid))
            found.append(Operation((wide + 1,), self.se_chs))
            found.append(Operation((wide + 2,), mid))
            found.append(Operation((wide, wide + 3), 0))
        found.append(Operation((wide,), self.out_chs * area))
        if self.stride == 1 and self.in_chs == self.out_chs:
            found.append(Operation((len(found), 0), 0))
        return found


@dataclass(frozen=True)
class MBConvKind:
    """Layers between a stem with a fixed MBConv (3 x 3, no expansion) and a 1 x 1 head.

    Args:
        identity: Whether a layer that keeps its shape may vanish. Where not, slot 0 never skips.
    """

    identity: bool = False

    empty = Kernels()
    budget: ClassVar[str] = "flops"
    first_conv, classifier, untimed = "conv_stem", "classifier", ""
    legend = (
        "One column per searched layer, one cell per group of depthwise channels with the side of its kernel; pale "
        "cells are skipped. A triangle marks a layer that halves the resolution, a dot one that chose "
        "squeeze-and-excitation; below each stage are its channels."
    )

    def plus(self, so_far: Kernels, adds: Kernels) -> Kernels:
        """The kernels of both, in rising order."""
        return Kernels(tuple(sorted(so_far.kernels + adds.kernels)), so_far.se or adds.se)

    def has_lite(self, space: SearchSpace) -> bool:
        """Unless a choice brings squeeze-and-excitation."""
        return not any(choice.adds.se for choice in space.choices)

    def problems(self, space: SearchSpace) -> list[str]:
        """What timm cannot build."""
        adds = [choice.adds for choice in space.choices]
        checks = [
            (sum(not one.kernels for one in adds) > 1, "at most one choice is without kernels"),
            (any(k < 1 or k % 2 == 0 for one in adds for k in one.kernels), "kernels are odd"),
        ]
        return [text for failed, text in checks if failed]

    def layers(self, space: SearchSpace) -> tuple[Layer, ...]:
        """One layer per repeat of each row; only the first slot cannot always skip."""
        every = tuple(range(len(space.choices)))
        active = tuple(i for i in every if i != space.skip)

        def allowed(keeps_shape: bool) -> tuple[tuple[int, ...], ...]:
            first = every if self.identity and keeps_shape else active
            return (first, *(every,) * (space.slots - 1))

        return stacked(space.rows, space.first_chs, allowed)

    def block(self, space: SearchSpace, layer: Layer, variant: Kernels, form: FormName) -> MBConv | None:
        """The block of these kernels; None without any."""
        if not variant.kernels:
            return None
        style = space.form(form)
        expand = len(variant.kernels) > 1 or style.expand_single
        return MBConv(layer.in_chs, layer.out_chs, layer.stride, variant.kernels, variant.se or style.se, expand)

    def before(self, space: SearchSpace, form: FormName, in_chans: int) -> tuple[Block, ...]:
        """The stem convolution and the fixed block."""
        return Fixed(in_chans, space.stem_stride, (Conv(in_chans, space.stem_chs, 3),)), self.first_block(space, form)

    def first_block(self, space: SearchSpace, form: FormName) -> MBConv:
        """The fixed block between stem and searched layers."""
        return MBConv(space.stem_chs, space.first_chs, 1, (3,), space.form(form).se, expand=False)

    def after(self, space: SearchSpace, num_classes: int) -> Block:
        """The head convolution and the classifier."""
        return head(space.rows[-1].out_chs, space.head_chs, num_classes)

    def deployed(self, variant: Kernels) -> str:
        """Its merged depthwise kernel, its expansion, and "se" where a choice brings that.

        Kernels of a block merge into one convolution as large as the largest of them (``deploy``): 83 blocks of an
        SGNAS layer come down to 18.
        """
        return f"k{max(variant.kernels)}_e{len(variant.kernels)}" + ("_se" if variant.se else "")

    def cells(self, adds: Kernels) -> tuple[int, ...]:
        """Its kernels."""
        return adds.kernels

    def marked(self, variant: Kernels) -> bool:
        """Whether squeeze-and-excitation was chosen."""
        return variant.se

    def networks(self) -> Networks:
        """timm's EfficientNet, and the supernets of whole blocks and of expansion slots."""
        from sgnas_zoo.spaces.kinds.mbconv.networks import MBConvNetworks

        return MBConvNetworks()
