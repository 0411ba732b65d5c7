"""Bits: a ResNet is given, and every convolution decides how precisely it computes (SPOS, arXiv 1904.00420)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from sgnas_zoo.spaces.blocks import Block, Conv, Fixed, Operation, strided
from sgnas_zoo.spaces.rows import FormName, Layer

if TYPE_CHECKING:
    from sgnas_zoo.spaces.kinds import Networks
    from sgnas_zoo.spaces.space import SearchSpace


class Bits(NamedTuple):
    """Bits of the weights and of the activations of a convolution."""

    weights: int = 0
    activations: int = 0


@dataclass(frozen=True)
class Quantised:
    """A single convolution that is computed with few bits.

    Args:
        in_chs: Input channels.
        out_chs: Output channels.
        stride: Stride on the main feature map; 1 for a shortcut, which ends at a map that another has shrunk.
        kernel: Side of the square kernel.
        bits: Bits of weights and of activations.
        opens: Whether a basic block begins with it; the block's maps are then counted here.
        projects: Whether the shortcut of that block is a convolution.
    """

    in_chs: int
    out_chs: int
    stride: int
    kernel: int
    bits: tuple[int, ...]
    opens: bool = False
    projects: bool = False

    def convs(self) -> tuple[Conv, ...]:
        """The convolution."""
        return (Conv(self.in_chs, self.out_chs, self.kernel, bits=self.bits),)

    def deployed(self) -> tuple[Conv, ...]:
        """The same."""
        return self.convs()

    def operations(self, size: int) -> list[Operation]:
        """Those of the whole basic block where it begins: two convolutions, that of the shortcut, and the sum."""
        if not self.opens:
            return []
        out = self.out_chs * strided(size, self.stride) ** 2
        shortcut = [Operation((0,), out)] if self.projects else []
        return [Operation((0,), out), Operation((1,), out), *shortcut, Operation((2, 3 if self.projects else 0), 0)]


@dataclass(frozen=True)
class Convolution(Layer):
    """A searched layer that is one convolution.

    Args:
        kernel: Side of its kernel.
        opens: Whether a basic block begins with it.
        projects: Whether the shortcut of that block is a convolution.
    """

    kernel: int = 3
    opens: bool = False
    projects: bool = False


@dataclass(frozen=True)
class BitsKind:
    """The convolutions of a ResNet of basic blocks; stem and classifier stay in floating point.

    A row is a stage: channels, stride, basic blocks. Its layers are convolutions in the order of a block: the first,
    the second, and the 1 x 1 convolution of the shortcut where the block changes the shape. timm builds the network, so
    that the stem has 64 channels and max pooling behind it, and there are four stages, all but the first of which
    halve the map.

    Args:
        stem_kernel: Side of the stem's kernel.
    """

    stem_kernel: int = 7

    empty = Bits()
    budget: ClassVar[str] = "bitops"  # bits change neither MACs nor parameters
    first_conv, classifier = "conv1", "fc"
    untimed = (
        "are rounded in floating point, so their time here says nothing of few bits; bound --bitops, or import a "
        "table of a device that has them (profile --from-csv)."
    )
    legend = (
        "One column per quantised convolution, with the bits of its weights below and those of its input above. A "
        "triangle marks one that halves the resolution; below each stage are its channels. Weights are stored as they "
        "were trained and rounded to their bits in every pass; stem and classifier are not rounded."
    )

    def plus(self, so_far: Bits, adds: Bits) -> Bits:
        """The bits of the one choice that a convolution has."""
        return adds

    def has_lite(self, space: SearchSpace) -> bool:
        """Never: activations are quantised from 0 on as they are."""
        return False

    def problems(self, space: SearchSpace) -> list[str]:
        """What timm's ResNet cannot be."""
        checks = [
            (space.slots > 1, "a convolution decides once"),
            (any(min(choice.adds) < 1 for choice in space.choices), "bits are positive"),
            (
                space.stem_chs != 64 or [row.stride for row in space.rows] != [1, 2, 2, 2],
                "timm's ResNets have 64 stem channels and four stages of strides 1, 2, 2, 2",
            ),
        ]
        return [text for failed, text in checks if failed]

    def layers(self, space: SearchSpace) -> tuple[Layer, ...]:
        """The searched convolutions in running order."""
        found: list[Layer] = []
        allowed = (tuple(range(len(space.choices))),)
        in_chs = space.stem_chs
        for stage, row in enumerate(space.rows):
            for repeat in range(row.repeats):
                stride = row.stride if repeat == 0 else 1
                projects = stride > 1 or in_chs != row.out_chs
                found.append(Convolution(in_chs, row.out_chs, stride, stage, allowed, opens=True, projects=projects))
                found.append(Convolution(row.out_chs, row.out_chs, 1, stage, allowed))
                if projects:
                    found.append(Convolution(in_chs, row.out_chs, 1, stage, allowed, kernel=1))
                in_chs = row.out_chs
        return tuple(found)

    def block(self, space: SearchSpace, layer: Layer, variant: Bits, form: FormName) -> Quantised:
        """The convolution with these bits."""
        assert isinstance(layer, Convolution)
        return Quantised(
            layer.in_chs, layer.out_chs, layer.stride, layer.kernel, tuple(variant), layer.opens, layer.projects
        )

    def before(self, space: SearchSpace, form: FormName, in_chans: int) -> tuple[Block, ...]:
        """The stem convolution, and max pooling."""
        stem = Fixed(in_chans, space.stem_stride, (Conv(in_chans, space.stem_chs, self.stem_kernel),))
        return stem, Fixed(space.stem_chs, 2, ())

    def after(self, space: SearchSpace, num_classes: int) -> Block:
        """The classifier."""
        chs = space.rows[-1].out_chs
        classifier = Conv(chs, num_classes, bias=True, norm=False, at="pixel", linear=True)
        return Fixed(chs, 1, (classifier,) if num_classes else (), pools=True)

    def deployed(self, variant: Bits) -> str:
        """Bits of weights and activations."""
        return f"w{variant.weights}_a{variant.activations}"

    def cells(self, adds: Bits) -> tuple[int, ...]:
        """Both numbers of bits."""
        return tuple(adds)

    def marked(self, variant: Bits) -> bool:
        """Never."""
        return False

    def networks(self) -> Networks:
        """timm's ResNet with rounded convolutions, and its supernet."""
        from sgnas_zoo.spaces.kinds.bits.networks import BitsNetworks

        return BitsNetworks()
