"""Inverted residual blocks chosen whole, or an identity that projects where it must (NAS-Bench-Macro, 2103.11922)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from sgnas_zoo.spaces.blocks import Block, Conv, Fixed, Operation, head, strided
from sgnas_zoo.spaces.kinds.mbconv import MBConv
from sgnas_zoo.spaces.rows import FormName, Layer, stacked

if TYPE_CHECKING:
    from sgnas_zoo.spaces.kinds import Networks
    from sgnas_zoo.spaces.space import SearchSpace


class Inverted(NamedTuple):
    """What a layer is: an inverted residual of an expansion and a depthwise kernel; an expansion of 0 is the identity.

    Args:
        expansion: Expansion ratio.
        kernel: Side of the depthwise kernel; 1 for the identity.
    """

    expansion: int = 0
    kernel: int = 0


IDENTITY = Inverted(0, 1)


@dataclass(frozen=True)
class Projection:
    """A 1 x 1 convolution with norm and without activation: the identity where the shape changes."""

    in_chs: int
    out_chs: int
    stride: int

    def convs(self) -> tuple[Conv, ...]:
        """The convolution."""
        return (Conv(self.in_chs, self.out_chs),)

    def deployed(self) -> tuple[Conv, ...]:
        """The same."""
        return self.convs()

    def operations(self, size: int) -> list[Operation]:
        """The convolution."""
        return [Operation((0,), self.out_chs * strided(size, self.stride) ** 2)]


@dataclass(frozen=True)
class InvertedKind:
    """Layers that follow a stem convolution directly and precede a 1 x 1 head; ``first_chs`` is the stem's width."""

    empty = Inverted()
    budget: ClassVar[str] = "flops"
    first_conv, classifier, untimed = "conv_stem", "classifier", ""
    legend = (
        "One column per searched layer: its expansion ratio below, the side of its depthwise kernel above; 0 and 1 is "
        "the identity. A triangle marks a layer that halves the resolution; below each stage are its channels."
    )

    def plus(self, so_far: Inverted, adds: Inverted) -> Inverted:
        """The one choice that a layer has."""
        return adds

    def has_lite(self, space: SearchSpace) -> bool:
        """Always: no block has squeeze-and-excitation, and all take the form's activation."""
        return True

    def problems(self, space: SearchSpace) -> list[str]:
        """What makes no block."""
        adds = [choice.adds for choice in space.choices]
        checks = [
            (space.slots > 1, "a layer decides once"),
            (any(one.kernel < 1 or one.kernel % 2 == 0 for one in adds), "kernels are odd"),
            (any(one.expansion < 0 for one in adds), "expansions are not negative"),
            (space.first_chs != space.stem_chs, "first_chs is the width of the stem"),
        ]
        return [text for failed, text in checks if failed]

    def layers(self, space: SearchSpace) -> tuple[Layer, ...]:
        """One layer per repeat of each row, with every choice in each."""
        allowed = (tuple(range(len(space.choices))),)
        return stacked(space.rows, space.stem_chs, lambda keeps_shape: allowed)

    def block(self, space: SearchSpace, layer: Layer, variant: Inverted, form: FormName) -> Block | None:
        """The block of a choice; the identity vanishes where the shape stays and is a projection elsewhere."""
        if variant.expansion:
            kernels = (variant.kernel,) * variant.expansion
            return MBConv(layer.in_chs, layer.out_chs, layer.stride, kernels, se=False, expand=True)
        return None if layer.keeps_shape else Projection(layer.in_chs, layer.out_chs, layer.stride)

    def before(self, space: SearchSpace, form: FormName, in_chans: int) -> tuple[Block, ...]:
        """The stem convolution."""
        return (Fixed(in_chans, space.stem_stride, (Conv(in_chans, space.stem_chs, 3),)),)

    def after(self, space: SearchSpace, num_classes: int) -> Block:
        """The head convolution and the classifier."""
        return head(space.rows[-1].out_chs, space.head_chs, num_classes)

    def deployed(self, variant: Inverted) -> str:
        """Its expansion and its kernel."""
        return f"e{variant.expansion}_k{variant.kernel}"

    def cells(self, adds: Inverted) -> tuple[int, ...]:
        """Expansion and kernel."""
        return tuple(adds)

    def marked(self, variant: Inverted) -> bool:
        """Never."""
        return False

    def networks(self) -> Networks:
        """timm's EfficientNet, and the supernet of whole blocks."""
        from sgnas_zoo.spaces.kinds.inverted.networks import InvertedNetworks

        return InvertedNetworks()
