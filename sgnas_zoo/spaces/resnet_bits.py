"""Bits for the convolutions of ResNet-18 and ResNet-34, the third use that SPOS names, and of a small one for CIFAR.

A choice is written as bits of the weights and bits of the activations: ``24`` has weights of 2 and activations of 4.
Which pairs the paper offers was not found; here they are all of 2, 3 and 4 bits, so that uniform networks are in the
spaces.
"""

from __future__ import annotations

from sgnas_zoo.spaces.kinds.bits import Bits, BitsKind
from sgnas_zoo.spaces.rows import Choice, Form, Row
from sgnas_zoo.spaces.space import SearchSpace

BITS = (2, 3, 4)
CHOICES = tuple(Choice(f"{weights}{acts}", Bits(weights, acts)) for weights in BITS for acts in BITS)
FORM = Form("relu", "relu")

RESNET18_BITS, RESNET34_BITS = (
    SearchSpace(
        name=name,
        family=name,
        kind=BitsKind(),
        rows=tuple(
            Row(chs, stride, depth)
            for chs, stride, depth in zip((64, 128, 256, 512), (1, 2, 2, 2), depths, strict=True)
        ),
        choices=CHOICES,
        final=FORM,
        stem_chs=64,
        first_chs=64,
        head_chs=512,
    )
    for name, depths in (("resnet18_bits", (2, 2, 2, 2)), ("resnet34_bits", (3, 4, 6, 3)))
)

RESNET_MICRO_BITS = SearchSpace(
    name="resnet_micro_bits",
    family="resnet_micro_bits",
    kind=BitsKind(stem_kernel=3),
    rows=(Row(32, 1, 1), Row(64, 2, 1), Row(128, 2, 1), Row(256, 2, 1)),
    choices=CHOICES,
    final=FORM,
    stem_chs=64,
    stem_stride=1,
    first_chs=64,
    head_chs=256,
    resolution=32,
    num_classes=10,
)
