"""Search spaces of ShuffleNetV2 blocks."""

from __future__ import annotations

from dataclasses import dataclass

from sgnas_zoo.spaces.blocks import Block, Conv, Fixed, Shuffle
from sgnas_zoo.spaces.space import FormName, SearchSpace
from sgnas_zoo.spaces.variants import Variant


@dataclass(frozen=True)
class ShuffleSpace(SearchSpace):
    """Architectures of ShuffleNetV2 blocks: what the main branch of each is made of, and how wide that is inside.

    The first slot takes the choices with kernels. Where a second one follows, it takes those without: factors of half
    the block's output channels, which is the width inside at a factor of 1. Layers follow a stem convolution directly
    (``first_chs`` is the stem's width), and the classifier has no bias (SPOS, 1904.00420; released networks).
    """

    def block(self, layer: int, variant: Variant, form: FormName) -> Shuffle:
        """The block that a layer becomes under ``variant``."""
        row = self.layers[layer]
        mid_chs = int(row.out_chs // 2 * variant.scale + 1e-6)
        return Shuffle(row.in_chs, row.out_chs, row.stride, variant.kernels, mid_chs)

    def before(self, form: FormName, in_chans: int = 3) -> tuple[Block, ...]:
        """What precedes the searched layers: the stem convolution."""
        return (Fixed(self.stem_stride, (Conv(in_chans, self.stem_chs, 3),)),)

    def after(self, num_classes: int) -> Block:
        """What follows the searched layers; ``num_classes=0`` leaves the classifier out, as in timm."""
        head = Conv(self.rows[-1].out_chs, self.head_chs)
        classifier = Conv(self.head_chs, num_classes, norm=False, at="pixel", linear=True)
        return Fixed(1, (head, classifier) if num_classes else (head,))

    def _allowed(self, keeps_shape: bool) -> tuple[tuple[int, ...], ...]:
        blocks = tuple(i for i, choice in enumerate(self.choices) if choice.kernels)
        scales = tuple(i for i, choice in enumerate(self.choices) if not choice.kernels)
        return (blocks, scales)[: self.slots]
