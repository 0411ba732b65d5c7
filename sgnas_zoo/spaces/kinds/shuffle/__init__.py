"""ShuffleNetV2 blocks, with a choice of what is inside and how wide that is (SPOS, arXiv 1904.00420)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from sgnas_zoo.spaces.blocks import Block, Conv, Fixed, Operation, head, strided
from sgnas_zoo.spaces.rows import FormName, Layer, stacked

if TYPE_CHECKING:
    from sgnas_zoo.spaces.kinds import Networks
    from sgnas_zoo.spaces.space import SearchSpace


class Branch(NamedTuple):
    """What a choice adds to a layer, and what its choices add up to.

    Args:
        kernels: Depthwise kernels of the main branch in running order; none where another slot decides them.
        scale: Width inside, as a factor of half the output channels; 0 where another slot decides it.
    """

    kernels: tuple[int, ...] = ()
    scale: float = 0.0


@dataclass(frozen=True)
class Shuffle:
    """A ShuffleNetV2 block: one branch works on half of the channels, the other half passes.

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

    def deployed(self) -> tuple[Conv, ...]:
        """The same: kernels that follow each other do not merge."""
        return self.convs()

    def operations(self, size: int) -> list[Operation]:
        """The other branch, or the halves of the channels; then the main branch, and both behind one another."""
        chs, out = self.branch_chs, strided(size, self.stride)
        if self.stride > 1:
            found, source = [Operation((0,), chs * out**2), Operation((1,), chs * out**2)], 0
        else:
            found, source = [Operation((0,), chs * size**2), Operation((0,), chs * size**2)], 2
        kept, side = len(found) if self.stride > 1 else 1, size
        for conv in self.convs()[: 3 if len(self.kernels) == 1 else 2 * len(self.kernels)]:
            side = out if conv.groups > 1 else side  # the first depthwise convolution is the strided one
            found.append(Operation((source,), conv.out_chs * side**2))
            source = len(found)
        found.append(Operation((kept, source), self.out_chs * out**2))
        return found


@dataclass(frozen=True)
class ShuffleKind:
    """Layers that follow a stem convolution directly (``first_chs`` is its width); the classifier has no bias.

    The first slot takes the choices with kernels. Where a second one follows, it takes those without: widths.
    """

    empty = Branch()
    budget: ClassVar[str] = "flops"
    first_conv, classifier, untimed = "conv_stem", "classifier", ""
    legend = (
        "One column per searched layer, one cell per depthwise convolution with the side of its kernel. A triangle "
        "marks a layer that halves the resolution; below each stage are its channels."
    )

    def plus(self, so_far: Branch, adds: Branch) -> Branch:
        """The kernels of one and the width of the other."""
        return Branch(tuple(sorted(so_far.kernels + adds.kernels)), so_far.scale + adds.scale)

    def has_lite(self, space: SearchSpace) -> bool:
        """Never: EfficientNet-Lite is a form of inverted residuals."""
        return False

    def problems(self, space: SearchSpace) -> list[str]:
        """What makes no block."""
        adds = [choice.adds for choice in space.choices]
        kernels, widths = [one for one in adds if one.kernels], [one for one in adds if not one.kernels]
        checks = [
            (any(k < 1 or k % 2 == 0 for one in adds for k in one.kernels), "kernels are odd"),
            (space.slots > 2, "a layer has one or two slots"),
            (
                not kernels or (space.slots == 2) != bool(widths),
                "choices of a first slot have kernels, of a second none",
            ),
            (any((one.scale > 0) == (space.slots == 2) for one in kernels), "a width comes from one slot"),
            (any(one.scale <= 0 for one in widths), "widths are positive"),
        ]
        return [text for failed, text in checks if failed]

    def layers(self, space: SearchSpace) -> tuple[Layer, ...]:
        """One layer per repeat of each row."""
        blocks = tuple(i for i, choice in enumerate(space.choices) if choice.adds.kernels)
        scales = tuple(i for i, choice in enumerate(space.choices) if not choice.adds.kernels)
        return stacked(space.rows, space.first_chs, lambda keeps_shape: (blocks, scales)[: space.slots])

    def block(self, space: SearchSpace, layer: Layer, variant: Branch, form: FormName) -> Shuffle:
        """The block of these kernels and this width."""
        mid_chs = int(layer.out_chs // 2 * variant.scale + 1e-6)
        return Shuffle(layer.in_chs, layer.out_chs, layer.stride, variant.kernels, mid_chs)

    def before(self, space: SearchSpace, form: FormName, in_chans: int) -> tuple[Block, ...]:
        """The stem convolution."""
        return (Fixed(in_chans, space.stem_stride, (Conv(in_chans, space.stem_chs, 3),)),)

    def after(self, space: SearchSpace, num_classes: int) -> Block:
        """The head convolution and the classifier."""
        return head(space.rows[-1].out_chs, space.head_chs, num_classes, bias=False)

    def deployed(self, variant: Branch) -> str:
        """Its kernels, which follow each other and do not merge, and the factor of its width."""
        return f"k{'.'.join(map(str, variant.kernels))}_w{variant.scale:g}"

    def cells(self, adds: Branch) -> tuple[int, ...]:
        """Its kernels."""
        return adds.kernels

    def marked(self, variant: Branch) -> bool:
        """Never."""
        return False

    def networks(self) -> Networks:
        """Our ShuffleNet and its supernet."""
        from sgnas_zoo.spaces.kinds.shuffle.networks import ShuffleNetworks

        return ShuffleNetworks()
